//! What Nostr relays are told: everything that is to be told, to each of them, under one id for ever, whatever relays
//! do and wherever this breaks off (runtime-core §17). The relays are SIMULATED, their sockets are not.

use std::collections::{HashMap, HashSet};

use oa_contract::bridge::{APP_DATA, Event, HANDLER, LABEL, Told, Version};
use oa_testkit::{
    Engine, World, WorldOptions, both_engines,
    simulated::{EXECUTOR_TOKEN, RelayMood, SimulatedRelay, SimulatedWalletExecutor},
};
use serde_json::{Value, json};

use super::paid_job::{post, settlement};
use crate::routes::{
    liquidity::executor,
    marketplace::{DISPATCH, QUOTE, order, provider},
    runs::begin,
    treasury::SETTLE,
};

/// Longer than a lease.
const LATER_MS: i64 = 301_000;

/// Waits for what is told again only later. When that is counted from the moment at which a refusal was written down,
/// which is after the relay has seen what it refuses; so time goes on while somebody waits.
async fn later(
    world: &World,
    relay: &SimulatedRelay,
    what: &str,
    wanted: impl Fn(&[Event]) -> bool,
) -> Vec<Event> {
    let goes_on = async {
        loop {
            world.clock.advance_millis(LATER_MS);
            tokio::time::sleep(std::time::Duration::from_millis(250)).await;
        }
    };
    tokio::select! {
        seen = relay.until(what, wanted) => seen,
        () = goes_on => Vec::new(),
    }
}

async fn world(
    engine: Engine,
    relays: &[&SimulatedRelay],
    executor: Option<&SimulatedWalletExecutor>,
) -> World {
    let relays: Vec<String> = relays.iter().map(|relay| relay.url()).collect();
    let executor = executor.map(SimulatedWalletExecutor::url);
    let runtime = move |config: &mut oa_runtime::Config| {
        config.trust_mode = oa_runtime::TrustMode::Lenient;
        config.reexecution_sample_bps = 0;
        config.bridge.relays = relays.clone();
        config.liquidity.executor_base_url = executor.clone();
        config.liquidity.executor_token =
            Some(oa_runtime::liquidity::settings::Hidden(EXECUTOR_TOKEN.to_owned()));
    };
    World::with(WorldOptions { engine, runtime: Box::new(runtime), ..WorldOptions::default() }).await
}

/// An envelope that comes to nothing, and the label that says so.
async fn default(world: &World, scope: &str) -> Value {
    let offering = json!({"schema": "openagents.credit.offer_request.v1", "agent_id": "a".repeat(64),
        "pool_id": "b".repeat(64), "scope_type": "nip90", "scope_id": scope, "max_sats": 100, "fee_bps": 100,
        "requires_verifier": true, "exp": world.now().plus_seconds(1_800).zulu()});
    let offered = post(world, "/internal/v1/credit/offer", &offering).await;
    let issuing = json!({"schema": "openagents.credit.envelope_request.v1",
        "offer_id": offered["offer"]["offer_id"], "provider_id": "c".repeat(64)});
    let issued = post(world, "/internal/v1/credit/envelope", &issuing).await;
    let settling = json!({"schema": "openagents.credit.settle_request.v1",
        "envelope_id": issued["envelope"]["envelope_id"], "verification_passed": false,
        "verification_receipt_sha256": "sha256:refuted", "provider_invoice": "",
        "provider_host": "provider.example", "max_fee_msats": 10_000, "policy_context": {}});
    post(world, "/internal/v1/credit/settle", &settling).await["receipt"]["label_event"].clone()
}

fn id(label: &Value) -> String {
    label["id"].as_str().expect("an id").to_owned()
}

fn has(seen: &[Event], label: &Value) -> bool {
    seen.iter().any(|event| event.id == label["id"])
}

fn ads(seen: &[Event]) -> Vec<&Event> {
    seen.iter().filter(|event| event.kind == HANDLER).collect()
}

