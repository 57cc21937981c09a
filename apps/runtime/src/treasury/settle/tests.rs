//! What a settlement does to the money, the run, the provider and the incidents, on both engines.

mod credit;
mod evidence;
mod given_back;
mod repeated;
mod rerun;
mod specified;

use oa_contract::{
    Msats, Nothing, Owner, Stop,
    matrix::{
        FraudIncidents, RunsReceipt, RunsStart, TreasuryComputeReconcile, TreasuryComputeSummary,
        TreasurySettleSandboxRun,
    },
    operation::Cacheable,
    wire::{
        fraud::{Incident, ListIncidents},
        jobs::{SandboxRunRequest, SandboxRunResponse, job_hash, short},
        marketplace::Quote,
        paths::RunPath,
        runs::StartRun,
        treasury::{
            ComputeSummary, ComputeSummaryQuery, Reconcile, ReconcileSummary, SettleSandboxRun, Settlement,
        },
        workers::RegisterWorker,
    },
};
use oa_store::{
    EngineKind, Tx,
    tables::{ledger_audit, runs as run_table},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    Config, TrustMode,
    testing::{self, HealthRoute, World, operator},
    workers::tests_support::{self, raw},
};

pub const J30: &str = "0bbc941015e085b508359f82ed29f6fb44a4e21574c37a6ebd9b8f6829bc8125";

fn strict() -> Config {
    Config { reexecution_sample_bps: 0, ..testing::config() }
}

fn lenient() -> Config {
    Config { trust_mode: TrustMode::Lenient, ..strict() }
}

async fn on_each(config: impl Fn() -> Config, story: impl AsyncFn(World)) {
    for engine in [EngineKind::Sqlite, EngineKind::Postgres] {
        story(World::with(engine, config()).await).await;
    }
}

/// A worker that offers work, of this user.
async fn provider(world: &World, worker_id: &str, provider_id: &str, owner: u64) -> HealthRoute {
    let route = HealthRoute::answering(200).await;
    let metadata = json!({
        "roles": ["client", "provider"], "provider_id": provider_id, "provider_base_url": route.base(),
        "capabilities": ["oa.sandbox_run.v1"], "min_price_msats": 1000, "caps": {"max_timeout_secs": 120}
    });
    let body = RegisterWorker {
        worker_id: Some(worker_id.into()),
        metadata: Some(raw(&metadata.to_string())),
        ..tests_support::user(owner)
    };
    tests_support::register(world, &operator(), body).await.expect("registered");
    route
}

async fn begin(world: &World) -> Uuid {
    let begun = world.call::<RunsStart>(&operator(), Nothing {}, Nothing {}, StartRun::default()).await;
    begun.expect("begun").1.run.id
}

fn request() -> SandboxRunRequest {
    let request = json!({"sandbox": {"image_digest": "sha256:test", "resources": {"timeout_secs": 30}}, "commands": [{"cmd": "echo hi"}]});
    serde_json::from_value(request).expect("a request")
}

fn response() -> SandboxRunResponse {
    let response = json!({
        "env_info": {"image_digest": "sha256:test"},
        "runs": [{"cmd": "echo hi", "exit_code": 0, "duration_ms": 10, "stdout_sha256": "o", "stderr_sha256": "e"}],
        "artifacts": [], "status": "success", "provenance": {"model_id": "stub"}
    });
    serde_json::from_value(response).expect("a response")
}

fn msats(amount: u64) -> Msats {
    Msats::new(amount).expect("an amount")
}

/// The example of the specification (§10.4).
fn example(run_id: Uuid) -> SettleSandboxRun {
    SettleSandboxRun {
        owner_user_id: Some(11),
        owner_guest_scope: None,
        run_id,
        provider_id: "provider-a".into(),
        provider_worker_id: "worker:a".into(),
        amount_msats: msats(1000),
        quote: None,
        route_policy: None,
        cep: None,
        request: request(),
        response: response(),
        dispatch_id: None,
        attempt: None,
        reexecute: None,
        organisation: None,
        repo: None,
        issue: None,
    }
}

/// What the provider asks at a moment, under its hash.
fn quote(world: &World, issued_ago: i64) -> Quote {
    let issued = u64::try_from(world.clock_now().unix_seconds() - issued_ago).expect("after 1970");
    let mut quote: Quote = serde_json::from_value(json!({
        "schema": "openagents.marketplace.compute_all_in_quote.v1", "quote_id": "", "quote_sha256": "",
        "provider_id": "provider-a", "provider_worker_id": "worker:a", "capability": "oa.sandbox_run.v1",
        "objective_hash": J30, "issued_at_unix": issued, "valid_until_unix": issued + 60,
        "cancel_until_unix": issued + 60, "cancel_fee_msats": 0, "refund_until_unix": issued + 3600,
        "currency": "msats", "provider_price_msats": 1000, "operator_fee_msats": 5, "policy_adder_msats": 0,
        "total_price_msats": 1005, "fee_components": [{"component": "operator_fee", "amount_msats": 5}]
    }))
    .expect("a quote");
    quote.quote_sha256 = oa_market::quote::hash(&quote);
    quote.quote_id = format!("quote_{}", short(&quote.quote_sha256));
    quote
}

