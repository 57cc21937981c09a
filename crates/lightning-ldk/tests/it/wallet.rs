//! The nodes as a wallet: what it promises to whoever asks it (`oa_lightning::Wallet`).

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use oa_contract::{Clock, Msats, Timestamp};
use oa_lightning::{
    Invoice, InvoiceOrder, InvoiceRef, InvoiceState, PayOrder, PaymentRef, PaymentState, Wallet as _,
    WalletError,
};
use oa_lightning_ldk::{Config, Failure, LdkWallet, Moment};

struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        Timestamp::from_micros(i64::try_from(now.as_micros()).expect("soon enough"))
    }
}

/// A wallet whose nodes end after so many commits, if ever.
fn wallet(folder: &Path, left: &Arc<AtomicU64>) -> LdkWallet {
    let left = left.clone();
    let config = Config {
        folder: folder.to_owned(),
        wallet_id: "w".into(),
        seed: [9; 32],
        clock: Arc::new(WallClock),
        channel_sats: 1_000_000,
        watch: Arc::new(move |_, moment| match moment {
            Moment::Before if left.fetch_sub(1, Ordering::SeqCst) == 0 => Err(Failure::Stopped),
            _ => Ok(()),
        }),
    };
    LdkWallet::open(config).expect("a wallet")
}

fn msats(amount: u64) -> Msats {
    Msats::new(amount).expect("msats")
}

fn wish(request_id: &str) -> InvoiceOrder {
    let memo = Some("a test".to_owned());
    InvoiceOrder { request_id: request_id.into(), amount: msats(42_000), memo, expiry_seconds: None }
}

fn order(request_id: &str, bill: &Invoice) -> PayOrder {
    PayOrder {
        request_id: request_id.into(),
        invoice: bill.bolt11.clone(),
        payment_hash: bill.payment_hash.clone(),
        amount: bill.amount,
        max_fee: msats(10_000),
        host: "shop".into(),
        not_after: None,
    }
}

fn about(order: &PayOrder) -> PaymentRef {
    PaymentRef {
        request_id: order.request_id.clone(),
        payment_hash: order.payment_hash.clone(),
        begun_at: None,
    }
}

#[tokio::test]
async fn it_pays_once_proves_it_and_knows_what_it_never_heard_of() {
    let (folder, left) = (tempfile::tempdir().expect("a folder"), Arc::new(AtomicU64::new(u64::MAX)));
    let wallet = wallet(folder.path(), &left);
    let before = wallet.balances().await.expect("a balance").spendable_msats;
    let bill = wallet.shop_invoice(&wish("bill")).await.expect("an invoice");
    let order = order("pay", &bill);
    assert_eq!(wallet.payment(&about(&order)).await, Ok(PaymentState::NeverHeardOf));

    let paid = wallet.pay(&order).await.expect("paid");

    assert_eq!(paid.preimage.map(|preimage| preimage.payment_hash()), bill.payment_hash);
    assert_eq!((paid.amount, paid.fee), (Some(msats(42_000)), Some(msats(1_000))));
    assert_eq!(wallet.pay(&order).await, Ok(paid.clone()));
    assert_eq!(wallet.payment(&about(&order)).await, Ok(PaymentState::Succeeded(paid)));
    assert_eq!(before - wallet.balances().await.expect("a balance").spendable_msats, 43_000);
    let asked = InvoiceRef { request_id: "bill".into(), payment_hash: None };
    let settled = wallet.shop_settled(&asked).await.expect("told");
    assert!(matches!(settled, InvoiceState::Settled { received, .. } if received == msats(42_000)));
    assert_eq!(wallet.invoice(&asked).await, Ok(InvoiceState::NeverHeardOf), "it is the shop's, not ours");
    let health = wallet.channel_health().await.expect("told");
    assert_eq!((health.channel_count, health.connected_channel_count, health.total_sats), (1, 1, 1_000_000));
}

#[tokio::test]
async fn what_it_does_not_do_it_surely_does_not_do() {
    let (folder, left) = (tempfile::tempdir().expect("a folder"), Arc::new(AtomicU64::new(u64::MAX)));
    let wallet = wallet(folder.path(), &left);
    let bill = wallet.shop_invoice(&wish("bill")).await.expect("an invoice");
    let late = PayOrder { not_after: Some(Timestamp::from_micros(1)), ..order("pay", &bill) };
    let other_hash = PayOrder { payment_hash: Some("ab".repeat(32)), ..order("pay", &bill) };
    let other_amount = PayOrder { amount: msats(1), ..order("pay", &bill) };
    for (order, code) in
        [(late, "too_late"), (other_hash, "prepare_failed"), (other_amount, "prepare_failed")]
    {
        let said = wallet.pay(&order).await.expect_err(code);
        assert!(matches!(&said, WalletError::NotDone(why) if why.code == code), "{said:?}");
        assert_eq!(wallet.payment(&about(&order)).await, Ok(PaymentState::NeverHeardOf));
    }
    let ours = wallet.create_invoice(&wish("deposit")).await.expect("an invoice");
    assert_eq!(wallet.create_invoice(&wish("deposit")).await, Ok(ours));
    let asked = InvoiceRef { request_id: "deposit".into(), payment_hash: None };
    assert_eq!(wallet.invoice(&asked).await, Ok(InvoiceState::Open));
}

#[tokio::test]
async fn a_wallet_that_cannot_keep_what_it_knows_says_that_nothing_is_known() {
    let (folder, left) = (tempfile::tempdir().expect("a folder"), Arc::new(AtomicU64::new(u64::MAX)));
    let nodes = wallet(folder.path(), &left);
    let bill = nodes.shop_invoice(&wish("bill")).await.expect("an invoice");
    let order = order("pay", &bill);
    left.store(5, Ordering::SeqCst);
    assert!(matches!(nodes.pay(&order).await, Err(WalletError::Unknown(_))));
    assert!(matches!(nodes.pay(&order).await, Err(WalletError::Unknown(_))));
    assert!(nodes.payment(&about(&order)).await.is_err());
    assert!(nodes.balances().await.is_err());
    drop(nodes);

    left.store(u64::MAX, Ordering::SeqCst);
    let nodes = wallet(folder.path(), &left);
    let PaymentState::Succeeded(paid) = nodes.payment(&about(&order)).await.expect("told") else {
        panic!("it was under way, and the shop is there again");
    };
    assert_eq!(nodes.pay(&order).await, Ok(paid));
}

#[tokio::test]
async fn the_shop_pays_an_invoice_of_the_wallet_once() {
    let (folder, left) = (tempfile::tempdir().expect("a folder"), Arc::new(AtomicU64::new(u64::MAX)));
    let wallet = wallet(folder.path(), &left);
    let before = wallet.balances().await.expect("a balance").spendable_msats;
    let bill = wallet.create_invoice(&wish("deposit")).await.expect("an invoice");

    let paid = wallet.shop_pay(&order("pay", &bill)).await.expect("paid");

    assert_eq!(paid.preimage.map(|preimage| preimage.payment_hash()), bill.payment_hash);
    assert_eq!(wallet.shop_pay(&order("pay", &bill)).await, Ok(paid));
    let asked = InvoiceRef { request_id: "deposit".into(), payment_hash: bill.payment_hash };
    let settled = wallet.invoice(&asked).await.expect("told");
    assert!(matches!(settled, InvoiceState::Settled { received, .. } if received == msats(42_000)));
    assert_eq!(wallet.balances().await.expect("a balance").spendable_msats, before + 42_000);
}
