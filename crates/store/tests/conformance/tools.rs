//! Decides what both engines promise of tool calls and of what they paid.

use oa_contract::{instant::Timestamp, refusal::Stop};
use oa_store::{
    Store, Tx,
    tables::{
        l402::{self, NewReceipt, Payment, PaymentState, Spend},
        tools::{self, CallState, ToolCall},
    },
};

use crate::harness::{Place, fault};

const NOW: Timestamp = Timestamp::from_unix_seconds(1_700_000_000);

fn call(hash: &str, state: CallState, expires_at: Option<Timestamp>) -> ToolCall {
    ToolCall {
        principal: u64::MAX.to_string(),
        receipt_hash: hash.into(),
        state,
        holder: "a:1".into(),
        attempt: 1,
        lease_until: NOW,
        first_seen: NOW,
        begun_at: NOW,
        changed_at: NOW,
        expires_at,
        reply: Some("{}".into()),
    }
}

pub async fn a_tool_call_is_one_row_and_only_expired_answers_are_forgotten(place: Place) {
    let store = place.open().await;
    let run = async |tx: &mut Tx, (): &()| {
        tools::put_call(tx, &call("old", CallState::Done, Some(NOW))).await?;
        tools::put_call(tx, &call("kept", CallState::Done, None)).await?;
        tools::put_call(tx, &call("busy", CallState::Running, Some(NOW))).await?;
        let changed = ToolCall { attempt: 2, reply: None, ..call("kept", CallState::Open, None) };
        tools::put_call(tx, &changed).await?;
        assert_eq!(tools::call(tx, &changed.principal, "kept").await?, Some(changed));
        assert_eq!(tools::purge_calls(tx, NOW, 9).await?, 0);
        assert_eq!(tools::purge_calls(tx, NOW.plus_seconds(1), 9).await?, 1);
        assert_eq!(tools::call(tx, "1", "busy").await?, None);
        Ok(tools::call(tx, &u64::MAX.to_string(), "busy").await?.is_some())
    };
    assert!(store.write("test_calls", (), (), run).await.expect("calls"));
    place.end(store).await;
}

fn payment(hash: &str, subject: &str, state: PaymentState) -> Payment {
    let text = str::to_owned;
    Payment {
        payment_hash: hash.into(),
        subject: subject.into(),
        principal: text("7"),
        state,
        payer: text("p"),
        request_id: text("r"),
        invoice: text("i"),
        macaroon: text("m"),
        origin: text("o"),
        host: text("h"),
        scope: text("s"),
        autopilot: text(""),
        day: text("2026-02-25"),
        quoted_msats: None,
        max_msats: i64::MAX.unsigned_abs(),
        reserved_msats: 1,
        paid_msats: Some(1),
        payment_id: None,
        preimage: None,
        attempt: 1,
        created_at: NOW,
        updated_at: NOW,
    }
}

async fn put(store: &Store, payment: Payment) -> Result<(), Stop> {
    let run = async |tx: &mut Tx, payment: &Payment| l402::put_payment(tx, payment).await;
    store.write("test_payment", (), payment, run).await
}

pub async fn a_subject_has_one_payment_that_has_not_failed(place: Place) {
    let store = place.open().await;
    put(&store, payment("a", "call", PaymentState::Failed)).await.expect("the first");
    put(&store, payment("b", "call", PaymentState::Unknown)).await.expect("another, after a failure");
    let refused = put(&store, payment("c", "call", PaymentState::Pending)).await.expect_err("a second");
    assert!(!fault(refused).is_empty());
    let read = async |tx: &mut Tx, (): &()| {
        assert!(l402::payment_of_subject(tx, "other").await?.is_none());
        let open: Vec<_> = l402::unresolved(tx, NOW.plus_seconds(1), 9).await?;
        assert_eq!(open.iter().map(|one| one.payment_hash.as_str()).collect::<Vec<_>>(), ["b"]);
        assert!(l402::unresolved(tx, NOW, 9).await?.is_empty());
        Ok(l402::payment_of_subject(tx, "call").await?.map(|one| one.payment_hash))
    };
    let found = store.read("test_subject", (), read).await.expect("a read");
    assert_eq!(found.as_deref(), Some("b"));
    place.end(store).await;
}

pub async fn a_days_spending_is_nothing_until_it_is_something(place: Place) {
    let store = place.open().await;
    let run = async |tx: &mut Tx, (): &()| {
        let spend = l402::spend(tx, "7", "pilot", "2026-02-25").await?;
        assert_eq!((spend.reserved_msats, spend.paid_msats), (0, 0));
        let more = Spend { reserved_msats: 5, paid_msats: 6, ..spend };
        l402::put_spend(tx, &more).await?;
        assert_eq!(l402::spend(tx, "7", "", "2026-02-25").await?.paid_msats, 0);
        Ok(l402::spend(tx, "7", "pilot", "2026-02-25").await? == more)
    };
    assert!(store.write("test_spend", (), (), run).await.expect("a spend"));
    place.end(store).await;
}

fn receipt(autopilot: &str, task_id: &str, paid: bool) -> NewReceipt {
    NewReceipt {
        receipt_id: "l402_1".into(),
        principal: "7".into(),
        autopilot: autopilot.into(),
        thread_id: "t".into(),
        run_id: "r".into(),
        run_status: "succeeded".into(),
        status: "paid".into(),
        task_id: task_id.into(),
        paid,
        payload: "{}".into(),
        created_at: NOW,
    }
}

pub async fn receipts_come_newest_first_and_to_their_owner_only(place: Place) {
    let store = place.open().await;
    let run = async |tx: &mut Tx, (): &()| {
        let mut ids = Vec::new();
        for (autopilot, task, paid) in
            [("a", "k", true), ("", "", false), ("a", "k", true), ("b", "k", false)]
        {
            ids.push(l402::add_receipt(tx, &receipt(autopilot, task, paid)).await?);
        }
        let numbers = |rows: Vec<l402::Receipt>| rows.iter().map(|row| row.event_id).collect::<Vec<_>>();
        let newest: Vec<_> = ids.iter().rev().copied().collect();
        assert_eq!(numbers(l402::receipts(tx, "7", None, i64::MAX, (9, 0)).await?), newest);
        assert_eq!(numbers(l402::receipts(tx, "7", None, i64::MAX, (2, 1)).await?), newest[1..3]);
        assert_eq!(numbers(l402::receipts(tx, "7", Some("a"), i64::MAX, (9, 0)).await?), [ids[2], ids[0]]);
        assert_eq!(numbers(l402::receipts(tx, "7", Some("a"), ids[2], (9, 0)).await?), [ids[0]]);
        assert!(l402::receipts(tx, "8", None, i64::MAX, (9, 0)).await?.is_empty());
        assert!(l402::receipt(tx, ids[0], "8").await?.is_none());
        let paid = l402::paid_receipt_of_task(tx, "7", "k").await?;
        assert_eq!(paid.map(|row| row.event_id), Some(ids[2]));
        l402::put_result(tx, ids[0], "long").await?;
        assert_eq!(l402::result(tx, ids[1]).await?, None);
        l402::result(tx, ids[0]).await
    };
    let result = store.write("test_receipts", (), (), run).await.expect("receipts");
    assert_eq!(result.as_deref(), Some("long"));
    place.end(store).await;
}
