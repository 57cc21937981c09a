//! Decides how an act that enough signers have approved is done, once: claimed in one transaction, done outside of any,
//! and finished in another. What was claimed and not finished is asked after before anything is done.

use oa_contract::{
    Fault, Refusal, Stop, Timestamp,
    signer::Signer,
    wire::{
        pool_signing::{
            PoolSigner, SignerPolicy, SignerSet, SigningRequest, SigningStatus, TreasuryActionReceipt,
        },
        pools::{PayoutRail, WithdrawalStatus},
    },
};
use oa_lightning::{CloseChannel, OpenChannel, WalletError};
use oa_store::{
    Key, Tx,
    tables::{
        pool_signing as table,
        pool_withdrawals::{self, WithdrawalRow},
    },
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    approve::find,
    counted,
    policy::{
        self, CLOSE_CHANNEL, INVOICE_PAY_LARGE, INVOICE_PAY_SMALL, ONCHAIN_WITHDRAWAL, OPEN_CHANNEL,
        SIGNER_SET_CHANGE,
    },
};
use crate::{
    Runtime,
    pools::{
        behind_us, key,
        payout::{self, Begin, Outcome, Under, Way},
        queue::begin_keys,
        receipts::{self, TREASURY_ACTION, raw},
    },
};

const RESULT: &str = "openagents.liquidity.pool.withdrawal_execution_result.v1";
const OPENED: &str = "openagents.lightning.channel_opened.v1";
const CLOSED: &str = "openagents.lightning.channel_closed.v1";
const CHANGED: &str = "openagents.liquidity.pool.signer_set_changed.v1";

/// A finished act.
pub type Finished = (SigningRequest, TreasuryActionReceipt);

/// What a claim came to.
pub enum Claimed {
    /// To be paid now, or to be asked after.
    /// Begun now.
    Payout {
        request: SigningRequest,
        under: Box<Under>,
    },
    /// Begun before: to be asked after.
    Resumed {
        request: SigningRequest,
        row: Box<WithdrawalRow>,
    },
    Channel {
        request: SigningRequest,
    },
    Done(Box<Finished>),
}

struct Claim {
    pool_id: String,
    request_id: String,
    begin: Begin,
    signer: Option<Signer>,
}

#[derive(Deserialize)]
struct PaysInvoice {
    withdrawal_id: String,
    amount_sats: u64,
    payout_invoice_hash: String,
}

#[derive(Deserialize)]
struct PaysAddress {
    withdrawal_id: String,
    amount_sats: u64,
    payout_address: String,
}

#[derive(Deserialize)]
struct Opens {
    peer_id: String,
    amount_sats: u64,
}

#[derive(Deserialize)]
struct Closes {
    channel_id: String,
}

#[derive(Deserialize)]
struct Changes {
    replaces_sha256: String,
    signer_set_sha256: String,
    threshold: u32,
    signers: Vec<PoolSigner>,
    policy: SignerPolicy,
}

impl Runtime {
    pub(super) async fn act(&self, pool_id: &str, request_id: &str) -> Result<Finished, Stop> {
        let begin = Begin {
            withdrawal_id: String::new(),
            way: Way::Signed(request_id.to_owned()),
            settings: self.config.pools.clone(),
            terms: self.payments.terms(),
            pool_pays_way: self.believes_callers(),
        };
        let (pool_id, request_id) = (pool_id.to_owned(), request_id.to_owned());
        // The payment that it would begin is held as well.
        let wanted = (pool_id.clone(), request_id.clone());
        let keys = self.store.read("pools.keys_of_signed", wanted, keys).await?;
        let ask = Claim { pool_id, request_id, begin, signer: self.signer.clone() };
        match self.store.write("pools.claim_signed", keys, ask, claim).await? {
            Claimed::Done(finished) => Ok(*finished),
            Claimed::Payout { request, under } => {
                let (recorded, outcome) = self.pay_out(&under).await?;
                self.finish_payout(&request, &recorded, &outcome).await
            }
            Claimed::Resumed { request, row } => {
                let outcome = match row.status {
                    WithdrawalStatus::Approved => self.ask_about(&row).await?.ok_or_else(under_way)?,
                    // It ended while nobody was looking.
                    _ => Outcome::Unknown(row.last_error.clone().unwrap_or_else(|| "it was given up".into())),
                };
                let recorded = self.record_payout(&row, outcome.clone()).await?;
                self.finish_payout(&request, &recorded, &outcome).await
            }
            Claimed::Channel { request } => {
                let result = self.channel(&request).await?;
                self.finish(&request, result).await
            }
        }
    }

