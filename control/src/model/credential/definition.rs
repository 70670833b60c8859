//! What a credential is for and what it holds, as it is written: in the body of a request, or in a file. No complaint
//! about one repeats a value.

use std::fmt;

use serde_json::{Map, Value};
use staccato_protocols::{Options, Registry};

use super::{CREDENTIAL, UrlPrefix};
use crate::model::{
    Problem, ProblemCode, did_you_mean,
    request::{OPTIONS_BYTES_MAX, OPTIONS_MAX},
};

/// Most schemes of a credential.
pub const SCHEMES_MAX: usize = 16;
/// Most URLs of a credential.
pub const URLS_MAX: usize = 16;

/// What a credential is for, and what it holds.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Definition {
    /// For which schemes it is; at least one.
    pub schemes: Vec<String>,
    /// Below which URLs it is; below any of a scheme that none of them has.
    pub urls: Vec<UrlPrefix>,
    /// The options that a request for it stands for.
    pub options: Options,
}

impl Definition {
    /// The fields that it is made of.
    pub const FIELDS: [&str; 3] = ["schemes", "urls", "options"];

    /// Reads the fields of an object; others than [`Definition::FIELDS`] are an error.
    pub fn from_json(fields: &Map<String, Value>) -> Result<Self, Problem> {
        if let Some(unknown) = fields.keys().find(|name| !Self::FIELDS.contains(&name.as_str())) {
            let hint = did_you_mean(unknown, Self::FIELDS);
            let detail = format!("unknown field {unknown}{hint} (known are {})", Self::FIELDS.join(", "));
            return Err(Problem::new(ProblemCode::UnknownField, detail).at(unknown));
        }
        let missing = |name: &str| Problem::new(ProblemCode::MissingField, format!("{name} is required")).at(name);
        let schemes = texts(fields, "schemes", SCHEMES_MAX)?.ok_or_else(|| missing("schemes"))?;
        if schemes.is_empty() {
            return Err(Problem::invalid("schemes", "a credential is for at least one scheme"));
        }
        let url = |text: String| text.parse::<UrlPrefix>().map_err(|why| Problem::invalid("urls", why));
        let urls = texts(fields, "urls", URLS_MAX)?.unwrap_or_default();
        let urls = urls.into_iter().map(url).collect::<Result<Vec<_>, _>>()?;
        if let Some(url) = urls.iter().find(|url| !schemes.iter().any(|scheme| scheme == url.scheme())) {
            return Err(Problem::invalid("urls", format!("{url} is of none of the credential's schemes")));
        }
        let options = options(fields)?.ok_or_else(|| missing("options"))?;
        Ok(Self { schemes, urls, options })
    }

    /// Checks it against the protocols on offer: every scheme must know every option, and where secrets are sent to the
    /// server that a URL names, it must say to which.
    pub fn check(&self, registry: &Registry) -> Result<(), Problem> {
        if self.schemes.is_empty() {
            return Err(Problem::invalid("schemes", "none of its schemes is offered here"));
        }
        let bytes: usize = self.options.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > OPTIONS_BYTES_MAX {
            let detail = format!("the options have {bytes} bytes; at most {OPTIONS_BYTES_MAX} are accepted");
            return Err(Problem::invalid("options", detail));
        }
        for scheme in &self.schemes {
            let Some(module) = registry.of_scheme(scheme) else {
                let why = registry.knows(scheme, &Options::new()).expect_err("nobody offers it").message;
                return Err(Problem::invalid("schemes", why));
            };
            let capabilities = module.capabilities();
            if !capabilities.options.iter().any(|option| option.secret) {
                return Err(Problem::invalid(
                    "schemes",
                    format!("{scheme} has no secret options: it takes no credential"),
                ));
            }
            registry.knows(scheme, &self.options).map_err(|error| Problem::invalid("options", error.message))?;
            let has_secrets = self.options.keys().any(|option| capabilities.is_secret(option));
            if has_secrets && module.secrecy().sent_to_url && !self.urls.iter().any(|url| url.scheme() == scheme) {
                let detail = format!(
                    "secrets of {scheme} are sent to the server that a transfer's URL names; say below which URLs, for \
                     instance {scheme}://HOST/"
                );
                return Err(Problem::invalid("urls", detail));
            }
        }
        Ok(())
    }
}

/// Without the values of its options.
impl fmt::Debug for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.options.keys().collect();
        f.debug_struct("Definition")
            .field("schemes", &self.schemes)
            .field("urls", &self.urls)
            .field("options", &names)
            .finish()
    }
}

fn texts(fields: &Map<String, Value>, name: &str, max: usize) -> Result<Option<Vec<String>>, Problem> {
    let items = match fields.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(items)) if items.len() <= max => items,
        Some(_) => return Err(Problem::invalid(name, format!("{name} is a list of at most {max} strings"))),
    };
    let text = |item: &Value| item.as_str().map(str::to_owned);
    let texts = items.iter().map(text).collect::<Option<_>>();
    texts.map(Some).ok_or_else(|| Problem::invalid(name, format!("{name} is a list of strings")))
}

fn options(fields: &Map<String, Value>) -> Result<Option<Options>, Problem> {
    let map = match fields.get("options") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(map)) if !map.is_empty() && map.len() <= OPTIONS_MAX => map,
        Some(_) => {
            return Err(Problem::invalid("options", format!("options is an object of 1 to {OPTIONS_MAX} strings")));
        }
    };
    let mut options = Options::new();
    for (name, value) in map {
        let invalid = |why: &str| Problem::invalid(format!("options.{name}"), why);
        let text = value.as_str().ok_or_else(|| invalid("the value must be a string"))?;
        // As in a request: certificates in PEM have lines.
        let refused = |char: char| char.is_control() && !matches!(char, '\n' | '\r');
        if name.contains(char::is_control) || text.contains(refused) {
            return Err(invalid("control characters are not accepted"));
        }
        if name == CREDENTIAL {
            return Err(invalid("a credential does not name another one"));
        }
        options.insert(name.clone(), text.to_owned());
    }
    Ok(Some(options))
}
