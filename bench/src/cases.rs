//! What is measured, and under which conditions.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use rustix::fs::{Advice, fadvise};

use crate::{limits, rivals, staccato};

/// One run of one contestant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Wall time until the bytes were durable.
    pub seconds: f64,
    /// User and system CPU time of everything that took part.
    pub cpu_seconds: f64,
}

/// All runs of one contestant.
#[derive(Clone, Debug, PartialEq)]
pub struct Result {
    /// Who.
    pub contestant: String,
    /// What it is there for.
    pub kind: Kind,
    /// Bytes moved by each run.
    pub bytes: u64,
    /// Its runs; none when the tool is not installed.
    pub samples: Vec<Sample>,
}

/// What a contestant is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Staccato.
    Ours,
    /// Somebody else's tool.
    Rival,
    /// What the hardware gives to whoever only moves bytes.
    Limit,
}

/// Somebody who can copy a file and make it durable.
pub trait Contestant {
    /// Name in tables.
    fn name(&self) -> String;
    /// What it is there for.
    fn kind(&self) -> Kind;
    /// Whether it is there.
    fn installed(&self) -> bool {
        true
    }
    /// Copies `from` to `to` (which does not exist) and returns when every byte is durable. Returns CPU seconds.
    fn copy(&mut self, from: &Path, to: &Path) -> io::Result<f64>;
    /// The same; with the time it took where the contestant knows better than a clock around it.
    fn timed(&mut self, from: &Path, to: &Path) -> io::Result<(f64, Option<Duration>)> {
        Ok((self.copy(from, to)?, None))
    }
}

/// Copies one file of random bytes with every contestant, in interleaved rounds: the disk's speed drifts, and so each
/// round has a sample of everybody.
pub fn file_to_file(folder: &Path, bytes: u64, rounds: usize) -> io::Result<Vec<Result>> {
    let folder = fs::canonicalize(folder)?;
    let work = folder.join(format!("staccato-bench-{}", std::process::id()));
    fs::create_dir(&work)?;
    let measured = measure(&work, bytes, rounds);
    fs::remove_dir_all(&work)?;
    measured
}

fn measure(work: &Path, bytes: u64, rounds: usize) -> io::Result<Vec<Result>> {
    let source = work.join("source");
    fill(&source, bytes)?;
    let mut contestants: Vec<Box<dyn Contestant>> = staccato::contestants(work)?;
    contestants.extend(rivals::all());
    contestants.extend(limits::of_copying());
    let mut results: Vec<Result> = contestants
        .iter()
        .map(|contestant| Result { contestant: contestant.name(), kind: contestant.kind(), bytes, samples: Vec::new() })
        .collect();
    for round in 0..rounds {
        // Another order in each round: nobody always runs behind the same neighbour.
        for turn in 0..contestants.len() {
            let index = (turn + round) % contestants.len();
            let contestant = &mut contestants[index];
            if !contestant.installed() {
                continue;
            }
            let target = work.join("target");
            cool(&source)?;
            let began = Instant::now();
            let (cpu_seconds, took) = contestant.timed(&source, &target)?;
            let sample = Sample { seconds: took.unwrap_or_else(|| began.elapsed()).as_secs_f64(), cpu_seconds };
            eprintln!("round {}: {:<22} {:.2} s", round + 1, contestant.name(), sample.seconds);
            if fs::metadata(&target)?.len() != bytes {
                return Err(io::Error::other(format!("{} did not copy everything", contestant.name())));
            }
            results[index].samples.push(sample);
            fs::remove_file(&target)?;
        }
    }
    Ok(results)
}

/// A durable file of bytes that do not compress.
fn fill(path: &Path, bytes: u64) -> io::Result<()> {
    let mut file = File::create(path)?;
    let mut rng = fastrand::Rng::with_seed(1);
    let mut buffer = vec![0; 1 << 20];
    let mut left = bytes;
    while left > 0 {
        let piece = buffer.len().min(left as usize);
        rng.fill(&mut buffer[..piece]);
        file.write_all(&buffer[..piece])?;
        left -= piece as u64;
    }
    file.sync_all()
}

/// Drops the file, and with the rights for it the whole page cache, from memory, with nothing left to be written back.
fn cool(path: &Path) -> io::Result<()> {
    rustix::fs::sync();
    fadvise(File::open(path)?, 0, None, Advice::DontNeed)?;
    // Only root may; without, advice on the file itself has to do.
    let _ = fs::write("/proc/sys/vm/drop_caches", "3");
    Ok(())
}

/// Runs a command to its end; CPU seconds of it and its children.
pub fn run(command: &mut Command) -> io::Result<f64> {
    let before = cpu_seconds_of_children();
    let output = command.output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim())));
    }
    Ok(cpu_seconds_of_children() - before)
}

/// CPU seconds of children that were waited for.
pub fn cpu_seconds_of_children() -> f64 {
    // Fields 16 and 17 of /proc/self/stat (proc(5)): ticks of waited-for children. The name in field 2 may hold spaces.
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(13) + ticks(14)) / rustix::param::clock_ticks_per_second() as f64
}

/// CPU seconds of this process so far.
pub fn cpu_seconds_of_self() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
