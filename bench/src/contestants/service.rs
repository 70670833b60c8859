//! Transfers from one host to another, by a service whose executors have joined: the bench's own, or one that was there before.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    rc::Rc,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::link::Both;
use crate::{
    contest::{Contestant, Told},
    link::{
        Testbed,
        client::{Chosen, Client},
        fleet::Fleet,
        through::{ThroughTold, Wish},
    },
    measure::Ended,
    record::Kind,
    small::SmallTold,
    worker::{Program, argument},
};

/// What a request can say of how bytes cross. The first one is the reference.
pub const TRANSPORTS: [&str; 3] = ["auto", "quic", "tcp"];

/// What a transfer by such a service is called in tables.
pub fn name(transport: &str) -> String {
    format!("service {transport}")
}

/// Two hosts of a deployment.
#[derive(Clone, Debug)]
pub struct Hosts {
    /// How the service is asked.
    pub client: Client,
    /// The host from which bytes come.
    pub owner: String,
    /// The host to which they go, whose executor reads them.
    pub reader: String,
    /// The service and its executors, where they are the bench's own.
    pub fleet: Option<Rc<Fleet>>,
}

impl Hosts {
    /// What `auto` does between them; nothing where nothing has crossed yet.
    pub fn chosen(&self) -> io::Result<Option<Chosen>> {
        self.client.chosen(&self.reader, &self.owner)
    }

    /// CPU seconds so far that the bench has to know as its own: of what is between the hosts, and of what runs on them.
    pub fn own_work(self: &Rc<Self>, bed: &Rc<Testbed>) -> Rc<dyn Fn() -> f64> {
        let (hosts, bed) = (self.clone(), bed.clone());
        Rc::new(move || bed.cpu_seconds() + hosts.cpu_seconds().values().sum::<f64>())
    }

    /// CPU seconds of the service and its executors so far; of a deployment that was there before, they are not known.
    fn cpu_seconds(&self) -> BTreeMap<String, f64> {
        self.fleet.as_ref().map_or_else(BTreeMap::new, |fleet| fleet.cpu_seconds())
    }
}

/// CPU seconds of the processes of a deployment since a sample was begun.
#[derive(Debug)]
struct CpuMeter {
    hosts: Rc<Hosts>,
    before: RefCell<BTreeMap<String, f64>>,
}

impl CpuMeter {
    fn new(hosts: &Rc<Hosts>) -> Self {
        Self { hosts: hosts.clone(), before: RefCell::default() }
    }

    fn begin(&self) {
        self.before.replace(self.hosts.cpu_seconds());
    }

    /// What a contestant tells that took so long.
    fn told(&self, seconds: f64, stages: BTreeMap<String, f64>) -> Told {
        let before = self.before.borrow();
        let mut by_end = self.hosts.cpu_seconds();
        by_end.iter_mut().for_each(|(name, seconds)| *seconds -= before.get(name).unwrap_or(&0.0));
        let cpu_seconds = (!by_end.is_empty()).then(|| by_end.values().sum());
        Told { seconds: Some(seconds), cpu_seconds, cpu_seconds_by_end: by_end, stages, ..Told::default() }
    }
}

/// An object as one transfer.
#[derive(Debug)]
pub struct Transferred {
    program: Program,
    name: String,
    wish: Wish,
    /// Whether the wish's destination is the target of the case.
    to_target: bool,
    meter: CpuMeter,
}

impl Transferred {
    /// From this URL to that one; without, to the target of the case, as a file on the reader's host. Given up after
    /// `seconds_max`.
    pub fn new(
        program: &Program,
        hosts: &Rc<Hosts>,
        transport: &str,
        source: &str,
        destination: Option<&str>,
        seconds_max: f64,
    ) -> Self {
        let wish = Wish {
            client: hosts.client.clone(),
            source: source.to_owned(),
            destination: destination.unwrap_or_default().to_owned(),
            transport: transport.to_owned(),
            overwrite: destination.is_some_and(|url| url.starts_with("file:")),
            seconds_max,
        };
        let (name, to_target) = (name(transport), destination.is_none());
        Self { program: program.clone(), name, wish, to_target, meter: CpuMeter::new(hosts) }
    }

    /// With another name in tables.
    pub fn named(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }
}

impl Contestant for Transferred {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn kind(&self) -> Kind {
        Kind::Ours
    }

    fn command(&self, target: &Path) -> Command {
        let mut wish = self.wish.clone();
        if self.to_target {
            wish.destination = format!("file://{}{}", self.meter.hosts.reader, target.display());
        }
        let mut command = self.program.command("through");
        command.arg(argument(&wish));
        self.meter.begin();
        command
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn writes_target(&self) -> bool {
        self.to_target
    }

    fn works_elsewhere(&self) -> bool {
        true
    }

    /// A path may be closed to UDP: that is to be seen.
    fn may_fail(&self) -> bool {
        true
    }

    fn interpret(&self, ended: &Ended) -> io::Result<Told> {
        let told: ThroughTold = serde_json::from_slice(&ended.output).map_err(io::Error::other)?;
        Ok(self.meter.told(told.seconds, told.stages))
    }
}

/// A folder with small objects, and folders for their copies: each sample makes one, and they stay. (Why: see
/// [`cases::small`](crate::cases::small).)
#[derive(Clone, Debug)]
pub struct Copies {
    /// The folder with the objects.
    pub source: PathBuf,
    /// How many there are.
    pub objects: usize,
    /// Bytes of all.
    pub bytes: u64,
    /// The folder in which the copies are made.
    pub targets: PathBuf,
    made: Rc<AtomicUsize>,
}

impl Copies {
    /// Of the objects in `source`, within `targets`.
    pub fn new(source: &Path, objects: usize, bytes: u64, targets: &Path) -> Self {
        Self { source: source.to_owned(), objects, bytes, targets: targets.to_owned(), made: Rc::default() }
    }

