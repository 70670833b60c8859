//! Results by case: what tables and pages are made of. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::record::{Record, Run, Series};

/// Everything that some records hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gathered {
    /// The runs, in their order.
    pub runs: Vec<Run>,
    /// The cases, in the order in which they first appear.
    pub cases: Vec<CaseResults>,
}

/// All results of the cases of one name.
#[derive(Clone, Debug, PartialEq)]
pub struct CaseResults {
    /// That name.
    pub name: String,
    /// One for each combination of settings, in the order in which they first appear.
    pub groups: Vec<Group>,
}

/// Those who were measured against one another.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// What tells it from its siblings.
    pub settings: BTreeMap<String, String>,
    /// Cores of the machine.
    pub cores: usize,
    /// The reference first.
    pub series: Vec<Series>,
}

/// More rounds than any run has.
const ROUNDS_MAX: usize = 1_000_000;

/// Sorts records by case. Where two runs measured the same on the same machine with the same versions, the later one
/// goes on with the earlier one's samples; where machine or versions differ, a setting named `run` keeps them apart.
pub fn gather(records: impl IntoIterator<Item = Record>) -> Gathered {
    let mut gathered = Gathered::default();
    for record in records {
        match record {
            Record::Run(run) => gathered.runs.push(*run),
            Record::Series(series) => gathered.add(series),
        }
    }
    gathered
}

impl Gathered {
    fn add(&mut self, mut series: Series) {
        let run = self.runs.last();
        let cores = run.map_or(1, |run| run.host.cores);
        // Rounds of one run come after those of another, so that nobody finds a neighbour in another run.
        let shift = self.runs.len().saturating_sub(1) * ROUNDS_MAX;
        series.samples.iter_mut().for_each(|sample| sample.round += shift);
        if let (Some(run), Some(first)) = (run, self.runs.first())
            && (&run.host, &run.versions) != (&first.host, &first.versions)
        {
            series.settings.insert("run".to_owned(), run.started_at.clone());
        }
        let case = at(
            &mut self.cases,
            |case| case.name == series.case,
            || CaseResults { name: series.case.clone(), groups: Vec::new() },
        );
        let group = at(
            &mut case.groups,
            |group| group.settings == series.settings,
            || Group { settings: series.settings.clone(), cores, series: Vec::new() },
        );
        match group.series.iter_mut().find(|known| known.contestant == series.contestant) {
            None => group.series.push(series),
            Some(known) => {
                known.samples.extend(series.samples);
                known.absent = known.absent.take().filter(|_| known.samples.is_empty());
                known.note = series.note.or(known.note.take());
            }
        }
    }
}

/// The element that is `wanted`, made where it is not there.
fn at<T>(list: &mut Vec<T>, wanted: impl Fn(&T) -> bool, make: impl FnOnce() -> T) -> &mut T {
    let index = list.iter().position(wanted).unwrap_or(list.len());
    if index == list.len() {
        list.push(make());
    }
    &mut list[index]
}

impl CaseResults {
    /// The settings in which its groups differ, with their values in the order of [`in_order`].
    pub fn varying(&self) -> BTreeMap<String, Vec<String>> {
        let names: BTreeSet<&String> = self.groups.iter().flat_map(|group| group.settings.keys()).collect();
        let values = names.into_iter().map(|name| {
            let values = self.groups.iter().filter_map(|group| group.settings.get(name).cloned());
            let all_have_it = self.groups.iter().all(|group| group.settings.contains_key(name));
            (name.clone(), in_order(values), all_have_it)
        });
        let differing = values.filter(|(_, values, all_have_it)| values.len() > 1 || !all_have_it);
        differing.map(|(name, values, _)| (name, values)).collect()
    }

    /// Whether it is a sweep: it differs in more than the state of memory.
    pub fn is_sweep(&self) -> bool {
        self.varying().keys().any(|name| name != "memory")
    }
}

/// Different values in ascending order: by quantity where all are quantities, else as they came.
pub fn in_order(values: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut different: Vec<String> = Vec::new();
    for value in values {
        if !different.contains(&value) {
            different.push(value);
        }
    }
    if different.iter().all(|value| quantity(value).is_some()) {
        different.sort_by(|one, other| quantity(one).partial_cmp(&quantity(other)).expect("quantities are finite"));
    }
    different
}

