//! Decides what is kept of autopilots, the personal agents of users: found by their id, or by their handle among those
//! of one owner.

use oa_contract::{
    instant::Timestamp,
    refusal::{Fault, Stop},
};

use super::threads::Before;
use crate::{
    job::Key,
    params,
    row::{FromRow, Row},
    sealed_statement, statement,
    statement::Statement,
    transaction::Tx,
};

static INSERT: Statement = sealed_statement!("autopilots/insert", "autopilots");
static GET: Statement = sealed_statement!("autopilots/get", "autopilots");
static BY_HANDLE: Statement = sealed_statement!("autopilots/by_handle", "autopilots");
static NTH: Statement = statement!("autopilots/nth");
static LIST: Statement = sealed_statement!("autopilots/list", "autopilots");

/// An autopilot as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Autopilot {
    pub autopilot_id: String,
    pub user_id: String,
    /// Unique among those of the owner.
    pub handle: String,
    pub display_name: String,
    pub avatar: Option<String>,
    pub tagline: Option<String>,
    /// `active`, `disabled` or `archived`.
    pub status: String,
    /// `private`, `discoverable` or `public`.
    pub visibility: String,
    /// The type of the primary runtime binding, as it was given.
    pub runtime_type: Option<String>,
    /// JSON: `wire::autopilots::AutopilotPolicy`.
    pub policy: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl FromRow for Autopilot {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        let text = |column| row.text(column).map(str::to_owned);
        let opt_text = |column| row.opt_text(column).map(|text| text.map(str::to_owned));
        Ok(Autopilot {
            autopilot_id: text(0)?,
            user_id: text(1)?,
            handle: text(2)?,
            display_name: text(3)?,
            avatar: opt_text(4)?,
            tagline: opt_text(5)?,
            status: text(6)?,
            visibility: text(7)?,
            runtime_type: opt_text(8)?,
            policy: text(9)?,
            created_at: row.timestamp(10)?,
            updated_at: row.timestamp(11)?,
        })
    }
}

/// What whoever makes an autopilot holds: the handles of one owner stand in line.
pub fn key(user_id: &str) -> Key {
    Key::text("autopilots", user_id)
}

/// Writes a new autopilot; `false` when the owner has one with this handle.
pub async fn insert(tx: &mut Tx, autopilot: &Autopilot) -> Result<bool, Stop> {
    let params = params![
        &autopilot.autopilot_id,
        &autopilot.user_id,
        &autopilot.handle,
        &autopilot.display_name,
        &autopilot.avatar,
        &autopilot.tagline,
        &autopilot.status,
        &autopilot.visibility,
        &autopilot.runtime_type,
        &autopilot.policy,
        autopilot.created_at,
        autopilot.updated_at
    ];
    Ok(tx.execute(&INSERT, params).await? == 1)
}

/// Whether a user has `count` autopilots, or more; `count` is at least 1.
pub async fn holds(tx: &mut Tx, user_id: &str, count: u32) -> Result<bool, Stop> {
    let nth = tx.one::<(String,)>(&NTH, params![user_id, count.saturating_sub(1)]).await?;
    Ok(nth.is_some())
}

pub async fn get(tx: &mut Tx, autopilot_id: &str) -> Result<Option<Autopilot>, Stop> {
    tx.one(&GET, params![autopilot_id]).await
}

pub async fn by_handle(tx: &mut Tx, user_id: &str, handle: &str) -> Result<Option<Autopilot>, Stop> {
    tx.one(&BY_HANDLE, params![user_id, handle]).await
}

/// The autopilot of this owner that has this id or, otherwise, this handle.
pub async fn of_owner(tx: &mut Tx, user_id: &str, named: &str) -> Result<Option<Autopilot>, Stop> {
    match get(tx, named).await?.filter(|found| found.user_id == user_id) {
        Some(found) => Ok(Some(found)),
        None => by_handle(tx, user_id, &named.to_lowercase()).await,
    }
}

/// Up to `limit` autopilots of a user, the last changed first.
pub async fn list(tx: &mut Tx, user_id: &str, before: &Before, limit: u32) -> Result<Vec<Autopilot>, Stop> {
    tx.all(&LIST, params![user_id, before.at, &before.id, limit]).await
}
