//! A line plot as SVG: logarithmic axes, ticks with units, a legend.

use std::fmt::Write as _;

const WIDTH: f64 = 920.0;
const HEIGHT: f64 = 520.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 230.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 60.0;
/// Okabe and Ito's colours, which the colour-blind can tell apart.
const COLOURS: [&str; 7] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

/// A line.
pub struct Series {
    /// What the legend says.
    pub name: String,
    /// Places, not yet logarithmic. Those that are not positive are left out.
    pub points: Vec<(f64, f64)>,
    /// Colour, by number.
    pub colour: usize,
    /// Dashes: for a floor.
    pub dashed: bool,
}

/// A plot.
pub struct Plot {
    /// Stands above it.
    pub title: String,
    /// What the horizontal axis is, with its unit.
    pub x_label: &'static str,
    /// What the vertical axis is, with its unit.
    pub y_label: &'static str,
    /// Places and names of the marks on the horizontal axis.
    pub x_ticks: Vec<(f64, String)>,
    /// The lines.
    pub series: Vec<Series>,
}

struct Axis {
    from: f64,
    to: f64,
    start: f64,
    end: f64,
}

impl Axis {
    fn place(&self, value: f64) -> f64 {
        let part = (value.log10() - self.from) / (self.to - self.from);
        self.start + part * (self.end - self.start)
    }
}

impl Plot {
    /// The whole file. `None` if there is nothing to draw.
    pub fn to_svg(&self) -> Option<String> {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let ys = || points().map(|point| point.1).filter(|&y| y > 0.0);
        let low = ys().fold(f64::INFINITY, f64::min).log10().floor();
        let high = ys().fold(0.0, f64::max).log10().ceil();
        if !low.is_finite() || !high.is_finite() {
            return None;
        }
        let x_first = self.x_ticks.first()?.0.log10();
        let x_last = self.x_ticks.last()?.0.log10();
        let x =
            Axis { from: x_first, to: x_last.max(x_first + 0.1), start: LEFT, end: WIDTH - RIGHT };
        let y = Axis { from: low, to: high.max(low + 1.0), start: HEIGHT - BOTTOM, end: TOP };
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"13\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
             <text x=\"{LEFT}\" y=\"28\" font-size=\"17\">{}</text>\n",
            escape(&self.title)
        );
        self.axes(&mut svg, &x, &y);
        for series in &self.series {
            line(&mut svg, series, &x, &y);
        }
        self.legend(&mut svg);
        svg.push_str("</svg>\n");
        Some(svg)
    }

    fn axes(&self, svg: &mut String, x: &Axis, y: &Axis) {
        for (value, name) in &self.x_ticks {
            let at = x.place(*value);
            let _ = writeln!(
                svg,
                "<line x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{:.1}\" stroke=\"#ddd\"/>\
                 <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{name}</text>",
                y.start,
                y.start + 18.0
            );
        }
        let mut power = y.from;
        while power <= y.to + 0.01 {
            let at = y.place(10_f64.powf(power));
            let _ = writeln!(
                svg,
                "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                x.end,
                LEFT - 8.0,
                at + 4.0,
                thousands(10_f64.powf(power))
            );
            power += 1.0;
        }
        let middle = f64::midpoint(y.start, y.end);
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n\
             <text transform=\"translate(18 {middle:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            f64::midpoint(x.start, x.end),
            HEIGHT - 14.0,
            escape(self.x_label),
            escape(self.y_label)
        );
    }

    fn legend(&self, svg: &mut String) {
        let mut at = TOP + 10.0;
        for series in &self.series {
            let from = WIDTH - RIGHT + 16.0;
            let _ = writeln!(
                svg,
                "<line x1=\"{from}\" y1=\"{at}\" x2=\"{}\" y2=\"{at}\" {}/>\
                 <text x=\"{}\" y=\"{}\">{}</text>",
                from + 26.0,
                style(series),
                from + 33.0,
                at + 4.0,
                escape(&series.name)
            );
            at += 20.0;
        }
    }
}

fn line(svg: &mut String, series: &Series, x: &Axis, y: &Axis) {
    let places: Vec<(f64, f64)> = series
        .points
        .iter()
        .filter(|point| point.0 > 0.0 && point.1 > 0.0)
        .map(|point| (x.place(point.0), y.place(point.1)))
        .collect();
    let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ =
        writeln!(svg, "<polyline points=\"{}\" fill=\"none\" {}/>", path.join(" "), style(series));
    for (x, y) in places {
        let colour = COLOURS[series.colour % COLOURS.len()];
        let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.6\" fill=\"{colour}\"/>");
    }
}

fn style(series: &Series) -> String {
    let dashes = if series.dashed { " stroke-dasharray=\"6 4\"" } else { "" };
    let colour = COLOURS[series.colour % COLOURS.len()];
    format!("stroke=\"{colour}\" stroke-width=\"2\"{dashes}")
}

fn thousands(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.0} M", value / 1e6),
        value if value >= 1e3 => format!("{:.0} k", value / 1e3),
        value => format!("{value}"),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_has_its_axes_units_and_lines() {
        let line = Series {
            name: "a < b".into(),
            points: vec![(1.0, 10.0), (64.0, 2000.0)],
            colour: 0,
            dashed: true,
        };
        let mut plot = Plot {
            title: "t".into(),
            x_label: "transfers in a batch",
            y_label: "events/s",
            x_ticks: vec![(1.0, "1".into()), (64.0, "64".into())],
            series: vec![line],
        };
        let svg = plot.to_svg().unwrap();
        for part in ["transfers in a batch", "events/s", "a &lt; b", "10 k", "stroke-dasharray"] {
            assert!(svg.contains(part), "{part}");
        }
        plot.series.clear();
        assert!(plot.to_svg().is_none());
    }
}
