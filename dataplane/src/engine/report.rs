//! What the ledger has been told, and what has to wait until it has recorded it.
//!
//! Invariant: a range that an earlier checkpoint promised, and that was found wrong, is fetched again only after a
//! checkpoint without it is recorded. Writing over it earlier would put at risk what is still promised: without a
//! sidecar a range is refuted as a whole, its right blocks among it, and a power cut can tear any of them.

use staccato_protocols::ByteRange;

/// The reports of one attempt.
#[derive(Clone, Debug)]
pub struct Report {
    bytes: u64,
    outstanding: bool,
    /// Refuted, and promised by what the ledger was told last.
    refuted: Vec<ByteRange>,
    /// Refuted, and left out of the report that is outstanding.
    withdrawing: Vec<ByteRange>,
}

impl Report {
    /// The ledger knows of `bytes` durable ones.
    pub fn new(bytes: u64) -> Self {
        Self { bytes, outstanding: false, refuted: Vec::new(), withdrawing: Vec::new() }
    }

    /// A promised range is not there.
    pub fn refute(&mut self, range: ByteRange) {
        self.refuted.push(range);
    }

    /// Whether the ledger should be told, now that `bytes` are durable.
    pub fn is_due(&self, bytes: u64) -> bool {
        !self.outstanding && (bytes > self.bytes || !self.refuted.is_empty())
    }

    /// The ledger is told of `bytes` durable ones, and of nothing that was refuted.
    pub fn send(&mut self, bytes: u64) {
        assert!(!self.outstanding, "one report at a time");
        self.outstanding = true;
        self.bytes = bytes;
        self.withdrawing = std::mem::take(&mut self.refuted);
    }

    /// The ledger has recorded it. Returns what it promises no more, to be fetched again.
    pub fn recorded(&mut self) -> Vec<ByteRange> {
        self.outstanding = false;
        std::mem::take(&mut self.withdrawing)
    }

    /// Whether an answer is outstanding.
    pub fn is_outstanding(&self) -> bool {
        self.outstanding
    }

    /// Whether refuted ranges wait for the ledger.
    pub fn holds_back(&self) -> bool {
        !self.refuted.is_empty() || !self.withdrawing.is_empty()
    }

    /// Durable bytes that it told last.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}
