//! Plots as vector graphics within a page. Drawn by plotters; colours are named by the light page's and exchanged by
//! the style sheet on a dark one ([`style_of_colours`]), text is in the page's own font.

mod latency;
mod stages;
mod strip;
mod sweep;
mod timelines;

use std::fmt::Write as _;

use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

pub use latency::latency;
pub use stages::stages;
pub use strip::strip;
pub use sweep::sweep;
pub use timelines::timelines;

use crate::record::Kind;

/// A colour on a light and on a dark page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour {
    light: (u8, u8, u8),
    dark: (u8, u8, u8),
}

const fn colour(light: (u8, u8, u8), dark: (u8, u8, u8)) -> Colour {
    Colour { light, dark }
}

/// Text.
const INK: Colour = colour((0x1F, 0x24, 0x2B), (0xE8, 0xEA, 0xED));
/// Text on a coloured bar, which is the same on both pages.
const INK_ON_BAR: Colour = colour((0x00, 0x00, 0x01), (0x00, 0x00, 0x01));
/// Axes and small text.
const FAINT_INK: Colour = colour((0x56, 0x5E, 0x69), (0xA9, 0xB1, 0xBC));
/// Lines behind everything.
const GRID: Colour = colour((0xDD, 0xE1, 0xE6), (0x3A, 0x41, 0x4B));

/// Whose it is: told apart by colour, by lightness and by shape.
const OURS: Colour = colour((0x0A, 0x5B, 0xA8), (0x6C, 0xB4, 0xF5));
const RIVAL: Colour = colour((0xB8, 0x4A, 0x00), (0xF5, 0xA1, 0x5B));
const LIMIT: Colour = colour((0x4A, 0x52, 0x5D), (0xC3, 0xCA, 0xD3));

/// Lines of a plot (after Okabe and Ito, *Color Universal Design*, 2008; darker on white, lighter on black).
const LINES: [Colour; 8] = [
    OURS,
    RIVAL,
    colour((0x00, 0x76, 0x57), (0x3F, 0xD0, 0xA5)),
    colour((0x9B, 0x3F, 0x78), (0xE3, 0x9B, 0xC6)),
    colour((0x2E, 0x8F, 0xC4), (0xA6, 0xDA, 0xF7)),
    colour((0x8A, 0x6D, 0x00), (0xEF, 0xD9, 0x4B)),
    colour((0x4A, 0x52, 0x5D), (0xC3, 0xCA, 0xD3)),
    colour((0xC9, 0x1F, 0x37), (0xFF, 0x8A, 0x8A)),
];

/// Bars that lie side by side, with dark text on them: the same on both pages.
const BARS: [Colour; 8] = [
    colour((0xC7, 0xCC, 0xD3), (0xC7, 0xCC, 0xD3)),
    colour((0xCC, 0x9A, 0xD0), (0xCC, 0x9A, 0xD0)),
    colour((0xF0, 0xE4, 0x42), (0xF0, 0xE4, 0x42)),
    colour((0x56, 0xB4, 0xE9), (0x56, 0xB4, 0xE9)),
    colour((0x2F, 0xB8, 0x8F), (0x2F, 0xB8, 0x8F)),
    colour((0xE6, 0x9F, 0x00), (0xE6, 0x9F, 0x00)),
    colour((0xEE, 0x7F, 0x4B), (0xEE, 0x7F, 0x4B)),
    colour((0xA9, 0xD1, 0x8E), (0xA9, 0xD1, 0x8E)),
];

/// Pixels of text.
const TEXT: f64 = 13.0;
/// Pixels that a character of text takes at most, on average.
const CHARACTER: f64 = 7.3;

impl Colour {
    /// The colour of a contestant of this kind.
    pub fn of(kind: Kind) -> Self {
        match kind {
            Kind::Ours => OURS,
            Kind::Rival => RIVAL,
            Kind::Limit => LIMIT,
        }
    }

    fn drawn(self) -> RGBColor {
        RGBColor(self.light.0, self.light.1, self.light.2)
    }

