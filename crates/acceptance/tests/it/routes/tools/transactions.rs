//! `GET /api/l402/transactions` and `/:event_id`: what was paid for what, to its owner, in pages.

use oa_testkit::{Engine, both_engines, simulated::L402Mood};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Shop, execute};

const LIST: &str = "/api/l402/transactions";

#[tokio::test(flavor = "multi_thread")]
async fn receipts_are_read_back_newest_first_and_in_pages() {
    for engine in both_engines() {
        let shop = Shop::open().await;
        let world = shop.world(engine, &[]).await;
        let user = world.sign_in("dev@example.com").await;
        for n in 0..5 {
            let mut body = shop.fetch(&format!("t{n}"));
            body["request"]["autopilot_id"] = json!(format!("pilot {}", n % 2));
            body["run_id"] = json!("run_9");
            execute(&user, &body).await;
            execute(&user, &body).await;
        }
        let page = |query: &str| {
            let path = format!("{LIST}?{query}");
            let user = user.clone();
            async move { user.get(&path).await.json()["data"].clone() }
        };
        let ids = |page: &Value| -> Vec<String> {
            page["transactions"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| one["toolCallId"].as_str().unwrap().to_owned())
                .collect()
        };
        let all = page("").await;
        assert_eq!(ids(&all), ["t4", "t3", "t2", "t1", "t0"], "a replay is no receipt");
        assert_eq!(
            all["pagination"],
            json!({"currentPage": 1, "perPage": 20, "hasMorePages": false, "next": null})
        );
        let (newest, oldest) = (&all["transactions"][0], &all["transactions"][4]);
        assert_eq!(
            (&newest["status"], &newest["cacheHit"], &newest["paid"]),
            (&json!("cached"), &json!(true), &json!(false))
        );
        assert_eq!(
            (&oldest["status"], &oldest["paid"], &oldest["amountMsats"], &oldest["runStatus"]),
            (&json!("paid"), &json!(true), &json!(1_000), &json!("succeeded"))
        );
        assert_eq!(
            (&oldest["runId"], &oldest["autopilotId"], &oldest["responseStatusCode"]),
            (&json!("run_9"), &json!("pilot 0"), &json!(200))
        );
        assert_eq!(oldest["rawPayload"]["result"]["response"]["body"], json!({"ok": true}));
        let first = page("per_page=2").await;
        assert_eq!(
            (ids(&first), &first["pagination"]["hasMorePages"]),
            (vec!["t4".into(), "t3".into()], &json!(true))
        );
        assert_eq!(ids(&page("per_page=2&page=3").await), ["t0"]);
        assert_eq!(
            ids(&page(&format!("per_page=9&before={}", first["pagination"]["next"])).await),
            ["t2", "t1", "t0"]
        );
        assert_eq!(ids(&page("autopilot=pilot%201").await), ["t3", "t1"]);
        assert_eq!(user.get(&format!("{LIST}?page=900")).await.status, 422);
        assert_eq!(user.get(&format!("{LIST}?page=x")).await.status, 400);
        let one = format!("{LIST}/{}", oldest["eventId"]);
        assert_eq!(user.get(&one).await.json()["data"]["transaction"], *oldest);
        let stranger = world.sign_in("other@example.com").await;
        assert_eq!(stranger.get(LIST).await.json()["data"]["transactions"], json!([]));
        for path in [one.as_str(), "/api/l402/transactions/999999", "/api/l402/transactions/x"] {
            assert_eq!(stranger.get(path).await.status, 404, "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_answer_stands_whole_in_the_one_receipt_and_not_in_the_list() {
    let shop = Shop::open().await;
    let world = shop.world(Engine::Sqlite, &[]).await;
    let user = world.sign_in("dev@example.com").await;
    shop.service.become_(L402Mood::Long(20_000));
    execute(&user, &shop.fetch("t")).await;
    let listed = user.get(LIST).await.json()["data"]["transactions"][0].clone();
    assert_eq!(listed["rawPayload"]["result"]["response"]["body"], json!({"omitted": true}));
    let one = user.get(&format!("{LIST}/{}", listed["eventId"])).await.json();
    let body = &one["data"]["transaction"]["rawPayload"]["result"]["response"]["body"]["raw"];
    assert_eq!(body.as_str().unwrap().len(), 20_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_preimage_nor_macaroon_lies_in_the_store_in_clear() {
    let shop = Shop::open().await;
    let world = shop.world(Engine::Sqlite, &[]).await;
    let user = world.sign_in("dev@example.com").await;
    execute(&user, &shop.fetch("t")).await;
    execute(&user, &shop.careful_fetch("u")).await;
    let digest = Sha256::digest("preimage 1");
    let preimage: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let shown = shop.service.last_header("authorization").unwrap();
    assert!(shown.contains(&preimage), "the credential that was bought is used: {shown}");
    for tail in ["", "-wal"] {
        let path = world.runtime_file().with_file_name(format!("control.db{tail}"));
        let bytes = std::fs::read(path).unwrap();
        for secret in [preimage.as_bytes(), digest.as_slice(), b"bWFjYXJvb24"] {
            assert!(
                !bytes.windows(secret.len()).any(|window| window == secret),
                "a secret lies in control.db{tail}"
            );
        }
    }
}
