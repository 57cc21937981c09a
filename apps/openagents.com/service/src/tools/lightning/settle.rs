//! Decides how an invoice is paid once: reserved in one transaction with the day's limit, marked before the payer
//! hears of it, and ended only by what the payer says. No timer turns a silence into a failure.

use oa_contract::{Fault, Stop, Timestamp, canonical::hex};
use oa_store::{
    Key, Tx,
    tables::l402::{self as rows, Credential, Payment, PaymentState, Spend, TaskState},
};
use sha2::{Digest, Sha256};

use super::day_of;
use crate::tools::{
    Tools,
    config::TrustMode,
    ledger,
    payer::{Order, Said},
};

/// How far the money has come.
pub enum Settled {
    Paid(Proof),
    /// Nothing was paid, and nothing will be.
    Failed {
        code: String,
        message: String,
        retryable: bool,
    },
    /// Only the payer knows, and it did not say.
    Unknown {
        code: String,
        message: String,
    },
    OverDay(OverDay),
}

/// What a payment is proved by.
#[derive(Clone)]
pub struct Proof {
    pub payment_id: String,
    pub preimage_hex: String,
    pub macaroon: String,
    pub amount_msats: Option<u64>,
}

/// What the day has left is not enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverDay {
    pub limit_msats: u64,
    pub spent_msats: u64,
    pub projected_msats: u64,
}

/// The limits of a day: the caller's, counted for the autopilot, and the house's, counted for everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct DayLimits {
    pub caller_msats: Option<u64>,
    pub house_msats: Option<u64>,
}

/// What is to be paid, and for what.
pub struct Bill<'a> {
    pub subject: String,
    pub principal: &'a str,
    pub autopilot: &'a str,
    pub payment_hash: &'a str,
    pub invoice: &'a str,
    pub macaroon: &'a str,
    pub origin: &'a str,
    pub host: &'a str,
    pub scope: &'a str,
    pub quoted_msats: Option<u64>,
    pub max_msats: u64,
    pub day: DayLimits,
}

/// The place of a payment's secrets in the vault.
fn place(payment_hash: &str) -> String {
    format!("payment/{payment_hash}")
}

/// The place of a credential in the vault.
pub fn credential_place(principal: &str, origin: &str, scope: &str) -> String {
    format!("credential/{principal}/{origin}/{scope}")
}

/// The subject of everything that is paid for a task.
pub fn task_subject(task_id: &str) -> String {
    format!("task:{task_id}")
}

struct Reservation {
    payment: Payment,
    day: DayLimits,
}

enum Reserved {
    /// This payment is the one for the subject; how far it has come stands in it.
    This(Box<Payment>),
    /// The invoice is being paid, or was paid, for something else.
    Elsewhere,
    OverDay(OverDay),
}

struct Conclusion {
    payment_hash: String,
    end: Ended,
    now: Timestamp,
}

enum Ended {
    Paid { payment_id: Option<String>, preimage: String, amount_msats: Option<u64>, credential: Credential },
    Failed,
    Unknown,
}

impl Tools {
    /// The payment that is under way or done for a call or a task.
    pub(super) async fn payment_of(&self, subject: &str) -> Result<Option<Payment>, Stop> {
        let ask = subject.to_owned();
        let read = async |tx: &mut Tx, subject: &String| rows::payment_of_subject(tx, subject).await;
        self.store.read("l402_payment_of", ask, read).await
    }

    /// Whether the day's limits leave room for a price.
    pub(super) async fn room_today(
        &self,
        principal: &str,
        autopilot: &str,
        day: DayLimits,
        amount_msats: u64,
    ) -> Result<Option<OverDay>, Stop> {
        let today = day_of(self.now());
        let ask = (principal.to_owned(), autopilot.to_owned(), today, day, amount_msats);
        self.store
            .read("l402_room", ask, async |tx: &mut Tx, (principal, autopilot, today, day, amount)| {
                let spends = spends(tx, principal, autopilot, today).await?;
                Ok(over(&spends, autopilot, *day, *amount))
            })
            .await
    }

