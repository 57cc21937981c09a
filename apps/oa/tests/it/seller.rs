//! `oa provider` on the machine of somebody whom the operator does not trust: it enrols through control with a
//! personal token, which opens nothing of the operator's.

use std::{
    net::TcpListener,
    path::Path,
    time::{Duration, Instant},
};

use oa_contract::{Class, Method, Service, matrix};
use oa_testkit::Http;
use serde_json::{Value, json};

use crate::{
    provider::{Provider, job},
    server::{Server, oa},
};

/// What the runtime makes the tokens of providers from. No seller has it.
const SHARED: &str = "the operator's own secret";

/// A runtime, a control before it, and two users: one who sells, and one who would like to be in its place.
struct Market {
    runtime: Server,
    control: Server,
    /// May what its user may.
    seller: String,
    /// The same user's, for the machine that sells.
    machine: String,
    other: String,
}

impl Market {
    async fn open(home: &Path) -> Self {
        let secret = "shared by the two services".to_owned();
        let mut runtime = Server::new(&home.join("runtime-data"));
        runtime.environment = vec![
            ("RUNTIME_ALLOW_LOOPBACK_PROVIDERS", "1".to_owned()),
            ("RUNTIME_REEXECUTION_SAMPLE_BPS", "0".to_owned()),
            ("RUNTIME_SIGNATURE_SECRET", secret.clone()),
            ("RUNTIME_PROVIDER_TOKEN", SHARED.to_owned()),
        ];
        runtime.start().await;
        let mut control = Server::control(&home.join("control-data"));
        control.environment =
            vec![("OA_RUNTIME_BASE_URL", runtime.url()), ("OA_RUNTIME_SIGNATURE_SECRET", secret)];
        let seller = control.add_user("seller@example.com");
        let other = control.add_user("other@example.com");
        control.start().await;
        let mut market = Market { runtime, control, machine: seller.clone(), seller, other };
        let wanted = json!({"name": "build-7", "abilities": ["runtime.write"]});
        let made = market.asked_with(&market.seller).post("/api/tokens", &wanted).await;
        assert_eq!(made.status, 201, "{}", made.text());
        market.machine = made.json()["data"]["token"].as_str().unwrap().to_owned();
        market
    }

    /// The control service, for whoever has this token.
    fn asked_with(&self, token: &str) -> Http {
        Http::new(self.control.url(), Some(token.to_owned()))
    }

    /// A provider of the seller's, on a machine that has a token of the seller's and nothing else.
    async fn sells(&self, home: &Path) -> Provider {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let told = self.operator_says(&["caller-token", &format!("http://{address}")]);
        let (control, caller) = (self.control.url(), told["token"].as_str().unwrap());
        let words = ["--control-url", &control, "--token", &self.machine, "--caller-token", caller];
        Provider::at(&address, "sold", home, &[&words[..], &["--heartbeat-seconds", "1"]].concat()).await
    }

