//! Decides which request runs: each key once, whatever comes twice or at once, and the answer is on disk before anybody hears it.
//! Whoever finds no place here is told 429: that is nobody's fault, and another provider may have one.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use oa_sandbox::Cancel;
use tokio::sync::watch;

use super::{
    keep::Answer,
    work::{Done, Refusal, Workshop},
};
use crate::output::{Format, shortened};

/// What a request comes to.
pub type Reply = Result<String, Refusal>;

pub struct Jobs {
    pub workshop: Workshop,
    most_at_once: usize,
    format: Format,
    running: Mutex<HashMap<String, Running>>,
    enabled: AtomicBool,
    ending: AtomicBool,
    /// Whoever asked took everything back.
    withdrawn: AtomicBool,
    /// Says nothing of its jobs.
    quiet: bool,
    executions: AtomicU64,
    cache_hits: AtomicU64,
}

struct Running {
    /// The hash of the request.
    request: String,
    /// It takes up a place; until then it is only asked whether it was answered before.
    runs: bool,
    cancel: Cancel,
    reply: watch::Receiver<Option<Reply>>,
}

/// One request, ready to be run.
pub struct Order {
    pub key: String,
    pub request: String,
    /// What the progress line calls it.
    pub title: String,
}

impl Jobs {
    pub fn new(workshop: Workshop, most_at_once: usize, format: Format) -> Self {
        Jobs {
            workshop,
            most_at_once,
            format,
            running: Mutex::default(),
            enabled: AtomicBool::new(true),
            ending: AtomicBool::new(false),
            withdrawn: AtomicBool::new(false),
            quiet: false,
            executions: AtomicU64::new(0),
            cache_hits: AtomicU64::new(0),
        }
    }

    /// The same, saying nothing of its jobs: somebody else shows them.
    pub fn quietly(self) -> Self {
        Jobs { quiet: true, ..self }
    }

    fn note(&self, sentence: &str) {
        if !self.quiet {
            self.format.note(sentence);
        }
    }

    /// What runs is ended because nobody wants it any more, which is no failure of the provider.
    pub fn withdraw(&self) {
        self.withdrawn.store(true, Ordering::Release);
        self.end();
        self.cancel_all();
    }

