//! Which transport a link is best served by. Pure: it is told what moved and when, and says what to use next, and why.
//!
//! On a link that nothing is known of, both are tried, one after the other, until each is as fast as it becomes; then the
//! faster one is used. What counts is time in which something was under way, over as many objects as it takes: a trial ends
//! when a [`WINDOW`] of it was hardly faster than the one before, and after [`TRIAL`] in any case. What it reaches is
//! followed. Now and then, and when it has become much slower than it was, the other one is tried again. One that fails to
//! connect is not used for a while, which grows as it goes on failing; a UDP path that is blocked costs one time-out, and
//! then rarely another.

use std::{fmt, time::Duration};

/// How long each is tried at most, and in how much time the one that is used is measured.
pub const TRIAL: Duration = Duration::from_millis(1500);
/// Speeds are those of so much time at least: shorter than what a fast link needs for one image.
pub const WINDOW: Duration = Duration::from_millis(60);
/// And of so many bytes at least: fewer say nothing about a link.
pub const WINDOW_BYTES_MIN: u64 = 8 << 20;
/// Where a window is so much faster than the one before, the next one may be faster still.
pub const GROWING: f64 = 1.15;
/// How long what was measured of the one that is not used is believed.
pub const BELIEVED: Duration = Duration::from_secs(600);
/// Below this part of its best, the one that is used counts as having become slow.
pub const SLOW: f64 = 0.5;
/// The other one must have been so much faster.
pub const MARGIN: f64 = 1.05;
/// How long one that failed is not used, at first and at most.
pub const SHUNNED: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));

/// A way for bytes to cross the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// TCP, inside TLS or plain.
    Tcp,
    /// QUIC.
    Quic,
}

/// What is known of one link.
#[derive(Clone, Debug, Default)]
pub struct Chooser {
    tcp: Known,
    quic: Known,
    /// The one in use, since when, and what it has moved since.
    now: Option<Use>,
}

/// What is known of one transport on it.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// Bytes per second when it was last measured, and when that was.
    goodput: Option<(f64, Duration)>,
    /// Not to be used before this time, after it has failed so often in a row.
    shunned: Option<(Duration, u32)>,
}

#[derive(Clone, Copy, Debug)]
struct Use {
    kind: Kind,
    /// Whether nothing is known of it yet, or nothing that is still believed.
    is_trial: bool,
    /// Since when something has moved without a pause, and when it did last; none while nothing is under way.
    moving: Option<(Duration, Duration)>,
    /// What is measured of it, this window alone, the one before, and all together.
    window: Moved,
    before: Option<Moved>,
    total: Moved,
    /// The best that was measured of it lately.
    best: f64,
}

/// Bytes that have moved, and in how much time.
#[derive(Clone, Copy, Debug, Default)]
struct Moved {
    bytes: u64,
    took: Duration,
}

impl Moved {
    fn and(self, other: Self) -> Self {
        Self { bytes: self.bytes + other.bytes, took: self.took + other.took }
    }

    fn per_second(self) -> f64 {
        self.bytes as f64 / self.took.as_secs_f64().max(1e-9)
    }
}

impl Use {
    fn new(kind: Kind, is_trial: bool, best: f64) -> Self {
        let (window, total) = (Moved::default(), Moved::default());
        Self { kind, is_trial, moving: None, window, before: None, total, best }
    }

    /// Bytes have come. Bytes per second, once that is known; then a measurement is over, and the next one begins.
    fn moved(&mut self, bytes: u64, now: Duration) -> Option<f64> {
        let Some((since, last)) = &mut self.moving else {
            // The first to come tell when it began, not how fast it is.
            self.moving = Some((now, now));
            return None;
        };
        *last = now;
        let window = self.window.and(Moved { bytes, took: now.saturating_sub(*since) });
        if window.took < WINDOW || window.bytes < WINDOW_BYTES_MIN {
            self.window.bytes += bytes;
            return None;
        }
        self.moving = Some((now, now));
        self.total = self.total.and(window);
        let is_steady = self.before.is_some_and(|before| window.per_second() < before.per_second() * GROWING);
        if self.total.took < TRIAL && !(self.is_trial && is_steady) {
            (self.before, self.window) = (Some(window), Moved::default());
            return None;
        }
        // A trial begins slowly: that is not what comes of it.
        let measured = if self.is_trial { window.and(self.before.unwrap_or_default()) } else { self.total };
        let goodput = measured.per_second();
        *self = Self { moving: self.moving, ..Self::new(self.kind, false, self.best.max(goodput)) };
        Some(goodput)
    }

