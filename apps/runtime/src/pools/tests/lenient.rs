//! Leniently a request needs no shares and no real invoice; paying it still does what it can be paid for.

use oa_contract::wire::pools::WithdrawalStatus;

use super::*;

#[tokio::test]
async fn whoever_has_no_shares_may_ask_and_is_not_paid() {
    on_each(TrustMode::Lenient, settings(), async |place: Place| {
        let body = leaving("lp:nobody", "w", 10, "lnbc100n1vignette");
        let reply = place.withdraw(body.clone()).await.expect("accepted");
        assert_eq!(
            (reply.withdrawal.status, reply.withdrawal.amount_sats_estimate),
            (WithdrawalStatus::Queued, 10)
        );
        let done = place.execute_due().await;
        assert_eq!((done.attempted, done.failed, place.wallet.payments()), (1, 1, 0));
        assert_eq!(place.again(body).await.last_error.as_deref(), Some("insufficient shares"));
    })
    .await;
}

#[tokio::test]
async fn a_callers_word_confirms_and_shares_pay_at_most_what_they_are_worth() {
    on_each(TrustMode::Lenient, settings(), async |place: Place| {
        let quoted = place.quote(&operator(), deposit_of("lp:a", "d", 2_500)).await.expect("quoted").deposit;
        assert!(place.confirm(&quoted.deposit_id).await.expect("believed").shares_minted);
        let body = leaving("lp:a", "w", 1_000, "lnbc10000n1vignette");
        place.withdraw(body.clone()).await.expect("queued");
        assert_eq!(place.execute_due().await.paid, 1);
        assert_eq!(place.again(body).await.status, WithdrawalStatus::Paid);
        // More than all of its shares, in two requests that are each accepted.
        for key in ["w2", "w3"] {
            place
                .withdraw(leaving("lp:a", key, 1_000, &format!("lnbc10000n1{key}")))
                .await
                .expect("accepted");
        }
        let done = place.execute_due().await;
        assert_eq!((done.paid, done.failed), (1, 1));
        let llp = place.llp().await;
        assert_eq!((llp.total_shares, llp.assets_sats_estimate), (500, 500));
        place.audit().await;
    })
    .await;
}
