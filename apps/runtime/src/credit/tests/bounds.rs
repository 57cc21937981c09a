//! Who may draw, how much, on which word, and who is halted when somebody fails: the bounds of credit where callers are
//! not believed.

use futures_util::future::join_all;
use oa_contract::{
    Code,
    matrix::{CreditExplain, CreditRepay, PoolsLending, PoolsLendingSet},
    wire::{
        credit::{LoanStatus, Outcome, Repay},
        paths::{OfferPath, PoolPath},
        pools::{Pool, PoolKind, PoolStatus},
    },
};
use oa_store::tables::pools;

use super::*;
use crate::{
    credit::receipts,
    testing::{bound_to, refused},
};

fn evidenced(envelope_id: &str, invoice: &str, receipt: &str) -> SettleEnvelope {
    SettleEnvelope { verification_receipt_sha256: receipt.into(), ..settlement(envelope_id, invoice) }
}

/// An offer for this agent.
async fn offered(world: &World, agent: &str, scope: &str, max_sats: u64) -> Offer {
    let body = AskOffer { agent_id: key(agent), ..asking(scope, max_sats) };
    offer(world, body).await.expect("offered")
}

async fn claimed(world: &World, agent: &str, user: u64) {
    let write = async |tx: &mut Tx, row: &table::AgentRow| table::put_agent(tx, row).await;
    let row = table::AgentRow { agent_id: key(agent), owner_key: format!("user:{user}"), claimed_at: BEGIN };
    world.runtime.store.write("test.agent", (), row, write).await.expect("written");
}

async fn opened(world: &World, operator_id: &str) {
    let pool = Pool {
        pool_id: key("b"),
        pool_kind: PoolKind::Llp,
        operator_id: operator_id.into(),
        status: PoolStatus::Active,
        config: oa_contract::wire::null(),
        created_at: BEGIN,
    };
    let write = async |tx: &mut Tx, pool: &Pool| pools::insert_pool(tx, pool).await;
    world.runtime.store.write("test.pool", (), pool, write).await.expect("opened");
}

fn user(id: u64, max_sats: u64) -> Borrower {
    Borrower { owner_user_id: Some(id), max_sats, ..Borrower::default() }
}

