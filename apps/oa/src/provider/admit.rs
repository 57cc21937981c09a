//! Decides how an operator lets a provider sell to everybody, and ends that: it enters the reserve pool, or leaves it.

use oa_client::{CallError, Client};
use oa_contract::{
    Nothing, Owner,
    matrix::{MarketplaceCatalogProviders, WorkersHeartbeat},
    operation::Call,
    wire::{
        marketplace::{CatalogEntry, ListProviders},
        paths::WorkerPath,
        workers::HeartbeatWorker,
    },
};
use serde_json::{Value, json, value::to_raw_value};

use crate::{
    failure::Failure,
    output::{Format, plain},
};

/// The server gives at most so many at once.
const PAGE: u64 = 1_000;

pub async fn say(client: &Client, worker_id: &str, admitted: bool, format: Format) -> Result<(), Failure> {
    let failed = |error: CallError| Failure::call(client.base(), error);
    let known = find(client, worker_id).await.map_err(failed)?;
    let known = known.ok_or_else(|| {
        Failure::wrong(format!(
            "no provider is enrolled at {} as {}: its machine says its name when it starts",
            client.base(),
            plain(worker_id)
        ))
    })?;
    let owner = Owner::from_parts(known.owner.user_id, known.owner.guest_scope.as_deref())
        .map_err(|refusal| Failure::wrong(refusal.message))?;
    let body = HeartbeatWorker {
        owner_user_id: known.owner.user_id,
        owner_guest_scope: known.owner.guest_scope,
        metadata_patch: to_raw_value(&json!({"reserve_pool": admitted})).ok(),
    };
    let path = WorkerPath { worker_id: worker_id.to_owned() };
    let call = Call::<WorkersHeartbeat> { path, query: Nothing {}, body };
    let worker = client.call(call).await.map_err(failed)?.worker.worker;
    let told: Value = serde_json::from_str(worker.metadata.get()).unwrap_or_default();
    if told["reserve_pool"] != admitted {
        return Err(Failure::wrong(
            "nothing has changed: only an operator's credential, which is bound to no owner, says who sells to everybody",
        ));
    }
    let buyers = if admitted { "everybody" } else { "its owner only" };
    format.show(
        &format!("{} of {} sells to {buyers}", plain(worker_id), plain(&owner.to_string())),
        &json!({"worker_id": worker_id, "owner": owner.to_string(), "reserve_pool": admitted}),
    )
}

async fn find(client: &Client, worker_id: &str) -> Result<Option<CatalogEntry>, CallError> {
    let mut after = None;
    loop {
        let query = ListProviders { limit: Some(PAGE), after, ..ListProviders::default() };
        let call = Call::<MarketplaceCatalogProviders> { path: Nothing {}, query, body: Nothing {} };
        let page = client.call(call).await?;
        let found = page.providers.into_iter().find(|one| one.worker_id == worker_id);
        if found.is_some() || page.next.is_none() {
            return Ok(found);
        }
        after = page.next;
    }
}
