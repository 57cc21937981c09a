//! `POST /admin/v1/pools/:pool_id/withdrawals/:withdrawal_id/resolve`: an operator ends a payout whose end no wallet can
//! tell (§17.2, §17.7). It is written down as if the wallet had said it: the shares are burned and the money is gone, or
//! both are free again.

use oa_contract::{
    Answer, Ask, Fault, Handle, Msats, Refusal, Stop,
    matrix::PoolsResolveWithdrawal,
    wire::{
        liquidity::PaidStatus,
        pools::{PayoutRail, WithdrawalStatus},
        resolutions::{WITHDRAWAL_RESOLUTION, WithdrawalResolved},
    },
};
use oa_lightning::OnchainState;
use oa_store::{
    Tx,
    tables::{
        liquidity::{self, PaymentRow, PaymentStatus},
        pool_withdrawals::{self as table, WithdrawalRow},
    },
};

use super::{
    key,
    payout::{self, Outcome, Record},
    receipts::Settled,
};
use crate::{
    Runtime,
    liquidity::{
        payments::{self, GRACE_SECONDS},
        resolve::{Said, keep, known, read},
    },
};

/// A withdrawal that is being paid, with the payment of its invoice.
struct Open {
    row: WithdrawalRow,
    payment: Option<PaymentRow>,
}

enum Looked {
    Known(Box<WithdrawalResolved>),
    Open(Box<Open>),
}

/// What is looked for.
#[derive(Clone)]
struct Wanted {
    pool_id: String,
    withdrawal_id: String,
    said: Said,
}

impl Wanted {
    /// A withdrawal is paid in several tries, each of which may have to be resolved.
    fn subject(&self) -> String {
        format!("withdrawal:{}:{}", self.withdrawal_id, self.said.key)
    }
}

impl Handle<PoolsResolveWithdrawal> for Runtime {
    async fn handle(&self, ask: Ask<PoolsResolveWithdrawal>) -> Result<Answer<WithdrawalResolved>, Stop> {
        let said = read(ask.body, &ask.caller, self.now())?;
        let (pool_id, withdrawal_id) = (ask.path.pool_id, ask.path.withdrawal_id);
        let wanted = Wanted { pool_id, withdrawal_id, said };
        let read = async |tx: &mut Tx, wanted: &Wanted| look(tx, wanted).await;
        let open = match self.store.read("pools.resolution", wanted.clone(), read).await? {
            Looked::Known(answer) => return Ok((*answer).into()),
            Looked::Open(open) => open,
        };
        self.admits_resolution(&open, &wanted.said).await?;
        let mut keys = vec![key(&open.row.pool_id)];
        keys.extend(open.payment.iter().map(|payment| payments::key(&payment.payment_id)));
        let record = Record {
            withdrawal_id: open.row.withdrawal_id.clone(),
            round: open.row.round,
            outcome: outcome(&wanted.said),
            wallet: self.wallet_account()?,
            signer: self.signer.clone(),
            now: wanted.said.resolution.resolved_at,
        };
        let (answer, row) = self.store.write("pools.resolve", keys, (wanted, record), resolve).await?;
        if let Some(row) = row {
            self.finish_found(&row).await?;
        }
        Ok(answer.into())
    }
}

impl Runtime {
    /// Whether what is said is proved, and the wallet does not know better.
    async fn admits_resolution(&self, open: &Open, said: &Said) -> Result<(), Stop> {
        match (open.row.rail, &open.payment) {
            (PayoutRail::Lightning, Some(payment)) if !payment.status.is_final() => {
                if said.resolution.txid.is_some() {
                    return Err(Refusal::field("txid", "a payout over Lightning has no txid").into());
                }
                self.payments.admits(payment, said).await
            }
            // It has ended, and that is what is written down.
            (PayoutRail::Lightning, _) => Ok(()),
            (PayoutRail::Onchain, _) => self.admits_sending(&open.row, said).await,
        }
    }

