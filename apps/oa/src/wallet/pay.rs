//! Decides what the wallet pays: who may be paid, how much at most, once under each request id; and what it says when
//! somebody asks what became of it (liquidity §9.2).

use std::{sync::Arc, time::Duration};

use oa_contract::{Msats, Timestamp};
use oa_lightning::{
    Paid, PayOrder, PaymentRef, PaymentState, Trouble, WalletError, bolt11,
    receipts::{self, Payment},
};
use oa_store::tables::wallet::{RequestRow, RequestState};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Caps, Limits, Service,
    book::{self, Begin, Begun, End},
    http::{Asked, No},
};

/// A payment that nobody had a deadline for is given up so long after it was not heard of.
const FORGOTTEN_MS: i64 = 10 * 60 * 1_000;
/// Clocks of wallets differ by less.
const GRACE_MS: i64 = 60_000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PayBody {
    #[serde(alias = "request_id", default)]
    request_id: Option<String>,
    payment: PayWhat,
    #[serde(default)]
    max_fee_msats: Option<u64>,
    #[serde(default)]
    not_after_ms: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PayWhat {
    invoice: String,
    max_amount_msats: u64,
    host: String,
}

/// A payment that is asked for, wherever it was asked.
pub struct Wanted {
    pub request_id: String,
    pub invoice: String,
    pub max_amount_msats: u64,
    pub max_fee_msats: Option<u64>,
    pub host: String,
    pub not_after: Option<Timestamp>,
}

/// What is kept of a payment that was begun, so that it can be asked about.
#[derive(Deserialize, serde::Serialize)]
struct Kept {
    order_id: String,
    payment_hash: Option<String>,
    host: String,
    invoice_hash: String,
    quoted_msats: u64,
    not_after_ms: Option<i64>,
    window_msats: u64,
    /// After this nobody takes the invoice any more.
    #[serde(default)]
    expires_at_ms: Option<i64>,
}

impl Service {
    pub async fn pay_bolt11(self: &Arc<Self>, asked: &Asked) -> Result<Value, No> {
        let body: PayBody = asked.read()?;
        let named = body.request_id.map(|id| id.trim().to_owned()).filter(|id| !id.is_empty());
        let wanted = Wanted {
            request_id: named.unwrap_or_else(|| asked.id.clone()),
            invoice: body.payment.invoice.trim().to_owned(),
            max_amount_msats: body.payment.max_amount_msats,
            max_fee_msats: body.max_fee_msats,
            host: body.payment.host.trim().to_ascii_lowercase(),
            not_after: body.not_after_ms.map(|millis| Timestamp::from_micros(millis.saturating_mul(1_000))),
        };
        self.pay(wanted).await
    }

    /// Pays, or says how it was paid.
    pub async fn pay(self: &Arc<Self>, wanted: Wanted) -> Result<Value, No> {
        if wanted.request_id.len() > 256 {
            return Err(No::invalid("a request id has at most 256 bytes"));
        }
        if wanted.invoice.is_empty() || wanted.max_amount_msats == 0 {
            return Err(No::invalid("payment.invoice and payment.maxAmountMsats are needed"));
        }
        let lane = Limits::lane_of(&wanted.host);
        let caps = self.limits.of(lane);
        let invoice_hash = bolt11::invoice_hash(&wanted.invoice);
        let fingerprint =
            receipts::pay_fingerprint(&self.wallet_id, &wanted.host, &invoice_hash, wanted.max_amount_msats);
        let known =
            book::find(&self.store, "pay", &wanted.request_id).await.map_err(|stop| No::broken(&stop))?;
        if let Some(known) = known {
            let known = book::known_as(&known, &fingerprint).map_err(|fault| No::broken(&fault.into()))?;
            if let Some(answer) = known.answered(caps) {
                return answer;
            }
        }
        let (order, expires_at) = self.admit(&wanted, caps)?;
        let kept = Kept {
            order_id: order.request_id.clone(),
            payment_hash: order.payment_hash.clone(),
            host: wanted.host.clone(),
            invoice_hash,
            quoted_msats: order.amount.get(),
            not_after_ms: wanted.not_after.map(Timestamp::millis),
            window_msats: 0,
            expires_at_ms: Some(expires_at.millis()),
        };
        // Taken before it is written, so that nobody looks after it beside whoever makes it.
        let Some(turn) = self.busy.take("pay", &order.request_id) else { return Err(in_flight()) };
        let begin = Begin {
            kind: "pay",
            id: wanted.request_id,
            fingerprint,
            spend: order.amount,
            asked: serde_json::to_value(&kept).unwrap_or_default(),
            lane,
            limits: self.limits.clone(),
            now: self.now(),
        };
        let begun = book::begin(&self.store, begin).await.map_err(|stop| No::broken(&stop))?;
        let window_msats = match begun {
            Begun::Yours { window_msats } => window_msats,
            other => return other.answered(caps).unwrap_or(Err(in_flight())),
        };
        let kept = Kept { window_msats, ..kept };
        let service = self.clone();
        // By itself: whoever asked may go away.
        let paying = tokio::spawn(async move {
            let _turn = turn;
            let said = tokio::time::timeout(service.patience, service.wallet.pay(&order)).await;
            let said = said.unwrap_or_else(|_| {
                Err(WalletError::unknown("payment_pending", "the payment did not end in time"))
            });
            service.ended(&kept, said).await
        });
        paying.await.unwrap_or_else(|_| Err(No::new(504, "payment_pending", "the payment is still open")))
    }

    /// The checks before anything is begun, in the order of the specification.
    fn admit(&self, wanted: &Wanted, caps: Caps) -> Result<(PayOrder, Timestamp), No> {
        let allowed = &self.limits.allowed_hosts;
        if !allowed.is_empty() && !allowed.contains(&wanted.host) {
            let no = No::new(403, "host_not_allowed", format!("{} may not be paid", wanted.host));
            return Err(no.with(json!({"host": wanted.host})));
        }
        let cap = caps.request_msats;
        if wanted.max_amount_msats > cap {
            let no = No::new(403, "request_cap_exceeded", "maxAmountMsats is more than one payment may cost");
            return Err(no.with(json!({"maxAllowedMsats": cap})));
        }
        let checked = bolt11::check(&wanted.invoice, self.network, self.now())
            .map_err(|why| No::new(502, "prepare_failed", why.to_string()))?;
        let most = wanted.max_amount_msats.min(cap);
        if checked.amount.get() > most {
            let no = No::new(403, "quoted_amount_exceeds_cap", "the invoice asks for more than is allowed");
            let quoted = checked.amount.get();
            return Err(no.with(json!({"quotedAmountMsats": quoted, "maxAllowedMsats": most})));
        }
        if wanted.not_after.is_some_and(|moment| self.now() > moment) {
            return Err(No::new(409, "too_late", "the payment may not begin any more"));
        }
        // Amount and fee together stay below what was allowed.
        let room = most - checked.amount.get();
        let fee = wanted.max_fee_msats.map_or(room, |fee| fee.min(room));
        let order = PayOrder {
            request_id: wanted.request_id.clone(),
            invoice: wanted.invoice.clone(),
            payment_hash: Some(checked.payment_hash),
            amount: checked.amount,
            max_fee: Msats::new(fee).unwrap_or(Msats::MAX),
            host: wanted.host.clone(),
            not_after: wanted.not_after,
        };
        Ok((order, checked.expires_at))
    }

    /// Writes down how a payment ended, if it did, and says it.
    async fn ended(&self, kept: &Kept, said: Result<Paid, WalletError>) -> Result<Value, No> {
        let (end, answer) = match said {
            Ok(paid) if proves(&paid, kept) => {
                let reply = self.reply(kept, &paid);
                (Some(End::Done(reply.clone())), Ok(reply))
            }
            Ok(_) => {
                let why = "the wallet says that it paid, but its preimage does not open the invoice's hash";
                (None, Err(No::new(502, "payment_missing_preimage", why)))
            }
            Err(WalletError::NotDone(trouble)) => {
                let no = no(&trouble);
                // A late copy of a request that has a last moment must not be paid after all.
                let end = if kept.not_after_ms.is_some() { End::Refused(no.clone()) } else { End::Forgotten };
                (Some(end), Err(no))
            }
            Err(WalletError::Unknown(trouble)) => {
                (None, Err(No::new(504, "payment_pending", trouble.message)))
            }
        };
        if let Some(end) = end {
            book::end(&self.store, "pay", &kept.order_id, end, self.now())
                .await
                // Unheard it is unknown to whoever asked, and asked about later.
                .map_err(|stop| No { code: "payment_pending".into(), status: 504, ..No::broken(&stop) })?;
        }
        answer
    }

    fn reply(&self, kept: &Kept, paid: &Paid) -> Value {
        let preimage_hex = paid.preimage.map(|preimage| preimage.hex()).unwrap_or_default();
        let paid_at_ms = paid.paid_at_ms.unwrap_or_else(|| self.now().millis());
        let payment_id = paid.payment_id.clone().unwrap_or_else(|| kept.order_id.clone());
        let settled_msats = paid.amount.map_or(kept.quoted_msats, Msats::get);
        let receipt = Payment {
            request_id: &kept.order_id,
            wallet_id: &self.wallet_id,
            host: &kept.host,
            payment_id: &payment_id,
            invoice_hash: &kept.invoice_hash,
            quoted_msats: kept.quoted_msats,
            settled_msats,
            preimage_hex: &preimage_hex,
            paid_at_ms,
        }
        .receipt();
        json!({
            "requestId": kept.order_id,
            "walletId": self.wallet_id,
            "payment": {"paymentId": payment_id, "amountMsats": settled_msats, "preimageHex": preimage_hex,
                "paidAtMs": paid_at_ms, "feeMsats": paid.fee, "paymentHash": kept.payment_hash},
            "quotedAmountMsats": kept.quoted_msats,
            "windowSpendMsatsAfterPayment": kept.window_msats,
            "receipt": receipt.document,
            "simulated": self.wallet.about().simulated,
        })
    }

    /// `GET /payments/{id}`: what became of a payment; one that is open is asked about now.
    pub async fn payment(&self, id: &str) -> Result<Value, No> {
        let find = || book::find(&self.store, "pay", id);
        let Some(mut row) = find().await.map_err(|stop| No::broken(&stop))? else {
            return Err(No::new(404, "payment_not_found", "no payment was ever begun under this id"));
        };
        if row.state == RequestState::InFlight {
            self.look_after(&row).await;
            row = match find().await.map_err(|stop| No::broken(&stop))? {
                Some(row) => row,
                None => {
                    return Err(No::new(404, "payment_not_found", "the payment was not made, and forgotten"));
                }
            };
        }
        match row.state {
            RequestState::Done => book::reply(&row).map_err(|fault| No::broken(&fault.into())),
            RequestState::InFlight => Ok(json!({"requestId": id, "state": "in_flight"})),
            RequestState::Refused => {
                let no = book::refusal(&row);
                let error = json!({"code": no.code, "message": no.message});
                Ok(json!({"requestId": id, "state": "failed", "error": error}))
            }
        }
    }

    /// Asks the wallet once more about a payment whose end nobody knows.
    pub async fn look_after(&self, row: &RequestRow) {
        let Ok(mut kept) = serde_json::from_str::<Kept>(row.asked.get()) else {
            tracing::error!(request_id = row.request_id, "what was kept of a payment cannot be read");
            return;
        };
        // Whoever makes it ends it.
        let Some(_turn) = self.busy.take("pay", &row.request_id) else { return };
        kept.window_msats = kept.quoted_msats;
        let payment = PaymentRef {
            request_id: kept.order_id.clone(),
            payment_hash: kept.payment_hash.clone(),
            begun_at: Some(row.begun_at),
        };
        let asking = tokio::time::timeout(Duration::from_secs(10), self.wallet.payment(&payment)).await;
        let said = match asking {
            Ok(Ok(PaymentState::Succeeded(paid))) => Ok(paid),
            Ok(Ok(PaymentState::Failed(trouble))) => Err(WalletError::NotDone(trouble)),
            Ok(Ok(PaymentState::NeverHeardOf)) if self.is_over(row, &kept) => {
                Err(WalletError::not_done("send_refused", "the wallet has not heard of the payment"))
            }
            _ => return,
        };
        if let Err(no) = self.ended(&kept, said).await {
            tracing::warn!(request_id = row.request_id, code = no.code, why = no.message, "an open payment");
        }
    }

    /// Whether a payment that the wallet has not heard of cannot be on its way to it any more.
    fn is_over(&self, row: &RequestRow, kept: &Kept) -> bool {
        let now = self.now().millis();
        let over = match (self.wallet.about().honours_deadlines, kept.not_after_ms) {
            (true, Some(moment)) => Some(moment),
            (true, None) => Some(row.begun_at.millis().saturating_add(FORGOTTEN_MS)),
            // A wallet that knows of no last moment refuses an invoice that is too old, and nothing else for certain.
            (false, _) => kept.expires_at_ms,
        };
        over.is_some_and(|over| now > over.saturating_add(GRACE_MS))
    }
}

fn in_flight() -> No {
    No::new(409, "idempotency_in_flight", "the same request is being worked on")
}

fn proves(paid: &Paid, kept: &Kept) -> bool {
    paid.preimage.map(|preimage| preimage.payment_hash()) == kept.payment_hash
}

/// The wallet's word, if it is one of the protocol's.
pub fn no(trouble: &Trouble) -> No {
    let code = match trouble.code.as_str() {
        known if super::status_of(known) != 0 => known,
        _ => "payment_failed",
    };
    No::new(super::status_of(code), code, trouble.message.clone())
}
