//! Medians, quantiles and ratios: pure.

use std::collections::BTreeMap;

use serde::Serialize;

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
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
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

/// The samples of two series that were neighbours. Each must name the other: the reference has a sample in a round for
/// each of its opponents, and every opponent names the reference.
pub fn pairs<'a>(ours: &'a Series, theirs: &'a Series) -> impl Iterator<Item = (&'a Sample, &'a Sample)> {
    theirs.samples.iter().filter_map(move |their| {
        let neighbour = |our: &&Sample| {
            our.round == their.round
                && our.beside.as_deref() == Some(theirs.contestant.as_str())
                && their.beside.as_deref() == Some(ours.contestant.as_str())
        };
        ours.samples.iter().find(neighbour).map(|our| (our, their))
    })
}

/// The median rate of each round. A contestant that is paired with several has several samples in a round, and these
/// are neighbours: they tell less than as many from different rounds.
pub fn rates_by_round(series: &Series) -> Vec<f64> {
    let mut rounds: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for sample in &series.samples {
        rounds.entry(sample.round).or_default().push(sample.rate());
    }
    rounds.into_values().filter_map(median).collect()
}

/// How many times as fast `ours` was as its neighbours `theirs`, round by round: the geometric mean over them.
pub fn ratios_by_round(ours: &Series, theirs: &[&Series]) -> Vec<f64> {
    let mut rounds: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for (our, their) in theirs.iter().flat_map(|theirs| pairs(ours, theirs)) {
        rounds.entry(our.round).or_default().push((our.rate() / their.rate()).ln());
    }
    rounds.into_values().map(|logs| (logs.iter().sum::<f64>() / logs.len() as f64).exp()).collect()
}

/// More samples than these on a side are thinned out evenly: the exact distribution of many takes long to count.
const TESTED_MAX: usize = 60;

/// How likely two sets of values that come from one distribution are to differ by as much as these or more, in either
/// direction: the exact two-sided Mann-Whitney U test (Wilcoxon's rank sum), with middle ranks for equal values.
/// Nothing where a side is empty.
///
/// Our own, because the crates at hand approximate where values are equal or are wrong for few samples: `statrs` 0.19
/// gives 1 for seven values that are all below seven others, where 2 of 3432 is right.
pub fn mann_whitney(one: &[f64], other: &[f64]) -> Option<f64> {
    let (one, other) = (thinned(one), thinned(other));
    let (few, many) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    if few.is_empty() {
        return None;
    }
    let ranks = doubled_ranks(&few, &many);
    let size = ranks.len();
    let observed: usize = ranks[..few.len()].iter().sum();
    // In how many ways so many of all ranks (first index) sum up to so much (second): each rank is taken, or not.
    let sum_max = size * (size + 1);
    let mut ways = vec![vec![0.0_f64; sum_max + 1]; few.len() + 1];
    ways[0][0] = 1.0;
    for rank in &ranks {
        for taken in (1..=few.len()).rev() {
            let (before, after) = ways.split_at_mut(taken);
            let (fewer, these) = (&before[taken - 1], &mut after[0]);
            for (sum, ways) in these.iter_mut().enumerate().skip(*rank) {
                *ways += fewer[sum - rank];
            }
        }
    }
    let expected = few.len() * (size + 1);
    let distance = observed.abs_diff(expected);
    let all: f64 = ways[few.len()].iter().sum();
    let extreme = ways[few.len()].iter().enumerate().filter(|(sum, _)| sum.abs_diff(expected) >= distance);
    Some(extreme.map(|(_, ways)| ways).sum::<f64>() / all)
}

fn thinned(values: &[f64]) -> Vec<f64> {
    let kept = values.len().min(TESTED_MAX);
    (0..kept).map(|index| values[index * values.len() / kept]).collect()
}

