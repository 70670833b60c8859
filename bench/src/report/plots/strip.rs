//! Every sample of every contestant, one line each.

use plotters::{
    prelude::*,
    style::text_anchor::{HPos, VPos},
};

use super::{Colour, INK, Mark, Plot, axis, horizontal_axis, shortened, text, widest};
use crate::{
    record::{Kind, Sample},
    report::{figures::rate, gathered::Group},
};

const WIDTH: u32 = 480;
const ROW: u32 = 30;
const NAME_CHARACTERS_MAX: usize = 26;

/// A dot for each sample, and a bar at the median.
pub fn strip(group: &Group) -> Option<Plot> {
    let rows: Vec<_> = group.series.iter().filter_map(|series| Some((series, rate(series)?))).collect();
    let most = rows.iter().map(|(_, rate)| rate.max).max_by(f64::total_cmp)?;
    let (unit, per) = if group.counts_operations() { ("operations per second", 1.0) } else { ("MB/s", 1e6) };
    let range = axis(most / per, 5);
    let names: Vec<String> = rows.iter().map(|(one, _)| shortened(&one.contestant, NAME_CHARACTERS_MAX)).collect();
    let mut legend = Vec::new();
    for (kind, name) in
        [(Kind::Ours, "Staccato"), (Kind::Rival, "others' tools"), (Kind::Limit, "limits of the hardware")]
    {
        if rows.iter().any(|(one, _)| one.kind == kind) {
            legend.push((Colour::of(kind), Mark::of(kind), name.to_owned()));
        }
    }
    let caption = format!("Every sample, in {unit}; a bar marks the median");
    let bottom = rows.len() as f64;
    Some(Plot::draw(caption, (WIDTH, rows.len() as u32 * ROW + 34), legend, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin_top(4)
            .margin_right(26)
            .set_label_area_size(LabelAreaPosition::Left, widest(names.iter().map(String::as_str)) + 12)
            .set_label_area_size(LabelAreaPosition::Bottom, 26)
            .build_cartesian_2d(0.0..range.0, bottom..0.0)?;
        horizontal_axis(&mut chart, range, (bottom, 0.0))?;
        for (row, ((one, rate), name)) in rows.iter().zip(&names).enumerate() {
            let (middle, colour) = (row as f64 + 0.5, Colour::of(one.kind).drawn());
            let label = Text::new(name.clone(), (-8, 0), text(INK, HPos::Right, VPos::Center));
            chart.draw_series([EmptyElement::at((0.0, middle)) + label])?;
            for (index, sample) in one.samples.iter().enumerate() {
                // Up and down a little, so that equal samples do not hide each other.
                let at = EmptyElement::at((Sample::rate(sample) / per, middle));
                let aside = [0, -4, 4, -2, 2][index % 5];
                match one.kind {
                    Kind::Ours => chart.draw_series([at + Circle::new((0, aside), 4, colour.mix(0.6).filled())])?,
                    Kind::Rival => {
                        chart.draw_series([at + TriangleMarker::new((0, aside), 5, colour.mix(0.6).filled())])?
                    }
                    Kind::Limit => chart.draw_series([
                        at + Rectangle::new([(-3, aside - 3), (3, aside + 3)], colour.mix(0.6).filled())
                    ])?,
                };
            }
            let median = EmptyElement::at((rate.median / per, middle));
            let bar = Rectangle::new([(-1, -11), (2, 11)], colour.filled());
            chart.draw_series([median + bar])?;
        }
        Ok(())
    }))
}
