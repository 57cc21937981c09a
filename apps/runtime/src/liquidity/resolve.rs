//! `POST /admin/v1/liquidity/payments/:payment_id/resolve`: an operator ends a payment whose end no wallet can tell
//! (§17.2). What a wallet can tell is not contradicted, and strictly a payment that was made is proved.

use oa_contract::{
    Answer, Ask, Caller, Fault, Handle, Refusal, Stop, Timestamp,
    canonical::{canonical_hash, unhex},
    matrix::LiquidityResolve,
    signer::Signer,
    wire::{
        liquidity::PaidStatus,
        resolutions::{PAYMENT_RESOLUTION, PaymentResolved, Resolution, Resolve},
    },
};
use oa_lightning::{Paid, PaymentState, Preimage, Trouble};
use oa_store::{
    Tx,
    tables::liquidity::{self as table, PaymentRow, PaymentStatus, ResolutionRow},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{json, value::to_raw_value};

use super::{
    desk::Desk,
    lanes,
    payments::{self, Ending, GRACE_SECONDS},
};
use crate::Runtime;

const LONGEST_KEY: usize = 255;
const LONGEST_REASON: usize = 2_000;

/// What an operator says, once it is well formed.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub key: String,
    pub resolution: Resolution,
    pub preimage: Option<Preimage>,
}

pub(crate) fn read(body: Resolve, caller: &Caller, now: Timestamp) -> Result<Said, Refusal> {
    let key = body.idempotency_key.trim().to_owned();
    if key.is_empty() || key.len() > LONGEST_KEY || key.chars().any(char::is_control) {
        let message = format!("idempotency_key must be 1 to {LONGEST_KEY} bytes without control characters");
        return Err(Refusal::field("idempotency_key", message));
    }
    let reason = body.reason.trim().to_owned();
    if reason.is_empty() || reason.len() > LONGEST_REASON {
        let message = format!("reason must say in 1 to {LONGEST_REASON} bytes why you are sure");
        return Err(Refusal::field("reason", message));
    }
    let digits = |text: Option<String>, field: &str| match text.map(|text| text.trim().to_ascii_lowercase()) {
        None => Ok(None),
        Some(text) => match unhex::<32>(&text) {
            Some(bytes) => Ok(Some((text, bytes))),
            None => Err(Refusal::field(field, format!("{field} must be 64 hex digits"))),
        },
    };
    let preimage = digits(body.preimage, "preimage")?.map(|(_, bytes)| Preimage(bytes));
    let txid = digits(body.txid, "txid")?.map(|(text, _)| text);
    let wallet_receipt = digits(body.wallet_receipt_sha256, "wallet_receipt_sha256")?.map(|(text, _)| text);
    let has_proof = preimage.is_some() || txid.is_some() || wallet_receipt.is_some();
    if body.outcome == PaidStatus::Failed && (has_proof || body.fee_msats.is_some()) {
        let message = "what has failed has no preimage, txid, fee or receipt";
        return Err(Refusal::field("outcome", message));
    }
    let actor = match caller {
        Caller::Service { name, .. } => format!("service:{name}"),
        Caller::User(user) => format!("user:{}", user.user_id),
        Caller::Anyone => "anyone".into(),
    };
    let resolution = Resolution {
        outcome: body.outcome,
        reason,
        payment_hash: preimage.map(|preimage| preimage.payment_hash()),
        txid,
        fee_msats: body.fee_msats,
        wallet_receipt_sha256: wallet_receipt,
        despite_wallet: body.despite_wallet,
        actor,
        resolved_at: now,
    };
    Ok(Said { key, resolution, preimage })
}

impl Said {
    /// Who says it and when is no part of what is said.
    fn fingerprint(&self, subject: &str) -> String {
        let said = &self.resolution;
        canonical_hash(&json!({
            "subject": subject, "outcome": said.outcome, "reason": said.reason, "payment_hash": said.payment_hash,
            "txid": said.txid, "fee_msats": said.fee_msats, "despite_wallet": said.despite_wallet,
            "wallet_receipt_sha256": said.wallet_receipt_sha256,
        }))
    }