    async fn admits_sending(&self, row: &WithdrawalRow, said: &Said) -> Result<(), Stop> {
        let resolution = &said.resolution;
        if said.preimage.is_some() {
            return Err(Refusal::field("preimage", "a sending on-chain has no preimage").into());
        }
        if resolution.outcome == PaidStatus::Succeeded {
            return match resolution.txid.is_some() || self.believes_callers() {
                true => Ok(()),
                false => Err(Refusal::field("txid", "txid is required: it proves the sending").into()),
            };
        }
        let over = row.not_after.map(|moment| moment.plus_seconds(GRACE_SECONDS));
        if let Some(over) = over.filter(|over| resolution.resolved_at <= *over) {
            return Err(Refusal::conflict(format!("the wallet may still send it; wait until {over}")).into());
        }
        let Some(request_id) = &row.request_id else { return Ok(()) };
        match self.wallet().onchain_payment(request_id).await {
            Ok(OnchainState::Sent(sent)) => {
                Err(Refusal::conflict(format!("the wallet has sent it, in {}", sent.txid)).into())
            }
            Ok(OnchainState::InFlight) if !resolution.despite_wallet => {
                let message = "the wallet is still at it; despite_wallet ends it all the same";
                Err(Refusal::conflict(message).into())
            }
            _ => Ok(()),
        }
    }
}

fn outcome(said: &Said) -> Outcome {
    let resolution = &said.resolution;
    match resolution.outcome {
        PaidStatus::Succeeded => Outcome::Paid {
            settled: Settled {
                wallet_receipt_sha256: resolution.wallet_receipt_sha256.clone(),
                payment_id: None,
                txid: resolution.txid.clone(),
            },
            fee_msats: resolution.fee_msats.map_or(0, Msats::get),
            paid_at_ms: None,
        },
        PaidStatus::Failed => Outcome::Failed(format!("resolved_by_operator: {}", resolution.reason)),
    }
}

async fn look(tx: &mut Tx, wanted: &Wanted) -> Result<Looked, Stop> {
    if let Some(answer) = known(tx, &wanted.subject(), &wanted.said).await? {
        return Ok(Looked::Known(Box::new(answer)));
    }
    let row = table::get(tx, &wanted.withdrawal_id).await?;
    let row = row.filter(|row| row.pool_id == wanted.pool_id);
    let row = row.ok_or_else(|| Refusal::not_found("no withdrawal of this pool has this id"))?;
    if row.status != WithdrawalStatus::Approved {
        let message =
            format!("only a payout that is under way can be resolved; this one is {}", row.status.name());
        return Err(Refusal::conflict(message).into());
    }
    let payment = match row.rail {
        PayoutRail::Lightning => liquidity::payment(tx, &payout::payment_id(&row)).await?,
        PayoutRail::Onchain => None,
    };
    let differs = match (payment.as_ref().map(|payment| payment.status), wanted.said.resolution.outcome) {
        (Some(PaymentStatus::Succeeded), PaidStatus::Failed) => Some("succeeded"),
        (Some(PaymentStatus::Failed), PaidStatus::Succeeded) => Some("failed"),
        _ => None,
    };
    match differs {
        Some(how) => Err(Refusal::conflict(format!("the payment of the payout has {how} already")).into()),
        None => Ok(Looked::Open(Box::new(Open { row, payment }))),
    }
}

type Resolved = (WithdrawalResolved, Option<WithdrawalRow>);

async fn resolve(tx: &mut Tx, (wanted, record): &(Wanted, Record)) -> Result<Resolved, Stop> {
    let open = match look(tx, wanted).await? {
        Looked::Known(answer) => return Ok((*answer, None)),
        Looked::Open(open) => open,
    };
    if open.row.round != record.round {
        return Err(Refusal::conflict("another payout has begun meanwhile").into());
    }
    if let Some(payment) = open.payment.filter(|payment| !payment.status.is_final()) {
        let ending = wanted.said.ending(&payment);
        payments::end(tx, &payment.payment_id, &ending, record.now).await?;
    }
    let row = payout::record(tx, record).await?;
    let row = row.ok_or_else(|| Fault::msg("a withdrawal that is being paid is not there"))?;
    let answer = WithdrawalResolved {
        schema: WITHDRAWAL_RESOLUTION.into(),
        withdrawal_id: row.withdrawal_id.clone(),
        status: row.status,
        resolution: wanted.said.resolution.clone(),
    };
    keep(tx, &wanted.subject(), &wanted.said, &answer).await?;
    Ok((answer, Some(row)))
}
