//! Sweeps: a file names lists of values, and every combination of them is measured. What is in here is pure.
//!
//! Combinations are measured in rounds, one sample of each, forwards in one round and backwards in the next: so a
//! machine that drifts does not favour one of them.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use toml::{Table, Value};

use crate::{
    contest::{PAIRS_DEFAULT, PAIRS_MIN},
    measure::MemoryState,
};

/// What a file asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    /// Samples of each combination.
    pub pairs: usize,
    /// After so long, a sweep ends with the rounds that it has, when these are at least [`PAIRS_MIN`].
    pub time_max: Duration,
    /// Where files are made that are read and written.
    pub folder: Option<PathBuf>,
    /// Everything that is measured, in the order of the first round.
    pub combinations: Vec<Combination>,
}

/// One combination of values.
#[derive(Clone, Debug, PartialEq)]
pub struct Combination {
    /// Where bytes come from.
    pub source: Source,
    /// Where they go.
    pub destination: Destination,
    /// How many; a source on a network has the length that it has.
    pub size_bytes: u64,
    /// In which state memory is before a sample.
    pub memory: MemoryState,
    /// Arguments of the worker.
    pub arguments: Vec<String>,
    /// What tells it from others, for results: only what the file names.
    pub settings: BTreeMap<String, String>,
}

/// Where bytes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Pseudo-random bytes out of nowhere.
    Zero,
    /// A file of random bytes, made for this and cold.
    File,
    /// Somebody's file or server.
    Url(String),
}

/// Where they go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Nowhere.
    Null,
    /// A new file.
    File,
}

impl Combination {
    /// The name of its case in results.
    pub fn case(&self) -> String {
        let source = match &self.source {
            Source::Zero => "zero",
            Source::File => "file",
            Source::Url(url) => url.split(':').next().unwrap_or("url"),
        };
        let destination = match self.destination {
            Destination::Null => "null",
            Destination::File => "file",
        };
        format!("{source}-to-{destination}")
    }
}

const SETTINGS: [&str; 3] = ["pairs", "minutes", "folder"];
/// Keys of the table `sweep`, each with a value or a list of values.
const AXES: [&str; 10] =
    ["source", "destination", "size_mib", "lane", "lanes", "chunk_mib", "connections", "memory_mib", "slots", "memory"];
/// More combinations than these are a mistake.
pub const COMBINATIONS_MAX: usize = 10_000;

impl Matrix {
    /// Reads a file. An error says what is wrong with it, and for a word that it does not know, which one is nearest.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
        known(file.keys(), &[&SETTINGS[..], &["sweep"]].concat(), "key")?;
        let number = |key: &str, default: f64, min: f64| match file.get(key).map(as_number) {
            None => Ok(default),
            Some(Some(number)) if number >= min => Ok(number),
            Some(_) => Err(format!("{key} must be a number of at least {min}")),
        };
        let pairs = number("pairs", PAIRS_DEFAULT as f64, PAIRS_MIN as f64)? as usize;
        let minutes = number("minutes", 60.0, 0.0)?.min(1e6);
        let folder = match file.get("folder") {
            None => None,
            Some(Value::String(folder)) => Some(PathBuf::from(folder)),
            Some(_) => return Err("folder must be a path in quotes".to_owned()),
        };
        let sweep = match file.get("sweep") {
            Some(Value::Table(sweep)) => sweep,
            _ => return Err("it has no table [sweep], which names the lists of values".to_owned()),
        };
        known(sweep.keys(), &AXES, "key of [sweep]")?;
        let mut combinations = vec![BTreeMap::new()];
        for axis in AXES {
            let Some(values) = sweep.get(axis) else { continue };
            let values = match values {
                Value::Array(values) if values.is_empty() => return Err(format!("the list {axis} is empty")),
                Value::Array(values) => values.clone(),
                value => vec![value.clone()],
            };
            if combinations.len() * values.len() > COMBINATIONS_MAX {
                return Err(format!("it has more than {COMBINATIONS_MAX} combinations"));
            }
            combinations = combinations
                .iter()
                .flat_map(|chosen| values.iter().map(move |value| with(chosen, axis, value)))
                .collect();
        }
        let combinations = combinations.iter().map(combination).collect::<Result<_, _>>()?;
        Ok(Self { pairs, time_max: Duration::from_secs_f64(minutes * 60.0), folder, combinations })
    }
}

