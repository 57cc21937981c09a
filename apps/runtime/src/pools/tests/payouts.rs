//! Payouts under trouble: two actors at one of them, a wallet that is away or breaks its word, and rows that cannot be
//! paid.

use oa_contract::{
    canonical::unhex,
    matrix::PoolsCancelWithdrawal,
    receipt::ReceiptSignature,
    wire::{paths::PoolWithdrawalPath, pools::WithdrawalStatus},
};
use oa_lightning::{bolt11::Network, simulated};
use oa_store::{
    Tx,
    tables::pool_withdrawals::{self as table, WithdrawalRow},
};

use super::{
    signing::{key, waiting},
    wallet::Mood,
    *,
};
use crate::pools::{
    payout::{Outcome, Under, Way},
    receipts::Settled,
};
use crate::testing::bound_to;

async fn row(place: &Place, withdrawal_id: &str) -> WithdrawalRow {
    let get = async |tx: &mut Tx, id: &String| table::get(tx, id).await;
    let row = place.world.runtime.store.read("test.withdrawal", withdrawal_id.to_owned(), get).await;
    row.expect("read").expect("a withdrawal")
}

/// A sending on chain that somebody has begun, and not yet asked the wallet for.
async fn begun(place: &Place) -> (RequestWithdrawal, Under) {
    place.put_signers(1, &[key(1)]).await.expect("signers");
    let (body, request) = waiting(place, 2_000).await;
    let signature = ReceiptSignature::new(&key(1), &unhex(&request.payload_sha256).expect("a digest"));
    place.approve(&request, signature).await.expect("approved");
    let queued = row(place, &place.again(body.clone()).await.withdrawal_id).await;
    let under = place.world.runtime.begin_payout(&queued, Way::Signed(request.request_id)).await;
    (body, under.expect("begun").expect("it was to be paid"))
}

#[tokio::test]
async fn a_refusal_says_nothing_while_another_has_asked_as_well() {
    on_each(TrustMode::Strict, usual_ways(), async |place: Place| {
        let runtime = &place.world.runtime;
        let (body, under) = begun(&place).await;
        assert_eq!(place.execute_due().await.attempted, 0, "it is the first one's turn");
        // The first is slow. The second finds nothing in the wallet, and sends; nobody hears that.
        place.world.clock.advance_ms(600_000);
        place.wallet.set(Mood::PaysSilently);
        assert_eq!(place.execute_due().await.unknown, 1);
        assert_eq!(place.wallet.payments(), 1);
        // Only now the first is refused.
        let refused = Outcome::Refused("window_cap_exceeded: too much".into());
        let row = runtime.record_payout(&under.row, refused).await.expect("written down");
        assert_eq!((row.status, row.round), (WithdrawalStatus::Approved, 0), "it may have been sent");
        place.wallet.set(Mood::Good);
        place.world.clock.advance_ms(600_000);
        assert_eq!(place.execute_due().await.paid, 1);
        assert_eq!((place.wallet.payments(), place.wallet.asked_to_pay().len()), (1, 1));
        assert_eq!(place.again(body).await.status, WithdrawalStatus::Paid);
        place.audit().await;
    })
    .await;
}

#[tokio::test]
async fn a_refusal_of_the_only_request_ends_the_round() {
    on_each(TrustMode::Strict, usual_ways(), async |place: Place| {
        let (body, under) = begun(&place).await;
        let refused = Outcome::Refused("onchain_fee_too_high: 5000 sats".into());
        let row = place.world.runtime.record_payout(&under.row, refused).await.expect("written down");
        assert_eq!((row.status, row.round, row.tries), (WithdrawalStatus::Queued, 1, 0));
        assert_eq!(place.again(body).await.last_error.as_deref(), Some("onchain_fee_too_high: 5000 sats"));
        place.audit().await;
    })
    .await;
}