    /// Pays a bill, or finds out what became of it.
    pub(super) async fn settle(&self, bill: Bill<'_>) -> Result<Settled, Stop> {
        let _turn = self.paying.take(bill.payment_hash).await;
        let known = {
            let read = async |tx: &mut Tx, hash: &String| rows::payment(tx, hash).await;
            self.store.read("l402_payment", bill.payment_hash.to_owned(), read).await?
        };
        if known.is_none_or(|known| known.state == PaymentState::Failed) {
            // Something to pay from, before anything is reserved.
            self.payer.prepare(&wallet_of(bill.principal)).await?;
        }
        let payment = self.draft(&bill)?;
        let keys = keys(&payment);
        let ask = Reservation { payment, day: bill.day };
        match self.store.write("l402_reserve", keys, ask, reserve).await? {
            Reserved::This(payment) => self.drive(*payment).await,
            Reserved::Elsewhere => Ok(Settled::Failed {
                code: "invoice_already_used".into(),
                message: "the invoice is paid, or being paid, for something else".into(),
                retryable: true,
            }),
            Reserved::OverDay(over) => Ok(Settled::OverDay(over)),
        }
    }

    /// Takes up a payment that an earlier attempt left behind.
    pub(in crate::tools) async fn resume(&self, payment: Payment) -> Result<Settled, Stop> {
        let _turn = self.paying.take(&payment.payment_hash).await;
        let read = async |tx: &mut Tx, hash: &String| rows::payment(tx, hash).await;
        let now = self.store.read("l402_payment", payment.payment_hash.clone(), read).await?;
        self.drive(now.unwrap_or(payment)).await
    }

    fn draft(&self, bill: &Bill<'_>) -> Result<Payment, Stop> {
        let now = self.now();
        let macaroon = self.vault.seal(&*self.ids, &place(bill.payment_hash), bill.macaroon)?;
        Ok(Payment {
            payment_hash: bill.payment_hash.to_owned(),
            subject: bill.subject.clone(),
            principal: bill.principal.to_owned(),
            state: PaymentState::Pending,
            payer: self.payer.backend().to_owned(),
            request_id: format!("l402:{}", bill.payment_hash),
            invoice: bill.invoice.to_owned(),
            macaroon,
            origin: bill.origin.to_owned(),
            host: bill.host.to_owned(),
            scope: bill.scope.to_owned(),
            autopilot: bill.autopilot.to_owned(),
            day: day_of(now),
            quoted_msats: bill.quoted_msats,
            max_msats: bill.max_msats,
            reserved_msats: bill.quoted_msats.unwrap_or(bill.max_msats),
            paid_msats: None,
            payment_id: None,
            preimage: None,
            attempt: 1,
            created_at: now,
            updated_at: now,
        })
    }

    async fn drive(&self, payment: Payment) -> Result<Settled, Stop> {
        if payment.state == PaymentState::Paid {
            return self.proven(payment);
        }
        if payment.state == PaymentState::Failed {
            return Ok(Settled::Failed {
                code: "payment_failed".into(),
                message: "the payment failed".into(),
                retryable: true,
            });
        }
        if payment.payer != self.payer.backend() && payment.state != PaymentState::Pending {
            return Ok(Settled::Unknown {
                code: "payer_changed".into(),
                message: format!("only {} knows what became of this payment", payment.payer),
            });
        }
        let order = Order {
            request_id: payment.request_id.clone(),
            wallet_id: wallet_of(&payment.principal),
            invoice: payment.invoice.clone(),
            payment_hash: payment.payment_hash.clone(),
            max_msats: payment.max_msats,
            host: payment.host.clone(),
        };
        let said = match payment.state {
            PaymentState::Pending if self.begin(&payment).await? => self.payer.pay(&order).await,
            _ => self.payer.resolve(&order).await,
        };
        self.conclude(payment, self.believed(&order, said)).await
    }

    /// A proof that proves something else is none.
    fn believed(&self, order: &Order, said: Said) -> Said {
        match &said {
            Said::Paid { preimage, .. }
                if self.config.trust == TrustMode::Strict
                    && hex(&Sha256::digest(preimage)) != order.payment_hash =>
            {
                Said::Unknown {
                    code: "preimage_mismatch".into(),
                    message: "what the payer calls a proof does not prove this payment".into(),
                }
            }
            _ => said,
        }
    }

    /// Notes that the payer is about to hear of it; `false` when it may have heard of it before.
    async fn begin(&self, payment: &Payment) -> Result<bool, Stop> {
        let ask = (payment.payment_hash.clone(), self.now());
        self.store.write("l402_begin", keys(payment), ask, begin).await
    }

