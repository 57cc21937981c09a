//! What a payment is: an invoice, a route with a fee, a preimage, and one outcome per request.

use std::sync::atomic::Ordering;

use oa_lightning_ldk::{Asked, Failure, Place, State, Wish};
use sha2::{Digest as _, Sha256};

use crate::world::{alive, asked, invoice, open, paid};

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hex")).collect()
}

fn hash_of(preimage: &[u8]) -> String {
    Sha256::digest(preimage).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_payment_costs_its_amount_and_the_hubs_fee_and_is_proved_by_its_preimage() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut nodes = alive(folder.path());
    let before = (nodes.channels(Place::Ours), nodes.channels(Place::Shop));
    let bill = invoice(&mut nodes, "bill", 42_000);

    let sent = nodes.pay(&asked("pay", &bill)).expect("an answer");

    let (preimage, fee_msats) = paid(&sent);
    assert_eq!(hash_of(&unhex(&preimage)), bill.payment_hash);
    assert_eq!((sent.amount_msats, sent.payment_hash), (42_000, bill.payment_hash.clone()));
    assert_eq!(fee_msats, 1_000, "the hub takes what it says it takes");
    let got = nodes.received(Place::Shop, &bill.payment_hash).expect("read").expect("claimed");
    assert_eq!((got.amount_msats, got.preimage), (42_000, Some(preimage)));
    let after = (nodes.channels(Place::Ours), nodes.channels(Place::Shop));
    assert_eq!(before.0.outbound_msats - after.0.outbound_msats, 43_000);
    assert_eq!(after.1.outbound_msats - before.1.outbound_msats, 42_000);
}

#[test]
fn a_request_is_sent_once_and_answers_the_same_for_ever() {
    let folder = tempfile::tempdir().expect("a folder");
    let (nodes, commits) = open(folder.path(), None);
    let mut nodes = nodes.expect("nodes");
    let bill = invoice(&mut nodes, "bill", 42_000);
    let first = nodes.pay(&asked("pay", &bill)).expect("an answer");
    let stood = (nodes.channels(Place::Ours), commits.load(Ordering::SeqCst));

    assert_eq!(nodes.pay(&asked("pay", &bill)).expect("an answer"), first);
    assert_eq!((nodes.channels(Place::Ours), commits.load(Ordering::SeqCst)), stood, "nothing was sent");
    let other = Asked { max_fee_msats: 1, ..asked("pay", &bill) };
    assert!(matches!(nodes.pay(&other), Err(Failure::Conflict(_))));
    assert!(matches!(nodes.pay(&asked("another request", &bill)), Err(Failure::Conflict(_))));

    drop(nodes);
    let mut nodes = alive(folder.path());
    assert_eq!(nodes.pay(&asked("pay", &bill)).expect("an answer"), first);
    assert_eq!(nodes.find(&bill.payment_hash).expect("read"), Some(first.clone()));
    assert_eq!(nodes.sent("pay").expect("read"), Some(first));
}

#[test]
fn an_unknown_payment_is_unknown() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut nodes = alive(folder.path());
    assert_eq!(nodes.find(&"ab".repeat(32)).expect("read"), None);
    assert_eq!(nodes.sent("nobody asked").expect("read"), None);
    let bill = invoice(&mut nodes, "bill", 42_000);
    assert_eq!(nodes.find(&bill.payment_hash).expect("read"), None);
    assert_eq!(nodes.received(Place::Shop, &bill.payment_hash).expect("read"), None);
}

#[test]
fn a_fee_above_the_cap_is_never_paid_and_another_request_may_allow_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut nodes = alive(folder.path());
    let before = nodes.channels(Place::Ours);
    let bill = invoice(&mut nodes, "bill", 42_000);
    let stingy = Asked { max_fee_msats: 999, ..asked("stingy", &bill) };

    let sent = nodes.pay(&stingy).expect("an answer");
    assert!(matches!(sent.state, State::Failed { .. }), "{sent:?}");
    assert_eq!(nodes.channels(Place::Ours), before);

    paid(&nodes.pay(&asked("generous", &bill)).expect("an answer"));
    assert_eq!(nodes.pay(&stingy).expect("an answer"), sent, "what failed stays failed");
    assert_eq!(nodes.find(&bill.payment_hash).expect("read").expect("known").request_id, "generous");
}