async fn settle(world: &World, body: SettleSandboxRun) -> Result<Settlement, Stop> {
    let ended = world.call::<TreasurySettleSandboxRun>(&operator(), Nothing {}, Nothing {}, body).await;
    ended.map(|(status, settlement)| {
        assert_eq!(status, 200);
        settlement
    })
}

async fn events(world: &World, run_id: Uuid) -> Vec<(String, String, Value)> {
    let read = async |tx: &mut Tx, run_id: &Uuid| {
        let head = run_table::head(tx, *run_id).await?.expect("the run");
        run_table::events_after(tx, &head, 0, 1_000).await
    };
    let events = world.runtime.store.read("test.events", run_id, read).await.expect("read");
    events
        .into_iter()
        .skip(1)
        .map(|event| {
            let payload = serde_json::from_str(event.payload.get()).expect("JSON");
            (event.event_type, event.idempotency_key.unwrap_or_default(), payload)
        })
        .collect()
}

fn names(events: &[(String, String, Value)]) -> Vec<String> {
    let name = |(event_type, _, payload): &(String, String, Value)| {
        payload["receipt_type"].as_str().unwrap_or(event_type).to_owned()
    };
    events.iter().map(name).collect()
}

async fn summary(world: &World, owner: u64) -> ComputeSummary {
    let query = ComputeSummaryQuery { owner_user_id: Some(owner), owner_guest_scope: None };
    let asked = world.call::<TreasuryComputeSummary>(&operator(), Nothing {}, query, Nothing {}).await;
    asked.expect("a summary").1
}

/// Limit, reserved and spent.
async fn account(world: &World, owner: u64) -> (u64, u64, u64) {
    let account = summary(world, owner).await.account;
    (account.limit_msats.get(), account.reserved_msats.get(), account.spent_msats.get())
}

async fn reconcile(world: &World, max_age_seconds: i64) -> ReconcileSummary {
    let body = Reconcile { max_age_seconds: Some(max_age_seconds), ..Reconcile::default() };
    let asked = world.call::<TreasuryComputeReconcile>(&operator(), Nothing {}, Nothing {}, body).await;
    asked.expect("reconciled").1
}

async fn incidents(world: &World) -> Vec<Incident> {
    let query = ListIncidents::default();
    let asked = world.call::<FraudIncidents>(&operator(), Nothing {}, query, Nothing {}).await;
    asked.expect("a list").1.incidents
}

fn incident_types(incidents: &[Incident]) -> Vec<&str> {
    let mut types: Vec<&str> = incidents.iter().map(|one| one.incident_type.as_str()).collect();
    types.sort_unstable();
    types
}

/// Strikes, successes, and whether it is quarantined.
async fn standing(world: &World, worker_id: &str) -> (u64, u64, bool) {
    let reputation = tests_support::stored(world, worker_id).await.0.reputation;
    (reputation.failure_strikes, reputation.success_count, reputation.quarantined_at.is_some())
}

async fn paid(world: &World, run_id: Uuid) -> u64 {
    let asked = world.call::<RunsReceipt>(&operator(), RunPath { run_id }, Nothing {}, Nothing {}).await;
    match asked.expect("a receipt").1 {
        Cacheable::Fresh(receipt) => {
            serde_json::to_value(&receipt).expect("JSON")["metrics"]["payments_msats_total"]
                .as_u64()
                .unwrap_or(0)
        }
        Cacheable::Unchanged => panic!("nothing was said to be known"),
    }
}

/// The ledger adds up, and it, the runs and the settlements say the same.
async fn everything_adds_up(world: &World) {
    let look =
        async |tx: &mut Tx, (): &()| ledger_audit::look(tx, &ledger_audit::Cursor::default(), 100_000).await;
    let looked = world.runtime.store.read("test.audit", (), look).await.expect("looked");
    assert_eq!(looked.findings, []);
    assert_eq!(reconcile(world, 1_000_000_000).await.drift.findings, []);
}

fn owner() -> Owner {
    Owner::User(11)
}

/// The same job with another command: another job.
fn another_job(body: SettleSandboxRun, cmd: &str) -> SettleSandboxRun {
    let mut body = body;
    body.request.commands[0].cmd = cmd.to_owned();
    body.response.runs[0].cmd = cmd.to_owned();
    body
}

#[test]
fn the_job_of_the_tests_is_the_one_of_the_vectors() {
    assert_eq!(job_hash(&request()).expect("a hash"), J30);
}
