//! A pool pays once, within what it has; whoever drew owes it; and nothing is paid on somebody's word alone.

use futures_util::future::join_all;
use oa_contract::{
    Code,
    matrix::{BudgetsSet, CreditExplain, CreditRepay},
    wire::{
        budgets::SetBudget,
        credit::{LoanReply, LoanStatus, Outcome, Repay},
        paths::OfferPath,
    },
};

use super::*;
use crate::testing::refused;

fn evidenced(envelope_id: &str, invoice: &str, receipt: &str) -> SettleEnvelope {
    SettleEnvelope { verification_receipt_sha256: receipt.into(), ..settlement(envelope_id, invoice) }
}

#[tokio::test]
async fn an_envelope_is_held_in_the_pool_and_paid_from_it() {
    on_each(strict, Mood::Pays, async |world: World, purse: Arc<Purse>| {
        deposited(&world, 1_500_000).await;
        let id = enveloped(&world, "oa.sandbox_run.v1:job", 1_000).await;
        assert_eq!(pool(&world).await, (1_500_000, 1_000_000));
        let too_much = offer(&world, asking("more", 501)).await.expect("offered");
        let refusal = refused(envelope(&world, &too_much.offer_id, "c").await);
        assert_eq!((refusal.code, refusal.message.as_str()), (Code::Conflict, "pool capacity exceeded"));
        verified(&world, "stl_1", "r1", "job", 250_000, true).await;
        let settled = settle(&world, evidenced(&id, &invoice("i", 250_000), "r1")).await.expect("settled");
        assert_eq!((settled.outcome, settled.spent_sats, settled.fee_sats), (Outcome::Success, 250, 2));
        // What arrived, and what the way cost.
        assert_eq!(pool(&world).await, (1_500_000 - 250_000 - 1_000, 0));
        let owed = loan(&world, &settled.settlement_id).await;
        assert_eq!((owed.principal_msats, owed.routing_msats, owed.fee_msats), (250_000, 1_000, 2_000));
        assert_eq!((owed.owed_msats, owed.status), (253_000, LoanStatus::Open));
        assert_eq!((settled.owed_msats, purse.asked()), (Some(253_000), 1));
        assert_eq!(exposure(&world).await.owed_msats, 253_000);
        adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn sixty_four_settlements_of_one_envelope_with_mixed_content_are_one_payment() {
    on_each(strict, Mood::Pays, async |world: World, purse: Arc<Purse>| {
        deposited(&world, 2_000_000).await;
        let id = enveloped(&world, "job", 1_000).await;
        for n in 0..8 {
            verified(&world, &format!("stl_{n}"), "r1", "job", 100_000, true).await;
        }
        let mixed = (0..64).map(|n| match n % 16 {
            15 => failing(&id),
            14 => evidenced(&id, &invoice("i0", 100_000), "unknown"),
            n => evidenced(&id, &invoice(&format!("i{}", n % 8), 100_000), "r1"),
        });
        let bodies: Vec<_> = mixed.collect();
        let ended = join_all(bodies.into_iter().map(|body| settle(&world, body))).await;
        let done: Vec<_> = ended.into_iter().filter_map(Result::ok).collect();
        assert!(!done.is_empty() && done.windows(2).all(|pair| pair[0] == pair[1]), "one ending");
        let paid = u32::from(done[0].outcome == Outcome::Success);
        assert_eq!(purse.asked(), paid);
        assert_eq!(pool(&world).await, (2_000_000 - 101_000 * i128::from(paid), 0));
        adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn two_settlements_of_one_envelope_with_different_invoices_make_one_payment() {
    on_each(strict, Mood::Pays, async |world: World, purse: Arc<Purse>| {
        deposited(&world, 2_000_000).await;
        let id = enveloped(&world, "job", 1_000).await;
        for n in 0..2 {
            verified(&world, &format!("stl_{n}"), "r1", "job", 100_000, true).await;
        }
        let (one, other) = (invoice("one", 100_000), invoice("other", 100_000));
        let (one, other) = tokio::join!(
            settle(&world, evidenced(&id, &one, "r1")),
            settle(&world, evidenced(&id, &other, "r1"))
        );
        let refused = match (one, other) {
            (Ok(_), Err(stop)) | (Err(stop), Ok(_)) => refused(Err::<(), _>(stop)),
            both => panic!("one of two: {both:?}"),
        };
        assert_eq!((refused.code, purse.asked()), (Code::Conflict, 1));
        assert_eq!(pool(&world).await, (2_000_000 - 101_000, 0));
        adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn a_payment_nobody_knows_the_end_of_is_neither_failed_nor_made_twice() {
    on_each(strict, Mood::Silent, async |world: World, purse: Arc<Purse>| {
        deposited(&world, 2_000_000).await;
        let id = enveloped(&world, "job", 1_000).await;
        verified(&world, "stl_1", "r1", "job", 100_000, true).await;
        let body = || evidenced(&id, &invoice("i", 100_000), "r1");
        for _ in 0..2 {
            let refusal = refused(settle(&world, body()).await);
            assert_eq!((refusal.code, refusal.reason_code), (Code::Conflict, Some("payment_pending")));
            assert_eq!(refusal.message, "payment already in flight for quote_id", "it has not failed");
        }
        let closing = refused(settle(&world, failing(&id)).await);
        assert_eq!((closing.code, closing.reason_code), (Code::Conflict, Some("payment_pending")));
        let other = refused(settle(&world, evidenced(&id, &invoice("other", 100_000), "r1")).await);
        assert_eq!(other.code, Code::Conflict);
        // Not even the end of its time frees what may have been paid.
        world.clock.advance_ms(3_600_000);
        assert_eq!(crate::background::credit::sweep_once(&world.runtime).await.expect("swept"), (0, 0));
        assert_eq!((purse.asked(), pool(&world).await.1), (1, 1_000_000));
        world.runtime.payments.resolve_due().await.expect("resolved");
        let settled = settle(&world, body()).await.expect("settled");
        assert_eq!((settled.outcome, purse.asked()), (Outcome::Success, 1));
        assert_eq!(pool(&world).await, (2_000_000 - 101_000, 0));
        adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn a_restart_in_the_middle_of_a_payment_ends_it_by_asking() {
    for engine in [EngineKind::Sqlite, EngineKind::Postgres] {
        let purse = Purse::new(Mood::Silent);
        let world = World::paying(engine, strict(), Some(purse.clone())).await;
        deposited(&world, 2_000_000).await;
        let id = enveloped(&world, "job", 1_000).await;
        verified(&world, "stl_1", "r1", "job", 100_000, true).await;
        let body = || evidenced(&id, &invoice("i", 100_000), "r1");
        assert!(settle(&world, body()).await.is_err());
        let world = world.restart().await;
        world.clock.advance_ms(60_000);
        world.runtime.payments.resolve_due().await.expect("resolved");
        assert_eq!(settle(&world, body()).await.expect("settled").outcome, Outcome::Success);
        assert_eq!(purse.asked(), 1);
        adds_up(&world).await;
    }
}

#[tokio::test]
async fn nothing_is_paid_on_somebodys_word() {
    on_each(strict, Mood::Pays, async |world: World, purse: Arc<Purse>| {
        deposited(&world, 9_000_000).await;
        let id = enveloped(&world, "oa.sandbox_run.v1:job", 500).await;
        let paying = |receipt: &str| evidenced(&id, &invoice("i", 100_000), receipt);
        let ours =
            "verification_receipt_sha256 is not the receipt of a verification of ours that this job passed";
        assert_eq!(refused(settle(&world, paying("sha256:verified")).await).message, ours);
        verified(&world, "stl_failed", "rf", "job", 100_000, false).await;
        assert_eq!(refused(settle(&world, paying("rf")).await).message, ours);
        verified(&world, "stl_other", "ro", "another job", 100_000, true).await;
        assert_eq!(refused(settle(&world, paying("ro")).await).message, ours);
        let made_up = settle(&world, evidenced(&id, "lnbc420n1test", "r")).await;
        assert!(refused(made_up).message.starts_with("provider_invoice: invoice is not valid BOLT11"));
        verified(&world, "stl_1", "r", "job", 100_000, true).await;
        settle(&world, paying("r")).await.expect("settled");
        // The same verification pays for nothing else, and the same invoice is paid by nobody else.
        let second = enveloped(&world, "x:job", 400).await;
        let again = settle(&world, evidenced(&second, &invoice("j", 100_000), "r")).await;
        assert_eq!(refused(again).message, "verification_receipt_sha256 has been paid on already");
        verified(&world, "stl_2", "r", "job", 100_000, true).await;
        let again = settle(&world, evidenced(&second, &invoice("i", 100_000), "r")).await;
        assert_eq!(refused(again).code, Code::Conflict);
        assert_eq!(purse.asked(), 1);
        adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn several_offers_at_the_full_limit_are_one_limit() {
    on_each(strict, Mood::Pays, async |world: World, _| {
        deposited(&world, 90_000_000).await;
        let mut offers = Vec::new();
        for scope in ["one", "two"] {
            offers.push(offer(&world, asking(scope, 2_000)).await.expect("offered"));
        }
        assert_eq!(offers[1].max_sats, 2_000, "an offer is no exposure yet");
        envelope(&world, &offers[0].offer_id, "c").await.expect("issued");
        let refusal = refused(envelope(&world, &offers[1].offer_id, "c").await);
        assert_eq!(refusal.message, "offer.max_sats exceeds what the agent would be offered now");
        let mut agents = (0..4).map(|n| AskOffer { agent_id: key(&n.to_string()), ..asking("s", 10) });
        assert!(offer(&world, agents.next().expect("one")).await.is_ok());
    })
    .await;
}

async fn repay(
    world: &World,
    key: &str,
    settlement_id: &str,
    amount: Option<u64>,
) -> Result<LoanReply, Stop> {
    let body = Repay {
        settlement_id: settlement_id.into(),
        owner_user_id: Some(11),
        owner_guest_scope: None,
        amount_msats: amount,
        idempotency_key: key.into(),
    };
    world.call::<CreditRepay>(&operator(), Nothing {}, Nothing {}, body).await.map(|(_, reply)| reply)
}

async fn drawn(world: &World) -> CreditSettlement {
    deposited(world, 2_000_000).await;
    let id = enveloped(world, "job", 1_000).await;
    verified(world, "stl_1", "r1", "job", 250_000, true).await;
    settle(world, evidenced(&id, &invoice("i", 250_000), "r1")).await.expect("settled")
}

#[tokio::test]
async fn what_was_drawn_is_paid_back_to_the_pool_with_its_fee() {
    on_each(strict, Mood::Pays, async |world: World, _| {
        let settled = drawn(&world).await;
        let id = &settled.settlement_id;
        let part = repay(&world, "k", id, Some(100_000)).await.expect("repaid").loan;
        assert_eq!((part.owed_msats, part.status), (153_000, LoanStatus::Open));
        let payment = part.payment.clone().expect("the payment that it went out with");
        assert_eq!(Some(payment.quote_id), settled.quote_id);
        assert_eq!(payment.payment_hash, oa_lightning::bolt11::payment_hash(&invoice("i", 250_000)));
        assert_eq!(repay(&world, "k", id, Some(100_000)).await.expect("again").loan, part);
        assert_eq!(refused(repay(&world, "k", id, None).await).code, Code::Conflict);
        assert!(refused(repay(&world, "k2", id, Some(153_001)).await).message.contains("153000"));
        let whole = repay(&world, "k3", id, None).await.expect("repaid").loan;
        assert_eq!((whole.owed_msats, whole.status), (0, LoanStatus::Repaid));
        assert_eq!(pool(&world).await, (2_000_000 + 2_000, 0), "the fee is the pool's");
        assert_eq!(refused(repay(&world, "k4", id, None).await).message, "everything is repaid already");
        assert_eq!(refused(repay(&world, "k5", "ceps_none", None).await).code, Code::NotFound);
        adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn what_is_due_is_collected_from_the_agents_owner() {
    on_each(strict, Mood::Pays, async |world: World, _| {
        owned(&world, 7).await;
        let settled = drawn(&world).await;
        world.clock.advance_ms((1_800 + 86_400) * 1_000);
        assert_eq!(crate::background::credit::sweep_once(&world.runtime).await.expect("swept").1, 1);
        assert_eq!(loan(&world, &settled.settlement_id).await.status, LoanStatus::Repaid);
        assert_eq!(pool(&world).await, (2_002_000, 0));
        adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn what_is_not_repaid_is_a_default_that_counts_and_stays_owed() {
    on_each(strict, Mood::Pays, async |world: World, _| {
        owned(&world, 7).await;
        let nothing = SetBudget { owner_user_id: Some(7), limit_msats: Msats::ZERO, ..SetBudget::default() };
        world.call::<BudgetsSet>(&operator(), Nothing {}, Nothing {}, nothing).await.expect("set");
        let settled = drawn(&world).await;
        world.clock.advance_ms((1_800 + 86_400) * 1_000);
        assert_eq!(crate::background::credit::sweep_once(&world.runtime).await.expect("swept").1, 1);
        assert_eq!(crate::background::credit::sweep_once(&world.runtime).await.expect("swept").1, 0);
        let owed = loan(&world, &settled.settlement_id).await;
        assert_eq!((owed.status, owed.owed_msats), (LoanStatus::Defaulted, 253_000));
        let notice = owed.default_notice.expect("a notice");
        assert_eq!((&notice["reason"], &notice["loss_sats"]), (&json!("not_repaid"), &json!(253)));
        let known = exposure(&world).await;
        assert_eq!((known.loss_count_30d, known.default_count_30d, known.owed_msats), (0, 1, 253_000));
        assert_eq!(known.underwriting_limit_sats, 1_457, "it weighs as a loss does");
        // Whoever pays later has paid, and was late all the same.
        repay(&world, "k", &settled.settlement_id, None).await.expect("repaid");
        assert_eq!(loan(&world, &settled.settlement_id).await.status, LoanStatus::Repaid);
        assert_eq!(exposure(&world).await.default_count_30d, 1);
        adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn a_decision_is_explained_from_the_log() {
    on_each(lenient, Mood::Pays, async |world: World, _| {
        let mut offers = Vec::new();
        for n in 0..4_u32 {
            world.clock.advance_ms(1_000);
            let offered = offer(&world, asking(&format!("job-{n}"), 1_000)).await.expect("offered");
            world.clock.advance_ms(1_000);
            let id = envelope(&world, &offered.offer_id, "c").await.expect("issued").envelope.envelope_id;
            offers.push(offered.offer_id);
            world.clock.advance_ms(1_000);
            match n % 2 {
                0 => settle(&world, settlement(&id, "lnbc420n1test")).await.expect("settled"),
                _ => settle(&world, failing(&id)).await.expect("settled"),
            };
        }
        for offer_id in offers {
            let path = OfferPath { offer_id };
            let told = world.call::<CreditExplain>(&operator(), path, Nothing {}, Nothing {}).await;
            let told = told.expect("explained").1;
            assert!(told.replay_matches, "{} {}", told.audit, told.replayed_inputs);
            assert_eq!(told.audit["decision"]["feeBps"], json!(told.offer.fee_bps));
            let (inputs, terms) = crate::credit::underwriting::read_back(&told.audit).expect("read");
            let again = crate::credit::underwriting::decide(&inputs, &terms);
            assert_eq!(crate::credit::underwriting::decision_document(&again), told.replayed_decision);
        }
    })
    .await;
}

#[tokio::test]
async fn an_agents_own_losses_halt_that_agent_alone() {
    let nervous = || {
        let mut config = strict();
        config.credit.circuit_breaker_min_sample = 2;
        config
    };
    on_each(nervous, Mood::Pays, async |world: World, _| {
        let ask = async |agent: &str, pool: &str, scope: &str| {
            let body = AskOffer { agent_id: key(agent), pool_id: key(pool), ..asking(scope, 10) };
            offer(&world, body).await.expect("offered").offer_id
        };
        let issue = async |offer_id: &str| envelope(&world, offer_id, "c").await;
        deposited(&world, 9_000_000).await;
        let agents = ["0", "1", "2", "3", "4", "5", "e", "f"];
        lending(&world, agents.map(|agent| agent_may(agent, 1_000)).into(), 9_000).await;
        // Good agents outweigh the bad one for everybody, and for a pool of their own.
        for n in 0..6_u32 {
            let agent = n.to_string();
            let offer_id = ask(&agent, "b", "s").await;
            let id = issue(&offer_id).await.expect("issued").envelope.envelope_id;
            let owner = format!("agent:{}", key(&agent));
            issued(&world, evidence_of(&format!("stl_{n}"), &format!("r{n}"), "s", &owner, 1_000, true))
                .await;
            let body = SettleEnvelope {
                verification_receipt_sha256: format!("r{n}"),
                ..settlement(&id, &invoice(&agent, 1_000))
            };
            settle(&world, body).await.expect("settled");
        }
        for scope in ["one", "two"] {
            let offer_id = ask("e", "b", scope).await;
            let id = issue(&offer_id).await.expect("issued").envelope.envelope_id;
            settle(&world, failing(&id)).await.expect("settled");
        }
        assert!(!health(&world).await.breakers.halt_new_envelopes);
        let refusal = refused(issue(&ask("e", "b", "three").await).await);
        assert_eq!(refusal.message, "credit circuit breaker: halt_new_envelopes (agent)");
        assert!(issue(&ask("f", "b", "three").await).await.is_ok());
    })
    .await;
}
