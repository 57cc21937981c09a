//! Withdrawals, strictly: the shares are locked, the payout is made once, and what nobody knows is asked for.

use futures_util::future::join_all;
use oa_contract::wire::pools::{ThrottleMode, WithdrawalStatus};

use super::{wallet::Mood, *};

#[tokio::test]
async fn a_due_withdrawal_is_paid_once_however_many_look() {
    on_each(TrustMode::Strict, usual_ways(), async |place: Place| {
        place.deposit("lp:a", "d", 1_500).await;
        place.deposit("lp:b", "d", 1_000).await;
        // A thousand sats are what the shares are worth; five are kept back for the way.
        let body = leaving("lp:a", "w", 1_000, &place.invoice("out-1", 995));
        let reply = place.withdraw(body.clone()).await.expect("queued");
        assert_eq!(reply.withdrawal.status, WithdrawalStatus::Queued);
        assert_eq!(place.llp().await.pending_withdrawals_sats_estimate, 995);
        place.wallet.costs(1_000);
        let runs = join_all((0..8).map(|_| place.world.runtime.execute_due(50))).await;
        let paid: u64 = runs.into_iter().map(|run| run.expect("executed").paid).sum();
        assert_eq!((paid, place.wallet.payments()), (1, 1));
        let withdrawal = place.again(body).await;
        assert_eq!(withdrawal.status, WithdrawalStatus::Paid);
        assert!(withdrawal.wallet_receipt_sha256.is_some() && withdrawal.paid_at.is_some());
        let llp = place.llp().await;
        // The way cost one sat of these five, and whoever left has paid it: the others' shares are worth what they were.
        assert_eq!((llp.total_shares, llp.assets_sats_estimate), (1_504, 1_504));
        assert_eq!(llp.share_price_msats_e6, Some(1_000_000_000));
        assert_eq!(withdrawal.shares_returned, Some(4));
        assert_eq!(llp.pending_withdrawals_sats_estimate, 0);
        assert_eq!(place.execute_due().await.attempted, 0);
        place.audit().await;
    })
    .await;
}

#[tokio::test]
async fn nobody_withdraws_shares_that_are_not_free() {
    strictly(async |place: Place| {
        place.deposit("lp:a", "d", 1_000).await;
        place.deposit("lp:b", "d", 1_000).await;
        let ask = |lp: &str, key: &str, shares| leaving(lp, key, shares, &place.invoice(key, shares));
        let insufficient = (409, "insufficient shares".to_owned());
        assert_eq!(told(place.withdraw(ask("lp:c", "w0", 100)).await), insufficient);
        assert_eq!(told(place.withdraw(ask("lp:a", "w1", 1_001)).await), insufficient);
        place.withdraw(ask("lp:a", "w2", 600)).await.expect("queued");
        assert_eq!(told(place.withdraw(ask("lp:a", "w3", 500)).await), insufficient);
        assert_eq!(place.llp().await.pending_withdrawals_sats_estimate, 600, "a refusal counts for nothing");
        let many = join_all((0..16).map(|n| place.withdraw(ask("lp:a", &format!("x{n}"), 100)))).await;
        assert_eq!(many.into_iter().filter(Result::is_ok).count(), 4);
        place.audit().await;
    })
    .await;
}

#[tokio::test]
async fn a_payout_that_nobody_knows_of_is_asked_for_and_never_made_again() {
    strictly(async |place: Place| {
        place.deposit("lp:a", "d", 1_000).await;
        let body = leaving("lp:a", "w", 400, &place.invoice("out", 400));
        place.withdraw(body.clone()).await.expect("queued");
        place.wallet.set(Mood::PaysSilently);
        let done = place.execute_due().await;
        assert_eq!((done.attempted, done.unknown, done.paid), (1, 1, 0));
        assert_eq!(place.again(body.clone()).await.status, WithdrawalStatus::Approved);
        let llp = place.llp().await;
        assert_eq!(
            (llp.total_shares, llp.assets_sats_estimate),
            (1_000, 1_000),
            "nothing is said to be gone"
        );
        assert_eq!(place.execute_due().await.attempted, 0, "it is under way");
        let place = Place { world: place.world.restart().await, wallet: place.wallet };
        place.wallet.set(Mood::Good);
        place.world.clock.advance_ms(120_000);
        assert_eq!(place.world.runtime.payments.resolve_due().await.expect("asked"), 1);
        assert_eq!(place.execute_due().await.paid, 1);
        assert_eq!((place.wallet.payments(), place.wallet.asked_to_pay().len()), (1, 1));
        assert_eq!(place.again(body).await.status, WithdrawalStatus::Paid);
        let llp = place.llp().await;
        assert_eq!((llp.total_shares, llp.assets_sats_estimate), (600, 600));
        place.audit().await;
    })
    .await;
}

