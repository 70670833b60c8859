//! What a run of the bench writes down: JSON, one record a line, with a versioned schema.
//!
//! A file of results is a [`Run`] record, then a [`Series`] record for each contestant in each case, in the order in
//! which cases were measured. Several runs may follow one another in one file. Shapes and units:
//!
//! - Times are seconds, sizes bytes, rates bytes (or operations) per second, all decimal numbers.
//! - What was not measured is `null` or missing, never 0.
//! - A reader ignores fields it does not know; [`SCHEMA`] rises when a field changes its meaning.

use std::{
    collections::BTreeMap,
    io::{self, BufRead},
};

use serde::{Deserialize, Serialize};

/// Name and version of the format: the first field of every line.
pub const SCHEMA: &str = "staccato-bench/2";

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Line {
    schema: String,
    #[serde(flatten)]
    record: Record,
}

/// What a line holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// What was run, where and when.
    Run(Box<Run>),
    /// All samples of one contestant in one case.
    Series(Series),
}

/// What was run, where and when.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// When it began, RFC 3339.
    pub started_at: String,
    /// The arguments of the bench.
    pub command: Vec<String>,
    /// Versions of everything that took part.
    pub versions: BTreeMap<String, String>,
    /// The machine.
    pub host: Host,
}

/// The machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// Release of the kernel.
    pub kernel: String,
    /// Model of the processor.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Make of the machine, where the firmware tells (for a virtual one, the hypervisor).
    pub product: Option<String>,
    /// What holds the folder that was measured: device, file system and mount options.
    pub storage: Option<String>,
}

/// All samples of one contestant in one case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Which case, for instance `file-to-file`.
    pub case: String,
    /// What tells this case from others of the same name: chunk size, clients, state of memory, …
    pub settings: BTreeMap<String, String>,
    /// Who.
    pub contestant: String,
    /// What it is there for.
    pub kind: Kind,
    /// Why there are no samples, where there are none.
    pub absent: Option<String>,
    /// What it says of itself, for people: which transport it took, for instance, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Its runs, in the order in which they were made.
    pub samples: Vec<Sample>,
}

/// What a contestant is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Staccato.
    Ours,
    /// Somebody else's tool.
    Rival,
    /// What the hardware gives to whoever only moves bytes.
    Limit,
}

/// One run of one contestant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Which round, from 0.
    pub round: usize,
    /// Whom it was paired with: the neighbour that ran right before or after it.
    pub beside: Option<String>,
    /// Wall time until the work was done, and durable where it had to be.
    pub seconds: f64,
    /// Bytes of the object, holes included; 0 where the case is not about bytes.
    pub bytes: u64,
    /// How many copies of the object were made: CPU seconds are told for each GiB of all of them. One where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copies: Option<u64>,
    /// Operations done; 0 where the case is not about operations.
    pub operations: u64,
    /// User and system CPU seconds of its processes.
    pub cpu_seconds: Option<f64>,
    /// The same of each end of a link, by its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cpu_seconds_by_end: BTreeMap<String, f64>,
    /// Most memory it had at a time.
    pub rss_bytes_max: Option<u64>,
    /// System calls, counted in a run of its own.
    pub system_calls: Option<u64>,
    /// Seconds that work spent in each stage of the pipeline, summed over chunks.
    pub stages: BTreeMap<String, f64>,
    /// What else the case asks for, by its name: for instance how many times the source was read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub figures: BTreeMap<String, f64>,
    /// How much went through which part of the machine, interval by interval.
    pub timelines: Vec<Timeline>,
    /// Latency of operations: pairs of a quantile (0 to 1) and seconds.
    pub latency: Vec<(f64, f64)>,
    /// What the machine did beside it.
    pub machine: MachineLoad,
}

/// Bytes by interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// What was metered, for instance `disk read`.
    pub meter: String,
    /// Length of an interval.
    pub interval_seconds: f64,
    /// Bytes in each.
    pub bytes: Vec<u64>,
}

/// What the machine did while the processes of a sample ran, what they prepare and put away included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MachineLoad {
    /// How long that was.
    pub seconds: f64,
    /// CPU seconds of everybody, the kernel's own threads included.
    pub busy_seconds: f64,
    /// CPU seconds of these processes.
    pub own_seconds: f64,
    /// CPU seconds that the hypervisor gave to others.
    pub steal_seconds: f64,
    /// How fast new memory could be had just before: memory that the host has taken back comes slowly.
    pub first_touch_rate: Option<f64>,
}

impl Sample {
    /// GiB of all copies.
    pub fn gib_delivered(&self) -> f64 {
        self.copies.unwrap_or(1) as f64 * self.bytes as f64 / f64::from(1 << 30)
    }

    /// Bytes per second; of work without bytes, operations per second.
    pub fn rate(&self) -> f64 {
        let work = if self.bytes > 0 { self.bytes } else { self.operations };
        work as f64 / self.seconds.max(f64::EPSILON)
    }
}

/// A record as a line, its end included.
pub fn to_line(record: &Record) -> String {
    let line = Line { schema: SCHEMA.to_owned(), record: record.clone() };
    let mut text = serde_json::to_string(&line).expect("records are numbers and strings");
    text.push('\n');
    text
}

/// Reads records. A line of another schema is an error that says so; an empty line is skipped.
pub fn read(input: impl BufRead) -> io::Result<Vec<Record>> {
    let mut records = Vec::new();
    for (number, line) in (1..).zip(input.lines()) {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        records.push(parse(&line).map_err(|why| io::Error::other(format!("line {number}: {why}")))?);
    }
    Ok(records)
}

fn parse(line: &str) -> Result<Record, String> {
    let value: serde_json::Value = serde_json::from_str(line).map_err(|error| format!("this is not JSON ({error})"))?;
    match value["schema"].as_str() {
        Some(SCHEMA) => {}
        Some(other) => return Err(format!("its schema is {other}; this version reads {SCHEMA}")),
        None => return Err("it has no schema; is this a file of results?".to_owned()),
    }
    let line: Line = serde_json::from_value(value).map_err(|error| error.to_string())?;
    Ok(line.record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_from_their_lines() {
        let series = Series {
            case: "file-to-file".into(),
            settings: BTreeMap::from([("chunk".into(), "4 MiB".into())]),
            contestant: "cp".into(),
            kind: Kind::Rival,
            absent: None,
            note: None,
            samples: vec![Sample { seconds: 1.5, bytes: 3, latency: vec![(0.5, 0.001)], ..Sample::default() }],
        };
        let records = [Record::Run(Box::default()), Record::Series(series)];
        let text: String = records.iter().map(to_line).collect();
        assert_eq!(read(text.as_bytes()).unwrap(), records);
        assert!(text.lines().all(|line| line.starts_with(r#"{"schema":"staccato-bench/2","record":"#)), "{text}");
    }

    #[test]
    fn what_is_no_result_is_refused_with_its_line() {
        for (text, why) in [("{}", "no schema"), ("x", "not JSON"), (r#"{"schema":"staccato-bench/1"}"#, "schema is")] {
            let error = read(format!("\n{text}").as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("line 2") && error.contains(why), "{error}");
        }
    }
}
