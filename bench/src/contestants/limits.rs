//! What the hardware can do, asked with as little in between as there can be: no checksums, no checkpoints, no names.
//!
//! A limit is a contestant like any other, so that it is taken again in every round: disks drift.

use std::{
    io,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use super::installed;
use crate::{
    contest::{Contestant, Told},
    measure::Ended,
    probe::{
        compute::{ComputeTold, What},
        disk::{Direction, DiskLoad, DiskTold},
    },
    record::Kind,
    worker::Program,
};

/// One bare io_uring with O_DIRECT and registered buffers: reads a file and writes as much at once, or one of the two.
#[derive(Clone, Debug)]
pub struct RawDisk {
    /// Ourselves.
    pub program: Program,
    /// What is read.
    pub source: PathBuf,
    /// Whether it reads, writes or both.
    pub direction: Direction,
    /// Bytes moved in each direction.
    pub bytes: u64,
    /// What is under way at a time.
    pub load: DiskLoad,
}

impl Contestant for RawDisk {
    fn name(&self) -> String {
        format!("limit: io_uring {}", self.direction)
    }

    fn kind(&self) -> Kind {
        Kind::Limit
    }

    fn command(&self, target: &Path) -> Command {
        let mut command = self.program.command("disk");
        // A reader has no target, and its command line no empty word.
        let target = if self.direction.writes() { target } else { &self.source };
        command.arg(self.direction.to_string()).arg(self.bytes.to_string()).arg(&self.source).arg(target);
        command.arg(format!("--block-mib={}", self.load.block_mib)).arg(format!("--depth={}", self.load.depth));
        command
    }

    fn is_durable(&self) -> bool {
        true
    }

    /// Its own time: that of its buffers and of its process is none of the disk's.
    fn interpret(&self, ended: &Ended) -> io::Result<Told> {
        let told: DiskTold = serde_json::from_slice(&ended.output).map_err(io::Error::other)?;
        Ok(Told { seconds: Some(told.seconds), ..Told::default() })
    }
}

/// The processor, on bytes in memory.
#[derive(Clone, Debug)]
pub struct Processor {
    /// Ourselves.
    pub program: Program,
    /// What it does.
    pub what: What,
    /// To how many bytes.
    pub bytes: u64,
}

impl Contestant for Processor {
    fn name(&self) -> String {
        format!("limit: {}", self.what)
    }

    fn kind(&self) -> Kind {
        Kind::Limit
    }

    fn command(&self, _target: &Path) -> Command {
        let mut command = self.program.command("compute");
        command.arg(self.what.to_string()).arg(self.bytes.to_string());
        command
    }

    fn interpret(&self, ended: &Ended) -> io::Result<Told> {
        let told: ComputeTold = serde_json::from_slice(&ended.output).map_err(io::Error::other)?;
        Ok(Told { seconds: Some(told.seconds), ..Told::default() })
    }
}

/// The same question put by fio(1), whose word counts more than ours.
#[derive(Clone, Debug)]
pub struct Fio {
    /// What is read.
    pub source: PathBuf,
    /// Whether it reads, writes or both.
    pub direction: Direction,
    /// Bytes moved in each direction.
    pub bytes: u64,
}

impl Contestant for Fio {
    fn name(&self) -> String {
        format!("limit: fio {}", self.direction)
    }

    fn kind(&self) -> Kind {
        Kind::Limit
    }

    fn absent(&self) -> Option<String> {
        (!installed("fio")).then(|| "fio is not installed".into())
    }

    fn command(&self, target: &Path) -> Command {
        let common = ["--ioengine=io_uring", "--direct=1", "--iodepth=8", "--bs=4M", "--registerfiles", "--fixedbufs"];
        let mut command = Command::new("fio");
        command.args(["--output-format=json", "--thread"]);
        let mut job = |what: &str, path: &Path| {
            command.arg(format!("--name={what}")).arg(format!("--rw={what}")).args(common);
            command.arg(format!("--filename={}", path.display())).arg(format!("--size={}", self.bytes));
        };
        if self.direction.reads() {
            job("read", &self.source);
        }
        if self.direction.writes() {
            job("write", target);
        }
        command
    }

    /// fio's own time, which leaves out its long start. It leaves out a sync at its end too, so the bench does that.
    fn interpret(&self, ended: &Ended) -> io::Result<Told> {
        let seconds = runtime(&ended.output).ok_or_else(|| io::Error::other("fio's report is not understood"))?;
        Ok(Told { seconds: Some(seconds), ..Told::default() })
    }
}

/// The longer of the two directions' times.
fn runtime(report: &[u8]) -> Option<f64> {
    // Warnings may stand before the report.
    let start = report.iter().position(|byte| *byte == b'{')?;
    let report: Value = serde_json::from_slice(&report[start..]).ok()?;
    let runtime = |job: &Value| Some(job["read"]["runtime"].as_f64()?.max(job["write"]["runtime"].as_f64()?));
    let millis = report["jobs"].as_array()?.iter().filter_map(runtime);
    millis.max_by(f64::total_cmp).map(|millis| millis / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_without_a_target_has_a_command_line_that_is_understood() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(subcommand)]
            _work: crate::worker::Work,
        }
        let program = Program { path: "bench".into(), prefix: Vec::new() };
        let (source, load) = ("source".into(), DiskLoad { block_mib: 1, depth: 2 });
        let probe = RawDisk { program, source, direction: Direction::Read, bytes: 4096, load };
        let command = probe.command(Path::new(""));
        // Behind `worker`, which the commands of the bench lead to.
        let words = std::iter::once("bench".as_ref()).chain(command.get_args().skip(1));
        if let Err(error) = <Line as clap::Parser>::try_parse_from(words) {
            panic!("{error}");
        }
    }

    #[test]
    fn the_longer_job_of_fio_counts() {
        let report = br#"fio: a warning
            {"jobs": [{"read": {"runtime": 1500}, "write": {"runtime": 0}},
                      {"read": {"runtime": 0}, "write": {"runtime": 1600}}]}"#;
        assert_eq!(runtime(report), Some(1.6));
        assert_eq!(runtime(b"nothing"), None);
    }
}