    async fn finish_payout(
        &self,
        request: &SigningRequest,
        row: &WithdrawalRow,
        outcome: &Outcome,
    ) -> Result<Finished, Stop> {
        match row.status {
            WithdrawalStatus::Paid => self.finish_paid(request, row).await,
            WithdrawalStatus::Approved => Err(under_way().into()),
            _ => {
                self.unclaim(request).await?;
                let why = match outcome {
                    Outcome::Failed(why) | Outcome::Refused(why) | Outcome::Unknown(why) => why.as_str(),
                    Outcome::Paid { .. } => "it was given up",
                };
                Err(behind_us(format!("the payout was not made: {why}")).into())
            }
        }
    }

    /// The signing request of a payout that is paid.
    pub(in crate::pools) async fn finish_paid(
        &self,
        request: &SigningRequest,
        row: &WithdrawalRow,
    ) -> Result<Finished, Stop> {
        let read = async |tx: &mut Tx, row: &WithdrawalRow| settled(tx, row).await;
        let result = self.store.read("pools.settlement", row.clone(), read).await?;
        self.finish(request, result).await
    }

    /// Finishes the request whose payout the queue has found paid.
    pub(in crate::pools) async fn finish_found(&self, row: &WithdrawalRow) -> Result<(), Stop> {
        let Some(request_id) = row.signing_request_id.clone() else { return Ok(()) };
        let get = async |tx: &mut Tx, id: &String| table::signing(tx, id).await;
        let request = self.store.read("pools.signing", request_id, get).await?;
        match (request, row.status) {
            (Some(request), WithdrawalStatus::Paid) if request.status != SigningStatus::Executed => {
                self.finish_paid(&request, row).await.map(drop)
            }
            (Some(request), WithdrawalStatus::Queued | WithdrawalStatus::Failed)
                if request.status == SigningStatus::Executing =>
            {
                self.unclaim(&request).await
            }
            _ => Ok(()),
        }
    }

    async fn channel(&self, request: &SigningRequest) -> Result<Value, Stop> {
        let request_id = format!("liqpool:{}:{}", request.action_class, request.request_id);
        let done = match request.action_class.as_str() {
            OPEN_CHANNEL => {
                let Opens { peer_id, amount_sats } = payload(request, "invalid open_channel payload")?;
                let order = OpenChannel { request_id, peer_id, amount_sats };
                self.node.open_channel(&order).await.map(|opened| {
                    json!({"schema": OPENED, "channel_id": opened.channel_id, "txid": opened.txid,
                        "opened_at": opened.opened_at})
                })
            }
            _ => {
                let Closes { channel_id } = payload(request, "invalid close_channel payload")?;
                let order = CloseChannel { request_id, channel_id };
                self.node.close_channel(&order).await.map(
                    |closed| json!({"schema": CLOSED, "txids": closed.txids, "closed_at": closed.closed_at}),
                )
            }
        };
        match done {
            Ok(result) => Ok(result),
            Err(WalletError::NotDone(trouble)) => {
                self.unclaim(request).await?;
                let message =
                    format!("{} failed ({}): {}", request.action_class, trouble.code, trouble.message);
                Err(behind_us(message).into())
            }
            Err(WalletError::Unknown(trouble)) => Err(Refusal::conflict(format!(
                "whether the {} was done is not known yet ({trouble}); execute the request again to ask",
                request.action_class
            ))
            .into()),
        }
    }

