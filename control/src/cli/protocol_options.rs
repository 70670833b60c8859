//! Options of protocols, as commands take them: on the command line, or each in a file of its own.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use clap::Args;
use staccato_protocols::Options;

use super::{Exit, Failure};

/// Longest value that is read from a file, in bytes; the service takes less.
const VALUE_BYTES_MAX: u64 = 64 << 10;

/// Options of both sides.
#[derive(Clone, Debug, Default, Args)]
pub struct ProtocolOptions {
    /// An option of the source's protocol. Others on this host may see it while the command runs: no place for a secret
    #[arg(long = "source-option", value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub source_options: Vec<(String, String)>,
    /// The same, its value being what a file holds (without a line break at its end); - is the standard input
    #[arg(long = "source-option-file", value_name = "NAME=PATH", value_parser = parse_pair)]
    pub source_option_files: Vec<(String, String)>,
    /// An option of the destination's protocol. Others on this host may see it, too
    #[arg(long = "destination-option", value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub destination_options: Vec<(String, String)>,
    /// The same, its value being what a file holds; - is the standard input
    #[arg(long = "destination-option-file", value_name = "NAME=PATH", value_parser = parse_pair)]
    pub destination_option_files: Vec<(String, String)>,
}

impl ProtocolOptions {
    /// Those of the source.
    pub fn source(&self) -> Result<Options, Failure> {
        options(&self.source_options, &self.source_option_files)
    }

    /// Those of the destination.
    pub fn destination(&self) -> Result<Options, Failure> {
        options(&self.destination_options, &self.destination_option_files)
    }
}

/// Options as they are written, and those that files hold.
pub(super) fn options(pairs: &[(String, String)], files: &[(String, String)]) -> Result<Options, Failure> {
    let mut options: Options = pairs.iter().cloned().collect();
    for (name, path) in files {
        options.insert(name.clone(), value_in(name, path)?);
    }
    Ok(options)
}

/// `NAME=VALUE`.
pub(super) fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".into()),
    }
}

/// What a file holds, without the line break at its end.
fn value_in(name: &str, path: &str) -> Result<String, Failure> {
    let refused =
        |why: String| Failure::new(Exit::Usage, format!("the value of {name} cannot be read from {path}: {why}"));
    let source: Box<dyn Read> = match path {
        "-" => Box::new(io::stdin()),
        path => Box::new(File::open(Path::new(path)).map_err(|error| refused(error.to_string()))?),
    };
    let mut text = String::new();
    source.take(VALUE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| refused(error.to_string()))?;
    if text.len() as u64 > VALUE_BYTES_MAX {
        return Err(refused(format!("it has more than {VALUE_BYTES_MAX} bytes")));
    }
    let value = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    if value.is_empty() {
        return Err(refused("it is empty; standard input can be read for one option only".to_owned()));
    }
    Ok(value.to_owned())
}
