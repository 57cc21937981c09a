//! Decides how the runtime learns that sessions were revoked (control §5.8). It is written down with the
//! revocation and told until it has been heard: at once where the caller waits for it, otherwise, and after a
//! failure, in the background. Telling twice does no harm.

use std::{sync::Arc, time::Duration};

use oa_client::{CallError, Client, Manner};
use oa_contract::{
    Fault, Meta, Nothing, Refusal, Stop, Timestamp, matrix::SyncRevoke, operation::Call,
    wire::admin::RevokeSessions,
};
use oa_store::{
    Tx,
    outbox::{self, Claim, Message},
    tables::identity::Session,
};

use super::sessions::Reason;
use crate::{Control, audit};

/// The outbox topic of revocations.
const TOPIC: &str = "sync.revocation";
/// How long the runtime has to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// While whoever revoked tells the runtime, the background leaves it alone.
const HOLD_SECONDS: i64 = 10;
/// Looked at without a nudge at least so often: another process may have left something.
const IDLE: Duration = Duration::from_secs(1);
const LEASE_MS: i64 = 60_000;
const BATCH: u32 = 8;
/// A revocation is never given up because of its attempts; see [`is_moot`].
const ATTEMPTS: i64 = i64::MAX;
const LONGEST_WAIT_SECONDS: i64 = 60;

/// Whether and when the runtime is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Telling {
    /// There is nobody to be told.
    Nobody,
    /// By the background.
    Later,
    /// By whoever revoked; by the background if that fails.
    AtOnce,
}

/// What is written down to be told.
#[derive(Clone, Debug)]
pub(crate) struct Notice {
    id: i64,
    what: RevokeSessions,
}

/// Who is told, and where.
pub(crate) struct Herald {
    client: Client,
    path: String,
}

impl Herald {
    pub fn new(client: Client, path: String) -> Self {
        Herald { client, path }
    }

    async fn tell(&self, what: &RevokeSessions) -> Result<(), CallError> {
        let call = Call::<SyncRevoke> { path: Nothing {}, query: Nothing {}, body: what.clone() };
        let prepared = self.client.prepare_at(&call, &self.path)?;
        let manner = Manner { timeout: Some(PATIENCE), ..Manner::default() };
        self.client.send_prepared(&prepared, manner).await?.accepted()?;
        Ok(())
    }
}

/// Writes down, in the transaction of the revocation, what the runtime must learn.
pub(crate) async fn note(
    tx: &mut Tx,
    telling: Telling,
    ended: &[Session],
    reason: Reason,
    now: Timestamp,
) -> Result<Option<Notice>, Stop> {
    if telling == Telling::Nobody || ended.is_empty() {
        return Ok(None);
    }
    let mut device_ids: Vec<_> = ended.iter().map(|session| session.device_id.clone()).collect();
    device_ids.sort_unstable();
    device_ids.dedup();
    let what = RevokeSessions {
        session_ids: ended.iter().map(|session| session.session_id.clone()).collect(),
        device_ids,
        reason: Some(reason.name().to_owned()),
    };
    let text =
        serde_json::to_string(&what).map_err(|error| Fault::new("writing a revocation down", error))?;
    let id = outbox::enqueue(tx, TOPIC, &text, now).await?;
    if telling == Telling::AtOnce {
        let later = now.plus_seconds(HOLD_SECONDS);
        outbox::retry(tx, id, "being told by whoever revoked", now, later, ATTEMPTS).await?;
    }
    Ok(Some(Notice { id, what }))
}

impl Control {
    /// What this service does about telling.
    pub(crate) fn telling(&self, wanted: Telling) -> Telling {
        if self.herald.is_some() { wanted } else { Telling::Nobody }
    }

    /// Tells the runtime what was just revoked. When it cannot be told now, the caller hears of it: the revocation
    /// stands here, and the background goes on telling.
    pub(crate) async fn tell(
        &self,
        notices: Vec<Notice>,
        reason: Reason,
        meta: &Meta,
    ) -> Result<(), Refusal> {
        let now = self.clock.now();
        let Some(herald) = &self.herald else {
            told(
                "auth.sessions.revocation.propagation.skipped",
                reason,
                &RevokeSessions::default(),
                meta,
                now,
            );
            return Ok(());
        };
        for Notice { id, what } in notices {
            if let Err(error) = herald.tell(&what).await {
                tracing::warn!(%error, "the runtime could not be told of a revocation; it is told again");
                let name = "auth.sessions.revocation.propagation.failed";
                audit::rejected(event(name, &attributes(reason, &counts(&what))), meta, now);
                // The rest is left to the background too: whoever waits here has waited long enough.
                return Err(Refusal::unavailable(
                    "The sessions are revoked here, but the runtime could not be told yet. It will be; nothing needs to be repeated.",
                ));
            }
            told("auth.sessions.revocation.propagation.completed", reason, &what, meta, now);
            self.told(id).await;
        }
        Ok(())
    }