#[test]
fn what_cannot_be_an_order_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut nodes = alive(folder.path());
    let bill = invoice(&mut nodes, "bill", 42_000);
    let mut torn = bill.clone();
    torn.invoice.replace_range(60..61, if &torn.invoice[60..61] == "q" { "p" } else { "q" });
    for invoice in [torn.invoice.as_str(), "lnbc420n1test", "", &"x".repeat(100_000)] {
        let asked = Asked { invoice: invoice.into(), ..asked("pay", &bill) };
        assert!(matches!(nodes.pay(&asked), Err(Failure::Refused(_))), "{invoice:.40}");
    }
    assert_eq!(nodes.sent("pay").expect("read"), None);
}

#[test]
fn a_payment_that_waits_is_pending_through_restarts_until_the_payee_decides() {
    for taken in [true, false] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut nodes = alive(folder.path());
        let before = nodes.channels(Place::Ours);
        let preimage = [5; 32];
        let wish = Wish {
            request_id: "bill".into(),
            amount_msats: 42_000,
            expiry_seconds: 3600,
            held: Some(hash_of(&preimage)),
            ..Wish::default()
        };
        let bill = nodes.invoice(Place::Shop, &wish).expect("an invoice");

        let sent = nodes.pay(&asked("pay", &bill)).expect("an answer");
        assert_eq!(sent.state, State::Pending);
        drop(nodes);
        let mut nodes = alive(folder.path());
        assert_eq!(nodes.pay(&asked("pay", &bill)).expect("an answer").state, State::Pending);
        assert!(matches!(nodes.pay(&asked("again", &bill)), Err(Failure::Conflict(_))));

        if taken {
            nodes.release(preimage).expect("moved");
            paid(&nodes.sent("pay").expect("read").expect("known"));
        } else {
            nodes.decline(Sha256::digest(preimage).into()).expect("moved");
            let sent = nodes.sent("pay").expect("read").expect("known");
            assert!(matches!(sent.state, State::Failed { .. }), "{sent:?}");
            assert_eq!(nodes.channels(Place::Ours), before);
        }
    }
}

#[test]
fn a_shop_that_is_gone_is_not_paid_and_one_that_is_back_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut nodes = alive(folder.path());
    let before = nodes.channels(Place::Ours);
    let bill = invoice(&mut nodes, "bill", 42_000);
    nodes.connect_shop(false).expect("moved");
    let sent = nodes.pay(&asked("pay", &bill)).expect("an answer");
    assert!(matches!(sent.state, State::Failed { .. }), "{sent:?}");
    assert_eq!(nodes.channels(Place::Ours).outbound_msats, before.outbound_msats);
    nodes.connect_shop(true).expect("moved");
    paid(&nodes.pay(&asked("another try", &bill)).expect("an answer"));
}

#[test]
fn a_request_that_comes_too_late_is_not_begun_and_one_that_was_begun_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut nodes = alive(folder.path());
    let bill = invoice(&mut nodes, "bill", 42_000);
    let late = Asked { not_after_ms: Some(1), ..asked("pay", &bill) };
    assert!(matches!(nodes.pay(&late), Err(Failure::TooLate)));
    assert_eq!(nodes.sent("pay").expect("read"), None);
    let sent = nodes.pay(&asked("pay", &bill)).expect("an answer");
    assert_eq!(nodes.pay(&late).expect("an answer"), sent);
}

#[test]
fn an_invoice_is_made_once_per_request() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut nodes = alive(folder.path());
    let wish = Wish {
        request_id: "deposit".into(),
        amount_msats: 2_500_000,
        description: "deposit".into(),
        expiry_seconds: 900,
        held: None,
    };
    let first = nodes.invoice(Place::Ours, &wish).expect("an invoice");
    drop(nodes);
    let mut nodes = alive(folder.path());
    assert_eq!(nodes.invoice(Place::Ours, &wish).expect("an invoice"), first);
    let other = Wish { amount_msats: 1, ..wish };
    assert!(matches!(nodes.invoice(Place::Ours, &other), Err(Failure::Conflict(_))));
    assert_eq!(nodes.invoiced(Place::Ours, "deposit").expect("read"), Some(first));
}

#[test]
fn a_hundred_payments_leave_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut nodes = alive(folder.path());
    let before = nodes.channels(Place::Ours);
    let mut cost = 0;
    for at in 0..100 {
        let bill = invoice(&mut nodes, &format!("bill {at}"), 10_000 + at);
        let (_, fee) = paid(&nodes.pay(&asked(&format!("pay {at}"), &bill)).expect("an answer"));
        cost += 10_000 + at + fee;
    }
    assert_eq!(before.outbound_msats - nodes.channels(Place::Ours).outbound_msats, cost);
}
