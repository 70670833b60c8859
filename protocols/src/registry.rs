//! Which schemes a process offers.

use std::{collections::BTreeMap, sync::Arc};

use crate::{Code, Error, ObjectUrl, Options, Protocol, contract::SharedProtocol};

/// Scheme → module. A scheme that is not in it does not exist for this process.
#[derive(Clone, Default)]
pub struct Registry {
    modules: BTreeMap<&'static str, SharedProtocol>,
}

impl Registry {
    /// A registry that offers nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same registry with one more module.
    pub fn with(mut self, module: impl Protocol) -> Self {
        let module: SharedProtocol = Arc::new(module);
        for scheme in module.schemes() {
            assert!(self.modules.insert(scheme, module.clone()).is_none(), "two modules claim the scheme {scheme}");
        }
        self
    }

    /// The schemes on offer, in alphabetical order, with their modules.
    pub fn modules(&self) -> impl Iterator<Item = (&'static str, &SharedProtocol)> {
        self.modules.iter().map(|(scheme, module)| (*scheme, module))
    }

    /// The module for a URL.
    pub fn module(&self, url: &ObjectUrl) -> Result<&SharedProtocol, Error> {
        self.modules.get(url.scheme()).ok_or_else(|| {
            let known: Vec<_> = self.modules.keys().copied().collect();
            let hint = if url.scheme() == "file" { "; start the service with --root to allow files" } else { "" };
            Error::fatal(
                Code::UnsupportedScheme,
                format!("the scheme {:?} is not offered here (offered: {}){hint}", url.scheme(), known.join(", ")),
            )
        })
    }

    /// The module that can read `url` with `options`, after its own check.
    pub fn source(&self, url: &ObjectUrl, options: &Options) -> Result<&SharedProtocol, Error> {
        let module = self.module(url)?;
        let capabilities = module.capabilities();
        if !capabilities.source {
            return Err(Error::fatal(Code::UnsupportedScheme, format!("{:?} cannot be a source", url.scheme())));
        }
        check_options(url, options, capabilities.options)?;
        module.check_source(url, options)?;
        Ok(module)
    }

    /// The module that can write `url` with `options`, after its own check.
    pub fn destination(&self, url: &ObjectUrl, options: &Options) -> Result<&SharedProtocol, Error> {
        let module = self.module(url)?;
        let capabilities = module.capabilities();
        if !capabilities.destination {
            return Err(Error::fatal(Code::UnsupportedScheme, format!("{:?} cannot be a destination", url.scheme())));
        }
        check_options(url, options, capabilities.options)?;
        module.check_destination(url, options)?;
        Ok(module)
    }

    /// Whether the value of `option` for this URL is a secret. Unknown options count as secret.
    pub fn is_secret(&self, url: &ObjectUrl, option: &str) -> bool {
        self.module(url)
            .ok()
            .and_then(|module| find(module.capabilities().options, option))
            .is_none_or(|spec| spec.secret)
    }
}

fn find<'a>(known: &'a [crate::contract::OptionSpec], name: &str) -> Option<&'a crate::contract::OptionSpec> {
    known.iter().find(|spec| match spec.name.strip_suffix(".*") {
        Some(prefix) => name.strip_prefix(prefix).is_some_and(|rest| rest.len() > 1 && rest.starts_with('.')),
        None => spec.name == name,
    })
}

fn check_options(url: &ObjectUrl, options: &Options, known: &[crate::contract::OptionSpec]) -> Result<(), Error> {
    match options.keys().find(|name| find(known, name).is_none()) {
        None => Ok(()),
        Some(unknown) => {
            let names: Vec<_> = known.iter().map(|spec| spec.name).collect();
            let list = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            Err(Error::fatal(
                Code::InvalidOption,
                format!("{unknown:?} is not an option of {:?}; known are: {list}", url.scheme()),
            ))
        }
    }
}