    async fn unclaim(&self, request: &SigningRequest) -> Result<(), Stop> {
        let free = async |tx: &mut Tx, id: &String| {
            let request = table::signing(tx, id).await?;
            match request.filter(|request| request.status == SigningStatus::Executing) {
                Some(request) => {
                    table::put_signing(tx, &SigningRequest { status: SigningStatus::Pending, ..request })
                        .await
                }
                None => Ok(()),
            }
        };
        self.store
            .write("pools.unclaim_signed", key(&request.pool_id), request.request_id.clone(), free)
            .await
    }

    async fn finish(&self, request: &SigningRequest, result: Value) -> Result<Finished, Stop> {
        let ask = (request.clone(), result, self.signer.clone(), self.now());
        let finish = async |tx: &mut Tx, (request, result, signer, now): &(_, Value, _, Timestamp)| {
            finished(tx, request, result, Option::as_ref(signer), *now).await
        };
        self.store.write("pools.finish_signed", key(&request.pool_id), ask, finish).await
    }
}

async fn keys(tx: &mut Tx, (pool_id, request_id): &(String, String)) -> Result<Vec<Key>, Stop> {
    let request = find(tx, pool_id, request_id).await?;
    if let Ok(id) = withdrawal_id(&request)
        && let Some(row) = pool_withdrawals::get(tx, &id).await?
    {
        return Ok(begin_keys(&row));
    }
    Ok(vec![key(pool_id)])
}

/// Takes the act for the one who asks: from `pending` to `executing` once, with everything that it sets aside.
async fn claim(tx: &mut Tx, ask: &Claim) -> Result<Claimed, Stop> {
    let request = find(tx, &ask.pool_id, &ask.request_id).await?;
    match request.status {
        SigningStatus::Executed => return Err(not_pending().into()),
        SigningStatus::Executing => return resumed(tx, request).await,
        SigningStatus::Pending => {}
    }
    quorum(tx, &request).await?;
    match request.action_class.as_str() {
        INVOICE_PAY_LARGE | INVOICE_PAY_SMALL | ONCHAIN_WITHDRAWAL => payout(tx, request, ask).await,
        SIGNER_SET_CHANGE => change(tx, request, ask).await,
        OPEN_CHANNEL | CLOSE_CHANNEL => {
            let request = SigningRequest { status: SigningStatus::Executing, ..request };
            table::put_signing(tx, &request).await?;
            Ok(Claimed::Channel { request })
        }
        other => Err(Refusal::invalid(format!("nobody knows how to do a {other}")).into()),
    }
}

fn under_way() -> Refusal {
    Refusal::conflict(
        "the payout is under way and its outcome is not known yet; execute the request again to ask",
    )
}

fn not_pending() -> Refusal {
    Refusal::conflict("signing request is not pending")
}

/// Somebody has begun: a payout is asked after, and a channel is asked for under the same id again.
async fn resumed(tx: &mut Tx, request: SigningRequest) -> Result<Claimed, Stop> {
    if matches!(request.action_class.as_str(), OPEN_CHANNEL | CLOSE_CHANNEL) {
        return Ok(Claimed::Channel { request });
    }
    let id = withdrawal_id(&request)?;
    let row = pool_withdrawals::get(tx, &id).await?.ok_or_else(no_withdrawal)?;
    Ok(Claimed::Resumed { request, row: Box::new(row) })
}

fn no_withdrawal() -> Refusal {
    Refusal::not_found("no such withdrawal")
}

/// Only signatures of signers who are in force count, and as many as their policy asks for now: those who signed when
/// the request was made may be fewer by now.
async fn quorum(tx: &mut Tx, request: &SigningRequest) -> Result<(), Stop> {
    let set = table::signer_set(tx, &request.pool_id).await?;
    let set = set.ok_or_else(|| Refusal::conflict("pool signer set not configured"))?;
    let sats = sats(request);
    let required = policy::required(&set, &request.action_class, sats)?;
    let have = counted(Some(&set), table::approvals(tx, &request.request_id).await?).len();
    match have >= required as usize {
        true => Ok(()),
        false => Err(Refusal::conflict("signing quorum not met").into()),
    }
}

