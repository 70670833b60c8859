//! Sweeps: what a setting does to the rate.

use std::collections::BTreeMap;

use plotters::{
    prelude::*,
    style::text_anchor::{HPos, VPos},
};

use super::{FAINT_INK, LINES, Mark, Plot, axis, text, vertical_axis};
use crate::{
    record::Series,
    report::{
        figures::rate,
        gathered::{CaseResults, describe, in_order, readable},
    },
    statistics::Spread,
};

const SIZE: (u32, u32) = (480, 280);
/// Settings that are drawn along the horizontal axis, in plots of their own: those with the most values.
const AXES_MAX: usize = 2;
/// The most plots of one sweep; what is left out stands in the table.
const PLOTS_MAX: usize = 24;

/// One measured point: its settings, contestant included, and its rate.
type Point<'a> = (BTreeMap<String, String>, &'a Series, Spread);

/// Plots along the settings with the most values; a line for each value of the next one, and a plot for each
/// combination of the others. The values stand at equal distances, whatever they are.
pub fn sweep(case: &CaseResults) -> Vec<Plot> {
    if !case.is_sweep() {
        return Vec::new();
    }
    let mut varying = case.varying();
    let contestants = in_order(measured(case).map(|(_, series, _)| series.contestant.clone()));
    if contestants.len() > 1 {
        varying.insert("contestant".to_owned(), contestants);
    }
    let mut settings: Vec<(String, Vec<String>)> = varying.into_iter().collect();
    settings.sort_by_key(|(name, values)| (std::cmp::Reverse(values.len()), name.clone()));
    let axes = settings.iter().filter(|(name, values)| name != "contestant" && values.len() >= 2).take(AXES_MAX);
    let plots = axes.flat_map(|(along, values)| {
        let line = settings.iter().find(|(name, values)| name != along && values.len() <= LINES.len());
        let line = line.map(|(name, values)| (name.as_str(), values.as_slice()));
        plots(case, (along, values), line, settings.iter().map(|(name, _)| name.as_str()))
    });
    plots.take(PLOTS_MAX).collect()
}

fn measured(case: &CaseResults) -> impl Iterator<Item = Point<'_>> {
    case.groups.iter().flat_map(|group| &group.series).filter_map(|series| {
        let mut settings = series.settings.clone();
        settings.insert("contestant".to_owned(), series.contestant.clone());
        Some((settings, series, rate(series)?))
    })
}

/// A line's name: whose it is, or the setting with its value.
fn name_of(line: &str, value: &str) -> String {
    if line == "contestant" { value.to_owned() } else { describe([(&line.to_owned(), &value.to_owned())]) }
}

fn plots<'a>(
    case: &CaseResults,
    (along, values): (&str, &[String]),
    line: Option<(&str, &[String])>,
    varying: impl Iterator<Item = &'a str>,
) -> Vec<Plot> {
    let fixed: Vec<&str> =
        varying.filter(|name| *name != along && line.is_none_or(|(line, _)| line != *name)).collect();
    let mut facets: Vec<(BTreeMap<String, String>, Vec<Point<'_>>)> = Vec::new();
    let (mut most, mut operations) = (0.0_f64, false);
    for point in measured(case) {
        most = most.max(point.2.max);
        operations |= crate::report::figures::counts_operations(point.1);
        let of = |name: &&str| Some(((*name).to_owned(), point.0.get(*name)?.clone()));
        let key: BTreeMap<String, String> = fixed.iter().filter_map(of).collect();
        match facets.iter_mut().find(|(known, _)| *known == key) {
            Some((_, points)) => points.push(point),
            None => facets.push((key, vec![point])),
        }
    }
    let (unit, per) = if operations { ("operations per second", 1.0) } else { ("MB/s", 1e6) };
    let up = axis(most / per, 4);
    let only = [String::new()];
    let (line, lines) = line.unwrap_or(("", &only));
    let draw = |(key, points): (BTreeMap<String, String>, Vec<Point<'_>>)| {
        let fixed = if key.is_empty() { String::new() } else { format!(" ({})", describe(&key)) };
        let caption = format!(
            "{unit} by {}{fixed}; vertical bars from the smallest to the largest sample",
            along.replace('_', " ")
        );
        let legend = lines
            .iter()
            .zip(LINES)
            .filter(|(value, _)| !value.is_empty())
            .map(|(value, colour)| (colour, Mark::Line, name_of(line, value)));
        Plot::draw(caption, SIZE, legend.collect(), |area| {
            let mut chart = ChartBuilder::on(area)
                .margin_top(10)
                .margin_right(16)
                .set_label_area_size(LabelAreaPosition::Left, 64)
                .set_label_area_size(LabelAreaPosition::Bottom, 26)
                .build_cartesian_2d(0.0..values.len() as f64, 0.0..up.0)?;
            vertical_axis(&mut chart, up, (0.0, values.len() as f64))?;
            for (place, value) in values.iter().enumerate() {
                let label = Text::new(readable(along, value), (0, 8), text(FAINT_INK, HPos::Center, VPos::Top));
                chart.draw_series([EmptyElement::at((place as f64 + 0.5, 0.0)) + label])?;
            }
            for (index, (value, colour)) in lines.iter().zip(LINES).enumerate() {
                let here = |point: &&Point<'_>| line.is_empty() || point.0.get(line) == Some(value);
                let place = |point: &Point<'_>| values.iter().position(|value| point.0.get(along) == Some(value));
                let mut line: Vec<(usize, Spread)> =
                    points.iter().filter(here).filter_map(|point| Some((place(point)?, point.2))).collect();
                line.sort_by_key(|(place, _)| *place);
                // Side by side, so that no bar hides another.
                let aside = (index as f64 - (lines.len() as f64 - 1.0) / 2.0) * 0.04;
                let at = |place: usize| place as f64 + 0.5 + aside;
                let drawn = colour.drawn();
                chart.draw_series(LineSeries::new(
                    line.iter().map(|(place, rate)| (at(*place), rate.median / per)),
                    drawn.stroke_width(2),
                ))?;
                for (place, rate) in line {
                    let x = at(place);
                    chart.draw_series([PathElement::new([(x, rate.min / per), (x, rate.max / per)], drawn)])?;
                    chart.draw_series([Circle::new((x, rate.median / per), 4, drawn.filled())])?;
                }
            }
            Ok(())
        })
    };
    facets.into_iter().map(draw).collect()
}
