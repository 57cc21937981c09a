//! Decides how the report looks as a picture: two panels of bars, readable on light and dark grounds.

use std::fmt::Write as _;

use super::table::{Report, Series, thousands};

const WIDTH: usize = 760;
const BAR: usize = 20;
const STEP: usize = 28;
const LABELS: usize = 250;
const BARS: usize = 400;

const STYLE: &str = "
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .title { font-weight: 600; font-size: 15px }
  .quiet { fill: #656d76; font-size: 12px }
  .ground { fill: #ffffff }
  .bar { fill: #8c959f }
  .oa { fill: #0969da }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .quiet { fill: #9198a1 }
    .ground { fill: #0d1117 }
    .bar { fill: #656c76 }
    .oa { fill: #4493f8 }
  }
";

pub fn draw(report: &Report) -> String {
    let many: Vec<&Series> = measured(report, super::MANY);
    let one: Vec<&Series> = measured(report, 1);
    let mut body = String::new();
    let mut y = 24;
    line(&mut body, "title", 16, y, if report.quick { "Durable appends (quick)" } else { "Durable appends" });
    y += 20;
    line(&mut body, "quiet", 16, y, &report.machine);
    y += 32;
    y = panel(
        &mut body,
        y,
        "Appends per second, 64 connections (more is better)",
        &many,
        Series::rate,
        thousands,
    );
    y = panel(&mut body, y, "p50 at 1 connection, ms (less is better)", &one, Series::p50, |ms| {
        format!("{ms:.3}")
    });
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y}\" viewBox=\"0 0 {WIDTH} {y}\" \
         role=\"img\">\n<title>Durable appends</title>\n<style>{STYLE}</style>\n<rect class=\"ground\" \
         width=\"{WIDTH}\" height=\"{y}\"/>\n{body}</svg>\n"
    )
}

fn measured(report: &Report, connections: usize) -> Vec<&Series> {
    report
        .series
        .iter()
        .filter(|series| series.connections == connections && !series.rounds.is_empty())
        .collect()
}

/// Returns where the next panel starts.
fn panel(
    body: &mut String,
    mut y: usize,
    title: &str,
    series: &[&Series],
    value: fn(&Series) -> f64,
    show: fn(f64) -> String,
) -> usize {
    let most = series.iter().map(|series| value(series)).fold(f64::MIN_POSITIVE, f64::max);
    line(body, "title", 16, y, title);
    y += 14;
    for series in series {
        let length = ((value(series) / most) * BARS as f64).max(1.0);
        let class = if series.key.starts_with("oa") { "oa" } else { "bar" };
        line(body, "", 16, y + 15, &series.name);
        let x = 16 + LABELS;
        // Writing to a String cannot fail.
        let _ = writeln!(
            body,
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{length:.1}\" height=\"{BAR}\" rx=\"2\"/>"
        );
        line(body, "", x + length as usize + 8, y + 15, &show(value(series)));
        y += STEP;
    }
    y + 26
}

fn line(body: &mut String, class: &str, x: usize, y: usize, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('`', "");
    // Writing to a String cannot fail.
    let _ = writeln!(body, "<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{text}</text>");
}
