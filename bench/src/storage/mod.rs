//! Real storage servers on loopback, each with who reads an object from it and who writes one to it: ours, and the
//! best-known clients of its system.

mod glance;
mod http;
mod s3;
mod swift;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    rc::Rc,
};

pub use glance::Images;
pub use http::{Plain, WebDav};
pub use s3::Buckets;
pub use swift::Containers;

use crate::{
    contest::{Contestant, Told},
    contestants::{Attempt, Rival},
    measure::Ended,
    record::Kind,
    servers,
    worker::Program,
};

/// The name of the object that is read.
const OFFERED: &str = "offered";
/// The name of objects that are written.
const WRITTEN: &str = "written";

/// The storage systems that are measured, by the names of their cases.
pub const SYSTEMS: [&str; 6] = ["http", "webdav", "glance", "swift", "s3", "swift-s3"];

/// A server, which holds the object that is read, and from which is removed what was written.
pub trait Store {
    /// Its files with the object that is read.
    fn offered(&self) -> Vec<PathBuf>;

    /// CPU seconds of its processes so far.
    fn cpu_seconds(&self) -> f64;

    /// Who reads the object into the target of a case: the reference first.
    fn readers(&self, program: &Program) -> Vec<Box<dyn Contestant>>;

    /// Who writes this file as an object: the reference first.
    fn writers(&self, program: &Program, source: &Path) -> Vec<Box<dyn Contestant>>;

    /// Removes all that was written; how long the object was.
    fn remove_written(&self) -> io::Result<u64>;
}

/// Starts the server of a system, in which the object in `source` is then, in a folder of the bench's own.
pub fn start(system: &str, source: &Path, folder: &Path) -> io::Result<Rc<dyn Store>> {
    if let Some(missing) = servers::missing() {
        return Err(io::Error::other(missing));
    }
    Ok(match system {
        "http" => Rc::new(Plain::start(source, folder)?),
        "webdav" => Rc::new(WebDav::start(source)?),
        "glance" => Rc::new(Images::start(source)?),
        "swift" => Rc::new(Containers::start(source)?),
        "s3" => Rc::new(Buckets::of_rclone(source)?),
        "swift-s3" => Rc::new(Buckets::of_swift(source)?),
        other => return Err(io::Error::other(format!("there is no system {other}; there are {}", SYSTEMS.join(", ")))),
    })
}

/// One that writes an object to a store, from which it is removed afterwards: neither is on its time.
pub struct Writer {
    /// Who it is.
    pub contestant: Box<dyn Contestant>,
    /// Where it writes.
    pub store: Rc<dyn Store>,
    /// How long the object must be then.
    pub bytes: u64,
}

impl Contestant for Writer {
    fn name(&self) -> String {
        self.contestant.name()
    }

    fn kind(&self) -> Kind {
        self.contestant.kind()
    }

    fn absent(&self) -> Option<String> {
        self.contestant.absent()
    }

    fn command(&self, target: &Path) -> Command {
        self.contestant.command(target)
    }

    fn writes_target(&self) -> bool {
        false
    }

    fn interpret(&self, ended: &Ended) -> io::Result<Told> {
        let told = self.contestant.interpret(ended)?;
        let written = self.store.remove_written()?;
        if written != self.bytes {
            let (name, wanted) = (self.name(), self.bytes);
            return Err(io::Error::other(format!("{name} wrote {written} bytes where {wanted} were wanted")));
        }
        Ok(Told { seconds: told.seconds.or(Some(ended.seconds)), ..told })
    }
}

/// Ours, from a URL with these options of the source.
fn reader(program: &Program, url: impl Into<String>, options: &[(&str, &str)]) -> Box<dyn Contestant> {
    let option =
        |attempt: Attempt, (name, value): &(&str, &str)| attempt.with(format!("--source-option={name}={value}"));
    Box::new(options.iter().fold(Attempt::new(program, "staccato", url), option))
}

/// Ours, from a file to a URL with these options of the destination.
fn writer(program: &Program, source: &Path, url: impl Into<String>, options: &[(&str, &str)]) -> Box<dyn Contestant> {
    let attempt = Attempt::new(program, "staccato", file(source)).to(url);
    let option =
        |attempt: Attempt, (name, value): &(&str, &str)| attempt.with(format!("--destination-option={name}={value}"));
    Box::new(options.iter().fold(attempt, option))
}

fn file(path: &Path) -> String {
    format!("file://{}", path.display())
}

/// The rclone that the servers are installed with: a newer one than distributions have.
fn rclone(name: &str, arguments: &[&str]) -> Rival {
    Rival::new(name, servers::tool("rclone"), arguments).with_environment("RCLONE_CONFIG", "/dev/null")
}

/// Of these rivals, contestants.
fn with_rivals(ours: Box<dyn Contestant>, rivals: impl IntoIterator<Item = Rival>) -> Vec<Box<dyn Contestant>> {
    let mut all = vec![ours];
    all.extend(rivals.into_iter().map(|rival| Box::new(rival) as Box<dyn Contestant>));
    all
}

/// Files within a folder and its folders that are as large as objects.
fn large_files(folder: &Path) -> Vec<PathBuf> {
    const LARGE: u64 = 64 << 10;
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => found.extend(large_files(&entry.path())),
            Ok(metadata) if metadata.len() >= LARGE => found.push(entry.path()),
            _ => {}
        }
    }
    found
}
