//! Which machine this is.

use std::{collections::BTreeMap, fs, path::Path, process::Command, time::SystemTime};

use crate::record::{Host, Run};

/// This machine, with what holds `folder`.
fn describe(folder: &Path) -> Host {
    let uname = rustix::system::uname();
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let kibibytes = field(&memory, "MemTotal").and_then(|total| total.split_whitespace().next()?.parse::<u64>().ok());
    let product = fs::read_to_string("/sys/class/dmi/id/product_name").ok();
    Host {
        kernel: uname.release().to_string_lossy().into_owned(),
        cpu: field(&cpu, "model name").unwrap_or_else(|| uname.machine().to_string_lossy().into_owned()),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        memory_bytes: kibibytes.unwrap_or(0) << 10,
        product: product.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()),
        storage: storage(folder),
    }
}

/// The mount that holds a path: device, file system and options (proc_mounts(5)).
fn storage(path: &Path) -> Option<String> {
    let path = fs::canonicalize(path).ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let fields = mounts.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let holding = fields.filter(|fields| fields.len() > 3 && path.starts_with(fields[1]));
    let mount = holding.max_by_key(|fields| fields[1].len())?;
    Some(format!("{} {} ({})", mount[0], mount[2], mount[3]))
}

/// What begins now, on the disk that has `folder`, with these programs and the arguments with which they tell their
/// versions.
pub fn this_run<'a>(folder: &Path, programs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Run {
    Run {
        started_at: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        command: std::env::args().skip(1).collect(),
        versions: versions(programs),
        host: describe(folder),
    }
}

/// Versions of these programs, by the first line of what they say; those that are not there are left out.
fn versions<'a>(programs: impl IntoIterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::from([("staccato".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]);
    for (program, argument) in programs {
        // nginx tells its version on standard error.
        let Ok(output) = Command::new(program).arg(argument).output() else { continue };
        let said = if output.stdout.is_empty() { output.stderr } else { output.stdout };
        if let Some(line) = String::from_utf8_lossy(&said).lines().next() {
            versions.insert(program.to_owned(), line.trim().to_owned());
        }
    }
    versions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_described() {
        let host = describe(Path::new("."));
        assert!(!host.kernel.is_empty() && !host.cpu.is_empty() && host.cores > 0 && host.memory_bytes > 0, "{host:?}");
        assert!(host.storage.is_some(), "{host:?}");
        let versions = versions([("sh", "--no-such-thing"), ("there-is-no-such-program", "-V"), ("dd", "--version")]);
        assert!(versions["dd"].contains("dd") && !versions.contains_key("there-is-no-such-program"), "{versions:?}");
    }
}