    /// The next copy's folder.
    fn next(&self) -> PathBuf {
        let folder = self.targets.join(self.made.fetch_add(1, Ordering::Relaxed).to_string());
        // Where that fails, whoever writes there says so.
        let _ = fs::create_dir_all(&folder);
        folder
    }

    /// Whether the copy that was made last is whole.
    fn check(&self) -> io::Result<()> {
        let last = self.made.load(Ordering::Relaxed).saturating_sub(1);
        let (mut objects, mut bytes) = (0, 0);
        for entry in fs::read_dir(self.targets.join(last.to_string()))? {
            (objects, bytes) = (objects + 1, bytes + entry?.metadata()?.len());
        }
        if (objects, bytes) == (self.objects, self.bytes) {
            return Ok(());
        }
        let wanted = format!("{} of {} bytes", self.objects, self.bytes);
        Err(io::Error::other(format!("made {objects} objects of {bytes} bytes in all where {wanted} were wanted")))
    }
}

/// Many small objects as as many transfers.
#[derive(Debug)]
pub struct ManyTransferred {
    program: Program,
    /// Words that make a command run on the service's host.
    at_service: Vec<String>,
    api: String,
    transport: String,
    copies: Copies,
    seconds_max: f64,
    meter: CpuMeter,
}

impl ManyTransferred {
    /// By the bench's own service.
    pub fn new(
        program: &Program,
        at_service: Vec<String>,
        hosts: &Rc<Hosts>,
        transport: &str,
        copies: &Copies,
        seconds_max: f64,
    ) -> Self {
        let api = hosts.fleet.as_ref().map_or_else(String::new, |fleet| fleet.api().to_owned());
        let (transport, copies, meter) = (transport.to_owned(), copies.clone(), CpuMeter::new(hosts));
        Self { program: program.clone(), at_service, api, transport, copies, seconds_max, meter }
    }
}

impl Contestant for ManyTransferred {
    fn name(&self) -> String {
        name(&self.transport)
    }

    fn kind(&self) -> Kind {
        Kind::Ours
    }

    fn command(&self, _target: &Path) -> Command {
        let (hosts, copies) = (&self.meter.hosts, &self.copies);
        let worker = self.program.command("small-between");
        let words = self.at_service.iter().map(AsRef::as_ref);
        let mut words = words.chain([worker.get_program()]).chain(worker.get_args());
        let mut command = Command::new(words.next().expect("a worker is a program"));
        command.args(words).arg(&self.api);
        command.arg(format!("file://{}{}", hosts.owner, copies.source.display()));
        command.arg(format!("file://{}{}", hosts.reader, copies.next().display()));
        command.arg(format!("--objects={}", copies.objects)).arg(format!("--transport={}", self.transport));
        command.arg(format!("--patience={}", self.seconds_max));
        self.meter.begin();
        command
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn works_elsewhere(&self) -> bool {
        true
    }

    fn may_fail(&self) -> bool {
        true
    }

    fn interpret(&self, ended: &Ended) -> io::Result<Told> {
        self.copies.check()?;
        let told: SmallTold = serde_json::from_slice(&ended.output).map_err(io::Error::other)?;
        Ok(self.meter.told(told.seconds, told.stages))
    }
}

/// The same objects by somebody else, whose client writes into the folder `{to}`.
#[derive(Clone, Debug)]
pub struct ManyCopied {
    both: Both,
    copies: Copies,
}

impl ManyCopied {
    /// By these two ends.
    pub fn new(both: Both, copies: &Copies) -> Self {
        Self { both, copies: copies.clone() }
    }
}

impl Contestant for ManyCopied {
    fn name(&self) -> String {
        self.both.name()
    }

    fn kind(&self) -> Kind {
        self.both.kind()
    }

    fn absent(&self) -> Option<String> {
        self.both.absent()
    }

    fn command(&self, _target: &Path) -> Command {
        self.both.command(&self.copies.next())
    }

    fn is_durable(&self) -> bool {
        self.both.is_durable()
    }

    fn interpret(&self, ended: &Ended) -> io::Result<Told> {
        let told = self.both.interpret(ended)?;
        self.copies.check()?;
        Ok(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_that_is_not_whole_is_found_out() {
        let folder = tempfile::tempdir().unwrap();
        let copies = Copies::new(folder.path(), 2, 5, &folder.path().join("targets"));
        let first = copies.next();
        fs::write(first.join("0"), "abc").unwrap();
        assert!(copies.check().unwrap_err().to_string().contains("made 1 objects of 3 bytes"));
        fs::write(first.join("1"), "de").unwrap();
        copies.check().unwrap();
        assert_ne!(copies.next(), first);
        copies.check().unwrap_err();
    }
}
