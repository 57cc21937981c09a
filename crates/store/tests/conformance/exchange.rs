//! What both engines promise of exchanges and of credit: rows come back as they were written, what is due is found, and
//! what may be there once is there once.

use oa_contract::{
    Msats,
    instant::Timestamp,
    refusal::Stop,
    wire::{
        credit::{Envelope, EnvelopeStatus, LoanStatus, Outcome, ScopeType},
        fx::{FxMoney, FxQuote, FxQuoteStatus, Rfq, RfqStatus},
    },
};
use oa_store::{
    Store, Tx,
    tables::{
        credit::{self, EnvelopeRow, SettlementRow},
        credit_sums::{self, Debts, Ended, LoanRow, Whose},
        fx::{self, QuoteRow, RfqRow},
        fx_sums::{self, Counters},
    },
};
use serde_json::json;

use crate::harness::{Place, fault};

const NOW: Timestamp = Timestamp::from_unix_seconds(1_700_000_000);
const UNIX: u64 = 1_700_000_000;

async fn write<T: Send + 'static>(
    store: &Store,
    act: impl AsyncFn(&mut Tx, &()) -> Result<T, Stop> + Send + Sync + Clone + 'static,
) -> Result<T, Stop> {
    store.write("write", (), (), act).await
}

fn money(asset: &str, amount: u64) -> FxMoney {
    FxMoney { asset: asset.into(), amount, unit: "units".into() }
}

fn rfq(id: &str, status: RfqStatus, expires: u64) -> RfqRow {
    RfqRow {
        rfq: Rfq {
            rfq_id: id.into(),
            requester_id: "a".into(),
            budget_scope_id: "b".into(),
            sell: money("USD", u64::try_from(i64::MAX).expect("a number")),
            buy_asset: "BTC_LN".into(),
            min_buy_amount: 1,
            max_spread_bps: 1,
            max_fee_bps: 1,
            max_latency_ms: 1,
            quote_ttl_seconds: 1,
            status: RfqStatus::Open,
            created_at_unix: UNIX,
            expires_at_unix: expires,
            policy_context: json!({"z": 1, "a": 1.5}),
            quotes_total: 0,
            selected_quote_id: None,
            settlement_id: None,
        },
        status,
        quotes: 3,
        selections: 2,
        selected_quote_id: Some("q".into()),
        hold_id: None,
        holds: 1,
        settlement_id: None,
    }
}

fn quote(id: &str, status: FxQuoteStatus) -> QuoteRow {
    QuoteRow {
        quote: FxQuote {
            quote_id: id.into(),
            rfq_id: "r".into(),
            provider_id: "p".into(),
            sell: money("USD", 1),
            buy: money("BTC_LN", 2),
            spread_bps: 1,
            fee_bps: 2,
            latency_ms: 3,
            reliability_bps: 4,
            valid_until_unix: 5,
            status,
            constraints: json!({"z": 1, "a": 2}),
            quote_sha256: "d".into(),
        },
    }
}

pub async fn requests_and_quotes_come_back_as_they_stand(place: Place) {
    let store = place.open().await;
    for status in RfqStatus::ALL {
        let expected = rfq("r", status, UNIX);
        let row = expected.clone();
        let done = write(&store, async move |tx: &mut Tx, (): &()| {
            fx::put_rfq(tx, &row).await?;
            fx::rfq(tx, "r").await
        });
        assert_eq!(done.await.expect("written"), Some(expected));
    }
    for status in FxQuoteStatus::ALL {
        let expected = [quote("q1", status), quote("q2", FxQuoteStatus::Active)];
        let rows = expected.clone();
        let done = write(&store, async move |tx: &mut Tx, (): &()| {
            fx::put_quote(tx, &rows[1]).await?;
            fx::put_quote(tx, &rows[0]).await?;
            fx::quotes_of(tx, "r", 9).await
        });
        assert_eq!(done.await.expect("written"), expected);
    }
    place.end(store).await;
}

pub async fn requests_are_due_when_their_time_is_over_and_nothing_became_of_them(place: Place) {
    let store = place.open().await;
    let found = write(&store, async |tx: &mut Tx, (): &()| {
        for (at, status) in RfqStatus::ALL.into_iter().enumerate() {
            fx::put_rfq(tx, &rfq(&format!("r{at}"), status, UNIX - 1)).await?;
        }
        fx::put_rfq(tx, &rfq("later", RfqStatus::Open, UNIX + 1)).await?;
        let all = fx::due(tx, UNIX, &(0, String::new()), 9).await?;
        Ok((all.clone(), fx::due(tx, UNIX, &all[0], 9).await?))
    });
    let (all, rest) = found.await.expect("found");
    assert_eq!(all, ["r0", "r1", "r2"].map(|id| (UNIX - 1, id.to_owned())));
    assert_eq!(rest, all[1..], "one that cannot be dealt with stops no other");
    place.end(store).await;
}