    /// What it comes to for a payment.
    pub fn ending(&self, row: &PaymentRow) -> Ending {
        let said = &self.resolution;
        let evidence = json!({"ok": said.outcome == PaidStatus::Succeeded, "resolution": said});
        match said.outcome {
            PaidStatus::Succeeded => Ending::Succeeded(Paid {
                payment_id: None,
                preimage: self.preimage,
                amount: Some(row.amount),
                fee: said.fee_msats,
                paid_at_ms: None,
                receipt_sha256: said.wallet_receipt_sha256.clone(),
                preimage_sha256: None,
                evidence: Some(evidence),
            }),
            PaidStatus::Failed => Ending::Failed(
                Trouble::new("resolved_by_operator", said.reason.clone()).with_evidence(Some(evidence)),
            ),
        }
    }
}

/// The answer that was given under this key, if it was.
pub(crate) async fn known<T: DeserializeOwned>(
    tx: &mut Tx,
    subject: &str,
    said: &Said,
) -> Result<Option<T>, Stop> {
    let Some(row) = table::resolution(tx, subject).await? else { return Ok(None) };
    if row.idempotency_key != said.key || row.fingerprint != said.fingerprint(subject) {
        let message = format!("it was resolved already, as {} by {}", row.outcome, row.actor);
        return Err(Refusal::conflict(message).into());
    }
    let unread = |error| Fault::new("reading a kept resolution", error);
    let kept: serde_json::Value = serde_json::from_str(row.evidence.get()).map_err(unread)?;
    Ok(Some(serde_json::from_value(kept["answer"].clone()).map_err(unread)?))
}

/// Keeps what was said, with its evidence and its answer.
pub(crate) async fn keep<T: Serialize>(
    tx: &mut Tx,
    subject: &str,
    said: &Said,
    answer: &T,
) -> Result<(), Stop> {
    let evidence = json!({"answer": answer, "preimage": said.preimage.map(|preimage| preimage.hex())});
    let outcome = match said.resolution.outcome {
        PaidStatus::Succeeded => PaymentStatus::Succeeded,
        PaidStatus::Failed => PaymentStatus::Failed,
    };
    tracing::warn!(
        subject,
        outcome = outcome.name(),
        actor = said.resolution.actor,
        reason = said.resolution.reason,
        "an operator says how it ended"
    );
    let row = ResolutionRow {
        subject: subject.to_owned(),
        idempotency_key: said.key.clone(),
        fingerprint: said.fingerprint(subject),
        outcome: outcome.name().into(),
        evidence: to_raw_value(&evidence).map_err(|error| Fault::new("keeping a resolution", error))?,
        actor: said.resolution.actor.clone(),
        resolved_at: said.resolution.resolved_at,
    };
    table::insert_resolution(tx, &row).await
}

impl Desk {
    /// Whether a payment may be ended as it is said: what proves it is right, and the wallet does not know better.
    pub(crate) async fn admits(&self, row: &PaymentRow, said: &Said) -> Result<(), Stop> {
        match said.resolution.outcome {
            PaidStatus::Succeeded => Ok(proved(row, said, self.is_strict())?),
            PaidStatus::Failed => self.admits_failure(row, said).await,
        }
    }

    async fn admits_failure(&self, row: &PaymentRow, said: &Said) -> Result<(), Stop> {
        let over = row.not_after.plus_seconds(GRACE_SECONDS);
        if said.resolution.resolved_at <= over {
            return Err(Refusal::conflict(format!("the wallet may still begin it; wait until {over}")).into());
        }
        let despite = said.resolution.despite_wallet;
        let refused = |why: &str| Err(Refusal::conflict(why).into());
        match self.hear(row).await {
            Ok(PaymentState::Succeeded(paid)) => match payments::proved(row, paid, self.is_strict()) {
                Ending::Succeeded(_) => refused("the wallet proves that it was paid"),
                _ if despite => Ok(()),
                _ => refused("the wallet says that it was paid; despite_wallet ends it all the same"),
            },
            Ok(PaymentState::InFlight) if !despite => {
                refused("the wallet is still at it; despite_wallet ends it all the same")
            }
            _ => Ok(()),
        }
    }
}

