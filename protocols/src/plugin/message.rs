//! What is said between this process and a plug-in: lines of JSON, `PLUGINS.md`. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{Access, Checksum, Code, Disposition, Error, Options, contract::Takes};

/// The version of the protocol that is spoken here.
pub const VERSION: u32 = 1;
/// Longest line, in bytes, its end not counted.
pub const LINE_BYTES_MAX: usize = 64 << 10;
/// Most options that a plug-in may have.
pub const OPTIONS_MAX: usize = 100;
/// Longest validator, in bytes.
pub const VALIDATOR_BYTES_MAX: usize = 1024;
/// Longest sentence of an error that is passed on, in bytes.
const MESSAGE_BYTES_MAX: usize = 1000;
/// Most entries of a list in one message: ranges, or CRCs of blocks.
pub const ENTRIES_MAX: usize = 1000;

/// The first line of a plug-in: what it is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// The version that it speaks.
    pub protocol: u32,
    /// The scheme that it adds.
    pub name: String,
    /// How its objects can be read, if they can.
    #[serde(default)]
    pub source: Option<Reads>,
    /// How its destinations take bytes, if they do.
    #[serde(default)]
    pub destination: Option<Takes>,
    /// Whether a later attempt finds what an earlier one wrote, and the CRCs it noted.
    #[serde(default)]
    pub resumes: bool,
    /// Whether what it writes has an identity, by which a commit is recognised afterwards.
    #[serde(default)]
    pub identifies: bool,
    /// Options of a transfer that it knows.
    #[serde(default)]
    pub options: Vec<KnownOption>,
    /// Whether it answers `fixture`, so that it can be checked.
    #[serde(default)]
    pub fixture: bool,
}

/// How objects can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reads {
    /// Any range, several at once.
    Ranges,
    /// From the front only.
    Sequential,
}

/// An option that a plug-in knows.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownOption {
    /// Its name.
    pub name: String,
    /// Whether its value is a secret.
    #[serde(default)]
    pub secret: bool,
    /// One line for people.
    pub help: String,
}

impl Hello {
    /// Understands a first line; or why not, said behind "it".
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Version {
            protocol: u32,
        }
        let unclear = |error: serde_json::Error| format!("says hello in a way that is not understood: {error}");
        // What a later version says besides need not be understood to know that it is one.
        let Version { protocol } = serde_json::from_slice(line).map_err(unclear)?;
        if protocol != VERSION {
            return Err(format!("speaks version {protocol} of the protocol; this is version {VERSION}"));
        }
        let hello: Self = serde_json::from_slice(line).map_err(unclear)?;
        hello.check().map(|()| hello)
    }

    fn check(&self) -> Result<(), String> {
        if !is_scheme(&self.name) {
            return Err(format!("has the name {:?}: small letters and digits make a scheme", self.name));
        }
        if self.source.is_none() && self.destination.is_none() {
            return Err("is neither a source nor a destination".into());
        }
        if self.resumes && !matches!(self.destination, Some(Takes::Anywhere | Takes::Parts)) {
            return Err("says that it resumes, and takes nothing that could be resumed".into());
        }
        if self.options.len() > OPTIONS_MAX {
            return Err(format!("has {} options, and may have {OPTIONS_MAX}", self.options.len()));
        }
        let mut names = BTreeSet::new();
        for KnownOption { name, help, .. } in &self.options {
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.*".contains(c)) {
                return Err(format!("has an option {name:?}: letters, digits, _ and - make a name"));
            }
            if help.is_empty() || help.chars().any(char::is_control) || help.len() > MESSAGE_BYTES_MAX {
                return Err(format!("has the option {name} without one line of help"));
            }
            if name == crate::contract::CREDENTIAL {
                return Err(format!("has an option {name}, which is the control plane's own"));
            }
            if !names.insert(name) {
                return Err(format!("has the option {name} twice"));
            }
        }
        Ok(())
    }
}

/// Whether this can be the scheme of a plug-in's URLs (RFC 3986, 3.1, in lower case).
pub fn is_scheme(name: &str) -> bool {
    name.len() <= 40
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-".contains(c))
}

