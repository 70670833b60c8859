//! Which protocols a process offers.

use staccato_protocols::{
    Registry,
    file::{FileProtocol, Root, Roots},
};

/// The protocols that these settings allow: files under `roots`, where there are any, and those that need no
/// permission.
pub fn registry(roots: &[Root], _allow_http: bool) -> Registry {
    let registry = Registry::new();
    if roots.is_empty() { registry } else { registry.with(FileProtocol::new(Roots::new(roots.to_vec()))) }
}
