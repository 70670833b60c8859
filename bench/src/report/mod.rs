//! Results for people: tables for terminals ([`table`]), pages for browsers ([`html`]). Both are made of results sorted by case ([`gathered`]) and of the same [`figures`].

pub mod figures;
pub mod gathered;
pub mod html;
mod plots;
#[cfg(test)]
mod specimen;
pub mod table;
