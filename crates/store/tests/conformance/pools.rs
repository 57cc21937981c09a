//! What both engines promise of pools: rows come back as they were written, the queue has one order, one payment mints
//! once, and what is old is forgotten.

use oa_contract::{
    instant::Timestamp,
    refusal::Stop,
    sum_tree::Leaf,
    wire::pools::{
        DepositRail, DepositStatus, PartitionKind, PayoutRail, SharesTree, Snapshot, WithdrawalStatus,
    },
};
use oa_store::{
    Store, Tx,
    tables::{
        pool_snapshots::{self as snapshots, SnapshotRow, TreeRow},
        pool_withdrawals::{self as withdrawals, Place as Stand, WithdrawalRow},
        pools::{self, DepositRow},
    },
};
use serde_json::value::RawValue;

use crate::harness::Place;

const NOW: Timestamp = Timestamp::from_unix_seconds(1_772_000_000);

fn deposit(id: &str, evidence: Option<&str>) -> DepositRow {
    DepositRow {
        deposit_id: id.into(),
        pool_id: "p".into(),
        partition: PartitionKind::Cep,
        lp_id: "lp:a".into(),
        rail: DepositRail::OnchainAddress,
        amount_sats: 7,
        share_price_sats: 1,
        shares_minted: 7,
        status: DepositStatus::Pending,
        fingerprint: "f".into(),
        idempotency_key: id.into(),
        wallet_request_id: "r".into(),
        invoice_bolt11: None,
        invoice_hash: None,
        payment_hash: None,
        deposit_address: Some("bc1q".into()),
        received_msats: Some(7_000),
        evidence: evidence.map(str::to_owned),
        look_at: Some(NOW),
        created_at: NOW,
        expires_at: NOW.plus_seconds(60),
        confirmed_at: None,
    }
}

fn withdrawal(id: &str, due_seconds: Option<i64>) -> WithdrawalRow {
    WithdrawalRow {
        withdrawal_id: id.into(),
        pool_id: "p".into(),
        partition: PartitionKind::Llp,
        lp_id: "lp:a".into(),
        shares_burned: 5,
        amount_sats: 5,
        rail: PayoutRail::Lightning,
        status: WithdrawalStatus::Queued,
        fingerprint: "f".into(),
        idempotency_key: id.into(),
        earliest_settlement_at: NOW,
        payout_invoice: Some("lnbc".into()),
        payout_invoice_hash: Some("h".into()),
        payment_hash: Some(format!("hash-{id}")),
        payout_address: None,
        locked: true,
        round: 2,
        request_id: Some("r".into()),
        paying_msats: 5_005,
        not_after: Some(NOW),
        signing_request_id: None,
        due_at: due_seconds.map(|seconds| NOW.plus_seconds(seconds)),
        wallet_receipt_sha256: None,
        last_error: Some("e".into()),
        created_at: NOW,
        paid_at: None,
        owed_msats: 5_005,
        shares_returned: 1,
        tries: 2,
        asks: 3,
    }
}

async fn put_deposit(store: &Store, row: DepositRow) -> Result<(), Stop> {
    let write = async |tx: &mut Tx, row: &DepositRow| pools::put_deposit(tx, row).await;
    store.write("put", (), row, write).await
}

pub async fn deposits_come_back_and_one_payment_mints_once(place: Place) {
    let store = place.open().await;
    let row = deposit("d1", Some("lightning:h"));
    put_deposit(&store, row.clone()).await.expect("kept");
    assert!(put_deposit(&store, deposit("d2", Some("lightning:h"))).await.is_err());
    put_deposit(&store, deposit("d3", None)).await.expect("kept");
    let read = async |tx: &mut Tx, (): &()| {
        Ok((
            pools::deposit(tx, "d1").await?,
            pools::deposit_by_key(tx, "p", PartitionKind::Cep, "lp:a", "d1").await?,
            pools::deposit_by_evidence(tx, "lightning:h").await?,
            pools::deposits_open(tx, NOW, 10).await?.len(),
            pools::deposit(tx, "d2").await?,
        ))
    };
    let read = store.read("read", (), read).await.expect("read");
    assert_eq!(read, (Some(row.clone()), Some(row.clone()), Some(row), 2, None));
}