    /// Nothing is under way any more: what comes next goes on with the measurement.
    fn pause(&mut self) {
        let (since, last) = self.moving.take().unwrap_or_default();
        self.window.took += last.saturating_sub(since);
    }
}

impl Chooser {
    /// What to use for what is asked for now.
    pub fn choose(&mut self, now: Duration) -> Kind {
        let usable = |kind: Kind| self.known(kind).shunned.is_none_or(|(until, _)| now >= until);
        let kind = match self.now {
            Some(current) if usable(current.kind) => match current.kind.other() {
                other if self.wants_trial(other, now) && self.is_measured(current.kind) => other,
                _ => current.kind,
            },
            Some(current) => current.kind.other(),
            None if usable(Kind::Tcp) => Kind::Tcp,
            None => Kind::Quic,
        };
        if self.now.is_none_or(|current| current.kind != kind) {
            self.now = Some(Use::new(kind, !self.is_measured(kind) || self.wants_trial(kind, now), 0.0));
        }
        kind
    }

    /// What to use for something that nothing shall be learnt from: the faster one where both were measured, and TCP where
    /// they were not, as long as it connects.
    pub fn settled(&self, now: Duration) -> Kind {
        let usable = |kind: Kind| self.known(kind).shunned.is_none_or(|(until, _)| now >= until);
        let quic_is_faster =
            self.goodput(Kind::Quic).zip(self.goodput(Kind::Tcp)).is_some_and(|(quic, tcp)| quic > tcp * MARGIN);
        let first = if quic_is_faster { Kind::Quic } else { Kind::Tcp };
        if usable(first) { first } else { first.other() }
    }

    /// Bytes have come over a transport.
    pub fn handle_moved(&mut self, kind: Kind, bytes: u64, now: Duration) {
        self.known_mut(kind).shunned = None;
        let Some(current) = self.now.as_mut().filter(|current| current.kind == kind) else { return };
        let Some(goodput) = current.moved(bytes, now) else { return };
        let best = current.best;
        self.known_mut(kind).goodput = Some((goodput, now));
        let other = kind.other();
        if let Some((theirs, _)) = self.known(other).goodput
            && theirs > goodput * MARGIN
            && self.known(other).shunned.is_none()
        {
            self.now = Some(Use::new(other, false, theirs));
        } else if goodput < best * SLOW {
            // What was measured of the other one is of a time when this one was faster, too.
            self.known_mut(other).goodput = None;
            self.now.iter_mut().for_each(|current| current.best = goodput);
        }
    }

    /// Nothing is under way any more: until something is, no time counts.
    pub fn handle_idle(&mut self) {
        if let Some(current) = &mut self.now {
            current.pause();
        }
    }

    /// A connection could not be made, or broke.
    pub fn handle_failed(&mut self, kind: Kind, now: Duration) {
        let failed = self.known(kind).shunned.map_or(0, |(_, times)| times);
        let wait = SHUNNED.0.saturating_mul(1 << failed.min(10)).min(SHUNNED.1);
        // Where both fail, it is the link: neither is worse than the other.
        if self.known(kind.other()).shunned.is_some_and(|(until, _)| now < until) {
            self.known_mut(kind.other()).shunned = None;
        }
        let known = self.known_mut(kind);
        known.shunned = Some((now + wait, failed + 1));
        known.goodput = None;
    }

    /// The transport in use, and why, for people; none before something was asked for.
    pub fn reason(&self, now: Duration) -> Option<(Kind, String)> {
        let kind = self.now?.kind;
        let other = kind.other();
        let shown = |kind: Kind| {
            let (goodput, _) = self.known(kind).goodput?;
            Some(format!("{kind} {:.0} MB/s", goodput / 1e6))
        };
        let why = match (self.known(other).shunned, shown(kind), shown(other)) {
            (Some((until, times)), ..) if now < until => {
                let seconds = (until - now).as_secs();
                format!("{other} has failed {times} times; tried again in {seconds} s")
            }
            (_, Some(own), Some(theirs)) => format!("measured: {own}, {theirs}"),
            (_, None, Some(theirs)) => format!("being measured; {theirs}"),
            (_, Some(own), None) => format!("measured: {own}; {other} is to be tried"),
            (_, None, None) => "being measured, nothing is known of this link yet".to_owned(),
        };
        Some((kind, why))
    }

