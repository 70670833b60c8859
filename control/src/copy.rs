//! `staccato copy`: the dataplane without a service.
//!
//! One object, moved by this process in one attempt. What is durable is noted in a checkpoint file beside the
//! destination (`notebook`), so that the same command, run again after a kill, an interrupt or a failure, goes on
//! where it stopped. Nothing stays behind that the next run could not use. Where the destination is no file there is no such
//! place: a copy that fails is given up there, and one that is killed may leave an upload behind
//! (`staccato protocol orphans` finds it).

mod notebook;

use std::{
    io,
    time::{Duration, Instant},
};

use notebook::Notebook;
use serde::Serialize;
use staccato_dataplane::{
    Dataplane, DataplaneConfig,
    attempt::{
        AttemptSpec, CheckpointReport, Checksum, Completion, Outcome, Part, Reply, Reporter, StartOver, StopReason,
    },
};
use staccato_protocols::{
    Code, Error, ObjectUrl, Options, Registry,
    contract::{Overwrite, SweepRequest},
};
use tokio::sync::mpsc;

use crate::signals::Signals;

/// What to copy, and how.
#[derive(Clone, Debug)]
pub struct CopyRequest {
    /// Where the object is.
    pub source: ObjectUrl,
    /// Where it shall be.
    pub destination: ObjectUrl,
    /// Options of the source.
    pub source_options: Options,
    /// Options of the destination.
    pub destination_options: Options,
    /// What to do with an object that is there already.
    pub overwrite: Overwrite,
    /// A checksum the object must have.
    pub checksum: Option<Checksum>,
    /// Bytes per second.
    pub rate_limit: Option<u64>,
    /// Connections to a source behind a network; as many as bring something when absent.
    pub connections: Option<u32>,
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
    /// Bytes that an earlier run had moved already and that this one went on from.
    pub bytes_resumed: u64,
    /// Seconds this run took.
    pub seconds: f64,
}

/// What happens on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// So many bytes are durable, of so many when that is known.
    Durable(u64, Option<u64>),
    /// So many bytes of an earlier run are of no use, for this reason: the copy began anew.
    StartedOver(u64, StartOver),
}

/// Who hears of it.
pub type Progress<'a> = &'a mut dyn FnMut(News);

/// Copies; `progress` hears of every checkpoint. An interrupt (SIGINT, SIGTERM) stops it with [`Code::Canceled`] and
/// keeps what is durable; a second one ends the process at once, which keeps the same.
pub async fn run(
    request: CopyRequest,
    config: DataplaneConfig,
    registry: Registry,
    progress: Progress<'_>,
) -> Result<Copied, Error> {
    let began = Instant::now();
    registry.source(&request.source, &request.source_options)?;
    registry.destination(&request.destination, &request.destination_options)?;
    let failed = |error: io::Error| Error::from_io(&error, Code::Internal, "listen to signals");
    let mut signals = Signals::new().map_err(failed)?;
    let dataplane = Dataplane::start(DataplaneConfig { attempts_max: 1, ..config }, registry.clone())?;
    let mut notebook = Notebook::open(&request.source, &request.destination)?;
    if !notebook.notes.are_worth_keeping() {
        sweep(&request, &registry, &notebook).await?;
    }
    let (told, mut hear) = mpsc::unbounded_channel();
    let mut bytes_resumed = notebook.notes.checkpoint.iter().map(|known| known.range.len()).sum();
    let handle = dataplane.attempt(spec(&request, &notebook), |_| Box::new(Teller(told)));
    let mut interrupted = false;
    loop {
        let event = tokio::select! {
            event = hear.recv() => event,
            _ = signals.next() => {
                if interrupted {
                    std::process::exit(1);
                }
                interrupted = true;
                handle.stop(StopReason::Shutdown);
                continue;
            }
        };
        match event {
            Some(Told::Checkpoint(report)) => {
                if let Some(reason) = report.started_over {
                    progress(News::StartedOver(bytes_resumed, reason));
                    bytes_resumed = 0;
                }
                let bytes_durable = report.ranges.iter().map(|known| known.range.len()).sum();
                progress(News::Durable(bytes_durable, report.bytes_total));
                notebook.note(|notes| {
                    notes.checkpoint = report.ranges;
                    notes.validator = report.validator;
                    notes.upload = report.upload;
                })?;
                handle.reply(Reply::Checkpointed);
            }
            Some(Told::Prepare(completion)) => {
                notebook.note(|notes| notes.prepared = Some(completion))?;
                // Nobody else can take this copy over while the notebook is locked.
                handle.reply(Reply::Prepared { lease_until: Duration::MAX });
            }
            Some(Told::Finished(Outcome::Committed(completion))) => {
                put_away(notebook);
                // A clone begins anew and takes no bytes over.
                let bytes_resumed = if completion.crc32.is_some() { bytes_resumed } else { 0 };
                return Ok(Copied {
                    bytes_total: completion.bytes_total,
                    crc32: completion.crc32.map(|crc| format!("{crc:08x}")),
                    bytes_fetched: completion.bytes_fetched,
                    bytes_resumed,
                    seconds: began.elapsed().as_secs_f64(),
                });
            }
            Some(Told::Finished(Outcome::Failed { error } | Outcome::CommitUnknown { error })) => {
                return Err(give_up(error, notebook, &request, &registry).await);
            }
            Some(Told::Finished(Outcome::Stopped { .. })) => {
                let error = Error { message: "interrupted".into(), ..Error::canceled() };
                return Err(give_up(error, notebook, &request, &registry).await);
            }
            None => return Err(Error::fatal(Code::Internal, "the attempt ended without a word")),
        }
    }
}