pub async fn the_queue_is_looked_through_in_its_order(place: Place) {
    let store = place.open().await;
    for row in
        [withdrawal("c", Some(5)), withdrawal("b", Some(1)), withdrawal("a", Some(1)), withdrawal("d", None)]
    {
        let write = async |tx: &mut Tx, row: &WithdrawalRow| withdrawals::put(tx, row).await;
        store.write("put", (), row, write).await.expect("kept");
    }
    let look =
        async |tx: &mut Tx, (now, after): &(Timestamp, Stand)| withdrawals::due(tx, *now, after, 2).await;
    let due = async |seconds: i64, after: Stand| {
        store.read("due", (NOW.plus_seconds(seconds), after), look).await.expect("read")
    };
    let first = due(9, Stand::default()).await;
    assert_eq!(first, [withdrawal("a", Some(1)), withdrawal("b", Some(1))]);
    let rest = due(9, Stand::of(&first[1]).expect("due")).await;
    assert_eq!(rest, [withdrawal("c", Some(5))]);
    assert_eq!(due(0, Stand::default()).await, []);
    assert_eq!(due(1, Stand::default()).await.len(), 2);
}

pub async fn old_snapshots_go_and_trees_with_the_last_that_needs_them(place: Place) {
    let store = place.open().await;
    let raw = || RawValue::from_string("{\"a\":1}".into()).expect("JSON");
    for n in 0..5_i64 {
        let tree_id = if n < 3 { "t1" } else { "t2" };
        let snapshot = Snapshot {
            snapshot_id: format!("s{n}"),
            pool_id: "p".into(),
            partition_kind: PartitionKind::Llp,
            as_of: NOW.plus_seconds(n),
            assets_json: raw(),
            liabilities_json: raw(),
            share_price_sats: 1,
            canonical_json_sha256: "d".into(),
            signature_json: None,
            created_at: NOW,
        };
        let shares_tree = SharesTree {
            schema: "x".into(),
            pool_id: "p".into(),
            partition_kind: PartitionKind::Llp,
            snapshot_id: format!("s{n}"),
            snapshot_sha256: "d".into(),
            root: "r".into(),
            total_shares: 3,
            providers: 1,
            canonical_json_sha256: "d".into(),
            signature: None,
        };
        let row = SnapshotRow { snapshot, tree_id: tree_id.into(), shares_tree };
        let tree = TreeRow {
            tree_id: tree_id.into(),
            pool_id: "p".into(),
            kind: PartitionKind::Llp,
            shares_version: u64::from(n >= 3),
            leaves: vec![Leaf { name: "lp:a".into(), nonce: "n".into(), amount: 3 }],
            created_at: NOW,
        };
        let write = async |tx: &mut Tx, (row, tree): &(SnapshotRow, TreeRow)| {
            if snapshots::tree(tx, &tree.tree_id).await?.is_none() {
                snapshots::insert_tree(tx, tree).await?;
            }
            snapshots::insert(tx, row).await
        };
        store.write("put", (), (row, tree), write).await.expect("kept");
    }
    let prune =
        async |tx: &mut Tx, keep: &u32| snapshots::prune(tx, "p", PartitionKind::Llp, *keep, 10).await;
    let trees = async |tx: &mut Tx, (): &()| {
        let latest = snapshots::latest(tx, "p", PartitionKind::Llp).await?;
        let trees = (snapshots::tree(tx, "t1").await?.is_some(), snapshots::tree(tx, "t2").await?.is_some());
        Ok((latest.map(|row| row.snapshot.snapshot_id), trees))
    };
    assert_eq!(store.write("prune", (), 3_u32, prune).await.expect("pruned"), 2);
    let kept = store.read("trees", (), trees).await.expect("read");
    assert_eq!(kept, (Some("s4".to_owned()), (true, true)));
    assert_eq!(store.write("prune", (), 2_u32, prune).await.expect("pruned"), 1);
    let kept = store.read("trees", (), trees).await.expect("read");
    assert_eq!(kept, (Some("s4".to_owned()), (false, true)));
}