/// What a request is about, in money.
pub(super) fn sats(request: &SigningRequest) -> Option<u64> {
    serde_json::from_str::<Value>(request.payload_json.get()).unwrap_or_default()["amount_sats"].as_u64()
}

fn payload<T: for<'de> Deserialize<'de>>(request: &SigningRequest, wrong: &str) -> Result<T, Refusal> {
    serde_json::from_str(request.payload_json.get()).map_err(|_| Refusal::invalid(wrong))
}

fn withdrawal_id(request: &SigningRequest) -> Result<String, Refusal> {
    match request.action_class.as_str() {
        ONCHAIN_WITHDRAWAL => payload(request, "invalid onchain_withdrawal_batch payload")
            .map(|signed: PaysAddress| signed.withdrawal_id),
        _ => payload(request, "invalid invoice_pay payload").map(|signed: PaysInvoice| signed.withdrawal_id),
    }
}

async fn payout(tx: &mut Tx, request: SigningRequest, ask: &Claim) -> Result<Claimed, Stop> {
    let id = withdrawal_id(&request)?;
    let row = pool_withdrawals::get(tx, &id).await?.filter(|row| row.pool_id == request.pool_id);
    let row = row.ok_or_else(no_withdrawal)?;
    if row.status == WithdrawalStatus::Paid {
        let result = json!({"schema": RESULT, "status": "already_paid", "withdrawal_id": row.withdrawal_id,
            "rail": row.rail, "amount_sats": row.amount_sats,
            "wallet_receipt_sha256": row.wallet_receipt_sha256, "paid_at": row.paid_at});
        let done = finished(tx, &request, &result, ask.signer.as_ref(), ask.begin.terms.now).await?;
        return Ok(Claimed::Done(Box::new(done)));
    }
    payable(&request, &row, ask.begin.terms.now)?;
    let begin = Begin { withdrawal_id: id, ..ask.begin.clone() };
    let Some(under) = payout::begin(tx, &begin).await? else {
        // It can never be paid, and was given up just now: that is kept, and told.
        let row = pool_withdrawals::get(tx, &begin.withdrawal_id).await?;
        let row = row.filter(|row| row.status == WithdrawalStatus::Failed);
        let row = row.ok_or_else(|| Refusal::conflict("withdrawal not in a payable state"))?;
        return Ok(Claimed::Resumed { request, row: Box::new(row) });
    };
    let signing_request_id = Some(request.request_id.clone());
    let under = Under { row: WithdrawalRow { signing_request_id, ..under.row }, ..under };
    pool_withdrawals::put(tx, &under.row).await?;
    let request = SigningRequest { status: SigningStatus::Executing, ..request };
    table::put_signing(tx, &request).await?;
    Ok(Claimed::Payout { request, under: Box::new(under) })
}

/// Whether the withdrawal is still the one that was signed, and due.
fn payable(request: &SigningRequest, row: &WithdrawalRow, now: Timestamp) -> Result<(), Refusal> {
    if row.status != WithdrawalStatus::Queued {
        return Err(Refusal::conflict("withdrawal not in a payable state"));
    }
    if row.earliest_settlement_at > now {
        return Err(Refusal::conflict("withdrawal is not yet due"));
    }
    let differs =
        |what: &str| Err(Refusal::conflict(format!("withdrawal {what} differs from the signed payload")));
    match row.rail {
        PayoutRail::Lightning => {
            let signed: PaysInvoice = payload(request, "invalid invoice_pay payload")?;
            if signed.amount_sats != row.amount_sats {
                return differs("amount");
            }
            if Some(&signed.payout_invoice_hash) != row.payout_invoice_hash.as_ref() {
                return differs("invoice");
            }
        }
        PayoutRail::Onchain => {
            let signed: PaysAddress = payload(request, "invalid onchain_withdrawal_batch payload")?;
            if signed.amount_sats != row.amount_sats {
                return differs("amount");
            }
            if Some(&signed.payout_address) != row.payout_address.as_ref() {
                return differs("address");
            }
        }
    }
    Ok(())
}