/// Nothing was ever told of one thing under two names.
fn one_name_for_each_label(seen: &[Event]) {
    let mut names: HashMap<&str, HashSet<&str>> = HashMap::new();
    for event in seen.iter().filter(|event| event.kind == LABEL) {
        names.entry(&event.content).or_default().insert(&event.id);
    }
    assert!(names.values().all(|ids| ids.len() == 1), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn providers_receipts_and_labels_are_told_to_every_relay_once() {
    for engine in both_engines() {
        let (one, other) = (SimulatedRelay::start().await, SimulatedRelay::start().await);
        let executor = executor().await;
        let world = world(engine, &[&one, &other], Some(&executor)).await;
        let seller = provider(&world, "prov", 11, 900).await;
        let label = default(&world, "job-1").await;
        // A payment has a receipt.
        let invoice = executor.lightning.invoice(42_000, world.now());
        let quote = json!({"schema": "openagents.liquidity.quote_pay_request.v1", "idempotency_key": "q",
            "invoice": invoice, "host": "provider.example", "max_amount_msats": 50_000,
            "max_fee_msats": 5_000, "urgency": "normal", "policy_context": {}});
        let quoted = post(&world, "/internal/v1/liquidity/quote_pay", &quote).await;
        let pay = json!({"schema": "openagents.liquidity.pay_request.v1", "quote_id": quoted["quote_id"]});
        let paid = post(&world, "/internal/v1/liquidity/pay", &pay).await;
        assert_eq!(paid["status"], "succeeded", "{paid}");
        // A job is settled.
        let run = begin(&world).await;
        let quoted = post(&world, QUOTE, &order(11, json!({}))).await;
        let quote = &quoted["quote"];
        let more =
            json!({"run_id": run, "quote_id": quote["quote_id"], "quote_sha256": quote["quote_sha256"]});
        let dispatched = post(&world, DISPATCH, &order(11, more)).await;
        let settled = post(&world, SETTLE, &settlement(&run, &dispatched, Some(quote))).await;
        let mut told = Vec::new();
        for relay in [&one, &other] {
            let wanted = |seen: &[Event]| {
                has(seen, &label)
                    && seen.iter().filter(|event| event.kind == APP_DATA).count() >= 2
                    && ads(seen).iter().any(|ad| ad.tag("oa_price_integrity_samples") == Some("1"))
            };
            let seen = relay.until("everything", wanted).await;
            one_name_for_each_label(&seen);
            assert!(seen.iter().all(Event::is_authentic));
            assert_eq!(seen.len(), relay.ids().len(), "nothing was told twice");
            told.push(relay.ids());
            let receipt = seen.iter().find(|event| event.tag("oa_quote_id").is_some()).expect("a payment");
            assert_eq!(receipt.classify(Version::V1), Ok(Told::LiquidityPointer));
            let digest = paid["receipt"]["canonical_json_sha256"].as_str();
            assert_eq!(receipt.tag("oa_receipt_sha256"), digest);
            let pointer = seen.iter().find(|event| event.tag("oa_job_hash").is_some()).expect("a settlement");
            assert_eq!(pointer.classify(Version::Phase0), Ok(Told::ReceiptPointer));
            assert_eq!(pointer.tag("oa_settlement"), Some("released"));
            assert_eq!(pointer.tag("oa_receipt_sha256"), settled["verification_receipt_sha256"].as_str());
            let newest = ads(&seen).into_iter().max_by_key(|ad| ad.created_at).expect("an ad");
            assert_eq!(newest.classify(Version::Phase0), Ok(Told::ProviderAd));
            assert_eq!(newest.tag("d"), Some("openagents:compute_provider:prov-prov"));
            assert_eq!(newest.tag("oa_availability"), Some("available"));
        }
        // Ads between may have been replaced before one of them was told; of everything else both know the same.
        let ad_ids: HashSet<String> =
            ads(&[one.seen(), other.seen()].concat()).into_iter().map(|ad| ad.id.clone()).collect();
        let rest = |ids: &HashSet<String>| ids.difference(&ad_ids).cloned().collect::<HashSet<_>>();
        assert_eq!(rest(&told[0]), rest(&told[1]));
        drop(seller);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_was_away_is_told_everything_when_it_is_back() {
    for engine in both_engines() {
        let (one, other) = (SimulatedRelay::start().await, SimulatedRelay::start().await);
        one.kill();
        let world = world(engine, &[&one, &other], None).await;
        let labels = [default(&world, "job-1").await, default(&world, "job-2").await];
        let all = |seen: &[Event]| labels.iter().all(|label| has(seen, label));
        other.until("both labels", all).await;
        assert!(one.seen().is_empty());
        one.revive().await;
        let seen = one.until("both labels", all).await;
        assert_eq!(seen.len(), 2);
        // It goes away with a connection standing, too.
        one.kill();
        let late = default(&world, "job-3").await;
        one.revive().await;
        later(&world, &one, "the late label", |seen| has(seen, &late)).await;
        one_name_for_each_label(&one.seen());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_refuses_is_asked_again_under_the_same_id_and_holds_nobody_up() {
    let (one, other) = (SimulatedRelay::start().await, SimulatedRelay::start().await);
    one.set(RelayMood::Refusing("rate-limited: slow down".into()));
    let world = world(Engine::Sqlite, &[&one, &other], None).await;
    let label = default(&world, "job-1").await;
    other.until("the label", |seen| has(seen, &label)).await;
    one.until("the label", |seen| has(seen, &label)).await;
    assert!(one.kept().is_empty());
    one.set(RelayMood::Kind);
    later(&world, &one, "the label again", |seen| seen.len() >= 2).await;
    assert_eq!(one.ids(), HashSet::from([id(&label)]));
    assert_eq!(one.kept().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_when_everything_stopped_is_sent_again_and_is_still_the_same() {
    for engine in both_engines() {
        for mood in [RelayMood::Mute, RelayMood::HangsUp] {
            let relay = SimulatedRelay::start().await;
            relay.set(mood);
            let world = world(engine, &[&relay], None).await;
            let first = default(&world, "job-1").await;
            relay.until("the first label", |seen| has(seen, &first)).await;
            let second = default(&world, "job-2").await;
            let world = world.restart().await;
            relay.set(RelayMood::Kind);
            let again = |seen: &[Event]| {
                seen.iter().filter(|event| event.id == first["id"]).count() >= 2 && has(seen, &second)
            };
            let seen = later(&world, &relay, "both labels, the first of them again", again).await;
            one_name_for_each_label(&seen);
            assert_eq!(relay.ids(), HashSet::from([id(&first), id(&second)]));
            // What was acknowledged is over.
            let sent = relay.seen().len();
            let third = default(&world, "job-3").await;
            let seen = later(&world, &relay, "the third label", |seen| has(seen, &third)).await;
            assert!(seen.len() <= sent + 2, "{sent} and then {}", seen.len());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_with_bad_manners_harms_nobody() {
    for mood in [RelayMood::Garbage, RelayMood::Stone, RelayMood::HangsUp, RelayMood::Mute] {
        let (bad, good) = (SimulatedRelay::start().await, SimulatedRelay::start().await);
        bad.set(mood.clone());
        let world = world(Engine::Sqlite, &[&bad, &good], None).await;
        let first = default(&world, "job-1").await;
        good.until("the first label", |seen| has(seen, &first)).await;
        let second = default(&world, "job-2").await;
        good.until("the second label", |seen| has(seen, &second)).await;
        assert_eq!(world.http.get("/readyz").await.status, 200, "{mood:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_a_relay_cannot_bear_does_not_keep_the_others_from_it() {
    let relay = SimulatedRelay::start().await;
    relay.set(RelayMood::Allergic("scope=poison".into()));
    let world = world(Engine::Sqlite, &[&relay], None).await;
    let poison = default(&world, "poison").await;
    let others = [default(&world, "job-1").await, default(&world, "job-2").await];
    relay.until("the poison", |seen| has(seen, &poison)).await;
    let kept = || relay.kept().into_iter().map(|event| event.id).collect::<HashSet<_>>();
    let wanted: HashSet<String> = others.iter().map(id).collect();
    for _ in 0..20 {
        if kept() == wanted {
            return;
        }
        world.clock.advance_millis(LATER_MS);
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    panic!("{:?} and not {wanted:?}", kept());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ad_is_told_when_it_says_something_new_and_a_name_belongs_to_who_had_it_first() {
    for engine in both_engines() {
        let relay = SimulatedRelay::start().await;
        let world = world(engine, &[&relay], None).await;
        let seller = provider(&world, "prov", 11, 900).await;
        relay.until("an ad", |seen| ads(seen).len() == 1).await;
        // Beats change nothing that is told, and somebody else under the same name changes nothing either.
        let thief = provider(&world, "thief", 12, 1).await;
        relay.until("the ad of another", |seen| ads(seen).len() == 2).await;
        let claim =
            json!({"owner_user_id": 12, "metadata_patch": {"provider_id": "prov-prov", "name": "Mine"}});
        post(&world, "/internal/v1/workers/thief/heartbeat", &claim).await;
        let beat = json!({"owner_user_id": 11, "metadata_patch": {"name": "Better", "description": "d"}});
        post(&world, "/internal/v1/workers/prov/heartbeat", &beat).await;
        let seen =
            relay.until("the new name, and the thief's own ad taken back", |seen| ads(seen).len() >= 4).await;
        let of = |name: &str| -> Vec<Event> {
            let d = format!("openagents:compute_provider:prov-{name}");
            seen.iter().filter(|event| event.tag("d") == Some(&d)).cloned().collect()
        };
        let mine = of("prov");
        assert!(mine.iter().all(|ad| !ad.content.contains("Mine")), "{mine:#?}");
        assert!(mine.last().expect("an ad").content.contains("Better"));
        assert!(mine.windows(2).all(|pair| pair[0].created_at < pair[1].created_at));
        assert_eq!(of("thief").last().expect("an ad").tag("oa_availability"), Some("unavailable"));
        // Silence is told, once.
        world.clock.advance_millis(130_000);
        let stale = |seen: &[Event]| {
            ads(seen).iter().filter(|ad| ad.tag("oa_heartbeat_state") == Some("stale")).count() == 1
        };
        let seen = relay.until("that it is silent", stale).await;
        let last = ads(&seen).into_iter().max_by_key(|ad| ad.created_at).expect("an ad");
        assert_eq!(last.tag("oa_availability"), Some("unavailable"));
        drop((seller, thief));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_new_is_told_the_ads_that_stand() {
    let (old, new) = (SimulatedRelay::start().await, SimulatedRelay::start().await);
    let listed = std::sync::Arc::new(std::sync::Mutex::new(vec![old.url()]));
    let configured = listed.clone();
    let runtime = move |config: &mut oa_runtime::Config| {
        config.bridge.relays = configured.lock().expect("a list").clone();
    };
    let world = World::with(WorldOptions { runtime: Box::new(runtime), ..WorldOptions::default() }).await;
    let seller = provider(&world, "prov", 11, 900).await;
    let told = old.until("an ad", |seen| ads(seen).len() == 1).await;
    listed.lock().expect("a list").push(new.url());
    let world = world.restart().await;
    world.clock.advance_millis(20_000);
    let seen = new.until("the ad that stands", |seen| !seen.is_empty()).await;
    assert_eq!(seen[0].id, told[0].id);
    assert_eq!(old.ids().len(), 1);
    drop((seller, world));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_relays_nothing_is_written_down_for_them() {
    let world = world(Engine::Sqlite, &[], None).await;
    let seller = provider(&world, "prov", 11, 900).await;
    let label = default(&world, "job-1").await;
    assert!(label["id"].is_string());
    assert!(!world.kept().iter().any(|row| row.starts_with("bridge_")), "{:?}", world.kept());
    drop(seller);
}
