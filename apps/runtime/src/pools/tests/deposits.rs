//! Deposits: quoted once a key, minted once a payment, and never without one.

use futures_util::future::join_all;
use oa_contract::{
    Owner,
    wire::pools::{DepositStatus, PartitionKind},
};

use super::*;
use crate::testing::bound_to;

#[tokio::test]
async fn a_deposit_mints_once_and_only_when_it_has_arrived() {
    strictly(async |place: Place| {
        let quoted = place.quote(&operator(), deposit_of("lp:a", "d1", 2_500)).await.expect("quoted");
        assert_eq!((quoted.deposit.shares_minted, quoted.deposit.status), (2_500, DepositStatus::Quoted));
        assert!(quoted.receipt.receipt_id.starts_with("lpd_"));
        let id = quoted.deposit.deposit_id.as_str();
        let refused = told(place.confirm(id).await);
        assert_eq!(refused, (409, "the deposit is not settled: the wallet has not received it".into()));
        assert_eq!(place.llp().await.total_shares, 0);
        place.wallet.settle(quoted.deposit.invoice_bolt11.as_deref().expect("an invoice"));
        let told = join_all((0..32).map(|_| place.confirm(id))).await;
        let minted = told.iter().filter(|told| told.as_ref().expect("confirmed").shares_minted).count();
        assert_eq!(minted, 1, "of 32 at one time one mints");
        let again = place.confirm(id).await.expect("confirmed");
        assert_eq!((again.shares_minted, again.deposit.status), (false, DepositStatus::Confirmed));
        let llp = place.llp().await;
        assert_eq!((llp.total_shares, llp.assets_sats_estimate, llp.share_price_sats), (2_500, 2_500, 1));
        place.audit().await;
    })
    .await;
}

#[tokio::test]
async fn a_key_stands_for_one_deposit_for_ever() {
    strictly(async |place: Place| {
        let body = deposit_of("lp:a", "d1", 2_500);
        let first = place.quote(&operator(), body.clone()).await.expect("quoted");
        let caller = operator();
        let told_all = join_all((0..16).map(|_| place.quote(&caller, body.clone()))).await;
        assert!(told_all.into_iter().all(|told| told.expect("quoted") == first));
        // The wallet is not needed for what was quoted.
        place.wallet.breaks(true);
        assert_eq!(place.quote(&operator(), body.clone()).await.expect("replayed"), first);
        let other = QuoteDeposit { amount_sats: 2_501, ..body.clone() };
        let conflict = (409, "idempotency_key reused with different deposit parameters".to_owned());
        assert_eq!(told(place.quote(&operator(), other).await), conflict);
        place.wallet.breaks(false);
        // Of another partition or provider it is another key.
        let cep = QuoteDeposit { partition_kind: Some(PartitionKind::Cep), ..body.clone() };
        let cep = place.quote(&operator(), cep).await.expect("quoted");
        assert_ne!(cep.deposit.deposit_id, first.deposit.deposit_id);
        assert_eq!(cep.receipt.partition_kind, Some(PartitionKind::Cep));
        assert!(place.quote(&operator(), deposit_of("lp:b", "d1", 2_500)).await.is_ok());
    })
    .await;
}

