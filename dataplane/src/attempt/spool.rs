//! Two movements instead of one: from the source into the [spool](staccato_protocols::spool), and from there to the
//! destination.
//!
//! That way a destination which takes one stream never makes anybody fetch a source twice, whatever breaks behind it,
//! and a source that can only be read from the front is read on, or again, without what has arrived being sent again.
//! The first movement is an attempt of its own, whose destination is a file and whose ledger is a file beside it.

use std::{fs, io::Write as _, path::Path, time::Duration};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use staccato_protocols::{
    Access, Capabilities, Code, Error, Object, ObjectUrl, Options, Validator,
    contract::{Found, Overwrite, SharedProtocol, SourceRequest, Takes},
    file::{FileProtocol, Root, RootAccess, Roots},
    spool::{Entry, Spool},
};

use super::{
    AttemptSpec, CheckpointReport, Completion, Notice, Outcome, Part, Reply, Reporter, VerifiedRange,
    run::{self, Bench, Modules, is_local, request_of},
};
use crate::lane::{coordinator::Coordinator, message::Input};

/// What the transfer of a spool's entry is called.
const TRANSFER: &str = "spool";
/// What is durable of an entry, and of which version.
const NOTES: &str = "notes.json";

/// Runs an attempt through the spool, where that is needed and there is one; none where it is not.
pub(super) fn run(
    bench: &Bench<'_>,
    spec: &AttemptSpec,
    modules: &Modules,
    reporter: &mut dyn Reporter,
) -> Option<Outcome> {
    let spool = bench.spool?;
    let takes = modules.destination.capabilities().takes;
    if takes == Takes::Anywhere || is_local(&modules.source) {
        return None;
    }
    match through(bench, spool, spec, modules, takes, reporter) {
        Ok(outcome) => outcome,
        Err(error) => Some(Outcome::Failed { error }),
    }
}

fn through(
    bench: &Bench<'_>,
    spool: &Spool,
    spec: &AttemptSpec,
    modules: &Modules,
    takes: Takes,
    reporter: &mut dyn Reporter,
) -> Result<Option<Outcome>, Error> {
    let mut coordinator = Coordinator::new(bench.key, modules.source_lanes(bench)?, bench.inbox, bench.replies.clone());
    let interrupt = coordinator.interrupt();
    if let Some(prepared) = spec.prepared {
        // What may have been committed needs no source.
        let request = request_of(spec, interrupt.clone());
        let session = modules.destination.begin(&request)?;
        if session.found() == Found::Committed {
            return Ok(Some(Outcome::Committed(prepared)));
        }
    }
    let request = SourceRequest {
        url: spec.source_url.clone(),
        options: spec.source_options.clone(),
        pinned: spec.validator.clone(),
        aligned: true,
        interrupt: interrupt.clone(),
    };
    let opened = coordinator.open_source(0, &modules.source, &request);
    coordinator.close();
    if let Some(reason) = coordinator.stop_reason() {
        return Ok(Some(Outcome::Stopped { reason }));
    }
    let object = opened?;
    if takes == Takes::Parts && object.access == Access::Random {
        return Ok(None);
    }
    let key = key_of(spec, &object, &modules.source.capabilities());
    let length = part_length(spec.part, object.size);
    let entry = spool.enter(&key, length, &interrupt)?;
    let files = files_of(&entry)?;
    let mut bytes_fetched = 0;
    if !entry.is_complete() {
        let filling = Modules { source: modules.source.clone(), destination: files.clone() };
        let mut notes = Notes::begin(&entry, &object)?;
        let spec = filling_spec(spec, &entry, &notes, &object)?;
        let mut teller = Filling { bench, entry: &entry, spool, notes: &mut notes, reporter };
        match run::run_one(bench, &spec, &filling, &mut teller) {
            Outcome::Committed(completion) => bytes_fetched = completion.bytes_fetched,
            other => return Ok(Some(other)),
        }
    }
    entry.share()?;
    let request = SourceRequest {
        url: file_url(&entry.path())?,
        options: Options::new(),
        pinned: None,
        aligned: true,
        interrupt,
    };
    let held = coordinator.open_source(0, &files, &request);
    coordinator.close();
    let held = held?;
    let leaving = Modules { source: files, destination: modules.destination.clone() };
    let goes_on = object.validator.is_some() && spec.validator == object.validator;
    let spec = AttemptSpec {
        source_url: file_url(&entry.path())?,
        source_options: Options::new(),
        owner: None,
        swarm: None,
        part: Part::default(),
        validator: held.validator,
        checkpoint: if goes_on { spec.checkpoint.clone() } else { Vec::new() },
        rate_limit: None,
        ..spec.clone()
    };
    let mut teller = Leaving { bytes_fetched, object: &object, reporter };
    let outcome = run::run_one(bench, &spec, &leaving, &mut teller);
    if object.validator.is_none() {
        // Nobody could tell which version it is of.
        entry.remove()?;
    }
    Ok(Some(match outcome {
        Outcome::Committed(completion) => Outcome::Committed(Completion { bytes_fetched, ..completion }),
        other => other,
    }))
}