#[tokio::test]
async fn a_verification_pays_for_its_own_owner_provider_and_price() {
    on_each(strict, Mood::Pays, async |world: World, purse: Arc<Purse>| {
        deposited(&world, 9_000_000).await;
        let id = enveloped(&world, "job", 500).await;
        let ours = format!("agent:{}", key("a"));
        let mut others = Vec::new();
        for (name, owner, price) in
            [("stl_owner", "user:9", 100_000), ("stl_more", ours.as_str(), 500_000), ("stl_less", &ours, 1_000)]
        {
            others.push(evidence_of(name, "r", "job", owner, price, true));
        }
        others.push(evidence::Issued {
            provider_id: key("d"),
            ..evidence_of("stl_provider", "r", "job", &ours, 100_000, true)
        });
        for one in others {
            issued(&world, one).await;
        }
        let said = "verification_receipt_sha256 is of a job of another owner, of another provider or at another price";
        let body = || evidenced(&id, &invoice("i", 100_000), "r");
        assert_eq!(refused(settle(&world, body()).await).message, said);
        assert_eq!((purse.asked(), pool(&world).await.0), (0, 9_000_000));
        verified(&world, "stl_own", "r", "job", 100_000, true).await;
        assert_eq!(settle(&world, body()).await.expect("settled").outcome, Outcome::Success);
        adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn an_invoice_of_another_node_than_the_providers_is_not_paid() {
    on_each(strict, Mood::Pays, async |world: World, purse: Arc<Purse>| {
        deposited(&world, 9_000_000).await;
        let id = enveloped(&world, "job", 500).await;
        let ours = format!("agent:{}", key("a"));
        let named = |payee: String| evidence::Issued {
            payee: Some(payee),
            ..evidence_of("stl_1", "r", "job", &ours, 100_000, true)
        };
        issued(&world, named(format!("02{}", key("e")))).await;
        let body = || evidenced(&id, &invoice("i", 100_000), "r");
        let refusal = refused(settle(&world, body()).await);
        let said = "provider_invoice pays another node than the one that the provider has named";
        assert_eq!((refusal.code, refusal.message.as_str()), (Code::InvalidRequest, said));
        assert_eq!((purse.asked(), pool(&world).await.0), (0, 9_000_000));
        let payee = oa_lightning::bolt11::payee(&invoice("i", 100_000)).expect("a node");
        issued(&world, named(payee)).await;
        assert_eq!(settle(&world, body()).await.expect("settled").outcome, Outcome::Success);
        adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn an_envelope_is_its_borrowers_wherever_the_agent_has_gone() {
    on_each(strict, Mood::Pays, async |world: World, purse: Arc<Purse>| {
        deposited(&world, 9_000_000).await;
        lending(&world, vec![user(7, 9_000)], 9_000).await;
        claimed(&world, "a", 7).await;
        let id = enveloped(&world, "job", 500).await;
        verified(&world, "stl_1", "r", "job", 100_000, true).await;
        claimed(&world, "a", 8).await;
        let body = || evidenced(&id, &invoice("i", 100_000), "r");
        let settled = world.call::<CreditSettle>(&bound_to(8), Nothing {}, Nothing {}, body()).await;
        let refusal = refused(settled);
        assert_eq!((refusal.code, purse.asked()), (Code::NotFound, 0));
        let settled = world.call::<CreditSettle>(&bound_to(7), Nothing {}, Nothing {}, body()).await;
        assert_eq!(settled.expect("settled").1.outcome, Outcome::Success);
        adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn what_is_held_anew_for_an_envelope_that_a_sweep_has_freed_is_freed_again() {
    on_each(strict, Mood::Refuses, async |world: World, purse: Arc<Purse>| {
        deposited(&world, 9_000_000).await;
        let id = enveloped(&world, "job", 500).await;
        verified(&world, "stl_1", "r", "job", 100_000, true).await;
        // A replica whose clock is ahead sweeps; this one settles in time by its own.
        world.clock.advance_ms(3_601_000);
        crate::background::credit::sweep_once(&world.runtime).await.expect("swept");
        assert_eq!(pool(&world).await, (9_000_000, 0));
        world.clock.advance_ms(-3_601_000);
        let refusal = refused(settle(&world, evidenced(&id, &invoice("i", 100_000), "r")).await);
        assert!(refusal.message.starts_with("liquidity pay failed: failed"), "{}", refusal.message);
        assert_eq!((purse.asked(), pool(&world).await.1), (1, 500_000));
        world.clock.advance_ms(3_601_000);
        crate::background::credit::sweep_once(&world.runtime).await.expect("swept");
        assert_eq!(pool(&world).await, (9_000_000, 0));
        adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn a_common_job_is_paid_for_however_often_it_was_verified() {
    on_each(strict, Mood::Pays, async |world: World, purse: Arc<Purse>| {
        deposited(&world, 9_000_000).await;
        let id = enveloped(&world, "job", 500).await;
        for n in 0..70 {
            issued(&world, evidence_of(&format!("stl_{n:03}"), "r", "job", "user:9", 100_000, true)).await;
        }
        verified(&world, "stl_zzz", "r", "job", 100_000, true).await;
        settle(&world, evidenced(&id, &invoice("i", 100_000), "r")).await.expect("settled");
        assert_eq!(purse.asked(), 1);
    })
    .await;
}

#[tokio::test]
async fn what_is_known_of_a_verification_changes_until_it_was_paid_on() {
    on_each(strict, Mood::Pays, async |world: World, _| {
        deposited(&world, 9_000_000).await;
        let id = enveloped(&world, "job", 500).await;
        let look = async |tx: &mut Tx, id: &String| table::evidence(tx, id).await;
        let read = async || {
            let row = world.runtime.store.read("test.evidence_of", "stl_1".to_owned(), look).await;
            row.expect("its seal holds").expect("there")
        };
        verified(&world, "stl_1", "r", "job", 100_000, true).await;
        verified(&world, "stl_1", "refuted", "job", 100_000, false).await;
        assert_eq!((read().await.receipt_sha256.as_str(), read().await.passed), ("refuted", false));
        verified(&world, "stl_1", "r", "job", 100_000, true).await;
        settle(&world, evidenced(&id, &invoice("i", 100_000), "r")).await.expect("settled");
        verified(&world, "stl_1", "refuted", "job", 100_000, false).await;
        assert_eq!((read().await.receipt_sha256, read().await.consumed_by), ("r".to_owned(), Some(id)));
    })
    .await;
}

#[tokio::test]
async fn a_pool_lends_to_its_operators_agents_and_to_whom_it_says() {
    on_each(strict, Mood::Pays, async |world: World, _| {
        opened(&world, "user:7").await;
        deposited(&world, 90_000_000).await;
        let path = || PoolPath { pool_id: key("b") };
        let forget = async |tx: &mut Tx, (): &()| {
            let row = table::LendingRow { pool_id: key("f"), lending: String::new(), changed_at: BEGIN };
            table::put_lending(tx, &row).await
        };
        world.runtime.store.write("test.other", (), (), forget).await.expect("another pool's");
        let set = async |borrowers: Vec<Borrower>, together_sats: u64| {
            let body = SetLending { borrowers, together_sats };
            world.call::<PoolsLendingSet>(&operator(), path(), Nothing {}, body).await
        };
        claimed(&world, "1", 7).await;
        claimed(&world, "2", 8).await;
        claimed(&world, "3", 8).await;
        let issue = async |agent: &str, scope: &str, sats: u64| {
            let offer = offered(&world, agent, scope, sats).await;
            envelope(&world, &offer.offer_id, "c").await
        };
        // Nobody at all, not even the operator's own.
        set(vec![], 1_000_000).await.expect("set");
        let refusal = refused(issue("1", "s", 10).await);
        assert_eq!((refusal.code, refusal.reason_code), (Code::Forbidden, Some("pool_does_not_lend")));
        // An owner with all its agents, together.
        set(vec![user(8, 100)], 1_000_000).await.expect("set");
        issue("2", "s", 60).await.expect("issued");
        let refusal = refused(issue("3", "s", 41).await);
        assert_eq!(
            refusal.message,
            "pool lending limit: user:8 may have 100 sats of this pool, open and owed"
        );
        issue("3", "s2", 40).await.expect("issued");
        assert_eq!(refused(issue("1", "s2", 10).await).code, Code::Forbidden);
        // One agent alone, and everybody together.
        set(vec![user(8, 1_000), agent_may("e", 50), user(7, 500)], 130).await.expect("set");
        issue("e", "s", 20).await.expect("issued");
        let refusal = refused(issue("e", "s2", 11).await);
        assert_eq!(
            refusal.message,
            "pool lending limit: all borrowers together may have 130 sats of this pool, open and owed"
        );
        assert_eq!(refused(issue("e", "s3", 31).await).code, Code::Conflict);
        let told = world.call::<PoolsLending>(&operator(), path(), Nothing {}, Nothing {}).await;
        let told = told.expect("told").1.lending;
        assert_eq!((told.held_sats, told.owed_msats, told.together_sats), (120, 0, Some(130)));
        assert_eq!(told.borrowers.map(|all| all.len()), Some(3));
        let none = PoolPath { pool_id: key("9") };
        let asked = world.call::<PoolsLending>(&operator(), none, Nothing {}, Nothing {}).await;
        assert_eq!(refused(asked).code, Code::NotFound);
        adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn a_pool_of_which_nothing_was_said_lends_to_its_operator_alone() {
    for (lenient_mode, allowed) in [(false, false), (true, true)] {
        let config = if lenient_mode { lenient() } else { strict() };
        let world = World::paying(EngineKind::Sqlite, config, Some(Purse::new(Mood::Pays))).await;
        opened(&world, "user:7").await;
        let wallet = AccountId::new(Kind::Wallet, Asset::msats(), "purse").expect("an account");
        let order = Order {
            id: TransferId::new("deposit").expect("an id"),
            legs: vec![Leg {
                debit: wallet,
                credit: legs::pool_account(&key("b")).expect("an account"),
                amount: Amount::new(9_000_000).expect("an amount"),
            }],
            hold: None,
            reference: "test".into(),
        };
        let write = async |tx: &mut Tx, order: &Order| ledger::transfer(tx, order, BEGIN).await;
        world.runtime.store.write("test.deposit", (), order, write).await.expect("deposited");
        claimed(&world, "1", 7).await;
        claimed(&world, "2", 8).await;
        for (agent, may) in [("1", true), ("2", allowed), ("e", allowed)] {
            let offer = offered(&world, agent, "s", 10).await;
            assert_eq!(envelope(&world, &offer.offer_id, "c").await.is_ok(), may, "{agent}");
        }
    }
}

#[tokio::test]
async fn an_owners_agents_have_one_limit_together_and_what_is_drawn_counts_until_it_is_repaid() {
    on_each(strict, Mood::Pays, async |world: World, _| {
        deposited(&world, 90_000_000).await;
        lending(&world, vec![user(7, 100_000)], 100_000).await;
        for agent in ["a", "2", "3"] {
            claimed(&world, agent, 7).await;
        }
        let issue = async |agent: &str, scope: &str, sats: u64| {
            let offer = offered(&world, agent, scope, sats).await;
            envelope(&world, &offer.offer_id, "c").await
        };
        let id = issue("a", "job", 1_200).await.expect("issued").envelope.envelope_id;
        issue("2", "job2", 800).await.expect("issued");
        let said = "offer.max_sats exceeds what the agent would be offered now";
        assert_eq!(refused(issue("3", "job3", 1).await).message, said, "a fresh key is no fresh credit");
        verified(&world, "stl_1", "r", "job", 1_000_000, true).await;
        let settled = settle(&world, evidenced(&id, &invoice("i", 1_000_000), "r")).await.expect("settled");
        // The volume would be worth thousands, were it not all owed.
        assert_eq!(refused(issue("3", "job4", 250).await).message, said);
        let body = Repay {
            settlement_id: settled.settlement_id,
            owner_user_id: Some(7),
            owner_guest_scope: None,
            amount_msats: None,
            idempotency_key: "k".into(),
        };
        world.call::<CreditRepay>(&operator(), Nothing {}, Nothing {}, body).await.expect("repaid");
        assert!(issue("3", "job5", 250).await.is_ok());
        adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn one_who_fails_on_purpose_halts_nobody_else() {
    let nervous = || {
        let mut config = strict();
        config.credit.circuit_breaker_min_sample = 3;
        config.credit.max_outstanding_envelopes_per_agent = 9;
        config
    };
    on_each(nervous, Mood::Pays, async |world: World, _| {
        deposited(&world, 90_000_000).await;
        lending(&world, vec![user(7, 100_000), user(8, 100_000), user(9, 100_000)], 1_000_000).await;
        let fail = async |agent: &str, provider: &str, owner: u64| {
            claimed(&world, agent, owner).await;
            let offer = offered(&world, agent, &format!("s{agent}{provider}"), 10).await;
            let id = envelope(&world, &offer.offer_id, provider).await.expect("issued").envelope.envelope_id;
            settle(&world, failing(&id)).await.expect("settled");
        };
        // Fresh keys of one owner, one after the other.
        for agent in ["1", "2", "3", "4"] {
            fail(agent, "c", 7).await;
        }
        let told = health(&world).await;
        assert_eq!((told.loss_count, told.loss_rate.to_bits()), (4, 1.0_f64.to_bits()), "told as it is");
        assert!(!told.breakers.halt_new_envelopes);
        claimed(&world, "a", 8).await;
        let fine = offered(&world, "a", "fine", 10).await;
        assert!(envelope(&world, &fine.offer_id, "c").await.is_ok());
        // When others fail with the same provider, it is the provider.
        fail("5", "c", 9).await;
        let next = offered(&world, "a", "next", 10).await;
        let refusal = refused(envelope(&world, &next.offer_id, "c").await);
        assert!(refusal.message.starts_with("credit circuit breaker: halt_new_envelopes"), "{refusal:?}");
        assert!(health(&world).await.breakers.halt_new_envelopes, "and everybody's, for there are two");
    })
    .await;
}

#[tokio::test]
async fn payments_that_fail_on_purpose_halt_nobody_elses_large_settlements() {
    let nervous = || {
        let mut config = strict();
        config.credit.circuit_breaker_min_sample = 3;
        config
    };
    on_each(nervous, Mood::Refuses, async |world: World, _| {
        deposited(&world, 90_000_000).await;
        lending(&world, vec![user(7, 100_000), user(8, 100_000)], 1_000_000).await;
        let fail = async |owner: u64, scope: &str, times: u32| {
            claimed(&world, "a", owner).await;
            let id = enveloped(&world, scope, 100).await;
            verified(&world, scope, scope, scope, 50_000, true).await;
            for _ in 0..times {
                let body = evidenced(&id, &invoice(scope, 50_000), scope);
                assert_eq!(refused(settle(&world, body).await).code, Code::DependencyUnavailable);
            }
        };
        fail(7, "one", 5).await;
        fail(7, "two", 5).await;
        let told = health(&world).await;
        assert_eq!((told.ln_fail_count, told.ln_pay_sample), (10, 10), "told as it is");
        assert!(!told.breakers.halt_large_settlements, "one borrower");
        fail(8, "three", 1).await;
        assert!(health(&world).await.breakers.halt_large_settlements, "two of them: it is the wallet");
    })
    .await;
}

#[tokio::test]
async fn an_envelope_is_tried_so_often_and_no_more() {
    let calm = || {
        let mut config = strict();
        config.credit.circuit_breaker_min_sample = 1_000;
        config
    };
    on_each(calm, Mood::Refuses, async |world: World, purse: Arc<Purse>| {
        deposited(&world, 9_000_000).await;
        let id = enveloped(&world, "job", 500).await;
        verified(&world, "stl_1", "r", "job", 100_000, true).await;
        let body = || evidenced(&id, &invoice("i", 100_000), "r");
        for _ in 0..64 {
            assert_eq!(refused(settle(&world, body()).await).code, Code::DependencyUnavailable);
        }
        let refusal = refused(settle(&world, body()).await);
        assert_eq!((refusal.code, purse.asked()), (Code::Conflict, 64));
        let closed = settle(&world, failing(&id)).await.expect("closed");
        assert_eq!((closed.outcome, pool(&world).await), (Outcome::Failed, (9_000_000, 0)));
        adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn envelopes_that_are_settled_while_they_are_issued_share_no_verification() {
    on_each(strict, Mood::Pays, async |world: World, purse: Arc<Purse>| {
        deposited(&world, 90_000_000).await;
        verified(&world, "stl_1", "r", "job", 100_000, true).await;
        let mut offers = Vec::new();
        for n in 0..3 {
            offers.push(offered(&world, "a", "job", 500 + n).await.offer_id);
        }
        let each = offers.iter().enumerate().map(async |(n, offer_id)| {
            let id = receipts::envelope_id(&receipts::envelope_fingerprint(offer_id, &key("c")));
            let invoice = invoice(&format!("i{n}"), 100_000);
            let settling = async || {
                // Its name is known before it is there.
                for _ in 0..20 {
                    if settle(&world, evidenced(&id, &invoice, "r")).await.is_ok() {
                        return true;
                    }
                }
                false
            };
            let (issued, paid) = tokio::join!(envelope(&world, offer_id, "c"), settling());
            issued.is_ok() && paid
        });
        let ended = join_all(each).await;
        assert!(purse.asked() <= 1, "{ended:?}");
        assert_eq!(u32::from(ended.iter().any(|paid| *paid)), purse.asked());
        adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn a_provider_that_fails_several_is_halted_alone() {
    let nervous = || {
        let mut config = strict();
        config.credit.circuit_breaker_min_sample = 3;
        config.credit.loss_rate_halt_threshold = 0.5;
        config.credit.max_outstanding_envelopes_per_agent = 20;
        config
    };
    on_each(nervous, Mood::Pays, async |world: World, _| {
        deposited(&world, 90_000_000).await;
        lending(&world, (1..9).map(|id| user(id, 100_000)).collect(), 1_000_000).await;
        let issue = async |owner: u64, scope: &str, provider: &str| {
            claimed(&world, &owner.to_string(), owner).await;
            let offer = offered(&world, &owner.to_string(), scope, 10).await;
            envelope(&world, &offer.offer_id, provider).await
        };
        for owner in 1..8 {
            let id = issue(owner, "good", "d").await.expect("issued").envelope.envelope_id;
            let job = format!("agent-{owner}");
            let mut one = evidence_of(&job, "r", "good", &format!("user:{owner}"), 5_000, true);
            one.provider_id = key("d");
            issued(&world, one).await;
            let body = SettleEnvelope { max_fee_msats: 1_000, ..evidenced(&id, &invoice(&job, 5_000), "r") };
            settle(&world, body).await.expect("settled");
        }
        for owner in 1..4 {
            let id = issue(owner, "bad", "c").await.expect("issued").envelope.envelope_id;
            settle(&world, failing(&id)).await.expect("settled");
        }
        assert!(!health(&world).await.breakers.halt_new_envelopes);
        let refusal = refused(issue(8, "next", "c").await);
        assert_eq!(refusal.message, "credit circuit breaker: halt_new_envelopes (provider)");
        assert!(issue(8, "next", "d").await.is_ok(), "with another provider it goes on");
    })
    .await;
}

#[tokio::test]
async fn where_callers_are_believed_a_success_never_becomes_a_default() {
    on_each(lenient, Mood::Pays, async |world: World, _| {
        let id = enveloped(&world, "job", 1_000).await;
        let settled = settle(&world, settlement(&id, "lnbc420n1test")).await.expect("settled");
        let before = exposure(&world).await.underwriting_limit_sats;
        world.clock.advance_ms((1_800 + 86_400) * 1_000);
        crate::background::credit::sweep_once(&world.runtime).await.expect("swept");
        let after = exposure(&world).await;
        assert_eq!((after.loss_count_30d, after.default_count_30d), (0, 0));
        assert_eq!(after.underwriting_limit_sats, before);
        assert_eq!(loan(&world, &settled.settlement_id).await.status, LoanStatus::Open);
    })
    .await;
}

#[tokio::test]
async fn a_decision_is_explained_the_same_after_a_late_repayment() {
    on_each(strict, Mood::Pays, async |world: World, _| {
        deposited(&world, 9_000_000).await;
        let id = enveloped(&world, "job", 500).await;
        verified(&world, "stl_1", "r", "job", 100_000, true).await;
        let settled = settle(&world, evidenced(&id, &invoice("i", 100_000), "r")).await.expect("settled");
        world.clock.advance_ms((1_800 + 86_400) * 1_000);
        crate::background::credit::sweep_once(&world.runtime).await.expect("swept");
        world.clock.advance_ms(1_000);
        let now = world.clock_now();
        let after = AskOffer { exp: now.plus_seconds(600), ..asking("later", 10) };
        let offer_id = offer(&world, after).await.expect("offered").offer_id;
        world.clock.advance_ms(1_000);
        let body = Repay {
            settlement_id: settled.settlement_id.clone(),
            owner_user_id: Some(7),
            owner_guest_scope: None,
            amount_msats: None,
            idempotency_key: "k".into(),
        };
        world.call::<CreditRepay>(&operator(), Nothing {}, Nothing {}, body).await.expect("repaid");
        let path = OfferPath { offer_id };
        let told = world.call::<CreditExplain>(&operator(), path, Nothing {}, Nothing {}).await;
        let told = told.expect("explained").1;
        assert!(told.replay_matches, "{} {}", told.audit, told.replayed_inputs);
        assert_eq!(told.audit["inputs"]["defaultCount30d"], json!(1));
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_collected_is_asked_for_again_and_one_bad_row_stops_no_other() {
    on_each(strict, Mood::Pays, async |world: World, _| {
        use oa_contract::{matrix::BudgetsSet, wire::budgets::SetBudget};
        deposited(&world, 9_000_000).await;
        owned(&world, 7).await;
        lending(&world, vec![user(7, 100_000)], 100_000).await;
        let limit = async |msats: u64| {
            let limit_msats = Msats::new(msats).expect("msats");
            let body = SetBudget { owner_user_id: Some(7), limit_msats, ..SetBudget::default() };
            world.call::<BudgetsSet>(&operator(), Nothing {}, Nothing {}, body).await.expect("set");
        };
        limit(0).await;
        let mut settled = Vec::new();
        for name in ["1", "2"] {
            let id = enveloped(&world, name, 200).await;
            verified(&world, &format!("stl_{name}"), name, name, 100_000, true).await;
            let body = evidenced(&id, &invoice(name, 100_000), name);
            settled.push(settle(&world, body).await.expect("settled").settlement_id);
        }
        settled.sort();
        // The first loan lost its envelope: nobody can say what became of it.
        world.clock.advance_ms((1_800 + 86_400) * 1_000);
        let spoil = async |tx: &mut Tx, id: &String| {
            let row = oa_store::tables::credit_sums::loan(tx, id).await?.expect("a loan");
            let row = oa_store::tables::credit_sums::LoanRow { envelope_id: "cepe_gone".into(), ..row };
            oa_store::tables::credit_sums::put_loan(tx, &row).await
        };
        // What is written once is not changed by that, so the seal no longer fits.
        world.runtime.store.write("test.spoil", (), settled[0].clone(), spoil).await.expect("spoilt");
        assert!(crate::background::credit::sweep_once(&world.runtime).await.is_err(), "it is told");
        assert_eq!(loan(&world, &settled[1]).await.status, LoanStatus::Defaulted);
        limit(1_000_000).await;
        world.clock.advance_ms(86_400_000);
        assert!(crate::background::credit::sweep_once(&world.runtime).await.is_err());
        assert_eq!(loan(&world, &settled[1]).await.status, LoanStatus::Repaid, "the owner can pay now");
    })
    .await;
}