#[tokio::test]
async fn every_refusal_has_its_words_and_changes_nothing() {
    strictly(async |place: Place| {
        let body = || deposit_of("lp:a", "d1", 2_500);
        place.create("paused", PoolStatus::Paused).await.expect("a pool");
        let quote_at = async |pool_id: &str, body: QuoteDeposit| {
            let path = PoolPath { pool_id: pool_id.into() };
            told(place.world.call::<PoolsDepositQuote>(&operator(), path, Nothing {}, body).await)
        };
        assert_eq!(quote_at("nowhere", body()).await.0, 404);
        assert_eq!(quote_at("paused", body()).await, (409, "pool is not active".into()));
        let nobody = QuoteDeposit { lp_id: " ".into(), ..body() };
        assert_eq!(quote_at("paused", nobody.clone()).await, (409, "pool is not active".into()));
        assert_eq!(quote_at(POOL, nobody).await, (400, "lp_id is required".into()));
        let schemaless = QuoteDeposit { schema: "x".into(), ..body() };
        assert_eq!(
            quote_at("nowhere", schemaless).await,
            (400, "schema must be openagents.liquidity.pool.deposit_quote_request.v1".into())
        );
        place.wallet.breaks(true);
        assert_eq!(
            quote_at(POOL, body()).await,
            (500, "wallet executor create-invoice failed: connect_failed: no route".into())
        );
        place.wallet.breaks(false);
        assert_eq!(told(place.confirm("liqdep_nothing").await).0, 404);
        let quoted = place.quote(&operator(), body()).await.expect("nothing was kept before").deposit;
        place.wallet.breaks(true);
        assert_eq!(told(place.confirm(&quoted.deposit_id).await).0, 500);
        let elsewhere = PoolDepositPath { pool_id: "paused".into(), deposit_id: quoted.deposit_id };
        let ended =
            place.world.call::<PoolsConfirmDeposit>(&operator(), elsewhere, Nothing {}, Nothing {}).await;
        assert_eq!(told(ended).0, 404);
        assert_eq!(place.llp().await.total_shares, 0);
        let create = async |operator_id: &str, pool_id: &str| {
            let body = CreatePool {
                schema: "openagents.liquidity.pool.create_request.v1".into(),
                operator_id: operator_id.into(),
                pool_kind: None,
                status: None,
                config: oa_contract::wire::null(),
            };
            let path = PoolPath { pool_id: pool_id.into() };
            place.world.call::<PoolsCreate>(&operator(), path, Nothing {}, body).await
        };
        assert_eq!(
            told(create("another", POOL).await),
            (409, "pool_id reused with different pool metadata".into())
        );
        assert_eq!(told(create(" ", POOL).await), (400, "operator_id is required".into()));
        assert_eq!(told(create("o", "a/b").await).0, 400);
        let kept = create("operator:vignette", "paused").await.expect("kept").1.pool;
        assert_eq!(kept.status, PoolStatus::Paused, "what stands is not changed");
    })
    .await;
}

#[tokio::test]
async fn on_chain_each_deposit_has_an_address_and_what_arrived_is_credited() {
    strictly(async |place: Place| {
        let body =
            |key: &str| QuoteDeposit { rail: DepositRail::OnchainAddress, ..deposit_of("lp:a", key, 10_000) };
        let [one, two] = [
            place.quote(&operator(), body("d1")).await.expect("quoted").deposit,
            place.quote(&operator(), body("d2")).await.expect("quoted").deposit,
        ];
        let address = one.deposit_address.clone().expect("an address");
        assert_ne!(one.deposit_address, two.deposit_address);
        place.wallet.receive(&address, 0, 12_000);
        let not_deep = "the deposit is not settled yet: it has not arrived whole, or not deep enough";
        assert_eq!(told(place.confirm(&one.deposit_id).await), (409, not_deep.into()));
        place.wallet.receive(&address, 12_000, 0);
        let confirmed = place.confirm(&one.deposit_id).await.expect("confirmed").deposit;
        assert_eq!((confirmed.shares_minted, confirmed.received_msats), (12_000, Some(12_000_000)));
        assert_eq!(told(place.confirm(&two.deposit_id).await).0, 409);
        place.wallet.shares_addresses();
        let shared = place.quote(&operator(), body("d3")).await.expect("the first there").deposit;
        assert!(shared.deposit_address.is_some());
        assert_eq!(told(place.quote(&operator(), body("d4")).await).0, 500, "it could not be told apart");
        place.audit().await;
    })
    .await;
}

#[tokio::test]
async fn on_chain_a_deposit_has_to_lie_deep_and_what_is_late_or_less_buys_shares_all_the_same() {
    strictly(async |place: Place| {
        let body = QuoteDeposit { rail: DepositRail::OnchainAddress, ..deposit_of("lp:a", "d", 10_000) };
        let quoted = place.quote(&operator(), body.clone()).await.expect("quoted").deposit;
        let address = quoted.deposit_address.clone().expect("an address");
        place.wallet.receive_deep(&address, 10_000, 0, 2);
        assert_eq!(told(place.confirm(&quoted.deposit_id).await).0, 409, "two blocks may be replaced");
        place.wallet.receive_deep(&address, 10_000, 0, 3);
        assert!(place.confirm(&quoted.deposit_id).await.expect("confirmed").shares_minted);
        // Less than was announced is waited for, and taken for what it is in the end.
        let body = QuoteDeposit { idempotency_key: "less".into(), ..body };
        let less = place.quote(&operator(), body.clone()).await.expect("quoted").deposit;
        place.world.clock.advance_ms(8 * 86_400_000);
        assert_eq!(place.world.runtime.watch_deposits().await.expect("looked"), 0);
        let again = place.quote(&operator(), body).await.expect("replayed").deposit;
        assert_eq!(again.status, DepositStatus::Expired);
        place.wallet.receive(less.deposit_address.as_deref().expect("an address"), 9_000, 0);
        place.world.clock.advance_ms(86_400_000);
        assert_eq!(place.world.runtime.watch_deposits().await.expect("looked"), 1);
        assert_eq!(place.llp().await.total_shares, 19_000);
        place.audit().await;
    })
    .await;
}

