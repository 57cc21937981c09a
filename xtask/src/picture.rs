//! Decides how the demonstration becomes a picture: `oa demo` is run, and what it said is drawn as a terminal that rolls
//! from chapter to chapter. Nothing in the picture is written by hand; where nothing rolls, it shows how it begins.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

/// Where the picture is kept.
const PLACE: &str = "docs/demo.svg";
/// Rows that are seen at one time.
const ROWS: usize = 36;
const ROW: f64 = 17.0;
/// Of 12 pixels, as monospaced fonts have it; every row is stretched to it.
const COLUMN: f64 = 7.2;
const MARGIN: f64 = 14.0;
/// The bar above the rows.
const BAR: f64 = 30.0;
/// How long a chapter is looked at, and how long it takes to the next.
const LOOK_SECONDS: f64 = 4.5;
const ROLL_SECONDS: f64 = 0.7;

const STYLE: &str = "
  text { font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace; fill: #1f2328;
    white-space: pre }
  .ground { fill: #ffffff; stroke: #d1d9e0 }
  .bar { fill: #f6f8fa; stroke: #d1d9e0 }
  .dot { fill: #d1d9e0 }
  .title { font-weight: 700; fill: #0550ae }
  .quiet { fill: #59636e }
  .good { fill: #116329 }
  .bad { fill: #b31d28 }
  .sim { fill: #7d4e00 }
  @media (prefers-color-scheme: dark) {
    text { fill: #d1d7e0 }
    .ground { fill: #0d1117; stroke: #3d444d }
    .bar { fill: #151b23; stroke: #3d444d }
    .dot { fill: #3d444d }
    .title { fill: #79c0ff }
    .quiet { fill: #9198a1 }
    .good { fill: #7ee787 }
    .bad { fill: #ff9492 }
    .sim { fill: #f0b72f }
  }
  @media (prefers-reduced-motion: reduce) { .roll { animation: none } }
";

/// Draws docs/demo.svg from what `oa demo` says.
#[derive(Args)]
pub struct Picture {
    /// The program to run, rather than the release build
    #[arg(long, value_name = "FILE")]
    oa: Option<PathBuf>,
    /// Where to
    #[arg(long, value_name = "FILE", default_value = PLACE)]
    to: PathBuf,
}

impl Picture {
    pub fn run(self) -> Result<()> {
        let oa = match self.oa {
            Some(oa) => oa,
            None => release()?,
        };
        // Settings of whoever draws it are no part of it.
        let done = Command::new(&oa)
            .arg("demo")
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .output()
            .with_context(|| format!("running {}", oa.display()))?;
        let told = String::from_utf8(done.stdout).context("what the demonstration said")?;
        ensure!(done.status.success(), "{}\n{told}", String::from_utf8_lossy(&done.stderr));
        let place = super::root().join(self.to);
        fs::write(&place, draw(&told)).with_context(|| format!("writing {}", place.display()))?;
        println!("{}: {} lines", place.display(), told.lines().count());
        Ok(())
    }
}

/// The program as it is used.
fn release() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built =
        Command::new(cargo).args(["build", "--release", "-p", "oa"]).current_dir(super::root()).status()?;
    if !built.success() {
        bail!("the release build failed");
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| super::root().join("target"), PathBuf::from);
    Ok(Path::new(&target).join("release/oa"))
}

fn draw(told: &str) -> String {
    let rows: Vec<&str> = std::iter::once("$ oa demo").chain(told.lines()).map(str::trim_end).collect();
    let columns = rows.iter().map(|row| row.chars().count()).max().unwrap_or_default();
    let width = columns as f64 * COLUMN + 2.0 * MARGIN;
    let seen = ROWS.min(rows.len()) as f64 * ROW;
    let height = BAR + seen + 2.0 * MARGIN;
    let mut body = String::new();
    for (at, row) in rows.iter().enumerate().filter(|(_, row)| !row.is_empty()) {
        let text = row.trim_start();
        let x = (row.len() - text.len()) as f64 * COLUMN;
        let long = text.chars().count() as f64 * COLUMN;
        let y = (at as f64 + 0.75) * ROW;
        let _ = writeln!(
            body,
            "<text{} x=\"{x:.1}\" y=\"{y:.1}\" textLength=\"{long:.1}\" xml:space=\"preserve\">{}</text>",
            class(row),
            escaped(text)
        );
    }
    let dots: String = (0..3)
        .map(|at| format!("<circle class=\"dot\" cx=\"{}\" cy=\"15\" r=\"5\"/>", 18 + 16 * at))
        .collect();
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\">\n<title>oa demo</title>\n<style>{STYLE}{}</style>\n\
         <rect class=\"ground\" x=\"0.5\" y=\"0.5\" width=\"{:.0}\" height=\"{:.0}\" rx=\"8\"/>\n\
         <path class=\"bar\" d=\"M0.5 {BAR}V8.5a8 8 0 0 1 8-8H{:.1}a8 8 0 0 1 8 8V{BAR}z\"/>\n{dots}\n\
         <svg x=\"{MARGIN}\" y=\"{:.0}\" width=\"{:.0}\" height=\"{seen:.0}\"><g class=\"roll\">\n{body}</g></svg>\n</svg>\n",
        rolling(&stops(&rows)),
        width - 1.0,
        height - 1.0,
        width - 8.5,
        BAR + MARGIN,
        width - 2.0 * MARGIN,
    )
}

/// The rows at which the picture stands still: where a chapter begins, as far as there is something below.
fn stops(rows: &[&str]) -> Vec<usize> {
    let last = rows.len().saturating_sub(ROWS);
    let chapters = rows.iter().enumerate().filter(|(_, row)| is_title(row)).map(|(at, _)| at.min(last));
    let mut stops: Vec<usize> = std::iter::once(0).chain(chapters.skip(1)).collect();
    stops.dedup();
    stops
}

fn rolling(stops: &[usize]) -> String {
    if stops.len() < 2 {
        return String::new();
    }
    let whole = stops.len() as f64 * (LOOK_SECONDS + ROLL_SECONDS);
    let mut frames = String::new();
    for (at, row) in stops.iter().enumerate() {
        let begins = at as f64 * (LOOK_SECONDS + ROLL_SECONDS);
        let percent = |seconds: f64| seconds / whole * 100.0;
        let _ = writeln!(
            frames,
            "    {:.2}%, {:.2}% {{ transform: translateY(-{:.0}px) }}",
            percent(begins),
            percent(begins + LOOK_SECONDS),
            *row as f64 * ROW
        );
    }
    format!(
        "  .roll {{ animation: roll {whole:.1}s ease-in-out infinite }}\n  @keyframes roll {{\n{frames}    100% {{ transform: none }}\n  }}\n"
    )
}

fn is_title(row: &str) -> bool {
    row.split_once(". ")
        .is_some_and(|(number, _)| !number.is_empty() && number.bytes().all(|one| one.is_ascii_digit()))
}

/// What a row is, by its own words.
fn class(row: &str) -> &'static str {
    let said = row.trim_start();
    let begins = |words: &[&str]| words.iter().any(|word| said.starts_with(word));
    match () {
        () if is_title(row) => " class=\"title\"",
        () if row.contains("SIMULATED") => " class=\"sim\"",
        () if begins(&["refuted:", "disputed:", "with one digit", "With one share"])
            || said.contains(" is quarantined ") =>
        {
            " class=\"bad\""
        }
        () if begins(&["verified:", "preimage ", "its SHA-256", "payment hash", "in it:"]) => {
            " class=\"good\""
        }
        () if begins(&["$ ", "> ", "(", "provider "]) => " class=\"quiet\"",
        () => "",
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_rolls_from_chapter_to_chapter_and_holds_every_word() {
        let chapter = |number: usize| format!("\n{number}. Chapter\n{}", "   a & b < c\n".repeat(14));
        let told: String = (1..=4).map(chapter).collect();
        let drawn = draw(&told);
        assert_eq!(drawn.matches("a &amp; b &lt; c").count(), 56);
        assert_eq!(drawn.matches("class=\"title\"").count(), 4);
        let rows: Vec<&str> = std::iter::once("$ oa demo").chain(told.lines()).collect();
        assert_eq!(stops(&rows), [0, 18, 29], "the last rows fill the picture");
        assert!(drawn.contains("translateY(-306px)") && drawn.contains("prefers-color-scheme"));
        assert!(!draw("1. Short\n").contains("@keyframes"), "what fits need not move");
    }
}