    /// Bytes per second that were last measured.
    pub fn goodput(&self, kind: Kind) -> Option<f64> {
        self.known(kind).goodput.map(|(goodput, _)| goodput)
    }

    fn wants_trial(&self, kind: Kind, now: Duration) -> bool {
        let known = self.known(kind);
        known.shunned.is_none_or(|(until, _)| now >= until)
            && known.goodput.is_none_or(|(_, at)| now.saturating_sub(at) > BELIEVED)
    }

    fn is_measured(&self, kind: Kind) -> bool {
        self.known(kind).goodput.is_some()
    }

    fn known(&self, kind: Kind) -> &Known {
        match kind {
            Kind::Tcp => &self.tcp,
            Kind::Quic => &self.quic,
        }
    }

    fn known_mut(&mut self, kind: Kind) -> &mut Known {
        match kind {
            Kind::Tcp => &mut self.tcp,
            Kind::Quic => &mut self.quic,
        }
    }
}

impl Kind {
    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::Tcp => Self::Quic,
            Self::Quic => Self::Tcp,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Quic => "quic",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(10);

    /// A link with these bytes per second; none: it does not connect.
    struct Link {
        chooser: Chooser,
        now: Duration,
        tcp: Option<f64>,
        quic: Option<f64>,
    }

    impl Link {
        fn new(tcp: Option<f64>, quic: Option<f64>) -> Self {
            Self { chooser: Chooser::default(), now: Duration::from_secs(1000), tcp, quic }
        }

        /// Moves for so long; the bytes over each, and how often neither moved.
        fn run(&mut self, time: Duration) -> (u64, u64, u32) {
            let end = self.now + time;
            let (mut tcp, mut quic, mut failed) = (0, 0, 0);
            while self.now < end {
                let kind = self.chooser.choose(self.now);
                let (speed, moved) = match kind {
                    Kind::Tcp => (self.tcp, &mut tcp),
                    Kind::Quic => (self.quic, &mut quic),
                };
                self.now += STEP;
                match speed {
                    Some(speed) => {
                        let bytes = (speed * STEP.as_secs_f64()) as u64;
                        *moved += bytes;
                        self.chooser.handle_moved(kind, bytes, self.now);
                    }
                    None => {
                        failed += 1;
                        self.now += Duration::from_secs(10);
                        self.chooser.handle_failed(kind, self.now);
                    }
                }
            }
            (tcp, quic, failed)
        }
    }

    #[test]
    fn the_faster_one_is_used_after_both_were_tried() {
        for (tcp, quic, best) in [(900e6, 500e6, Kind::Tcp), (12e6, 100e6, Kind::Quic)] {
            let mut link = Link::new(Some(tcp), Some(quic));
            link.run(Duration::from_secs(5));
            assert_eq!(link.chooser.choose(link.now), best);
            link.chooser.handle_idle();
            let (by_tcp, by_quic, _) = link.run(Duration::from_secs(60));
            let (good, bad) = if best == Kind::Tcp { (by_tcp, by_quic) } else { (by_quic, by_tcp) };
            assert!(bad == 0 && good > 0, "the second time only the best is used: {by_tcp} {by_quic}");
            assert!(link.chooser.reason(link.now).unwrap().1.starts_with("measured"));
        }
    }

    #[test]
    fn who_tries_nothing_uses_what_is_known_to_be_good_and_tcp_before() {
        let mut link = Link::new(Some(12e6), Some(100e6));
        assert_eq!(link.chooser.settled(link.now), Kind::Tcp);
        link.chooser.handle_failed(Kind::Tcp, link.now);
        assert_eq!(link.chooser.settled(link.now), Kind::Quic, "the other one does not connect");
        assert_eq!(link.chooser.settled(link.now + SHUNNED.1), Kind::Tcp);
        link.run(Duration::from_secs(60));
        assert_eq!(link.chooser.settled(link.now), Kind::Quic, "it was measured");
    }