pub async fn of_a_requests_quotes_one_is_paid(place: Place) {
    let store = place.open().await;
    let settle = |quote_id: &'static str, status: &'static str| {
        let store = &store;
        async move {
            write(store, async move |tx: &mut Tx, (): &()| {
                let row = fx::SettlementRow {
                    quote_id: quote_id.into(),
                    settlement_id: format!("s{quote_id}"),
                    rfq_id: "r".into(),
                    provider_id: "p".into(),
                    status: status.into(),
                    context_sha256: "c".into(),
                    transfer_id: None,
                    reply: "{}".into(),
                    settled_at: NOW,
                };
                fx::insert_settlement(tx, &row).await
            })
            .await
        }
    };
    settle("q1", "withheld").await.expect("withheld");
    settle("q2", "released").await.expect("released");
    fault(settle("q3", "released").await.expect_err("a second one"));
    settle("q4", "withheld").await.expect("withheld");
    place.end(store).await;
}

pub async fn exchanges_are_counted_and_their_median_is_found_without_a_list(place: Place) {
    let store = place.open().await;
    let seen = write(&store, async |tx: &mut Tx, (): &()| {
        for spread in [60, 40, 40, 10, 90] {
            fx_sums::count_spread(tx, spread).await?;
        }
        for rfq_id in ["a", "b", "c", "d"] {
            fx_sums::count(tx, rfq_id, Counters { rfqs: 1, quotes: 2, ..Counters::default() }).await?;
        }
        fx_sums::observed(tx).await
    });
    let seen = seen.await.expect("counted");
    assert_eq!((seen.counters.rfqs, seen.counters.quotes), (4, 8));
    assert_eq!((seen.spread_bps_average, seen.spread_bps_median), (48.0, 40.0));
    place.end(store).await;
}

fn envelope(id: &str, status: EnvelopeStatus, seconds: i64) -> EnvelopeRow {
    EnvelopeRow {
        envelope: Envelope {
            envelope_id: id.into(),
            offer_id: format!("offer of {id}"),
            agent_id: "a".into(),
            pool_id: "b".into(),
            provider_id: "c".into(),
            scope_type: ScopeType::Nip90,
            scope_id: "s".into(),
            max_sats: 100,
            fee_bps: 50,
            exp: NOW.plus_seconds(seconds),
            status,
            issued_at: NOW,
        },
        borrower: "user:1".into(),
        receipt: "{}".into(),
        closed_at: (status != EnvelopeStatus::Accepted).then(|| NOW.plus_seconds(5)),
        hold_id: Some("h".into()),
        holds: 1,
        attempts: 2,
        payment_id: None,
        freed: status != EnvelopeStatus::Accepted,
    }
}

pub async fn envelopes_are_open_at_a_moment_and_found_when_they_are_over(place: Place) {
    let store = place.open().await;
    let found = write(&store, async |tx: &mut Tx, (): &()| {
        let one = envelope("one", EnvelopeStatus::Accepted, 60);
        credit::put_envelope(tx, &one).await?;
        assert_eq!(credit::envelope_of_offer(tx, "offer of one").await?, Some(one));
        credit::put_envelope(tx, &envelope("two", EnvelopeStatus::Settled, 60)).await?;
        let paying =
            EnvelopeRow { payment_id: Some("p".into()), ..envelope("three", EnvelopeStatus::Accepted, 1) };
        credit::put_envelope(tx, &paying).await?;
        let mut open = Vec::new();
        for seconds in [0, 5, 60] {
            let at = NOW.plus_seconds(seconds);
            open.push((credit_sums::open_of_agent(tx, "a", at).await?, credit_sums::open_all(tx, at).await?));
        }
        let now = NOW.plus_seconds(30);
        let mut held = Vec::new();
        for debts in [
            Debts::Agent("a"),
            Debts::Borrower("user:1"),
            Debts::Borrower("user:2"),
            Debts::Pool("b"),
            Debts::BorrowerAt { borrower: "user:1", pool_id: "other" },
            Debts::AgentAt { agent_id: "a", pool_id: "b" },
        ] {
            held.push(credit_sums::committed(tx, debts, now).await?.held_sats);
        }
        let over = NOW.plus_seconds(60);
        let unfreed = credit::unfreed(tx, over, &(Timestamp::from_unix_seconds(0), String::new()), 9).await?;
        let behind = credit::unfreed(tx, over, &unfreed[0], 9).await?;
        assert_eq!(behind, [], "one that cannot be dealt with stops no other");
        Ok((open, held, unfreed))
    });
    let (open, held, over) = found.await.expect("found");
    // What is being paid is held however long that takes.
    assert_eq!(held, [200, 200, 0, 200, 0, 200]);
    let open: Vec<_> = open.iter().map(|(of, all)| (of.count, of.sats, all.count)).collect();
    // What has been closed since was open then; who asks about everybody asks about now.
    assert_eq!(open, [(3, 300, 2), (1, 100, 1), (0, 0, 0)]);
    assert_eq!(over, [(NOW.plus_seconds(60), "one".to_owned())], "never while a payment is under way");
    place.end(store).await;
}

