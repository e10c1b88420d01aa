//! Latency by percentile, as a self-contained SVG image.

use std::fmt::Write;

use hdrhistogram::Histogram;

use super::report::Report;

const WIDTH: f64 = 800.0;
/// The plot's edges within the image.
const LEFT: f64 = 80.0;
const RIGHT: f64 = WIDTH - 44.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 380.0;

/// The legend below the plot: entries per row, and where the first row is.
const LEGEND_COLUMNS: usize = 3;
const LEGEND_TOP: f64 = BOTTOM + 70.0;
const LEGEND_ROW: f64 = 20.0;

/// Colours of the runs, distinguishable with colour blindness. Further runs get dashed lines.
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

/// Draws a curve for each run. The horizontal axis shows percentiles, 0 to 99.9.., one nine per step; the
/// vertical axis shows latency, a power of ten per step.
pub fn svg(report: &Report) -> String {
    let curves: Vec<&Histogram<u64>> = report.runs.iter().map(|run| &run.latencies).collect();
    let axes = Axes::around(&curves);
    let mut out = String::new();
    let _ = draw(&mut out, report, &curves, &axes); // writing to a string can't fail
    out
}

fn draw(out: &mut String, report: &Report, curves: &[&Histogram<u64>], axes: &Axes) -> std::fmt::Result {
    let height = LEGEND_TOP + LEGEND_ROW * curves.len().div_ceil(LEGEND_COLUMNS) as f64;
    writeln!(
        out,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="13" fill="#333">
<title>Latency by percentile</title>
<rect width="{WIDTH}" height="{height}" fill="#fff"/>
<text x="{LEFT}" y="24" font-size="16" font-weight="bold">Latency by percentile</text>"##
    )?;
    axes.draw(out)?;
    for (index, (run, latencies)) in report.runs.iter().zip(curves).enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let dashes = if index < COLOURS.len() { "none" } else { "6 3" };
        let line = format!(r#"fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}""#);
        let points: Vec<String> = axes.curve(latencies).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let points = points.join(" ");
        writeln!(out, r#"<polyline points="{points}" {line}/>"#)?;
        let (row, column) = (index / LEGEND_COLUMNS, index % LEGEND_COLUMNS);
        let x = LEFT + (RIGHT - LEFT) / LEGEND_COLUMNS as f64 * column as f64;
        let (y, text_x) = (LEGEND_TOP + LEGEND_ROW * row as f64, x + 32.0);
        writeln!(out, r#"<path d="M{x:.1} {y}h26" {line}/>"#)?;
        writeln!(out, r#"<text x="{text_x:.1}" y="{}">{}</text>"#, y + 4.0, run.name)?;
    }
    writeln!(out, "</svg>")
}

/// Maps values to positions in the image.
struct Axes {
    /// Number of nines on the horizontal axis.
    nines: u32,
    /// Powers of ten, in nanoseconds, at the ends of the vertical axis.
    low: i32,
    high: i32,
}

impl Axes {
    /// Makes axes that fit all `curves`.
    fn around(curves: &[&Histogram<u64>]) -> Self {
        let count = curves.iter().map(|c| c.len()).max().unwrap_or(0);
        let min = curves.iter().map(|c| c.value_at_quantile(0.0)).min().unwrap_or(0).max(100);
        let max = curves.iter().map(|c| c.max()).max().unwrap_or(0).max(min + 1);
        Axes {
            // One message in 100 000 shows only if there are 100 000 messages.
            nines: count.max(100).ilog10().min(6),
            low: (min as f64).log10().floor() as i32,
            high: (max as f64).log10().ceil() as i32,
        }
    }

    fn x(&self, nines: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * nines / f64::from(self.nines)
    }

    fn y(&self, nanoseconds: f64) -> f64 {
        let (low, high) = (f64::from(self.low), f64::from(self.high));
        BOTTOM - (BOTTOM - TOP) * (nanoseconds.max(1.0).log10() - low) / (high - low)
    }

    fn curve<'a>(&'a self, latencies: &'a Histogram<u64>) -> impl Iterator<Item = (f64, f64)> + 'a {
        let steps = if latencies.is_empty() { 0..0 } else { 0..self.nines * 50 + 1 };
        steps.map(|step| {
            let nines = f64::from(step) / 50.0;
            let latency = latencies.value_at_quantile(1.0 - 10f64.powf(-nines));
            (self.x(nines), self.y(latency as f64))
        })
    }

    fn draw(&self, out: &mut String) -> std::fmt::Result {
        for nines in 0..=self.nines {
            let (x, y) = (self.x(f64::from(nines)), BOTTOM + 20.0);
            let label = match nines {
                0 => "0 %".to_owned(),
                1 => "90 %".to_owned(),
                2 => "99 %".to_owned(),
                _ => format!("99.{} %", "9".repeat(nines as usize - 2)),
            };
            writeln!(out, r##"<path d="M{x:.1} {TOP}V{BOTTOM}" stroke="#ddd"/>"##)?;
            writeln!(out, r#"<text x="{x:.1}" y="{y}" text-anchor="middle">{label}</text>"#)?;
        }
        for power in self.low..=self.high {
            let y = self.y(10f64.powi(power));
            let label = match power {
                ..3 => format!("{} ns", 10f64.powi(power)),
                3..6 => format!("{} µs", 10f64.powi(power - 3)),
                6..9 => format!("{} ms", 10f64.powi(power - 6)),
                _ => format!("{} s", 10f64.powi(power - 9)),
            };
            let (x, text_y) = (LEFT - 8.0, y + 4.0);
            writeln!(out, r##"<path d="M{LEFT} {y:.1}H{RIGHT}" stroke="#ddd"/>"##)?;
            writeln!(out, r#"<text x="{x}" y="{text_y:.1}" text-anchor="end">{label}</text>"#)?;
        }
        let (x, y) = ((LEFT + RIGHT) / 2.0, BOTTOM + 44.0);
        writeln!(out, r#"<text x="{x}" y="{y}" text-anchor="middle">percentile of messages</text>"#)
    }
}
