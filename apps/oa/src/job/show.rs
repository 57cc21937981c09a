//! Decides what is seen of a job while it is done: on a terminal one line that moves, elsewhere a plain line for each
//! step; the output of the command itself passes through untouched.

use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use oa_contract::wire::marketplace::{Considered, ConsideredOutcome};
use oa_sandbox::Stream;

use crate::{
    output::{Format, plain, table},
    provider::local::Tap,
};

/// Of the output, so much becomes part of the run.
const MOST_KEPT: usize = 1 << 20;

/// What the command said, as far as it is kept.
#[derive(Default)]
pub struct Said {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub bytes: u64,
}

/// Steps and output. Clones are the same screen.
#[derive(Clone)]
pub struct Screen {
    format: Format,
    bar: Option<ProgressBar>,
    said: Arc<Mutex<Said>>,
}

impl Screen {
    pub fn new(format: Format) -> Self {
        let terminal = format == Format::Text && io::stderr().is_terminal();
        Screen { format, bar: terminal.then(bar), said: Arc::default() }
    }

    /// Something is begun that takes a while.
    pub fn begins(&self, what: &str) {
        match &self.bar {
            Some(bar) => {
                bar.set_message(plain(what));
                bar.enable_steady_tick(Duration::from_millis(100));
            }
            None => self.format.note(&plain(what)),
        }
    }

    /// Something is known.
    pub fn tells(&self, what: &str) {
        let line = || self.format.note(&plain(what));
        match &self.bar {
            Some(bar) => bar.suspend(line),
            None => line(),
        }
    }

    /// Several lines that are ours.
    pub fn lines(&self, text: &str) {
        let write = || {
            let _ = io::stderr().write_all(text.as_bytes());
        };
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Nothing moves any more.
    pub fn rests(&self) {
        if let Some(bar) = &self.bar {
            bar.disable_steady_tick();
            bar.set_message("");
            bar.finish_and_clear();
            bar.reset();
        }
    }

    /// Output of the command. With JSON on stdout, it all goes to stderr.
    pub fn output(&self, stream: Stream, bytes: &[u8]) {
        // The moving line ends where the command's own lines begin.
        self.rests();
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.bytes += bytes.len() as u64;
        let room = MOST_KEPT.saturating_sub(said.stdout.len() + said.stderr.len()).min(bytes.len());
        match stream {
            Stream::Stdout => said.stdout.extend_from_slice(&bytes[..room]),
            Stream::Stderr => said.stderr.extend_from_slice(&bytes[..room]),
        }
        // Whoever reads it may have gone; the job goes on all the same.
        let _ = match (stream, self.format) {
            (Stream::Stdout, Format::Text) => {
                let mut out = io::stdout().lock();
                out.write_all(bytes).and_then(|()| out.flush())
            }
            _ => io::stderr().write_all(bytes),
        };
    }

    /// For a provider that shows its output here.
    pub fn tap(&self) -> Tap {
        let screen = self.clone();
        Arc::new(move |stream, bytes| screen.output(stream, bytes))
    }

    pub fn said(&self) -> Said {
        std::mem::take(&mut *self.said.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("{spinner} {msg} {elapsed:.dim}");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar
}

/// Who was looked at, and why each was chosen or not.
pub fn considered(all: &[Considered]) -> String {
    let mut rows = vec![["", "provider", "price", "ranked at", "why"].map(str::to_owned).to_vec()];
    let msats = |amount: Option<u64>| amount.map_or_else(|| "-".to_owned(), |msats| format!("{msats} msats"));
    for one in all {
        let mark = match one.outcome {
            ConsideredOutcome::Selected => "*",
            ConsideredOutcome::Outranked => " ",
            ConsideredOutcome::Ineligible => "x",
        };
        rows.push(vec![
            mark.to_owned(),
            plain(&one.provider_id),
            msats(one.total_price_msats),
            msats(one.ranked_cost_msats),
            plain(&one.reason),
        ]);
    }
    table(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_provider_that_was_looked_at_has_its_line_and_its_reason() {
        let one = |provider_id: &str, price, outcome, reason: &str| Considered {
            provider_id: provider_id.into(),
            worker_id: provider_id.into(),
            tier: None,
            total_price_msats: price,
            ranked_cost_msats: price,
            outcome,
            reason: reason.into(),
        };
        let text = considered(&[
            one("a", Some(1005), ConsideredOutcome::Selected, "the best"),
            one("b\u{1b}[2J", None, ConsideredOutcome::Ineligible, "it is quarantined"),
        ]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("*  a") && lines[1].ends_with("the best"), "{text}");
        assert!(lines[2].starts_with("x  b\\u{1b}[2J") && lines[2].contains("  -  "), "{text}");
    }
}