type Chosen = BTreeMap<&'static str, Value>;

fn with(chosen: &Chosen, axis: &'static str, value: &Value) -> Chosen {
    let mut chosen = chosen.clone();
    chosen.insert(axis, value.clone());
    chosen
}

fn combination(chosen: &Chosen) -> Result<Combination, String> {
    let mut settings = BTreeMap::new();
    let mut arguments = Vec::new();
    let mut counted = |axis: &'static str, named: &str, unit: &str| -> Result<Option<u64>, String> {
        let Some(value) = chosen.get(axis) else { return Ok(None) };
        let number = value.as_integer().and_then(|number| u64::try_from(number).ok()).filter(|number| *number > 0);
        let number = number.ok_or_else(|| format!("{axis} must be whole numbers from 1, not {value}"))?;
        settings.insert(named.to_owned(), format!("{number}{unit}"));
        Ok(Some(number))
    };
    let size_bytes = counted("size_mib", "size", " MiB")?.unwrap_or(256) << 20;
    for (axis, named, unit) in [
        ("lanes", "lanes", ""),
        ("chunk_mib", "chunk", " MiB"),
        ("connections", "connections", ""),
        ("memory_mib", "buffers", " MiB"),
        ("slots", "slots", ""),
    ] {
        if let Some(number) = counted(axis, named, unit)? {
            arguments.push(format!("--{}={number}", axis.replace('_', "-")));
        }
    }
    if let Some(lane) = word(chosen, "lane", &["auto", "tokio-uring", "glommio"])? {
        arguments.push(format!("--lane={lane}"));
        settings.insert("lane".to_owned(), lane);
    }
    let memory = match word(chosen, "memory", &["touched before", "as found"])? {
        None => MemoryState::AsFound,
        Some(state) => {
            if state == "as found" {
                MemoryState::AsFound
            } else {
                MemoryState::Touched
            }
        }
    };
    let source = match chosen.get("source").and_then(Value::as_str) {
        Some(url) if ["http://", "https://", "file:///"].iter().any(|scheme| url.starts_with(scheme)) => {
            settings.insert("source".to_owned(), url.to_owned());
            Source::Url(url.to_owned())
        }
        _ => match word(chosen, "source", &["zero", "file"])?.as_deref() {
            Some("zero") => Source::Zero,
            Some(_) => Source::File,
            None => return Err("[sweep] has no source: zero, file, or a URL".to_owned()),
        },
    };
    if matches!(source, Source::Url(_)) && chosen.contains_key("size_mib") {
        return Err(
            "a source with a URL has the length that it has: leave out size_mib, or make another file".to_owned()
        );
    }
    let destination = match word(chosen, "destination", &["null", "file"])?.as_deref() {
        Some("null") => Destination::Null,
        Some(_) => Destination::File,
        None => return Err("[sweep] has no destination: null or file".to_owned()),
    };
    Ok(Combination { source, destination, size_bytes, memory, arguments, settings })
}

/// One of these words.
fn word(chosen: &Chosen, axis: &str, words: &[&str]) -> Result<Option<String>, String> {
    match chosen.get(axis) {
        None => Ok(None),
        Some(Value::String(word)) => {
            known([word], words, &format!("value of {axis}"))?;
            Ok(Some(word.clone()))
        }
        Some(other) => Err(format!("{axis} must be one of {}, not {other}", words.join(", "))),
    }
}

fn as_number(value: &Value) -> Option<f64> {
    value.as_float().or_else(|| value.as_integer().map(|number| number as f64)).filter(|number| number.is_finite())
}

fn known<'a>(given: impl IntoIterator<Item = &'a String>, words: &[&str], what: &str) -> Result<(), String> {
    for word in given {
        if words.contains(&word.as_str()) {
            continue;
        }
        let nearest = words
            .iter()
            .max_by(|one, other| strsim::jaro_winkler(one, word).total_cmp(&strsim::jaro_winkler(other, word)));
        let hint = nearest.filter(|nearest| strsim::jaro_winkler(nearest, word) > 0.7);
        let hint = hint
            .map_or_else(|| format!("there are {}", words.join(", ")), |nearest| format!("did you mean {nearest}?"));
        return Err(format!("{word:?} is no {what}; {hint}"));
    }
    Ok(())
}

