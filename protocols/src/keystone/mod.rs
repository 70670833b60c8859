//! Who asks a service of OpenStack: tokens of Keystone, its identity service (Identity API v3).
//!
//! A module that speaks to such a service takes the options (`account`) that say who asks, and gets a `login`: it signs
//! requests with a token, gets another one before the token runs out or when it was refused, and knows from the token's
//! `catalogue` where services are. Lanes that read with the same account share one login, so that a token is asked for
//! once for all of them. `document` is what is sent and answered (pure), `server` asks.
//!
//! A token opens everything that its user may do, so it goes to few places: to Keystone; to endpoints that Keystone's
//! catalogue names for the service meant, or that the option `endpoint` names; and never behind a redirect to another
//! origin. Where a token is given without `auth_url` there is no catalogue to ask: it goes where the URL of the very same
//! request says.
//!
//! [`callers`] is the other way round: Keystone vouches for whoever asks us.

pub(crate) mod account;
pub mod callers;
pub(crate) mod catalogue;
pub(crate) mod document;
pub(crate) mod login;
pub(crate) mod secret;
pub(crate) mod server;

#[cfg(test)]
mod tests;

pub(crate) use account::{Account, AccountOptions};
pub(crate) use login::{Hold, Login, Logins};
