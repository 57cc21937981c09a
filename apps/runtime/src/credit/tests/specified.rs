//! The acceptance scenarios C1 to C14 of credit-fx §11, where callers are believed.

use oa_contract::{
    Code,
    signer::Signer,
    wire::credit::{EnvelopeStatus, OfferStatus, Outcome},
};

use super::*;
use crate::testing::{bound_to, refused};

#[tokio::test]
async fn c1_a_settlement_pays_once_and_is_answered_the_same() {
    on_each(lenient, Mood::Pays, async |world: World, purse: Arc<Purse>| {
        let id = enveloped(&world, "job-7", 10_000).await;
        let first = settle(&world, settlement(&id, "lnbc420n1test")).await.expect("settled");
        assert_eq!((first.outcome, first.spent_sats, first.fee_sats), (Outcome::Success, 42, 1));
        assert_eq!(first.liquidity_receipt_sha256.as_ref().map(String::len), Some(64));
        assert_eq!(first.receipt["max_sats"], Value::Null);
        assert_eq!(first.receipt["spent_sats"], json!(42), "whole numbers stay whole");
        world.clock.advance_ms(7_200_000);
        assert_eq!(settle(&world, settlement(&id, "lnbc420n1test")).await.expect("again"), first);
        assert_eq!(purse.asked(), 1);
        let other = settle(&world, settlement(&id, "lnbc430n1test")).await;
        assert_eq!(
            refused(other).message,
            "settlement already exists for envelope with different parameters"
        );
        assert_eq!(purse.asked(), 1);
        adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn c3_what_was_not_verified_is_not_paid() {
    on_each(lenient, Mood::Pays, async |world: World, purse: Arc<Purse>| {
        let id = enveloped(&world, "job-7", 1_000).await;
        let settled = settle(&world, failing(&id)).await.expect("settled");
        assert_eq!((settled.outcome, settled.spent_sats), (Outcome::Failed, 0));
        assert_eq!(settled.receipt["schema"], "openagents.credit.default_notice.v1");
        assert_eq!(settled.receipt["reason"], "verification_failed");
        assert_eq!(settle(&world, failing(&id)).await.expect("again"), settled);
        assert_eq!((purse.asked(), exposure(&world).await.loss_count_30d), (0, 1));
        adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn c4_an_envelope_whose_time_is_over_is_a_default() {
    on_each(lenient, Mood::Pays, async |world: World, purse: Arc<Purse>| {
        let body = AskOffer { exp: BEGIN.plus_seconds(1), ..asking("job-7", 1_000) };
        let offer = offer(&world, body).await.expect("offered");
        let id = envelope(&world, &offer.offer_id, "c").await.expect("issued").envelope.envelope_id;
        world.clock.advance_ms(2_000);
        assert_eq!(crate::background::credit::sweep_once(&world.runtime).await.expect("swept"), (1, 0));
        let settled = settle(&world, settlement(&id, "lnbc420n1test")).await.expect("settled");
        assert_eq!((settled.outcome, purse.asked()), (Outcome::Expired, 0));
        assert_eq!(settled.receipt["reason"], "expired");
        adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn c5_an_offer_is_for_one_provider() {
    on_each(lenient, Mood::Pays, async |world: World, _| {
        let offered = offer(&world, asking("job-7", 1_000)).await.expect("offered");
        let first = envelope(&world, &offered.offer_id, "c").await.expect("issued");
        assert_eq!(envelope(&world, &offered.offer_id, "C").await.expect("the same"), first);
        let other = refused(envelope(&world, &offered.offer_id, "d").await);
        assert_eq!((other.code, other.message.as_str()), (Code::Conflict, "offer is not in offered status"));
        let again = offer(&world, asking("job-7", 1_000)).await.expect("the same");
        assert_eq!((again.offer_id, again.status), (offered.offer_id, OfferStatus::Accepted));
        assert_eq!(refused(envelope(&world, "none", "c").await).code, Code::NotFound);
        let settled = settle(&world, failing(&first.envelope.envelope_id)).await;
        assert!(settled.is_ok());
        let after = envelope(&world, &first.envelope.offer_id, "c").await.expect("as it stands");
        assert_eq!((after.envelope.status, after.receipt), (EnvelopeStatus::Defaulted, first.receipt));
    })
    .await;
}

#[tokio::test]
async fn c6_no_more_than_the_policy_allows_and_every_wrong_word_has_its_sentence() {
    let small = || {
        let mut config = lenient();
        config.credit.max_sats_per_envelope = 900;
        config
    };
    on_each(small, Mood::Pays, async |world: World, _| {
        let said = async |body: AskOffer| refused(offer(&world, body).await).message;
        assert_eq!(said(asking("s", 901)).await, "max_sats exceeds max_sats_per_envelope (900)");
        assert_eq!(said(asking("s", 0)).await, "max_sats must be > 0");
        assert_eq!(said(asking(" ", 1)).await, "scope_id is required");
        let keys = "agent_id/pool_id/provider_id must be 64-char hex pubkeys";
        assert_eq!(said(AskOffer { agent_id: "z".repeat(64), ..asking("s", 1) }).await, keys);
        assert_eq!(said(AskOffer { pool_id: "b".into(), ..asking("s", 1) }).await, keys);
        assert_eq!(
            said(AskOffer { schema: "x".into(), ..asking("s", 1) }).await,
            "schema must be openagents.credit.offer_request.v1"
        );
        assert_eq!(said(AskOffer { exp: BEGIN, ..asking("s", 1) }).await, "exp must be in the future");
        assert_eq!(
            said(AskOffer { exp: BEGIN.plus_seconds(3_601), ..asking("s", 1) }).await,
            "exp exceeds max_offer_ttl_seconds (3600)"
        );
        let said = async |body: DeclareIntent| refused(intent(&world, body).await).message;
        assert_eq!(
            said(DeclareIntent { policy_context: Some(json!(1)), ..declaring("k", 1) }).await,
            "hydra_proto_contract: CreditIntentRequestV1.policy_context must be a JSON object"
        );
        assert_eq!(said(declaring(" ", 1)).await, "idempotency_key is required");
        let id = enveloped(&world, "s", 900).await;
        let said = async |body: SettleEnvelope| refused(settle(&world, body).await).message;
        let blank = || " ".to_owned();
        let body = || settlement(&id, "lnbc420n1test");
        assert_eq!(said(SettleEnvelope { envelope_id: blank(), ..body() }).await, "envelope_id is required");
        assert_eq!(
            said(SettleEnvelope { verification_receipt_sha256: blank(), ..body() }).await,
            "verification_receipt_sha256 is required"
        );
        assert_eq!(
            said(SettleEnvelope { policy_context: Some(json!("x")), ..body() }).await,
            "hydra_proto_contract: CreditSettleRequestV1.policy_context must be a JSON object"
        );
        assert_eq!(
            said(SettleEnvelope { provider_invoice: blank(), ..body() }).await,
            "provider_invoice is required"
        );
        assert_eq!(
            said(SettleEnvelope { provider_host: blank(), ..body() }).await,
            "provider_host is required"
        );
        assert_eq!(
            said(settlement(&id, "lnbc1amountless")).await,
            "provider_invoice must be a bolt11 with amount"
        );
        assert_eq!(said(settlement(&id, "lnbc9001n1x")).await, "invoice exceeds envelope max_sats");
        assert_eq!(refused(settle(&world, settlement("none", "x")).await).code, Code::NotFound);
    })
    .await;
}

#[tokio::test]
async fn c7_a_payment_that_failed_leaves_the_envelope_open_and_can_be_tried_again() {
    on_each(lenient, Mood::Refuses, async |world: World, purse: Arc<Purse>| {
        let id = enveloped(&world, "job-7", 1_000).await;
        let body = || settlement(&id, "lnbc420n1test");
        for asked in 1..=2 {
            let refusal = refused(settle(&world, body()).await);
            assert_eq!(refusal.code, Code::DependencyUnavailable);
            assert_eq!(refusal.message, "liquidity pay failed: failed Some(\"no_route\")");
            assert_eq!(purse.asked(), asked, "what surely failed is tried again");
        }
        assert_eq!(exposure(&world).await.open_envelope_count, 1);
        purse.turn(Mood::Pays);
        assert_eq!(settle(&world, body()).await.expect("settled").outcome, Outcome::Success);
        assert_eq!((purse.asked(), health(&world).await.ln_fail_count), (3, 2));
        adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn c8_and_c9_an_intent_bounds_its_offers() {
    on_each(lenient, Mood::Pays, async |world: World, _| {
        let first = intent(&world, declaring("k", 5_000)).await.expect("declared");
        assert_eq!(intent(&world, declaring("k", 5_000)).await.expect("the same"), first);
        assert_eq!(
            refused(intent(&world, declaring("k", 5_001)).await).message,
            "intent idempotency key reused with different intent parameters"
        );
        let of = |body: AskOffer| AskOffer { intent_id: Some(first.intent.intent_id.clone()), ..body };
        let said = async |body: AskOffer| refused(offer(&world, of(body)).await).message;
        assert_eq!(said(asking("job-7", 5_001)).await, "intent mismatch: max_sats exceeds intent");
        assert_eq!(said(asking("other", 1)).await, "intent mismatch: scope differs");
        let other = AskOffer { agent_id: key("d"), ..asking("job-7", 1) };
        assert_eq!(said(other).await, "intent mismatch: agent_id differs");
        let longer = AskOffer { exp: BEGIN.plus_seconds(1_801), ..asking("job-7", 1) };
        assert_eq!(said(longer).await, "intent mismatch: exp exceeds intent");
        assert!(offer(&world, of(asking("job-7", 4_500))).await.is_ok());
        let unknown = AskOffer { intent_id: Some("cepi_none".into()), ..asking("job-7", 1) };
        assert_eq!(refused(offer(&world, unknown).await).code, Code::NotFound);
        world.clock.advance_ms(3_600_000);
        assert_eq!(intent(&world, declaring("k", 5_000)).await.expect("for ever"), first);
    })
    .await;
}

#[tokio::test]
async fn c10_an_agent_has_so_many_envelopes_open() {
    let one = || {
        let mut config = lenient();
        config.credit.max_outstanding_envelopes_per_agent = 1;
        config
    };
    on_each(one, Mood::Pays, async |world: World, _| {
        enveloped(&world, "one", 100).await;
        let second = offer(&world, asking("two", 100)).await.expect("offered");
        let refusal = refused(envelope(&world, &second.offer_id, "c").await);
        assert_eq!(
            (refusal.code, refusal.message.as_str()),
            (Code::Conflict, "max outstanding envelopes exceeded")
        );
        assert_eq!(refused(envelope(&world, &second.offer_id, "zz").await).code, Code::InvalidRequest);
        world.clock.advance_ms(1_800_000);
        assert_eq!(refused(envelope(&world, &second.offer_id, "c").await).message, "offer expired");
    })
    .await;
}

#[tokio::test]
async fn c11_losses_halt_new_envelopes() {
    let nervous = || {
        let mut config = lenient();
        config.credit.circuit_breaker_min_sample = 2;
        config.credit.loss_rate_halt_threshold = 0.10;
        config
    };
    on_each(nervous, Mood::Pays, async |world: World, _| {
        for scope in ["one", "two"] {
            let id = enveloped(&world, scope, 100).await;
            settle(&world, failing(&id)).await.expect("settled");
        }
        let told = health(&world).await;
        assert!(told.breakers.halt_new_envelopes && !told.breakers.halt_large_settlements);
        assert_eq!((told.settlement_sample, told.loss_count), (2, 2));
        let third = offer(&world, asking("three", 100)).await.expect("offers are never halted");
        let refusal = refused(envelope(&world, &third.offer_id, "c").await);
        assert_eq!(
            (refusal.code, refusal.message.as_str()),
            (Code::DependencyUnavailable, "credit circuit breaker: halt_new_envelopes")
        );
        world.clock.advance_ms(21_600_001);
        assert!(!health(&world).await.breakers.halt_new_envelopes, "the window has moved on");
    })
    .await;
}

#[tokio::test]
async fn c12_a_default_lowers_what_is_offered() {
    let steep = || {
        let mut config = lenient();
        config.credit.underwriting_base_sats = 20_000;
        config.credit.underwriting_k = 0.0;
        config.credit.underwriting_default_penalty_multiplier = 5.0;
        config
    };
    on_each(steep, Mood::Pays, async |world: World, _| {
        let first = offer(&world, asking("one", 100_000)).await.expect("offered");
        let id = envelope(&world, &first.offer_id, "c").await.expect("issued").envelope.envelope_id;
        settle(&world, failing(&id)).await.expect("settled");
        let second = offer(&world, asking("two", 100_000)).await.expect("offered");
        assert_eq!((first.max_sats, second.max_sats, second.fee_bps), (20_000, 3_333, 1_000));
    })
    .await;
}

#[tokio::test]
async fn c13_failed_payments_halt_large_settlements() {
    let nervous = || {
        let mut config = lenient();
        config.credit.circuit_breaker_min_sample = 1;
        config.credit.ln_failure_rate_halt_threshold = 0.01;
        config.credit.ln_failure_large_settlement_cap_sats = 100;
        config
    };
    for mood in [Mood::Refuses, Mood::Silent] {
        on_each(nervous, mood, async |world: World, purse: Arc<Purse>| {
            let id = enveloped(&world, "one", 1_000).await;
            let first = refused(settle(&world, settlement(&id, "lnbc500n1x")).await);
            let code = if mood == Mood::Silent { Code::Conflict } else { Code::DependencyUnavailable };
            assert_eq!((first.code, purse.asked()), (code, 1));
            for id in [id, enveloped(&world, "two", 500).await] {
                let refusal = refused(settle(&world, settlement(&id, "lnbc2500n1x")).await);
                assert_eq!(refusal.message, "credit circuit breaker: halt_large_settlements");
                assert_eq!((refusal.code, purse.asked()), (Code::DependencyUnavailable, 1));
            }
        })
        .await;
    }
}

#[tokio::test]
async fn c14_the_policy_in_force_is_told_and_a_new_agent_has_its_figures() {
    let other = || {
        let mut config = lenient();
        config.credit.min_fee_bps = 77;
        config
    };
    on_each(other, Mood::Pays, async |world: World, _| {
        let told = serde_json::to_value(health(&world).await).expect("JSON");
        assert_eq!(told["policy"]["min_fee_bps"], 77);
        assert_eq!(told["policy"].as_object().expect("an object").len(), 17);
        assert!(told["settlement_sample"].is_u64());
        let exposure = exposure(&world).await;
        assert_eq!((exposure.underwriting_limit_sats, exposure.underwriting_fee_bps), (2_000, 77));
        assert_eq!(exposure.agent_id, key("a"), "keys are kept in lower case");
        let path = AgentPath { agent_id: "x".into() };
        let asked = world.call::<CreditExposure>(&operator(), path, Nothing {}, Nothing {}).await;
        assert_eq!(refused(asked).code, Code::InvalidRequest);
    })
    .await;
}

/// The same, of an agent whose key signs for this user.
fn signed(user: u64, agent: &Signer, body: DeclareIntent) -> DeclareIntent {
    let mut body = DeclareIntent { agent_id: agent.public_key_hex(), ..body };
    let context = body.policy_context.clone().unwrap_or_else(|| json!({}));
    let fingerprint = crate::credit::receipts::intent_fingerprint(&body, &context);
    let digest = crate::credit::claim_sha256(&oa_contract::Owner::User(user), &fingerprint);
    let digest = oa_contract::canonical::unhex(&digest).expect("a digest");
    body.agent_signature = Some(oa_contract::canonical::hex(&agent.sign_digest(&digest)));
    body
}

async fn declare(world: &World, user: u64, body: DeclareIntent) -> Result<IntentReply, Stop> {
    world.call::<CreditIntent>(&bound_to(user), Nothing {}, Nothing {}, body).await.map(|(_, reply)| reply)
}

#[tokio::test]
async fn an_agent_is_whose_its_own_key_says() {
    on_each(strict, Mood::Pays, async |world: World, _| {
        let agent = Signer::from_secret(&"2a".repeat(32)).expect("a key");
        let other = Signer::from_secret(&"2b".repeat(32)).expect("a key");
        let mine = |key: &str| DeclareIntent { agent_id: agent.public_key_hex(), ..declaring(key, 10) };
        // Keys are no secrets: nobody has one by naming it, or by what it has signed for somebody else.
        assert_eq!(refused(declare(&world, 8, mine("k")).await).code, Code::Forbidden);
        let first = declare(&world, 7, signed(7, &agent, declaring("k", 10))).await.expect("declared");
        assert_eq!(declare(&world, 7, mine("k")).await.expect("the same"), first);
        let copied = signed(7, &agent, declaring("k2", 10));
        assert_eq!(refused(declare(&world, 8, copied).await).code, Code::Forbidden);
        let forged = DeclareIntent { agent_id: agent.public_key_hex(), ..signed(8, &other, mine("k2")) };
        assert_eq!(refused(declare(&world, 8, forged).await).code, Code::Forbidden);
        assert!(declare(&world, 7, mine("k3")).await.is_ok(), "once is enough");
        let path = || AgentPath { agent_id: agent.public_key_hex() };
        let look = async |user: u64| {
            world.call::<CreditExposure>(&bound_to(user), path(), Nothing {}, Nothing {}).await
        };
        assert!(look(7).await.is_ok());
        assert_eq!(refused(look(8).await).code, Code::Forbidden);
        // The key spaces of owners are their own.
        let theirs = declare(&world, 8, signed(8, &other, declaring("k", 11))).await.expect("declared");
        assert_ne!(theirs.intent.intent_id, first.intent.intent_id);
        let asked = AskOffer { agent_id: agent.public_key_hex(), ..asking("s", 10) };
        let offered = offer(&world, asked).await.expect("offered");
        let body = || IssueEnvelope {
            schema: "openagents.credit.envelope_request.v1".into(),
            offer_id: offered.offer_id.clone(),
            provider_id: key("c"),
        };
        let issue = async |user: u64| {
            world.call::<CreditEnvelope>(&bound_to(user), Nothing {}, Nothing {}, body()).await
        };
        assert_eq!(refused(issue(8).await).code, Code::NotFound);
        // Whoever has the key may take it elsewhere.
        declare(&world, 8, signed(8, &agent, declaring("k9", 10))).await.expect("declared");
        assert_eq!(refused(issue(7).await).code, Code::NotFound);
        assert_eq!(refused(look(7).await).code, Code::Forbidden);
    })
    .await;
}

#[tokio::test]
async fn an_agent_that_is_nobodys_is_no_owners_to_act_for() {
    on_each(strict, Mood::Pays, async |world: World, _| {
        deposited(&world, 2_000_000).await;
        let offered = offer(&world, asking("s", 10)).await.expect("offered");
        let asked = world.call::<CreditOffer>(&bound_to(8), Nothing {}, Nothing {}, asking("s2", 10)).await;
        assert_eq!(refused(asked).code, Code::Forbidden);
        let body = IssueEnvelope {
            schema: "openagents.credit.envelope_request.v1".into(),
            offer_id: offered.offer_id.clone(),
            provider_id: key("c"),
        };
        let asked = world.call::<CreditEnvelope>(&bound_to(8), Nothing {}, Nothing {}, body).await;
        assert_eq!(refused(asked).code, Code::NotFound);
        let id = envelope(&world, &offered.offer_id, "c").await.expect("issued").envelope.envelope_id;
        let asked = world.call::<CreditSettle>(&bound_to(8), Nothing {}, Nothing {}, failing(&id)).await;
        assert_eq!(refused(asked).code, Code::NotFound, "and nobody closes it as a default");
    })
    .await;
}
