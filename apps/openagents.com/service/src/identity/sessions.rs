//! Decides how a session begins and ends (control §5.1): its tokens, its moments, and what is remembered of a
//! refresh token that is good no more.

use oa_contract::{Ids, Stop, Timestamp, wire::identity::Secret};
use oa_store::{
    Tx,
    tables::identity::{self as rows, PersonalToken, Session, SessionStatus, SpentToken},
};

use super::{ACCESS, REFRESH, new_secret, orgs::personal_org};
use crate::config::AuthConfig;

/// Why a session was revoked.
pub use oa_contract::wire::accounts::RevocationReason as Reason;

/// The two secrets of a session, as they leave the house once, and what is kept of them.
#[derive(Clone, Debug)]
pub struct Pair {
    pub access: Secret,
    pub refresh: Secret,
    pub kept: Kept,
}

/// What a session holds of a pair of tokens.
#[derive(Clone, Debug)]
pub struct Kept {
    pub access: oa_store::tables::identity::SecretHash,
    pub refresh: oa_store::tables::identity::SecretHash,
    pub refresh_token_id: String,
    pub access_expires_at: Timestamp,
    pub refresh_expires_at: Timestamp,
}

impl Pair {
    pub fn new(ids: &dyn Ids, config: &AuthConfig, now: Timestamp) -> Self {
        let (access, access_hash) = new_secret(ids, ACCESS);
        let (refresh, refresh_hash) = new_secret(ids, REFRESH);
        let kept = Kept {
            access: access_hash,
            refresh: refresh_hash,
            refresh_token_id: format!("rtid_{}", ids.uuid32()),
            access_expires_at: now.plus_seconds(config.access_ttl_seconds),
            refresh_expires_at: now.plus_seconds(config.refresh_ttl_seconds),
        };
        Pair { access, refresh, kept }
    }
}

/// Where a session lives and what its tokens are called.
#[derive(Clone, Debug)]
pub struct Place {
    pub session_id: String,
    pub device_id: String,
    pub token_name: String,
}

/// A session that begins now.
pub fn begun(user_id: &str, email: &str, place: &Place, kept: &Kept, now: Timestamp) -> Session {
    Session {
        session_id: place.session_id.clone(),
        user_id: user_id.to_owned(),
        email: email.to_owned(),
        device_id: place.device_id.clone(),
        token_name: place.token_name.clone(),
        active_org_id: personal_org(user_id),
        access: kept.access,
        refresh: kept.refresh,
        refresh_token_id: kept.refresh_token_id.clone(),
        issued_at: now,
        access_expires_at: kept.access_expires_at,
        refresh_expires_at: kept.refresh_expires_at,
        status: SessionStatus::Active,
        reauth_required: false,
        last_refreshed_at: None,
        revoked_at: None,
        revoked_reason: None,
    }
}

/// A session with new tokens, and the refresh token that it had.
pub fn rotated(session: Session, kept: &Kept, now: Timestamp) -> (Session, SpentToken) {
    let spent = spent(&session, "rotated", now);
    let session = Session {
        access: kept.access,
        refresh: kept.refresh,
        refresh_token_id: kept.refresh_token_id.clone(),
        access_expires_at: kept.access_expires_at,
        refresh_expires_at: kept.refresh_expires_at,
        last_refreshed_at: Some(now),
        ..session
    };
    (session, spent)
}

/// A session that ended, and the refresh token that ended with it.
pub fn revoked(session: Session, reason: Reason, now: Timestamp) -> (Session, SpentToken) {
    let why = if reason == Reason::TokenReplay { "replay_detected" } else { "session_revoked" };
    let spent = spent(&session, why, now);
    let session = Session {
        status: SessionStatus::Revoked,
        reauth_required: matches!(reason, Reason::TokenReplay | Reason::SecurityPolicy),
        revoked_at: Some(now),
        revoked_reason: Some(reason.name().to_owned()),
        ..session
    };
    (session, spent)
}

/// Ends sessions for good, and gives them as they are now.
pub async fn end(
    tx: &mut Tx,
    sessions: Vec<Session>,
    reason: Reason,
    now: Timestamp,
) -> Result<Vec<Session>, Stop> {
    let mut ended = Vec::with_capacity(sessions.len());
    for session in sessions {
        let (session, spent) = revoked(session, reason, now);
        rows::put_session(tx, &session).await?;
        rows::put_spent(tx, &spent).await?;
        ended.push(session);
    }
    Ok(ended)
}

fn spent(session: &Session, reason: &str, now: Timestamp) -> SpentToken {
    SpentToken {
        hash: session.refresh,
        refresh_token_id: session.refresh_token_id.clone(),
        session_id: session.session_id.clone(),
        user_id: session.user_id.clone(),
        device_id: session.device_id.clone(),
        revoked_at: now,
        reason: reason.to_owned(),
    }
}

/// Whether a personal token is good at this moment: it ends exactly at its expiry.
pub fn is_good(token: &PersonalToken, now: Timestamp) -> bool {
    token.revoked_at.is_none() && token.expires_at.is_none_or(|end| now < end)
}
