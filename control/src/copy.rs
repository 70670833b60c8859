//! `staccato copy`: the dataplane without a service.
//!
//! One object, moved by this process. What is durable is noted in a checkpoint file beside the destination
//! (`.NAME.staccato-copy.json`), so that the same command, run again after a kill or an interrupt, goes on where it
//! stopped. The file is locked while a copy runs; it is removed when the object has its name.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use percent_encoding::percent_decode_str;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use staccato_dataplane::{
    Dataplane, DataplaneConfig,
    attempt::{
        AttemptSpec, CheckpointReport, Checksum, Completion, Outcome, Part, Reply, Reporter, StopReason, VerifiedRange,
    },
};
use staccato_protocols::{Code, Error, ObjectUrl, Options, Registry, Validator, contract::Overwrite};
use tokio::sync::mpsc;

/// What to copy, and how.
#[derive(Clone, Debug)]
pub struct CopyRequest {
    /// Where the object is.
    pub source: ObjectUrl,
    /// Where it shall be.
    pub destination: ObjectUrl,
    /// Options of the source.
    pub source_options: Options,
    /// What to do with an object that is there already.
    pub overwrite: Overwrite,
    /// A checksum the object must have.
    pub checksum: Option<Checksum>,
    /// Bytes per second.
    pub rate_limit: Option<u64>,
}

/// What a finished copy has to say.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Copied {
    /// Length of the object.
    pub bytes_total: u64,
    /// Its CRC-32, in hex; none when the file system cloned it.
    pub crc32: Option<String>,
    /// Bytes read from the source by this run.
    pub bytes_fetched: u64,
    /// Bytes that an earlier run had moved already.
    pub bytes_resumed: u64,
    /// Seconds this run took.
    pub seconds: f64,
}

/// How far a copy is: durable bytes, and all of them when that is known.
pub type Progress<'a> = &'a mut dyn FnMut(u64, Option<u64>);

/// Copies; `progress` hears of every checkpoint. An interrupt (SIGINT, SIGTERM) stops it with [`Code::Canceled`] and
/// keeps what is there.
pub async fn run(
    request: CopyRequest,
    config: DataplaneConfig,
    registry: Registry,
    progress: Progress<'_>,
) -> Result<Copied, Error> {
    let began = Instant::now();
    registry.source(&request.source, &request.source_options)?;
    registry.destination(&request.destination, &Options::new())?;
    let mut notebook = Notebook::open(&request)?;
    let dataplane = Dataplane::start(config, registry)?;
    let (told, mut hear) = mpsc::unbounded_channel();
    let bytes_resumed = notebook.notes.checkpoint.iter().map(|known| known.range.len()).sum();
    let handle = dataplane.attempt(notebook.spec(&request), |_| Box::new(Teller(told)));
    let mut interrupted = false;
    loop {
        let event = tokio::select! {
            event = hear.recv() => event,
            () = interrupt(), if !interrupted => {
                interrupted = true;
                handle.stop(StopReason::Shutdown);
                continue;
            }
        };
        match event {
            Some(Told::Checkpoint(report)) => {
                progress(report.ranges.iter().map(|known| known.range.len()).sum(), report.bytes_total);
                notebook.note(|notes| {
                    notes.checkpoint = report.ranges;
                    notes.validator = report.validator;
                })?;
                handle.reply(Reply::Checkpointed);
            }
            Some(Told::Prepare(completion)) => {
                notebook.note(|notes| notes.prepared = Some(completion))?;
                // Nobody else can take this copy over while the notebook is locked.
                handle.reply(Reply::Prepared { lease_until: Duration::MAX });
            }
            Some(Told::Finished(Outcome::Committed(completion))) => {
                notebook.remove();
                return Ok(Copied {
                    bytes_total: completion.bytes_total,
                    crc32: completion.crc32.map(|crc| format!("{crc:08x}")),
                    bytes_fetched: completion.bytes_fetched,
                    bytes_resumed,
                    seconds: began.elapsed().as_secs_f64(),
                });
            }
            Some(Told::Finished(Outcome::Failed { error })) => {
                if error.code == Code::SourceChanged {
                    notebook.note(Notes::forget)?;
                }
                return Err(error);
            }
            Some(Told::Finished(Outcome::Stopped { .. })) => {
                let message = "interrupted; run the same command again to go on from here";
                return Err(Error { message: message.into(), ..Error::canceled() });
            }
            None => return Err(Error::fatal(Code::Internal, "the attempt ended without a word")),
        }
    }
}

async fn interrupt() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = terminate.recv() => (),
        result = tokio::signal::ctrl_c() => if result.is_err() { std::future::pending().await },
    }
}

