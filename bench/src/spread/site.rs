//! The hosts of a distribution, and what each has in its folder.
//!
//! One host has the object, one is for who is asked and tells others (the control plane, a tracker), and the rest get the
//! object. All of them write to one disk, each to a folder of its own.

use std::{
    fs,
    io::{self, Read as _},
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use crate::{
    cases::Workplace,
    network::{Host, Network, Wiring},
    worker::Program,
};

/// What the object is called, at its source and everywhere.
pub const OBJECT: &str = "object";
/// Bytes that are compared at a time.
const PIECE: usize = 1 << 20;
/// Of the network's hosts, the one that leads.
const LEADER: usize = 0;
/// The one that has the object.
const SOURCE: usize = 1;
/// The first one that gets it.
const FIRST: usize = 2;

/// What a site is built for.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// How many hosts get the object.
    pub hosts: usize,
    /// Its length.
    pub bytes: u64,
    /// Bits per second of every host's cable, in each direction.
    pub rate: u64,
    /// The same of the source's, where it is an HTTP server and no executor.
    pub origin: Option<u64>,
}

/// See the module.
#[derive(Debug)]
pub struct Site {
    network: Network,
    place: PathBuf,
    plan: Plan,
    /// Length of the object.
    pub bytes: u64,
}

impl Plan {
    /// In how many seconds it can be done at best: the source's cable carries everything once, and so does every other.
    fn bound_seconds(&self) -> f64 {
        let rate = self.origin.map_or(self.rate, |origin| origin.min(self.rate));
        self.bytes as f64 * 8.0 / rate as f64
    }
}

impl Site {
    /// Joins the hosts, makes the folders within `place`, and fills the object.
    pub fn build(place: &Workplace, plan: &Plan) -> io::Result<Self> {
        let rates = plan.origin.map(|origin| (SOURCE, origin)).into_iter().collect();
        let wiring = Wiring { hosts: plan.hosts + FIRST, rate: Some(plan.rate), rates, ..Wiring::default() };
        let site = Self {
            network: Network::build(&wiring)?,
            place: place.path("site"),
            plan: plan.clone(),
            bytes: plan.bytes,
        };
        fs::create_dir_all(site.source_folder())?;
        (0..plan.hosts).try_for_each(|index| fs::create_dir(site.folder(index)))?;
        place.fill(&format!("site/source/{OBJECT}"), plan.bytes)?;
        Ok(site)
    }

    /// How many hosts get the object.
    pub fn hosts(&self) -> usize {
        self.plan.hosts
    }

    /// Whether the source is an HTTP server, whose cable has a rate of its own.
    pub fn has_origin(&self) -> bool {
        self.plan.origin.is_some()
    }

    /// In how many seconds it can be done at best.
    pub fn bound_seconds(&self) -> f64 {
        self.plan.bound_seconds()
    }

    /// The host of who is asked and tells others.
    pub fn leader(&self) -> &Host {
        &self.network.hosts()[LEADER]
    }

    /// The host that has the object.
    pub fn source(&self) -> &Host {
        &self.network.hosts()[SOURCE]
    }

    /// One that gets it.
    pub fn host(&self, index: usize) -> &Host {
        &self.network.hosts()[FIRST + index]
    }

    /// A port of a host: each has all of its own.
    pub fn at(host: &Host, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(host.address()), port)
    }

    /// The folder of the source.
    pub fn source_folder(&self) -> PathBuf {
        self.place.join("source")
    }

    /// The object.
    pub fn object(&self) -> PathBuf {
        self.source_folder().join(OBJECT)
    }

    /// Makes the object another version of itself: nobody goes on with, or has kept, what there was of it before.
    pub fn renew(&self) -> io::Result<()> {
        fs::File::options().write(true).open(self.object())?.set_modified(SystemTime::now())
    }

    /// The folder of a host that gets it.
    pub fn folder(&self, index: usize) -> PathBuf {
        self.place.join(format!("host{}", index + 1))
    }

    /// Where it gets it.
    pub fn target(&self, index: usize) -> PathBuf {
        self.folder(index).join(OBJECT)
    }

    /// Work of the bench's own, where the leader is.
    pub fn worker(&self, program: &Program, work: &str, argument: &str) -> Command {
        let worker = program.command(work);
        let mut command = self.leader().command(&worker.get_program().to_string_lossy());
        command.args(worker.get_args()).arg(argument);
        command
    }

    /// A new folder for whatever somebody needs.
    pub fn scratch(&self, name: &str) -> io::Result<PathBuf> {
        let folder = self.place.join(name);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Nobody has anything any more but the source.
    pub fn clear(&self) -> io::Result<()> {
        for index in 0..self.hosts() {
            for entry in fs::read_dir(self.folder(index))? {
                fs::remove_file(entry?.path())?;
            }
        }
        Ok(())
    }

    /// Compares what the first hosts have with the object, byte by byte.
    pub fn check(&self, hosts: usize) -> io::Result<()> {
        (0..hosts).try_for_each(|index| compare(&self.object(), &self.target(index)))
    }
}

/// An error where two files differ, that says where.
fn compare(one: &Path, other: &Path) -> io::Result<()> {
    let open = |path: &Path| {
        fs::File::open(path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    };
    let (mut left, mut right) = (open(one)?, open(other)?);
    let (mut here, mut there, mut offset) = (vec![0; PIECE], vec![0; PIECE], 0);
    loop {
        let count = left.read(&mut here)?;
        let same = match count {
            0 => right.read(&mut there[..1])? == 0,
            _ => match right.read_exact(&mut there[..count]) {
                Ok(()) => here[..count] == there[..count],
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
                Err(error) => return Err(error),
            },
        };
        if !same {
            return Err(io::Error::other(format!("{} is not the object from byte {offset} on", other.display())));
        }
        if count == 0 {
            return Ok(());
        }
        offset += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_link_that_carries_everything_is_the_bound() {
        let plan = Plan { hosts: 8, bytes: 25_000_000, rate: 200_000_000, origin: None };
        assert_eq!(plan.bound_seconds(), 1.0);
        assert_eq!(Plan { origin: Some(50_000_000), ..plan.clone() }.bound_seconds(), 4.0);
        assert_eq!(Plan { origin: Some(1_000_000_000), ..plan }.bound_seconds(), 1.0);
    }

    #[test]
    fn what_is_not_the_object_is_found_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            path
        };
        let object = path("object", &[1; PIECE + 1]);
        compare(&object, &path("same", &[1; PIECE + 1])).unwrap();
        let mut wrong = vec![1; PIECE + 1];
        wrong[PIECE] = 2;
        for (name, bytes) in [("wrong", &wrong[..]), ("short", &[1; PIECE]), ("long", &[1; PIECE + 2]), ("empty", &[])]
        {
            let error = compare(&object, &path(name, bytes)).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("is not the object"), "{error}");
        }
        assert!(compare(&object, &folder.path().join("gone")).unwrap_err().to_string().contains("gone"));
    }
}
