//! The same question put by fio(1), whose word counts more than ours.

use std::{
    fs::File,
    io,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    cases::{Contestant, Kind, cpu_seconds_of_children},
    rivals::is_installed,
};

/// fio reads one file and writes another at once, with io_uring, O_DIRECT and the depth and block of our own probe.
pub struct Fio;

impl Contestant for Fio {
    fn name(&self) -> String {
        "limit: fio".into()
    }

    fn kind(&self) -> Kind {
        Kind::Limit
    }

    fn installed(&self) -> bool {
        is_installed("fio")
    }

    fn copy(&mut self, from: &Path, to: &Path) -> io::Result<f64> {
        self.timed(from, to).map(|(cpu_seconds, _)| cpu_seconds)
    }

    /// fio's own time, which leaves out its long start, and that of a sync: its report has no time for its own at the end.
    fn timed(&mut self, from: &Path, to: &Path) -> io::Result<(f64, Option<Duration>)> {
        let before = cpu_seconds_of_children();
        let bytes = std::fs::metadata(from)?.len();
        let common = ["--ioengine=io_uring", "--direct=1", "--iodepth=8", "--bs=4M", "--registerfiles", "--fixedbufs"];
        let output = Command::new("fio")
            .args(["--output-format=json", "--thread"])
            .args(["--name=read", "--rw=read"])
            .args(common)
            .arg(format!("--filename={}", from.display()))
            .arg(format!("--size={bytes}"))
            .args(["--name=write", "--rw=write"])
            .args(common)
            .arg(format!("--filename={}", to.display()))
            .arg(format!("--size={bytes}"))
            .output()?;
        if !output.status.success() {
            return Err(io::Error::other(format!("fio: {}", String::from_utf8_lossy(&output.stderr).trim())));
        }
        let moved = job_runtime(&output.stdout).ok_or_else(|| io::Error::other("fio's report is not understood"))?;
        let syncing = Instant::now();
        File::open(to)?.sync_all()?;
        Ok((cpu_seconds_of_children() - before, Some(moved + syncing.elapsed())))
    }
}

/// The longer of the two directions' times.
fn job_runtime(report: &[u8]) -> Option<Duration> {
    // Warnings may stand before the report.
    let start = report.iter().position(|byte| *byte == b'{')?;
    let report: Value = serde_json::from_slice(&report[start..]).ok()?;
    let runtime = |job: &Value| Some(job["read"]["runtime"].as_f64()?.max(job["write"]["runtime"].as_f64()?));
    let millis = report["jobs"].as_array()?.iter().filter_map(runtime);
    millis.max_by(f64::total_cmp).map(|millis| Duration::from_secs_f64(millis / 1e3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_job_counts() {
        let report = br#"fio: a warning
            {"jobs": [{"read": {"runtime": 1500}, "write": {"runtime": 0}},
                      {"read": {"runtime": 0}, "write": {"runtime": 1600}}]}"#;
        assert_eq!(job_runtime(report), Some(Duration::from_millis(1600)));
        assert_eq!(job_runtime(b"nothing"), None);
    }
}