enum Told {
    Checkpoint(CheckpointReport),
    Prepare(Completion),
    Finished(Outcome),
}

/// Passes on what the attempt says. A receiver that is gone has had its last word.
struct Teller(mpsc::UnboundedSender<Told>);

impl Reporter for Teller {
    fn checkpoint(&mut self, report: CheckpointReport) {
        let _ = self.0.send(Told::Checkpoint(report));
    }

    fn prepare(&mut self, completion: Completion) {
        let _ = self.0.send(Told::Prepare(completion));
    }

    fn finished(self: Box<Self>, outcome: Outcome) {
        let _ = self.0.send(Told::Finished(outcome));
    }
}

/// Name of a copy among transfers: what its partial is called after.
const TRANSFER: &str = "copy";
const NOTES_VERSION: u32 = 1;

/// What is noted beside the destination.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Notes {
    version: u32,
    source: ObjectUrl,
    epoch: u64,
    validator: Option<Validator>,
    checkpoint: Vec<VerifiedRange>,
    prepared: Option<Completion>,
}

impl Notes {
    fn forget(&mut self) {
        self.validator = None;
        self.checkpoint.clear();
        self.prepared = None;
    }
}

/// The checkpoint file, locked. Destinations that are no files have none.
struct Notebook {
    place: Option<(PathBuf, File)>,
    notes: Notes,
}

impl Notebook {
    fn open(request: &CopyRequest) -> Result<Self, Error> {
        let fresh = Notes {
            version: NOTES_VERSION,
            source: request.source.clone(),
            epoch: 0,
            validator: None,
            checkpoint: Vec::new(),
            prepared: None,
        };
        let Some(path) = notebook_path(&request.destination) else {
            return Ok(Self { place: None, notes: Notes { epoch: 1, ..fresh } });
        };
        let failed =
            |error: &io::Error| Error::from_io(error, Code::WriteFailed, format_args!("open {}", path.display()));
        // The lock is on a file of its own: the notes are replaced as a whole.
        let lock_path = path.with_extension("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(|error| failed(&error))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(Error::fatal(
                Code::PartialBusy,
                format!("another copy to {} is running; wait for it or stop it", request.destination),
            ));
        }
        let known = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice::<Notes>(&bytes).ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(&error)),
        };
        let mut notes = match known {
            Some(known) if known.version == NOTES_VERSION && known.source == request.source => known,
            // Another object, or notes that cannot be read: the epoch grows all the same, so that leftovers are found.
            Some(known) => Notes { epoch: known.epoch, ..fresh },
            None => fresh,
        };
        notes.epoch += 1;
        let mut notebook = Self { place: Some((path, lock)), notes };
        notebook.note(|_| ())?;
        Ok(notebook)
    }

    fn spec(&self, request: &CopyRequest) -> AttemptSpec {
        AttemptSpec {
            transfer: TRANSFER.into(),
            epoch: self.notes.epoch,
            source_url: request.source.clone(),
            destination_url: request.destination.clone(),
            source_options: request.source_options.clone(),
            destination_options: Options::new(),
            part: Part::default(),
            overwrite: request.overwrite,
            checksum: request.checksum.clone(),
            rate_limit: request.rate_limit,
            chunk_size: None,
            validator: self.notes.validator.clone(),
            checkpoint: self.notes.checkpoint.clone(),
            prepared: self.notes.prepared,
        }
    }

    /// Changes the notes and makes them durable.
    fn note(&mut self, change: impl FnOnce(&mut Notes)) -> Result<(), Error> {
        change(&mut self.notes);
        let Some((path, _)) = &self.place else { return Ok(()) };
        replace(path, &serde_json::to_vec(&self.notes).expect("notes are plain values"))
            .map_err(|error| Error::from_io(&error, Code::WriteFailed, format_args!("write {}", path.display())))
    }

    /// The object has its name: nothing needs to be known any more.
    fn remove(self) {
        let Some((path, _lock)) = self.place else { return };
        for path in [path.with_extension("lock"), path] {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(%error, path = %path.display(), "a file of the copy stays behind");
            }
        }
    }
}

fn notebook_path(destination: &ObjectUrl) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    if destination.scheme() != "file" {
        return None;
    }
    let bytes: Vec<u8> = percent_decode_str(destination.url().path()).collect();
    let path = PathBuf::from(std::ffi::OsString::from_vec(bytes));
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name()?);
    name.push(".staccato-copy.json");
    Some(path.with_file_name(name))
}

/// Replaces a file as a whole, durably.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let aside = path.with_extension("json.new");
    let mut file = File::create(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}