#[tokio::test]
async fn a_withdrawal_that_was_paid_after_the_backup_is_not_paid_again() {
    let place = Place::open(EngineKind::Sqlite, TrustMode::Strict, settings()).await;
    place.deposit("lp:a", "d", 1_000).await;
    let body = leaving("lp:a", "w", 400, &place.invoice("out", 400));
    place.withdraw(body.clone()).await.expect("queued");
    place.world.backup();
    assert_eq!(place.execute_due().await.paid, 1);
    let place = Place { world: place.world.restored().await, wallet: place.wallet };
    assert_eq!(place.again(body.clone()).await.status, WithdrawalStatus::Queued, "it is forgotten");
    assert_eq!(place.llp().await.total_shares, 1_000);
    assert_eq!(place.execute_due().await.paid, 1, "asked for again, under the same id");
    let asked = place.wallet.asked_to_pay();
    assert_eq!((asked.len(), &asked[0]), (2, &asked[1]));
    assert_eq!(place.wallet.payments(), 1, "a wallet that remembers pays it once");
    assert_eq!(place.again(body).await.status, WithdrawalStatus::Paid);
    let llp = place.llp().await;
    assert_eq!((llp.total_shares, llp.assets_sats_estimate), (600, 600), "the books have caught up");
    place.audit().await;
}

#[tokio::test]
async fn a_payout_that_surely_failed_is_tried_again_and_given_up_in_the_end() {
    strictly(async |place: Place| {
        place.deposit("lp:a", "d", 1_000).await;
        let body = leaving("lp:a", "w", 400, &place.invoice("out", 400));
        place.withdraw(body.clone()).await.expect("queued");
        place.wallet.set(Mood::Refuses);
        assert_eq!(place.execute_due().await.failed, 1);
        let again = place.again(body.clone()).await;
        assert_eq!(again.status, WithdrawalStatus::Queued);
        assert!(again.last_error.expect("a reason").contains("no route"));
        place.wallet.set(Mood::Good);
        assert_eq!(place.execute_due().await.paid, 1, "at once");
        let asked = place.wallet.asked_to_pay();
        assert_ne!(asked[0], asked[1], "what surely failed is another payment");
        let body = leaving("lp:a", "w2", 600, &place.invoice("out-2", 600));
        place.withdraw(body.clone()).await.expect("queued");
        place.wallet.set(Mood::Refuses);
        for _ in 0..12 {
            assert_eq!(place.execute_due().await.failed, 1);
            place.world.clock.advance_ms(400_000);
        }
        assert_eq!(place.execute_due().await.attempted, 0);
        assert_eq!(place.again(body).await.status, WithdrawalStatus::Failed);
        let llp = place.llp().await;
        assert_eq!((llp.total_shares, llp.pending_withdrawals_sats_estimate), (600, 0));
        // Its shares are free again.
        place.wallet.set(Mood::Good);
        let body = leaving("lp:a", "w3", 600, &place.invoice("out-3", 600));
        place.withdraw(body).await.expect("queued");
        assert_eq!(place.execute_due().await.paid, 1);
        assert_eq!(place.llp().await.total_shares, 0);
        place.audit().await;
    })
    .await;
}

#[tokio::test]
async fn a_withdrawal_waits_for_its_day() {
    let settings = PoolSettings { withdraw_delay_hours: 24, ..settings() };
    on_each(TrustMode::Strict, settings, async |place: Place| {
        place.deposit("lp:a", "d", 1_000).await;
        let reply =
            place.withdraw(leaving("lp:a", "w", 10, &place.invoice("out", 10))).await.expect("queued");
        let day = place.now().plus_seconds(86_400);
        assert_eq!(reply.withdrawal.earliest_settlement_at, day);
        place.world.clock.advance_ms(86_399_999);
        assert_eq!(place.execute_due().await.attempted, 0);
        place.world.clock.advance_ms(1);
        assert_eq!(place.execute_due().await.paid, 1);
    })
    .await;
}