fn spec(request: &CopyRequest, notebook: &Notebook) -> AttemptSpec {
    let notes = &notebook.notes;
    AttemptSpec {
        transfer: notebook.transfer.clone(),
        epoch: notes.epoch,
        source_url: request.source.clone(),
        destination_url: request.destination.clone(),
        source_options: request.source_options.clone(),
        destination_options: request.destination_options.clone(),
        part: Part::default(),
        overwrite: request.overwrite,
        checksum: request.checksum.clone(),
        rate_limit: request.rate_limit,
        chunk_size: None,
        connections: request.connections,
        validator: notes.validator.clone(),
        checkpoint: notes.checkpoint.clone(),
        upload: notes.upload.clone(),
        prepared: notes.prepared,
        owner: None,
        swarm: None,
        transport: Default::default(),
        window: None,
    }
}

/// The end of a copy that did not succeed: keeps what another run can go on from, and says so; removes the rest.
async fn give_up(error: Error, mut notebook: Notebook, request: &CopyRequest, registry: &Registry) -> Error {
    let noted = notebook.note(|notes| match error.code {
        Code::SourceChanged | Code::ChecksumMismatch => notes.forget(),
        // The rename did not happen, and an object of somebody else is there.
        Code::DestinationExists => notes.prepared = None,
        _ => {}
    });
    if notebook.is_kept() && notebook.notes.are_worth_keeping() {
        let message = format!("{}; what is there is kept: the same command, run again, goes on from it", error.message);
        return Error { message, ..error };
    }
    let swept = match noted {
        Ok(()) => sweep(request, registry, &notebook).await,
        Err(error) => Err(error),
    };
    if let Err(trouble) = swept {
        let message = format!("{} (and something stays behind: {})", error.message, trouble.message);
        return Error { message, ..error };
    }
    put_away(notebook);
    error
}

/// Removes what earlier runs left beside the destination.
async fn sweep(request: &CopyRequest, registry: &Registry, notebook: &Notebook) -> Result<(), Error> {
    let leavings = SweepRequest {
        url: request.destination.clone(),
        options: request.destination_options.clone(),
        transfer: notebook.transfer.clone(),
        upload: notebook.notes.upload.clone(),
    };
    let module = registry.module(&request.destination)?.clone();
    tokio::task::spawn_blocking(move || module.sweep(&leavings)).await.expect("a module does not panic")
}

/// Removes the notes. What cannot be removed does no harm: the next copy replaces it.
fn put_away(notebook: Notebook) {
    if let Err(error) = notebook.remove() {
        tracing::warn!(%error, "the checkpoint file of the copy stays behind");
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
