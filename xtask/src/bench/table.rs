//! Decides what is reported of the measurements: medians over the rounds, each target's verdict, and why one is missed.

use std::fmt::Write as _;

use serde::Serialize;

use super::{load::Sample, process::Used};

/// One round of one subject.
#[derive(Serialize)]
pub struct Point {
    pub appends_per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// Of the measured server, per append. Missing where the work is spread over processes.
    pub server_cpu_us: Option<f64>,
    /// Of the load, per append.
    pub load_cpu_us: f64,
    /// Bytes the server caused to be written to the disk, per append.
    pub written_bytes: Option<f64>,
    /// Cores busy with the server and the load.
    pub busy_cores: Option<f64>,
    /// Cores busy with anything else: above a few hundredths the figures are disturbed.
    pub foreign_cores: Option<f64>,
}

impl Point {
    /// `watched` says whether `used` saw the whole server.
    pub fn new(sample: &Sample, used: &Used, watched: bool) -> Self {
        let per_call = |total: f64| total / sample.calls.max(1) as f64;
        Point {
            appends_per_second: sample.rate(),
            p50_ms: sample.quantile(0.5),
            p99_ms: sample.quantile(0.99),
            server_cpu_us: watched.then(|| per_call(used.server_cpu) * 1e6),
            load_cpu_us: per_call(used.load_cpu) * 1e6,
            written_bytes: used.written.filter(|_| watched).map(per_call),
            busy_cores: watched.then(|| (used.server_cpu + used.load_cpu) / used.seconds),
            foreign_cores: watched.then_some(used.foreign_cores),
        }
    }
}

/// All rounds of one subject at one number of connections.
#[derive(Serialize)]
pub struct Series {
    pub key: &'static str,
    pub name: String,
    pub connections: usize,
    pub rounds: Vec<Point>,
}

impl Series {
    pub fn new(key: &'static str, name: impl Into<String>, connections: usize) -> Self {
        Series { key, name: name.into(), connections, rounds: Vec::new() }
    }

    pub fn rate(&self) -> f64 {
        median(self.rounds.iter().map(|point| point.appends_per_second))
    }

    pub fn p50(&self) -> f64 {
        median(self.rounds.iter().map(|point| point.p50_ms))
    }

    pub fn p99(&self) -> f64 {
        median(self.rounds.iter().map(|point| point.p99_ms))
    }

    fn optional(&self, pick: fn(&Point) -> Option<f64>) -> Option<f64> {
        let seen: Option<Vec<f64>> = self.rounds.iter().map(pick).collect();
        seen.filter(|seen| !seen.is_empty()).map(median)
    }
}

pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

#[derive(Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    AtLeast,
    AtMost,
}

/// One thing to reach for, and how it went.
#[derive(Serialize)]
pub struct Target {
    pub of: String,
    pub bound: Bound,
    pub wanted: f64,
    pub measured: f64,
    pub unit: &'static str,
    /// What the figures say of the reason, if it was missed.
    pub because: Option<String>,
}

impl Target {
    pub fn reached(&self) -> bool {
        match self.bound {
            Bound::AtLeast => self.measured >= self.wanted,
            Bound::AtMost => self.measured <= self.wanted,
        }
    }

    pub fn row(&self) -> String {
        let sign = if self.bound == Bound::AtLeast { "≥" } else { "≤" };
        let verdict = if self.reached() {
            "reached".to_owned()
        } else {
            let by = (self.measured - self.wanted).abs();
            format!("short by {by:.2}{} ({:.0} %)", self.unit, by / self.wanted * 100.0)
        };
        format!(
            "| {} | {sign} {:.2}{} | {:.2}{} | {verdict} |",
            self.of, self.wanted, self.unit, self.measured, self.unit
        )
    }
}

#[derive(Serialize)]
pub struct Report {
    /// Smaller sizes than the targets speak of.
    pub quick: bool,
    pub machine: String,
    pub how: String,
    pub series: Vec<Series>,
    /// Seconds from the start of the process until ready, each after a SIGKILL.
    pub restarts: Vec<f64>,
    /// Seconds of CPU the server took for each.
    pub restarts_cpu: Vec<f64>,
    pub targets: Vec<Target>,
    pub notes: Vec<String>,
}

impl Report {
    pub fn find(&self, key: &str, connections: usize) -> Option<&Series> {
        self.series.iter().find(|series| {
            series.key == key && series.connections == connections && !series.rounds.is_empty()
        })
    }

    /// Adds "rate of one at least `wanted` × rate of the other", if both were measured.
    pub fn compare(&mut self, of: String, one: &'static str, other: &'static str, wanted: f64) {
        let Some((left, right)) = self.find(one, super::MANY).zip(self.find(other, super::MANY)) else {
            self.notes.push(format!("Not measured: {of}."));
            return;
        };
        // Round by round, for the machine may change between rounds more than within one.
        let rounds = left.rounds.iter().zip(&right.rounds);
        let measured = median(rounds.map(|(left, right)| left.appends_per_second / right.appends_per_second));
        let because = (measured < wanted).then(|| why_slower(left, right));
        self.targets.push(Target { of, bound: Bound::AtLeast, wanted, measured, unit: " ×", because });
    }

