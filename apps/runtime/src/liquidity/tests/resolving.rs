//! What an operator says of a payment that no wallet can tell of.

use oa_contract::{
    matrix::LiquidityResolve,
    wire::{
        paths::PaymentPath,
        resolutions::{PaymentResolved, Resolve},
    },
};

use super::*;

fn saying(outcome: PaidStatus) -> Resolve {
    Resolve {
        idempotency_key: "r".into(),
        outcome,
        reason: "seen at the node".into(),
        preimage: None,
        txid: None,
        fee_msats: None,
        wallet_receipt_sha256: None,
        despite_wallet: false,
    }
}

async fn resolved(world: &World, id: &str, body: Resolve) -> Result<PaymentResolved, oa_contract::Stop> {
    let path = PaymentPath { payment_id: id.into() };
    world.call::<LiquidityResolve>(&operator(), path, Nothing {}, body).await.map(|(_, reply)| reply)
}

/// Holds and what has left, of user 11.
async fn account(world: &World) -> (u64, u64) {
    let read = async |tx: &mut Tx, (): &()| {
        let account = oa_ledger::AccountId::parse("owner/msats/user:11").expect("an account");
        ledger::account(tx, &account).await
    };
    let account = world.runtime.store.read("account", (), read).await.expect("read");
    (account.balances.debits_pending.get(), account.balances.debits_posted.get())
}

fn silent() -> Arc<Puppet> {
    Puppet::new(|_| Err(WalletError::unknown("timeout", "nothing was heard")))
}

#[tokio::test]
async fn strictly_only_its_preimage_makes_a_payment_made() {
    for engine in both() {
        let mut config = config();
        config.liquidity.network = Network::Regtest;
        // It says that it paid, and shows a preimage of something else.
        let wallet = Puppet::new(|_| Ok(paid(42_000, 5)));
        let world = World::paying(engine, config, Some(wallet)).await;
        let invoice =
            simulated::invoice(Network::Regtest, "1", msats(42_000), BEGIN, 600).expect("an invoice");
        let preimage = simulated::preimage(&invoice).expect("a preimage").hex();
        let quote = quoted(&world, QuotePay { invoice, owner_user_id: Some(11), ..quote("k") }).await;
        let id = quote.expect("a quote").quote_id;
        refused(payed(&world, pay(&id)).await);
        assert_eq!(account(&world).await, (52_000, 0));
        let made = |preimage: Option<&str>| Resolve {
            preimage: preimage.map(str::to_owned),
            fee_msats: Some(msats(700)),
            ..saying(PaidStatus::Succeeded)
        };
        for (wrong, why) in [
            (made(None), "preimage is required: it proves the payment"),
            (made(Some("ab")), "preimage must be 64 hex digits"),
            (made(Some(&"cd".repeat(32))), "preimage does not open the invoice's hash"),
            (Resolve { reason: " ".into(), ..made(Some(&preimage)) }, "reason must say"),
            (Resolve { txid: Some("9f".repeat(32)), ..made(Some(&preimage)) }, "a payment over Lightning"),
            (Resolve { outcome: PaidStatus::Failed, ..made(Some(&preimage)) }, "what has failed has no"),
        ] {
            let refusal = refused(resolved(&world, &id, wrong).await);
            assert_eq!(refusal.code.name(), "invalid_request");
            assert!(refusal.message.starts_with(why), "{}", refusal.message);
        }
        assert_eq!(account(&world).await, (52_000, 0), "a refusal changes nothing");
        let first = resolved(&world, &id, made(Some(&preimage.to_uppercase()))).await.expect("resolved");
        assert_eq!(
            (first.status, first.resolution.actor.as_str()),
            (PaidStatus::Succeeded, "service:operator")
        );
        assert_eq!(account(&world).await, (0, 42_700));
        let world = world.restart().await;
        world.clock.advance_ms(3_600_000);
        assert_eq!(resolved(&world, &id, made(Some(&preimage))).await.expect("the same"), first);
        let other = Resolve { idempotency_key: "other".into(), ..made(Some(&preimage)) };
        assert_eq!(refused(resolved(&world, &id, other).await).code.name(), "conflict");
        let told = payed(&world, pay(&id)).await.expect("paid");
        assert_eq!((told.status, told.receipt.fee_msats), (PaidStatus::Succeeded, Some(700)));
        assert_eq!(account(&world).await, (0, 42_700));
    }
}