/// The indices of `count` combinations in the order of a round: forwards in one, backwards in the next.
pub fn in_turns(round: usize, count: usize) -> Vec<usize> {
    if round.is_multiple_of(2) { (0..count).collect() } else { (0..count).rev().collect() }
}

/// How long what is left will take: each combination as long as it took on average, and one that was not measured yet
/// as long as the others. Nothing before the first sample.
pub fn time_left(taken: &[(usize, Duration)], left: impl IntoIterator<Item = usize>) -> Option<Duration> {
    let mean = |times: &mut dyn Iterator<Item = Duration>| {
        let (mut sum, mut count) = (Duration::ZERO, 0);
        for time in times {
            sum += time;
            count += 1;
        }
        sum.checked_div(count)
    };
    let all = mean(&mut taken.iter().map(|(_, time)| *time))?;
    let mut of: BTreeMap<usize, Duration> = BTreeMap::new();
    Some(
        left.into_iter()
            .map(|index| {
                *of.entry(index).or_insert_with(|| {
                    mean(&mut taken.iter().filter(|(known, _)| *known == index).map(|(_, time)| *time)).unwrap_or(all)
                })
            })
            .sum(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../examples/sweep.toml");

    #[test]
    fn the_example_is_what_its_comments_say() {
        let matrix = Matrix::parse(EXAMPLE).unwrap();
        assert_eq!((matrix.pairs, matrix.time_max), (5, Duration::from_secs(1200)));
        assert_eq!(matrix.combinations.len(), 12);
        let last = matrix.combinations.last().unwrap();
        assert_eq!(last.case(), "file-to-file");
        assert_eq!(last.arguments, ["--chunk-mib=16", "--lane=glommio"]);
        assert_eq!(last.settings["chunk"], "16 MiB");
    }

    #[test]
    fn wrong_files_are_refused_with_what_is_wrong() {
        let sweep = |rest: &str| format!("[sweep]\nsource = \"zero\"\ndestination = \"null\"\n{rest}");
        for (text, why) in [
            (String::new(), "no table [sweep]"),
            ("sweep = 3".to_owned(), "no table [sweep]"),
            ("[sweep".to_owned(), "TOML parse error"),
            ("[sweep]\ndestination = \"null\"".to_owned(), "no source"),
            ("[sweep]\nsource = \"zero\"".to_owned(), "no destination"),
            (format!("pair = 3\n{}", sweep("")), "did you mean pairs?"),
            (format!("pairs = 2\n{}", sweep("")), "pairs must be a number of at least 3"),
            (format!("minutes = \"long\"\n{}", sweep("")), "minutes must be a number"),
            (sweep("chunks_mib = 4"), "did you mean chunk_mib?"),
            (sweep("colour = 4"), "there are source, destination"),
            (sweep("lane = \"glomio\""), "did you mean glommio?"),
            (sweep("lanes = [1, 0]"), "lanes must be whole numbers from 1, not 0"),
            (sweep("lanes = []"), "the list lanes is empty"),
            (sweep("chunk_mib = 0.5"), "chunk_mib must be whole numbers"),
            (sweep("memory = [\"touched\"]"), "did you mean touched before?"),
            ("[sweep]\nsource = \"ftp://x\"\ndestination = \"null\"".to_owned(), "is no value of source"),
            ("[sweep]\nsource = \"http://x/y\"\ndestination = \"null\"\nsize_mib = 3".to_owned(), "leave out size_mib"),
        ] {
            let error = Matrix::parse(&text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        let many = (1..200).map(|number| number.to_string()).collect::<Vec<_>>().join(",");
        assert!(
            Matrix::parse(&sweep(&format!("chunk_mib = [{many}]\nslots = [{many}]"))).unwrap_err().contains("10000")
        );
    }

    #[test]
    fn the_time_left_is_what_each_combination_took() {
        let seconds = Duration::from_secs;
        assert_eq!(time_left(&[], [0, 1]), None);
        assert_eq!(
            time_left(&[(0, seconds(1)), (0, seconds(3)), (1, seconds(8))], [0, 1, 2]),
            Some(seconds(2 + 8 + 4))
        );
    }
}
