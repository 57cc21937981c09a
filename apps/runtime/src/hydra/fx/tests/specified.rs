//! The acceptance scenarios F1 to F9 of credit-fx §11, where callers are believed.

use oa_contract::{Caller, Code, Owner, wire::fx::FxSettlementStatus};

use super::*;
use crate::testing::{bound_to, refused};

#[tokio::test]
async fn f1_a_request_is_normalised_and_repeated() {
    on_each(lenient, async |world: World| {
        let rfq = open(&world, opening("k")).await.expect("opened");
        assert!(rfq.rfq_id.starts_with("fxrfq_") && rfq.rfq_id.len() == 38);
        assert_eq!((rfq.status, rfq.expires_at_unix), (RfqStatus::Open, rfq.created_at_unix + 30));
        assert_eq!(get(&world, &rfq.rfq_id).await.sell.asset, "USD");
        world.clock.advance_ms(1_000);
        assert_eq!(open(&world, opening("k")).await.expect("again").rfq_id, rfq.rfq_id);
        let changed = OpenRfq { max_fee_bps: 59, ..opening("k") };
        let refusal = refused(open(&world, changed).await);
        assert_eq!(
            (refusal.code, refusal.message.as_str()),
            (Code::Conflict, "idempotency key replay with different request payload")
        );
        assert_ne!(open(&world, opening("other")).await.expect("another").rfq_id, rfq.rfq_id);
    })
    .await;
}

#[tokio::test]
async fn f2_a_pair_outside_the_list_is_forbidden() {
    on_each(lenient, async |world: World| {
        let refusal = refused(open(&world, OpenRfq { buy_asset: "eur".into(), ..opening("k") }).await);
        assert_eq!(
            (refusal.code, refusal.message.as_str()),
            (Code::Forbidden, "asset pair not allowed: USD->EUR")
        );
    })
    .await;
}

#[tokio::test]
async fn f3_among_equal_quotes_the_first_provider_by_name_wins() {
    for order in [["provider-a", "provider-b"], ["provider-b", "provider-a"]] {
        on_each(lenient, async |world: World| {
            let rfq = quoted(&world, "r", order.map(|provider| (provider, 2_500_000))).await;
            assert_eq!(status(&world, &rfq).await, RfqStatus::Quoted);
            let selection = select(&world, "s", &rfq.rfq_id, "reputation_first_v0").await.expect("selected");
            assert_eq!(selection.selected.provider_id, "provider-a");
            assert_eq!(selection.selected.status, FxQuoteStatus::Active, "as it was before");
            assert!(selection.selected.constraints["selection"]["weighted_score"].is_u64());
            world.clock.advance_ms(2_000);
            let again = select(&world, "s", &rfq.rfq_id, " ").await.expect("again");
            assert_eq!(again, selection);
            assert_eq!(status(&world, &rfq).await, RfqStatus::Selected);
            let other = select(&world, "s", &rfq.rfq_id, "best_price_v1").await;
            assert_eq!(refused(other).message, "idempotency key replay with different select payload");
        })
        .await;
    }
}

#[tokio::test]
async fn f4_nothing_is_chosen_of_nothing_and_the_key_stays_free() {
    on_each(lenient, async |world: World| {
        let rfq = open(&world, opening("k")).await.expect("opened");
        let refusal = refused(select(&world, "s", &rfq.rfq_id, "").await);
        assert_eq!(
            (refusal.code, refusal.message.as_str()),
            (Code::Conflict, "no eligible FX quotes available for selection")
        );
        quote(&world, "q", offered("q", "provider-a", &rfq)).await.expect("quoted");
        assert!(select(&world, "s", &rfq.rfq_id, "").await.is_ok());
        assert_eq!(refused(select(&world, "s2", "fxrfq_none", "").await).code, Code::NotFound);
    })
    .await;
}