#[tokio::test]
async fn a_payment_that_a_wallet_may_yet_make_is_not_called_failed() {
    for engine in both() {
        let wallet = silent();
        let state = Arc::new(Mutex::new(PaymentState::InFlight));
        let (mut wallet, known) = (wallet, state.clone());
        Arc::get_mut(&mut wallet).expect("mine").knows =
            Box::new(move |_| Ok(known.lock().expect("no panic").clone()));
        let world = lenient(engine, Some(wallet)).await;
        let body = QuotePay { owner_user_id: Some(11), ..quote("k") };
        let id = quoted(&world, body).await.expect("a quote").quote_id;
        refused(payed(&world, pay(&id)).await);
        let failed = || saying(PaidStatus::Failed);
        let early = refused(resolved(&world, &id, failed()).await);
        assert!(early.message.starts_with("the wallet may still begin it"), "{}", early.message);
        world.clock.advance_ms(120_000);
        let open = refused(resolved(&world, &id, failed()).await);
        assert!(open.message.starts_with("the wallet is still at it"), "{}", open.message);
        *state.lock().expect("no panic") = PaymentState::Succeeded(paid(42_000, 5));
        let insisting = || Resolve { despite_wallet: true, ..failed() };
        let paid = refused(resolved(&world, &id, insisting()).await);
        assert_eq!(paid.message, "the wallet proves that it was paid");
        *state.lock().expect("no panic") = PaymentState::InFlight;
        assert_eq!(account(&world).await, (52_000, 0));
        let told = resolved(&world, &id, insisting()).await.expect("resolved");
        assert_eq!(told.status, PaidStatus::Failed);
        assert_eq!(account(&world).await, (0, 0), "the hold is free");
        assert_eq!(resolved(&world, &id, insisting()).await.expect("the same"), told);
        let told = payed(&world, pay(&id)).await.expect("an answer");
        assert_eq!(
            (told.status, told.error_code.as_deref()),
            (PaidStatus::Failed, Some("resolved_by_operator"))
        );
        assert_eq!(told.receipt.error_message.as_deref(), Some("seen at the node"));
    }
}

#[tokio::test]
async fn what_is_not_there_or_has_ended_is_not_resolved() {
    let wallet = Puppet::new(|_| Ok(paid(42_000, 5)));
    let world = lenient(EngineKind::Sqlite, Some(wallet)).await;
    let none = resolved(&world, "liq_quote_none", saying(PaidStatus::Failed)).await;
    assert_eq!(refused(none).code.name(), "not_found");
    let quote = quoted(&world, quote("k")).await.expect("a quote");
    payed(&world, pay(&quote.quote_id)).await.expect("paid");
    let over = refused(resolved(&world, &quote.quote_id, saying(PaidStatus::Failed)).await);
    assert_eq!(over.message, "the payment has ended already: succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_resolve_at_one_time_end_it_once() {
    for engine in both() {
        let world = Arc::new(lenient(engine, Some(silent())).await);
        let body = QuotePay { owner_user_id: Some(11), ..quote("k") };
        let id = quoted(&world, body).await.expect("a quote").quote_id;
        refused(payed(&world, pay(&id)).await);
        world.clock.advance_ms(120_000);
        let mut asking = tokio::task::JoinSet::new();
        for n in 0..16_u32 {
            let (world, id) = (world.clone(), id.clone());
            asking.spawn(async move {
                let outcome = if n % 2 == 0 { PaidStatus::Succeeded } else { PaidStatus::Failed };
                let body = Resolve { idempotency_key: format!("r{n}"), ..saying(outcome) };
                resolved(&world, &id, body).await.map(|told| told.status)
            });
        }
        let mut said = Vec::new();
        while let Some(ended) = asking.join_next().await {
            match ended.expect("asked") {
                Ok(status) => said.push(status),
                refusal => assert_eq!(refused(refusal).code.name(), "conflict"),
            }
        }
        let [status] = said[..] else { panic!("one resolution, not {said:?}") };
        let left = if status == PaidStatus::Succeeded { (0, 42_000) } else { (0, 0) };
        assert_eq!(account(&world).await, left);
    }
}
