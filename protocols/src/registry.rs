//! Which schemes a process offers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    Code, Error, ObjectUrl, Options, Protocol,
    contract::{CREDENTIAL, OptionSpec, Secrecy, SharedProtocol},
    plugin::find::Found,
};

/// Scheme → module. A scheme that is not in it does not exist for this process.
#[derive(Clone, Default)]
pub struct Registry {
    modules: BTreeMap<&'static str, SharedProtocol>,
    /// Schemes that executables have added.
    from_outside: BTreeSet<&'static str>,
    /// Schemes that executables should have added, and why they have not, said behind their names.
    broken: BTreeMap<String, String>,
}

impl Registry {
    /// A registry that offers nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same registry with one more module.
    pub fn with(mut self, module: impl Protocol) -> Self {
        let module: SharedProtocol = Arc::new(module);
        assert!(find(module.capabilities().options, CREDENTIAL).is_none(), "{CREDENTIAL:?} is the control plane's");
        for scheme in module.schemes() {
            assert!(self.modules.insert(scheme, module.clone()).is_none(), "two modules claim the scheme {scheme}");
        }
        self
    }

    /// The same registry with the plug-ins that were found. One that cannot be used is said loudly, and left out.
    pub fn with_found(mut self, found: Vec<Found>) -> Self {
        for Found { scheme, program, module } in found {
            let module = match module {
                Ok(_) if self.modules.contains_key(&*scheme) => Err("adds a scheme that is taken".to_owned()),
                module => module,
            };
            match module {
                Ok(module) => {
                    tracing::info!(program = %program.display(), scheme, "a plug-in adds a scheme");
                    let scheme = module.scheme();
                    self.modules.insert(scheme, Arc::new(module));
                    self.from_outside.insert(scheme);
                }
                Err(why) => {
                    tracing::error!("the plug-in {} {why}; it is left out", program.display());
                    self.broken.insert(scheme, why);
                }
            }
        }
        self
    }

    /// Whether an executable has added this scheme.
    pub fn is_from_outside(&self, scheme: &str) -> bool {
        self.from_outside.contains(scheme)
    }

    /// Schemes of plug-ins that cannot be used, and why, said behind the plug-in's name.
    pub fn broken(&self) -> impl Iterator<Item = (&str, &str)> {
        self.broken.iter().map(|(scheme, why)| (&**scheme, &**why))
    }

    /// The schemes on offer, in alphabetical order, with their modules.
    pub fn modules(&self) -> impl Iterator<Item = (&'static str, &SharedProtocol)> {
        self.modules.iter().map(|(scheme, module)| (*scheme, module))
    }

    /// The module for a URL.
    pub fn module(&self, url: &ObjectUrl) -> Result<&SharedProtocol, Error> {
        self.of_scheme(url.scheme()).ok_or_else(|| self.not_offered(url.scheme()))
    }

    fn not_offered(&self, scheme: &str) -> Error {
        if let Some(why) = self.broken.get(scheme) {
            let message = format!("the plug-in for {scheme:?} cannot be used: it {why}");
            return Error::fatal(Code::UnsupportedScheme, message);
        }
        let known: Vec<_> = self.modules.keys().copied().collect();
        let hint = if scheme == "file" { "; start the service with --root to allow files" } else { "" };
        let offered = known.join(", ");
        let message = format!("the scheme {scheme:?} is not offered here (offered: {offered}){hint}");
        Error::fatal(Code::UnsupportedScheme, message)
    }

    /// The module that can read `url` with `options`, after its own check.
    pub fn source(&self, url: &ObjectUrl, options: &Options) -> Result<&SharedProtocol, Error> {
        let module = self.module(url)?;
        let capabilities = module.capabilities();
        if !capabilities.source {
            return Err(Error::fatal(Code::UnsupportedScheme, format!("{:?} cannot be a source", url.scheme())));
        }
        check_options(url.scheme(), options, capabilities.options)?;
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
        check_options(url.scheme(), options, capabilities.options)?;
        module.check_destination(url, options)?;
        Ok(module)
    }

    /// The module for a scheme.
    pub fn of_scheme(&self, scheme: &str) -> Option<&SharedProtocol> {
        self.modules.get(scheme)
    }

    /// Checks that the module of `scheme` knows every one of these options, whatever their values.
    pub fn knows(&self, scheme: &str, options: &Options) -> Result<(), Error> {
        match self.of_scheme(scheme) {
            Some(module) => check_options(scheme, options, module.capabilities().options),
            None => Err(self.not_offered(scheme)),
        }
    }

    /// Whether the value of `option` for this URL is a secret. Unknown options count as secret.
    pub fn is_secret(&self, url: &ObjectUrl, option: &str) -> bool {
        self.of_scheme(url.scheme()).is_none_or(|module| module.capabilities().is_secret(option))
    }
}

impl Secrecy {
    /// Whether a request may set `option` although secrets come from a credential.
    pub fn is_harmless(&self, option: &str) -> bool {
        self.harmless.iter().any(|name| names(name, option))
    }
}

pub(crate) fn find<'a>(known: &'a [OptionSpec], name: &str) -> Option<&'a OptionSpec> {
    known.iter().find(|spec| names(spec.name, name))
}

/// Whether the name of an [`OptionSpec`], which may end in `.*`, stands for `option`.
fn names(name: &str, option: &str) -> bool {
    match name.strip_suffix(".*") {
        Some(prefix) => option.strip_prefix(prefix).is_some_and(|rest| rest.len() > 1 && rest.starts_with('.')),
        None => name == option,
    }
}

fn check_options(scheme: &str, options: &Options, known: &[OptionSpec]) -> Result<(), Error> {
    match options.keys().find(|name| find(known, name).is_none()) {
        None => Ok(()),
        Some(unknown) => {
            let names: Vec<_> = known.iter().map(|spec| spec.name).collect();
            let list = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            Err(Error::fatal(
                Code::InvalidOption,
                format!("{unknown:?} is not an option of {scheme:?}; known are: {list}"),
            ))
        }
    }
}
