//! Decides how a provider lives inside of another command: on a free loopback port, enrolled as the owner's own
//! device for as long as the command needs it, and told off when that ends.

use std::{sync::Arc, time::Duration};

use oa_client::CallError;
use oa_contract::wire::workers::{NameOwner, WorkerStatus};
use oa_edge::Drain;
use serde_json::json;
use tokio::{net::TcpListener, task::JoinHandle};

pub use super::work::Tap;
use super::{
    GOODBYE, LAST_ANSWERS,
    door::{Door, Whose},
    enrol::Enrolment,
    http,
    http::Provider,
    jobs::Jobs,
    metadata, number, workshop,
};
use crate::{
    backoff::{Backoff, may_pass},
    config::Settings,
    connect::Place,
    data_dir::DataDir,
    failure::Failure,
    output::Format,
    system::SystemClock,
};

/// The runtime takes a provider in this many attempts, or not at all.
const ATTEMPTS: u32 = 6;
/// How often it is said that the provider lives.
const HEARTBEAT: Duration = Duration::from_secs(20);

/// What a provider of this kind is made of.
pub struct Wish<'a> {
    /// Those of `oa provider`; the address is not looked at.
    pub settings: &'a Settings,
    pub place: &'a Place,
    /// Where it keeps outputs and artifacts.
    pub data: &'a DataDir,
    pub id: String,
    pub owner: NameOwner,
    /// Anybody may buy from it, as far as whoever enrols it may say that.
    pub reserve_pool: bool,
    pub tap: Option<Tap>,
    pub format: Format,
}

/// A provider that runs.
pub struct Local {
    pub layers: String,
    jobs: Arc<Jobs>,
    enrolment: Arc<Enrolment>,
    drain: Drain,
    server: JoinHandle<()>,
    beats: JoinHandle<()>,
}

impl Local {
    /// Ready to be asked when this returns.
    pub async fn start(wish: Wish<'_>) -> Result<Self, Failure> {
        // What it answered in an earlier life is no answer now.
        let _ = std::fs::remove_dir_all(wish.data.path().join("provider/answers"));
        let mut workshop = workshop(wish.settings, wish.data).await?;
        workshop.tap = wish.tap;
        let wrong = |error: std::io::Error| Failure::wrong(format!("no port for a provider: {error}"));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(wrong)?;
        let base = format!("http://{}", listener.local_addr().map_err(wrong)?);
        let layers = workshop.isolation.layers.to_string();
        let at_once = number(wish.settings, "OA_PROVIDER_JOBS");
        let mut metadata = metadata(wish.settings, &wish.id, &base, &workshop);
        if wish.reserve_pool {
            metadata["reserve_pool"] = json!(true);
        }
        let at_once = usize::try_from(at_once).unwrap_or(1);
        let jobs = Arc::new(Jobs::new(workshop, at_once, wish.format).quietly());
        let provider = Provider {
            id: wish.id.clone(),
            jobs: jobs.clone(),
            token: None,
            caller: None,
            clock: SystemClock::default(),
        };
        let drain = Drain::new();
        let server = tokio::spawn(oa_edge::serve(
            listener,
            http::router(Arc::new(provider)),
            drain.clone(),
            LAST_ANSWERS,
        ));
        let enrolment = Arc::new(Enrolment {
            door: Door { client: wish.place.client()?, whose: Whose::Named(wish.owner) },
            worker_id: format!("provider:{}", wish.id),
            metadata,
            every: HEARTBEAT,
            format: wish.format,
        });
        if let Err(failure) = enrol(&enrolment).await {
            server.abort();
            return Err(failure);
        }
        let beats = tokio::spawn(beat(enrolment.clone(), jobs.clone()));
        Ok(Local { layers, jobs, enrolment, drain, server, beats })
    }

    pub fn worker_id(&self) -> &str {
        &self.enrolment.worker_id
    }

    /// What runs is no longer wanted.
    pub fn withdraw(&self) {
        self.jobs.withdraw();
    }

    /// Tells the runtime, and ends whatever still runs.
    pub async fn stop(self) {
        self.beats.abort();
        self.jobs.withdraw();
        let said = self.enrolment.say(WorkerStatus::Stopped, "the command that needed it has ended");
        let _ = tokio::time::timeout(GOODBYE, said).await;
        while self.jobs.running_count() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.drain.begin();
        let _ = self.server.await;
    }
}

async fn enrol(enrolment: &Enrolment) -> Result<(), Failure> {
    let mut backoff = Backoff::new();
    for attempt in 1.. {
        match enrolment.register().await {
            Ok(()) => break,
            Err(error) if attempt < ATTEMPTS && may_pass(&error) => backoff.wait(&error).await,
            Err(error) => return Err(not_taken(enrolment.base(), error)),
        }
    }
    Ok(())
}

/// The likeliest reason has a remedy.
fn not_taken(base: &str, error: CallError) -> Failure {
    match &error {
        CallError::Refused { message, .. } if message.contains("not a public address") => {
            Failure::wrong(format!(
                "the runtime at {base} does not call providers on this machine. `oa up` does while it listens on loopback \
addresses; for a runtime that was started in another way, set RUNTIME_ALLOW_LOOPBACK_PROVIDERS=1 there. Or let a \
provider that is enrolled do it: --provider any"
            ))
        }
        _ => Failure::call(base, error),
    }
}

/// One missed beat is made up by the next; the runtime waits for several.
async fn beat(enrolment: Arc<Enrolment>, jobs: Arc<Jobs>) {
    loop {
        tokio::time::sleep(enrolment.every).await;
        let _ = enrolment.heartbeat(&jobs).await;
    }
}
