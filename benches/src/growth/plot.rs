//! Draws rate, CPU and memory over the transfers, as one SVG that needs no other file.

use plotters::prelude::*;

use super::report::Step;
use super::transfers::IdOrder;
use crate::error::{During, Result};

/// Width and height in pixels.
const SIZE: (u32, u32) = (960, 900);
const GRID: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);
/// Blue and vermilion of Okabe and Ito's colours, which the colour-blind can tell apart.
const COLOURS: [RGBColor; 2] = [RGBColor(0x00, 0x72, 0xb2), RGBColor(0xd5, 0x5e, 0x00)];
/// Room above the highest point.
const HEADROOM: f64 = 1.15;
/// Width of the lines, and length of the piece in the legend, in pixels.
const LINE: u32 = 2;
const LEGEND_LINE: i32 = 26;

type Drawn = std::result::Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// What a panel shows of a step.
struct Panel {
    title: &'static str,
    figure: fn(&Step) -> f64,
}

#[expect(clippy::cast_precision_loss, reason = "places in a plot")]
const PANELS: [Panel; 3] = [
    Panel { title: "million transfers/s", figure: |step| step.transfers_per_second / 1e6 },
    Panel { title: "server CPU, us a transfer", figure: |step| step.cpu_micros_per_transfer },
    Panel {
        title: "resident memory, MiB",
        figure: |step| step.look.resident_bytes as f64 / f64::from(1 << 20),
    },
];

/// The whole file. `None` if there is nothing to draw.
pub fn to_svg(steps: &[Step]) -> Result<Option<String>> {
    if steps.is_empty() {
        return Ok(None);
    }
    let mut svg = String::new();
    draw(&mut svg, steps).during("drawing the growth")?;
    Ok(Some(svg))
}

fn draw(svg: &mut String, steps: &[Step]) -> Drawn {
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    for (panel, place) in PANELS.iter().zip(area.split_evenly((PANELS.len(), 1))) {
        panel.draw(&place, steps)?;
    }
    area.present()
}

/// Where a step is on the horizontal axis.
#[expect(clippy::cast_precision_loss, reason = "a place in a plot")]
fn millions(step: &Step) -> f64 {
    step.transfers as f64 / 1e6
}

impl Panel {
    fn draw(
        &self,
        area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
        steps: &[Step],
    ) -> Drawn {
        let greatest = |figure: fn(&Step) -> f64| steps.iter().map(figure).fold(0.0, f64::max);
        // An axis has a length, even if all figures are 0.
        let end = |greatest: f64| if greatest > 0.0 { greatest } else { 1.0 };
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, ("sans-serif", 18))
            .margin(14)
            .x_label_area_size(46)
            .y_label_area_size(64)
            .build_cartesian_2d(
                0.0..end(greatest(millions)),
                0.0..HEADROOM * end(greatest(self.figure)),
            )?;
        chart
            .configure_mesh()
            .bold_line_style(GRID)
            .light_line_style(WHITE)
            .x_desc("million transfers")
            .label_style(("sans-serif", 13))
            .axis_desc_style(("sans-serif", 14))
            .draw()?;
        for (order, colour) in [IdOrder::Random, IdOrder::Ordered].into_iter().zip(COLOURS) {
            let points: Vec<(f64, f64)> = steps
                .iter()
                .filter(|step| step.ids == order)
                .map(|step| (millions(step), (self.figure)(step)))
                .collect();
            if points.is_empty() {
                continue;
            }
            let style = ShapeStyle { stroke_width: LINE, ..colour.to_rgba().into() };
            let dots: Vec<_> =
                points.iter().map(|point| Circle::new(*point, LINE + 1, colour.filled())).collect();
            chart.draw_series(dots)?;
            chart
                .draw_series(LineSeries::new(points, style))?
                .label(format!("{} ids", order.name()))
                .legend(move |(x, y)| PathElement::new([(x, y), (x + LEGEND_LINE, y)], style));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .background_style(WHITE)
            .border_style(GRID)
            .label_font(("sans-serif", 13))
            .draw()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::look::Look;
    use super::*;

    #[test]
    fn there_is_a_panel_for_each_figure_and_a_line_for_each_order() {
        let step = |ids, number: u32| Step {
            ids,
            transfers: u64::from(number) * 1_000_000,
            seconds: 1.0,
            transfers_per_second: 1.5e6,
            cpu_micros_per_transfer: 0.6,
            p50_micros: 1.0,
            p99_micros: 2.0,
            look: Look::default(),
        };
        let steps = [
            step(IdOrder::Random, 1),
            step(IdOrder::Random, 2),
            step(IdOrder::Ordered, 1),
            step(IdOrder::Ordered, 2),
        ];
        let svg = to_svg(&steps).unwrap().unwrap();
        assert_eq!(svg.matches("<circle").count(), 4 * PANELS.len());
        for panel in &PANELS {
            assert!(svg.contains(panel.title), "{}", panel.title);
        }
        assert_eq!(svg.matches("ordered ids").count(), PANELS.len());
        assert!(!svg.contains("href"), "needs no other file");
        assert!(!to_svg(&steps[..2]).unwrap().unwrap().contains("ordered ids"));
        assert!(to_svg(&[]).unwrap().is_none());
    }
}
