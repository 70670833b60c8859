//! The body of an answer, on its way into a buffer.

use std::{io, time::Duration};

use bytes::{Buf, Bytes};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use tokio::time::{Instant, timeout_at};

use super::{answer::Head, tls};
use crate::{Code, Error, chunk::BlockCrcs};

/// A body that must keep moving.
pub(crate) struct Body {
    head: Head,
    incoming: Incoming,
    /// What arrived and was not asked for yet.
    rest: Bytes,
    ended: bool,
    pace: Pace,
}

/// Fewer bytes than this within `stall_timeout` count as a stall: a server that sends a byte now and then holds a slot
/// for ever. (The idea is that of curl's `speed-limit` and `speed-time`.) With the default of 20 s it is 205 bytes per
/// second and connection.
pub(crate) const STALL_BYTES_MIN: u64 = 4 << 10;

/// So much is copied and then checksummed at a time: it stays in a core's own cache in between.
const CACHED_BYTES: usize = 64 << 10;

/// How long to wait for bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Longest wait for an answer, and for each [`STALL_BYTES_MIN`] bytes of it.
    pub stall: Duration,
    /// When the object must have been read.
    pub deadline: Option<Instant>,
}

impl Body {
    pub fn new(head: Head, incoming: Incoming, pace: Pace) -> Self {
        Self { head, incoming, rest: Bytes::new(), ended: false, pace }
    }

    /// What came before it.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The same, to set right what a server spells in its own way.
    pub fn head_mut(&mut self) -> &mut Head {
        &mut self.head
    }

    /// The same, without what follows.
    pub fn into_head(self) -> Head {
        self.head
    }

    /// Its length in bytes, or a bound of it, where its head tells.
    pub fn upper_bound(&self) -> Option<u64> {
        self.incoming.size_hint().upper()
    }

    /// A document of at most `bytes_max` bytes, whole.
    pub async fn document(&mut self, bytes_max: usize) -> Result<Vec<u8>, Error> {
        let mut limit = Limit::new(self.pace, Instant::now());
        let mut document = Vec::new();
        while self.more(&mut limit).await? {
            if document.len() + self.rest.len() > bytes_max {
                return Err(self.head.violation(format_args!("answered with more than {bytes_max} bytes")));
            }
            document.extend_from_slice(&std::mem::take(&mut self.rest));
        }
        Ok(document)
    }

    /// Fills `buffer` and returns how much of it; less than all only where the body ends, as its framing says. `crcs`
    /// is told of the bytes as they come.
    pub async fn fill(&mut self, buffer: &mut [u8], crcs: &mut BlockCrcs) -> Result<usize, Error> {
        let mut limit = Limit::new(self.pace, Instant::now());
        let mut filled = 0;
        while filled < buffer.len() && self.more(&mut limit).await? {
            let count = self.rest.len().min(buffer.len() - filled).min(CACHED_BYTES);
            // The one copy: from the connection's read buffer into the pool's.
            let piece = &mut buffer[filled..filled + count];
            self.rest.copy_to_slice(piece);
            crcs.update(piece);
            filled += count;
        }
        Ok(filled)
    }

    /// Reads and forgets `count` bytes; returns how many there were before the body ended.
    pub async fn skip(&mut self, count: u64) -> Result<u64, Error> {
        let mut limit = Limit::new(self.pace, Instant::now());
        let mut left = count;
        while left > 0 && self.more(&mut limit).await? {
            let step = left.min(self.rest.len() as u64);
            self.rest.advance(step as usize);
            left -= step;
        }
        Ok(count - left)
    }

    /// Whether nothing follows. Reads up to the mark of the end, so that the connection can be used again.
    pub async fn is_at_end(&mut self) -> Result<bool, Error> {
        Ok(!self.more(&mut Limit::new(self.pace, Instant::now())).await?)
    }

    /// The error for a body that ended, properly by its own framing, before what its headers had promised.
    pub fn ended_early(&self, got: u64, wanted: u64) -> Error {
        let code = if self.head.ends_by_close() { Code::ConnectionLost } else { Code::ProtocolViolation };
        Error::retry(code, format!("{} ended after {got} of {wanted} bytes", self.head.url))
    }

