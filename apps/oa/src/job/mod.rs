//! Decides how a job goes from a command line to a receipt: opened as a run, quoted, dispatched, shown, verified by
//! running it once more, settled, and ended, whatever happens in between.

mod builtin;
pub mod report;
pub mod show;
pub mod spec;
pub mod talk;

use std::pin::pin;

use nix::sys::signal::Signal;
use oa_contract::wire::{
    jobs::RunOutcome,
    marketplace::{DispatchReply, QuoteReply},
};
use serde_json::{Value, json};
use uuid::Uuid;

use self::{
    builtin::{Berth, Kit},
    report::Report,
    show::Screen,
    spec::Spec,
    talk::Talk,
};
use crate::{
    config::Settings,
    connect::Place,
    data_dir::DataDir,
    exec::{self, Signals},
    failure::{Failure, NOT_STARTED, USAGE},
    output::Format,
    provider::{self, local::Local},
};

/// Of the output, pieces of this size become events.
const PIECE: usize = 64 * 1024;

/// What is to be done, and how.
pub struct Order {
    pub repo: String,
    pub git_ref: String,
    /// Done by providers that this command brings, rather than by any that is enrolled.
    pub builtin: bool,
    /// Run once more by somebody else before it is paid, whatever the sample of the runtime says.
    pub check: bool,
    /// Shows who was considered.
    pub explain: bool,
    pub timeout_secs: u32,
    pub memory_mb: u32,
    pub cpus: f32,
    pub disk_mb: Option<u32>,
    pub visible: Vec<String>,
    pub env: Vec<(String, String)>,
    pub artifacts: Vec<String>,
    pub command: Vec<String>,
}

/// Everything that a job needs around it.
pub struct Around<'a> {
    pub place: &'a Place,
    pub data: &'a DataDir,
    pub settings: &'a Settings,
    pub format: Format,
}

/// Has the job done; gives its exit code.
pub async fn run(order: Order, around: Around<'_>) -> Result<u8, Failure> {
    let spec = spec::spec(&order)?;
    if order.builtin && spec.repository.is_none() {
        return Err(Failure::usage(
            "the built-in provider fetches no repositories: name a directory, or let an enrolled provider do it with --provider any",
        ));
    }
    if !order.builtin && !order.visible.is_empty() {
        return Err(Failure::usage(
            "--visible is for the built-in provider; others show what their own --visible says",
        ));
    }
    let signals = Signals::catch().map_err(|error| ours(Failure::wrong(error.to_string())))?;
    let screen = Screen::new(around.format);
    let talk = Talk { client: around.place.client()?, owner: provider::owner(around.settings)? };
    let run_id = talk.begin(&metadata(&order, &spec)).await.map_err(ours)?;
    screen.tells(&format!("run {run_id}: {}", spec.line));
    let mut job =
        Job { order: &order, spec: &spec, around: &around, talk, screen, run_id, signals, hired: Vec::new() };
    let done = job.through().await;
    job.screen.rests();
    let status = match &done {
        Ok(Ended::Done(report)) if report.succeeded() => "succeeded",
        Ok(Ended::Done(_)) | Err(_) => "failed",
        Ok(Ended::Interrupted(_)) => "canceled",
    };
    let finished = job.talk.finish(run_id, status).await;
    for local in job.hired.drain(..) {
        local.stop().await;
    }
    let done = done.map_err(ours)?;
    finished.map_err(ours)?;
    match done {
        Ended::Interrupted(signal) => {
            job.screen.tells(&format!(
                "{signal}: the job was taken back, run {run_id} is canceled, nothing is paid"
            ));
            Ok(u8::try_from(128 + signal as i32).unwrap_or(1))
        }
        Ended::Done(report) => {
            let receipt = exec::receipt_digest(&job.talk.client, run_id).await;
            report.show(&job.screen, around.data, status, receipt.ok().as_deref(), around.format)?;
            Ok(report.exit_code())
        }
    }
}

/// Not the job's failure but that of whoever was to have it done.
fn ours(failure: Failure) -> Failure {
    match failure.code {
        USAGE => failure,
        _ => Failure::new(NOT_STARTED, failure.sentence),
    }
}

fn metadata(order: &Order, spec: &Spec) -> Value {
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).ok();
    json!({
        "kind": "job",
        "argv": order.command,
        "repo": spec.request.repo.source,
        "git_ref": order.git_ref,
        "commit": spec.request.repo.git_ref,
        "host": host,
        "oa_version": env!("CARGO_PKG_VERSION"),
    })
}