    /// As an attribute of a graphic, which [`style_of_colours`] exchanges.
    pub fn attribute(self) -> String {
        hex(self.light)
    }
}

fn hex((red, green, blue): (u8, u8, u8)) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}

/// The rules of a style sheet that make graphics right for a dark page.
pub fn style_of_colours() -> String {
    let mut style = String::new();
    let all = [INK, INK_ON_BAR, FAINT_INK, GRID, OURS, RIVAL, LIMIT].into_iter().chain(LINES).chain(BARS);
    let mut known = Vec::new();
    for colour in all.filter(|colour| colour.light != colour.dark) {
        if known.contains(&colour) {
            continue;
        }
        known.push(colour);
        let (light, dark) = (hex(colour.light), hex(colour.dark));
        for property in ["fill", "stroke"] {
            writeln!(style, "svg [{property}=\"{light}\"] {{ {property}: {dark} }}").expect("writing to a string");
        }
    }
    style
}

/// What a plot is drawn on.
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A finished plot: a graphic, what it shows in words, and how wide it may be.
#[derive(Clone, Debug, PartialEq)]
pub struct Plot {
    /// What it shows, for a caption and for those who do not see it.
    pub caption: String,
    /// The elements within `<svg>`.
    pub elements: String,
    /// Width and height in pixels.
    pub size: (u32, u32),
    /// What its colours mean.
    pub legend: Vec<(Colour, Mark, String)>,
}

/// How a legend shows a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A filled circle: ours.
    Circle,
    /// A triangle: a rival.
    Triangle,
    /// A square: a limit.
    Square,
    /// A line.
    Line,
    /// A piece of a bar.
    Bar,
}

impl Mark {
    /// The mark of a contestant of this kind.
    pub fn of(kind: Kind) -> Self {
        match kind {
            Kind::Ours => Self::Circle,
            Kind::Rival => Self::Triangle,
            Kind::Limit => Self::Square,
        }
    }
}

type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

impl Plot {
    fn draw(
        caption: impl Into<String>,
        size: (u32, u32),
        legend: Vec<(Colour, Mark, String)>,
        draw: impl FnOnce(&Area<'_>) -> Drawn,
    ) -> Self {
        let mut text = String::new();
        {
            let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
            draw(&area).and_then(|()| area.present()).expect("drawing into a string does not fail");
        }
        // The page has an element of its own around the graphic's.
        let start = text.find('>').map_or(0, |end| end + 1);
        let end = text.rfind("</svg>").unwrap_or(text.len());
        Self { caption: caption.into(), elements: text[start..end].trim().to_owned(), size, legend }
    }
}

/// Text in a colour, at a place relative to its anchor.
fn text(colour: Colour, horizontal: HPos, vertical: VPos) -> TextStyle<'static> {
    // The backend divides sizes by 1.24.
    let style = TextStyle::from(("sans-serif", TEXT * 1.24).into_font());
    TextStyle { color: colour.drawn().to_backend_color(), pos: Pos::new(horizontal, vertical), ..style }
}

/// Pixels that the widest of some texts takes.
fn widest<'a>(texts: impl IntoIterator<Item = &'a str>) -> u32 {
    let characters = texts.into_iter().map(|text| text.chars().count()).max().unwrap_or(0);
    (characters as f64 * CHARACTER) as u32
}

/// No longer than so many characters.
fn shortened(text: &str, characters_max: usize) -> String {
    if text.chars().count() <= characters_max {
        return text.to_owned();
    }
    text.chars().take(characters_max - 1).chain(['…']).collect()
}

/// The end of an axis that shows values up to `max`, and the step of its marks: 1, 2 or 5 of some power of ten.
fn axis(max: f64, marks: u32) -> (f64, f64) {
    let max = if max.is_finite() && max > 0.0 { max } else { 1.0 };
    let rough = max / f64::from(marks.max(1));
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|times| times * power).find(|step| *step >= rough * 0.999);
    let step = step.unwrap_or(10.0 * power);
    ((max / step).ceil() * step, step)
}