/// The number in `4`, `0.5` or `4 MiB`.
pub fn quantity(text: &str) -> Option<f64> {
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    let unit = match unit {
        "" => 1.0,
        "KiB" => 1024.0,
        "MiB" => 1_048_576.0,
        "GiB" => 1_073_741_824.0,
        _ => return None,
    };
    number.parse::<f64>().ok().filter(|number| number.is_finite()).map(|number| number * unit)
}

/// Settings as people read them, for instance `512 MiB, memory touched before`.
pub fn describe<'a>(settings: impl IntoIterator<Item = (&'a String, &'a String)>) -> String {
    let words =
        settings.into_iter().map(|(name, value)| format!("{} {}", name.replace('_', " "), readable(name, value)));
    words.collect::<Vec<_>>().join(", ")
}

/// The value of a setting as people read it: bytes of a size in the largest unit that divides them.
pub fn readable(name: &str, value: &str) -> String {
    match (name, value.parse::<u64>()) {
        ("size" | "data" | "bytes", Ok(bytes)) if bytes >= 1024 => bytes_in_words(bytes),
        _ => value.to_owned(),
    }
}

/// Bytes in the largest binary unit of which they are a whole number.
pub fn bytes_in_words(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = units.into_iter().find(|(bits, _)| bytes >= 1 << bits && bytes.is_multiple_of(1 << bits));
    unit.map_or_else(|| format!("{bytes} B"), |(bits, unit)| format!("{} {unit}", bytes >> bits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Host, Kind, Sample};

    fn series(case: &str, chunk: &str, contestant: &str, rounds: &[usize]) -> Record {
        Record::Series(Series {
            case: case.into(),
            settings: [("chunk".to_owned(), chunk.to_owned())].into(),
            contestant: contestant.into(),
            kind: Kind::Ours,
            absent: rounds.is_empty().then(|| "not installed".to_owned()),
            note: None,
            samples: rounds.iter().map(|round| Sample { round: *round, ..Sample::default() }).collect(),
        })
    }

    fn run(cores: usize) -> Record {
        Record::Run(Box::new(Run {
            started_at: format!("run on {cores}"),
            host: Host { cores, ..Host::default() },
            ..Run::default()
        }))
    }

    #[test]
    fn series_are_sorted_by_case_and_settings() {
        let records =
            [run(2), series("a", "4 MiB", "x", &[0]), series("b", "1", "x", &[0]), series("a", "512 KiB", "x", &[0])];
        let gathered = gather(records);
        assert_eq!(gathered.cases.len(), 2);
        assert!(gathered.cases[0].is_sweep() && !gathered.cases[1].is_sweep());
        assert_eq!(gathered.cases[0].varying()["chunk"], ["512 KiB", "4 MiB"]);
        assert_eq!(gathered.cases[0].groups[0].cores, 2);
    }

    #[test]
    fn a_later_run_on_the_same_machine_goes_on_and_one_elsewhere_stands_apart() {
        let same = gather([
            run(2),
            series("a", "1", "x", &[0, 1]),
            series("a", "1", "y", &[]),
            run(2),
            series("a", "1", "x", &[0]),
            series("a", "1", "y", &[0]),
        ]);
        let group = &same.cases[0].groups[0];
        let rounds = |index: usize| group.series[index].samples.iter().map(|s| s.round).collect::<Vec<_>>();
        assert_eq!(rounds(0), [0, 1, 1_000_000]);
        assert!(rounds(1) == [1_000_000] && group.series[1].absent.is_none());
        let other = gather([run(2), series("a", "1", "x", &[0]), run(4), series("a", "1", "x", &[0])]);
        assert_eq!(other.cases[0].groups.len(), 2);
        assert_eq!(other.cases[0].groups[1].settings["run"], "run on 4");
    }

    #[test]
    fn values_of_settings_are_read() {
        assert_eq!(quantity("4 MiB"), Some(4_194_304.0));
        assert_eq!(quantity("0.5"), Some(0.5));
        assert_eq!(quantity("as found"), None);
        assert_eq!(in_order(["b", "a", "b"].map(String::from)), ["b", "a"]);
        assert_eq!(readable("size", "134217728"), "128 MiB");
        assert_eq!(readable("clients", "4096"), "4096");
        assert_eq!(bytes_in_words(1025), "1025 B");
    }
}
