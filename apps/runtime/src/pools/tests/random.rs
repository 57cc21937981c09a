//! Whatever is asked of a real pool and however its wallet behaves: the books add up, what is signed is what is there,
//! and nobody is paid twice.

use oa_contract::{Asset, wire::pools::WithdrawalStatus};
use oa_ledger::{
    AccountId, Kind, Order, TransferId,
    pool::{self, Accounts},
};
use oa_store::{Tx, tables::ledger};
use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};

use super::{wallet::Mood, *};

const SEQUENCES: usize = 12;

#[derive(Clone, Debug)]
enum Act {
    Deposit { who: u8, sats: u64 },
    Withdraw { who: u8, shares: u64 },
    Pay(u8),
    Ask,
    Snapshot,
    Wait,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        3 => (0..3_u8, 1..3_000_u64).prop_map(|(who, sats)| Act::Deposit { who, sats }),
        4 => (0..3_u8, 1..2_000_u64).prop_map(|(who, shares)| Act::Withdraw { who, shares }),
        4 => (0..4_u8).prop_map(Act::Pay),
        2 => Just(Act::Ask),
        1 => Just(Act::Snapshot),
        1 => Just(Act::Wait),
    ];
    prop::collection::vec(act, 4..14)
}

async fn live(place: &Place, acts: &[Act]) {
    let (mut asked, mut brought) = (Vec::new(), 0);
    place.wallet.costs(700);
    for (at, act) in acts.iter().enumerate() {
        place.world.clock.advance_ms(1);
        match act {
            Act::Deposit { who, sats } => {
                brought += sats;
                place.deposit(&format!("lp:{who}"), &format!("d{at}"), *sats).await;
            }
            Act::Withdraw { who, shares } => {
                // What it is worth is told by a refusal, as a client would learn it.
                let ask = |sats| {
                    leaving(
                        &format!("lp:{who}"),
                        &format!("w{at}"),
                        *shares,
                        &place.invoice(&format!("i{at}"), sats),
                    )
                };
                let mut body = ask(*shares);
                let mut told_so = place.withdraw(body.clone()).await;
                if let Err(Stop::Refusal(refusal)) = &told_so
                    && let Some(rest) = refusal.message.strip_prefix("payout invoice amount ")
                {
                    let worth =
                        rest.rsplit(' ').nth(1).and_then(|sats| sats.parse().ok()).expect("an estimate");
                    if worth > 0 {
                        body = ask(worth);
                        told_so = place.withdraw(body.clone()).await;
                    }
                }
                match told_so {
                    Ok(reply) => asked.push((body, reply.withdrawal.amount_sats_estimate)),
                    Err(Stop::Refusal(_)) => {}
                    Err(stop) => panic!("{stop}"),
                }
            }
            Act::Pay(mood) => {
                place
                    .wallet
                    .set([Mood::Good, Mood::Good, Mood::PaysSilently, Mood::Refuses][usize::from(*mood)]);
                place.execute_due().await;
            }
            Act::Ask => {
                place.wallet.set(Mood::Good);
                place.world.clock.advance_ms(400_000);
                place.world.runtime.payments.resolve_due().await.expect("asked");
                place.execute_due().await;
            }
            Act::Snapshot => {
                let made = place.snapshot(PartitionKind::Llp).await.expect("a snapshot");
                assert_eq!(made.shares_tree.total_shares, place.llp().await.total_shares);
            }
            Act::Wait => place.world.clock.advance_ms(600_000),
        }
    }
    // In the end everybody who asked is paid or was told why not.
    place.wallet.set(Mood::Good);
    for _ in 0..3 {
        place.world.clock.advance_ms(700_000);
        place.world.runtime.payments.resolve_due().await.expect("asked");
        place.execute_due().await;
    }
    let mut paid = (0, 0);
    for (body, sats) in asked {
        let withdrawal = place.again(body).await;
        assert_eq!(withdrawal.status, WithdrawalStatus::Paid, "{:?}", withdrawal.last_error);
        paid = (paid.0 + 1, paid.1 + sats);
    }
    assert_eq!(place.wallet.payments(), paid.0, "each was paid once");
    let llp = place.llp().await;
    assert_eq!(llp.pending_withdrawals_sats_estimate, 0);
    assert!(paid.1 + llp.assets_sats_estimate <= brought, "more came out than went in");
    let spent_on_fees = (paid.0 as u64 * 700).div_ceil(1_000);
    assert!(brought <= paid.1 + llp.assets_sats_estimate + spent_on_fees, "nothing is lost");
    if let Some(price) = llp.share_price_msats_e6 {
        let worth = u128::from(price) * u128::from(llp.total_shares) / 1_000_000;
        let assets = u128::from(llp.assets_sats_estimate) * 1_000;
        assert!(worth <= assets + 999 && assets <= worth + u128::from(llp.total_shares), "{worth} {assets}");
    }
    place.audit().await;
}