#[tokio::test]
async fn money_that_has_left_after_a_refusal_is_in_the_books() {
    on_each(TrustMode::Strict, usual_ways(), async |place: Place| {
        let runtime = &place.world.runtime;
        let (body, under) = begun(&place).await;
        runtime.record_payout(&under.row, Outcome::Refused("send_refused: no".into())).await.expect("kept");
        let settled = Settled { txid: Some("9f".repeat(32)), ..Settled::default() };
        let paid = Outcome::Paid { settled, fee_msats: 40_000, paid_at_ms: None };
        for _ in 0..2 {
            let row = runtime.record_payout(&under.row, paid.clone()).await.expect("written down");
            assert_eq!(row.status, WithdrawalStatus::Paid, "it has what it asked for");
        }
        let llp = place.llp().await;
        assert_eq!((llp.total_shares, llp.assets_sats_estimate), (8_960, 8_960));
        assert_eq!(place.again(body).await.shares_returned, Some(960));
        place.world.clock.advance_ms(600_000);
        place.execute_due().await;
        assert_eq!(place.wallet.payments(), 0, "nothing is sent for it again");
        place.audit().await;
    })
    .await;
    // Where another round is under way, the operator bears it.
    on_each(TrustMode::Strict, usual_ways(), async |place: Place| {
        let runtime = &place.world.runtime;
        let (_, under) = begun(&place).await;
        let row = runtime.record_payout(&under.row, Outcome::Refused("send_refused: no".into())).await;
        let row = row.expect("kept");
        let signed = row.signing_request_id.clone().expect("a request");
        let second = runtime.begin_payout(&row, Way::Signed(signed)).await.expect("begun").expect("payable");
        let paid = |name: &str| Outcome::Paid {
            settled: Settled { txid: Some(name.into()), ..Settled::default() },
            fee_msats: 0,
            paid_at_ms: None,
        };
        let row = runtime.record_payout(&under.row, paid("first")).await.expect("written down");
        assert_eq!((row.status, row.round), (WithdrawalStatus::Approved, 1));
        let row = runtime.record_payout(&second.row, paid("second")).await.expect("written down");
        assert_eq!(row.status, WithdrawalStatus::Paid);
        assert_eq!(place.llp().await.assets_sats_estimate, 9_000, "the pool has paid once");
        place.audit().await;
    })
    .await;
}