pub async fn settlements_and_debts_are_added_up(place: Place) {
    let store = place.open().await;
    let done = write(&store, async |tx: &mut Tx, (): &()| {
        for (at, outcome) in [Outcome::Success, Outcome::Failed, Outcome::Expired].into_iter().enumerate() {
            let seconds = i64::try_from(at).unwrap_or_default();
            let row = SettlementRow {
                settlement_id: format!("s{at}"),
                envelope_id: format!("e{at}"),
                agent_id: "a".into(),
                pool_id: "b".into(),
                provider_id: "c".into(),
                borrower: format!("user:{at}"),
                outcome,
                spent_sats: 7,
                fee_sats: 1,
                fingerprint: "f".into(),
                reply: "{}".into(),
                created_at: NOW.plus_seconds(seconds),
                recorded_at: NOW.plus_seconds(seconds),
            };
            credit::insert_settlement(tx, &row).await?;
            assert_eq!(credit::settlement(tx, &row.envelope_id).await?, Some(row));
        }
        let loan = LoanRow {
            settlement_id: "s0".into(),
            envelope_id: "e0".into(),
            agent_id: "a".into(),
            pool_id: "b".into(),
            borrower: "user:1".into(),
            account: "x".into(),
            principal: Msats::new(1_000).unwrap_or_default(),
            routing: Msats::new(10).unwrap_or_default(),
            fee: Msats::new(1).unwrap_or_default(),
            repaid: Msats::new(11).unwrap_or_default(),
            repayments: 1,
            status: LoanStatus::Open,
            due_at: NOW,
            opened_at: NOW,
            closed_at: None,
            defaulted_at: None,
        };
        credit_sums::put_loan(tx, &loan).await?;
        assert_eq!(credit_sums::loan(tx, "s0").await?.as_ref(), Some(&loan));
        let due =
            credit_sums::due_loans(tx, NOW, &(Timestamp::from_unix_seconds(0), String::new()), 9).await?;
        assert_eq!(due, [(NOW, "s0".to_owned())]);
        assert_eq!(credit_sums::due_loans(tx, NOW, &due[0], 9).await?, []);
        let owed = credit_sums::owed(tx, "a").await?;
        let at_pool = Debts::BorrowerAt { borrower: "user:1", pool_id: "b" };
        assert_eq!(credit_sums::committed(tx, at_pool, NOW).await?.owed_msats, 1_000);
        let lost =
            LoanRow { status: LoanStatus::Defaulted, closed_at: Some(NOW), defaulted_at: Some(NOW), ..loan };
        credit_sums::put_loan(tx, &lost).await?;
        let from = (Timestamp::from_unix_seconds(0), String::new());
        assert_eq!(credit_sums::overdue(tx, NOW, &from, 9).await?, [(NOW, "s0".to_owned())]);
        let late =
            LoanRow { status: LoanStatus::Repaid, repaid: Msats::new(1_011).unwrap_or_default(), ..lost };
        credit_sums::put_loan(tx, &late).await?;
        assert_eq!(credit_sums::overdue(tx, NOW, &from, 9).await?, []);
        assert_eq!(credit_sums::committed(tx, at_pool, NOW).await?.owed_msats, 0);
        // A default is remembered, also when it was repaid late.
        let by = credit_sums::defaults_of_borrower(tx, "user:1", NOW, NOW, 9).await?;
        let lost = credit_sums::defaults(tx, "a", NOW, NOW, 9).await?;
        assert_eq!(by, lost);
        let then = credit_sums::history(tx, "a", NOW, NOW.plus_seconds(1), 9).await?;
        let since = NOW.plus_seconds(1);
        let mut ended = Vec::new();
        for whose in [Whose::All, Whose::Pool("b"), Whose::Provider("c"), Whose::Agent("b")] {
            let Ended { settlements, losses, bounded_losses } =
                credit_sums::ended(tx, whose, since, 9).await?;
            ended.push((settlements, losses, bounded_losses));
        }
        Ok((owed, lost, then.len(), ended))
    });
    let (owed, lost, then, ended) = done.await.expect("added up");
    assert_eq!((owed, lost, then), (1_000, vec![NOW], 2), "what was written later was not known then");
    assert_eq!(ended, [(2, 2, 2), (2, 2, 2), (2, 2, 2), (0, 0, 0)]);
    let again = write(&store, async |tx: &mut Tx, (): &()| {
        let known = credit::settlement(tx, "e0").await?;
        let other = known.map(|row| SettlementRow { settlement_id: "another".into(), ..row });
        credit::insert_settlement(tx, &other.unwrap_or_else(|| unreachable!("it is there"))).await
    });
    fault(again.await.expect_err("an envelope is settled once"));
    place.end(store).await;
}