#[tokio::test]
async fn f5_a_settlement_is_released_once_and_answered_the_same() {
    on_each(lenient, async |world: World| {
        let rfq = quoted(&world, "r", [("provider-a", 2_500_000)]).await;
        select(&world, "s", &rfq.rfq_id, "").await.expect("selected");
        let body = || settlement("t", &rfq.rfq_id, "r-provider-a", json!({"release_allowed": true}));
        let settled = settle(&world, body()).await.expect("settled");
        assert_eq!(settled.status, FxSettlementStatus::Released);
        assert_eq!(settled.receipt.canonical_json_sha256.len(), 64);
        assert_eq!(settled.receipt.wallet_receipt, None);
        let proof = settled.proof.as_ref().expect("a proof");
        assert_eq!(
            oa_contract::canonical::canonical_hash(&proof.preimage),
            settled.receipt.canonical_json_sha256
        );
        world.clock.advance_ms(3_600_000);
        assert_eq!(settle(&world, body()).await.expect("again"), settled);
        let other_key = SettleFx { idempotency_key: "t2".into(), ..body() };
        assert_eq!(settle(&world, other_key).await.expect("again"), settled);
        let mut other = body();
        other.policy_context = Some(json!({}));
        assert_eq!(
            refused(settle(&world, other).await).message,
            "idempotency key replay with different settle payload"
        );
        let mut other = SettleFx { idempotency_key: "t3".into(), ..body() };
        other.policy_context = Some(json!({"release_allowed": false}));
        assert_eq!(refused(settle(&world, other).await).message, "treasury settlement conflict");
        assert_eq!(status(&world, &rfq).await, RfqStatus::Settled);
        assert_eq!(account(&world, "autopilot:user-1", "BTC_LN", "msats").await.1, 2_500_000);
        assert_eq!(account(&world, "provider-a", "USD", "cents").await.1, 100_000);
        adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn f6_what_is_not_allowed_is_withheld_and_another_quote_may_be_chosen() {
    on_each(lenient, async |world: World| {
        let rfq = quoted(&world, "r", [("provider-a", 2_500_000), ("provider-b", 2_500_000)]).await;
        select(&world, "s", &rfq.rfq_id, "").await.expect("selected");
        let body = settlement("t", &rfq.rfq_id, "r-provider-a", json!({"release_allowed": false}));
        let settled = settle(&world, body).await.expect("settled");
        assert_eq!(settled.status, FxSettlementStatus::Withheld);
        assert_eq!(settled.withheld_reason.as_deref(), Some("price_integrity_failed"));
        assert_eq!(status(&world, &rfq).await, RfqStatus::Withheld);
        assert_eq!(account(&world, "autopilot:user-1", "USD", "cents").await.2, 0, "nothing is held");
        let again = select(&world, "s2", &rfq.rfq_id, "").await.expect("selected");
        assert_eq!(again.selected.quote_id, "r-provider-b", "the other one is turned down");
        let body = settlement("t2", &rfq.rfq_id, "r-provider-b", json!({}));
        assert_eq!(settle(&world, body).await.expect("settled").status, FxSettlementStatus::Released);
        adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn f7_a_settlement_names_its_own_reservation() {
    on_each(lenient, async |world: World| {
        let rfq = quoted(&world, "r", [("provider-a", 2_500_000)]).await;
        select(&world, "s", &rfq.rfq_id, "").await.expect("selected");
        let mut body = settlement("t", &rfq.rfq_id, "r-provider-a", json!({}));
        let expected = std::mem::replace(&mut body.reservation_id, "rsv_wrong".into());
        let refusal = refused(settle(&world, body).await);
        assert_eq!(refusal.code, Code::Conflict);
        assert_eq!(refusal.message, format!("reservation_id conflict: expected {expected}"));
        let other = quoted(&world, "o", [("provider-b", 2_500_000)]).await;
        let body = settlement("t", &other.rfq_id, "r-provider-a", json!({}));
        let refusal = refused(settle(&world, body).await);
        assert_eq!(refusal.message, "quote.rfq_id does not match settle.rfq_id");
        for (rfq_id, quote_id) in [("none", "r-provider-a"), (rfq.rfq_id.as_str(), "none")] {
            let body = settlement("t", rfq_id, quote_id, json!({}));
            assert_eq!(refused(settle(&world, body).await).code, Code::NotFound);
        }
    })
    .await;
}

#[tokio::test]
async fn f8_a_quote_whose_time_is_over_is_withheld() {
    let quick = || {
        let mut config = lenient();
        config.fx.min_quote_validity_seconds = 0;
        config
    };
    on_each(quick, async |world: World| {
        let rfq = open(&world, opening("k")).await.expect("opened");
        let mut short = offered("q", "provider-a", &rfq);
        short.valid_until_unix = rfq.created_at_unix + 1;
        quote(&world, "q", short).await.expect("quoted");
        select(&world, "s", &rfq.rfq_id, "").await.expect("selected");
        world.clock.advance_ms(2_000);
        let body = || settlement("t", &rfq.rfq_id, "q", json!({"release_allowed": true}));
        let settled = settle(&world, body()).await.expect("settled");
        assert_eq!(settled.status, FxSettlementStatus::Withheld);
        assert_eq!(settled.withheld_reason.as_deref(), Some("verification_failed"));
        assert_eq!(settle(&world, body()).await.expect("again"), settled);
        adds_up(&world).await;
    })
    .await;
}

#[tokio::test]
async fn what_was_answered_stays_answered_when_the_policy_has_changed() {
    on_each(lenient, async |world: World| {
        let rfq = open(&world, opening("k")).await.expect("opened");
        told(&world, "desk", 2_600).await;
        let first = quote(&world, "q", offered("q", "provider-a", &rfq)).await.expect("quoted");
        told(&world, "desk", 2_700).await;
        world.clock.advance_ms(1_000);
        let again = quote(&world, "q", offered("q", "provider-a", &rfq)).await.expect("the same again");
        assert!(first.rate.is_some() && again == first, "the rate that it was answered with");
        let world = world.restart_with(|config| config.fx.max_fee_bps = 10).await;
        assert_eq!(open(&world, opening("k")).await.expect("the same again"), rfq);
        let refusal = refused(open(&world, opening("new")).await);
        assert_eq!(
            (refusal.code, refusal.message.as_str()),
            (Code::Forbidden, "max_fee_bps exceeds policy max 10")
        );
        let other = OpenRfq { max_fee_bps: 59, ..opening("k") };
        assert_eq!(refused(open(&world, other).await).code, Code::Conflict, "known before it is judged");
    })
    .await;
}

#[tokio::test]
async fn f9_what_was_exchanged_is_counted_once() {
    on_each(lenient, async |world: World| {
        for (name, provider, spread, allowed) in
            [("one", "provider-a", 40, true), ("two", "provider-b", 60, false)]
        {
            let rfq = open(&world, opening(name)).await.expect("opened");
            let offer = || OfferedFxQuote { spread_bps: spread, ..offered(name, provider, &rfq) };
            for key in [name.to_owned(), format!("{name} again")] {
                quote(&world, &key, offer()).await.expect("quoted");
            }
            select(&world, name, &rfq.rfq_id, "").await.expect("selected");
            for key in [name.to_owned(), format!("{name} again")] {
                let body = settlement(&key, &rfq.rfq_id, name, json!({"release_allowed": allowed}));
                settle(&world, body).await.expect("settled");
            }
        }
        let seen = observed(&world).await;
        let counters = fx_sums::Counters { rfqs: 2, quotes: 2, settlements: 2, withheld: 1, providers: 2 };
        assert_eq!(seen.counters, counters);
        assert_eq!((seen.spread_bps_average, seen.spread_bps_median), (50.0, 40.0));
    })
    .await;
}

#[tokio::test]
async fn a_quote_is_kept_as_it_was_given_first() {
    on_each(strict, async |world: World| {
        let rfq = open(&world, opening("k")).await.expect("opened");
        let padded = OfferedFxQuote {
            rfq_id: format!(" {} ", rfq.rfq_id),
            quote_id: " q ".into(),
            ..offered("q", "provider-a", &rfq)
        };
        let first = quote(&world, "k", padded).await.expect("quoted").quote;
        assert_eq!((first.quote_id.as_str(), first.rfq_id.as_str()), ("q", rfq.rfq_id.as_str()));
        let again = quote(&world, "k2", offered("q", "provider-a", &rfq)).await.expect("the same").quote;
        assert_eq!(again, first);
        let other = OfferedFxQuote { fee_bps: 19, ..offered("q", "provider-a", &rfq) };
        assert_eq!(
            refused(quote(&world, "k3", other.clone()).await).message,
            "quote_id already exists with different immutable quote payload"
        );
        assert_eq!(
            refused(quote(&world, "k2", other).await).message,
            "idempotency key replay with different quote payload"
        );
        select(&world, "s", &rfq.rfq_id, "").await.expect("selected");
        let chosen = quote(&world, "k2", offered("q", "provider-a", &rfq)).await.expect("the same").quote;
        assert_eq!((chosen.status, &chosen.quote_sha256), (FxQuoteStatus::Selected, &first.quote_sha256));
        let unknown = OfferedFxQuote { rfq_id: "none".into(), ..offered("z", "provider-a", &rfq) };
        assert_eq!(refused(quote(&world, "k4", unknown).await).code, Code::NotFound);
        assert_eq!(get(&world, &rfq.rfq_id).await.quotes_total, 1);
    })
    .await;
}

#[tokio::test]
async fn a_request_whose_time_is_over_takes_no_quote_and_no_choice() {
    on_each(strict, async |world: World| {
        let rfq = quoted(&world, "r", [("provider-a", 2_500_000)]).await;
        world.clock.advance_ms(30_000);
        assert_eq!(status(&world, &rfq).await, RfqStatus::Expired);
        let mut late = offered("late", "provider-b", &rfq);
        late.valid_until_unix += 100;
        assert_eq!(refused(quote(&world, "late", late).await).message, "rfq expired");
        assert_eq!(refused(select(&world, "s", &rfq.rfq_id, "").await).message, "rfq expired");
        let swept = crate::background::fx::sweep_once(&world.runtime);
        assert_eq!(swept.await.expect("swept"), 1);
        assert_eq!(crate::background::fx::sweep_once(&world.runtime).await.expect("swept"), 0);
        assert_eq!(status(&world, &rfq).await, RfqStatus::Expired);
    })
    .await;
}

#[tokio::test]
async fn a_request_is_its_requesters_alone() {
    on_each(strict, async |world: World| {
        let body = || OpenRfq { requester_id: "user:7".into(), ..opening("k") };
        let open_as = async |caller: &Caller| {
            world.call::<HydraFxRfq>(caller, Nothing {}, Nothing {}, body()).await.map(|(_, reply)| reply.rfq)
        };
        assert_eq!(refused(open_as(&bound_to(8)).await).code, Code::Forbidden);
        let rfq = open_as(&bound_to(7)).await.expect("opened");
        // The key spaces of callers are their own.
        assert_ne!(open_as(&operator()).await.expect("opened").rfq_id, rfq.rfq_id);
        let path = || RfqPath { rfq_id: rfq.rfq_id.clone() };
        let look =
            async |caller: &Caller| world.call::<HydraFxGet>(caller, path(), Nothing {}, Nothing {}).await;
        assert!(look(&bound_to(7)).await.is_ok() && look(&operator()).await.is_ok());
        assert_eq!(refused(look(&bound_to(8)).await).code, Code::NotFound);
        let select = SelectFxQuote {
            schema: "openagents.hydra.fx_select_request.v1".into(),
            idempotency_key: "s".into(),
            rfq_id: rfq.rfq_id.clone(),
            policy: String::new(),
        };
        let asked = world.call::<HydraFxSelect>(&bound_to(8), Nothing {}, Nothing {}, select).await;
        assert_eq!(refused(asked).code, Code::NotFound);
        let settle = settlement("t", &rfq.rfq_id, "q", json!({}));
        let asked = world.call::<HydraFxSettle>(&bound_to(8), Nothing {}, Nothing {}, settle).await;
        assert_eq!(refused(asked).code, Code::NotFound);
        assert_eq!(Owner::parse(&rfq.requester_id), Some(Owner::User(7)));
    })
    .await;
}
