//! What happened, as text: to be read after a failure, and to tell whether two runs were the same.

use std::{
    fmt::{Debug, Write},
    time::Duration,
};

/// One line for each thing that happened.
#[derive(Clone, Debug, Default)]
pub(super) struct Trace {
    text: String,
}

impl Trace {
    pub fn note(&mut self, now: Duration, what: &dyn Debug) {
        writeln!(self.text, "{:>12.6} {what:?}", now.as_secs_f64()).expect("strings take everything");
    }

    pub fn headline(&mut self, what: &dyn Debug) {
        writeln!(self.text, "== {what:?}").expect("strings take everything");
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// The same for the same text.
    pub fn digest(&self) -> u32 {
        crc32fast::hash(self.text.as_bytes())
    }
}
