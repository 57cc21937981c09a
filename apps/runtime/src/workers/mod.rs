//! The worker registry (runtime-core §14): who works, for whom, how alive it is, and what the service itself
//! knows of a provider. A worker's events are numbered under its own key; its projection, its log and the
//! message about it change in one transaction.

pub mod checkpoint;
pub mod get;
pub mod heartbeat;
pub mod list;
pub mod metadata;
pub mod qualification;
pub mod register;
pub mod release;
pub mod reputation;
pub mod reserve;
pub mod ruling;
pub mod snapshot;
pub mod statement;
pub mod status;
#[cfg(test)]
pub(crate) mod tests_support;

use oa_contract::{Caller, Owner, Refusal, Stop};
use oa_store::{
    Key, Store, Tx,
    tables::workers::{self as table, WorkerRow},
};

/// The longest id, scope or adapter that is kept.
const LONGEST_NAME: usize = 255;
/// The longest reference (a path, as a rule) or reason that is kept.
const LONGEST_TEXT: usize = 4_096;

/// What writes to a worker, one after the other, hold.
pub fn key(worker_id: &str) -> Key {
    Key::text("worker", worker_id)
}

/// Reads a worker by its id, whoever owns it.
async fn find(store: &Store, name: &'static str, worker_id: &str) -> Result<Option<WorkerRow>, Stop> {
    let get = async |tx: &mut Tx, worker_id: &String| table::get(tx, worker_id).await;
    store.read(name, worker_id.to_owned(), get).await
}

/// The owner that a request names, if the credential may speak for it (§14.2).
pub(crate) fn owner(
    caller: &Caller,
    user_id: Option<u64>,
    guest_scope: Option<&str>,
) -> Result<Owner, Refusal> {
    let owner = Owner::from_parts(user_id, guest_scope)?;
    if let Owner::Guest(scope) = &owner {
        plain("owner_guest_scope", scope)?;
    }
    caller.must_speak_for(&owner)?;
    Ok(owner)
}

/// The worker, if there is one and it is this owner's. An unknown one is told first (§14.2).
fn owned<'a>(found: Option<&'a WorkerRow>, worker_id: &str, owner: &Owner) -> Result<&'a WorkerRow, Refusal> {
    let row = found.ok_or_else(|| unknown(worker_id))?;
    must_own(row, owner)?;
    Ok(row)
}

fn unknown(worker_id: &str) -> Refusal {
    Refusal::not_found(format!("no worker {worker_id} is registered"))
}

fn must_own(row: &WorkerRow, owner: &Owner) -> Result<(), Refusal> {
    match row.owner == *owner {
        true => Ok(()),
        false => Err(Refusal::forbidden(format!("owner mismatch for worker {}", row.worker_id))),
    }
}

/// Names stand in keys, topics and paths: short, and nothing in them that cannot be seen.
fn plain(field: &str, text: &str) -> Result<(), Refusal> {
    at_most(field, text, LONGEST_NAME)?;
    match text.chars().any(char::is_control) {
        true => Err(Refusal::invalid(format!("{field} must not contain control characters"))),
        false => Ok(()),
    }
}

fn at_most(field: &str, text: &str, longest: usize) -> Result<(), Refusal> {
    match text.chars().count() > longest {
        true => Err(Refusal::invalid(format!("{field} must be at most {longest} characters"))),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{bound_to, operator};

    #[test]
    fn a_request_names_exactly_one_owner_and_only_one_that_its_credential_speaks_for() {
        let said = "owner_user_id or owner_guest_scope must be provided (but not both)";
        for (user_id, scope) in [(None, None), (None, Some("  ")), (Some(1), Some("lab"))] {
            assert_eq!(owner(&bound_to(1), user_id, scope).expect_err("refused").message, said);
        }
        assert_eq!(owner(&bound_to(1), Some(1), Some("  ")), Ok(Owner::User(1)));
        assert_eq!(
            owner(&bound_to(1), Some(2), None).expect_err("refused").code,
            oa_contract::Code::Forbidden
        );
        assert_eq!(owner(&operator(), None, Some(" lab ")), Ok(Owner::Guest("lab".into())));
    }
}
