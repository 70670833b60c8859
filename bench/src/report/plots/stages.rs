//! Where the time went: a bar for each contestant that tells, one piece for each stage.

use plotters::{
    prelude::*,
    style::text_anchor::{HPos, VPos},
};

use super::{BARS, Colour, INK, INK_ON_BAR, Mark, Plot, horizontal_axis, shortened, text, widest};
use crate::{
    record::Series,
    report::figures::{CHUNK_STAGES, stage_shares},
};

const WIDTH: u32 = 480;
const ROW: u32 = 34;
const NAME_CHARACTERS_MAX: usize = 26;

/// The shares of stages of some series under these names; nothing where nobody tells any.
pub fn stages(named: &[(String, &Series)]) -> Option<Plot> {
    let rows: Vec<_> = named
        .iter()
        .map(|(name, series)| (shortened(name, NAME_CHARACTERS_MAX), stage_shares(series)))
        .filter(|(_, shares)| !shares.is_empty())
        .collect();
    let mut order: Vec<&str> = CHUNK_STAGES.to_vec();
    for (stage, _) in rows.iter().flat_map(|(_, shares)| shares) {
        if !order.contains(&stage.as_str()) {
            order.push(stage);
        }
    }
    let colour = |stage: &str| -> Colour {
        BARS[order.iter().position(|known| *known == stage).unwrap_or_default() % BARS.len()]
    };
    let shown =
        |stage: &&&str| rows.iter().flat_map(|(_, shares)| shares).any(|one| one.0 == **stage && one.1 > 0.0005);
    let legend = order.iter().filter(shown).map(|stage| (colour(stage), Mark::Bar, stage.replace('_', " "))).collect();
    let bottom = rows.len() as f64;
    if rows.is_empty() {
        return None;
    }
    let caption = "Where the work waited: shares of the time in each stage, in percent";
    Some(Plot::draw(caption, (WIDTH, rows.len() as u32 * ROW + 34), legend, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin_top(4)
            .margin_right(26)
            .set_label_area_size(LabelAreaPosition::Left, widest(rows.iter().map(|(name, _)| name.as_str())) + 12)
            .set_label_area_size(LabelAreaPosition::Bottom, 26)
            .build_cartesian_2d(0.0..100.0, bottom..0.0)?;
        horizontal_axis(&mut chart, (100.0, 20.0), (bottom, 0.0))?;
        for (row, (name, shares)) in rows.iter().enumerate() {
            let (top, middle) = (row as f64 + 0.14, row as f64 + 0.5);
            let label = Text::new(name.clone(), (-8, 0), text(INK, HPos::Right, VPos::Center));
            chart.draw_series([EmptyElement::at((0.0, middle)) + label])?;
            let mut from = 0.0;
            for (stage, share) in shares {
                let to = from + share * 100.0;
                let piece = [(from, top), (to, row as f64 + 0.86)];
                chart.draw_series([Rectangle::new(piece, colour(stage).drawn().filled())])?;
                if *share >= 0.1 {
                    let percent = format!("{:.0}", share * 100.0);
                    let label = Text::new(percent, (0, 0), text(INK_ON_BAR, HPos::Center, VPos::Center));
                    chart.draw_series([EmptyElement::at((f64::midpoint(from, to), middle)) + label])?;
                }
                from = to;
            }
        }
        Ok(())
    }))
}
