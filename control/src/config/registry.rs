//! Which protocols a process offers.

use staccato_protocols::{
    Registry,
    file::{FileProtocol, Roots},
    glance::GlanceProtocol,
    http::HttpProtocol,
    s3::S3Protocol,
    swift::SwiftProtocol,
    synthetic::{NullProtocol, ZeroProtocol},
    web::{Web, networks::Networks},
};

use super::OwnedRoot;

/// The protocols that these settings allow: files under `roots`, where there are any; `http` beside `https` (and the like)
/// where that is allowed, from the host's own `networks` where these are allowed; and those that need no permission.
pub fn registry(roots: &[OwnedRoot], allow_http: bool, networks: Networks) -> Registry {
    let web = Web::new().within(networks);
    let web = if allow_http { web } else { web.secure() };
    let registry = Registry::new()
        .with(ZeroProtocol)
        .with(NullProtocol)
        .with(HttpProtocol::new(web.clone()))
        .with(GlanceProtocol::new(web.clone()))
        .with(S3Protocol::new(web.clone()))
        .with(SwiftProtocol::new(web));
    if roots.is_empty() {
        return registry;
    }
    let roots = roots.iter().map(|root| root.root.clone()).collect();
    registry.with(FileProtocol::new(Roots::new(roots)))
}
