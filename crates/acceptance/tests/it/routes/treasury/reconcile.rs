//! What was settled is compared with the ledger and the runs; camelCase members, and unknown ones ignored (§10.3).

use oa_contract::{Amount, Asset, Owner, Stop, Timestamp, wire::runs::Actor};
use oa_ledger::{
    AccountId, Capture, Hold, Kind, TransferId,
    budget::{Place, Reservation},
};
use oa_store::{
    Statement, Tx, params,
    tables::{budgets, ledger, runs},
};
use oa_testkit::{World, both_engines};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{SETTLE, enrol, example};
use crate::routes::{marketplace::post_as, runs::begin};

const PATH: &str = "/internal/v1/treasury/compute/reconcile";

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_was_settled_is_compared_and_nothing_differs() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let _provider = enrol(&world).await;
        for _ in 0..3 {
            let id = begin(&world).await;
            assert_eq!(world.http.post(SETTLE, &example(&id)).await.status, 200);
        }
        let body = json!({"maxAgeSeconds": -5, "maxJobs": 0, "max_jobs": 7});
        let told = world.http.post(PATH, &body).await;
        assert_eq!(told.status, 200, "{}", told.text());
        let told = told.json();
        assert_eq!(told["schema"], "openagents.treasury.compute_reconcile_summary.v1");
        assert_eq!(
            (&told["expired_reservations"], &told["freed_msats_total"], &told["updated_jobs"]),
            (&json!(0), &json!(0), &json!([]))
        );
        assert!(told["reconciled_at"].as_str().unwrap().ends_with('Z'));
        assert_eq!((&told["drift"]["compared_jobs"], &told["drift"]["findings"]), (&json!(3), &json!([])));
        assert_eq!(world.http.post(PATH, &json!({})).await.status, 200);
        for wrong in [json!({"maxAgeSeconds": "1"}), json!({"maxJobs": -1}), json!({"maxJobs": 1.5})] {
            assert_eq!(world.http.post(PATH, &wrong).await.status, 422, "{wrong}");
        }
    }
}

/// What a fault of ours would do: money moves for a dispatch that nobody settled, and a run tells of a payment that
/// never was.
async fn go_wrong(tx: &mut Tx, (run, now): &(Uuid, Timestamp)) -> Result<(), Stop> {
    let id = TransferId::new("market:dsp_lost:1")?;
    let reservation = Reservation {
        id: id.clone(),
        owner: Owner::User(11),
        place: Place::default(),
        payees: vec![(AccountId::new(Kind::Provider, Asset::msats(), "worker:a")?, Amount::new(7).unwrap())],
        hold: Hold { expires_at: None },
        reference: String::new(),
    };
    budgets::reserve(tx, &reservation, *now).await?;
    ledger::post(tx, &id, &Capture::Full, *now).await?;
    let known = runs::KeyRow { fingerprint: Vec::new(), seq: 1, position: 1 };
    runs::insert_key(tx, *run, Actor::Service, "payment:lost:released", &known).await
}

/// Another amount under the old seal.
static TAMPER: Statement = Statement::new(
    "test/tamper",
    "UPDATE compute_settlements SET amount = amount + 1 WHERE settlement_id = $1",
    None,
);

fn found(told: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let findings = told["drift"]["findings"].as_array().unwrap();
    let mut found: Vec<_> =
        findings.iter().map(|one| (text(&one["kind"]), text(&one["settlement_id"]))).collect();
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn money_and_payments_without_a_settlement_are_found_and_what_cannot_be_read_stops_nothing() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let _provider = enrol(&world).await;
        let mut settled = Vec::new();
        for _ in 0..3 {
            let id = begin(&world).await;
            let answered = world.http.post(SETTLE, &example(&id)).await;
            assert_eq!(answered.status, 200);
            settled.push(answered.json()["settlement_id"].as_str().unwrap().to_owned());
        }
        let run = begin(&world).await;
        let ask = (run.parse::<Uuid>().unwrap(), world.now());
        world.runtime.store.write("test.wrong", (), ask, go_wrong).await.unwrap();
        settled.sort();
        let tamper = async |tx: &mut Tx, id: &String| tx.execute(&TAMPER, params![id]).await;
        world.runtime.store.write("test.tamper", (), settled[0].clone(), tamper).await.unwrap();

        let told = world.http.post(PATH, &json!({})).await.json();
        assert_eq!((&told["drift"]["compared_jobs"], &told["drift"]["rounds"]), (&json!(3), &json!(1)));
        assert_eq!(told["drift"]["wallet_receipts"], "not compared: no wallet is configured");
        let all = found(&told);
        let has = |kind: &str, id: &str| all.contains(&(kind.to_owned(), id.to_owned()));
        assert!(has("unreadable", &settled[0]), "{all:?}");
        assert!(has("settlement_missing", "market:dsp_lost:1"), "{all:?}");
        assert!(has("payment_unsettled", &format!("run:{run}:payment:lost:released")), "{all:?}");
        assert!(!all.iter().any(|(_, id)| settled[1..].contains(id)), "{all:?}");
        // The next round finds the same, and no more of it.
        let again = world.http.post(PATH, &json!({})).await.json();
        assert_eq!((&again["drift"]["rounds"], found(&again)), (&json!(2), all));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_may_name_the_owner_whose_reservations_are_given_back() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let own = json!({"maxAgeSeconds": 0, "ownerUserId": 11});
        for body in [own.clone(), json!({"ownerGuestScope": "lab"})] {
            let told = world.http.post(PATH, &body).await;
            assert_eq!((told.status, &told.json()["expired_reservations"]), (200, &json!(0)), "{body}");
        }
        let both = json!({"ownerUserId": 11, "ownerGuestScope": "lab"});
        assert_eq!(world.http.post(PATH, &both).await.status, 400);
        assert_eq!(post_as(&world, 11, PATH, &own).await.status, 200);
        assert_eq!(post_as(&world, 12, PATH, &own).await.status, 403);
    }
}
