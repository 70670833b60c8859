//! Other people's tools, each followed by the sync that makes its copy durable.

use std::{
    fs::{self, File},
    io,
    path::Path,
    process::Command,
};

use crate::cases::{Contestant, Kind, run};

/// Every rival, installed or not.
pub fn all() -> Vec<Box<dyn Contestant>> {
    let rival = |name, program, arguments: &'static [&'static str]| -> Box<dyn Contestant> {
        Box::new(Rival { name, program, arguments })
    };
    vec![
        rival("cp", "cp", &["{from}", "{to}"]),
        rival("rsync", "rsync", &["--whole-file", "{from}", "{to}"]),
        // The nearest to the disk itself that a plain tool gets: one reader and writer, no page cache.
        rival("dd direct", "dd", &["if={from}", "of={to}", "bs=4M", "iflag=direct", "oflag=direct", "status=none"]),
    ]
}

/// Whether a program is there.
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| fs::metadata(folder.join(program)).is_ok())
}

struct Rival {
    name: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
}

impl Contestant for Rival {
    fn name(&self) -> String {
        self.name.into()
    }

    fn kind(&self) -> Kind {
        Kind::Rival
    }

    fn installed(&self) -> bool {
        is_installed(self.program)
    }

    fn copy(&mut self, from: &Path, to: &Path) -> io::Result<f64> {
        let fill = |argument: &&str| {
            argument.replace("{from}", &from.display().to_string()).replace("{to}", &to.display().to_string())
        };
        let cpu_seconds = run(Command::new(self.program).args(self.arguments.iter().map(fill)))?;
        File::open(to)?.sync_all()?;
        Ok(cpu_seconds)
    }
}