    /// Adds "p50 at one connection at most the disk's plus 0.2 ms".
    pub fn compare_latency(&mut self) {
        let of = "p50 at 1 connection against raw `fdatasync` + 0.2 ms".to_owned();
        let Some((oa, raw)) = self.find("oa", 1).zip(self.find("raw", 1)) else {
            self.notes.push(format!("Not measured: {of}."));
            return;
        };
        let (wanted, measured) = (raw.p50() + 0.2, oa.p50());
        let parsing = self.find("parse", 1).map_or(0.0, Series::p50);
        let because = (measured > wanted).then(|| {
            format!(
                "of the {measured:.2} ms one raw `fdatasync` takes {:.2}, HTTP and parsing take {parsing:.2} as (a) \
                 shows, and {:.2} are the service's own{}",
                raw.p50(),
                measured - raw.p50() - parsing,
                oa.optional(|point| point.written_bytes)
                    .map(|bytes| format!(" (it writes {:.1} KiB per append)", bytes / 1024.0))
                    .unwrap_or_default(),
            )
        });
        self.targets.push(Target { of, bound: Bound::AtMost, wanted, measured, unit: " ms", because });
    }

    /// Adds "ready again within a second".
    pub fn judge_restart(&mut self, events: String) {
        let (wanted, measured) = (1.0, median(self.restarts.iter().copied()));
        let cpu = median(self.restarts_cpu.iter().copied());
        self.targets.push(Target {
            of: format!("ready after SIGKILL with {events} events"),
            bound: Bound::AtMost,
            wanted,
            measured,
            unit: " s",
            because: (measured > wanted).then(|| {
                format!("the server took {cpu:.2} s of CPU until it was ready, the rest was waiting")
            }),
        });
    }

    pub fn markdown(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_markdown(&mut out);
        out
    }

    fn write_markdown(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "# Durable appends{}\n",
            if self.quick { ", quick (small sizes: not the targets' own)" } else { "" }
        )?;
        writeln!(out, "{}\n\n{}\n", self.machine, self.how)?;
        writeln!(
            out,
            "| | connections | appends/s | p50 ms | p99 ms | CPU of the server per append | of the load | written \
             per append |\n|---|---:|---:|---:|---:|---:|---:|---:|"
        )?;
        for series in self.series.iter().filter(|series| !series.rounds.is_empty()) {
            let server = series.optional(|point| point.server_cpu_us);
            writeln!(
                out,
                "| {} | {} | {} | {:.3} | {:.3} | {} | {:.1} µs | {} |",
                series.name,
                series.connections,
                thousands(series.rate()),
                series.p50(),
                series.p99(),
                server.map_or("–".into(), |cpu| format!("{cpu:.1} µs")),
                median(series.rounds.iter().map(|point| point.load_cpu_us)),
                series
                    .optional(|point| point.written_bytes)
                    .map_or("–".into(), |bytes| format!("{} B", thousands(bytes))),
            )?;
        }
        writeln!(out, "\n| target | wanted | measured | |\n|---|---:|---:|---|")?;
        for target in &self.targets {
            writeln!(out, "{}", target.row())?;
        }
        let mut notes: Vec<String> = self
            .targets
            .iter()
            .filter_map(|target| Some(format!("{}: {}.", target.of, target.because.as_ref()?)))
            .collect();
        notes.extend(self.notes.iter().cloned());
        let foreign: Vec<f64> = self
            .series
            .iter()
            .flat_map(|series| &series.rounds)
            .filter_map(|point| point.foreign_cores)
            .collect();
        let (usual, most) = (median(foreign.iter().copied()), foreign.iter().copied().fold(0.0, f64::max));
        notes.push(format!(
            "Other processes and the kernel kept {usual:.2} cores busy in the median round, {most:.2} at most{}.",
            if usual > 0.2 { ": the figures are disturbed" } else { "" }
        ));
        writeln!(out)?;
        for note in notes {
            writeln!(out, "- {note}")?;
        }
        Ok(())
    }
}

/// What bounds the slower of two rates, as far as CPU times tell.
fn why_slower(slow: &Series, fast: &Series) -> String {
    let cores = super::cores() as f64;
    let cpu = |series: &Series| series.optional(|point| point.server_cpu_us).unwrap_or(f64::NAN);
    let busy = slow.optional(|point| point.busy_cores).unwrap_or(f64::NAN);
    let foreign = slow.optional(|point| point.foreign_cores).unwrap_or(f64::NAN);
    let bound = if foreign > 0.2 {
        "others took that much of the machine, so judge by a run without them"
    } else if busy >= 0.9 * cores {
        "the CPU is the bound"
    } else if busy < 0.6 * cores {
        "the cores are idle in part, so waiting for the disk or for a single thread is the bound"
    } else {
        "CPU and waiting both count"
    };
    format!(
        "{:.1} µs of CPU per append against {:.1}; {busy:.1} of {cores} cores busy with server and load, {foreign:.1} \
         with others; {bound}",
        cpu(slow),
        cpu(fast),
    )
}

pub fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_groups_of_digits() {
        assert_eq!((median([3.0, 1.0, 2.0]), median([4.0, 1.0, 2.0, 3.0])), (2.0, 2.5));
        assert_eq!(
            (thousands(999.6), thousands(12.0), thousands(1_234_567.0)),
            ("1,000".into(), "12".into(), "1,234,567".into())
        );
    }

    #[test]
    fn a_missed_target_says_by_how_much() {
        let missed = Target {
            of: "x".into(),
            bound: Bound::AtLeast,
            wanted: 0.5,
            measured: 0.4,
            unit: " ×",
            because: None,
        };
        assert!(missed.row().ends_with("| short by 0.10 × (20 %) |"), "{}", missed.row());
    }
}
