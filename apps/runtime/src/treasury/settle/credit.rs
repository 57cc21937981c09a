//! Decides how a job is paid through a credit envelope (§10.5): a pool pays the provider's invoice on the agent's behalf,
//! and whoever the job is for pays the pool back from what was reserved. It runs between two transactions of the
//! settlement: the first reserves and leaves the verification as evidence, the last records what came of it.

use oa_contract::{
    Caller, Code, Fault, Owner, Refusal, Stop, Timestamp,
    wire::{
        credit::{
            AskOffer, CreditSettlement, ENVELOPE_REQUEST, IssueEnvelope, OFFER_REQUEST, Outcome,
            SETTLE_REQUEST, ScopeType, SettleEnvelope,
        },
        treasury::CepTerms,
    },
};
use oa_ledger::{AccountId, Capture, Hold, Order, TransferId, budget::Reservation};
use oa_lightning::bolt11;
use oa_store::{
    Tx,
    tables::{budgets, credit as credit_table, credit_sums, ledger},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Turn,
    asked::Asked,
    plan::{Plan, reservation},
};
use crate::{
    Runtime,
    credit::{self, legs, loans, offer, receipts, settle::Wanted},
    marketplace::reserve,
};

const MAX_FEE_MSATS: u64 = 1_000;
/// What the settlement asks for; the fee is underwritten.
const FEE_BPS: u32 = 100;

/// What an envelope needs, once it is well formed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    pub agent_id: String,
    pub pool_id: String,
    pub provider_id: String,
    pub invoice: String,
    /// The node that the provider said it is paid at; nothing where it is the payer's own.
    #[serde(default)]
    pub payee: Option<String>,
    pub host: String,
    pub scope_id: String,
    pub intent_id: Option<String>,
    pub max_fee_msats: u64,
    pub max_sats: u64,
    pub ttl_seconds: Option<i64>,
}

/// One credit leg: everything that it is asked with. It is decided once: whoever asks later asks for the same offer, and
/// so for the same envelope.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Leg {
    pub terms: Terms,
    pub passed: bool,
    receipt_sha256: String,
    settlement_id: String,
    job_hash: String,
    reservation_id: String,
    price_msats: u64,
    /// Until when the envelope may be paid.
    pub exp: Timestamp,
    /// Whose job it is: the agent draws for this owner.
    owner: String,
    /// Whoever asked may speak for any owner, and so says whose the agent is.
    vouched: bool,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Done {
    pub offer_id: String,
    pub settlement: CreditSettlement,
    /// What the provider was paid.
    pub paid_msats: u64,
}

/// In the order of §10.5. `settle_msats` is what the provider is owed.
pub fn terms(
    cep: &CepTerms,
    provider_id: &str,
    job_hash: &str,
    settle_msats: u64,
    lenient: bool,
) -> Result<Terms, Refusal> {
    let given = [
        ("agent_id", &cep.agent_id),
        ("pool_id", &cep.pool_id),
        ("provider_invoice", &cep.provider_invoice),
        ("provider_host", &cep.provider_host),
    ];
    if let Some((name, _)) = given.iter().find(|(_, value)| value.trim().is_empty()) {
        return Err(Refusal::invalid(format!("cep.{name} is required")));
    }
    let hex = |name: &str, value: &str| {
        let value = value.trim().to_ascii_lowercase();
        match value.len() == 64 && value.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            true => Ok(value),
            false => Err(Refusal::invalid(format!("{name} must be 64 hex digits"))),
        }
    };
    let agent_id = hex("cep.agent_id", &cep.agent_id)?;
    let pool_id = hex("cep.pool_id", &cep.pool_id)?;
    let provider_id = hex("provider_id", provider_id)?;
    let invoice = cep.provider_invoice.trim().to_owned();
    let amount = bolt11::prefix_amount_msats(&invoice).or_else(|| bolt11::whole_amount_msats(&invoice));
    let amount = amount
        .filter(|amount| *amount > 0)
        .ok_or_else(|| Refusal::invalid("cep.provider_invoice must include amount_msats"))?;
    if amount != settle_msats && !lenient {
        let message = format!("cep.provider_invoice asks for {amount} msats, and {settle_msats} are owed");
        return Err(Refusal::invalid(message));
    }
    let max_fee_msats = cep.max_fee_msats.unwrap_or(MAX_FEE_MSATS);
    let scope = cep.scope_id.as_deref().map(str::trim).filter(|scope| !scope.is_empty());
    let scope_id = scope.unwrap_or(job_hash).to_owned();
    if !lenient && !credit::evidence::names(&scope_id, job_hash) {
        return Err(Refusal::invalid("cep.scope_id must name the job"));
    }
    Ok(Terms {
        agent_id,
        pool_id,
        provider_id,
        invoice,
        payee: None,
        host: cep.provider_host.trim().to_lowercase(),
        scope_id,
        intent_id: cep.intent_id.clone(),
        max_fee_msats,
        max_sats: amount.max(settle_msats).saturating_add(max_fee_msats).div_ceil(1_000),
        ttl_seconds: cep.offer_ttl_seconds,
    })
}