    /// Whether there are bytes in `rest`, waiting for them if need be; false at the end.
    async fn more(&mut self, limit: &mut Limit) -> Result<bool, Error> {
        if !self.rest.is_empty() {
            return Ok(true);
        }
        if self.ended {
            return Ok(false);
        }
        // Frames without data do not count as progress.
        loop {
            match limit.keep(self.incoming.frame(), &self.head.url).await? {
                None => {
                    self.ended = true;
                    return Ok(false);
                }
                Some(Err(error)) => return Err(self.broken(&error)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data()
                        && !data.is_empty()
                    {
                        limit.advance(data.len() as u64, Instant::now());
                        self.rest = data;
                        return Ok(true);
                    }
                }
            }
        }
    }

    fn broken(&self, error: &hyper::Error) -> Error {
        classify(error, &self.head.url)
    }
}

/// The end of a wait: too little arrived for too long, or the object's time is over.
pub(crate) struct Limit {
    pace: Pace,
    /// Bytes of the body that arrived since the wait began; fewer than [`STALL_BYTES_MIN`].
    arrived: u64,
    at: Instant,
    error: LimitError,
}

enum LimitError {
    Stalled,
    TimedOut,
}

impl Limit {
    /// A wait that begins now.
    pub fn new(pace: Pace, now: Instant) -> Self {
        let stalled = now + pace.stall;
        let (at, error) = match pace.deadline {
            Some(deadline) if deadline < stalled => (deadline, LimitError::TimedOut),
            _ => (stalled, LimitError::Stalled),
        };
        Self { pace, arrived: 0, at, error }
    }

    /// Bytes of the body arrived; with enough of them the wait begins anew.
    fn advance(&mut self, bytes: u64, now: Instant) {
        self.arrived += bytes;
        if self.arrived >= STALL_BYTES_MIN {
            *self = Self::new(self.pace, now);
        }
    }

    /// Waits for `future`, but not past the limit.
    pub async fn keep<T>(&self, future: impl Future<Output = T>, url: &str) -> Result<T, Error> {
        timeout_at(self.at, future).await.map_err(|_| match self.error {
            LimitError::Stalled => Error::retry(
                Code::Stalled,
                format!(
                    "{url} gave {} bytes within {:?}; raise stall_timeout if it is so slow",
                    self.arrived, self.pace.stall
                ),
            ),
            LimitError::TimedOut => timed_out(url),
        })
    }
}

/// The error when an object's total time-out has passed. Another attempt would begin with a new allowance; a client
/// that set a limit does not mean that.
pub(crate) fn timed_out(url: &str) -> Error {
    Error::fatal(Code::TimedOut, format!("{url} was not read within total_timeout; raise it, or leave it out"))
}

/// What a failure while sending a request or reading its answer means.
pub(crate) fn classify(error: &hyper::Error, url: &str) -> Error {
    // hyper reports a broken chunk header as an I/O error of this kind.
    let unreadable = || {
        tls::causes(error)
            .filter_map(|cause| cause.downcast_ref::<io::Error>())
            .any(|cause| matches!(cause.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData))
    };
    let cause = tls::causes(error).last().map(ToString::to_string).unwrap_or_default();
    if tls::tls_cause(error).is_none() && (error.is_parse() || unreadable()) {
        Error::retry(Code::ProtocolViolation, format!("{url} sent something that is not HTTP ({error}: {cause})"))
    } else {
        Error::retry(Code::ConnectionLost, format!("the connection to {url} broke ({error}: {cause})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_begins_anew_with_every_four_kibibytes_and_never_outlasts_the_deadline() {
        let (begun, stall) = (Instant::now(), Duration::from_secs(20));
        let later = |seconds| begun + Duration::from_secs(seconds);
        let mut limit = Limit::new(Pace { stall, deadline: Some(later(35)) }, begun);
        limit.advance(STALL_BYTES_MIN - 1, later(10));
        assert_eq!(limit.at, later(20), "too little");
        limit.advance(1, later(12));
        assert_eq!((limit.at, limit.arrived), (later(32), 0));
        limit.advance(1 << 20, later(16));
        assert_eq!(limit.at, later(35));
        assert!(matches!(limit.error, LimitError::TimedOut));
    }
}
