//! Where plug-ins are looked for, and what lies beside them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    thread,
};

use serde::Deserialize;

use super::{Patience, Plan, PluginProtocol, message::is_scheme};
use crate::outside::{Launch, SystemUser, trust::trusted};

/// What names of executables begin with.
pub const PREFIX: &str = "staccato-protocol-";

/// An executable that was found.
pub struct Found {
    /// The scheme that its name stands for.
    pub scheme: String,
    /// Where it lies.
    pub program: PathBuf,
    /// The module; or why there is none, said behind its name.
    pub module: Result<PluginProtocol, String>,
}

/// The file `staccato-protocol-NAME.toml` beside an executable, if there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Beside {
    /// Told to the plug-in at its start.
    pub settings: BTreeMap<String, String>,
    /// Its environment, beside `PATH` and `LANG`.
    pub environment: BTreeMap<String, String>,
}

/// Looks through folders, and starts every plug-in that is found for its hello, all at once. Of two for one scheme the
/// first counts. One that cannot be used is told with the reason.
pub fn all(folders: &[PathBuf], user: Option<SystemUser>, patience: Patience) -> Vec<Found> {
    let mut found: BTreeMap<String, (PathBuf, Result<PathBuf, String>)> = BTreeMap::new();
    for folder in folders {
        let names = match fs::read_dir(folder) {
            Ok(entries) => entries.flatten().map(|entry| entry.file_name()),
            Err(error) => {
                tracing::error!("the plug-in path {} cannot be read: {error}", folder.display());
                continue;
            }
        };
        for name in names {
            let Some(scheme) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
            // What lies beside an executable has a dot in its name, which no scheme of a plug-in has.
            if is_scheme(scheme) {
                let program = folder.join(&name);
                let real = trusted(&program);
                found.entry(scheme.to_owned()).or_insert((program, real));
            }
        }
    }
    let meet = |(scheme, (program, real)): (String, (PathBuf, Result<PathBuf, String>))| {
        let module = real.and_then(|real| meet(&scheme, &program, real, user, patience));
        Found { scheme, program, module }
    };
    thread::scope(|scope| {
        let under_way: Vec<_> = found.into_iter().map(|one| scope.spawn(|| meet(one))).collect();
        under_way.into_iter().map(|one| one.join().expect("no code panics there")).collect()
    })
}

fn meet(
    scheme: &str,
    program: &Path,
    real: PathBuf,
    user: Option<SystemUser>,
    patience: Patience,
) -> Result<PluginProtocol, String> {
    let Beside { settings, environment } = beside(program, true)?;
    let launch = Launch { environment, user, ..Launch::of(real) };
    let module = PluginProtocol::meet(Plan { launch, settings, patience })?;
    if module.scheme() != scheme {
        return Err(format!("says that it is {:?}, and is named otherwise", module.scheme()));
    }
    Ok(module)
}

/// What the file beside an executable says. It may hold secrets: it is read only where nobody else could have written it,
/// unless that does not matter.
pub fn beside(program: &Path, strict: bool) -> Result<Beside, String> {
    let mut path = program.as_os_str().to_owned();
    path.push(".toml");
    let path = PathBuf::from(path);
    if !path.exists() {
        return Ok(Beside::default());
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let wrong = |why: String| format!("has a file {name} beside it, which {why}");
    if strict {
        trusted(&path).map_err(wrong)?;
    }
    let text = fs::read_to_string(&path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    // The parser's own words would repeat the line, and a secret in it.
    toml::from_str(&text).map_err(|error| wrong(format!("is not understood: {}", error.message())))
}