#[tokio::test]
async fn any_sequence_of_requests_leaves_books_that_add_up() {
    let mut runner = TestRunner::deterministic();
    for at in 0..SEQUENCES {
        let acts = acts().new_tree(&mut runner).expect("acts").current();
        let engine = if at % 4 == 0 { EngineKind::Postgres } else { EngineKind::Sqlite };
        let place = Place::open(engine, TrustMode::Strict, usual_ways()).await;
        live(&place, &acts).await;
    }
}

#[tokio::test]
async fn what_credit_is_promised_nobody_withdraws() {
    strictly(async |place: Place| {
        let cep = |body: QuoteDeposit| QuoteDeposit { partition_kind: Some(PartitionKind::Cep), ..body };
        let quoted =
            place.quote(&operator(), cep(deposit_of("lp:a", "d", 1_000))).await.expect("quoted").deposit;
        place.wallet.settle(quoted.invoice_bolt11.as_deref().expect("an invoice"));
        place.confirm(&quoted.deposit_id).await.expect("confirmed");
        let reserve = async |name: &str, sats: u64| {
            let money = Accounts::of(POOL, PartitionKind::Cep).expect("accounts").money;
            let id = TransferId::new(name).expect("an id");
            let payee = AccountId::new(Kind::Agent, Asset::msats(), "agent").expect("an account");
            let until = Some(place.now().plus_seconds(600));
            let order = pool::commitment(&money, id, &payee, sats * 1_000, until, "envelope");
            let write = async |tx: &mut Tx, (order, now): &(Order, Timestamp)| {
                ledger::transfer(tx, order, *now).await
            };
            let ask = (order.expect("an order"), place.now());
            place.world.runtime.store.write("test.reserve", crate::pools::key(POOL), ask, write).await
        };
        reserve("envelope:1", 700).await.expect("held");
        reserve("envelope:1", 700).await.expect("the same again");
        assert_eq!(told(reserve("envelope:2", 301).await).0, 409);
        let status = place.status().await;
        assert_eq!(status.partitions[1].liabilities_sats_estimate, 700);
        let body = RequestWithdrawal {
            partition_kind: Some(PartitionKind::Cep),
            ..leaving("lp:a", "w", 400, &place.invoice("out", 400))
        };
        place.withdraw(body.clone()).await.expect("queued");
        assert_eq!(place.execute_due().await.failed, 1, "it waits until the envelope is over");
        assert_eq!(place.status().await.partitions[1].liabilities_sats_estimate, 1_100);
        place.world.clock.advance_ms(601_000);
        crate::background::holds::sweep_once(&place.world.runtime).await.expect("swept");
        assert_eq!(place.execute_due().await.paid, 1);
        assert_eq!(place.status().await.partitions[1].liabilities_sats_estimate, 0);
        place.audit().await;
    })
    .await;
}
