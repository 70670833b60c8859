//! The router as clients see it, driven in-process on a ledger in memory.
//!
//! | file | what it holds |
//! | --- | --- |
//! | [`driver`] | the service under test and its answers |
//! | [`submit`] | `POST /v1/transfers`: what is accepted, what is refused and how |
//! | [`several`] | the same with an array |
//! | [`listing`] | `GET /v1/transfers`, one transfer, owners |
//! | [`distributions`] | one object for many hosts: what is accepted, what is shown, what is asked of all |
//! | [`distribution_pace`] | how fast the interface is beside a distribution of 1,000 members |
//! | [`actions`] | every action in every state, and delete |
//! | [`keystone`] | callers whom Keystone vouches for |
//! | [`tokens`] | who may ask from elsewhere, and what; whose roots are whose |
//! | [`credentials`] | named credentials: whose they are, and what a request may do with one |
//! | [`doors`] | hosts, proxies, media types, bounds, unknown paths and methods |
//! | [`service`] | versions, protocols, health, readiness, metrics |
//! | [`secrets`] | what must be shown nowhere |
//! | [`openapi`] | the OpenAPI document against the routes and their answers |
//! | [`errors_page`] | `ERRORS.md` against the codes |

mod actions;
mod credentials;
mod distribution_pace;
mod distributions;
mod doors;
mod driver;
mod errors_page;
mod keystone;
mod listing;
mod openapi;
mod secrets;
mod service;
mod several;
mod submit;
mod tokens;
