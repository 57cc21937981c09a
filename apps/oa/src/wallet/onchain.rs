//! Decides how the wallet sends on-chain: a plan with its price first, and the plan once (liquidity §9.2).

use std::{sync::Arc, time::Duration};

use oa_contract::Msats;
use oa_lightning::{OnchainOrder, OnchainSent, OnchainState, Speed, WalletError, receipts};
use oa_store::tables::wallet::{RequestRow, RequestState};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Service,
    book::{self, Begin, Begun, End, Lane},
    http::{Asked, No},
    pay::no,
};

/// How long the wallet may take to tell.
const LOOK: Duration = Duration::from_secs(10);
/// A request that was handed to a wallet has come to it, or never will, after so long.
const SETTLED_MS: i64 = 120_000;
/// With these a wallet refuses a sending that it has understood.
const REFUSED: [&str; 3] = ["send_refused", "onchain_fee_too_high", "unsupported"];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct QuoteBody {
    #[serde(alias = "request_id", default)]
    request_id: Option<String>,
    payment: QuoteWhat,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct QuoteWhat {
    address: String,
    amount_sats: u64,
    confirmation_speed: String,
}

#[derive(Deserialize)]
struct CommitBody {
    #[serde(rename = "planId")]
    plan_id: String,
}

impl Service {
    pub async fn quote_onchain(&self, asked: &Asked) -> Result<Value, No> {
        let body: QuoteBody = asked.read()?;
        let named = body.request_id.map(|id| id.trim().to_owned()).filter(|id| !id.is_empty());
        let plan_id = named.unwrap_or_else(|| asked.id.clone());
        let what = body.payment;
        let (address, amount_sats) = (what.address.trim().to_owned(), what.amount_sats);
        let Some(speed) = Speed::parse(what.confirmation_speed.trim()) else {
            return Err(No::invalid("confirmationSpeed must be slow, medium or fast"));
        };
        if address.is_empty() || amount_sats == 0 || plan_id.len() > 256 || address.len() > 256 {
            return Err(No::invalid("an address and an amount above 0 are needed"));
        }
        let fingerprint = receipts::onchain_fingerprint(&self.wallet_id, &address, amount_sats, speed);
        let order = OnchainOrder {
            request_id: plan_id.clone(),
            address: address.clone(),
            amount_sats,
            max_fee_sats: None,
            speed,
        };
        let work = async {
            let fee = self.wallet.onchain_fee(&order).await.map_err(|error| no(error.trouble()))?;
            Ok(
                json!({"planId": plan_id, "walletId": self.wallet_id, "address": address, "amountSats": amount_sats,
                "confirmationSpeed": speed.name(), "feeSats": fee, "totalSats": amount_sats.saturating_add(fee),
                "quotedAtMs": self.now().millis()}),
            )
        };
        self.once("plan", &plan_id, fingerprint, work).await
    }

    pub async fn commit_onchain(self: &Arc<Self>, asked: &Asked) -> Result<Value, No> {
        let body: CommitBody = asked.read()?;
        let broken = |stop: oa_contract::Stop| No::broken(&stop);
        let plan = book::find(&self.store, "plan", body.plan_id.trim()).await.map_err(broken)?;
        let Some(plan) = plan else {
            return Err(No::invalid("no such plan: ask for a quote first"));
        };
        let quoted = book::reply(&plan).map_err(|fault| No::broken(&fault.into()))?;
        let order = order_of(&quoted).ok_or_else(|| No::invalid("the plan cannot be read"))?;
        let total =
            quoted["totalSats"].as_u64().and_then(|sats| sats.checked_mul(1_000)).and_then(Msats::new);
        let Some(total) = total else { return Err(No::invalid("the plan asks for more than there is")) };
        // Only pools pay on-chain.
        let caps = self.limits.of(Lane::Payout);
        let cap = caps.request_msats;
        if total.get() > cap {
            let no =
                No::new(403, "request_cap_exceeded", "amount and fee are more than one payment may cost");
            return Err(no.with(json!({"maxAllowedMsats": cap, "quotedAmountMsats": total})));
        }
        let Some(turn) = self.busy.take("onchain", &order.request_id) else {
            return Err(No::new(409, "idempotency_in_flight", "the same request is being worked on"));
        };
        let begin = Begin {
            kind: "onchain",
            id: order.request_id.clone(),
            fingerprint: plan.fingerprint.clone(),
            spend: total,
            asked: quoted.clone(),
            lane: Lane::Payout,
            limits: self.limits.clone(),
            now: self.now(),
        };
        match book::begin(&self.store, begin).await.map_err(broken)? {
            Begun::Yours { .. } => {}
            other => return other.answered(caps).unwrap_or_else(|| Err(No::invalid("no such plan"))),
        }
        let service = self.clone();
        let sending = tokio::spawn(async move {
            let _turn = turn;
            let said = tokio::time::timeout(service.patience, service.wallet.send_onchain(&order)).await;
            let said =
                said.unwrap_or_else(|_| Err(WalletError::unknown("payment_pending", "not sent in time")));
            service.sent(&quoted, said).await
        });
        sending.await.unwrap_or_else(|_| Err(No::new(504, "payment_pending", "the sending is still open")))
    }

    async fn sent(&self, quoted: &Value, said: Result<OnchainSent, WalletError>) -> Result<Value, No> {
        let plan_id = quoted["planId"].as_str().unwrap_or_default();
        let (end, answer) = match said {
            Ok(sent) => {
                let reply = self.told(quoted, &sent);
                (End::Done(reply.clone()), Ok(reply))
            }
            Err(WalletError::NotDone(trouble)) => {
                let no = no(&trouble);
                (End::Refused(no.clone()), Err(no))
            }
            Err(WalletError::Unknown(trouble)) => {
                return Err(No::new(504, "payment_pending", trouble.message));
            }
        };
        book::end(&self.store, "onchain", plan_id, end, self.now()).await.map_err(|stop| No {
            code: "payment_pending".into(),
            status: 504,
            ..No::broken(&stop)
        })?;
        answer
    }

    fn told(&self, quoted: &Value, sent: &OnchainSent) -> Value {
        let sats = |name: &str| quoted[name].as_u64().unwrap_or_default();
        let fee_sats = sent.fee_sats.unwrap_or_else(|| sats("feeSats"));
        let sent_at_ms = sent.sent_at_ms.unwrap_or_else(|| self.now().millis());
        let text = |name: &str| quoted[name].as_str().unwrap_or_default();
        let speed = Speed::parse(text("confirmationSpeed")).unwrap_or_default();
        let receipt = receipts::Sent {
            plan_id: text("planId"),
            wallet_id: &self.wallet_id,
            address: text("address"),
            amount_sats: sats("amountSats"),
            fee_sats,
            speed,
            txid: &sent.txid,
            sent_at_ms,
        }
        .receipt();
        json!({"planId": text("planId"), "walletId": self.wallet_id, "address": text("address"),
            "amountSats": sats("amountSats"), "feeSats": fee_sats,
            "totalSats": sats("amountSats").saturating_add(fee_sats), "confirmationSpeed": speed.name(),
            "txid": sent.txid, "paidAtMs": sent_at_ms, "receipt": receipt.document,
            "simulated": self.wallet.about().simulated})
    }

    /// `GET /onchain/{id}`: what became of a sending; one that is open is asked about now.
    pub async fn onchain(&self, id: &str) -> Result<Value, No> {
        let find = || book::find(&self.store, "onchain", id);
        let missing = || No::new(404, "payment_not_found", "nothing was ever sent under this id");
        let mut row = find().await.map_err(|stop| No::broken(&stop))?.ok_or_else(missing)?;
        if row.state == RequestState::InFlight {
            self.look_after_sending(&row).await;
            row = find().await.map_err(|stop| No::broken(&stop))?.ok_or_else(missing)?;
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

    /// Asks about a sending that is open, and hands over once more what the wallet has not heard of: it was written
    /// here and never came to it. The wallet tells repeated orders by their id.
    pub async fn look_after_sending(&self, row: &RequestRow) {
        // Whoever sends it ends it.
        let Some(_turn) = self.busy.take("onchain", &row.request_id) else { return };
        let Ok(quoted) = serde_json::from_str(row.asked.get()) else {
            tracing::error!(request_id = row.request_id, "what was kept of a sending cannot be read");
            return;
        };
        let asking = tokio::time::timeout(LOOK, self.wallet.onchain_payment(&row.request_id)).await;
        let said = match asking {
            Ok(Ok(OnchainState::Sent(sent))) => Ok(sent),
            Ok(Ok(OnchainState::Failed(trouble))) => Err(WalletError::NotDone(trouble)),
            Ok(Ok(OnchainState::NeverHeardOf)) if self.may_send_again(row) => match order_of(&quoted) {
                Some(order) => self.send_again(&order).await,
                None => return,
            },
            _ => return,
        };
        if let Err(no) = self.sent(&quoted, said).await {
            tracing::warn!(request_id = row.request_id, code = no.code, why = no.message, "an open sending");
        }
    }

    /// Whether what was handed over before has surely come to the wallet by now, if it was.
    fn may_send_again(&self, row: &RequestRow) -> bool {
        let patience = i64::try_from(self.patience.as_millis()).unwrap_or(i64::MAX);
        let since = row.begun_at.millis();
        self.now().millis() > since.saturating_add(patience.saturating_mul(2).max(SETTLED_MS))
    }

    async fn send_again(&self, order: &OnchainOrder) -> Result<OnchainSent, WalletError> {
        tracing::warn!(
            request_id = order.request_id,
            "the wallet never heard of a sending; it is sent again"
        );
        let said = tokio::time::timeout(self.patience, self.wallet.send_onchain(order)).await;
        match said {
            Ok(Err(WalletError::NotDone(trouble))) if !REFUSED.contains(&trouble.code.as_str()) => {
                // It was not reached; that ends nothing.
                Err(WalletError::Unknown(trouble))
            }
            Ok(said) => said,
            Err(_) => Err(WalletError::unknown("payment_pending", "not sent in time")),
        }
    }
}

fn order_of(quoted: &Value) -> Option<OnchainOrder> {
    Some(OnchainOrder {
        request_id: quoted["planId"].as_str()?.to_owned(),
        address: quoted["address"].as_str()?.to_owned(),
        amount_sats: quoted["amountSats"].as_u64()?,
        max_fee_sats: quoted["feeSats"].as_u64(),
        speed: Speed::parse(quoted["confirmationSpeed"].as_str()?)?,
    })
}
