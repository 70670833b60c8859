//! What can go wrong with a plug-in from outside.

use std::{fmt, io, process::ExitStatus, time::Duration};

use super::protocol::LINE_BYTES_MAX;
use crate::config::display_size;

/// Why a plug-in is not asked any more. Said behind its name.
#[derive(Debug)]
pub(super) enum Fault {
    /// It took too long.
    Silent(Duration),
    /// It ended by itself, or closed a pipe (then there is no status).
    Ended(Option<ExitStatus>),
    /// It wrote a line without end.
    Flood,
    /// It wrote what is not understood, or not allowed.
    Garbage(String),
    /// The operating system does not let it be heard.
    Pipe(io::Error),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent(limit) => write!(f, "did not answer within {}", humantime::format_duration(*limit)),
            Self::Ended(Some(status)) => write!(f, "ended ({status})"),
            Self::Ended(None) => f.write_str("closed its input or output"),
            Self::Flood => write!(f, "wrote a line of more than {}", display_size(LINE_BYTES_MAX as u64)),
            Self::Garbage(why) => write!(f, "said what is not understood: {why}"),
            Self::Pipe(error) => write!(f, "cannot be heard: {error}"),
        }
    }
}