fn proved(row: &PaymentRow, said: &Said, strict: bool) -> Result<(), Refusal> {
    match (&row.payment_hash, &said.resolution.payment_hash) {
        (Some(asked), Some(opened)) if asked == opened => Ok(()),
        (Some(_), Some(_)) => Err(Refusal::field("preimage", "preimage does not open the invoice's hash")),
        (_, None) if strict => Err(Refusal::field("preimage", "preimage is required: it proves the payment")),
        (None, Some(_)) if strict => {
            Err(Refusal::field("preimage", "the payment has no hash to be proved by"))
        }
        _ => Ok(()),
    }
}

impl Handle<LiquidityResolve> for Runtime {
    async fn handle(&self, ask: Ask<LiquidityResolve>) -> Result<Answer<PaymentResolved>, Stop> {
        let said = read(ask.body, &ask.caller, self.now())?;
        if said.resolution.txid.is_some() {
            return Err(Refusal::field("txid", "a payment over Lightning has no txid").into());
        }
        let (id, key) = (ask.path.payment_id.clone(), payments::key(&ask.path.payment_id));
        let look = async |tx: &mut Tx, (id, said): &(String, Said)| look(tx, id, said).await;
        let row = match self.store.read("liquidity.resolution", (id.clone(), said.clone()), look).await? {
            Looked::Known(answer) => return Ok((*answer).into()),
            Looked::Open(row) => row,
        };
        self.payments.admits(&row, &said).await?;
        let look = async |tx: &mut Tx, id: &String| lanes::keys(tx, id).await;
        let mut keys = self.store.read("liquidity.resolve_look", id.clone(), look).await?;
        keys.push(key);
        let ask = (id, said, self.signer.clone());
        Ok(self.store.write("liquidity.resolve", keys, ask, resolve).await?.into())
    }
}

enum Looked {
    Known(Box<PaymentResolved>),
    Open(Box<PaymentRow>),
}

fn subject(payment_id: &str) -> String {
    format!("payment:{payment_id}")
}

async fn look(tx: &mut Tx, id: &str, said: &Said) -> Result<Looked, Stop> {
    if let Some(answer) = known(tx, &subject(id), said).await? {
        return Ok(Looked::Known(Box::new(answer)));
    }
    let row = table::payment(tx, id).await?;
    let row = row.ok_or_else(|| Refusal::not_found("no payment has this id"))?;
    still_open(&row)?;
    Ok(Looked::Open(Box::new(row)))
}

fn still_open(row: &PaymentRow) -> Result<(), Refusal> {
    match row.status.is_final() {
        true => Err(Refusal::conflict(format!("the payment has ended already: {}", row.status.name()))),
        false => Ok(()),
    }
}

async fn resolve(
    tx: &mut Tx,
    (id, said, signer): &(String, Said, Option<Signer>),
) -> Result<PaymentResolved, Stop> {
    let row = match look(tx, id, said).await? {
        Looked::Known(answer) => return Ok(*answer),
        Looked::Open(row) => row,
    };
    let (row, ended) = payments::end(tx, id, &said.ending(&row), said.resolution.resolved_at).await?;
    if ended {
        lanes::ended(tx, &row, signer.as_ref()).await?;
    }
    let answer = PaymentResolved {
        schema: PAYMENT_RESOLUTION.into(),
        payment_id: id.clone(),
        status: said.resolution.outcome,
        resolution: said.resolution.clone(),
    };
    keep(tx, &subject(id), said, &answer).await?;
    Ok(answer)
}
