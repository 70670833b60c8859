//! Throughput over time: a small plot for each contestant, all at one scale.

use plotters::prelude::*;

use super::{LINES, Mark, Plot, axis, horizontal_axis, vertical_axis};
use crate::{
    record::{Sample, Series, Timeline},
    report::gathered::Group,
};

const SIZE: (u32, u32) = (320, 170);

/// A plot for each contestant whose samples have timelines, of the sample that took the median time.
pub fn timelines(group: &Group) -> Vec<Plot> {
    let all: Vec<(&Series, &Sample)> = group
        .series
        .iter()
        .filter_map(|series| Some((series, middle(series)?)))
        .filter(|(_, sample)| sample.timelines.iter().any(is_telling))
        .collect();
    let mut meters: Vec<&str> = Vec::new();
    for timeline in all.iter().flat_map(|(_, sample)| &sample.timelines) {
        if !meters.contains(&timeline.meter.as_str()) {
            meters.push(&timeline.meter);
        }
    }
    let points = |sample: &Sample| sample.timelines.iter().map(points).collect::<Vec<_>>();
    // What is metered goes on a little longer than what is timed.
    let metered = all.iter().flat_map(|(_, sample)| points(sample)).flatten().map(|point| point.0);
    let longest = all.iter().map(|(_, sample)| sample.seconds).chain(metered).fold(0.0, f64::max);
    let highest = all.iter().flat_map(|(_, sample)| points(sample)).flatten().map(|point| point.1).fold(0.0, f64::max);
    let (across, up) = (axis(longest, 4), axis(highest, 3));
    let draw = |(series, sample): &(&Series, &Sample)| {
        let legend = meters.iter().enumerate();
        let legend = legend.map(|(index, meter)| (line_colour(index), Mark::Line, (*meter).to_owned())).collect();
        Plot::draw(series.contestant.clone(), SIZE, legend, |area| {
            let mut chart = ChartBuilder::on(area)
                .margin_top(8)
                .margin_right(16)
                .set_label_area_size(LabelAreaPosition::Left, 52)
                .set_label_area_size(LabelAreaPosition::Bottom, 26)
                .build_cartesian_2d(0.0..across.0, 0.0..up.0)?;
            horizontal_axis(&mut chart, across, (0.0, up.0))?;
            vertical_axis(&mut chart, up, (0.0, across.0))?;
            for timeline in &sample.timelines {
                let index = meters.iter().position(|meter| *meter == timeline.meter).unwrap_or_default();
                let style = line_colour(index).drawn().stroke_width(2);
                chart.draw_series(LineSeries::new(self::points(timeline), style))?;
            }
            Ok(())
        })
    };
    all.iter().map(draw).collect()
}

/// Whether there is a line to draw.
fn is_telling(timeline: &Timeline) -> bool {
    points(timeline).len() > 1 && timeline.bytes.iter().any(|bytes| *bytes > 0)
}

fn line_colour(index: usize) -> super::Colour {
    LINES[index % LINES.len()]
}

/// The sample whose rate is the median's neighbour.
fn middle(series: &Series) -> Option<&Sample> {
    let mut samples: Vec<&Sample> = series.samples.iter().collect();
    samples.sort_by(|one, other| one.rate().total_cmp(&other.rate()));
    samples.get(samples.len() / 2).copied()
}

/// Seconds at the middle of each interval, and MB/s in it. The last one is left out where there are others: it is
/// shorter, by how much is not known.
fn points(timeline: &Timeline) -> Vec<(f64, f64)> {
    let whole = if timeline.bytes.len() > 2 { timeline.bytes.len() - 1 } else { timeline.bytes.len() };
    let interval = timeline.interval_seconds.max(f64::EPSILON);
    let rates = timeline.bytes[..whole].iter().enumerate();
    rates.map(|(index, bytes)| ((index as f64 + 0.5) * interval, *bytes as f64 / interval / 1e6)).collect()
}
