//! The shell around [`OneWay`]: two TUN devices (Documentation/networking/tuntap.rst of the kernel) and a thread that carries
//! packets from either to the other, each at its time.

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    io::Errno,
};

use super::{Conditions, Counts, OneWay, weather::Weather};

/// Read from a device before what is due is written: so late a busy direction makes the other.
const BATCH: usize = 64;
/// How early a packet may be let go: a thread that sleeps for less spends more on its sleep.
const EARLY_MAX: Duration = Duration::from_micros(20);
/// Buffers that are kept for the next packets.
const SPARE_MAX: usize = 4096;

/// A TUN device: what is routed to it can be read, and what is written to it has come from the network. It goes when this
/// is dropped.
#[derive(Debug)]
pub struct Tun {
    file: File,
    name: String,
}

impl Tun {
    /// Makes one of this name (15 bytes at most), in the network namespace of the calling thread. Whoever moves it to another
    /// one moves only its other side: this one stays here.
    pub fn open(name: &str) -> io::Result<Self> {
        let explain = |error: io::Error| {
            let what = "needs the kernel's module tun, and root";
            io::Error::new(error.kind(), format!("/dev/net/tun: {error} (a relay {what})"))
        };
        let file = File::options().read(true).write(true).open("/dev/net/tun").map_err(explain)?;
        // SAFETY: all zero is a valid value of a structure of numbers.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        if name.len() >= request.ifr_name.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name} is too long for a device")));
        }
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from.cast_signed();
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
        // SAFETY: the request is of the type that TUNSETIFF takes, and lives until it returns.
        if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as libc::Ioctl, &raw mut request) } != 0 {
            return Err(explain(io::Error::last_os_error()));
        }
        rustix::io::ioctl_fionbio(&file, true)?;
        Ok(Self { file, name: name.to_owned() })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A relay that runs until it is dropped.
#[derive(Debug)]
pub struct Relay {
    shared: Arc<Shared>,
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    counts: Mutex<[Counts; 2]>,
    cpu_nanos: AtomicU64,
    weather: Weather,
}

impl Relay {
    /// Joins two devices that have this MTU: the same conditions in both directions.
    pub fn start(ends: [Tun; 2], mtu: u16, conditions: Conditions, seed: u64) -> io::Result<Self> {
        let (shared, stop) = (Arc::new(Shared::default()), Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?));
        let work = Work {
            ends,
            ways: [0, 1].map(|way| OneWay::new(conditions, seed.wrapping_mul(2).wrapping_add(way))),
            began: Instant::now(),
            mtu: usize::from(mtu),
            spare: Vec::new(),
            shared: shared.clone(),
            stop: stop.clone(),
        };
        let thread = std::thread::Builder::new().name("relay".into()).spawn(move || work.run())?;
        Ok(Self { shared, stop, thread: Some(thread) })
    }

    /// What became of packets from the first end and from the second, as of some milliseconds ago.
    pub fn counts(&self) -> [Counts; 2] {
        *self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it lets through, for who wants to change that.
    pub fn weather(&self) -> &Weather {
        &self.shared.weather
    }

    /// CPU seconds that it has taken, as of some milliseconds ago.
    pub fn cpu_seconds(&self) -> f64 {
        self.shared.cpu_nanos.load(Ordering::Relaxed) as f64 / 1e9
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // An eventfd takes a small number at once.
        let _ = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A packet on its way.
#[derive(Clone)]
struct Packet {
    buffer: Box<[u8]>,
    len: usize,
}

struct Work {
    ends: [Tun; 2],
    /// From the first end, and from the second.
    ways: [OneWay<Packet>; 2],
    began: Instant,
    mtu: usize,
    spare: Vec<Box<[u8]>>,
    shared: Arc<Shared>,
    stop: Arc<OwnedFd>,
}

/// Has the calling thread go before others: packets that a kernel delays do not wait until those who have sent them have had
/// their turns, and a path that does has a longer round trip than it was told. Who may not has a relay that is late when
/// all cores are busy.
fn go_before_others() {
    let lowest = libc::sched_param { sched_priority: 1 };
    // SAFETY: the pointer is to a live variable of the right type; 0 is the calling thread (sched_setscheduler(2)).
    unsafe { libc::sched_setscheduler(0, libc::SCHED_RR, &raw const lowest) };
}

/// How often others are told how it is going.
const TELL: Duration = Duration::from_millis(10);

impl Work {
    fn run(mut self) {
        go_before_others();
        let mut told = Duration::ZERO;
        loop {
            let mut all_read = true;
            for end in [0, 1] {
                all_read &= self.read(end);
                self.write_due();
            }
            let now = self.began.elapsed();
            let due = self.ways.iter().filter_map(OneWay::poll_timeout).min();
            let wait = due.map(|due| due.saturating_sub(now));
            if now - told > TELL || wait.is_none_or(|wait| wait > TELL) {
                told = now;
                self.tell();
            }
            if all_read && self.sleep(wait) {
                return;
            }
        }
    }

    /// Takes what an end has sent, a batch at most; whether that was all.
    fn read(&mut self, end: usize) -> bool {
        let now = self.began.elapsed();
        for _ in 0..BATCH {
            let mut buffer = self.spare.pop().unwrap_or_else(|| vec![0; self.mtu].into());
            match rustix::io::read(&self.ends[end].file, &mut buffer[..]) {
                Ok(len) if len > 0 => {
                    if !self.shared.weather.passes(&buffer[..len]) {
                        self.keep(buffer);
                        continue;
                    }
                    let packet = Packet { buffer, len };
                    if let Some(refused) = self.ways[end].handle_packet(now, len as u64, packet) {
                        self.keep(refused.buffer);
                    }
                }
                // Nothing more, or a device that is down.
                _ => {
                    self.keep(buffer);
                    return true;
                }
            }
        }
        false
    }

    fn write_due(&mut self) {
        let now = self.began.elapsed() + EARLY_MAX;
        for end in [0, 1] {
            while let Some(packet) = self.ways[end].poll_packet(now) {
                // What a device does not take is lost, as on any wire.
                let _ = rustix::io::write(&self.ends[1 - end].file, &packet.buffer[..packet.len]);
                self.keep(packet.buffer);
            }
        }
    }

    fn keep(&mut self, buffer: Box<[u8]>) {
        if self.spare.len() < SPARE_MAX {
            self.spare.push(buffer);
        }
    }

    /// Until something is due or comes; whether it is over.
    fn sleep(&self, wait: Option<Duration>) -> bool {
        let timeout =
            wait.map(|wait| Timespec { tv_sec: wait.as_secs().cast_signed(), tv_nsec: wait.subsec_nanos().into() });
        let [one, other] = &self.ends;
        let mut ready = [
            PollFd::from_borrowed_fd(one.file.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(other.file.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.stop.as_fd(), PollFlags::IN),
        ];
        match poll(&mut ready, timeout.as_ref()) {
            Ok(_) => ready[2].revents().contains(PollFlags::IN),
            Err(Errno::INTR | Errno::AGAIN) => false,
            // Nothing that can be polled: it was asked for wrongly.
            Err(_) => true,
        }
    }

    fn tell(&self) {
        *self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner) = [0, 1].map(|way| self.ways[way].counts());
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let nanos = time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned();
        self.shared.cpu_nanos.store(nanos, Ordering::Relaxed);
    }
}