/// The invoice must be the provider's: of the node that it has named when it enrolled. A payer's word is enough for a
/// provider of its own alone, or it would pay itself.
pub fn paid_where(terms: Terms, named: Option<&str>, foreign: bool) -> Result<Terms, Refusal> {
    let Some(named) = named else {
        return match foreign {
            false => Ok(terms),
            true => {
                let message = "this provider has not said which Lightning node it is paid at (lightning_node_id in its metadata, `oa provider --lightning-node-id`), so no invoice is known to be its own; settle with direct_only";
                let refusal = Refusal::conflict(message);
                Err(Refusal { reason_code: Some("provider_takes_no_credit"), ..refusal })
            }
        };
    };
    match bolt11::payee(&terms.invoice) {
        Some(payee) if payee == named => Ok(Terms { payee: Some(payee), ..terms }),
        Some(payee) => Err(Refusal::invalid(format!(
            "cep.provider_invoice pays the node {payee}, and this provider is paid at {named}"
        ))),
        None => Err(Refusal::invalid("cep.provider_invoice is not valid BOLT11")),
    }
}

/// The leg of a settlement, once it is reserved. `most_seconds`: how long an offer may be good at most.
pub fn leg(
    asked: &Asked,
    plan: &Plan,
    terms: &Terms,
    receipt_sha256: &str,
    reserved_at: Timestamp,
    most_seconds: i64,
) -> Leg {
    let ttl = terms.ttl_seconds.unwrap_or(most_seconds).clamp(60, most_seconds.max(60));
    Leg {
        terms: terms.clone(),
        passed: plan.released(),
        receipt_sha256: receipt_sha256.to_owned(),
        settlement_id: asked.settlement_id.clone(),
        job_hash: asked.job_hash.clone(),
        reservation_id: reservation(asked),
        price_msats: plan.price.provider.get(),
        exp: reserved_at.plus_seconds(ttl),
        owner: asked.owner.to_string(),
        vouched: asked.caller.owner().is_none(),
    }
}

impl Leg {
    fn offer(&self) -> AskOffer {
        let terms = &self.terms;
        AskOffer {
            schema: OFFER_REQUEST.into(),
            agent_id: terms.agent_id.clone(),
            pool_id: terms.pool_id.clone(),
            intent_id: terms.intent_id.clone(),
            scope_type: ScopeType::Nip90,
            scope_id: terms.scope_id.clone(),
            max_sats: terms.max_sats,
            fee_bps: FEE_BPS,
            requires_verifier: true,
            exp: self.exp,
        }
    }

    /// The envelope that pays, whether or not it is issued.
    pub fn envelope_id(&self) -> Result<String, Refusal> {
        let offer_id = offer::id_of(&self.offer())?;
        Ok(receipts::envelope_id(&receipts::envelope_fingerprint(&offer_id, &self.terms.provider_id)))
    }

    fn settlement(&self, envelope_id: &str) -> Result<Wanted, Refusal> {
        let body = SettleEnvelope {
            schema: SETTLE_REQUEST.into(),
            envelope_id: envelope_id.to_owned(),
            verification_passed: self.passed,
            verification_receipt_sha256: self.receipt_sha256.clone(),
            provider_invoice: self.terms.invoice.clone(),
            provider_host: self.terms.host.clone(),
            max_fee_msats: self.terms.max_fee_msats,
            policy_context: Some(json!({
                "schema": "openagents.credit.policy_context.v1",
                "objective": "oa.sandbox_run.v1",
                "job_hash": self.job_hash,
                "reservation_id": self.reservation_id,
                "route": "cep_envelope",
            })),
        };
        let mut wanted = credit::settle::read(body)?;
        wanted.evidence_id = Some(self.settlement_id.clone());
        wanted.price_msats = Some(self.price_msats);
        Ok(wanted)
    }

    /// It speaks for the owner of the job, whoever repeats it.
    fn caller(&self) -> Result<Caller, Fault> {
        let owner = Owner::parse(&self.owner).ok_or_else(|| Fault::msg("a kept leg names no owner"))?;
        Ok(Caller::Service { name: "treasury".into(), owner: Some(owner) })
    }

