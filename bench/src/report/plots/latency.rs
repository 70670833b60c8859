//! Latency: which share of operations took no longer than how long. Both axes are logarithmic, the vertical one towards
//! 100 %, so that the slowest of ten thousand can be seen.

use plotters::{
    prelude::*,
    style::text_anchor::{HPos, VPos},
};

use super::{FAINT_INK, GRID, LINES, Mark, Plot, text};
use crate::{record::Series, report::figures};

const SIZE: (u32, u32) = (480, 300);
/// The most lines that can be told apart.
pub(super) const LINES_MAX: usize = LINES.len();
/// The vertical axis ends at 1 of 10 to this power.
const NINES: f64 = 4.0;

/// A line for each series under these names; nothing where nobody has latencies.
pub fn latency(named: &[(String, &Series)]) -> Option<Plot> {
    let lines: Vec<(&String, Vec<(f64, f64)>)> = named
        .iter()
        .map(|(name, series)| (name, points(series)))
        .filter(|(_, points)| points.len() > 1)
        .take(LINES_MAX)
        .collect();
    let seconds = || lines.iter().flat_map(|(_, points)| points).map(|(seconds, _)| *seconds);
    let from = seconds().min_by(f64::total_cmp)?.log10().floor();
    let to = seconds().max_by(f64::total_cmp)?.log10().ceil().max(from + 1.0);
    let legend = lines.iter().zip(LINES).map(|((name, _), colour)| (colour, Mark::Line, (*name).clone())).collect();
    let caption = "Latency: the share of operations that took no longer (both axes logarithmic)";
    Some(Plot::draw(caption, SIZE, legend, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin_top(12)
            .margin_right(30)
            .set_label_area_size(LabelAreaPosition::Left, 66)
            .set_label_area_size(LabelAreaPosition::Bottom, 26)
            .build_cartesian_2d(from..to, 0.0..NINES)?;
        for power in from as i32..=to as i32 {
            let at = f64::from(power);
            chart.draw_series([PathElement::new([(at, 0.0), (at, NINES)], GRID.drawn())])?;
            let label = Text::new(power_of_ten_seconds(power), (0, 8), text(FAINT_INK, HPos::Center, VPos::Top));
            chart.draw_series([EmptyElement::at((at, 0.0)) + label])?;
        }
        for (share, label) in
            [(0.0, "0 %"), (0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %"), (0.9999, "99.99 %")]
        {
            let at = nines(share);
            chart.draw_series([PathElement::new([(from, at), (to, at)], GRID.drawn())])?;
            let label = Text::new(label, (-6, 0), text(FAINT_INK, HPos::Right, VPos::Center));
            chart.draw_series([EmptyElement::at((from, at)) + label])?;
        }
        for ((_, points), colour) in lines.iter().zip(LINES) {
            let line = points.iter().map(|(seconds, share)| (seconds.log10(), nines(*share)));
            chart.draw_series(LineSeries::new(line, colour.drawn().stroke_width(2)))?;
        }
        Ok(())
    }))
}

/// Seconds and share at every quantile that its samples tell.
fn points(series: &Series) -> Vec<(f64, f64)> {
    let mut quantiles: Vec<f64> =
        series.samples.iter().flat_map(|s| &s.latency).map(|(quantile, _)| *quantile).collect();
    quantiles.sort_by(f64::total_cmp);
    quantiles.dedup();
    let each = quantiles.into_iter().filter_map(|quantile| Some((figures::latency(series, quantile)?, quantile)));
    each.filter(|(seconds, _)| *seconds > 0.0).collect()
}

/// 0 for none, 1 for 90 %, 2 for 99 % and so on.
fn nines(share: f64) -> f64 {
    (-(1.0 - share).max(f64::MIN_POSITIVE).log10()).clamp(0.0, NINES)
}

fn power_of_ten_seconds(power: i32) -> String {
    let (value, unit) = match power {
        ..-6 => (power + 9, "ns"),
        -6..-3 => (power + 6, "µs"),
        -3..0 => (power + 3, "ms"),
        _ => (power, "s"),
    };
    format!("{} {unit}", 10_f64.powi(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_in_their_places() {
        assert!((nines(0.99) - 2.0).abs() < 1e-9 && nines(0.0).abs() < 1e-9);
        assert!((nines(1.0) - NINES).abs() < f64::EPSILON);
        let marks: Vec<String> = [-7, -6, -4, -1, 0, 1].map(power_of_ten_seconds).into();
        assert_eq!(marks, ["100 ns", "1 µs", "100 µs", "100 ms", "1 s", "10 s"]);
    }
}
