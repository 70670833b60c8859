//! Other people's tools. What they leave in the page cache is synced on their time.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::installed;
use crate::{contest::Contestant, record::Kind};

/// A tool with its arguments, in which `{to}` stands for the target, and `{folder}` and `{name}` for its two parts.
#[derive(Clone, Debug)]
pub struct Rival {
    name: String,
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
}

impl Rival {
    /// `name` in tables, `program` on PATH or at a path.
    pub fn new(name: &str, program: impl Into<PathBuf>, arguments: &[&str]) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            environment: Vec::new(),
        }
    }

    /// With one more variable in its environment.
    pub fn with_environment(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }
}

/// Those that copy a file.
pub fn file_rivals(source: &Path) -> Vec<Rival> {
    let from = &source.display().to_string();
    vec![
        Rival::new("cp", "cp", &[from, "{to}"]),
        // The nearest to the disk itself that a plain tool gets: one reader and writer, no page cache.
        Rival::new(
            "dd direct",
            "dd",
            &[&format!("if={from}"), "of={to}", "bs=4M", "iflag=direct", "oflag=direct", "status=none"],
        ),
        Rival::new("rsync", "rsync", &["--whole-file", "--inplace", from, "{to}"]),
        Rival::new("rclone", "rclone", &["copyto", "--multi-thread-streams=8", from, "{to}"]),
    ]
}

/// Those that copy a file and keep its holes.
pub fn sparse_rivals(source: &Path) -> Vec<Rival> {
    let from = &source.display().to_string();
    vec![
        Rival::new("cp --sparse=always", "cp", &["--sparse=always", from, "{to}"]),
        Rival::new("rsync -S", "rsync", &["--whole-file", "--sparse", from, "{to}"]),
    ]
}

impl Contestant for Rival {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn kind(&self) -> Kind {
        Kind::Rival
    }

    fn absent(&self) -> Option<String> {
        (!installed(&self.program)).then(|| format!("{} is not installed", self.program.display()))
    }

    fn command(&self, target: &Path) -> Command {
        let part = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let folder = part(target.parent().map(Path::as_os_str));
        let fill = |argument: &String| {
            argument
                .replace("{to}", &target.display().to_string())
                .replace("{folder}", &folder)
                .replace("{name}", &part(target.file_name()))
        };
        let mut command = Command::new(&self.program);
        command.args(self.arguments.iter().map(fill));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}
