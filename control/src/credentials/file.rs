//! Credentials in files: `NAME.toml` or `NAME.json` in the operator's folder, for nobody else to read.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use serde_json::{Map, Value};

use crate::model::{
    credential::{Credential, CredentialName, Definition, Kept, Unusable},
    token::check_owner,
};

/// Longest file, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// What names end with, and how that is read; the first that is there counts.
const FORMS: [(&str, Reader); 2] = [("toml", read_toml), ("json", read_json)];

/// Reads a text as an object, or says on which line it is none. What it says repeats nothing of the text.
type Reader = fn(&str) -> Result<Map<String, Value>, String>;

/// Refuses a folder that is none, or that others than this user can look into.
pub fn check_folder(folder: &Path) -> io::Result<()> {
    let found = fs::metadata(folder)?;
    let refused = |why: &str| io::Error::new(io::ErrorKind::PermissionDenied, why);
    if !found.is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotADirectory, "it is not a folder"));
    }
    if found.mode() & 0o077 != 0 {
        return Err(refused("others may look into it; run chmod 700 on it"));
    }
    Ok(())
}

/// The credential of this name, if there is a file for it.
pub fn read(folder: &Path, name: &CredentialName) -> Result<Option<Credential>, Unusable> {
    check_folder(folder)
        .map_err(|error| Unusable::for_now(format!("the folder of credentials cannot be used: {error}")))?;
    for (ending, reader) in FORMS {
        let path = folder.join(format!("{name}.{ending}"));
        // Without O_NONBLOCK, opening a pipe would wait for a writer.
        let opened =
            OpenOptions::new().read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed()).open(path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(broken(name, ending, &error.to_string())),
        };
        let read = text_of(&file).and_then(|text| reader(&text)).and_then(|fields| credential(name, fields));
        return read.map(Some).map_err(|why| broken(name, ending, &why));
    }
    Ok(None)
}

/// All that can be used; of the others, the log says why not.
pub fn read_all(folder: &Path) -> Vec<Credential> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            tracing::warn!(%error, "the folder of credentials cannot be read");
            return Vec::new();
        }
    };
    let name = |entry: io::Result<fs::DirEntry>| -> Option<CredentialName> {
        let path = entry.ok()?.path();
        let ending = path.extension()?.to_str()?;
        FORMS.iter().any(|(form, _)| *form == ending).then(|| path.file_stem()?.to_str()?.parse().ok()).flatten()
    };
    let mut names: Vec<CredentialName> = entries.filter_map(name).collect();
    names.sort();
    names.dedup();
    let usable = |name: &CredentialName| match read(folder, name) {
        Ok(found) => found,
        Err(unusable) => {
            tracing::warn!(credential = %name, error = %unusable.error, "a credential cannot be used");
            None
        }
    };
    names.iter().filter_map(usable).collect()
}

fn broken(name: &CredentialName, ending: &str, why: &str) -> Unusable {
    Unusable::for_now(format!("the credential {name} cannot be used: {name}.{ending}: {why}"))
}

fn text_of(file: &File) -> Result<String, String> {
    let found = file.metadata().map_err(|error| error.to_string())?;
    if !found.is_file() {
        return Err("it is not a file".into());
    }
    if found.mode() & 0o077 != 0 {
        return Err("others may read it; run chmod 600 on it".into());
    }
    if found.len() > FILE_BYTES_MAX {
        return Err(format!("it has more than {FILE_BYTES_MAX} bytes"));
    }
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut text).map_err(|error| error.to_string())?;
    String::from_utf8(text).map_err(|_| "it is not UTF-8".into())
}

fn read_toml(text: &str) -> Result<Map<String, Value>, String> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        format!("line {} is not TOML", before.matches('\n').count() + 1)
    })?;
    // Dates and numbers beyond JSON's are none of the fields' types.
    serde_json::to_value(table).ok().and_then(object).ok_or_else(|| "it holds what is no string".into())
}

fn read_json(text: &str) -> Result<Map<String, Value>, String> {
    let value = serde_json::from_str(text).map_err(|error| format!("line {} is not JSON", error.line()))?;
    object(value).ok_or_else(|| "it is no JSON object".into())
}

fn object(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(fields) => Some(fields),
        _ => None,
    }
}

fn credential(name: &CredentialName, mut fields: Map<String, Value>) -> Result<Credential, String> {
    let owner = match fields.remove("owner") {
        None => None,
        Some(Value::String(owner)) => Some(owner),
        Some(_) => return Err("owner must be a string".into()),
    };
    owner.as_deref().map_or(Ok(()), check_owner)?;
    let definition = Definition::from_json(&fields).map_err(|problem| problem.detail)?;
    Ok(Credential { name: name.clone(), owner, kept: Kept::File, definition, changed_at: None })
}