    /// What came of it.
    pub fn done(&self, settlement: CreditSettlement) -> Result<Done, Refusal> {
        let exact = bolt11::whole_amount_msats(&self.terms.invoice);
        Ok(Done {
            offer_id: offer::id_of(&self.offer())?,
            paid_msats: match settlement.outcome {
                Outcome::Success => exact.unwrap_or(settlement.spent_sats.saturating_mul(1_000)),
                Outcome::Failed | Outcome::Expired => 0,
            },
            settlement,
        })
    }
}

impl Runtime {
    /// Offer, envelope, settlement. Each is answered as it was when it is asked for again, so that whoever repeats the
    /// settlement goes on where this ended, and the wallet is asked once.
    pub(super) async fn pay_by_credit(&self, leg: &Leg) -> Result<Done, Stop> {
        let envelope_id = self.envelope_of(leg).await?;
        let settlement = self.pay_envelope(leg, &envelope_id).await?;
        if leg.passed && settlement.outcome != Outcome::Success {
            let outcome = settlement.outcome.name();
            let message = format!("cep settlement outcome={outcome} envelope_id={envelope_id}");
            return Err(Refusal::new(Code::DependencyUnavailable, message).into());
        }
        Ok(leg.done(settlement)?)
    }

    /// The envelope that pays, which is issued where it is not: whoever the agent belongs to since, it stands.
    async fn envelope_of(&self, leg: &Leg) -> Result<String, Stop> {
        let look = async |tx: &mut Tx, id: &String| credit_table::envelope(tx, id).await;
        if let Some(row) = self.store.read("treasury.envelope_look", leg.envelope_id()?, look).await? {
            return Ok(row.envelope.envelope_id);
        }
        let offer = self.offer_credit(leg.offer(), leg.caller()?, leg.vouched).await;
        let offer = offer.map_err(|stop| too_late(stop, "exp must be in the future"))?;
        let envelope = IssueEnvelope {
            schema: ENVELOPE_REQUEST.into(),
            offer_id: offer.offer_id,
            provider_id: leg.terms.provider_id.clone(),
        };
        let issued = self.issue_envelope(envelope, leg.caller()?).await;
        let issued = issued.map_err(|stop| too_late(stop, "offer expired"))?;
        Ok(issued.envelope.envelope_id)
    }

    /// Pays the envelope, or closes it when its time is over.
    pub(super) async fn pay_envelope(&self, leg: &Leg, envelope_id: &str) -> Result<CreditSettlement, Stop> {
        self.settle_envelope(leg.settlement(envelope_id)?, leg.caller()?).await
    }
}

/// The offer's time counts from the reservation: when it is over the reservation is no longer good for credit.
fn too_late(stop: Stop, said: &str) -> Stop {
    match stop {
        Stop::Refusal(refusal) if refusal.message == said => {
            Refusal::conflict("cep offer window expired for this reservation").into()
        }
        stop => stop,
    }
}