    async fn conclude(&self, payment: Payment, said: Said) -> Result<Settled, Stop> {
        let hash = payment.payment_hash.clone();
        let now = self.now();
        let record = |end| {
            let ask = Conclusion { payment_hash: hash.clone(), end, now };
            self.store.write("l402_conclude", keys(&payment), ask, conclude)
        };
        match said {
            Said::Paid { payment_id, preimage, amount_msats } => {
                let preimage_hex = hex(&preimage);
                let Payment { principal, origin, scope, .. } = &payment;
                let macaroon = self.macaroon(&payment)?;
                let place_of = credential_place(principal, origin, scope);
                let credential = Credential {
                    principal: principal.clone(),
                    origin: origin.clone(),
                    scope: scope.clone(),
                    credential: self.vault.seal(
                        &*self.ids,
                        &place_of,
                        &format!("{macaroon}:{preimage_hex}"),
                    )?,
                    expires_at: now.plus_seconds(self.config.l402.credential_ttl_seconds),
                };
                let preimage = self.vault.seal(&*self.ids, &place(&hash), &preimage_hex)?;
                let paid = record(Ended::Paid { payment_id, preimage, amount_msats, credential }).await?;
                self.proven(paid)
            }
            Said::Refused { code, message, retryable } => {
                record(Ended::Failed).await?;
                Ok(Settled::Failed { code, message, retryable })
            }
            Said::Unknown { code, message } => {
                record(Ended::Unknown).await?;
                Ok(Settled::Unknown { code, message })
            }
        }
    }

    fn macaroon(&self, payment: &Payment) -> Result<String, Stop> {
        let opened = self.vault.open(&place(&payment.payment_hash), &payment.macaroon);
        Ok(opened.ok_or_else(|| sealed_otherwise(&payment.payment_hash))?)
    }

    fn proven(&self, payment: Payment) -> Result<Settled, Stop> {
        let sealed = payment.preimage.as_deref().unwrap_or_default();
        let preimage = self.vault.open(&place(&payment.payment_hash), sealed);
        Ok(Settled::Paid(Proof {
            preimage_hex: preimage.ok_or_else(|| sealed_otherwise(&payment.payment_hash))?,
            macaroon: self.macaroon(&payment)?,
            payment_id: payment.payment_id.unwrap_or(payment.payment_hash),
            amount_msats: payment.paid_msats,
        }))
    }
}

fn sealed_otherwise(payment_hash: &str) -> Fault {
    Fault::msg(format!(
        "the payment {payment_hash} is sealed with another OA_INTEGRATION_SECRET_ENCRYPTION_KEY than this service has"
    ))
}

fn wallet_of(principal: &str) -> String {
    format!("oa-{principal}")
}

fn keys(payment: &Payment) -> [Key; 2] {
    [ledger::key(&payment.principal), Key::text("invoice", payment.payment_hash.clone())]
}

/// What the day has cost: for all, and for the autopilot if there is one.
async fn spends(tx: &mut Tx, principal: &str, autopilot: &str, day: &str) -> Result<Vec<Spend>, Stop> {
    let mut spends = vec![rows::spend(tx, principal, "", day).await?];
    if !autopilot.is_empty() {
        spends.push(rows::spend(tx, principal, autopilot, day).await?);
    }
    Ok(spends)
}

fn too_much() -> Fault {
    Fault::msg("a day's spending does not fit into a number")
}

/// The first limit that a price would break.
fn over(spends: &[Spend], autopilot: &str, day: DayLimits, amount_msats: u64) -> Option<OverDay> {
    let breaks = |of: &str, limit: Option<u64>| {
        let limit_msats = limit?;
        let spend = spends.iter().find(|spend| spend.autopilot == of)?;
        let spent = u128::from(spend.reserved_msats) + u128::from(spend.paid_msats);
        let projected = spent + u128::from(amount_msats);
        let shown = |msats: u128| u64::try_from(msats).unwrap_or(u64::MAX);
        let (spent_msats, projected_msats) = (shown(spent), shown(projected));
        (projected > u128::from(limit_msats)).then_some(OverDay { limit_msats, spent_msats, projected_msats })
    };
    breaks(autopilot, day.caller_msats).or_else(|| breaks("", day.house_msats))
}

async fn reserve(tx: &mut Tx, ask: &Reservation) -> Result<Reserved, Stop> {
    let mut payment = ask.payment.clone();
    if let Some(known) = rows::payment(tx, &payment.payment_hash).await? {
        let same = known.principal == payment.principal;
        match known.state {
            PaymentState::Failed => payment.attempt = known.attempt + 1,
            // What its owner has paid is theirs to use, under whichever call.
            PaymentState::Paid if same => return Ok(Reserved::This(Box::new(known))),
            _ if known.subject == payment.subject => return Ok(Reserved::This(Box::new(known))),
            _ => return Ok(Reserved::Elsewhere),
        }
    }
    let mut spends = spends(tx, &payment.principal, &payment.autopilot, &payment.day).await?;
    if let Some(over) = over(&spends, &payment.autopilot, ask.day, payment.reserved_msats) {
        return Ok(Reserved::OverDay(over));
    }
    for spend in &mut spends {
        let reserved = spend.reserved_msats.checked_add(payment.reserved_msats);
        spend.reserved_msats = reserved.ok_or_else(too_much)?;
        rows::put_spend(tx, spend).await?;
    }
    rows::put_payment(tx, &payment).await?;
    move_task(tx, &payment, TaskState::Paying, payment.created_at).await?;
    Ok(Reserved::This(Box::new(payment)))
}

