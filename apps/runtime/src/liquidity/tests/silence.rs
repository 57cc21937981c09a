//! What a wallet does not say: it is never taken for a failure, unless it is this wallet that would know and that begins
//! nothing late.

use super::*;

fn never_heard() -> Arc<Puppet> {
    let mut wallet = Puppet::new(|_| Err(WalletError::unknown("timeout", "nothing was heard")));
    Arc::get_mut(&mut wallet).expect("mine").knows = Box::new(|_| Ok(PaymentState::NeverHeardOf));
    wallet
}

async fn begun(world: &World) -> String {
    let body = QuotePay { owner_user_id: Some(11), ..quote("k") };
    let quote = quoted(world, body).await.expect("a quote");
    refused(payed(world, pay(&quote.quote_id)).await);
    quote.quote_id
}

async fn after_an_hour(world: &World, id: &str) -> PaymentRow {
    for _ in 0..12 {
        world.clock.advance_ms(300_000);
        world.runtime.payments.resolve_due().await.expect("asked");
    }
    world.runtime.payments.outcome(id).await.expect("read").expect("a payment")
}

#[tokio::test]
async fn a_wallet_that_keeps_no_deadlines_proves_nothing_by_its_silence() {
    for engine in both() {
        let wallet = never_heard();
        let world = lenient(engine, Some(wallet.clone())).await;
        wallet.promise("w", false);
        let id = begun(&world).await;
        let row = after_an_hour(&world, &id).await;
        assert_eq!(row.status, PaymentStatus::Unknown);
        assert_eq!(row.error_code.as_deref(), Some("not_heard_of"));
        // It says so at last, and that counts.
        wallet.promise("w", true);
        assert_eq!(after_an_hour(&world, &id).await.status, PaymentStatus::Failed);
    }
}

#[tokio::test]
async fn a_wallet_with_another_memory_does_not_know_what_was_begun_before_it() {
    let wallet = never_heard();
    let world = lenient(EngineKind::Sqlite, Some(wallet.clone())).await;
    let id = begun(&world).await;
    wallet.promise("the wallet with its store lost", true);
    world.runtime.payments.learn().await;
    let row = after_an_hour(&world, &id).await;
    assert_eq!((row.status, row.wallet_memory.as_deref()), (PaymentStatus::Unknown, Some("w")));
    let told = refused(payed(&world, pay(&id)).await);
    assert_eq!(told.message, "payment already in flight for quote_id");
    // What is begun with the new one is known to the new one.
    let later = quoted(&world, quote("later")).await.expect("a quote");
    refused(payed(&world, pay(&later.quote_id)).await);
    assert_eq!(after_an_hour(&world, &later.quote_id).await.status, PaymentStatus::Failed);
}

#[tokio::test]
async fn a_wallet_that_cannot_tell_is_asked_again_and_never_believed_to_have_failed() {
    let answers = Arc::new(Mutex::new(vec![
        Ok(paid(42_000, 5)),
        Err(WalletError::not_done("payment_failed", "no route")),
        Err(WalletError::unknown("timeout", "nothing was heard")),
    ]));
    let said = answers.clone();
    let mut wallet = Puppet::new(move |_| said.lock().expect("no panic").pop().expect("an answer"));
    let puppet = Arc::get_mut(&mut wallet).expect("mine");
    puppet.knows = Box::new(|_| Ok(PaymentState::CannotTell { may_ask_again: true }));
    let world = lenient(EngineKind::Sqlite, Some(wallet.clone())).await;
    let id = begun(&world).await;
    // Long after its last moment the same order is still the same payment; a refusal says nothing about the first.
    world.clock.advance_ms(3_600_000);
    assert_eq!(world.runtime.payments.resolve_due().await.expect("asked"), 0);
    world.clock.advance_ms(3_600_000);
    assert_eq!(world.runtime.payments.resolve_due().await.expect("asked"), 1);
    assert_eq!(payed(&world, pay(&id)).await.expect("told").status, PaidStatus::Succeeded);
    assert_eq!(wallet.asked.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_wallet_that_forgets_orders_is_not_asked_again() {
    let mut wallet = never_heard();
    let puppet = Arc::get_mut(&mut wallet).expect("mine");
    puppet.knows = Box::new(|_| Ok(PaymentState::CannotTell { may_ask_again: false }));
    let world = lenient(EngineKind::Sqlite, Some(wallet.clone())).await;
    let id = begun(&world).await;
    let row = after_an_hour(&world, &id).await;
    assert_eq!((row.status, row.error_code.as_deref()), (PaymentStatus::Unknown, Some("cannot_tell")));
    assert_eq!(wallet.asked.load(Ordering::SeqCst), 1);
}