/// What was reserved pays the pool back: what it paid, its way and the fee, and the operator's part beside it. Where the
/// budget does not reach for all of it, what was reserved goes, and the rest stays owed. Says which transfer it is.
pub(super) async fn pay_back(
    tx: &mut Tx,
    turn: &Turn,
    plan: &Plan,
    done: &Done,
) -> Result<Option<String>, Stop> {
    let (asked, now) = (&*turn.asked, turn.moment.now);
    let loan = credit_sums::loan(tx, &done.settlement.settlement_id).await?;
    let Some(loan) = loan.filter(|loan| loan.owed() > 0) else { return Ok(None) };
    let account = AccountId::parse(&loan.account);
    let account = account.ok_or_else(|| Fault::msg("a loan without an account"))?;
    let owed = loan.owed();
    let reserved = plan.price.provider.get().min(owed);
    let place = super::place_of(tx, asked, plan).await?;
    let mut last = None;
    for msats in [owed, reserved] {
        let mut payees = reserve::payees(&plan.price, &asked.worker_id)?;
        payees[0] = (account.clone(), oa_contract::Amount::new(msats).unwrap_or_default());
        let id = TransferId::new(format!("treasury:{}:credit", asked.settlement_id))?;
        let wanted = Reservation {
            id: id.clone(),
            owner: asked.owner.clone(),
            place: place.clone(),
            payees,
            hold: Hold { expires_at: None },
            reference: format!("{} run {}", asked.settlement_id, asked.run_id),
        };
        match budgets::reserve(tx, &wanted, now).await {
            Ok(_) => {
                ledger::post(tx, &id, &Capture::Full, now).await?;
                let relief = Order {
                    id: TransferId::new(format!("treasury:{}:relief", asked.settlement_id))?,
                    legs: vec![legs::relief(&loan.agent_id, &loan.pool_id, msats)?],
                    hold: None,
                    reference: done.settlement.settlement_id.clone(),
                };
                ledger::transfer(tx, &relief, now).await?;
                loans::repaid(tx, loan, msats, now).await?;
                return Ok(Some(id.to_string()));
            }
            Err(Stop::Refusal(refusal)) => last = Some(refusal),
            Err(fault) => return Err(fault),
        }
    }
    Err(last.map_or_else(|| Fault::msg("nothing was owed").into(), Stop::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cep() -> CepTerms {
        CepTerms {
            agent_id: "A".repeat(64),
            pool_id: "b".repeat(64),
            provider_invoice: " lnbc420n1test ".into(),
            provider_host: " Provider.Example ".into(),
            scope_id: None,
            intent_id: None,
            max_fee_msats: None,
            offer_ttl_seconds: None,
        }
    }

    fn said(cep: &CepTerms, lenient: bool) -> Result<Terms, String> {
        terms(cep, &"c".repeat(64), "job", 42_000, lenient).map_err(|refusal| refusal.message)
    }

    #[test]
    fn what_an_envelope_needs_is_normalised_and_covers_price_and_way() {
        let read = said(&cep(), false).expect("terms");
        assert_eq!((read.agent_id, read.host.as_str()), ("a".repeat(64), "provider.example"));
        assert_eq!((read.scope_id.as_str(), read.max_sats, read.max_fee_msats), ("job", 43, 1_000));
    }

    #[test]
    fn a_strangers_provider_is_paid_on_invoices_of_the_node_that_it_has_named() {
        let clock = Timestamp::from_unix_seconds(1_770_000_000);
        let price = oa_contract::Msats::new(42_000).expect("msats");
        let network = bolt11::Network::Regtest;
        let real = oa_lightning::simulated::invoice(network, "i", price, clock, 60).expect("an invoice");
        let node = bolt11::payee(&real).expect("a node");
        let read = |invoice: &str| said(&CepTerms { provider_invoice: invoice.into(), ..cep() }, false);
        let judged = |invoice: &str, named: Option<&str>, foreign: bool| {
            paid_where(read(invoice).expect("terms"), named, foreign).map(|terms| terms.payee)
        };
        assert_eq!(judged(&real, Some(&node), true), Ok(Some(node.clone())));
        assert_eq!(judged(&real, Some(&node), false), Ok(Some(node.clone())));
        assert_eq!(judged(&real, None, false), Ok(None), "the payer's own provider");
        let silent = judged(&real, None, true).expect_err("refused");
        assert_eq!((silent.code, silent.reason_code), (Code::Conflict, Some("provider_takes_no_credit")));
        let other = format!("02{}", "e".repeat(64));
        let message = judged(&real, Some(&other), true).expect_err("refused").message;
        assert_eq!(
            message,
            format!("cep.provider_invoice pays the node {node}, and this provider is paid at {other}")
        );
        let message = judged("lnbc420n1test", Some(&node), true).expect_err("refused").message;
        assert_eq!(message, "cep.provider_invoice is not valid BOLT11");
    }

    #[test]
    fn the_invoice_asks_for_what_is_owed_and_the_scope_names_the_job() {
        let other = CepTerms { provider_invoice: "lnbc430n1test".into(), ..cep() };
        assert_eq!(
            said(&other, false),
            Err("cep.provider_invoice asks for 43000 msats, and 42000 are owed".into())
        );
        assert_eq!(said(&other, true).map(|terms| terms.max_sats), Ok(44), "as specified");
        let none = CepTerms { provider_invoice: "lnbc1x".into(), ..cep() };
        assert_eq!(said(&none, true), Err("cep.provider_invoice must include amount_msats".into()));
        let scoped = |scope: &str| CepTerms { scope_id: Some(scope.into()), ..cep() };
        assert_eq!(said(&scoped("x"), false), Err("cep.scope_id must name the job".into()));
        assert!(said(&scoped("x"), true).is_ok() && said(&scoped("oa.sandbox_run.v1:job"), false).is_ok());
        let keyless = CepTerms { pool_id: "b".into(), ..cep() };
        assert_eq!(said(&keyless, true), Err("cep.pool_id must be 64 hex digits".into()));
    }
}