    /// It was heard. Should that not be noted, it is told once more.
    async fn told(&self, id: i64) {
        if let Err(stop) = self.store.write("propagation_told", (), (id,), forget).await {
            tracing::warn!(%stop, "it could not be noted that the runtime was told of a revocation");
        }
    }

    /// Sessions ended in passing, by a sign-in or a replayed token: the background tells of them soon.
    pub(crate) fn nudge(&self, notice: Option<Notice>) {
        if notice.is_some() {
            self.revocations.notify_one();
        }
    }
}

fn told(name: &'static str, reason: Reason, what: &RevokeSessions, meta: &Meta, now: Timestamp) {
    audit::success(event(name, &attributes(reason, &counts(what))), meta, now);
}

fn counts(what: &RevokeSessions) -> [String; 2] {
    [what.session_ids.len().to_string(), what.device_ids.len().to_string()]
}

fn attributes(reason: Reason, [sessions, devices]: &[String; 2]) -> [(&'static str, &str); 3] {
    [("reason", reason.name()), ("session_count", sessions), ("device_count", devices)]
}

fn event<'a>(name: &'static str, attributes: &'a [(&'static str, &'a str)]) -> audit::Event<'a> {
    audit::Event { name, attributes, ..audit::Event::default() }
}

async fn forget(tx: &mut Tx, (id,): &(i64,)) -> Result<u64, Stop> {
    outbox::complete(tx, &[*id]).await
}

/// Tells until it is cancelled.
pub(crate) async fn run(control: Arc<Control>) {
    loop {
        match drain(&control).await {
            Ok(0) => {
                let _ = tokio::time::timeout(IDLE, control.revocations.notified()).await;
            }
            Ok(_) => {}
            Err(stop) => {
                tracing::warn!(error = %stop, "revocations could not be looked up; tried again");
                tokio::time::sleep(IDLE).await;
            }
        }
    }
}

/// Tells what is due, and says how many notices the runtime heard.
async fn drain(control: &Control) -> Result<usize, Stop> {
    let Some(herald) = &control.herald else { return Ok(0) };
    let now = control.clock.now();
    let due = control.store.write("propagation_claim", (), now, claim).await?;
    let (mut heard, mut away) = (0, false);
    for message in due {
        let ended = match (&message, away) {
            (message, _) if is_moot(message, control.config.auth.refresh_ttl_seconds, now) => Ok(()),
            (_, true) => Err("the runtime did not answer".to_owned()),
            (message, false) => told_by(herald, message, &mut away).await,
        };
        match ended {
            Ok(()) => {
                control.told(message.id).await;
                heard += 1;
            }
            Err(why) => control.store.write("propagation_delay", (), (message, why, now), delay).await?,
        }
    }
    Ok(heard)
}

async fn claim(tx: &mut Tx, now: &Timestamp) -> Result<Vec<Message>, Stop> {
    let claim =
        Claim { now: *now, lease_ms: LEASE_MS, limit: BATCH, topics: &[TOPIC], max_attempts: ATTEMPTS };
    outbox::claim(tx, claim).await
}

async fn told_by(herald: &Herald, message: &Message, away: &mut bool) -> Result<(), String> {
    let what = serde_json::from_str(&message.payload).map_err(|error| error.to_string())?;
    herald.tell(&what).await.map_err(|error| {
        *away = matches!(error, CallError::NoAnswer(_));
        tracing::warn!(%error, attempts = message.attempts, "the runtime could not be told of a revocation");
        error.to_string()
    })
}

/// Each failure doubles the wait, up to a minute.
async fn delay(tx: &mut Tx, (message, why, now): &(Message, String, Timestamp)) -> Result<(), Stop> {
    let wait = 1_i64 << message.attempts.clamp(0, 6);
    let next = now.plus_seconds(wait.min(LONGEST_WAIT_SECONDS));
    outbox::retry(tx, message.id, why, *now, next, ATTEMPTS).await?;
    Ok(())
}

/// No credential of a session outlives its refresh token, so after that there is nothing left to disbelieve.
fn is_moot(message: &Message, refresh_ttl_seconds: i64, now: Timestamp) -> bool {
    now > message.created_at.plus_seconds(refresh_ttl_seconds.saturating_add(24 * 3_600))
}
