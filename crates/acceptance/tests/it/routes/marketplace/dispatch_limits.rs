//! `POST …/dispatch/sandbox-run` at its limits (marketplace §7.3, §17.4, §17.5): how many are asked and for how long,
//! what whoever asks may bring upon a provider, and how many jobs one provider is sent at one time.

use futures_util::future::join_all;
use oa_contract::wire::workers::WorkerStatus;
use oa_store::{
    Key, Tx,
    tables::{
        market_dispatches::{self, CallRow},
        workers,
    },
};
use oa_testkit::{
    Answered, World,
    simulated::{ProviderMood, SimulatedProvider},
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{DISPATCH, TELEMETRY, enrol, entry, job, order, provider, reserve, reserved, said};

async fn strikes(world: &World, worker_id: &str) -> u64 {
    entry(world, worker_id).await["failure_strikes"].as_u64().unwrap()
}

async fn telemetry(world: &World) -> Value {
    world.http.get(&format!("{TELEMETRY}?owner_user_id=11")).await.json()["dispatch"].clone()
}

/// Another job for each number.
fn numbered(n: usize) -> Value {
    let mut request = job();
    request["commands"][0]["cmd"] = json!(format!("echo {n}"));
    order(11, json!({"request": request}))
}

fn send(world: &World, body: Value) -> JoinHandle<Answered> {
    let http = world.http.clone();
    tokio::spawn(async move { http.post(DISPATCH, &body).await })
}

async fn until_asked(provider: &SimulatedProvider, count: usize) {
    while provider.asked().len() < count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fourth_call_is_the_last() {
    let world = World::new().await;
    let mut all = Vec::new();
    for n in 0..6 {
        let one = provider(&world, &format!("p{n}"), 11, 1000 + n).await;
        one.set(ProviderMood::Refuses(503, "off"));
        all.push(one);
    }
    let (status, message) = said(&world.http.post(DISPATCH, &order(11, json!({}))).await);
    assert_eq!((status, message.as_str()), (400, "provider dispatch returned 503 Service Unavailable: off"));
    let asked: Vec<usize> = all.iter().map(|one| one.asked().len()).collect();
    assert_eq!(asked, [1, 1, 1, 1, 0, 0]);
    for (n, count) in asked.iter().enumerate() {
        assert_eq!(strikes(&world, &format!("p{n}")).await, *count as u64);
    }
    assert_eq!(reserved(&world, 11).await, 0);
    let told = telemetry(&world).await;
    assert_eq!(
        (&told["dispatch_total"], &told["dispatch_errors"], &told["dispatch_fallbacks"]),
        (&json!(1), &json!(1), &json!(0)),
        "what failed altogether has fallen back on nobody"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_is_asked_once_twice_the_time_of_a_call_is_over() {
    for (seconds, second_asked) in [(69, 1), (70, 0)] {
        let world = World::new().await;
        let first = provider(&world, "first", 11, 900).await;
        let second = provider(&world, "second", 11, 1200).await;
        first.set(ProviderMood::Refuses(503, "off"));
        first.hold();
        let answer = send(&world, order(11, json!({})));
        until_asked(&first, 1).await;
        // A call takes 30 s of the job's and 5 more.
        world.clock.advance_millis(seconds * 1_000);
        first.let_go();
        let answered = answer.await.unwrap();
        assert_eq!(second.asked().len(), second_asked, "{seconds} s");
        assert_eq!(answered.status, if second_asked == 1 { 200 } else { 400 }, "{}", answered.text());
        assert_eq!(reserved(&world, 11).await, 1206 * second_asked as u64);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_cut_off_at_its_own_bound_strikes_nobody_and_goes_to_nobody_else() {
    for (status, seconds, struck) in
        [("error", 30, 0), ("timeout", 30, 0), ("error", 29, 1), ("cancelled", 30, 1)]
    {
        let world = World::new().await;
        let first = provider(&world, "first", 11, 900).await;
        let second = reserve(&world, "second", 12, 900).await;
        first.set(ProviderMood::Gives(status));
        first.hold();
        let answer = send(&world, order(11, json!({})));
        until_asked(&first, 1).await;
        world.clock.advance_millis(seconds * 1_000);
        first.let_go();
        let told = answer.await.unwrap();
        assert_eq!(told.status, 200, "{}", told.text());
        let answered_by = if struck == 0 { status } else { "success" };
        assert_eq!(told.json()["response"]["status"], answered_by, "{status} after {seconds} s");
        assert_eq!((strikes(&world, "first").await, second.asked().len()), (struck, struck as usize));
        if struck == 0 {
            assert_eq!(reserved(&world, 11).await, 0, "nothing is held for what was not done");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unserved_answer_strikes_once_however_it_is_settled() {
    let world = World::new().await;
    let one = provider(&world, "p", 11, 1000).await;
    one.set(ProviderMood::Gives("error"));
    let run = crate::routes::runs::begin(&world).await;
    let told = world.http.post(DISPATCH, &order(11, json!({"run_id": run}))).await.json();
    assert_eq!(strikes(&world, "p").await, 1);
    let body = json!({
        "owner_user_id": 11, "run_id": run, "provider_id": "prov-p", "provider_worker_id": "p",
        "amount_msats": 1000, "request": job(), "response": told["response"],
    });
    let settled = world.http.post(crate::routes::treasury::SETTLE, &body).await;
    assert_eq!((settled.status, &settled.json()["settlement_status"]), (200, &json!("withheld")));
    assert_eq!((strikes(&world, "p").await, reserved(&world, 11).await), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_is_sent_no_more_at_one_time_than_it_says_that_it_does() {
    let world = World::new().await;
    let one = SimulatedProvider::start().await;
    one.does_at_once(2);
    enrol(&world, "p", 11, &one.url(), json!({"caps": {"max_jobs": 2}})).await;
    one.hold();
    let all: Vec<_> = (0..10).map(|n| send(&world, numbered(n))).collect();
    until_asked(&one, 2).await;
    assert_eq!(reserved(&world, 11).await, 2 * 1005, "whoever waits holds no money");
    one.let_go();
    for answered in join_all(all).await {
        let answered = answered.unwrap();
        assert_eq!(answered.status, 200, "{}", answered.text());
    }
    assert_eq!((one.peak(), one.asked().len(), strikes(&world, "p").await), (2, 10, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_provider_is_passed_over_without_a_strike() {
    let world = World::new().await;
    // Does not say how many it does; answers 429 to the rest.
    let cheap = provider(&world, "cheap", 11, 900).await;
    let dear = provider(&world, "dear", 11, 1200).await;
    cheap.does_at_once(0);
    let all: Vec<_> = (0..10).map(|n| send(&world, numbered(n))).collect();
    for answered in join_all(all).await {
        let answered = answered.unwrap();
        assert_eq!(answered.status, 200, "{}", answered.text());
        assert_eq!(answered.json()["fallback_from_provider_id"], "prov-cheap");
    }
    assert_eq!((cheap.asked().len(), dear.asked().len()), (10, 10));
    assert_eq!((strikes(&world, "cheap").await, strikes(&world, "dear").await), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_finds_no_place_in_time_goes_elsewhere_or_is_told_to_come_again() {
    let world = World::new().await;
    let mut full = Vec::new();
    for (worker, owner) in [("own", 11), ("alone", 12), ("next", 11)] {
        let one = SimulatedProvider::start().await;
        let caps = json!({"min_price_msats": 1000 + u64::from(worker == "next"), "caps": {"max_jobs": 1}});
        enrol(&world, worker, owner, &one.url(), caps).await;
        full.push(one);
    }
    let [own, alone, next] = &full[..] else { panic!("three") };
    own.hold();
    alone.hold();
    let first = send(&world, numbered(0));
    let lone = send(&world, order(12, json!({})));
    until_asked(own, 1).await;
    until_asked(alone, 1).await;
    let mut other = job();
    other["commands"][0]["cmd"] = json!("echo other");
    let (elsewhere, refused) =
        tokio::join!(send(&world, numbered(1)), send(&world, order(12, json!({"request": other}))));
    let (elsewhere, refused) = (elsewhere.unwrap(), refused.unwrap());
    assert_eq!(elsewhere.json()["selection"]["provider"]["worker_id"], "next", "{}", elsewhere.text());
    assert_eq!((own.asked().len(), next.asked().len()), (1, 1));
    assert_eq!((refused.status, &refused.json()["reason_code"]), (503, &json!("providers_busy")));
    assert_eq!((alone.asked().len(), reserved(&world, 12).await), (1, 1005), "nothing was begun for it");
    own.let_go();
    alone.let_go();
    assert_eq!((first.await.unwrap().status, lone.await.unwrap().status), (200, 200));
    assert_eq!(world.http.post(DISPATCH, &order(12, json!({"request": job()}))).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_record_is_kept_of_each_call_however_many_fail() {
    let world = World::new().await;
    let moods = [ProviderMood::Refuses(422, "no"), ProviderMood::HangsUp, ProviderMood::Gives("cancelled")];
    let mut all = Vec::new();
    for (n, mood) in moods.into_iter().enumerate() {
        let one = provider(&world, &format!("p{n}"), 11, 1000 + n as u64).await;
        one.set(mood);
        all.push(one);
    }
    let last = provider(&world, "last", 11, 2000).await;
    let told = world.http.post(DISPATCH, &order(11, json!({}))).await;
    assert_eq!((told.status, last.asked().len()), (200, 1), "{}", told.text());
    let calls = async |tx: &mut Tx, id: &String| market_dispatches::calls(tx, id).await;
    let id = told.json()["dispatch_id"].as_str().unwrap().to_owned();
    let calls: Vec<CallRow> = world.runtime.store.read("test.calls", id, calls).await.unwrap();
    let outcomes: Vec<&str> = calls.iter().map(|call| call.outcome.as_str()).collect();
    assert_eq!(outcomes, ["bad_status", "unreachable", "cancelled", "success"]);
    assert_eq!(reserved(&world, 11).await, 2010, "only what the last one costs");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_have_changed_since_they_were_chosen_nobody_was_found() {
    let world = World::new().await;
    let one = provider(&world, "p", 11, 1000).await;
    assert_eq!(
        world
            .http
            .post(super::ROUTE, &json!({"owner_user_id": 11, "capability": "oa.sandbox_run.v1"}))
            .await
            .status,
        200
    );
    // As another process does it: nobody here hears of it.
    let stop = async |tx: &mut Tx, worker_id: &String| {
        let mut row = workers::get(tx, worker_id).await?.expect("the worker");
        row.status = WorkerStatus::Stopped;
        workers::put(tx, &row).await
    };
    world.runtime.store.write("test.stop", Key::text("test", "p"), "p".to_owned(), stop).await.unwrap();
    let refused = world.http.post(DISPATCH, &order(11, json!({}))).await;
    assert_eq!((refused.status, one.asked().len()), (404, 0), "{}", refused.text());
    let told = telemetry(&world).await;
    assert_eq!((&told["dispatch_total"], &told["dispatch_not_found"]), (&json!(1), &json!(1)));
}
