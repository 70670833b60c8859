//! Servers for tests, in this process and on loopback. Behind the feature `testing`.

pub mod http_server;
pub mod keystone;
