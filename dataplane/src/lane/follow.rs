//! What a coordinator has read back for the checksums of its attempt.

use std::sync::Arc;

use staccato_protocols::{ByteRange, Checksum, ChecksumKind, Code, Error, contract::Writes};

use super::{
    checksums::Checksums,
    message::{Command, HashFrom, JobRef},
};

/// How checksums come about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// How the destination takes what is hashed.
    pub writes: Writes,
    /// What does not pass in order is read back in pieces of so many bytes.
    pub piece_bytes: u64,
    /// What comes early by at most so many bytes waits for its turn.
    pub hold_bytes: u64,
    /// Where the destination's first byte is in the source, which is read where the destination gives nothing back.
    pub source_shift: u64,
    /// Whether it is read back along the way, or only at the end.
    pub along: bool,
}

/// The checksums of one attempt's object.
pub(super) struct Follow {
    checksums: Arc<Checksums>,
    piece_bytes: u64,
    from: HashFrom,
    along: bool,
    /// Whether a run is under way.
    reading: bool,
}

impl Follow {
    /// From the front.
    pub fn start(kinds: &[ChecksumKind], manner: Manner) -> Result<Self, Error> {
        let Manner { writes, piece_bytes, hold_bytes, source_shift, along } = manner;
        let from = match writes {
            Writes::Anywhere => HashFrom::Written,
            Writes::Parts { .. } | Writes::InOrder => HashFrom::Source { shift: source_shift },
        };
        Ok(Self { checksums: Checksums::start(kinds, hold_bytes)?, piece_bytes, from, along, reading: false })
    }

    /// What lanes show their chunks to.
    pub fn checksums(&self) -> Arc<Checksums> {
        self.checksums.clone()
    }

    /// A range is written, and can be read back.
    pub fn note(&self, range: ByteRange) {
        self.checksums.note(range);
    }

    /// What a lane shall read back now, along the way.
    pub fn next(&mut self, job: JobRef) -> Option<Command> {
        if self.along { self.next_run(job) } else { None }
    }

    /// All of the object is there: in the destination's own object where that was `kept`. What a lane shall read back for
    /// the rest of it.
    pub fn rest(&mut self, length: u64, kept: bool, job: JobRef) -> Option<Command> {
        if kept {
            self.from = HashFrom::Present;
        }
        self.note(ByteRange::new(0, length).expect("0 is the smallest start"));
        self.next_run(job)
    }

    fn next_run(&mut self, job: JobRef) -> Option<Command> {
        let run = if self.reading { None } else { self.checksums.next_run() }?;
        self.reading = true;
        Some(Command::Hash { job, run, piece_bytes: self.piece_bytes, from: self.from })
    }

    /// A lane is through with what it was to read back.
    pub fn handle_hashed(&mut self, result: &Result<(), Error>) {
        assert!(self.reading, "only what was asked for is answered");
        self.reading = false;
        if let Err(error) = result {
            tracing::debug!(%error, "what is hashed is not read back before the end");
            self.along = false;
        }
    }

    /// Whether a lane reads back.
    pub fn is_reading(&self) -> bool {
        self.reading
    }

    /// Nobody will ask for them.
    pub fn give_up(&self) {
        self.checksums.give_up();
    }

    /// The checksums of `0..length`.
    pub fn finish(&self, length: u64) -> Result<Vec<Checksum>, Error> {
        self.checksums.of(length).ok_or_else(|| Error::fatal(Code::Internal, "some of the object was not hashed"))
    }
}
