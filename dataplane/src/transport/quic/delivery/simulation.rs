//! Senders of packets that this control lets go, on one path: seconds of it, in milliseconds.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::{Duration, Instant},
};

use super::*;

const PACKET: u64 = 1452;
/// Acknowledged together.
const TOGETHER: usize = 10;
/// The longest that an acknowledgement waits for others.
const ACK_DELAY: Duration = Duration::from_millis(25);
/// So many packets behind one that has arrived, another one is lost (RFC 9002).
const REORDERED: u64 = 3;

/// What packets meet.
#[derive(Clone, Copy)]
struct Path {
    /// Bytes per second.
    rate: f64,
    queue_bytes: f64,
    round_trip: Duration,
    /// Share that is lost by itself.
    loss: f64,
    /// Both hosts look up this often.
    hosts_look: Duration,
}

impl Default for Path {
    fn default() -> Self {
        let (rate, round_trip) = (25e6, Duration::from_millis(50));
        let queue_bytes = rate * round_trip.as_secs_f64();
        Self { rate, queue_bytes, round_trip, loss: 0.0, hosts_look: Duration::from_micros(100) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Send(usize),
    Arrive(usize, u64),
    /// The receiver tells what has come.
    Tell(usize),
    Acked(usize, Vec<u64>),
}

struct Sender {
    control: Delivery,
    /// Under way: when each was sent.
    sent: BTreeMap<u64, Duration>,
    next: u64,
    smoothed: Duration,
    sends_at: Duration,
    came: Vec<u64>,
    delivered: u64,
    lost: u64,
    starts: Duration,
}

/// Senders on a path.
struct World {
    path: Path,
    now: Duration,
    began: Instant,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    sequence: u64,
    senders: Vec<Sender>,
    /// When the queue has left.
    free_at: Duration,
    random: fastrand::Rng,
    /// The longest wait in the queue since it was asked.
    longest: Duration,
}

impl World {
    fn new(path: Path, starts: &[f64], seed: u64) -> Self {
        let began = Instant::now();
        let sender = |starts: &f64| Sender {
            control: Delivery::new(began, PACKET as u16),
            sent: BTreeMap::new(),
            next: 0,
            smoothed: path.round_trip,
            sends_at: Duration::ZERO,
            came: Vec::new(),
            delivered: 0,
            lost: 0,
            starts: Duration::from_secs_f64(*starts),
        };
        let mut world = Self {
            path,
            now: Duration::ZERO,
            began,
            events: BinaryHeap::new(),
            sequence: 0,
            senders: starts.iter().map(sender).collect(),
            free_at: Duration::ZERO,
            random: fastrand::Rng::with_seed(seed),
            longest: Duration::ZERO,
        };
        for at in 0..world.senders.len() {
            world.later(world.senders[at].starts, Event::Send(at));
        }
        world
    }

    fn later(&mut self, at: Duration, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((at, self.sequence, event)));
    }

    /// When a host that has something to do then does it.
    fn looked(&self, at: Duration) -> Duration {
        let look = self.path.hosts_look.as_nanos().max(1);
        Duration::from_nanos((at.as_nanos().div_ceil(look) * look) as u64)
    }

    /// Lives for so many seconds; bytes per second of each sender, and the share of packets that were lost.
    fn live(&mut self, seconds: f64) -> (Vec<f64>, f64) {
        let before: Vec<_> = self.senders.iter().map(|sender| (sender.delivered, sender.lost)).collect();
        let until = self.now + Duration::from_secs_f64(seconds);
        self.longest = Duration::ZERO;
        while let Some(Reverse((at, _, _))) = self.events.peek()
            && *at <= until
        {
            let Some(Reverse((at, _, event))) = self.events.pop() else { break };
            self.now = at;
            match event {
                Event::Send(sender) => self.send(sender),
                Event::Arrive(sender, packet) => {
                    self.senders[sender].came.push(packet);
                    if self.senders[sender].came.len() == TOGETHER {
                        self.later(self.looked(at), Event::Tell(sender));
                    } else if self.senders[sender].came.len() == 1 {
                        self.later(at + ACK_DELAY, Event::Tell(sender));
                    }
                }
                Event::Tell(sender) => {
                    let came = std::mem::take(&mut self.senders[sender].came);
                    self.later(self.looked(at + self.path.round_trip / 2), Event::Acked(sender, came));
                }
                Event::Acked(sender, packets) => self.acked(sender, &packets),
            }
        }
        self.now = until;
        let now = self.senders.iter().map(|sender| (sender.delivered, sender.lost));
        let (mut delivered, mut lost) = (0, 0);
        let rates = now.zip(before).map(|(now, before)| {
            (delivered, lost) = (delivered + now.0 - before.0, lost + now.1 - before.1);
            (now.0 - before.0) as f64 / seconds
        });
        let rates = rates.collect();
        (rates, lost as f64 / (lost + delivered).max(1) as f64)
    }

    fn send(&mut self, at: usize) {
        let now = self.now;
        let sender = &mut self.senders[at];
        while sender.sends_at <= now && (sender.sent.len() as u64 + 1) * PACKET < sender.control.window() {
            sender.control.handle_sent(self.began + now, PACKET);
            sender.sent.insert(sender.next, now);
            // As quinn does it: some milliseconds may be sent at once.
            let pace = 1.25 * sender.control.window() as f64 / sender.smoothed.as_secs_f64();
            sender.sends_at = sender.sends_at.max(now.saturating_sub(Duration::from_millis(2)));
            sender.sends_at += Duration::from_secs_f64(PACKET as f64 / pace);
            let packet = sender.next;
            sender.next += 1;
            let waits = self.free_at.saturating_sub(now);
            let has_room = waits.as_secs_f64() * self.path.rate + PACKET as f64 <= self.path.queue_bytes;
            if has_room {
                self.longest = self.longest.max(waits);
                self.free_at = self.free_at.max(now) + Duration::from_secs_f64(PACKET as f64 / self.path.rate);
            }
            if has_room && self.random.f64() >= self.path.loss {
                self.sequence += 1;
                let arrives = (self.free_at + self.path.round_trip / 2, self.sequence, Event::Arrive(at, packet));
                self.events.push(Reverse(arrives));
            }
        }
        if sender.sends_at > now {
            let next = sender.sends_at;
            self.later(self.looked(next), Event::Send(at));
        }
    }

    fn acked(&mut self, at: usize, packets: &[u64]) {
        let now = self.began + self.now;
        let sender = &mut self.senders[at];
        for packet in packets {
            let Some(sent) = sender.sent.remove(packet) else { continue };
            sender.control.handle_acked(now, self.began + sent, PACKET);
            sender.smoothed = (sender.smoothed * 7 + (self.now - sent)) / 8;
            sender.delivered += PACKET;
        }
        let Some(newest) = packets.iter().max() else { return };
        let lost: Vec<_> = sender.sent.range(..newest.saturating_sub(REORDERED)).map(|(packet, _)| *packet).collect();
        if !lost.is_empty() {
            sender.sent.retain(|packet, _| !lost.contains(packet));
            sender.lost += lost.len() as u64 * PACKET;
            sender.control.handle_lost(lost.len() as u64 * PACKET, false);
        }
        let in_flight = sender.sent.len() as u64 * PACKET;
        sender.control.handle_acks_end(now, in_flight, false);
        self.send(at);
    }
}

/// Share of the path's rate that all of them get, after the start.
fn share(path: Path, senders: usize, seed: u64) -> f64 {
    let mut world = World::new(path, &vec![0.0; senders], seed);
    world.live(2.0);
    world.live(20.0).0.iter().sum::<f64>() / path.rate
}

#[test]
fn a_path_is_full_whatever_it_loses_by_itself() {
    for seed in 0..2 {
        for (loss, least) in [(0.0, 0.97), (0.001, 0.97), (0.01, 0.96), (0.05, 0.88)] {
            for senders in [1, 2, 8] {
                let got = share(Path { loss, ..Path::default() }, senders, seed);
                assert!(got >= least, "{senders} senders, {loss} lost: {got} of the path");
            }
        }
    }
}

#[test]
fn the_start_takes_as_many_round_trips_as_doubling_does() {
    let mut world = World::new(Path::default(), &[0.0], 1);
    let bytes = world.live(1.0).0[0];
    // 1.25 MB is what the path holds, 38 KB the first window: 5 round trips of doubling.
    assert!(bytes > 0.6 * 25e6, "{bytes}");
}

#[test]
fn its_queue_is_short() {
    let mut world = World::new(Path { queue_bytes: 100e6, ..Path::default() }, &[0.0], 1);
    world.live(3.0);
    world.live(30.0);
    assert!(world.longest < Duration::from_millis(40), "{:?}", world.longest);
}

#[test]
fn a_short_queue_is_not_overrun_for_long() {
    for (senders, most) in [(1, 0.02), (2, 0.1), (5, 0.1)] {
        let path = Path { queue_bytes: 0.06 * 25e6 * 0.05, ..Path::default() };
        let mut world = World::new(path, &vec![0.0; senders], 1);
        world.live(5.0);
        let (rates, lost) = world.live(20.0);
        let got = rates.iter().sum::<f64>() / path.rate;
        assert!(got > 0.9 && lost < most, "{senders} senders: {got} of the path, {lost} lost");
    }
}

#[test]
fn it_follows_a_path_that_changes() {
    let mut world = World::new(Path { loss: 0.001, ..Path::default() }, &[0.0], 1);
    world.live(3.0);
    for (rate, round_trip) in [(5e6, 50), (50e6, 50), (50e6, 150), (50e6, 20), (2e6, 20)] {
        (world.path.rate, world.path.round_trip) = (rate, Duration::from_millis(round_trip));
        world.path.queue_bytes = rate * world.path.round_trip.as_secs_f64();
        world.live(15.0);
        let got = world.live(5.0).0[0] / rate;
        assert!(got > 0.93, "{rate} bytes per second, {round_trip} ms: {got}");
    }
}

#[test]
fn who_comes_later_has_a_share() {
    let mut world = World::new(Path::default(), &[0.0, 5.0, 10.0], 1);
    world.live(30.0);
    let rates = world.live(60.0).0;
    let (least, most) = (rates.iter().copied().fold(f64::MAX, f64::min), rates.iter().copied().fold(0.0, f64::max));
    assert!(least > most / 5.0, "{rates:?}");
}

#[test]
fn a_short_path_is_full_although_its_hosts_are_slower_than_it() {
    let path = Path {
        rate: 1e9,
        queue_bytes: 4e6,
        round_trip: Duration::from_micros(60),
        hosts_look: Duration::from_millis(1),
        ..Path::default()
    };
    let mut world = World::new(path, &[0.0], 1);
    world.live(0.5);
    let got = world.live(1.0).0[0] / path.rate;
    assert!(got > 0.9, "{got}");
}

#[test]
fn a_path_that_was_dead_is_used_again() {
    let mut world = World::new(Path::default(), &[0.0], 1);
    world.live(3.0);
    let control = &mut world.senders[0].control;
    control.handle_lost(1 << 20, true);
    assert_eq!(control.window(), LEAST_PACKETS * PACKET);
    world.live(1.0);
    assert!(world.live(5.0).0[0] > 0.95 * 25e6);
}

#[test]
fn who_has_little_to_say_does_not_learn_that_the_path_is_slow() {
    let began = Instant::now();
    let mut control = Delivery::new(began, PACKET as u16);
    let mut now = began;
    let mut say = |control: &mut Delivery, packets: u64, limited: bool| {
        control.handle_sent(now, packets * PACKET);
        let sent = now;
        now += Duration::from_millis(50);
        for _ in 0..packets {
            control.handle_acked(now, sent, PACKET);
        }
        control.handle_acks_end(now, 0, limited);
    };
    for _ in 0..8 {
        say(&mut control, 100, false);
    }
    let full = control.rate.get();
    for _ in 0..100 {
        say(&mut control, 2, true);
    }
    assert_eq!(control.rate.get(), full);
}