async fn begin(tx: &mut Tx, (payment_hash, now): &(String, Timestamp)) -> Result<bool, Stop> {
    let known = rows::payment(tx, payment_hash).await?;
    let Some(payment) = known.filter(|known| known.state == PaymentState::Pending) else { return Ok(false) };
    rows::put_payment(tx, &Payment { state: PaymentState::Paying, updated_at: *now, ..payment }).await?;
    Ok(true)
}

async fn conclude(tx: &mut Tx, ask: &Conclusion) -> Result<Payment, Stop> {
    let known = rows::payment(tx, &ask.payment_hash).await?;
    let known = known.ok_or_else(|| Fault::msg("a payment was forgotten while it was made"))?;
    if matches!(known.state, PaymentState::Paid | PaymentState::Failed) {
        // Somebody else heard it first.
        return Ok(known);
    }
    let now = ask.now;
    let mut payment = Payment { updated_at: now, ..known };
    let mut spent = None;
    match &ask.end {
        Ended::Unknown => payment.state = PaymentState::Unknown,
        Ended::Failed => {
            payment.state = PaymentState::Failed;
            spent = Some(0);
        }
        Ended::Paid { payment_id, preimage, amount_msats, credential } => {
            let amount = amount_msats.unwrap_or(payment.reserved_msats);
            payment.state = PaymentState::Paid;
            payment.payment_id.clone_from(payment_id);
            payment.preimage = Some(preimage.clone());
            payment.paid_msats = Some(amount);
            spent = Some(amount);
            rows::put_credential(tx, credential).await?;
        }
    }
    rows::put_payment(tx, &payment).await?;
    if let Some(spent) = spent {
        for mut spend in spends(tx, &payment.principal, &payment.autopilot, &payment.day).await? {
            let reserved = spend.reserved_msats.checked_sub(payment.reserved_msats);
            spend.reserved_msats = reserved.ok_or_else(too_much)?;
            spend.paid_msats = spend.paid_msats.checked_add(spent).ok_or_else(too_much)?;
            rows::put_spend(tx, &spend).await?;
        }
    }
    match payment.state {
        PaymentState::Paid => move_task(tx, &payment, TaskState::Paid, now).await?,
        PaymentState::Failed => move_task(tx, &payment, TaskState::Failed, now).await?,
        _ => {}
    }
    Ok(payment)
}

/// The task that a payment is for goes with it.
async fn move_task(tx: &mut Tx, payment: &Payment, state: TaskState, now: Timestamp) -> Result<(), Stop> {
    let Some(task_id) = payment.subject.strip_prefix("task:") else { return Ok(()) };
    let Some(task) = rows::task(tx, task_id).await? else { return Ok(()) };
    rows::put_task(tx, &rows::Task { state, changed_at: now, ..task }).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spend(autopilot: &str, reserved_msats: u64, paid_msats: u64) -> Spend {
        Spend {
            principal: "7".into(),
            autopilot: autopilot.into(),
            day: "d".into(),
            reserved_msats,
            paid_msats,
        }
    }

    #[test]
    fn a_day_counts_what_is_paid_and_what_may_still_be() {
        let day = DayLimits { caller_msats: Some(100), house_msats: Some(150) };
        let spends = [spend("", 60, 40), spend("a", 10, 40)];
        assert_eq!(over(&spends, "a", day, 50), None);
        let caller = OverDay { limit_msats: 100, spent_msats: 50, projected_msats: 101 };
        assert_eq!(over(&spends, "a", day, 51), Some(caller));
        let house = OverDay { limit_msats: 150, spent_msats: 100, projected_msats: 151 };
        assert_eq!(over(&spends, "a", DayLimits { caller_msats: None, ..day }, 51), Some(house));
        assert_eq!(over(&spends, "", day, 1).map(|over| over.limit_msats), Some(100));
        assert!(over(&[spend("", u64::MAX, 1)], "", day, 1).is_some());
        assert_eq!(over(&spends, "a", DayLimits::default(), u64::MAX), None);
    }
}