/// A mark of an axis in as few characters as tell it: `1,500`, `0.2`.
fn number(value: f64, step: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let digits = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
    grouped(&format!("{value:.digits$}"))
}

/// With a comma after every three digits before the point.
pub fn grouped(number: &str) -> String {
    let (sign, rest) = number.strip_prefix('-').map_or(("", number), |rest| ("-", rest));
    let (whole, fraction) = rest.split_at(rest.find('.').unwrap_or(rest.len()));
    let mut text = sign.to_owned();
    for (index, digit) in whole.char_indices() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text + fraction
}

/// Vertical lines with marks below: an axis that starts at 0.
fn horizontal_axis<DB: DrawingBackend, Y: plotters::coord::ranged1d::Ranged<ValueType = f64>>(
    chart: &mut ChartContext<'_, DB, Cartesian2d<plotters::coord::types::RangedCoordf64, Y>>,
    (end, step): (f64, f64),
    (bottom, top): (f64, f64),
) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
    let marks = (0..=(end / step).round() as u32).map(|index| f64::from(index) * step);
    for mark in marks {
        chart.draw_series([PathElement::new([(mark, bottom), (mark, top)], GRID.drawn())])?;
        let label = Text::new(number(mark, step), (0, 8), text(FAINT_INK, HPos::Center, VPos::Top));
        chart.draw_series([EmptyElement::at((mark, bottom)) + label])?;
    }
    Ok(())
}

/// Horizontal lines with marks to the left: an axis that starts at 0.
fn vertical_axis<DB: DrawingBackend, X: plotters::coord::ranged1d::Ranged<ValueType = f64>>(
    chart: &mut ChartContext<'_, DB, Cartesian2d<X, plotters::coord::types::RangedCoordf64>>,
    (end, step): (f64, f64),
    (left, right): (f64, f64),
) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
    let marks = (0..=(end / step).round() as u32).map(|index| f64::from(index) * step);
    for mark in marks {
        chart.draw_series([PathElement::new([(left, mark), (right, mark)], GRID.drawn())])?;
        let label = Text::new(number(mark, step), (-6, 0), text(FAINT_INK, HPos::Right, VPos::Center));
        chart.draw_series([EmptyElement::at((left, mark)) + label])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_marks() {
        assert_eq!(axis(812.0, 5), (1000.0, 200.0));
        assert_eq!(axis(0.0, 5).0, 1.0);
        assert_eq!(axis(1000.0, 5), (1000.0, 200.0));
        let (end, step) = axis(0.29, 3);
        assert!((end - 0.3).abs() < 1e-9 && (step - 0.1).abs() < 1e-9);
        assert_eq!(number(1500.0, 500.0), "1,500");
        assert_eq!(number(0.2, 0.1), "0.2");
        assert_eq!(grouped("-1234567.5"), "-1,234,567.5");
        assert_eq!(grouped("123"), "123");
    }

    /// WCAG 2's contrast of two colours.
    fn contrast(one: (u8, u8, u8), other: (u8, u8, u8)) -> f64 {
        let linear = |value: u8| {
            let value = f64::from(value) / 255.0;
            if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        let light = |(r, g, b): (u8, u8, u8)| 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
        let (one, other) = (light(one).max(light(other)), light(one).min(light(other)));
        (one + 0.05) / (other + 0.05)
    }

    #[test]
    fn colours_stand_out_on_both_pages() {
        let (white, black) = ((0xFF, 0xFF, 0xFF), (0x16, 0x1A, 0x20));
        for ink in [INK, FAINT_INK] {
            assert!(contrast(ink.light, white) >= 4.5 && contrast(ink.dark, black) >= 4.5, "{ink:?}");
        }
        for line in LINES.into_iter().chain([OURS, RIVAL, LIMIT]) {
            assert!(contrast(line.light, white) >= 3.0 && contrast(line.dark, black) >= 3.0, "{line:?}");
        }
        for bar in BARS {
            assert!(contrast(bar.light, INK_ON_BAR.light) >= 4.5, "{bar:?}");
        }
    }
}
