//! An account that says more than its entries is found, at once and at every start after; from then on nothing is
//! written, everything can be read, and `/readyz` says what to do.

use oa_contract::{Asset, Stop};
use oa_ledger::{AccountId, Kind};
use oa_runtime::background::auditor;
use oa_store::{Statement, Tx, params, tables::ledger};
use oa_testkit::{World, both_engines};
use serde_json::json;

use crate::routes::budgets::{PATH, pay, reserve};

/// What a fault of ours would write: the row's seal is good.
static EARN: Statement = Statement::new(
    "test/earn",
    "UPDATE ledger_accounts SET asset = $2, overdraft = $3, closed = $4, debits_pending = $5, debits_posted = $6, credits_pending = $7, credits_posted = $8, entries = $9, seal = $10 WHERE account_id = $1",
    Some("ledger_accounts"),
);

async fn earn(tx: &mut Tx, more: &i64) -> Result<u64, Stop> {
    let id = AccountId::new(Kind::Provider, Asset::msats(), "p").unwrap();
    let account = ledger::account(tx, &id).await?;
    let credits = account.balances.credits_posted.signed() + more;
    let (name, entries) = (account.id.to_string(), account.entries as i64);
    tx.execute(&EARN, params![&name, "msats", 0, false, 0, 0, 0, credits, entries]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_stop_when_the_books_do_not_add_up() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        reserve(&world, "a", 700).await.unwrap();
        pay(&world, "a", 700).await;
        auditor::at_start(&world.runtime).await;
        assert_eq!(world.http.get("/readyz").await.status, 200, "{engine:?}");

        assert_eq!(world.runtime.store.write("test.earn", (), 5, earn).await.unwrap(), 1);
        auditor::at_start(&world.runtime).await;
        let mut world = world;
        for start in ["this one", "the next one"] {
            let ready = world.http.get("/readyz").await;
            assert_eq!(
                (ready.status, &ready.json()["authority_writer_active"]),
                (503, &json!(false)),
                "{start}"
            );
            let reason = ready.json()["reason"].as_str().unwrap().to_owned();
            assert!(
                reason.starts_with("the ledger does not add up") && reason.contains("restore"),
                "{reason}"
            );
            for (path, body) in
                [(PATH, json!({"owner_user_id": 1, "limit_msats": 1})), ("/internal/v1/runs", json!({}))]
            {
                let answered = world.http.post(path, &body).await;
                assert_eq!(
                    (answered.status, &answered.json()["error"]),
                    (503, &json!("write_path_frozen")),
                    "{path}"
                );
            }
            assert_eq!(world.http.get(&format!("{PATH}?owner_user_id=11")).await.status, 200);
            world = world.restart().await;
        }
    }
}
