//! Decides how an invoice is paid once: reserved in one transaction with the day's limit, marked before the payer
//! hears of it, and ended only by what the payer says. No timer turns a silence into a failure.

use oa_contract::{Fault, Stop, canonical::hex};
use oa_store::{
    Key, Tx,
    tables::l402::{self as rows, Credential, Payment, PaymentState},
};
use sha2::{Digest, Sha256};

use super::{
    day_of,
    payments::{
        Conclusion, DayLimits, Ended, OverDay, Reservation, Reserved, begin, conclude, over, reserve, spends,
    },
};
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
    /// The approval had expired before anything was reserved.
    TooLate,
}

/// What a payment is proved by.
#[derive(Clone)]
pub struct Proof {
    pub payment_id: String,
    pub preimage_hex: String,
    pub macaroon: String,
    pub amount_msats: Option<u64>,
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

/// The scope as a credential is kept under it: an index has no room for a long one.
pub fn kept_scope(scope: &str) -> String {
    const LONGEST: usize = 1_200;
    match scope.len() {
        ..=LONGEST => scope.to_owned(),
        _ => format!("sha256:{}", hex(&Sha256::digest(scope))),
    }
}

/// The subject of everything that is paid for a task.
pub fn task_subject(task_id: &str) -> String {
    format!("task:{task_id}")
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
            Reserved::TooLate => Ok(Settled::TooLate),
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

    /// Lets go of a payment of which nobody has told the payer; `false` when somebody has.
    pub(in crate::tools) async fn give_up(&self, payment: &Payment) -> Result<bool, Stop> {
        let _turn = self.paying.take(&payment.payment_hash).await;
        let end = Ended::NeverBegun;
        let ask = Conclusion { payment_hash: payment.payment_hash.clone(), end, now: self.now() };
        let now = self.store.write("l402_give_up", keys(payment), ask, conclude).await?;
        Ok(now.state == PaymentState::Failed)
    }

    /// Notes that a payment was looked after, so that others have their turn.
    pub(in crate::tools) async fn postpone(&self, payment: &Payment) -> Result<(), Stop> {
        let end = Ended::Unknown;
        let ask = Conclusion { payment_hash: payment.payment_hash.clone(), end, now: self.now() };
        self.store.write("l402_postpone", keys(payment), ask, conclude).await.map(drop)
    }

    async fn drive(&self, payment: Payment) -> Result<Settled, Stop> {
        let payment = match payment.state {
            PaymentState::Pending => self.begin(&payment).await?,
            _ => payment,
        };
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
            self.postpone(&payment).await?;
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
            PaymentState::Pending => self.payer.pay(&order).await,
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

    /// Notes that the payer is about to hear of it. Gives the payment as it stood before: pending, unless somebody
    /// else was first.
    async fn begin(&self, payment: &Payment) -> Result<Payment, Stop> {
        let ask = (payment.payment_hash.clone(), self.payer.backend().to_owned(), self.now());
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
                    scope: kept_scope(scope),
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
