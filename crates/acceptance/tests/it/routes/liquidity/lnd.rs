//! The face of an LND node, against a SIMULATED one.

use std::time::Duration;

use oa_contract::{Msats, Timestamp};
use oa_lightning::{
    InvoiceOrder, InvoiceRef, InvoiceState, Lnd, OnchainOrder, OnchainState, PayOrder, PaymentRef,
    PaymentState, Speed, Wallet, bolt11, lnd,
};
use oa_testkit::simulated::{LND_MACAROON, LndMood, SimulatedLightning, SimulatedLnd};

fn msats(amount: u64) -> Msats {
    Msats::new(amount).unwrap()
}

async fn node() -> (SimulatedLnd, SimulatedLightning, Lnd) {
    let lightning = SimulatedLightning::default();
    let node = SimulatedLnd::start(lightning.clone()).await;
    let settings = lnd::Settings {
        base_url: node.url(),
        macaroon_hex: LND_MACAROON.into(),
        certificate: None,
        any_certificate: false,
        timeout: Duration::from_secs(5),
    };
    let lnd = Lnd::new(settings).unwrap();
    (node, lightning, lnd)
}

fn order(lightning: &SimulatedLightning, id: &str) -> PayOrder {
    let invoice = lightning.invoice(42_000, Timestamp::from_unix_seconds(1_772_000_000));
    PayOrder {
        request_id: id.into(),
        payment_hash: bolt11::payment_hash(&invoice),
        invoice,
        amount: msats(42_000),
        max_fee: msats(1_000),
        host: "h".into(),
        not_after: None,
    }
}

fn known(order: &PayOrder) -> PaymentRef {
    PaymentRef {
        request_id: order.request_id.clone(),
        payment_hash: order.payment_hash.clone(),
        begun_at: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_pays_once_and_tells_by_the_hash() {
    let (node, lightning, lnd) = node().await;
    let first = order(&lightning, "a");
    assert_eq!(lnd.payment(&known(&first)).await, Ok(PaymentState::NeverHeardOf));
    let paid = lnd.pay(&first).await.unwrap();
    assert_eq!(paid.preimage.map(|preimage| preimage.payment_hash()), first.payment_hash);
    assert_eq!((paid.amount, paid.fee), (Some(msats(42_000)), Some(msats(9))));
    assert!(lnd.pay(&first).await.unwrap_err().is_unknown());
    assert_eq!(lightning.payments(), 1);
    node.become_(LndMood::PaysAndCuts);
    let second = order(&lightning, "b");
    assert!(lnd.pay(&second).await.unwrap_err().is_unknown());
    assert!(matches!(lnd.payment(&known(&second)).await, Ok(PaymentState::Succeeded(_))));
    node.become_(LndMood::NoRoute);
    let third = lnd.pay(&order(&lightning, "c")).await.unwrap_err();
    assert!(!third.is_unknown() && third.trouble().message.contains("NO_ROUTE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_makes_the_same_invoice_for_the_same_id_and_tells_when_it_is_settled() {
    let (node, _, lnd) = node().await;
    let wanted =
        InvoiceOrder { request_id: "i".into(), amount: msats(7_000), memo: None, expiry_seconds: Some(60) };
    let made = lnd.create_invoice(&wanted).await.unwrap();
    assert_eq!(lnd.create_invoice(&wanted).await.unwrap(), made);
    let known = InvoiceRef { request_id: "i".into(), payment_hash: None };
    assert_eq!(lnd.invoice(&known).await, Ok(InvoiceState::Open));
    node.settle(made.payment_hash.as_deref().unwrap(), 7_000);
    assert_eq!(
        lnd.invoice(&known).await,
        Ok(InvoiceState::Settled { received: msats(7_000), settled_at_ms: None })
    );
    let other = InvoiceRef { request_id: "j".into(), payment_hash: None };
    assert_eq!(lnd.invoice(&other).await, Ok(InvoiceState::NeverHeardOf));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_sends_on_chain_once_and_tells_of_its_channels() {
    let (_node, _, lnd) = node().await;
    let wanted = OnchainOrder {
        request_id: "s".into(),
        address: "bcrt1qsomebody".into(),
        amount_sats: 500,
        max_fee_sats: None,
        speed: Speed::Medium,
    };
    assert_eq!(lnd.onchain_fee(&wanted).await, Ok(141));
    let sent = lnd.send_onchain(&wanted).await.unwrap();
    assert_eq!(lnd.send_onchain(&wanted).await.unwrap().txid, sent.txid);
    assert!(matches!(lnd.onchain_payment("s").await, Ok(OnchainState::Sent(_))));
    assert_eq!(lnd.onchain_payment("t").await, Ok(OnchainState::NeverHeardOf));
    let health = lnd.channel_health().await.unwrap();
    assert_eq!((health.total_sats, health.outbound_sats, health.channel_count), (1_500, 500, 2));
    assert_eq!(health.connected_channel_count, 1);
    assert_eq!(lnd.balances().await.unwrap().spendable_msats, 7_000_000);
}