    /// `oa provider …` where the runtime is; gives what it printed.
    fn operator_says(&self, words: &[&str]) -> Value {
        let mut command = oa();
        command.arg("--data").arg(&self.runtime.data).args(["-o", "json", "provider"]).args(words);
        let ended = command.env("RUNTIME_PROVIDER_TOKEN", SHARED).output().unwrap();
        serde_json::from_slice(&ended.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&ended.stderr)))
    }

    /// The seller's worker as control shows it, once it is as wanted.
    async fn seen(&self, provider: &Provider, is_wanted: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let seen = self.asked_with(&self.seller).get("/api/runtime/workers/provider:sold").await;
            if seen.status == 200 && is_wanted(&seen.json()["data"]["worker"]) {
                return seen.json()["data"]["worker"].clone();
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{}\n{}", seen.text(), provider.said());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seller_enrols_with_a_personal_token_sells_to_a_stranger_and_is_owed_the_price() {
    let home = tempfile::tempdir().unwrap();
    let market = Market::open(home.path()).await;
    let provider = market.sells(home.path()).await;
    // Registered, and then heard of at least once more.
    let worker = market.seen(&provider, |worker| worker["latest_seq"].as_u64() > Some(1)).await;
    assert_eq!((&worker["status"], &worker["metadata"]["qualified"]), (&json!("running"), &json!(true)));
    assert_eq!(worker["adapter"], "openagents_compute_provider");
    let owner = worker["owner"]["user_id"].as_u64().unwrap();
    let runtime = market.runtime.http();
    let path = "/internal/v1/workers/provider:sold";
    let known = runtime.get(&format!("{path}?owner_user_id={owner}")).await.json();
    assert_eq!(known["worker"]["worker"]["owner"], json!({"user_id": owner, "guest_scope": null}));

    // Strangers buy from whom the operator has put into the reserve pool, and from nobody else.
    let begun = runtime.post("/internal/v1/runs", &json!({"owner_user_id": 7})).await.json();
    let run = begun["run"]["id"].as_str().unwrap();
    let mut order = json!({"owner_user_id": 7, "request": job(&["echo sold"])});
    let quoting = "/internal/v1/marketplace/compute/quote/sandbox-run";
    let nobody = runtime.post(quoting, &order).await;
    assert!(nobody.status == 404 && nobody.text().contains("provider"), "{}", nobody.text());
    let answered = market.operator_says(&["admit", "provider:sold"]);
    assert_eq!(answered["owner"], format!("user:{owner}"), "{answered}");
    let quoted = runtime.post(quoting, &order).await;
    assert_eq!(quoted.status, 200, "{}", quoted.text());
    let quote = quoted.json()["quote"].clone();
    order["run_id"] = json!(run);
    order["quote_id"] = quote["quote_id"].clone();
    order["quote_sha256"] = quote["quote_sha256"].clone();
    let done = runtime.post("/internal/v1/marketplace/dispatch/sandbox-run", &order).await;
    assert_eq!(done.status, 200, "{}\n{}", done.text(), provider.said());
    let done = done.json();
    assert_eq!(done["selection"]["provider"]["worker_id"], "provider:sold", "{done}");
    assert_eq!(done["response"]["runs"][0]["stdout_preview"], "sold\n");
    let settle = json!({
        "owner_user_id": 7, "run_id": run, "provider_id": "sold", "provider_worker_id": "provider:sold",
        "amount_msats": 1000, "request": order["request"], "response": done["response"], "quote": quote,
        "dispatch_id": done["dispatch_id"],
    });
    let settled = runtime.post("/internal/v1/treasury/compute/settle/sandbox-run", &settle).await;
    assert_eq!(settled.json()["settlement_status"], "released", "{}", settled.text());
    let statement = runtime.get("/admin/v1/providers/provider:sold/statement").await.json();
    assert_eq!(
        (&statement["owner_key"], &statement["payable_msats"]),
        (&json!(format!("user:{owner}")), &json!(1000)),
        "{statement}"
    );

    // The operator may end it; who has bought has bought.
    assert_eq!(market.operator_says(&["admit", "--no-more", "provider:sold"])["reserve_pool"], false);
    let nobody = runtime.post(quoting, &json!({"owner_user_id": 7, "request": job(&["true"])})).await;
    assert_eq!(nobody.status, 404, "{}", nobody.text());

    // It takes its leave through the same door.
    provider.signal("-TERM");
    market.seen(&provider, |worker| worker["status"] == "stopped").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_of_a_seller_opens_nothing_of_the_operators_and_no_other_sellers_provider() {
    let home = tempfile::tempdir().unwrap();
    let market = Market::open(home.path()).await;
    let provider = market.sells(home.path()).await;
    let worker = market.seen(&provider, |worker| worker["metadata"]["enabled"] == true).await;
    let owner = worker["owner"]["user_id"].as_u64().unwrap();

    // Without what the operator gave it, nobody sends it jobs; and it had no secret to be let in elsewhere.
    let stranger = provider.run("stranger", &job(&["true"])).await;
    assert_eq!(stranger.status, 401, "{}", stranger.text());

    // What has no row at control is said to be the operator's.
    let refused = oa()
        .arg("--data")
        .arg(home.path().join("sold-data"))
        .args(["provider", "statement", "provider:sold"])
        .envs([("OA_CONTROL_BASE_URL", market.control.url()), ("OA_CONTROL_TOKEN", market.machine.clone())])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("ask the operator"), "{said}");

    // The port of the runtime: every row that asks who is there.
    let there = market.runtime.http().with_bearer(&market.machine);
    let mut asked = 0;
    for row in matrix::rows_of(Service::Runtime).filter(|row| row.class != Class::Anyone) {
        let path: Vec<_> =
            row.path.split('/').map(|part| if part.starts_with(':') { "x" } else { part }).collect();
        let answered = match row.method {
            Method::Get => there.get(&path.join("/")).await,
            _ => there.post(&path.join("/"), &json!({})).await,
        };
        assert_eq!(answered.status, 401, "{}: {}", row.name, answered.text());
        asked += 1;
    }
    assert!(asked > 53, "all of /internal/v1 and more, not {asked}");

    // What is for administrators at control.
    let seller = market.asked_with(&market.seller);
    for path in ["/api/v1/control/route-split/override", "/api/v1/control/runtime-routing/override"] {
        let answered = seller.post(path, &json!({"target": "clear"})).await;
        assert_eq!(answered.status, 403, "{path}: {}", answered.text());
    }

    // The pool that sells to strangers, and a worker in somebody else's name.
    let beat = |patch: Value| json!({"metadataPatch": patch});
    let path = "/api/runtime/workers/provider:sold";
    let claimed = seller.post(&format!("{path}/heartbeat"), &beat(json!({"reserve_pool": true}))).await;
    assert_eq!(claimed.json()["data"]["worker"]["metadata"]["reserve_pool"], false, "{}", claimed.text());
    let theirs = json!({"workerId": "w", "owner_user_id": 7, "ownerUserId": 7});
    let begun = seller.post("/api/runtime/workers", &theirs).await;
    assert!(
        begun.status >= 400 || begun.json()["data"]["worker"]["owner"]["user_id"] == owner,
        "{}",
        begun.text()
    );

    // And another user has as little of this one's.
    let other = market.asked_with(&market.other);
    let taken = other.post("/api/runtime/workers", &json!({"workerId": "provider:sold"})).await;
    assert_eq!(taken.status, 403, "{}", taken.text());
    for (path, body) in [
        (format!("{path}/heartbeat"), beat(json!({"enabled": false}))),
        (format!("{path}/status"), json!({"status": "stopped"})),
    ] {
        let answered = other.post(&path, &body).await;
        assert_eq!(answered.status, 403, "{path}: {}", answered.text());
    }
    let still = market.seen(&provider, |_| true).await;
    assert_eq!((&still["status"], &still["metadata"]["enabled"]), (&json!("running"), &json!(true)));

    // What lies on the machine reads nothing, makes no other token, and ends when its user says so.
    let machine = market.asked_with(&market.machine);
    for path in ["/api/runtime/workers", "/api/tokens"] {
        assert_eq!(machine.get(path).await.status, 403, "{path}");
    }
    assert_eq!(machine.post("/api/tokens", &json!({"name": "more"})).await.status, 403);
    let revoked = seller.send("DELETE", "/api/tokens", &[], None).await;
    assert_eq!(revoked.status, 200, "{}", revoked.text());
    let begun = Instant::now();
    while !provider.said().contains("have another made, and set OA_CONTROL_TOKEN") {
        assert!(begun.elapsed() < Duration::from_secs(30), "{}", provider.said());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
