//! Which protocols a process offers.

use staccato_protocols::{
    Registry,
    file::{FileProtocol, Root, Roots},
    http::HttpProtocol,
    synthetic::{NullProtocol, ZeroProtocol},
};

/// The protocols that these settings allow: files under `roots`, where there are any; HTTP unless it is switched off;
/// and those that need no permission.
pub fn registry(roots: &[Root], allow_http: bool) -> Registry {
    let mut registry = Registry::new().with(ZeroProtocol).with(NullProtocol);
    if !roots.is_empty() {
        registry = registry.with(FileProtocol::new(Roots::new(roots.to_vec())));
    }
    if allow_http {
        registry = registry.with(HttpProtocol::new());
    }
    registry
}