    fn running(&self) -> MutexGuard<'_, HashMap<String, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn running_count(&self) -> usize {
        in_work(&self.running())
    }

    pub fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Acquire)
    }

    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    pub fn counts(&self) -> (u64, u64) {
        (self.executions.load(Ordering::Relaxed), self.cache_hits.load(Ordering::Relaxed))
    }

    /// Disabling ends what runs.
    pub fn enable(&self, enabled: bool) {
        self.enabled.store(enabled, Ordering::Release);
        if !enabled {
            self.cancel_all();
        }
    }

    pub fn cancel_all(&self) {
        for job in self.running().values() {
            job.cancel.cancel();
        }
    }

    /// New jobs are refused from now on; those that run may end.
    pub fn end(&self) {
        self.ending.store(true, Ordering::Release);
    }

    /// The answer to this key: kept, awaited, or made now by `run`.
    pub async fn reply(
        self: &Arc<Self>,
        order: Order,
        run: impl FnOnce(&Workshop, &Cancel) -> Result<Done, Refusal> + Send + 'static,
    ) -> Reply {
        if !self.is_enabled() {
            return Err(Refusal::new(503, "provider disabled"));
        }
        let mut reply = self.begin(order, run)?;
        match reply.wait_for(Option::is_some).await {
            Ok(reply) => reply.clone().unwrap_or_else(|| Err(Refusal::new(500, "the job had no end"))),
            Err(_) => Err(Refusal::new(500, "the job had no end")),
        }
    }

    /// Whoever comes first with a key finds out whether it was answered before, and has it run if not; others with the
    /// same key wait for what the first one hears. A key leaves the list when its answer is on disk, so that it is
    /// always found in one of the two.
    fn begin(
        self: &Arc<Self>,
        order: Order,
        run: impl FnOnce(&Workshop, &Cancel) -> Result<Done, Refusal> + Send + 'static,
    ) -> Result<watch::Receiver<Option<Reply>>, Refusal> {
        let mut running = self.running();
        if let Some(job) = running.get(&order.key) {
            if job.request != order.request {
                return Err(other());
            }
            self.cache_hits.fetch_add(1, Ordering::Relaxed);
            return Ok(job.reply.clone());
        }
        let (tell, reply) = watch::channel(None);
        let cancel = Cancel::new();
        let first = Running {
            request: order.request.clone(),
            runs: false,
            cancel: cancel.clone(),
            reply: reply.clone(),
        };
        running.insert(order.key.clone(), first);
        drop(running);
        let jobs = self.clone();
        // Whoever asked may go away: the job goes on, and its answer is kept.
        tokio::task::spawn_blocking(move || {
            let leaves = Leaves { jobs: &jobs, key: &order.key };
            let reply = match jobs.known(&order) {
                Some(reply) => reply,
                None => jobs.admit(&order.key).and_then(|()| jobs.perform(&order, &cancel, run)),
            };
            drop(leaves);
            let _ = tell.send(Some(reply));
        });
        Ok(reply)
    }

    /// What was answered to this key before.
    fn known(&self, order: &Order) -> Option<Reply> {
        match self.workshop.keep.answer(&order.key) {
            Ok(Some(answer)) if answer.request == order.request => {
                self.cache_hits.fetch_add(1, Ordering::Relaxed);
                Some(Ok(answer.body))
            }
            Ok(Some(_)) => Some(Err(other())),
            Ok(None) => None,
            // Not knowing whether it ran is no reason to run it again.
            Err(error) => Some(Err(Refusal::new(503, format!("what was answered cannot be read: {error}")))),
        }
    }

    /// A place for the job with this key, if there is one.
    fn admit(&self, key: &str) -> Result<(), Refusal> {
        let mut running = self.running();
        if self.is_ending() {
            return Err(Refusal::new(429, "provider is ending"));
        }
        if in_work(&running) >= self.most_at_once {
            return Err(Refusal::new(429, "provider is busy"));
        }
        if let Some(job) = running.get_mut(key) {
            job.runs = true;
        }
        self.executions.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn perform(
        &self,
        order: &Order,
        cancel: &Cancel,
        run: impl FnOnce(&Workshop, &Cancel) -> Result<Done, Refusal>,
    ) -> Reply {
        let begun = Instant::now();
        let name = order.request.get(..12).unwrap_or(&order.request);
        let title = shortened(&crate::output::plain(&order.title), 60);
        self.note(&format!("job {name} begins: {title}"));
        let done = match run(&self.workshop, cancel) {
            Ok(done) if done.keep => Ok(done),
            _ if self.withdrawn.load(Ordering::Acquire) => {
                Err(Refusal::new(409, "whoever asked for the job took it back"))
            }
            done => done,
        };
        let done = done.and_then(|done| {
            if done.keep {
                let answer = Answer { request: order.request.clone(), body: done.body.clone() };
                self.workshop
                    .keep
                    .put_answer(&order.key, &answer)
                    .map_err(|error| Refusal::new(503, format!("the answer cannot be kept: {error}")))?;
            }
            Ok(done)
        });
        let took = seconds(begun.elapsed());
        let line = match &done {
            Ok(done) => format!("job {name} ends after {took}: {}", done.word.to_lowercase()),
            Err(refusal) => {
                format!("job {name} is refused after {took}: {}", crate::output::plain(&refusal.why))
            }
        };
        self.note(&line);
        if let Err(error) = self.workshop.keep.purge_when_due() {
            self.note(&format!("what is old cannot be forgotten: {error}"));
        }
        done.map(|done| done.body)
    }
}

/// A job leaves the list whatever way it ends.
struct Leaves<'a> {
    jobs: &'a Jobs,
    key: &'a str,
}

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.jobs.running().remove(self.key);
    }
}

fn in_work(running: &HashMap<String, Running>) -> usize {
    running.values().filter(|job| job.runs).count()
}

fn other() -> Refusal {
    Refusal::new(409, "this idempotency key was used for another request")
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