/// What a plug-in is asked.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Request<'a> {
    Open {
        object: u64,
        url: &'a str,
        options: &'a Options,
        pinned: Option<&'a str>,
    },
    Read {
        object: u64,
        offset: u64,
        length: u64,
        at: u64,
    },
    Revalidate {
        object: u64,
    },
    Close {
        object: u64,
    },
    Begin(Begin<'a>),
    Writes {
        object: u64,
        length: Option<u64>,
    },
    Kept {
        object: u64,
        promised: Vec<(u64, u64)>,
    },
    Noted {
        object: u64,
        from: u64,
        to: u64,
    },
    Note {
        object: u64,
        crcs: &'a [(u64, u32)],
    },
    Write {
        object: u64,
        offset: u64,
        length: u64,
        at: u64,
    },
    Zero {
        object: u64,
        offset: u64,
        length: u64,
        untouched: bool,
    },
    ReadBack {
        object: u64,
        offset: u64,
        length: u64,
        at: u64,
    },
    Sync {
        object: u64,
    },
    SetLength {
        object: u64,
        length: u64,
    },
    Commit {
        object: u64,
    },
    Discard {
        object: u64,
    },
    Sweep {
        url: &'a str,
        options: &'a Options,
        transfer: &'a str,
        upload: Option<&'a str>,
    },
    #[cfg(any(test, feature = "conformance"))]
    Fixture(Fixture<'a>),
}

/// A destination to begin with.
#[derive(Clone, Debug, Serialize)]
pub struct Begin<'a> {
    pub object: u64,
    pub url: &'a str,
    pub options: &'a Options,
    pub transfer: &'a str,
    pub epoch: u64,
    pub overwrite: bool,
    pub resume: bool,
    pub upload: Option<&'a str>,
    pub prepared: Option<Prepared>,
}

/// A commit that may have been done.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Prepared {
    pub length: u64,
    pub identity: Option<(u64, u64)>,
}

/// What the check of a plug-in asks besides.
#[cfg(any(test, feature = "conformance"))]
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Fixture<'a> {
    Url { name: &'a str },
    Place { url: &'a str, offset: u64, length: u64, at: u64, total: u64 },
    Show { url: &'a str, offset: u64, length: u64, at: u64 },
    Remove { url: &'a str },
    LeftOvers,
}

impl Request<'_> {
    /// What it is called.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Open { .. } => "open",
            Self::Read { .. } => "read",
            Self::Revalidate { .. } => "revalidate",
            Self::Close { .. } => "close",
            Self::Begin(_) => "begin",
            Self::Writes { .. } => "writes",
            Self::Kept { .. } => "kept",
            Self::Noted { .. } => "noted",
            Self::Note { .. } => "note",
            Self::Write { .. } => "write",
            Self::Zero { .. } => "zero",
            Self::ReadBack { .. } => "read_back",
            Self::Sync { .. } => "sync",
            Self::SetLength { .. } => "set_length",
            Self::Commit { .. } => "commit",
            Self::Discard { .. } => "discard",
            Self::Sweep { .. } => "sweep",
            #[cfg(any(test, feature = "conformance"))]
            Self::Fixture(_) => "fixture",
        }
    }

    /// Whether a storage may take long to do it: to make everything durable, to put an object together, to look at what
    /// is there.
    pub fn may_take_long(&self) -> bool {
        matches!(
            self,
            Self::Begin(_) | Self::Kept { .. } | Self::Sync { .. } | Self::Commit { .. } | Self::Sweep { .. }
        )
    }

    /// Its line, with its end.
    pub fn line(&self, id: u64) -> Result<Vec<u8>, Error> {
        #[derive(Serialize)]
        struct Line<'a> {
            id: u64,
            #[serde(flatten)]
            request: &'a Request<'a>,
        }
        let mut line = serde_json::to_vec(&Line { id, request: self }).expect("numbers, strings and lists of them");
        if line.len() > LINE_BYTES_MAX {
            let why =
                format!("a plug-in is told at most {LINE_BYTES_MAX} bytes at a time: URL and options are too long");
            return Err(Error::fatal(Code::InvalidOption, why));
        }
        line.push(b'\n');
        Ok(line)
    }
}

/// The line that follows hello: where bytes go, and what the plug-in was set to.
pub fn start_line(descriptor: i32, bytes: u64, settings: &BTreeMap<String, String>) -> Vec<u8> {
    let area = serde_json::json!({"descriptor": descriptor, "bytes": bytes});
    let start = serde_json::json!({"do": "start", "protocol": VERSION, "area": area, "settings": settings});
    let mut line = start.to_string().into_bytes();
    line.push(b'\n');
    line
}

/// The line that says that an answer is not waited for any more.
pub fn cancel_line(request: u64) -> Vec<u8> {
    format!("{{\"do\":\"cancel\",\"request\":{request}}}\n").into_bytes()
}

