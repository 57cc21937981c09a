//! Decides what an autopilot is, a personal agent of one user: its handle, its policy, and whose it is (control §19).
//! Somebody else's is not there.

mod create;
mod create_thread;
mod list;
mod threads;

use oa_contract::{
    Fault, Refusal, Stop,
    wire::autopilots::{Autopilot, AutopilotPolicy},
};
use oa_store::{
    Tx,
    tables::autopilots::{self as rows, Autopilot as Kept},
};

pub(crate) fn unknown() -> Refusal {
    Refusal::not_found("Autopilot not found.")
}

/// The caller's autopilot that has this id or handle.
pub(crate) async fn owned(tx: &mut Tx, user_id: &str, named: &str) -> Result<Kept, Stop> {
    let named = named.trim();
    if named.is_empty() {
        return Err(Refusal::field("autopilot", "autopilot must be an id or a handle").into());
    }
    Ok(rows::of_owner(tx, user_id, named).await?.ok_or_else(unknown)?)
}

/// The size of a page: 50 without one, brought into 1 to 200.
pub(crate) fn page_size(asked: Option<i64>) -> u32 {
    u32::try_from(asked.unwrap_or(50).clamp(1, 200)).unwrap_or(50)
}

/// The policy as it is kept.
pub(crate) fn policy(kept: &Kept) -> Result<AutopilotPolicy, Fault> {
    serde_json::from_str(&kept.policy)
        .map_err(|error| Fault::new("reading the policy of an autopilot", error))
}

pub(crate) fn view(kept: Kept) -> Result<Autopilot, Fault> {
    Ok(Autopilot {
        policy: policy(&kept)?,
        id: kept.autopilot_id,
        handle: kept.handle,
        display_name: kept.display_name,
        avatar: kept.avatar,
        tagline: kept.tagline,
        status: kept.status,
        visibility: kept.visibility,
        runtime_type: kept.runtime_type,
        created_at: kept.created_at.zulu_millis(),
        updated_at: kept.updated_at.zulu_millis(),
    })
}
