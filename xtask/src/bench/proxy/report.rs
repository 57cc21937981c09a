//! Decides what is reported of the ways to a worker: medians and their spread, what control adds, how it compares
//! with nginx, and what each way does for it.

use std::{fmt::Write as _, path::Path};

use serde::Serialize;

use super::super::{
    MANY, machine,
    table::{Bound, Target, median, thousands},
};

/// What control may add at one connection.
const ADDED_MS: f64 = 0.1;
/// How much of nginx's rate control must reach.
const OF_NGINX: f64 = 0.6;

/// One round on one way.
#[derive(Serialize)]
pub struct Round {
    pub per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// Of all processes on the way, per request.
    pub cpu_us: f64,
    /// Of the load, per request.
    pub load_cpu_us: f64,
    /// Cores busy with anything else.
    pub foreign_cores: f64,
}

#[derive(Serialize)]
pub struct Series {
    pub key: &'static str,
    pub name: &'static str,
    pub connections: usize,
    pub rounds: Vec<Round>,
}

impl Series {
    fn of(&self, pick: fn(&Round) -> f64) -> f64 {
        median(self.rounds.iter().map(pick))
    }
}

/// A figure made of two ways, round by round.
struct Compared {
    median: f64,
    least: f64,
    most: f64,
}

impl Compared {
    fn new(one: &Series, other: &Series, of: fn(&Round, &Round) -> f64) -> Self {
        let each: Vec<f64> =
            one.rounds.iter().zip(&other.rounds).map(|(one, other)| of(one, other)).collect();
        Compared {
            median: median(each.iter().copied()),
            least: each.iter().copied().fold(f64::INFINITY, f64::min),
            most: each.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }
    }
}

#[derive(Serialize)]
pub struct Report {
    quick: bool,
    machine: String,
    how: String,
    series: Vec<Series>,
    targets: Vec<Target>,
    notes: Vec<String>,
}

impl Report {
    pub fn new(
        quick: bool,
        dir: &Path,
        (rounds, seconds): (usize, f64),
        nginx: &str,
        series: Vec<Series>,
    ) -> Self {
        let how = format!(
            "{rounds} rounds, the ways in turn, {seconds:.1} s counted each; medians over the rounds, differences \
             and ratios taken round by round. One worker is read; the load (one thread) shares the cores with the \
             servers. nginx {nginx} with kept connections, no log and no cache."
        );
        let mut report = Report {
            quick,
            machine: machine(dir),
            how,
            series,
            targets: Vec::new(),
            notes: vec![
                "nginx passes bytes on and believes everybody; the caller itself shows the runtime's service token and \
                 names the owner. Control finds the user of a personal token, puts the owner in, signs the request \
                 for this one use, checks the answer and wraps it; the runtime verifies the signature and remembers \
                 its nonce."
                    .to_owned(),
            ],
        };
        report.judge();
        report
    }

    fn find(&self, key: &str, connections: usize) -> Option<&Series> {
        self.series.iter().find(|series| series.key == key && series.connections == connections)
    }

