//! Decides how a debt is paid back and what happens when it is not: `GET /admin/v1/credit/loans/:settlement_id`, and what
//! the background does with debts that are due.

use oa_contract::{
    Answer, Ask, Fault, Handle, Msats, Owner, Refusal, Stop, Timestamp,
    matrix::CreditLoanGet,
    signer::Signer,
    wire::credit::{CreditSettlement, Loan, LoanPayment, LoanReply, LoanStatus},
};
use oa_ledger::{AccountId, Kind};
use oa_store::{
    Key, Tx,
    tables::{
        credit as table,
        credit_sums::{self, LoanRow},
        liquidity,
    },
};

use super::{keep_receipt, legs, read_back, receipts, recorded};
use crate::Runtime;

pub(crate) fn key(settlement_id: &str) -> Key {
    Key::text("credit_loan", settlement_id)
}

impl Handle<CreditLoanGet> for Runtime {
    async fn handle(&self, ask: Ask<CreditLoanGet>) -> Result<Answer<LoanReply>, Stop> {
        Ok(self
            .store
            .read("credit.loan_get", ask.path.settlement_id, async |tx, id: &String| look(tx, id).await)
            .await?
            .into())
    }
}

async fn look(tx: &mut Tx, settlement_id: &str) -> Result<LoanReply, Stop> {
    let row = credit_sums::loan(tx, settlement_id).await?;
    shown(tx, &row.ok_or_else(no_loan)?).await
}

pub(crate) fn no_loan() -> Refusal {
    Refusal::not_found("nothing was drawn for such a settlement")
}

pub(crate) async fn shown(tx: &mut Tx, row: &LoanRow) -> Result<LoanReply, Stop> {
    let notice = table::receipt(tx, "loan", &row.settlement_id, receipts::DEFAULT).await?;
    let loan = Loan {
        settlement_id: row.settlement_id.clone(),
        envelope_id: row.envelope_id.clone(),
        agent_id: row.agent_id.clone(),
        pool_id: row.pool_id.clone(),
        principal_msats: row.principal.get(),
        routing_msats: row.routing.get(),
        fee_msats: row.fee.get(),
        repaid_msats: row.repaid.get(),
        owed_msats: row.owed(),
        status: row.status,
        due_at: row.due_at,
        default_notice: notice.map(|notice| read_back(&notice.receipt)).transpose()?,
        payment: payment(tx, row).await?,
    };
    Ok(LoanReply { schema: "openagents.credit.loan.v1".into(), loan })
}

/// What the money went out with. A settlement of before this was told has nothing to say.
async fn payment(tx: &mut Tx, row: &LoanRow) -> Result<Option<LoanPayment>, Stop> {
    let Some(settlement) = table::settlement(tx, &row.envelope_id).await? else { return Ok(None) };
    let settlement: CreditSettlement = read_back(&settlement.reply)?;
    let Some(quote_id) = settlement.quote_id else { return Ok(None) };
    let Some(payment) = liquidity::payment(tx, &quote_id).await? else { return Ok(None) };
    Ok(Some(LoanPayment {
        quote_id,
        invoice: payment.invoice,
        payment_hash: payment.payment_hash,
        wallet_receipt_sha256: payment.wallet_receipt_sha256,
        payment_proof: payment.wallet_response.map(|text| read_back(text.get())).transpose()?,
    }))
}

/// An owner pays so much of what is owed. The caller holds the loan's key.
pub(crate) async fn pay(
    tx: &mut Tx,
    row: LoanRow,
    owner: &Owner,
    msats: u64,
    now: Timestamp,
) -> Result<LoanRow, Stop> {
    let payer = AccountId::new(Kind::Owner, oa_contract::Asset::msats(), owner.to_string())?;
    let repayment = legs::Repayment {
        id: format!("credit:{}:repay:{}", row.settlement_id, row.repayments + 1),
        payer,
        account: &row.account,
        agent_id: &row.agent_id,
        pool_id: &row.pool_id,
        msats,
    };
    legs::repay(tx, &repayment, now).await?;
    repaid(tx, row, msats, now).await
}

/// So much less is owed; the ledger says so already.
pub(crate) async fn repaid(
    tx: &mut Tx,
    mut row: LoanRow,
    msats: u64,
    now: Timestamp,
) -> Result<LoanRow, Stop> {
    let beyond = || Fault::msg(format!("more was repaid of {} than is owed", row.settlement_id));
    let sum = row.repaid.get().checked_add(msats).and_then(Msats::new).ok_or_else(beyond)?;
    row.repaid = sum;
    row.repayments += 1;
    if row.owed() == 0 {
        row.status = LoanStatus::Repaid;
        row.closed_at = Some(now);
    }
    credit_sums::put_loan(tx, &row).await?;
    Ok(row)
}

/// What is done with one debt that is due.
pub(crate) struct Due {
    pub settlement_id: String,
    pub signer: Option<Signer>,
    pub now: Timestamp,
}

/// Collected from whoever answers for it, within the owner's budget; otherwise the agent has defaulted, and a notice says
/// so. What was not repaid then is asked for again later. Says whether anything was done.
pub(crate) async fn fall_due(tx: &mut Tx, due: &Due) -> Result<bool, Stop> {
    let Some(row) = credit_sums::loan(tx, &due.settlement_id).await? else { return Ok(false) };
    if row.status == LoanStatus::Repaid || row.due_at > due.now {
        return Ok(false);
    }
    if let Some(owner) = Owner::parse(&row.borrower) {
        let owed = row.owed();
        match pay(tx, row.clone(), &owner, owed, due.now).await {
            Ok(_) => return Ok(true),
            // The budget does not allow it.
            Err(Stop::Refusal(_)) => {}
            Err(fault) => return Err(fault),
        }
    }
    if row.status == LoanStatus::Defaulted {
        credit_sums::put_loan(tx, &LoanRow { closed_at: Some(due.now), ..row }).await?;
        return Ok(false);
    }
    let envelope = table::envelope(tx, &row.envelope_id).await?;
    let envelope = envelope.ok_or_else(|| Fault::msg("a loan without its envelope"))?.envelope;
    let signer = due.signer.as_ref();
    let label = signer.map(|signer| receipts::label(&envelope, false, due.now, signer));
    let default = receipts::Defaulted {
        settlement_id: &row.settlement_id,
        reason: "not_repaid",
        loss_sats: row.owed().div_ceil(1_000),
        verification_receipt_sha256: None,
        created_at: due.now,
    };
    let notice = receipts::defaulted(&envelope, &default, label.as_ref(), signer);
    keep_receipt(tx, "loan", &row.settlement_id, &notice, due.now).await?;
    let at = recorded(tx, &row.agent_id, due.now).await?;
    let row =
        LoanRow { status: LoanStatus::Defaulted, closed_at: Some(due.now), defaulted_at: Some(at), ..row };
    credit_sums::put_loan(tx, &row).await?;
    Ok(true)
}
