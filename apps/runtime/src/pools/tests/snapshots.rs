//! Snapshots: signed, kept for a while, and each with the proof of every provider's shares.

use oa_contract::{
    matrix::PoolsProve,
    pool_proof::{self, Unfit},
    wire::pools::{ProveShares, SharesProof},
};
use oa_store::{
    Tx,
    tables::pool_snapshots::{self as table, SnapshotRow},
};
use serde_json::{Value, json};

use super::*;
use crate::pools::{key, snapshot::Need};

/// A snapshot that says of the node's channels what a test wants.
pub(super) async fn with_channels(place: &Place, count: u64, connected: u64, outbound: u64) {
    place.world.clock.advance_ms(1);
    let made = place.snapshot(PartitionKind::Llp).await.expect("a snapshot");
    place.world.clock.advance_ms(1);
    let mut assets: Value = serde_json::from_str(made.snapshot.assets_json.get()).expect("JSON");
    assets["lightning"]["channelCount"] = json!(count);
    assets["lightning"]["connectedChannelCount"] = json!(connected);
    assets["lightning"]["channelOutboundSats"] = json!(outbound);
    let mut snapshot = made.snapshot;
    snapshot.assets_json = serde_json::value::to_raw_value(&assets).expect("JSON");
    snapshot.as_of = place.now();
    snapshot.snapshot_id = format!("lips_of_a_test_{}", place.now().micros());
    let row = SnapshotRow { snapshot, tree_id: "none".into(), shares_tree: made.shares_tree };
    let insert = async |tx: &mut Tx, row: &SnapshotRow| table::insert(tx, row).await;
    place.world.runtime.store.write("test.snapshot", key(POOL), row, insert).await.expect("kept");
}

async fn prove(place: &Place, lp_id: &str) -> Result<SharesProof, Stop> {
    let path = PoolPath { pool_id: POOL.into() };
    let query = ProveShares { lp_id: lp_id.into(), ..ProveShares::default() };
    place.world.call::<PoolsProve>(&operator(), path, query, Nothing {}).await.map(|told| told.1)
}

#[tokio::test]
async fn a_snapshot_says_what_the_pool_holds_and_owes() {
    strictly(async |place: Place| {
        assert_eq!(told(place.latest(POOL).await).0, 404);
        assert_eq!(told(place.latest("nowhere").await).0, 404);
        place.deposit("lp:a", "d", 2_500).await;
        let made = place.snapshot(PartitionKind::Llp).await.expect("a snapshot");
        let assets: Value = serde_json::from_str(made.snapshot.assets_json.get()).expect("JSON");
        assert_eq!(
            (&assets["walletBalanceSats"], &assets["bookAssetsSats"]),
            (&json!(252_500), &json!(2_500))
        );
        assert_eq!(assets["lightning"]["backend"], "noop");
        assert_eq!(assets["lightning"]["lastError"], Value::Null);
        assert_eq!(made.snapshot.snapshot_id, format!("lips_{}", &made.receipt.canonical_json_sha256[..24]));
        assert_eq!(made.shares_tree.total_shares, 2_500);
        let read = place.latest(POOL).await.expect("the latest");
        assert_eq!(read.receipt, made.receipt);
        let cep = place.snapshot(PartitionKind::Cep).await.expect("a snapshot");
        let assets: Value = serde_json::from_str(cep.snapshot.assets_json.get()).expect("JSON");
        assert_eq!(assets["lightning"], Value::Null);
        place.wallet.breaks(true);
        place.world.clock.advance_ms(1);
        assert_eq!(told(place.snapshot(PartitionKind::Llp).await).0, 500);
        let kept = place.world.runtime.make_snapshot(POOL, PartitionKind::Llp, Need::Nothing).await;
        let assets: Value =
            serde_json::from_str(kept.expect("better than none").snapshot.assets_json.get()).expect("JSON");
        assert_eq!(assets["walletBalanceSats"], Value::Null);
        assert!(assets["walletLastError"].as_str().is_some());
    })
    .await;
}

