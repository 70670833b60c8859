//! Which protocols a process offers.

use staccato_protocols::{
    Registry,
    file::{FileProtocol, Root, Roots},
    http::HttpProtocol,
    synthetic::{NullProtocol, ZeroProtocol},
};

/// The protocols that these settings allow: files under `roots`, where there are any; `http` beside `https` where that
/// is allowed; and those that need no permission.
pub fn registry(roots: &[Root], allow_http: bool) -> Registry {
    let http = if allow_http { HttpProtocol::new() } else { HttpProtocol::https_only() };
    let registry = Registry::new().with(ZeroProtocol).with(NullProtocol).with(http);
    if roots.is_empty() { registry } else { registry.with(FileProtocol::new(Roots::new(roots.to_vec()))) }
}
