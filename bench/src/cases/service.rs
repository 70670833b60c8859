//! Across a link as transfers of a service: of the bench's own, or of one that was there before.
//!
//! `auto` learns what suits a link while something crosses it. So the first transfer of a link is a sample of its own, beside
//! the others.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    rc::Rc,
};

use super::{
    Workplace,
    link::{Crossing, name},
};
use crate::{
    contest::{Case, Contestant, Effort, Progress},
    contestants::{
        Storage,
        service::{self, Hosts, TRANSPORTS, Transferred},
    },
    link::{
        Testbed,
        fleet::{self, Fleet},
        through::Wish,
    },
    measure::Meter,
    record::Series,
    worker::Program,
};

/// What tells these cases from those without a service: the setting `transport`.
pub const THROUGH: &str = "service";
/// Transfers that run at a time in the bench's own service: as many as by default.
const SLOTS: usize = 4;

/// A case, with what must outlive it.
pub struct ServiceCase {
    /// The first transfer of the link, where nothing has crossed it yet.
    first: Option<Case>,
    /// All others.
    pub case: Case,
    hosts: Rc<Hosts>,
    /// Dropped last: processes work in it.
    _places: Vec<Workplace>,
}

impl ServiceCase {
    /// Measures, and notes what `auto` did in the end.
    pub fn run(&self, effort: Effort, progress: &mut dyn Progress) -> io::Result<Vec<Series>> {
        let once = Effort { pairs: 1, ..effort };
        let first = self.first.as_ref().map(|case| case.run(once, progress)).transpose()?;
        let mut series = self.case.run(effort, progress)?;
        if let (Some(auto), Some(chosen)) = (series.first_mut(), self.hosts.chosen()?) {
            auto.note = Some(format!("took {} in the end ({})", chosen.transport, chosen.reason));
        }
        // Behind the reference, whom it resembles.
        series.splice(1..1, first.into_iter().flatten());
        Ok(series)
    }
}

/// A service of the bench's own for one link, and executors that have joined it at both ends.
pub fn own(program: &Program, disk: &Path, bed: &Rc<Testbed>, crossing: &Crossing) -> io::Result<ServiceCase> {
    let place = Workplace::new(disk)?;
    let (from, to) = crossing.storages;
    let (hosts, files) = hosts_of_own(bed, &place, SLOTS)?;
    let source = (from == Storage::Disk).then(|| place.fill("files/source", crossing.bytes)).transpose()?;
    let source_url = match &source {
        Some(path) => format!("file://{}{}", hosts.owner, path.display()),
        None => zeros(&hosts.owner, crossing.bytes),
    };
    let is_disk = |storage| storage == Storage::Disk;
    let made = |contestants: Vec<Box<dyn Contestant>>| Case {
        target: is_disk(to).then(|| files.join("target")),
        meters: if is_disk(from) || is_disk(to) { Meter::of_disk(&files) } else { Vec::new() },
        cold: source.iter().cloned().collect(),
        own_work: Some(hosts.own_work(bed)),
        ..of(crossing, contestants)
    };
    let destination = (!is_disk(to)).then(|| nowhere(&hosts.reader));
    let through = |transport: &'static str| {
        Transferred::new(program, &hosts, transport, &source_url, destination.as_deref(), crossing.seconds_max)
    };
    Ok(ServiceCase {
        first: Some(made(vec![Box::new(first(&through))])),
        case: made(all(&through)),
        hosts: hosts.clone(),
        _places: vec![place],
    })
}

/// The two hosts of a service of the bench's own, and the folder whose files it may move.
pub fn hosts_of_own(bed: &Rc<Testbed>, place: &Workplace, slots: usize) -> io::Result<(Rc<Hosts>, PathBuf)> {
    let (folder, files) = (place.path("fleet"), place.path("files"));
    fs::create_dir(&folder)?;
    fs::create_dir(&files)?;
    let fleet = Rc::new(Fleet::start(bed, &folder, std::slice::from_ref(&files), slots)?);
    let hosts = Hosts {
        client: fleet.client().clone(),
        owner: fleet::OWNER.into(),
        reader: fleet::READER.into(),
        fleet: Some(fleet),
    };
    Ok((Rc::new(hosts), files))
}