#[tokio::test]
async fn asking_for_snapshots_often_keeps_no_more_of_them() {
    let settings = PoolSettings { snapshot_retention: 3, ..settings() };
    on_each(TrustMode::Strict, settings, async |place: Place| {
        let first = place.snapshot(PartitionKind::Llp).await.expect("a snapshot").snapshot;
        place.world.clock.advance_ms(999);
        let again = place.snapshot(PartitionKind::Llp).await.expect("a snapshot").snapshot;
        assert_eq!(again.snapshot_id, first.snapshot_id, "nothing has changed");
        place.deposit("lp:a", "d", 5).await;
        let other = place.snapshot(PartitionKind::Llp).await.expect("a snapshot").snapshot;
        assert_ne!(other.snapshot_id, first.snapshot_id);
        for _ in 0..3 {
            place.world.clock.advance_ms(1_000);
            place.snapshot(PartitionKind::Llp).await.expect("a snapshot");
        }
        let get = async |tx: &mut Tx, id: &String| table::get(tx, id).await;
        for id in [first.snapshot_id, other.snapshot_id] {
            assert!(place.world.runtime.store.read("test.get", id, get).await.expect("read").is_none());
        }
    })
    .await;
}

#[tokio::test]
async fn only_the_newest_snapshots_are_kept_and_trees_as_long_as_they_are_needed() {
    let settings = PoolSettings { snapshot_retention: 3, snapshot_pools: vec![POOL.into()], ..settings() };
    on_each(TrustMode::Strict, settings, async |place: Place| {
        place.deposit("lp:a", "d", 2_500).await;
        let mut names = Vec::new();
        for _ in 0..5 {
            place.world.clock.advance_ms(1_000);
            crate::background::pools::snapshot_all(&place.world.runtime).await;
            names.push(place.latest(POOL).await.expect("a snapshot").snapshot.snapshot_id);
        }
        let get = async |tx: &mut Tx, id: &String| table::get(tx, id).await;
        for (at, name) in names.into_iter().enumerate() {
            let kept = place.world.runtime.store.read("test.get", name, get).await.expect("read");
            assert_eq!(kept.is_some(), at >= 2);
        }
        assert!(prove(&place, "lp:a").await.is_ok());
    })
    .await;
}

#[tokio::test]
async fn every_provider_can_prove_that_its_shares_are_counted() {
    for engine in [EngineKind::Sqlite, EngineKind::Postgres] {
        let mut place = Place::open(engine, TrustMode::Strict, settings()).await;
        let runtime = Arc::get_mut(&mut place.world.runtime).expect("nobody else has it");
        runtime.signer = Some(signer());
        for (lp, sats) in [("lp:a", 2_500), ("lp:b", 700), ("user:11", 1)] {
            place.deposit(lp, "d", sats).await;
        }
        let made = place.snapshot(PartitionKind::Llp).await.expect("a snapshot");
        assert_eq!((made.shares_tree.total_shares, made.shares_tree.providers), (3_201, 3));
        let key = signer().public_key_hex();
        for (lp, shares) in [("lp:a", 2_500), ("lp:b", 700), ("user:11", 1)] {
            let proof = prove(&place, lp).await.expect("a proof");
            let text = serde_json::to_vec(&proof).expect("JSON");
            let proved = pool_proof::verify(&text, Some(&key)).expect("proved");
            assert_eq!((proved.shares, proved.total_shares), (shares, 3_201));
            assert_eq!(pool_proof::verify(&text, Some(&"00".repeat(32))), Err(Unfit::OtherSigner));
            for (member, value) in [("shares", json!(shares + 1)), ("lp_id", json!("lp:c"))] {
                let mut forged: Value = serde_json::from_slice(&text).expect("JSON");
                forged[member] = value;
                let forged = serde_json::to_vec(&forged).expect("JSON");
                assert!(matches!(pool_proof::verify(&forged, None), Err(Unfit::Path(_))));
            }
            let mut forged = proof.clone();
            forged.shares_tree.total_shares += 1;
            assert!(pool_proof::check(&forged, None).is_err());
            let mut forged = proof;
            forged.snapshot.share_price_sats += 1;
            assert!(matches!(pool_proof::check(&forged, None), Err(Unfit::Snapshot(_))));
        }
        assert_eq!(told(prove(&place, "lp:z").await).0, 404);
        assert!(
            !serde_json::to_string(&prove(&place, "lp:a").await.expect("one"))
                .expect("JSON")
                .contains("lp:b")
        );
    }
}