#[tokio::test]
async fn leniently_an_operators_word_confirms_and_not_that_of_who_gains_by_it() {
    on_each(TrustMode::Lenient, settings(), async |place: Place| {
        let caller = bound_to(11);
        let quoted = place.quote(&caller, deposit_of("user:11", "d", 500)).await.expect("quoted").deposit;
        let path = || PoolDepositPath { pool_id: POOL.into(), deposit_id: quoted.deposit_id.clone() };
        let ended = place.world.call::<PoolsConfirmDeposit>(&caller, path(), Nothing {}, Nothing {}).await;
        assert_eq!(told(ended).0, 403);
        assert!(place.confirm(&quoted.deposit_id).await.expect("believed").shares_minted);
    })
    .await;
}

#[tokio::test]
async fn the_background_mints_what_arrives_and_lets_go_of_what_never_does() {
    strictly(async |place: Place| {
        let mut quoted = Vec::new();
        for key in ["d1", "d2"] {
            quoted
                .push(place.quote(&operator(), deposit_of("lp:a", key, 500)).await.expect("quoted").deposit);
        }
        place.wallet.settle(quoted[0].invoice_bolt11.as_deref().expect("an invoice"));
        assert_eq!(place.world.runtime.watch_deposits().await.expect("looked"), 0, "not so soon");
        place.world.clock.advance_ms(6_000);
        assert_eq!(place.world.runtime.watch_deposits().await.expect("looked"), 1);
        assert_eq!(place.llp().await.total_shares, 500);
        assert!(!place.confirm(&quoted[0].deposit_id).await.expect("confirmed").shares_minted);
        place.world.clock.advance_ms(3 * 3_600_000);
        assert_eq!(place.world.runtime.watch_deposits().await.expect("looked"), 0);
        let again = place.quote(&operator(), deposit_of("lp:a", "d2", 500)).await.expect("replayed");
        assert_eq!(again.deposit.status, DepositStatus::Expired);
        // Money that arrives late arrives.
        place.wallet.settle(quoted[1].invoice_bolt11.as_deref().expect("an invoice"));
        assert!(place.confirm(&quoted[1].deposit_id).await.expect("confirmed").shares_minted);
        assert_eq!(place.llp().await.total_shares, 1_000);
    })
    .await;
}

#[tokio::test]
async fn a_credential_bound_to_an_owner_acts_for_that_owner_only() {
    strictly(async |place: Place| {
        let caller = bound_to(11);
        let mine = place.quote(&caller, deposit_of("user:11/savings", "d", 500)).await.expect("quoted");
        assert_eq!(told(place.quote(&caller, deposit_of("lp:a", "d", 500)).await).0, 403);
        let stranger = Caller::Service { name: "x".into(), owner: Some(Owner::User(12)) };
        let path = PoolDepositPath { pool_id: POOL.into(), deposit_id: mine.deposit.deposit_id.clone() };
        let ended = place.world.call::<PoolsConfirmDeposit>(&stranger, path, Nothing {}, Nothing {}).await;
        assert_eq!(told(ended).0, 404, "somebody else's deposit is as unknown as none");
        let path = PoolPath { pool_id: POOL.into() };
        let body = leaving("user:11/savings", "w", 1, "lnbc10n1x");
        let ended = place.world.call::<PoolsWithdrawRequest>(&stranger, path, Nothing {}, body).await;
        assert_eq!(told(ended).0, 403);
    })
    .await;
}