#[tokio::test]
async fn every_refusal_of_a_request_has_its_words_and_locks_nothing() {
    strictly(async |place: Place| {
        place.deposit("lp:a", "d", 1_000).await;
        let body = leaving("lp:a", "w", 100, &place.invoice("out", 100));
        place.create("paused", PoolStatus::Paused).await.expect("a pool");
        let at = async |pool_id: &str, body: RequestWithdrawal| {
            let path = PoolPath { pool_id: pool_id.into() };
            told(place.world.call::<PoolsWithdrawRequest>(&operator(), path, Nothing {}, body).await)
        };
        assert_eq!(at("nowhere", body.clone()).await.0, 404);
        assert_eq!(at("paused", body.clone()).await, (409, "pool is not active".into()));
        let made_up = leaving("lp:a", "w", 100, "lnbc1000n1vignette");
        assert!(at(POOL, made_up).await.1.starts_with("payout_invoice_bolt11: invoice is not valid"));
        let dust = on_chain("lp:a", "w", 100, ADDRESS);
        assert!(at(POOL, dust).await.1.contains("relays"));
        let elsewhere = on_chain("lp:a", "w", 600, "not-an-address");
        assert!(at(POOL, elsewhere).await.1.starts_with("payout_address is not valid"));
        let too_much = RequestWithdrawal { shares_burned: u64::MAX, ..body.clone() };
        assert_eq!(at(POOL, too_much).await, (400, "withdraw estimate too large".into()));
        assert_eq!(place.llp().await.pending_withdrawals_sats_estimate, 0);
        place.withdraw(body.clone()).await.expect("queued");
        let other = RequestWithdrawal { shares_burned: 99, ..body.clone() };
        let reused = "idempotency_key reused with different withdrawal parameters";
        assert_eq!(at(POOL, other).await, (409, reused.into()));
        // One invoice is the payout of one withdrawal.
        let twice = RequestWithdrawal { idempotency_key: "w2".into(), ..body };
        assert_eq!(at(POOL, twice).await.0, 409);
        assert_eq!(place.llp().await.pending_withdrawals_sats_estimate, 100);
    })
    .await;
}

/// The numbers of the specification (§8.1), with a snapshot whose channels are as a test says.
#[tokio::test]
async fn the_throttle_delays_caps_and_halts() {
    let mut settings = PoolSettings { lp_mode_enabled: true, withdraw_delay_hours: 4, ..settings() };
    settings.thresholds.stress_connected_bps = 8_000;
    settings.thresholds.stress_outbound_bps = 0;
    settings.thresholds.halt_outbound_bps = 0;
    settings.thresholds.stress_extra_delay_hours = 12;
    settings.thresholds.stress_cap_per_tick = 1;
    let halting = {
        let mut settings = settings.clone();
        settings.thresholds.halt_connected_bps = 8_000;
        settings
    };
    on_each(TrustMode::Lenient, settings, async |place: Place| {
        place.deposit("lp:a", "d", 100_000).await;
        snapshots::with_channels(&place, 10, 7, 1_000_000).await;
        let mut bodies = Vec::new();
        for n in 0..2 {
            let body = leaving("lp:a", &format!("w{n}"), 1, &place.invoice(&format!("out{n}"), 1));
            let reply = place.withdraw(body.clone()).await.expect("queued");
            let throttle = reply.withdraw_throttle.expect("a throttle");
            assert_eq!((throttle.mode, throttle.extra_delay_hours), (ThrottleMode::Stressed, 12));
            assert_eq!(reply.withdrawal.earliest_settlement_at, place.now().plus_seconds(16 * 3_600));
            bodies.push(body);
        }
        place.world.clock.advance_ms(16 * 3_600_000);
        let done = place.execute_due().await;
        assert_eq!((done.attempted, done.throttled, done.paid), (2, 1, 1));
        assert_eq!(place.execute_due().await.attempted, 0, "in the next round");
        place.world.clock.advance_ms(300_000);
        let done = place.execute_due().await;
        assert_eq!((done.attempted, done.throttled, done.paid), (1, 0, 1));
        place.audit().await;
    })
    .await;
    on_each(TrustMode::Lenient, halting, async |place: Place| {
        place.deposit("lp:a", "d", 100_000).await;
        snapshots::with_channels(&place, 10, 7, 1_000_000).await;
        let (status, message) = told(place.withdraw(leaving("lp:a", "w", 1, &place.invoice("o", 1))).await);
        assert_eq!(status, 409);
        assert_eq!(message, "withdrawals halted by throttle: channel_connectivity_halt_threshold");
        assert_eq!(place.llp().await.pending_withdrawals_sats_estimate, 0);
    })
    .await;
}
