//! Decides what is reported of the market: medians over the rounds, and each target with what was measured.

use std::{fmt::Write as _, path::Path, time::Duration};

use serde::Serialize;

use super::super::{
    machine, progress,
    table::{Bound, Target, median, thousands},
};

/// What a dispatch may cost beyond its command.
const OVERHEAD_MS: f64 = 20.0;
/// Payments held and captured for each transfer of PostgreSQL.
const AGAINST_POSTGRES: f64 = 3.0;
const CHOICE_MS: f64 = 1.0;

#[derive(Clone, Copy, Serialize)]
struct Round {
    per_second: f64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
}

#[derive(Serialize)]
pub struct Series {
    key: &'static str,
    name: &'static str,
    at_once: usize,
    rounds: Vec<Round>,
}

impl Series {
    pub fn new(key: &'static str, name: &'static str, at_once: usize) -> Self {
        Series { key, name, at_once, rounds: Vec::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.rounds.is_empty()
    }

    /// How long each took, one after the other.
    pub fn took(&mut self, round: usize, mut each: Vec<Duration>) {
        each.sort_unstable();
        let at = |share: f64| {
            let rank = (each.len() as f64 * share).ceil() as usize;
            each.get(rank.max(1) - 1).map(|took| took.as_secs_f64() * 1e3)
        };
        let whole: Duration = each.iter().sum();
        let (p50_ms, p99_ms) = (at(0.5), at(0.99));
        let per_second = each.len() as f64 / whole.as_secs_f64();
        self.add(round, Round { per_second, p50_ms, p99_ms });
    }

    pub fn rate(&mut self, round: usize, per_second: f64) {
        self.add(round, Round { per_second, p50_ms: None, p99_ms: None });
    }

    fn add(&mut self, round: usize, measured: Round) {
        let p50 = measured.p50_ms.map(|p50| format!("  p50 {p50:.4} ms")).unwrap_or_default();
        progress(&format!("{round} {:44} {:>9}/s{p50}", self.name, thousands(measured.per_second)));
        self.rounds.push(measured);
    }

    fn of(&self, pick: fn(&Round) -> Option<f64>) -> Option<f64> {
        let seen: Option<Vec<f64>> = self.rounds.iter().map(pick).collect();
        seen.filter(|seen| !seen.is_empty()).map(median)
    }
}

#[derive(Serialize)]
pub struct Report {
    quick: bool,
    machine: String,
    how: String,
    pub series: Vec<Series>,
    targets: Vec<Target>,
    pub notes: Vec<String>,
}

impl Report {
    pub fn new(quick: bool, dir: &Path, (rounds, seconds, dispatches): (usize, f64, usize)) -> Self {
        let how = format!(
            "{rounds} rounds, what is compared in turn; {dispatches} dispatches a round, each after one fork and exec; \
             payments counted for {seconds:.1} s; medians over the rounds, differences and ratios taken round by round. \
             The load shares the cores with the servers."
        );
        Report {
            quick,
            machine: machine(dir),
            how,
            series: Vec::new(),
            targets: Vec::new(),
            notes: vec![
                "A dispatch is asked over HTTP, its price is held, its call written down, a provider of another process \
                 asked over HTTP, the command run in a new sandbox, its answer written down and signed for."
                    .to_owned(),
                "A settlement over HTTP is the hold, the capture, the sums, five events of the run and the answer kept \
                 for ever, in one transaction; all are of one owner and one provider."
                    .to_owned(),
            ],
        }
    }

    fn each(&self, one: &str, other: &str, of: impl Fn(&Round, &Round) -> Option<f64>) -> Option<f64> {
        let find = |key: &str| self.series.iter().find(|series| series.key == key);
        let (one, other) = (find(one)?, find(other)?);
        let each: Option<Vec<f64>> =
            one.rounds.iter().zip(&other.rounds).map(|(one, other)| of(one, other)).collect();
        each.filter(|each| !each.is_empty()).map(median)
    }

    pub fn judge(&mut self) {
        let added = self.each("dispatch", "command", |one, other| Some(one.p50_ms? - other.p50_ms?));
        let ratio = |one: &Round, other: &Round| Some(one.per_second / other.per_second);
        let pairs = self.each("pairs", "postgres", ratio);
        let whole = self.each("settle", "postgres", ratio);
        let choice = |key| self.each(key, key, |one, _| one.p99_ms);
        let targets = [
            ("p50 that a dispatch adds to its command", Bound::AtMost, OVERHEAD_MS, added, " ms"),
            (
                "payments held and captured against transfers of PostgreSQL",
                Bound::AtLeast,
                AGAINST_POSTGRES,
                pairs,
                " ×",
            ),
            ("p99 of choosing among 10,000 providers", Bound::AtMost, CHOICE_MS, choice("select"), " ms"),
            (
                "p99 of choosing where nine of ten cannot do it",
                Bound::AtMost,
                CHOICE_MS,
                choice("select-long"),
                " ms",
            ),
        ];
        self.targets = targets
            .into_iter()
            .filter_map(|(of, bound, wanted, measured, unit)| {
                Some(Target { of: of.into(), bound, wanted, measured: measured?, unit, because: None })
            })
            .collect();
        if let Some(whole) = whole {
            self.notes.push(format!("Whole settlements over HTTP reach {whole:.2} × those transfers."));
        }
    }

    pub fn markdown(&self) -> String {
        let mut out = String::new();
        // Writing into a string does not fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let quick = if self.quick { " (quick: whether it works, not how fast it is)" } else { "" };
        writeln!(out, "## The market{quick}\n\n{}. {}\n", self.machine, self.how)?;
        writeln!(out, "| what | at once | a second | p50 | p99 |\n|---|---:|---:|---:|---:|")?;
        for series in &self.series {
            let ms = |pick: fn(&Round) -> Option<f64>| {
                series.of(pick).map_or_else(|| "–".into(), |ms| format!("{ms:.4} ms"))
            };
            writeln!(
                out,
                "| {} | {} | {} | {} | {} |",
                series.name,
                series.at_once,
                thousands(series.of(|round| Some(round.per_second)).unwrap_or(f64::NAN)),
                ms(|round| round.p50_ms),
                ms(|round| round.p99_ms),
            )?;
        }
        writeln!(out, "\n| target | wanted | measured | |\n|---|---:|---:|---|")?;
        for target in &self.targets {
            writeln!(out, "{}", target.row())?;
        }
        writeln!(out)?;
        for note in &self.notes {
            writeln!(out, "- {note}")?;
        }
        Ok(())
    }
}
