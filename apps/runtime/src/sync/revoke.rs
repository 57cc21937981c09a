//! `POST /admin/v1/sync/sessions/revoke`: sessions and devices that control revoked are remembered here, for
//! good. Taken in every write mode: nobody may stay signed in because an instance is read-only.

use std::collections::BTreeSet;

use oa_contract::{
    Answer, Ask, Handle, Refusal, Stop, Timestamp,
    matrix::SyncRevoke,
    wire::admin::{RevokeSessions, RevokedSessions},
};
use oa_store::{
    Tx,
    tables::revocations::{self, Kind},
};

use crate::Runtime;

/// Ids in one request, sessions and devices together.
const MOST_IDS: usize = 1_000;
const LONGEST_ID: usize = 255;
const LONGEST_REASON: usize = 1_000;

/// Each id once and in order, so that two requests never wait for each other in a circle.
#[derive(Debug)]
struct Wanted {
    sessions: BTreeSet<String>,
    devices: BTreeSet<String>,
    reason: Option<String>,
    now: Timestamp,
}

impl Handle<SyncRevoke> for Runtime {
    async fn handle(&self, ask: Ask<SyncRevoke>) -> Result<Answer<RevokedSessions>, Stop> {
        let wanted = read(ask.body, self.now())?;
        Ok(self.store.write("sync.revoke", (), wanted, commit).await?.into())
    }
}

/// Counts what was not revoked before.
async fn commit(tx: &mut Tx, wanted: &Wanted) -> Result<RevokedSessions, Stop> {
    let mut revoked = RevokedSessions { revoked_sessions: 0, revoked_devices: 0 };
    let reason = wanted.reason.as_deref();
    for id in &wanted.sessions {
        revoked.revoked_sessions +=
            u64::from(revocations::revoke(tx, Kind::Session, id, reason, wanted.now).await?);
    }
    for id in &wanted.devices {
        revoked.revoked_devices +=
            u64::from(revocations::revoke(tx, Kind::Device, id, reason, wanted.now).await?);
    }
    Ok(revoked)
}

fn read(body: RevokeSessions, now: Timestamp) -> Result<Wanted, Refusal> {
    let (sessions, devices) = (ids(&body.session_ids), ids(&body.device_ids));
    match sessions.len() + devices.len() {
        0 => return Err(Refusal::invalid("at least one session id or device id is required")),
        1..=MOST_IDS => {}
        _ => return Err(Refusal::invalid(format!("at most {MOST_IDS} ids can be revoked at one time"))),
    }
    if sessions.iter().chain(&devices).any(|id| id.chars().count() > LONGEST_ID) {
        return Err(Refusal::invalid(format!("an id must be at most {LONGEST_ID} characters")));
    }
    if body.reason.as_ref().is_some_and(|reason| reason.chars().count() > LONGEST_REASON) {
        return Err(Refusal::invalid(format!("reason must be at most {LONGEST_REASON} characters")));
    }
    Ok(Wanted { sessions, devices, reason: body.reason, now })
}

/// Trimmed; blank ones name nothing.
fn ids(given: &[String]) -> BTreeSet<String> {
    given.iter().map(|id| id.trim()).filter(|id| !id.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use oa_contract::Nothing;

    use super::*;
    use crate::testing::{World, on_each_engine, operator};

    fn body(session_ids: &[&str], device_ids: &[&str]) -> RevokeSessions {
        let owned = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
        RevokeSessions {
            session_ids: owned(session_ids),
            device_ids: owned(device_ids),
            reason: Some("why".into()),
        }
    }

    async fn revoke(world: &World, body: RevokeSessions) -> (u64, u64) {
        let ended = world.call::<SyncRevoke>(&operator(), Nothing {}, Nothing {}, body).await;
        let revoked = ended.expect("revoked").1;
        (revoked.revoked_sessions, revoked.revoked_devices)
    }

    #[tokio::test]
    async fn only_what_was_not_revoked_before_is_counted() {
        on_each_engine(async |world: World| {
            assert_eq!(revoke(&world, body(&[" s1 ", "s2", "s1"], &["s1"])).await, (2, 1));
            let world = world.restart().await;
            assert_eq!(revoke(&world, body(&["s2", "s3"], &["s1", " "])).await, (1, 0));
            let read = async |tx: &mut Tx, (): &()| {
                let session = revocations::is_revoked(tx, Kind::Session, "s1").await?;
                Ok((session, revocations::is_revoked(tx, Kind::Device, "s2").await?))
            };
            let known = world.runtime.store.read("test.revoked", (), read).await.expect("read");
            assert_eq!(known, (true, false));
        })
        .await;
    }

    #[tokio::test]
    async fn revocations_at_one_time_count_each_id_once() {
        on_each_engine(async |world: World| {
            let both = futures_util::future::join_all((0..8).map(|n| {
                let (first, second) = if n % 2 == 0 { ("a", "b") } else { ("b", "a") };
                revoke(&world, body(&[first, second], &[]))
            }));
            assert_eq!(both.await.into_iter().map(|(sessions, _)| sessions).sum::<u64>(), 2);
        })
        .await;
    }

    #[test]
    fn nothing_and_too_much_are_refused() {
        let said = |body: RevokeSessions| read(body, Timestamp::EPOCH).expect_err("refused").message;
        assert_eq!(said(body(&[], &[])), "at least one session id or device id is required");
        assert_eq!(said(body(&["  "], &[""])), "at least one session id or device id is required");
        let many: Vec<String> = (0..1_001).map(|n| n.to_string()).collect();
        let many = RevokeSessions { session_ids: many, ..RevokeSessions::default() };
        assert_eq!(said(many), "at most 1000 ids can be revoked at one time");
        assert_eq!(said(body(&[&"x".repeat(256)], &[])), "an id must be at most 255 characters");
        let long = RevokeSessions { reason: Some("x".repeat(1_001)), ..body(&["s"], &[]) };
        assert_eq!(said(long), "reason must be at most 1000 characters");
    }
}