/// One version of one object, and the wanted part. Its URL counts without its query, since signatures change, and with the
/// options that are no secrets: one of them may say at which server it is.
fn key_of(spec: &AttemptSpec, object: &Object, module: &Capabilities) -> String {
    let Some(validator) = &object.validator else {
        return format!("{}-{}", spec.transfer, spec.epoch);
    };
    let mut url = spec.source_url.url().clone();
    url.set_query(None);
    let owner = spec.owner.as_ref().map(|owner| owner.host.as_str()).unwrap_or_default();
    let validator = serde_json::to_string(validator).expect("a validator is strings and numbers");
    let options = spec.source_options.iter().filter(|(name, _)| !module.is_secret(name));
    let options = serde_json::to_string(&options.collect::<Vec<_>>()).expect("options are strings");
    let what = [url.as_str(), owner, &validator, &options, &format!("{:?}", spec.part)].join("\n");
    HEXLOWER.encode(&Sha256::digest(what)[..20])
}

fn part_length(part: Part, size: Option<u64>) -> Option<u64> {
    part.end.or(size).map(|end| end.saturating_sub(part.start))
}

/// The module for the files of an entry.
fn files_of(entry: &Entry) -> Result<SharedProtocol, Error> {
    let root = Root::new(entry.folder(), RootAccess::ReadWrite)?;
    Ok(std::sync::Arc::new(FileProtocol::new(Roots::new(vec![root]))))
}

fn file_url(path: &Path) -> Result<ObjectUrl, Error> {
    let url = url::Url::from_file_path(path)
        .map_err(|()| Error::fatal(Code::Internal, "the folder of the spool must be an absolute path"))?;
    ObjectUrl::parse(url.as_str())
}

/// The first movement, as an attempt.
fn filling_spec(spec: &AttemptSpec, entry: &Entry, notes: &Notes, object: &Object) -> Result<AttemptSpec, Error> {
    Ok(AttemptSpec {
        transfer: TRANSFER.into(),
        epoch: notes.epoch,
        destination_url: file_url(&entry.path())?,
        destination_options: Options::new(),
        overwrite: Overwrite::Always,
        checksum: None,
        validator: object.validator.clone(),
        checkpoint: notes.checkpoint.clone(),
        upload: None,
        prepared: None,
        ..spec.clone()
    })
}

/// What is durable of an entry that is not complete.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Notes {
    epoch: u64,
    validator: Option<Validator>,
    checkpoint: Vec<VerifiedRange>,
}

impl Notes {
    /// Those of the entry, for one more attempt to fill it.
    fn begin(entry: &Entry, object: &Object) -> Result<Self, Error> {
        let found = fs::read(entry.folder().join(NOTES)).ok();
        // What cannot be read is worth nothing; the object is fetched again.
        let mut notes: Self = found.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        if notes.validator != object.validator || object.validator.is_none() {
            notes.checkpoint.clear();
        }
        notes.epoch += 1;
        notes.validator.clone_from(&object.validator);
        notes.write(entry)?;
        Ok(notes)
    }

    fn write(&self, entry: &Entry) -> Result<(), Error> {
        let write = || {
            let mut file = tempfile::NamedTempFile::new_in(entry.folder())?;
            serde_json::to_writer(&mut file, self)?;
            file.flush()?;
            file.as_file().sync_data()?;
            file.persist(entry.folder().join(NOTES)).map_err(|error| error.error).map(drop)
        };
        write().map_err(|error| Error::from_io(&error, Code::WriteFailed, "note what is in the spool"))
    }
}

/// The ledger of the first movement. What it hears, the transfer's own ledger hears too: nothing of it is at the
/// destination.
struct Filling<'a> {
    bench: &'a Bench<'a>,
    entry: &'a Entry,
    spool: &'a Spool,
    notes: &'a mut Notes,
    reporter: &'a mut dyn Reporter,
}

impl Filling<'_> {
    fn tell(&self, notice: Notice) {
        let _ = self.bench.replies.send(Input::Notice(notice));
    }
}

impl Reporter for Filling<'_> {
    fn checkpoint(&mut self, report: CheckpointReport) {
        self.notes.checkpoint.clone_from(&report.ranges);
        if let Err(error) = self.notes.write(self.entry) {
            tracing::warn!(%error, "what was fetched last would be fetched again");
        }
        let bytes = report.ranges.last().map_or(0, |known| known.range.end());
        if report.bytes_total.is_none() && !self.spool.fits(self.entry, bytes).unwrap_or(true) {
            tracing::warn!(bytes, "an object of unknown length outgrows its part of the spool");
        }
        // Its answer is the answer to this one.
        self.reporter.checkpoint(CheckpointReport { ranges: Vec::new(), started_over: None, ..report });
    }

    fn prepare(&mut self, _completion: Completion) {
        // Whoever holds the entry may commit it.
        self.tell(Notice::Reply(Reply::Prepared { lease_until: Duration::MAX }));
    }

    fn finished(self: Box<Self>, _outcome: Outcome) {}
}

/// The transfer's ledger during the second movement: it knows of the source only.
struct Leaving<'a> {
    bytes_fetched: u64,
    object: &'a Object,
    reporter: &'a mut dyn Reporter,
}

impl Reporter for Leaving<'_> {
    fn checkpoint(&mut self, report: CheckpointReport) {
        self.reporter.checkpoint(CheckpointReport {
            validator: self.object.validator.clone(),
            bytes_fetched: self.bytes_fetched,
            ..report
        });
    }

    fn prepare(&mut self, completion: Completion) {
        self.reporter.prepare(Completion { bytes_fetched: self.bytes_fetched, ..completion });
    }

    fn finished(self: Box<Self>, _outcome: Outcome) {}
}
