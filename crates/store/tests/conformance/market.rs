//! What both engines promise of quotes, dispatches, telemetry, signals and the reserve pool.

use oa_contract::{Msats, Owner, instant::Timestamp, refusal::Stop};
use oa_ledger::budget;
use oa_store::{
    Key, Store, Tx,
    tables::{
        market_dispatches::{self as dispatches, CallRow, DispatchRow, DispatchState, JobKey},
        market_quotes::{self as quotes, QuoteRow},
        market_telemetry::{self as telemetry, TelemetryRow},
        provider_signals::{self as signals, SignalRow},
        reserve_pool,
    },
};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::harness::{Place, fault, refusal};

const NOW: Timestamp = Timestamp::from_unix_seconds(1_700_000_000);

async fn on_both_engines(test: impl AsyncFn(&Store)) {
    for place in [Place::sqlite(), Place::postgres()] {
        let store = place.open().await;
        test(&store).await;
        let verified = store.verify(|_| {}).await.expect("a check");
        assert_eq!(verified.findings, Vec::<String>::new());
        place.end(store).await;
    }
}

fn json(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).expect("JSON")
}

fn msats(amount: u64) -> Msats {
    Msats::new(amount).expect("an amount")
}

fn quote(owner: u64, id: &str) -> QuoteRow {
    QuoteRow {
        owner: Owner::User(owner),
        quote_id: id.into(),
        quote_sha256: format!("{id}-hash"),
        job_hash: "job".into(),
        capability: "oa.sandbox_run.v1".into(),
        worker_id: "w".into(),
        provider_id: "p".into(),
        provider_price: msats(1000),
        operator_fee: msats(5),
        policy_adder: Msats::ZERO,
        issued_at_unix: 1_700_000_000,
        valid_until_unix: 1_700_000_060,
        quote: json(r#"{"b":1,"a":2}"#),
        dispatch_id: None,
        created_at: NOW,
    }
}

async fn keep(tx: &mut Tx, quote: &QuoteRow) -> Result<QuoteRow, Stop> {
    quotes::keep(tx, quote).await
}

async fn bind(tx: &mut Tx, (quote_id, dispatch_id): &(&str, &str)) -> Result<QuoteRow, Stop> {
    let quote = quotes::get(tx, &Owner::User(1), quote_id).await?.expect("the quote");
    quotes::bind(tx, quote, dispatch_id).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quote_is_its_owners_and_binds_one_dispatch() {
    on_both_engines(async |store| {
        store.write("keep", (), quote(1, "q"), keep).await.expect("kept");
        let get = async |tx: &mut Tx, owner: &u64| quotes::get(tx, &Owner::User(*owner), "q").await;
        let found = store.read("get", 1, get).await.expect("read").expect("the quote");
        assert_eq!((found.quote.get(), found.provider_price.get()), (r#"{"b":1,"a":2}"#, 1000));
        assert!(store.read("get", 2, get).await.expect("read").is_none());
        // Another owner may have been promised the same.
        store.write("keep", (), quote(2, "q"), keep).await.expect("kept");
        let altered = QuoteRow { quote_sha256: "other".into(), ..quote(1, "q") };
        assert!(
            fault(store.write("keep", (), altered, keep).await.expect_err("refused"))
                .contains("share the id")
        );
        store.write("bind", (), ("q", "d1"), bind).await.expect("bound");
        store.write("bind", (), ("q", "d1"), bind).await.expect("bound again");
        let said = refusal(store.write("bind", (), ("q", "d2"), bind).await.expect_err("refused"));
        assert!(said.starts_with("conflict"), "{said}");
        let known = store.write("keep", (), quote(1, "q"), keep).await.expect("known");
        assert_eq!(known.dispatch_id.as_deref(), Some("d1"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quotes_that_nobody_took_are_forgotten_in_portions() {
    on_both_engines(async |store| {
        for n in 0..5 {
            store.write("keep", (), quote(1, &format!("q{n}")), keep).await.expect("kept");
        }
        store.write("bind", (), ("q0", "d"), bind).await.expect("bound");
        let prune =
            async |tx: &mut Tx, (before, limit): &(Timestamp, u32)| quotes::prune(tx, *before, *limit).await;
        let later = NOW.plus_seconds(1);
        assert_eq!(store.write("prune", (), (NOW, 9), prune).await.expect("pruned"), 0);
        assert_eq!(store.write("prune", (), (later, 3), prune).await.expect("pruned"), 3);
        assert_eq!(store.write("prune", (), (later, 3), prune).await.expect("pruned"), 1);
    })
    .await;
}

fn job(run_id: Option<Uuid>, attempt: u32) -> JobKey {
    JobKey { owner: Owner::Guest("lab".into()), run_id, job_hash: "job".into(), attempt }
}

fn dispatch(id: &str, job: JobKey) -> DispatchRow {
    DispatchRow {
        dispatch_id: id.into(),
        job,
        state: DispatchState::Calling,
        calls: 1,
        worker_id: Some("w".into()),
        provider_id: Some("p".into()),
        quote_id: Some("q".into()),
        hold_id: None,
        request_sha256: "r".into(),
        response_sha256: None,
        signed_by: None,
        signature: None,
        reply: None,
        busy_until: Some(NOW),
        opened_at: NOW,
        changed_at: NOW,
        answered_at: None,
        place: budget::Place {
            organisation: Some("acme".into()),
            repo: Some("site".into()),
            issue: None,
            run: None,
        },
    }
}

async fn put(tx: &mut Tx, row: &DispatchRow) -> Result<(), Stop> {
    dispatches::put(tx, row).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatch_is_found_by_what_it_is_for() {
    on_both_engines(async |store| {
        let run = Some(Uuid::from_u128(7));
        for (id, key) in [("d1", job(None, 1)), ("d2", job(run, 1)), ("d3", job(run, 2))] {
            store.write("put", (), dispatch(id, key), put).await.expect("kept");
        }
        let find = async |tx: &mut Tx, key: &JobKey| dispatches::find(tx, key).await;
        let found = store.read("find", job(run, 2), find).await.expect("read").expect("the dispatch");
        assert_eq!((found.dispatch_id.as_str(), &found.job), ("d3", &job(run, 2)));
        let found = store.read("find", job(None, 1), find).await.expect("read").expect("the dispatch");
        assert_eq!((found.dispatch_id.as_str(), found.job.run_id), ("d1", None));
        let other = JobKey { owner: Owner::User(1), ..job(None, 1) };
        assert!(store.read("find", other, find).await.expect("read").is_none());
        // The same job of the same run has one row, whoever writes.
        assert!(store.write("put", (), dispatch("d4", job(run, 2)), put).await.is_err());

        let answered = DispatchRow {
            state: DispatchState::Answered,
            response_sha256: Some("s".into()),
            reply: Some(json(r#"{"z":1,"a":2}"#)),
            busy_until: None,
            answered_at: Some(NOW),
            ..dispatch("d3", job(run, 2))
        };
        store.write("put", (), answered, put).await.expect("kept");
        let get = async |tx: &mut Tx, id: &&str| dispatches::get(tx, id).await;
        let found = store.read("get", "d3", get).await.expect("read").expect("the dispatch");
        assert_eq!(found.state, DispatchState::Answered);
        let place = budget::Place { run, ..dispatch("d3", job(run, 2)).place };
        assert_eq!(found.place, place);
        assert_eq!(found.reply.expect("the reply").get(), r#"{"z":1,"a":2}"#);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_and_documents_are_kept_once() {
    on_both_engines(async |store| {
        let call = |call_no, outcome: &str| CallRow {
            dispatch_id: "d".into(),
            call_no,
            worker_id: "w".into(),
            provider_id: "p".into(),
            tier: "owned".into(),
            quote_id: None,
            hold_id: None,
            outcome: outcome.into(),
            detail: None,
            response_sha256: None,
            latency_ms: None,
            began_at: NOW,
            ended_at: None,
        };
        let put = async |tx: &mut Tx, call: &CallRow| dispatches::put_call(tx, call).await;
        for one in [call(2, "calling"), call(1, "calling")] {
            store.write("put", (), one, put).await.expect("kept");
        }
        let ended = CallRow { latency_ms: Some(14), ended_at: Some(NOW), ..call(1, "success") };
        store.write("put", (), ended.clone(), put).await.expect("kept");
        let all = async |tx: &mut Tx, (): &()| dispatches::calls(tx, "d").await;
        assert_eq!(store.read("all", (), all).await.expect("read"), [ended, call(2, "calling")]);

        let keep = async |tx: &mut Tx, text: &&str| dispatches::keep_document(tx, "hash", text, NOW).await;
        for text in ["{}", "{\"never\":1}"] {
            store.write("keep", (), text, keep).await.expect("kept");
        }
        let document = async |tx: &mut Tx, (): &()| dispatches::document(tx, "hash").await;
        assert_eq!(store.read("get", (), document).await.expect("read").as_deref(), Some("{}"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn telemetry_keeps_its_latencies_in_order() {
    on_both_engines(async |store| {
        let mut row = TelemetryRow {
            owner: Owner::User(u64::MAX),
            dispatch_total: 3,
            dispatch_not_found: 1,
            dispatch_errors: 0,
            dispatch_fallbacks: 2,
            latencies: Vec::new(),
            updated_at: NOW,
        };
        let put = async |tx: &mut Tx, row: &TelemetryRow| telemetry::put(tx, row).await;
        let get = async |tx: &mut Tx, owner: &Owner| telemetry::get(tx, owner).await;
        for latencies in [vec![], vec![41, 0, 7]] {
            row.latencies = latencies;
            store.write("put", (), row.clone(), put).await.expect("kept");
            assert_eq!(store.read("get", row.owner.clone(), get).await.expect("read"), Some(row.clone()));
        }
        assert_eq!(store.read("get", Owner::User(1), get).await.expect("read"), None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_is_kept_once_under_sixteen_writers() {
    on_both_engines(async |store| {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let store = store.clone();
            let signal = SignalRow {
                worker_id: "w".into(),
                kind: "success".into(),
                subject_id: "d".into(),
                job_hash: None,
                detail: json("{}"),
                seen_at: NOW,
            };
            let keep = async |tx: &mut Tx, signal: &SignalRow| signals::keep(tx, signal).await;
            tasks.spawn(async move {
                store.write("keep", Key::text("worker", "w"), signal, keep).await.expect("kept")
            });
        }
        let first = tasks.join_all().await.into_iter().filter(|first| *first).count();
        assert_eq!(first, 1);
        let get = async |tx: &mut Tx, kind: &&str| signals::get(tx, "w", kind, "d").await;
        assert!(store.read("get", "success", get).await.expect("read").is_some());
        assert!(store.read("get", "violation", get).await.expect("read").is_none());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reserve_pool_is_entered_and_left() {
    on_both_engines(async |store| {
        let set = async |tx: &mut Tx, member: &bool| reserve_pool::set(tx, "w", *member, NOW).await;
        let since = async |tx: &mut Tx, (): &()| reserve_pool::since(tx, "w").await;
        for (member, changed, stands) in
            [(true, true, Some(NOW)), (true, false, Some(NOW)), (false, true, None), (false, false, None)]
        {
            assert_eq!(store.write("set", (), member, set).await.expect("set"), changed);
            assert_eq!(store.read("since", (), since).await.expect("read"), stands);
        }
    })
    .await;
}
