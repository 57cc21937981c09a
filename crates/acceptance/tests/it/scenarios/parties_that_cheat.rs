//! Payers and providers that try to gain by what they say of each other, with SIMULATED providers: nobody's word
//! counts where it costs somebody else.

use oa_testkit::{
    World, both_engines,
    simulated::{ProviderMood, SimulatedProvider},
};
use serde_json::{Value, json};

use super::paid_job::{drift, post, settlement, spent, world};
use crate::routes::{
    marketplace::{DISPATCH, JOB, QUOTE, entry, order, provider, reserve, said},
    runs::begin,
    treasury::SETTLE,
};

/// A job of user 11 that was quoted and done by whoever is best.
async fn done(world: &World) -> (String, Value, Value) {
    let run = begin(world).await;
    let quote = post(world, QUOTE, &order(11, json!({}))).await["quote"].clone();
    let more = json!({"run_id": run, "quote_id": quote["quote_id"], "quote_sha256": quote["quote_sha256"]});
    let dispatched = post(world, DISPATCH, &order(11, more)).await;
    (run, quote, dispatched)
}

async fn fails(one: SimulatedProvider) -> SimulatedProvider {
    one.set(ProviderMood::Runs { exit_code: 101 });
    one
}

async fn marks(world: &World, worker_id: &str) -> (u64, u64, bool) {
    let told = entry(world, worker_id).await;
    let number = |name: &str| told[name].as_u64().unwrap();
    let quarantined = told["quarantined"].as_bool().unwrap();
    (number("failure_strikes"), number("price_integrity_violations"), quarantined)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payer_that_names_another_price_than_it_promised_is_told_so_and_nothing_is_held_against_the_provider()
 {
    for engine in both_engines() {
        let world = world(engine, 0).await;
        let _other = reserve(&world, "b", 999, 1500).await;
        let (run, quote, dispatched) = done(&world).await;
        let total = quote["total_price_msats"].as_u64().unwrap();
        for quote in [Some(&quote), None] {
            for amount in [1, 1499, 1501, 1_000_000] {
                let mut body = settlement(&run, &dispatched, quote);
                body["amount_msats"] = json!(amount);
                let refused = world.http.post(SETTLE, &body).await;
                let why = "amount_msats does not match the 1500 msats that the job was dispatched at";
                assert_eq!(said(&refused), (400, why.into()));
            }
        }
        assert_eq!((spent(&world).await, marks(&world, "b").await), ((total, 0), (0, 0, false)));
        let settled = post(&world, SETTLE, &settlement(&run, &dispatched, Some(&quote))).await;
        assert_eq!(settled["settlement_status"], "released");
        assert_eq!((spent(&world).await, drift(&world).await), ((0, total), json!([])));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payers_own_providers_confirm_somebody_elses_work_and_never_refute_it() {
    for engine in both_engines() {
        let world = world(engine, 0).await;
        let _other = reserve(&world, "b", 999, 1500).await;
        let (run, quote, dispatched) = done(&world).await;
        let own = [
            fails(provider(&world, "own-1", 11, 1).await).await,
            fails(provider(&world, "own-2", 11, 1).await).await,
        ];
        let mut body = settlement(&run, &dispatched, Some(&quote));
        body["reexecute"] = json!(true);
        let settled = post(&world, SETTLE, &body).await;
        assert_eq!(
            settled["reexecution"],
            json!({"outcome": "unavailable", "observers": [], "differences": []})
        );
        assert_eq!(
            (&settled["settlement_status"], marks(&world, "b").await),
            (&json!("released"), (0, 0, false))
        );
        // What they do confirm is confirmed.
        own[0].set(ProviderMood::Runs { exit_code: 0 });
        let mut again = order(11, json!({"attempt": 2, "quote": null}));
        again["provider_worker_id"] = json!("b");
        let quote = post(&world, QUOTE, &again).await["quote"].clone();
        let more = json!({
            "run_id": run, "attempt": 2, "quote_id": quote["quote_id"], "quote_sha256": quote["quote_sha256"],
        });
        let dispatched = post(&world, DISPATCH, &order(11, more)).await;
        assert_eq!(dispatched["selection"]["provider"]["worker_id"], "b");
        let mut body = settlement(&run, &dispatched, Some(&quote));
        body["reexecute"] = json!(true);
        body["attempt"] = json!(2);
        let settled = post(&world, SETTLE, &body).await;
        assert_eq!(
            (&settled["reexecution"]["outcome"], &settled["reexecution"]["observers"]),
            (&json!("confirmed"), &json!(["own-1"]))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cheats_other_workers_do_not_confirm_it_and_count_as_one() {
    for engine in both_engines() {
        let world = world(engine, 10_000).await;
        let _cheat = reserve(&world, "cheat", 999, 900).await;
        let _accomplice = reserve(&world, "accomplice", 999, 901).await;
        let _honest = [
            fails(reserve(&world, "c", 997, 1500).await).await,
            fails(reserve(&world, "d", 998, 1600).await).await,
        ];
        let (run, quote, dispatched) = done(&world).await;
        assert_eq!(dispatched["selection"]["provider"]["worker_id"], "cheat");
        let settled = post(&world, SETTLE, &settlement(&run, &dispatched, Some(&quote))).await;
        assert_eq!(
            (&settled["reexecution"]["outcome"], &settled["reexecution"]["observers"]),
            (&json!("refuted"), &json!(["c", "d"]))
        );
        assert_eq!((spent(&world).await, marks(&world, "cheat").await.2), ((0, 0), true));
        // One owner with two workers is one voice.
        let world = self::world(engine, 10_000).await;
        let _honest = reserve(&world, "b", 996, 900).await;
        let _gang = [
            fails(reserve(&world, "g-1", 995, 901).await).await,
            fails(reserve(&world, "g-2", 995, 902).await).await,
        ];
        let (run, quote, dispatched) = done(&world).await;
        let settled = post(&world, SETTLE, &settlement(&run, &dispatched, Some(&quote))).await;
        assert_eq!(settled["reexecution"]["outcome"], "disputed", "{settled}");
        assert_eq!(marks(&world, "b").await, (0, 0, false));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quote_that_a_dispatch_took_in_time_is_its_own_however_often_it_is_tried() {
    for engine in both_engines() {
        let world = world(engine, 0).await;
        let other = reserve(&world, "b", 999, 1500).await;
        other.set(ProviderMood::Refuses(418, "not now"));
        let quote = post(&world, QUOTE, &order(11, json!({}))).await["quote"].clone();
        let body = order(11, json!({"quote_id": quote["quote_id"], "quote_sha256": quote["quote_sha256"]}));
        for _ in 0..2 {
            assert_eq!(world.http.post(DISPATCH, &body).await.status, 400);
        }
        other.set(ProviderMood::Runs { exit_code: 0 });
        // The quote alone would be over by now.
        world.clock.advance_millis(90_000);
        let dispatched = post(&world, DISPATCH, &body).await;
        assert_eq!(dispatched["quote"], quote);
        let mut another = body.clone();
        another["attempt"] = json!(2);
        let refused = world.http.post(DISPATCH, &another).await;
        let why = format!("quote {} was taken by another dispatch", quote["quote_id"].as_str().unwrap());
        assert_eq!(said(&refused), (409, why));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_decision_takes_the_place_of_what_a_settlement_tells() {
    let world = world(oa_testkit::Engine::Sqlite, 0).await;
    let run = begin(&world).await;
    for key in [format!("payment:{JOB}:released"), format!("budget-reserved:{JOB}"), format!(" verify:{JOB}")]
    {
        let offers = json!([{"marketplace_id": "m", "provider_id": "p", "total_price_msats": 1, "reliability_bps": 1}]);
        let choice = json!({
            "owner_user_id": 11, "run_id": run, "capability": "c", "idempotency_key": key, "candidates": offers,
        });
        let refused = world.http.post("/internal/v1/marketplace/router/compute/select", &choice).await;
        assert_eq!(refused.status, 400, "{}", refused.text());
        let question = json!({
            "schema": "s", "idempotency_key": key, "run_id": run, "marketplace_id": "m", "capability": "c",
            "policy": "lowest_total_cost_v1", "decided_at_unix": 1, "candidates": offers,
        });
        let refused = world.http.post("/internal/v1/hydra/routing/score", &question).await;
        assert_eq!(refused.status, 400, "{}", refused.text());
        assert!(refused.text().contains("how settlements are told"), "{}", refused.text());
    }
}