#[tokio::test]
async fn a_wallet_that_is_away_is_waited_for() {
    strictly(async |place: Place| {
        place.deposit("lp:a", "d", 1_000).await;
        let body = leaving("lp:a", "w", 400, &place.invoice("out", 400));
        place.withdraw(body.clone()).await.expect("queued");
        place.wallet.set(Mood::Away);
        for _ in 0..30 {
            assert_eq!(place.execute_due().await.failed, 1);
            place.world.clock.advance_ms(400_000);
        }
        assert_eq!(place.again(body.clone()).await.status, WithdrawalStatus::Queued);
        place.wallet.set(Mood::Good);
        assert_eq!(place.execute_due().await.paid, 1);
        place.audit().await;
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_paid_stands_in_nobodys_way() {
    on_each(TrustMode::Lenient, settings(), async |place: Place| {
        for n in 0..6 {
            let body = leaving("lp:nobody", &format!("w{n}"), 10, &format!("lnbc100n1nobody{n}"));
            place.withdraw(body).await.expect("accepted");
        }
        place.deposit("lp:a", "d", 1_000).await;
        place.world.clock.advance_ms(1);
        place.withdraw(leaving("lp:a", "w", 400, "lnbc4000n1a")).await.expect("queued");
        let run = async || place.world.runtime.execute_due(6).await.expect("executed");
        assert_eq!(run().await.failed, 6);
        let done = run().await;
        assert_eq!((done.attempted, done.paid), (1, 1));
        place.world.clock.advance_ms(300_000);
        assert_eq!(run().await.failed, 6, "they are looked at again");
    })
    .await;
}

#[tokio::test]
async fn the_cap_of_a_stressed_pool_is_not_used_up_by_what_is_not_paid() {
    let mut settings = PoolSettings { lp_mode_enabled: true, ..settings() };
    settings.thresholds.stress_connected_bps = 8_000;
    settings.thresholds.stress_outbound_bps = 0;
    settings.thresholds.halt_outbound_bps = 0;
    settings.thresholds.stress_extra_delay_hours = 0;
    settings.thresholds.stress_cap_per_tick = 1;
    on_each(TrustMode::Lenient, settings, async |place: Place| {
        place.deposit("lp:a", "d", 100_000).await;
        snapshots::with_channels(&place, 10, 7, 1_000_000).await;
        place.withdraw(leaving("lp:nobody", "w", 10, "lnbc100n1nobody")).await.expect("accepted");
        place.world.clock.advance_ms(1);
        place.withdraw(leaving("lp:a", "w", 10, "lnbc100n1a")).await.expect("accepted");
        let done = place.execute_due().await;
        assert_eq!((done.failed, done.paid, done.throttled), (1, 1, 0));
    })
    .await;
}

#[tokio::test]
async fn an_invoice_that_was_paid_elsewhere_or_has_expired_ends_the_withdrawal() {
    strictly(async |place: Place| {
        place.deposit("lp:a", "d", 1_000).await;
        let soon = simulated::invoice(
            Network::Mainnet,
            "soon",
            oa_contract::Msats::new(400_000).expect("an amount"),
            place.now(),
            3_600,
        );
        let body = leaving("lp:a", "w", 400, &soon.expect("an invoice"));
        place.withdraw(body.clone()).await.expect("queued");
        place.world.clock.advance_ms(3_600_000);
        place.execute_due().await;
        let ended = place.again(body).await;
        assert_eq!(
            (ended.status, ended.last_error.as_deref()),
            (WithdrawalStatus::Failed, Some("the invoice has expired"))
        );
        assert_eq!(ended.shares_returned, Some(400));
        assert_eq!(place.llp().await.pending_withdrawals_sats_estimate, 0);
        // Its shares are free again, all of them.
        let body = leaving("lp:a", "w2", 1_000, &place.invoice("all", 1_000));
        place.withdraw(body).await.expect("queued");
        assert_eq!(place.execute_due().await.paid, 1);
        place.audit().await;
    })
    .await;
    let delayed = PoolSettings { withdraw_delay_hours: 24, ..settings() };
    on_each(TrustMode::Strict, delayed, async |place: Place| {
        place.deposit("lp:a", "d", 1_000).await;
        let amount = oa_contract::Msats::new(400_000).expect("an amount");
        let short = simulated::invoice(Network::Mainnet, "short", amount, place.now(), 3_600).expect("one");
        let (status, message) = told(place.withdraw(leaving("lp:a", "w", 400, &short)).await);
        assert_eq!(status, 400);
        assert!(message.starts_with("payout_invoice_bolt11 expires at "), "{message}");
        assert_eq!(place.llp().await.pending_withdrawals_sats_estimate, 0);
    })
    .await;
}

#[tokio::test]
async fn a_withdrawal_that_waits_is_taken_back_and_one_under_way_is_not() {
    strictly(async |place: Place| {
        let cancel = async |caller: &Caller, id: &str| {
            let path = PoolWithdrawalPath { pool_id: POOL.into(), withdrawal_id: id.into() };
            let told = place.world.call::<PoolsCancelWithdrawal>(caller, path, Nothing {}, Nothing {}).await;
            told.map(|told| told.1.withdrawal)
        };
        place.deposit("user:11", "d", 1_000).await;
        place.deposit("lp:b", "d", 1_000).await;
        let body = leaving("user:11", "w", 400, &place.invoice("out", 400));
        let id = place.withdraw(body.clone()).await.expect("queued").withdrawal.withdrawal_id;
        assert_eq!(told(cancel(&bound_to(12), &id).await).0, 404, "somebody else's is as unknown as none");
        assert_eq!(told(cancel(&operator(), "liqwd_nothing").await).0, 404);
        // The others have earned meanwhile: what was promised buys fewer shares by now.
        place.earns("profit", 1_600_000).await;
        let canceled = cancel(&bound_to(11), &id).await.expect("canceled");
        assert_eq!((canceled.status, canceled.shares_returned), (WithdrawalStatus::Canceled, Some(200)));
        assert_eq!(cancel(&bound_to(11), &id).await.expect("as it is"), canceled);
        assert_eq!(place.execute_due().await.attempted, 0);
        let llp = place.llp().await;
        assert_eq!((llp.total_shares, llp.pending_withdrawals_sats_estimate), (1_800, 0));
        assert_eq!(llp.share_price_msats_e6, Some(2_000_000_000), "nobody else has lost by it");
        // The invoice is free for another withdrawal.
        let body = leaving("user:11", "w2", 200, &place.invoice("out", 400));
        let id = place.withdraw(body.clone()).await.expect("queued").withdrawal.withdrawal_id;
        place.wallet.set(Mood::PaysSilently);
        assert_eq!(place.execute_due().await.unknown, 1);
        let under_way =
            (409, "only a withdrawal that waits can be canceled; this one is approved".to_owned());
        assert_eq!(told(cancel(&operator(), &id).await), under_way);
        place.audit().await;
    })
    .await;
}

#[tokio::test]
async fn on_regtest_an_invoice_is_read_whole() {
    for engine in [EngineKind::Sqlite, EngineKind::Postgres] {
        let mut place = Place::open(engine, TrustMode::Strict, settings()).await;
        let runtime = Arc::get_mut(&mut place.world.runtime).expect("nobody else has it");
        runtime.config.liquidity.network = Network::Regtest;
        place.deposit("lp:a", "d", 1_000).await;
        let amount = oa_contract::Msats::new(400_000).expect("an amount");
        let invoice = simulated::invoice(Network::Regtest, "out", amount, place.now(), 86_400).expect("one");
        place.withdraw(leaving("lp:a", "w", 400, &invoice)).await.expect("queued");
        assert_eq!(place.execute_due().await.paid, 1);
    }
}

/// 1.9 sats a share: whoever comes and goes at once has what they brought, less a share, a sat and the way.
#[tokio::test]
async fn leaving_pays_what_the_shares_are_worth() {
    strictly(async |place: Place| {
        place.deposit("lp:a", "d", 1_000).await;
        place.earns("profit", 900_000).await;
        let bought = place.deposit("lp:b", "d", 100).await.shares_minted;
        assert_eq!(bought, 52);
        let (status, message) =
            told(place.withdraw(leaving("lp:b", "w", bought, &place.invoice("o", 52))).await);
        let wanted = "payout invoice amount 52 sats does not match withdrawal estimate 98 sats";
        assert_eq!((status, message.as_str()), (400, wanted));
        place.withdraw(leaving("lp:b", "w", bought, &place.invoice("out", 98))).await.expect("queued");
        assert_eq!(place.execute_due().await.paid, 1);
        let llp = place.llp().await;
        assert_eq!((llp.total_shares, llp.assets_sats_estimate), (1_000, 1_902));
        place.audit().await;
    })
    .await;
}

/// A provider that leaves in many small parts, to a node of its own that takes all that it may.
#[tokio::test]
async fn whoever_leaves_earns_nothing_by_the_fee() {
    on_each(TrustMode::Strict, usual_ways(), async |place: Place| {
        place.deposit("lp:a", "d", 1_000).await;
        place.deposit("lp:b", "d", 1_000).await;
        place.wallet.costs(u64::MAX);
        let one = leaving("lp:b", "w", 1, &place.invoice("one", 1));
        assert_eq!(told(place.withdraw(one).await).0, 400, "its way may cost all of it");
        for n in 0..10 {
            let body = leaving("lp:b", &format!("w{n}"), 6, &place.invoice(&format!("out{n}"), 1));
            place.withdraw(body).await.expect("queued");
        }
        assert_eq!(place.execute_due().await.paid, 10);
        let llp = place.llp().await;
        // Sixty shares have paid for ten sats and fifty of fees; nobody else has.
        assert_eq!((llp.total_shares, llp.assets_sats_estimate), (1_940, 1_940));
        assert_eq!(llp.share_price_msats_e6, Some(1_000_000_000));
        place.audit().await;
    })
    .await;
}