enum Ended {
    Done(Box<Report>),
    Interrupted(Signal),
}

struct Job<'a> {
    order: &'a Order,
    spec: &'a Spec,
    around: &'a Around<'a>,
    talk: Talk,
    screen: Screen,
    run_id: Uuid,
    signals: Signals,
    /// Providers of our own, which end with us.
    hired: Vec<Local>,
}

impl Job<'_> {
    fn kit(&self) -> Option<Kit<'_>> {
        let repository = self.spec.repository.as_deref().filter(|_| self.order.builtin)?;
        Some(Kit {
            order: self.order,
            repository,
            place: self.around.place,
            data: self.around.data,
            owner: self.talk.owner.clone(),
            format: self.around.format,
        })
    }

    async fn through(&mut self) -> Result<Ended, Failure> {
        let (berth, quoted) = self.hire().await?;
        self.tell_price(&quoted);
        let reply = match self.done(&quoted).await? {
            Ok(reply) => reply,
            Err(signal) => return Ok(Ended::Interrupted(signal)),
        };
        self.record(&quoted, &reply).await?;
        if !reply.response.status.was_run() {
            return Err(not_run(&reply, self.order));
        }
        if let (Some(kit), Some(berth), RunOutcome::Success) = (self.kit(), &berth, reply.response.status) {
            self.screen.begins("run once more, by a second sandbox");
            let checker = kit.checker(berth).await?;
            self.hired.push(checker);
        } else {
            self.screen.begins("verified and settled");
        }
        let request = &self.spec.request;
        let settled = self.talk.settle(self.run_id, request, (&quoted.quote, &reply), self.order.check).await;
        let settlement = settled.map_err(|failure| {
            let code = reply.response.runs.last().map_or(1, |run| run.exit_code);
            let sentence = format!(
                "the job ended with {code}, but is not settled: {}. What was reserved for it is given back when its time is up",
                failure.sentence.trim_end_matches('.')
            );
            Failure::new(failure.code, sentence)
        })?;
        let quote = reply.quote.clone().unwrap_or(quoted.quote);
        Ok(Ended::Done(Box::new(Report {
            run_id: self.run_id,
            quote,
            considered: quoted.selection.considered,
            reply,
            settlement,
        })))
    }

    /// Somebody who does it, and at what price.
    async fn hire(&mut self) -> Result<(Option<Berth>, QuoteReply), Failure> {
        if self.kit().is_none() {
            self.screen.begins("asking for a price");
            return Ok((None, self.talk.quote(&self.spec.request, None).await.map_err(nobody)?));
        }
        self.screen.begins("starting the built-in provider");
        let berth = Berth::take(self.around.data)?;
        let local = match self.kit() {
            Some(kit) => kit.worker(&berth, self.screen.tap()).await?,
            None => return Err(Failure::wrong("there is no built-in provider for this job")),
        };
        match self.talk.quote(&self.spec.request, Some(local.worker_id())).await {
            Ok(quoted) => {
                self.hired.push(local);
                Ok((Some(berth), quoted))
            }
            Err(failure) => {
                let failure = released(failure, local.worker_id());
                local.stop().await;
                Err(failure)
            }
        }
    }

    fn tell_price(&self, quoted: &QuoteReply) {
        let quote = &quoted.quote;
        self.screen.tells(&format!(
            "{} does it for {} msats (its price {}, fees {})",
            quote.provider_id,
            quote.total_price_msats.get(),
            quote.provider_price_msats.get(),
            quote.operator_fee_msats.get() + quote.policy_adder_msats.get()
        ));
        if self.order.explain {
            self.screen.lines(&show::considered(&quoted.selection.considered));
        }
        self.screen.begins("the job runs");
    }

    /// The answer, or the signal that took the job back.
    async fn done(&mut self, quoted: &QuoteReply) -> Result<Result<DispatchReply, Signal>, Failure> {
        let asked = self.talk.dispatch(self.run_id, &self.spec.request, &quoted.quote, 1);
        let mut asked = pin!(asked);
        let mut taken_back = None;
        loop {
            tokio::select! {
                reply = &mut asked => return match taken_back {
                    Some(signal) => Ok(Err(signal)),
                    None => reply.map(Ok).map_err(|failure| undone(failure, self.order)),
                },
                signal = self.signals.next() => {
                    // Nobody of our own runs it, or we are told a second time.
                    if self.hired.is_empty() || taken_back.is_some() {
                        return Ok(Err(signal));
                    }
                    self.hired.iter().for_each(Local::withdraw);
                    taken_back = Some(signal);
                }
            }
        }
    }

    /// Who did it and what it said becomes part of the run.
    async fn record(&self, quoted: &QuoteReply, reply: &DispatchReply) -> Result<(), Failure> {
        let provider = &reply.selection.provider;
        let dispatched = json!({
            "job_hash": reply.job_hash, "dispatch_id": reply.dispatch_id,
            "provider_id": provider.provider_id, "provider_worker_id": provider.worker_id,
            "quote_sha256": reply.quote.as_ref().unwrap_or(&quoted.quote).quote_sha256,
        });
        self.talk.receipt(self.run_id, "JobDispatched", "job:dispatched", dispatched).await?;
        let said = self.screen.said();
        let (mut kept, mut number) = (0_u64, 0);
        let shown = self.order.builtin;
        if !shown {
            self.screen.rests();
            self.pass_on(reply);
        }
        for (stdout, bytes) in [(true, &said.stdout), (false, &said.stderr)] {
            let mut offset = 0;
            for piece in bytes.chunks(PIECE) {
                let event = exec::output_event(stdout, offset, piece, 0);
                self.talk.tell(self.run_id, "tool", &format!("job:output:{number}"), &event).await?;
                offset += piece.len() as u64;
                number += 1;
            }
            kept += offset;
        }
        let response = &reply.response;
        let completed = json!({
            "job_hash": reply.job_hash, "status": response.status.word(), "latency_ms": reply.latency_ms,
            "response_sha256": reply.evidence.response_sha256,
            "output_bytes_left_out": said.bytes.saturating_sub(kept),
            "runs": response.runs.iter().map(|run| json!({
                "cmd": run.cmd, "exit_code": run.exit_code, "duration_ms": run.duration_ms,
                "stdout_sha256": run.stdout_sha256, "stderr_sha256": run.stderr_sha256,
            })).collect::<Vec<_>>(),
            "artifacts": response.artifacts,
        });
        self.talk.receipt(self.run_id, "JobCompleted", "job:completed", completed).await
    }

    /// What a provider elsewhere shows of the output.
    fn pass_on(&self, reply: &DispatchReply) {
        for run in &reply.response.runs {
            for (stream, text) in [
                (oa_sandbox::Stream::Stdout, &run.stdout_preview),
                (oa_sandbox::Stream::Stderr, &run.stderr_preview),
            ] {
                if let Some(text) = text {
                    self.screen.output(stream, text.as_bytes());
                }
            }
        }
    }
}