/// Puts the new signers in force, if those who approved it still are.
async fn change(tx: &mut Tx, request: SigningRequest, ask: &Claim) -> Result<Claimed, Stop> {
    let signed: Changes = payload(&request, "invalid signer_set_change payload")?;
    let known = table::signer_set(tx, &request.pool_id).await?;
    let known = known.filter(|known| known.canonical_json_sha256 == signed.replaces_sha256);
    let known =
        known.ok_or_else(|| Refusal::conflict("the signers have changed since; ask for the change again"))?;
    let set = SignerSet {
        pool_id: request.pool_id.clone(),
        schema: table::SIGNER_SET_SCHEMA.into(),
        threshold: signed.threshold,
        signers: signed.signers,
        policy: signed.policy,
        canonical_json_sha256: signed.signer_set_sha256.clone(),
        created_at: known.created_at,
        updated_at: ask.begin.terms.now,
    };
    table::put_signer_set(tx, &set).await?;
    let result = json!({"schema": CHANGED, "signer_set_sha256": signed.signer_set_sha256});
    let done = finished(tx, &request, &result, ask.signer.as_ref(), ask.begin.terms.now).await?;
    Ok(Claimed::Done(Box::new(done)))
}

/// What a payout that is paid came to, by its own receipt.
async fn settled(tx: &mut Tx, row: &WithdrawalRow) -> Result<Value, Stop> {
    let schema = receipts::WITHDRAW_SETTLEMENT;
    let receipt: Value = receipts::given(tx, "withdraw_settlement", &row.withdrawal_id, schema).await?;
    let mut result = json!({
        "schema": RESULT, "withdrawal_id": row.withdrawal_id, "rail": row.rail,
        "amount_sats": row.amount_sats, "wallet_receipt_sha256": row.wallet_receipt_sha256,
        "paid_at": row.paid_at,
    });
    for (member, told) in [("payment_id", "payout_payment_id"), ("txid", "payout_txid")] {
        if let Some(value) = receipt.get(told) {
            result[member] = value.clone();
        }
    }
    Ok(result)
}

/// Writes down that the act is done, with its receipt; what is finished stays as it is.
async fn finished(
    tx: &mut Tx,
    request: &SigningRequest,
    result: &Value,
    signer: Option<&Signer>,
    now: Timestamp,
) -> Result<Finished, Stop> {
    let known = table::signing(tx, &request.request_id).await?;
    let known = known.ok_or_else(|| Fault::msg("a signing request that was claimed is not there"))?;
    if known.status == SigningStatus::Executed {
        let receipt = receipts::given(tx, "treasury_action", &known.request_id, TREASURY_ACTION).await?;
        return Ok((known, receipt));
    }
    let set = table::signer_set(tx, &request.pool_id).await?;
    let approvals = table::approvals(tx, &request.request_id).await?;
    // A change of signers was approved by those before.
    let approvals = match request.action_class.as_str() {
        SIGNER_SET_CHANGE => approvals,
        _ => counted(set.as_ref(), approvals),
    };
    let receipt = receipts::treasury_action(request, &approvals, result, now, signer)?;
    let kept = receipts::kept(&receipt.receipt_id, &receipt.canonical_json_sha256, &receipt)?;
    receipts::keep(tx, ("treasury_action", &request.request_id, TREASURY_ACTION), &kept, signer, now).await?;
    let request = SigningRequest {
        status: SigningStatus::Executed,
        execution_result_json: Some(raw(result)?),
        executed_at: Some(now),
        ..known
    };
    table::put_signing(tx, &request).await?;
    Ok((request, receipt))
}
