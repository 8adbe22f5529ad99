//! Figures over time, as a line of text or as an SVG.

use std::fmt::Write;

/// Steps of a line of text.
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Sizes of a panel of an SVG, in pixels.
const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 150.0;
/// Around the curve: left, right, above and below.
const MARGIN: (f64, f64, f64, f64) = (64.0, 12.0, 26.0, 24.0);
/// Panels side by side.
const COLUMNS: usize = 2;

/// One figure over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// What it is.
    pub name: String,
    /// Thousands of pictures shown, and the figure then; finite, by time.
    pub points: Vec<(f64, f64)>,
}

impl Series {
    /// As a line of at most `width` blocks, each the mean of its share of the points.
    pub fn line(&self, width: usize) -> String {
        let count = self.points.len();
        let width = width.min(count);
        let mean = |column: usize| {
            let part = &self.points[column * count / width..(column + 1) * count / width];
            part.iter().map(|(_, y)| y).sum::<f64>() / part.len() as f64
        };
        let means: Vec<f64> = (0..width).map(mean).collect();
        let (least, most) = bounds(means.iter().copied());
        let block = |y: f64| BLOCKS[(((y - least) / (most - least)) * 7.0).round() as usize];
        means.into_iter().map(block).collect()
    }
}

/// All series as panels of one SVG file.
pub fn svg(title: &str, all: &[Series]) -> String {
    let rows = all.len().div_ceil(COLUMNS).max(1);
    let (width, height) = (WIDTH * COLUMNS as f64, HEIGHT * rows as f64 + 30.0);
    let mut text = String::new();
    let _ = writeln!(
        text,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"12\" y=\"20\" font-size=\"14\">{}</text>",
        escaped(title)
    );
    for (idx, series) in all.iter().enumerate() {
        let place = (WIDTH * (idx % COLUMNS) as f64, HEIGHT * (idx / COLUMNS) as f64 + 30.0);
        panel(&mut text, series, place);
    }
    text.push_str("</svg>\n");
    text
}

fn panel(text: &mut String, series: &Series, (left, top): (f64, f64)) {
    let (from, to) = bounds(series.points.iter().map(|(x, _)| *x));
    let (least, most) = bounds(series.points.iter().map(|(_, y)| *y));
    let (x0, x1) = (left + MARGIN.0, left + WIDTH - MARGIN.1);
    let (y0, y1) = (top + HEIGHT - MARGIN.3, top + MARGIN.2);
    let at = |(x, y): &(f64, f64)| {
        let (x, y) = ((x - from) / (to - from), (y - least) / (most - least));
        format!("{:.1},{:.1}", x0 + x * (x1 - x0), y0 + y * (y1 - y0))
    };
    let points: Vec<String> = series.points.iter().map(at).collect();
    // writing to a string cannot fail
    let _ = writeln!(
        text,
        "<text x=\"{x0}\" y=\"{}\" font-weight=\"bold\">{}</text>\n\
         <path d=\"M{x0} {y1}V{y0}H{x1}\" fill=\"none\" stroke=\"#999\"/>\n\
         <polyline points=\"{}\" fill=\"none\" stroke=\"#1f5fa8\" stroke-width=\"1.5\"/>",
        y1 - 8.0,
        escaped(&series.name),
        points.join(" ")
    );
    for (anchor, x, y, value) in [
        ("end", x0 - 5.0, y1 + 9.0, number(most)),
        ("end", x0 - 5.0, y0, number(least)),
        ("start", x0, y0 + 14.0, number(from)),
        ("end", x1, y0 + 14.0, format!("{} kimg", number(to))),
    ] {
        let _ = writeln!(text, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{value}</text>");
    }
}

/// Least and most; never equal.
fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (least, most) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), y| (a.min(y), b.max(y)));
    if most > least { (least, most) } else { (least, least + 1.0) }
}

/// A number with three digits that count.
pub fn number(value: f64) -> String {
    let digits = 2 - value.abs().max(1e-6).log10().floor() as i32;
    let text = format!("{value:.*}", digits.clamp(0, 6) as usize);
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: &[f64]) -> Series {
        let points = (1..).map(f64::from).zip(values.iter().copied()).collect();
        Series { name: "a<b".to_owned(), points }
    }

    #[test]
    fn a_line_goes_from_the_least_to_the_most() {
        assert_eq!(series(&[0.0, 3.5, 7.0, 1.0]).line(9), "▁▅█▂");
        assert_eq!(series(&[0.0, 2.0, 6.0, 8.0]).line(2), "▁█");
        assert_eq!(series(&[5.0, 5.0]).line(9), "▁▁");
        assert_eq!(series(&[]).line(9), "");
    }

    #[test]
    fn a_panel_has_its_points_between_its_margins() {
        let svg = svg("t", &[series(&[2.0, 4.0, 3.0])]);
        assert!(svg.contains("points=\"64.0,156.0 236.0,56.0 408.0,106.0\""), "{svg}");
        assert!(svg.contains("a&lt;b") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn three_digits_count() {
        assert_eq!(
            [0.0, 1234.5, 12.34, 0.012_345, -1.0].map(number),
            ["0", "1234", "12.3", "0.0123", "-1"]
        );
    }
}