/// Between two hosts of a deployment that was there before; from and to files that were made there, where there are to be
/// files.
pub fn theirs(
    program: &Program,
    hosts: &Rc<Hosts>,
    [source, target]: [Option<&Made>; 2],
    crossing: &Crossing,
) -> io::Result<ServiceCase> {
    let source = source.map_or_else(|| zeros(&hosts.owner, crossing.bytes), |made| made.url.clone());
    let destination = target.map_or_else(|| nowhere(&hosts.reader), |made| made.url.clone());
    let through = |transport: &'static str| {
        Transferred::new(program, hosts, transport, &source, Some(&destination), crossing.seconds_max)
    };
    let case = |contestants| Case { is_here: false, ..of(crossing, contestants) };
    let is_new = hosts.chosen()?.is_none();
    Ok(ServiceCase {
        first: is_new.then(|| case(vec![Box::new(first(&through)) as Box<dyn Contestant>])),
        case: case(all(&through)),
        hosts: hosts.clone(),
        _places: Vec::new(),
    })
}

fn of(crossing: &Crossing, contestants: Vec<Box<dyn Contestant>>) -> Case {
    let mut settings: BTreeMap<String, String> = crossing.settings.clone();
    settings.insert("size".into(), crossing.bytes.to_string());
    settings.insert("transport".into(), THROUGH.into());
    Case { settings, ..Case::new(name(crossing.storages), crossing.bytes, contestants) }
}

fn first(through: &impl Fn(&'static str) -> Transferred) -> Transferred {
    through(TRANSPORTS[0]).named(&format!("{}, first", service::name(TRANSPORTS[0])))
}

fn all(through: &impl Fn(&'static str) -> Transferred) -> Vec<Box<dyn Contestant>> {
    TRANSPORTS.into_iter().map(|transport| Box::new(through(transport)) as Box<dyn Contestant>).collect()
}

/// URL of bytes that are made in memory, and have no zero block among them, which would not travel.
fn zeros(host: &str, bytes: u64) -> String {
    format!("zero://{host}/{bytes}?seed=1")
}

fn nowhere(host: &str) -> String {
    format!("null://{host}/")
}

/// A file on a host of theirs. Transfers make files, and remove none: when this is dropped it is made empty, and its name is
/// told.
pub struct Made {
    hosts: Rc<Hosts>,
    host: String,
    url: String,
    seconds_max: f64,
}

impl Made {
    /// Makes one of so many bytes in a folder, which is as URLs write it.
    pub fn new(hosts: &Rc<Hosts>, host: &str, folder: &str, bytes: u64, seconds_max: f64) -> io::Result<Self> {
        let url = format!("file://{host}{}/staccato-bench-{:08x}", folder.trim_end_matches('/'), fastrand::u32(..));
        fill(hosts, host, &url, bytes, seconds_max)
            .map_err(|error| io::Error::new(error.kind(), format!("{url} cannot be made: {error}")))?;
        Ok(Self { hosts: hosts.clone(), host: host.to_owned(), url, seconds_max })
    }
}

/// Lets a file on a host have so many bytes.
fn fill(hosts: &Hosts, host: &str, url: &str, bytes: u64, seconds_max: f64) -> io::Result<()> {
    let wish = Wish {
        client: hosts.client.clone(),
        source: zeros(host, bytes),
        destination: url.to_owned(),
        transport: TRANSPORTS[0].into(),
        overwrite: true,
        seconds_max,
    };
    wish.fulfil().map(drop)
}

impl Drop for Made {
    fn drop(&mut self) {
        let left = match fill(&self.hosts, &self.host, &self.url, 0, self.seconds_max) {
            Ok(()) => "is empty now",
            Err(_) => "still has its bytes",
        };
        eprintln!("{} {left}; transfers remove no files: please remove it", self.url);
    }
}
