//! Draws a line chart as SVG: logarithmic axes, error bars, a legend beside it.

use std::ops::RangeInclusive;

use plotters::coord::Shift;
use plotters::coord::combinators::WithKeyPoints;
use plotters::element::DashedPathElement;
use plotters::prelude::*;

use crate::error::{During, Result};
use crate::stats::Spread;

/// Width and height in pixels.
const SIZE: (u32, u32) = (960, 520);
/// Room for the legend, to the right of the lines.
const LEGEND_WIDTH: u32 = 240;
/// Okabe and Ito's colours, which the colour-blind can tell apart.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
    BLACK,
];
const GRID: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);
/// Lengths of a dash and of the gap behind it, in pixels.
const DASH: (i32, i32) = (6, 4);
/// Length of a line in the legend, place of its first row, and height of a row, in pixels.
const LEGEND_LINE: i32 = 26;
const LEGEND_TOP: i32 = 56;
const LEGEND_ROW: i32 = 20;
/// Radius of a point, and width of an error bar's ends, in pixels.
const POINT: i32 = 3;
const BAR_END: u32 = 8;

/// A line.
pub struct Series {
    /// What the legend says.
    pub name: String,
    /// Points with their spread; those that are not positive are left out.
    pub points: Vec<(f64, Spread)>,
    /// Number of the colour.
    pub colour: usize,
    /// Dashed lines are floors.
    pub dashed: bool,
}

/// A chart.
pub struct Chart {
    /// Stands above it.
    pub title: String,
    /// What the horizontal axis shows, with its unit.
    pub x_label: &'static str,
    /// What the vertical axis shows, with its unit.
    pub y_label: &'static str,
    /// Places and names of the ticks on the horizontal axis.
    pub x_ticks: Vec<(f64, &'static str)>,
    /// The lines.
    pub series: Vec<Series>,
}

type Drawn = std::result::Result<(), DrawingAreaErrorKind<std::io::Error>>;
type Plane = Cartesian2d<WithKeyPoints<LogCoord<f64>>, WithKeyPoints<LogCoord<f64>>>;

impl Chart {
    /// The whole file. `None` if there is nothing to draw.
    pub fn to_svg(&self) -> Result<Option<String>> {
        let Some(powers) = self.powers_of_ten() else { return Ok(None) };
        let mut svg = String::new();
        self.draw(&mut svg, powers).during(&format!("drawing {}", self.title))?;
        Ok(Some(svg))
    }

    /// Powers of ten that the points lie between.
    fn powers_of_ten(&self) -> Option<RangeInclusive<i32>> {
        let points = self.series.iter().flat_map(Series::visible);
        let ends = points.map(|(_, y)| (y.min.log10().floor(), y.max.log10().ceil()));
        let (low, high) = ends.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)))?;
        Some(low as i32..=(high as i32).max(low as i32 + 1))
    }

    fn draw(&self, svg: &mut String, powers: RangeInclusive<i32>) -> Drawn {
        let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let (plot, legend) = area.split_horizontally(SIZE.0 - LEGEND_WIDTH);
        let places: Vec<f64> = self.x_ticks.iter().map(|&(place, _)| place).collect();
        let (left, right) = (places[0], places[places.len() - 1]);
        let marks: Vec<f64> = powers.map(|power| 10_f64.powi(power)).collect();
        let (low, high) = (marks[0], marks[marks.len() - 1]);
        let mut chart = ChartBuilder::on(&plot)
            .caption(&self.title, ("sans-serif", 18))
            .margin(14)
            .x_label_area_size(52)
            .y_label_area_size(76)
            .build_cartesian_2d(
                (left..right).log_scale().with_key_points(places),
                (low..high).log_scale().with_key_points(marks),
            )?;
        let tick = |place: &f64| {
            let named = self.x_ticks.iter().find(|(at, _)| at.total_cmp(place).is_eq());
            named.map_or(String::new(), |(_, name)| (*name).to_owned())
        };
        chart
            .configure_mesh()
            .bold_line_style(GRID)
            .x_desc(self.x_label)
            .y_desc(self.y_label)
            .label_style(("sans-serif", 13))
            .axis_desc_style(("sans-serif", 14))
            .x_label_formatter(&tick)
            .y_label_formatter(&|value| thousands(*value))
            .draw()?;
        for (series, row) in self.series.iter().zip(0..) {
            series.draw(&mut chart)?;
            series.draw_name(&legend, row)?;
        }
        area.present()
    }
}

impl Series {
    /// A logarithmic axis has no place for the others.
    fn visible(&self) -> impl Iterator<Item = (f64, Spread)> + Clone {
        self.points.iter().copied().filter(|&(x, y)| x > 0.0 && y.min > 0.0 && y.max.is_finite())
    }

    fn colour(&self) -> RGBColor {
        COLOURS[self.colour % COLOURS.len()]
    }

    fn style(&self) -> ShapeStyle {
        ShapeStyle { stroke_width: 2, ..self.colour().to_rgba().into() }
    }

    fn draw(&self, chart: &mut ChartContext<'_, SVGBackend<'_>, Plane>) -> Drawn {
        let line = self.visible().map(|(x, y)| (x, y.median));
        let (dash, gap) = DASH;
        if self.dashed {
            chart.draw_series(DashedLineSeries::new(line.clone(), dash, gap, self.style()))?;
        } else {
            chart.draw_series(LineSeries::new(line.clone(), self.style()))?;
        }
        let filled = self.colour().filled();
        chart.draw_series(line.map(|point| Circle::new(point, POINT, filled)))?;
        let varied = self.visible().filter(|(_, y)| y.max > y.min);
        chart.draw_series(
            varied.map(|(x, y)| ErrorBar::new_vertical(x, y.min, y.median, y.max, filled, BAR_END)),
        )?;
        Ok(())
    }

    /// Draws a piece of the line and the name into a row of the legend.
    fn draw_name(&self, legend: &DrawingArea<SVGBackend<'_>, Shift>, row: i32) -> Drawn {
        let y = LEGEND_TOP + row * LEGEND_ROW;
        let (dash, gap) = if self.dashed { DASH } else { (LEGEND_LINE, 0) };
        legend.draw(&DashedPathElement::new(
            [(0, y), (LEGEND_LINE, y)],
            dash,
            gap,
            self.style(),
        ))?;
        let place = (LEGEND_LINE + 8, y - 6);
        legend.draw(&Text::new(self.name.as_str(), place, ("sans-serif", 13)))
    }
}

fn thousands(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.0} M", value / 1e6),
        value if value >= 1e3 => format!("{:.0} k", value / 1e3),
        value => format!("{value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_has_its_axes_units_lines_and_error_bars() {
        let spread = |median: f64| Spread { median, min: median * 0.9, max: median * 1.1 };
        let line = Series {
            name: "a < b".into(),
            points: vec![(1.0, spread(10.0)), (64.0, spread(2000.0))],
            colour: 0,
            dashed: true,
        };
        let mut chart = Chart {
            title: "t".into(),
            x_label: "transfers in a batch",
            y_label: "events/s",
            x_ticks: vec![(1.0, "1"), (64.0, "64")],
            series: vec![line],
        };
        let svg = chart.to_svg().unwrap().unwrap();
        for part in ["transfers in a batch", "events/s", "a &lt; b", "10 k", "#0072B2"] {
            assert!(svg.contains(part), "{part}");
        }
        assert_eq!(svg.matches("<circle").count(), 4, "points, and medians of the error bars");
        chart.series.clear();
        assert!(chart.to_svg().unwrap().is_none());
    }
}