    fn judge(&mut self) {
        let at = |key, connections| self.find(key, connections);
        let (Some(alone), Some(direct)) = (at("control", 1), at("direct", 1)) else { return };
        let (Some(control), Some(nginx), Some(plain)) =
            (at("control", MANY), at("nginx", MANY), at("direct", MANY))
        else {
            return;
        };
        let rate = |one: &Round, other: &Round| one.per_second / other.per_second;
        let added = Compared::new(alone, direct, |one, other| one.p50_ms - other.p50_ms);
        let ratio = Compared::new(control, nginx, rate);
        let against_plain = [("control", control), ("nginx", nginx)].map(|(name, series)| {
            let Compared { median, least, most } = Compared::new(series, plain, rate);
            format!("Against the runtime itself {name} reaches {median:.2} × ({least:.2} to {most:.2}).")
        });
        let behind = at("nginx", 1).map(|nginx| {
            let Compared { median, least, most } =
                Compared::new(nginx, direct, |one, other| one.p50_ms - other.p50_ms);
            format!("nginx adds {median:.3} ms at 1 connection ({least:.3} to {most:.3}).")
        });
        let targets = vec![
            target("p50 that control adds at 1 connection", Bound::AtMost, ADDED_MS, &added, " ms"),
            target("requests/s through control against nginx", Bound::AtLeast, OF_NGINX, &ratio, " ×"),
        ];
        let spread = |of: &str, by: &Compared, unit: &str| {
            format!("{of}: from {:.3} to {:.3}{unit} over the rounds.", by.least, by.most)
        };
        let mut notes = vec![
            spread("p50 that control adds", &added, " ms"),
            spread("Rate through control against nginx", &ratio, " ×"),
        ];
        notes.extend(against_plain);
        notes.extend(behind);
        let foreign = self.series.iter().flat_map(|series| &series.rounds).map(|round| round.foreign_cores);
        let foreign = median(foreign);
        let disturbed = if foreign > 0.2 { ": the figures are disturbed" } else { "" };
        notes.push(format!(
            "Other processes and the kernel kept {foreign:.2} cores busy in the median round{disturbed}."
        ));
        self.targets = targets;
        self.notes.extend(notes);
    }

    pub fn markdown(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_markdown(&mut out);
        out
    }

    fn write_markdown(&self, out: &mut String) -> std::fmt::Result {
        let quick = if self.quick { ", quick (not the targets' own)" } else { "" };
        writeln!(out, "# The way through control{quick}\n\n{}\n\n{}\n", self.machine, self.how)?;
        writeln!(
            out,
            "| | connections | requests/s | p50 ms | p99 ms | CPU of the servers per request | of the load |\n\
             |---|---:|---:|---:|---:|---:|---:|"
        )?;
        for series in &self.series {
            writeln!(
                out,
                "| {} | {} | {} | {:.3} | {:.3} | {:.1} µs | {:.1} µs |",
                series.name,
                series.connections,
                thousands(series.of(|round| round.per_second)),
                series.of(|round| round.p50_ms),
                series.of(|round| round.p99_ms),
                series.of(|round| round.cpu_us),
                series.of(|round| round.load_cpu_us),
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

fn target(of: &str, bound: Bound, wanted: f64, compared: &Compared, unit: &'static str) -> Target {
    Target { of: of.to_owned(), bound, wanted, measured: compared.median, unit, because: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(key: &'static str, connections: usize, rounds: &[(f64, f64)]) -> Series {
        let round = |(per_second, p50_ms): &(f64, f64)| Round {
            per_second: *per_second,
            p50_ms: *p50_ms,
            p99_ms: 1.0,
            cpu_us: 10.0,
            load_cpu_us: 5.0,
            foreign_cores: 0.0,
        };
        Series { key, name: key, connections, rounds: rounds.iter().map(round).collect() }
    }

    #[test]
    fn differences_and_ratios_are_taken_round_by_round() {
        let all = vec![
            series("direct", 1, &[(1.0, 0.1), (1.0, 0.3), (1.0, 0.2)]),
            series("control", 1, &[(1.0, 0.15), (1.0, 0.38), (1.0, 0.4)]),
            series("direct", MANY, &[(100.0, 1.0), (200.0, 1.0), (100.0, 1.0)]),
            series("nginx", MANY, &[(50.0, 1.0), (100.0, 1.0), (50.0, 1.0)]),
            series("control", MANY, &[(40.0, 1.0), (50.0, 1.0), (35.0, 1.0)]),
        ];
        let report = Report::new(true, Path::new("/"), (3, 0.5), "1.22.1", all);
        let measured: Vec<f64> =
            report.targets.iter().map(|target| (target.measured * 100.0).round()).collect();
        assert_eq!(measured, [8.0, 70.0]);
        assert!(report.targets.iter().all(Target::reached));
        let text = report.markdown();
        assert!(text.contains("from 0.500 to 0.800 ×") && text.contains("signs the request"), "{text}");
    }
}