/// What a plug-in answers. Which fields there are depends on the question; others are refused, since a misspelt one would
/// be missed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    pub id: u64,
    #[serde(default)]
    pub error: Option<Complaint>,
    #[serde(default)]
    pub size: Option<u64>,
    #[serde(default)]
    pub validator: Option<String>,
    #[serde(default)]
    pub access: Option<Access>,
    #[serde(default)]
    pub checksum: Option<Checksum>,
    #[serde(default)]
    pub length: Option<u64>,
    #[serde(default)]
    pub found: Option<FoundThere>,
    #[serde(default)]
    pub identity: Option<(u64, u64)>,
    #[serde(default)]
    pub part_bytes: Option<u64>,
    #[serde(default)]
    pub upload: Option<String>,
    #[serde(default)]
    pub kept: Option<Vec<(u64, u64)>>,
    #[serde(default)]
    pub crcs: Option<Vec<(u64, u32)>>,
    #[serde(default)]
    pub url: Option<String>,
    #[serde(default)]
    pub count: Option<usize>,
}

/// How a destination was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FoundThere {
    Nothing,
    Partial,
    Committed,
}

/// An error as a plug-in says it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Complaint {
    pub code: Code,
    pub message: String,
    /// Whether another try may succeed.
    #[serde(default)]
    pub retry: bool,
    /// Not before so many seconds.
    #[serde(default)]
    pub after_seconds: Option<u32>,
    /// Of a commit: whether it may have been done all the same.
    #[serde(default)]
    pub unknown: bool,
}

impl Complaint {
    /// The error for callers. `secrets` are said by nobody.
    pub fn into_error(self, secrets: &[String]) -> Error {
        let mut message = self.message;
        secrets.iter().filter(|secret| !secret.is_empty()).for_each(|secret| {
            message = message.replace(secret.as_str(), "<redacted>");
        });
        let plain = message.chars().map(|c| if c.is_control() { ' ' } else { c });
        let mut message: String = plain.collect();
        let end = (0..=MESSAGE_BYTES_MAX.min(message.len())).rev().find(|at| message.is_char_boundary(*at));
        message.truncate(end.unwrap_or(0));
        let disposition = match self.code {
            Code::SourceChanged => Disposition::SourceChanged,
            Code::Canceled => Disposition::Canceled,
            _ if self.retry => Disposition::Retry {
                after: self.after_seconds.map(|seconds| std::time::Duration::from_secs(seconds.into())),
            },
            _ => Disposition::Fatal,
        };
        Error { code: self.code, disposition, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_is_understood_or_refused_with_what_is_wrong() {
        let hello = Hello::parse(br#"{"protocol": 1, "name": "folder", "source": "ranges"}"#).unwrap();
        assert_eq!((hello.source, hello.destination, hello.resumes), (Some(Reads::Ranges), None, false));
        for (line, why) in [
            (r#"{"protocol": 2, "name": "x", "new": 1}"#, "version 2"),
            (r#"{"protocol": 1, "name": "x"}"#, "neither"),
            (r#"{"protocol": 1, "name": "X", "source": "ranges"}"#, "small letters"),
            (r#"{"protocol": 1, "name": "x", "source": "backwards"}"#, "backwards"),
            (r#"{"protocol": 1, "name": "x", "sauce": "ranges"}"#, "sauce"),
            (r#"{"protocol": 1, "name": "x", "destination": "in_order", "resumes": true}"#, "resumed"),
            (r#"{"protocol": 1, "name": "x", "source": "ranges", "options": [{"name": "a", "help": ""}]}"#, "help"),
            ("hello", "not understood"),
        ] {
            let refusal = Hello::parse(line.as_bytes()).unwrap_err();
            assert!(refusal.contains(why), "{line}: {refusal}");
        }
    }

    #[test]
    fn errors_of_plug_ins_repeat_no_secret_and_no_control_characters() {
        let line =
            br#"{"id": 1, "error": {"code": "permission_denied", "message": "s3cret is\u001b no key", "retry": true}}"#;
        let answer: Answer = serde_json::from_slice(line).unwrap();
        let error = answer.error.unwrap().into_error(&["s3cret".into()]);
        assert_eq!(error, Error::retry(Code::PermissionDenied, "<redacted> is  no key"));
    }

    #[test]
    fn what_does_not_fit_a_line_is_not_asked() {
        let options = Options::from([("key".into(), "x".repeat(LINE_BYTES_MAX))]);
        let request = Request::Open { object: 1, url: "x:///y", options: &options, pinned: None };
        assert_eq!(request.line(1).unwrap_err().code, Code::InvalidOption);
    }
}