    /// Objects of so many bytes, one after the other, in chunks of 4 MiB over a link that becomes fast only with time; for
    /// each, the transports that had a part in it.
    fn objects(bytes: u64, speed: impl Fn(Kind, Duration) -> f64, count: usize) -> Vec<Vec<Kind>> {
        const CHUNK: u64 = 4 << 20;
        let (mut chooser, mut now, mut used) = (Chooser::default(), Duration::from_secs(1000), Vec::new());
        for _ in 0..count {
            let mut kinds: Vec<Kind> = Vec::new();
            let began = now;
            for _ in 0..bytes / CHUNK {
                let kind = chooser.choose(now);
                now += Duration::from_secs_f64(CHUNK as f64 / speed(kind, now - began));
                chooser.handle_moved(kind, CHUNK, now);
                if kinds.last() != Some(&kind) {
                    kinds.push(kind);
                }
            }
            chooser.handle_idle();
            now += Duration::from_secs(5);
            used.push(kinds);
        }
        used
    }

    #[test]
    fn one_image_over_a_fast_link_is_enough_to_know_it() {
        let speed = |kind, _| if kind == Kind::Quic { 1.3e9 } else { 0.9e9 };
        let used = objects(256 << 20, speed, 3);
        assert_eq!(used, [vec![Kind::Tcp, Kind::Quic], vec![Kind::Quic], vec![Kind::Quic]]);
    }

    #[test]
    fn many_objects_that_are_too_short_for_a_trial_are_one_together() {
        let speed = |kind, _| if kind == Kind::Quic { 1.3e9 } else { 0.9e9 };
        let used = objects(16 << 20, speed, 40);
        assert_eq!((&used[0], &used[39]), (&vec![Kind::Tcp], &vec![Kind::Quic]));
    }

    #[test]
    fn a_slow_start_is_not_what_comes_of_a_trial() {
        // TCP is at its best after a second; QUIC at once, and only half of it.
        let speed = |kind, since: Duration| match kind {
            Kind::Tcp => 100e6 * since.as_secs_f64().clamp(0.05, 1.0),
            Kind::Quic => 50e6,
        };
        let used = objects(1 << 30, speed, 2);
        assert_eq!(used[0].last(), Some(&Kind::Tcp), "{used:?}");
    }

    #[test]
    fn what_is_alike_is_not_changed_to_and_fro() {
        let mut link = Link::new(Some(100e6), Some(103e6));
        link.run(Duration::from_secs(10));
        let first = link.chooser.choose(link.now);
        for _ in 0..100 {
            link.run(Duration::from_secs(1));
            assert_eq!(link.chooser.choose(link.now), first);
        }
    }

    #[test]
    fn a_blocked_path_costs_little() {
        let mut link = Link::new(Some(100e6), None);
        let (tcp, _, failed) = link.run(Duration::from_secs(3600));
        assert!(failed <= 12, "tried {failed} times in an hour");
        assert!(tcp as f64 > 100e6 * 3400.0);
        assert!(link.chooser.reason(link.now).unwrap().1.contains("quic has failed"));
        // Also when the first one is what is blocked.
        let mut link = Link::new(None, Some(100e6));
        let (_, quic, failed) = link.run(Duration::from_secs(3600));
        assert!(failed <= 12 && quic as f64 > 100e6 * 3400.0, "{failed} {quic}");
    }

    #[test]
    fn where_nothing_connects_both_are_tried_in_turn() {
        let mut link = Link::new(None, None);
        let (mut tcp, mut quic) = (0, 0);
        for _ in 0..100 {
            match link.chooser.choose(link.now) {
                Kind::Tcp => tcp += 1,
                Kind::Quic => quic += 1,
            }
            link.run(STEP);
        }
        assert!(tcp > 10 && quic > 10, "{tcp} {quic}");
    }

    #[test]
    fn a_link_that_changes_is_measured_again() {
        let mut link = Link::new(Some(100e6), Some(80e6));
        link.run(Duration::from_secs(20));
        assert_eq!(link.chooser.choose(link.now), Kind::Tcp);
        // Something is lost now, and only one of them bears it.
        (link.tcp, link.quic) = (Some(10e6), Some(70e6));
        link.run(Duration::from_secs(20));
        assert_eq!(link.chooser.choose(link.now), Kind::Quic);
        // And much later, it is as it was: the other one gets its chance.
        (link.tcp, link.quic) = (Some(100e6), Some(80e6));
        link.run(BELIEVED * 2);
        assert_eq!(link.chooser.choose(link.now), Kind::Tcp);
    }
}
