//! What one end of a connection knows of its path, whatever is wrapped around it; and how the end that sends tells the one
//! that reads what became of its packets, which only the sender knows.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use super::{connection::Stream, frame::Frame};

/// How often a sender tells, at most.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// What this end has seen of a connection since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The shortest round trip.
    pub round_trip: Option<Duration>,
    /// Packets with data that it sent.
    pub sent: u64,
    /// Those of them that were lost, or (over TCP) sent again.
    pub lost: u64,
}

/// Looks at a connection. One that cannot be looked at has seen nothing.
#[derive(Clone, Default)]
pub struct Gauge(Option<Rc<dyn Fn() -> Option<Seen>>>);

impl Gauge {
    /// One that looks so.
    pub fn new(look: impl Fn() -> Option<Seen> + 'static) -> Self {
        Self(Some(Rc::new(look)))
    }

    /// What was seen; nothing of a connection that is gone.
    pub fn look(&self) -> Option<Seen> {
        self.0.as_ref()?()
    }
}

/// A connection as it was made.
pub struct Connected {
    /// What is read and written.
    pub stream: Box<dyn Stream>,
    /// What is seen of it.
    pub gauge: Gauge,
}

/// One that cannot be looked at.
impl From<Box<dyn Stream>> for Connected {
    fn from(stream: Box<dyn Stream>) -> Self {
        Self { stream, gauge: Gauge::default() }
    }
}

/// What a sender tells of its packets.
pub struct Reports {
    gauge: Gauge,
    /// What was seen when it was told last, and when that was.
    told: Seen,
    at: Instant,
}

impl Reports {
    /// What happens from now on.
    pub fn new(gauge: Gauge) -> Self {
        let told = gauge.look().unwrap_or_default();
        Self { gauge, told, at: Instant::now() }
    }

    /// What is to be told now, if anything is.
    pub fn due(&mut self) -> Option<Frame> {
        if self.at.elapsed() < REPORT_EVERY {
            return None;
        }
        let (seen, told) = (self.gauge.look()?, self.told);
        let more = |now: u64, before: u64| u32::try_from(now.saturating_sub(before)).unwrap_or(u32::MAX);
        let (packets, lost) = (more(seen.sent, told.sent), more(seen.lost, told.lost));
        (self.told, self.at) = (seen, Instant::now());
        (packets > 0).then_some(Frame::SenderReport { packets, lost })
    }
}