/// Twice the rank (from 1) of each value among all of them, so that the middle of equal ones is a whole number.
fn doubled_ranks(few: &[f64], many: &[f64]) -> Vec<usize> {
    let all: Vec<f64> = few.iter().chain(many).copied().collect();
    let rank = |value: &f64| {
        let below = all.iter().filter(|other| other.total_cmp(value).is_lt()).count();
        let equal = all.iter().filter(|other| other.total_cmp(value).is_eq()).count();
        2 * below + equal + 1
    };
    all.iter().map(rank).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
            note: None,
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
        let dd = series("dd", &[(0, "ours", 20.0), (1, "ours", 9.0)]);
        let close = |found: &[f64], wanted: &[f64]| {
            let all = found.iter().zip(wanted).all(|(found, wanted)| (found / wanted - 1.0).abs() < 1e-9);
            assert!(found.len() == wanted.len() && all, "{found:?}, not {wanted:?}");
        };
        close(&rates_by_round(&ours), &[(100.0 + 20.0) / 2.0, (50.0 + 100.0 / 9.0) / 2.0]);
        // 2 times cp and 4 times dd in the first round, 4 times and once in the second.
        close(&ratios_by_round(&ours, &[&cp, &dd]), &[8.0_f64.sqrt(), 2.0]);
        assert!(ratios_by_round(&ours, &[]).is_empty());
    }

    #[test]
    fn exact_probabilities_of_the_rank_sum() {
        let separate = |few: u32, many: u32| {
            let low: Vec<f64> = (0..few).map(f64::from).collect();
            let high: Vec<f64> = (0..many).map(|value| f64::from(value + 1000)).collect();
            let p = mann_whitney(&low, &high).unwrap();
            assert!((p - mann_whitney(&high, &low).unwrap()).abs() < 1e-12, "it is the same from both sides");
            p
        };
        assert!((separate(7, 7) - 2.0 / 3432.0).abs() < 1e-12);
        assert!((separate(5, 5) - 2.0 / 252.0).abs() < 1e-12);
        assert!((separate(3, 5) - 2.0 / 56.0).abs() < 1e-12);
        // Table I of Mann and Whitney (1947): for 4 and 4, P(U <= 1) = 0.029.
        let p = mann_whitney(&[1.0, 2.0, 3.0, 5.0], &[4.0, 6.0, 7.0, 8.0]).unwrap();
        assert!((p - 4.0 / 70.0).abs() < 1e-12, "{p}");
        assert_eq!(mann_whitney(&[1.0; 9], &[1.0; 7]), Some(1.0));
        assert_eq!(mann_whitney(&[], &[1.0]), None);
        assert!(separate(300, 300) < 1e-12);
    }

    #[test]
    fn the_same_distribution_is_rarely_a_change() {
        let seed =
            std::env::var("TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
        println!("TEST_SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        // A skewed distribution: what slows a sample down has no bound, what makes it fast has.
        let mut draw =
            |middle: f64| (0..7).map(|_| middle / (1.0 - 0.1 * random.f64().max(1e-9).ln())).collect::<Vec<_>>();
        let trials = 3000;
        let mut changed = |shift: f64| {
            let found = (0..trials).filter(|_| mann_whitney(&draw(1.0), &draw(shift)).unwrap() < 0.01).count();
            found as f64 / f64::from(trials)
        };
        // Of 3432 arrangements at most 34 are below the level. Six standard deviations of 3,000 trials are 1.1 %.
        assert!(changed(1.0) < 0.021);
        assert!(changed(1.4) > 0.9);
    }

    proptest! {
        #[test]
        fn order_and_scale_of_values_do_not_matter(
            one in prop::collection::vec(0_u16..50, 1..12), other in prop::collection::vec(0_u16..50, 1..12), rotate in 0_usize..12,
        ) {
            let floats = |values: &[u16]| values.iter().map(|value| f64::from(*value)).collect::<Vec<_>>();
            let (one, other) = (floats(&one), floats(&other));
            let p = mann_whitney(&one, &other).unwrap();
            prop_assert!(p > 0.0 && p <= 1.0 + 1e-12);
            let mut turned = one.clone();
            turned.rotate_left(rotate % one.len());
            let scaled = |values: &[f64]| values.iter().map(|value| value * 3.0 + 7.0).collect::<Vec<_>>();
            prop_assert!((p - mann_whitney(&scaled(&turned), &scaled(&other)).unwrap()).abs() < 1e-9);
            prop_assert!((p - mann_whitney(&other, &one).unwrap()).abs() < 1e-9);
        }
    }
}
