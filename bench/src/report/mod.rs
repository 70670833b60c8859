//! Results for people: tables for terminals ([`table`]), pages for browsers ([`html`]), and what changed between two
//! runs ([`comparison`]). All of them are made of results sorted by case ([`gathered`]) and of the same [`figures`].

pub mod comparison;
pub mod figures;
pub mod gathered;
pub mod html;
mod plots;
#[cfg(test)]
mod specimen;
pub mod table;
