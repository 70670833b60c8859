//! What goes through a part of the machine, interval by interval, read from the kernel's counters: the same for every
//! contestant, and without its help.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::record::Timeline;

/// Length of an interval.
const INTERVAL: Duration = Duration::from_millis(100);
/// Most intervals of one recording (ten minutes): whatever takes longer is long enough.
const INTERVALS_MAX: usize = 6000;
/// Bytes of a sector in the kernel's counters, whatever the disk's own are (Documentation/block/stat.rst).
const SECTOR: u64 = 512;

/// A counter of bytes that only grows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meter {
    name: String,
    file: PathBuf,
    field: usize,
    unit: u64,
}

impl Meter {
    /// What is read from, and written to, the disk that holds `path`; none where it lies on no disk.
    pub fn of_disk(path: &Path) -> Vec<Self> {
        let Ok(device) = fs::metadata(path).map(|found| found.dev()) else { return Vec::new() };
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let file = PathBuf::from(format!("/sys/dev/block/{major}:{minor}/stat"));
        if !file.exists() {
            return Vec::new();
        }
        let meter = |name: &str, field| Self { name: name.into(), file: file.clone(), field, unit: SECTOR };
        vec![meter("disk read", 2), meter("disk written", 6)]
    }

    /// What arrives over loopback.
    pub fn of_loopback() -> Vec<Self> {
        let file = PathBuf::from("/sys/class/net/lo/statistics/rx_bytes");
        if !file.exists() {
            return Vec::new();
        }
        vec![Self { name: "network received".into(), file, field: 0, unit: 1 }]
    }

    fn read(&self) -> u64 {
        let text = fs::read_to_string(&self.file).unwrap_or_default();
        text.split_whitespace().nth(self.field).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0) * self.unit
    }
}

/// Reads meters until it is told to stop.
pub struct Recorder {
    stop: Sender<()>,
    thread: JoinHandle<Vec<Timeline>>,
}

impl Recorder {
    /// Begins.
    pub fn start(meters: Vec<Meter>) -> Self {
        let (stop, stopped) = channel::<()>();
        let thread = std::thread::spawn(move || {
            let mut last: Vec<u64> = meters.iter().map(Meter::read).collect();
            let mut bytes = vec![Vec::new(); meters.len()];
            let began = Instant::now();
            for tick in 1..=INTERVALS_MAX as u32 {
                let wait = (began + INTERVAL * tick).saturating_duration_since(Instant::now());
                let over = !matches!(stopped.recv_timeout(wait), Err(RecvTimeoutError::Timeout));
                for (index, meter) in meters.iter().enumerate() {
                    let now = meter.read();
                    bytes[index].push(now.saturating_sub(last[index]));
                    last[index] = now;
                }
                if over {
                    break;
                }
            }
            let interval_seconds = INTERVAL.as_secs_f64();
            let named = meters.into_iter().zip(bytes);
            named.map(|(meter, bytes)| Timeline { meter: meter.name, interval_seconds, bytes }).collect()
        });
        Self { stop, thread }
    }

    /// Ends; the last interval may be shorter than the others.
    pub fn stop(self) -> Vec<Timeline> {
        drop(self.stop);
        self.thread.join().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_recorded_interval_by_interval() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("stat");
        fs::write(&file, "1 2 100 4").unwrap();
        let meter = Meter { name: "m".into(), file: file.clone(), field: 2, unit: 512 };
        let recorder = Recorder::start(vec![meter]);
        std::thread::sleep(Duration::from_millis(150));
        fs::write(&file, "1 2 103 4").unwrap();
        std::thread::sleep(Duration::from_millis(150));
        let timelines = recorder.stop();
        assert_eq!(timelines[0].meter, "m");
        assert_eq!(timelines[0].bytes.iter().sum::<u64>(), 3 * 512, "{timelines:?}");
        assert!(timelines[0].bytes.len() >= 2, "{timelines:?}");
    }
}
