//! What an operator says of a payout that no wallet can tell of.

use oa_contract::{
    matrix::PoolsResolveWithdrawal,
    wire::{
        liquidity::PaidStatus,
        paths::PoolWithdrawalPath,
        pool_signing::SigningStatus,
        pools::WithdrawalStatus,
        resolutions::{Resolve, WithdrawalResolved},
    },
};

use super::{wallet::Mood, *};

fn saying(key: &str, outcome: PaidStatus) -> Resolve {
    Resolve {
        idempotency_key: key.into(),
        outcome,
        reason: "seen at the node".into(),
        preimage: None,
        txid: None,
        fee_msats: None,
        wallet_receipt_sha256: None,
        despite_wallet: false,
    }
}

impl Place {
    async fn resolve(&self, withdrawal: &Withdrawal, body: Resolve) -> Result<WithdrawalResolved, Stop> {
        let path =
            PoolWithdrawalPath { pool_id: POOL.into(), withdrawal_id: withdrawal.withdrawal_id.clone() };
        let told = self.world.call::<PoolsResolveWithdrawal>(&operator(), path, Nothing {}, body).await;
        told.map(|told| told.1)
    }
}

#[tokio::test]
async fn strictly_a_payout_over_lightning_is_made_by_its_preimage() {
    strictly(async |place: Place| {
        place.deposit("lp:a", "d", 1_000).await;
        let invoice = place.invoice("out", 400);
        let body = leaving("lp:a", "w", 400, &invoice);
        let queued = place.withdraw(body.clone()).await.expect("queued").withdrawal;
        let not_begun = told(place.resolve(&queued, saying("r", PaidStatus::Failed)).await);
        assert_eq!(not_begun.0, 409, "{}", not_begun.1);
        place.wallet.set(Mood::Silent);
        assert_eq!(place.execute_due().await.unknown, 1);
        place.world.clock.advance_ms(600_000);
        let preimage = oa_lightning::simulated::preimage(&invoice).expect("a preimage").hex();
        let made = |preimage: Option<&str>| Resolve {
            preimage: preimage.map(str::to_owned),
            ..saying("r", PaidStatus::Succeeded)
        };
        assert_eq!(told(place.resolve(&queued, made(None)).await).0, 400);
        assert_eq!(told(place.resolve(&queued, made(Some(&"cd".repeat(32)))).await).0, 400);
        assert_eq!(place.again(body.clone()).await.status, WithdrawalStatus::Approved);
        let first = place.resolve(&queued, made(Some(&preimage))).await.expect("resolved");
        assert_eq!(first.status, WithdrawalStatus::Paid);
        assert_eq!(place.resolve(&queued, made(Some(&preimage))).await.expect("the same"), first);
        assert_eq!(place.again(body).await.status, WithdrawalStatus::Paid);
        let llp = place.llp().await;
        assert_eq!((llp.total_shares, llp.assets_sats_estimate), (600, 600));
        // The wallet finds it after all: nothing is paid or booked again.
        place.wallet.set(Mood::Good);
        place.world.clock.advance_ms(600_000);
        place.world.runtime.payments.resolve_due().await.expect("asked");
        place.execute_due().await;
        assert_eq!(place.wallet.payments(), 0);
        assert_eq!(place.llp().await.total_shares, 600);
        place.audit().await;
    })
    .await;
}

#[tokio::test]
async fn a_payout_that_has_surely_failed_is_made_again_under_another_id() {
    strictly(async |place: Place| {
        place.deposit("lp:a", "d", 1_000).await;
        let body = leaving("lp:a", "w", 400, &place.invoice("out", 400));
        let queued = place.withdraw(body.clone()).await.expect("queued").withdrawal;
        place.wallet.set(Mood::Silent);
        place.execute_due().await;
        let failed = || saying("r", PaidStatus::Failed);
        let early = told(place.resolve(&queued, failed()).await);
        assert!(early.0 == 409 && early.1.starts_with("the wallet may still begin it"), "{}", early.1);
        place.world.clock.advance_ms(600_000);
        let first = place.resolve(&queued, failed()).await.expect("resolved");
        assert_eq!(first.status, WithdrawalStatus::Queued);
        place.wallet.set(Mood::Good);
        place.world.clock.advance_ms(600_000);
        assert_eq!(place.execute_due().await.paid, 1);
        assert_eq!(place.resolve(&queued, failed()).await.expect("the same"), first);
        let asked = place.wallet.asked_to_pay();
        assert_ne!(asked.first(), asked.last());
        assert_eq!((place.wallet.payments(), place.again(body).await.status), (1, WithdrawalStatus::Paid));
        place.audit().await;
    })
    .await;
}

#[tokio::test]
async fn strictly_a_sending_is_made_by_its_transaction() {
    strictly(async |place: Place| {
        let (body, request) = signing::approved(&place, 500).await;
        place.wallet.set(Mood::Silent);
        let _ = signing::execute(&place, &request).await;
        let withdrawal = place.again(body.clone()).await;
        assert_eq!(withdrawal.status, WithdrawalStatus::Approved);
        place.world.clock.advance_ms(600_000);
        let made = |txid: Option<&str>| Resolve {
            txid: txid.map(str::to_owned),
            fee_msats: oa_contract::Msats::new(40_000),
            ..saying("r", PaidStatus::Succeeded)
        };
        for wrong in [made(None), made(Some("9f"))] {
            assert_eq!(told(place.resolve(&withdrawal, wrong).await).0, 400);
        }
        // What the wallet knows is not contradicted.
        let first = place.resolve(&withdrawal, made(Some(&"9F".repeat(32)))).await.expect("resolved");
        assert_eq!((first.status, first.resolution.txid), (WithdrawalStatus::Paid, Some("9f".repeat(32))));
        assert_eq!(place.again(body).await.status, WithdrawalStatus::Paid);
        let requests = signing::requests_in(&place, SigningStatus::Executed).await;
        assert_eq!(requests, 1, "the signers' request is done with it");
        place.audit().await;
    })
    .await;
}