/// Nobody offers it: what to do.
fn nobody(failure: Failure) -> Failure {
    let sentence = format!(
        "{}. Enrol one with `oa provider --repositories DIR`, or leave --provider out to have it done here",
        failure.sentence.trim_end_matches('.')
    );
    Failure::new(failure.code, sentence)
}

/// One of ours that was killed in mid-job often enough is trusted no more: who can change that.
fn released(failure: Failure, worker_id: &str) -> Failure {
    match failure.sentence.contains("it is quarantined") {
        true => Failure::new(
            failure.code,
            format!(
                "{}. An operator ends that: POST /admin/v1/workers/{worker_id}/release",
                failure.sentence.trim_end_matches('.')
            ),
        ),
        false => failure,
    }
}

fn undone(failure: Failure, order: &Order) -> Failure {
    let hint = match failure.sentence.contains("budget") {
        true => "Raise the budget of this owner (POST /admin/v1/budgets)",
        false if order.builtin => "`oa doctor` looks what this machine lacks",
        false => "--providers shows who was asked; leave --provider out to have it done here",
    };
    Failure::new(
        failure.code,
        format!("the job was not done: {}. {hint}", failure.sentence.trim_end_matches('.')),
    )
}

/// Somebody had it and did not bring it to an end.
fn not_run(reply: &DispatchReply, order: &Order) -> Failure {
    let why = reply.response.error.as_deref().unwrap_or("no reason was given");
    let hint = match why.contains("time of the job") {
        true => format!(" It had {} s: give it more with --timeout, at most 300", order.timeout_secs),
        false => String::new(),
    };
    Failure::wrong(format!(
        "{} did not bring the job to an end ({}: {}); nothing is paid.{hint}",
        reply.selection.provider.provider_id,
        reply.response.status.word().to_lowercase(),
        crate::output::plain(why)
    ))
}
