//! Medians, quantiles and ratios: pure.

use crate::record::{Sample, Series};

/// The middle of the values; of an even number, between the two in the middle.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// Median, smallest and largest of some values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// How many there are.
    pub count: usize,
}

impl Spread {
    /// Of some values; nothing of none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let values: Vec<f64> = values.into_iter().collect();
        let median = median(values.iter().copied())?;
        let min = values.iter().copied().fold(f64::INFINITY, f64::min);
        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Some(Self { median, min, max, count: values.len() })
    }
}

/// How many times faster `ours` was than `theirs`: the median over pairs of neighbours. Nothing when there is no pair.
pub fn ratio(ours: &Series, theirs: &Series) -> Option<Spread> {
    Spread::of(pairs(ours, theirs).map(|(ours, theirs)| ours.rate() / theirs.rate()))
}

/// The samples of two series that were neighbours.
pub fn pairs<'a>(ours: &'a Series, theirs: &'a Series) -> impl Iterator<Item = (&'a Sample, &'a Sample)> {
    theirs.samples.iter().filter_map(move |their| {
        let neighbour = |our: &&Sample| {
            our.round == their.round
                && (our.beside.as_deref() == Some(theirs.contestant.as_str())
                    || their.beside.as_deref() == Some(ours.contestant.as_str()))
        };
        ours.samples.iter().find(neighbour).map(|our| (our, their))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Kind;

    #[test]
    fn medians() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median([]), None);
        assert_eq!(Spread::of([2.0, 8.0, 4.0]), Some(Spread { median: 4.0, min: 2.0, max: 8.0, count: 3 }));
    }

    #[test]
    fn ratios_are_taken_between_neighbours_only() {
        let series = |contestant: &str, samples: &[(usize, &str, f64)]| Series {
            case: "c".into(),
            settings: Default::default(),
            contestant: contestant.into(),
            kind: Kind::Rival,
            absent: None,
            samples: samples
                .iter()
                .map(|(round, beside, seconds)| Sample {
                    round: *round,
                    beside: Some((*beside).into()),
                    seconds: *seconds,
                    bytes: 100,
                    ..Sample::default()
                })
                .collect(),
        };
        let ours = series("ours", &[(0, "cp", 1.0), (0, "dd", 5.0), (1, "cp", 2.0), (1, "dd", 9.0)]);
        let cp = series("cp", &[(0, "ours", 2.0), (1, "ours", 8.0), (2, "ours", 1.0)]);
        assert_eq!(ratio(&ours, &cp), Some(Spread { median: 3.0, min: 2.0, max: 4.0, count: 2 }));
        assert_eq!(ratio(&ours, &series("rsync", &[])), None);
    }
}
