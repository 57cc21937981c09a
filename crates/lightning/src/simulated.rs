//! A SIMULATED wallet on a SIMULATED network: invoices are real texts that no real node can pay, and the preimage of
//! each follows from what stands in it. So any two of these wallets can pay each other, and there is no money.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use lightning_invoice::{Bolt11Invoice, InvoiceBuilder, PaymentSecret};
use oa_contract::{Clock, Msats, canonical::hex};
use secp256k1::{
    Secp256k1, SecretKey,
    hashes::{Hash as _, sha256},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    bolt11::{self, Network},
    wallet::{
        About, Balances, ChannelHealth, Invoice, InvoiceOrder, InvoiceRef, InvoiceState, Later, NodeBalances,
        OnchainOrder, OnchainSent, OnchainState, Paid, PayOrder, PaymentRef, PaymentState, Preimage,
        ReceiveAddress, Received, Trouble, Wallet, WalletError,
    },
};

/// What every simulated payment costs beyond its amount, if so much is allowed.
const FEE_MSATS: u64 = 1_000;
/// What a sending costs, by its speed.
const ONCHAIN_FEES_SATS: [u64; 3] = [15, 40, 75];

/// A wallet with as much as it is said to hold.
pub struct Simulated {
    wallet_id: String,
    network: Network,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    balance_msats: u64,
    payments: HashMap<String, Result<Paid, Trouble>>,
    /// By payment hash: which request paid it.
    paid: HashMap<String, String>,
    invoices: HashMap<String, Made>,
    received: HashMap<String, u64>,
    sent: HashMap<String, OnchainSent>,
}

#[derive(Clone)]
struct Made {
    invoice: Invoice,
    settled: Option<(Msats, i64)>,
}

fn payment_secret(wallet_id: &str, request_id: &str) -> [u8; 32] {
    Sha256::digest(format!("oa simulated secret\0{wallet_id}\0{request_id}")).into()
}

/// The preimage that opens a simulated invoice; of a real one it opens nothing.
fn preimage_of(secret: &[u8]) -> Preimage {
    let mut hash = Sha256::new();
    hash.update("oa simulated preimage\0");
    hash.update(secret);
    Preimage(hash.finalize().into())
}

/// An invoice of the simulated network: for tests and demonstrations.
pub fn invoice(
    network: Network,
    request_id: &str,
    amount: Msats,
    made_at: oa_contract::Timestamp,
    expiry_seconds: u64,
) -> Option<String> {
    build(network, "simulated", request_id, amount, None, made_at, expiry_seconds)
}

/// What opens an invoice of the simulated network; of a real one it opens nothing.
pub fn preimage(bolt11: &str) -> Option<Preimage> {
    let invoice: Bolt11Invoice = bolt11.trim().parse().ok()?;
    Some(preimage_of(&invoice.payment_secret().0))
}

fn build(
    network: Network,
    wallet_id: &str,
    request_id: &str,
    amount: Msats,
    memo: Option<&str>,
    made_at: oa_contract::Timestamp,
    expiry_seconds: u64,
) -> Option<String> {
    let secret = payment_secret(wallet_id, request_id);
    let preimage = preimage_of(&secret);
    let key = SecretKey::from_slice(&Sha256::digest(format!("oa simulated node\0{wallet_id}"))).ok()?;
    let memo: String = memo.unwrap_or("simulated").chars().take(100).collect();
    let invoice = InvoiceBuilder::new(network.currency())
        .description(memo)
        .payment_hash(sha256::Hash::hash(&preimage.0))
        .payment_secret(PaymentSecret(secret))
        .duration_since_epoch(Duration::from_secs(made_at.unix_seconds().unsigned_abs()))
        .min_final_cltv_expiry_delta(18)
        .expiry_time(Duration::from_secs(expiry_seconds))
        .amount_milli_satoshis(amount.get())
        .build_signed(|message| Secp256k1::new().sign_ecdsa_recoverable(message, &key))
        .ok()?;
    Some(invoice.to_string())
}

impl Simulated {
    pub fn new(
        wallet_id: impl Into<String>,
        network: Network,
        clock: Arc<dyn Clock>,
        balance: Msats,
    ) -> Self {
        let state = State { balance_msats: balance.get(), ..State::default() };
        Simulated { wallet_id: wallet_id.into(), network, clock, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody else has paid an invoice of ours, with so much; says whether it was ours and open.
    pub fn receive(&self, bolt11: &str, amount: Option<Msats>) -> bool {
        let now = self.clock.now().millis();
        let mut state = self.state();
        let Some(made) =
            state.invoices.values_mut().find(|made| made.invoice.bolt11 == bolt11 && made.settled.is_none())
        else {
            return false;
        };
        let amount = amount.unwrap_or(made.invoice.amount);
        made.settled = Some((amount, now));
        state.balance_msats = state.balance_msats.saturating_add(amount.get());
        true
    }

    /// Every open invoice of ours that `payer` has paid is settled.
    pub fn settle_with(&self, payer: &Simulated) {
        let paid: HashSet<String> = payer.state().paid.keys().cloned().collect();
        let now = self.clock.now().millis();
        let mut state = self.state();
        let is_paid = |made: &&mut Made| {
            made.settled.is_none()
                && made.invoice.payment_hash.as_ref().is_some_and(|hash| paid.contains(hash))
        };
        let mut received = 0_u64;
        for made in state.invoices.values_mut().filter(is_paid) {
            made.settled = Some((made.invoice.amount, now));
            received = received.saturating_add(made.invoice.amount.get());
        }
        state.balance_msats = state.balance_msats.saturating_add(received);
    }

    /// Somebody else has sent so much to an address of ours.
    pub fn receive_onchain(&self, address: &str, sats: u64) {
        *self.state().received.entry(address.to_owned()).or_default() += sats;
    }

    fn pay_now(&self, order: &PayOrder) -> Result<Paid, WalletError> {
        let now = self.clock.now();
        let mut state = self.state();
        if let Some(known) = state.payments.get(&order.request_id) {
            return known.clone().map_err(WalletError::NotDone);
        }
        if order.not_after.is_some_and(|moment| now > moment) {
            return Err(WalletError::not_done("too_late", "the payment may not begin any more"));
        }
        let done = self.settle(&mut state, order);
        state.payments.insert(order.request_id.clone(), done.clone());
        done.map_err(WalletError::NotDone)
    }

    fn settle(&self, state: &mut State, order: &PayOrder) -> Result<Paid, Trouble> {
        let refused = |code: &str, why: &str| Err(Trouble::new(code, why));
        let now = self.clock.now();
        let checked = bolt11::check(&order.invoice, self.network, now)
            .map_err(|why| Trouble::new("prepare_failed", why.to_string()))?;
        let invoice: Bolt11Invoice =
            order.invoice.trim().parse().map_err(|_| Trouble::new("prepare_failed", "not an invoice"))?;
        let preimage = preimage_of(&invoice.payment_secret().0);
        if preimage.payment_hash() != checked.payment_hash {
            return refused("payment_failed", "only invoices of the simulated network can be paid");
        }
        if checked.amount != order.amount {
            return refused("prepare_failed", "the invoice asks for another amount");
        }
        if state.paid.contains_key(&checked.payment_hash) {
            return refused("payment_failed", "the invoice was paid already");
        }
        let fee = FEE_MSATS.min(order.max_fee.get());
        let total = checked.amount.get().saturating_add(fee);
        if state.balance_msats < total {
            return refused("payment_failed", "the simulated wallet does not hold so much");
        }
        state.balance_msats -= total;
        state.paid.insert(checked.payment_hash.clone(), order.request_id.clone());
        let ours = state
            .invoices
            .values_mut()
            .find(|made| made.invoice.payment_hash.as_deref() == Some(&checked.payment_hash));
        if let Some(made) = ours {
            made.settled = Some((checked.amount, now.millis()));
            state.balance_msats = state.balance_msats.saturating_add(checked.amount.get());
        }
        Ok(Paid {
            payment_id: Some(format!("sim_{}", &checked.payment_hash[..16])),
            preimage: Some(preimage),
            amount: Some(checked.amount),
            fee: Msats::new(fee),
            paid_at_ms: Some(now.millis()),
            receipt_sha256: None,
            preimage_sha256: Some(preimage.text_sha256()),
            evidence: None,
        })
    }

    fn make(&self, order: &InvoiceOrder) -> Result<Invoice, WalletError> {
        let now = self.clock.now();
        let mut state = self.state();
        if let Some(made) = state.invoices.get(&order.request_id) {
            return Ok(made.invoice.clone());
        }
        let expiry = order.expiry_seconds.unwrap_or(3_600).clamp(1, 365 * 86_400);
        let memo = order.memo.as_deref();
        let bolt11 = build(self.network, &self.wallet_id, &order.request_id, order.amount, memo, now, expiry)
            .ok_or_else(|| WalletError::not_done("prepare_failed", "such an invoice cannot be made"))?;
        let lasts_ms = i64::try_from(expiry).unwrap_or(i64::MAX / 1_000).saturating_mul(1_000);
        let invoice = Invoice {
            invoice_hash: bolt11::invoice_hash(&bolt11),
            payment_hash: bolt11::payment_hash(&bolt11),
            bolt11,
            amount: order.amount,
            created_at_ms: Some(now.millis()),
            expires_at_ms: Some(now.millis().saturating_add(lasts_ms)),
            receipt_sha256: None,
        };
        state.invoices.insert(order.request_id.clone(), Made { invoice: invoice.clone(), settled: None });
        Ok(invoice)
    }

    fn send(&self, order: &OnchainOrder) -> Result<OnchainSent, WalletError> {
        let now = self.clock.now();
        let mut state = self.state();
        if let Some(sent) = state.sent.get(&order.request_id) {
            return Ok(sent.clone());
        }
        let fee = ONCHAIN_FEES_SATS[order.speed as usize];
        if order.max_fee_sats.is_some_and(|most| fee > most) {
            return Err(WalletError::not_done("onchain_fee_too_high", format!("the fee is {fee} sats")));
        }
        let total = order.amount_sats.saturating_add(fee).saturating_mul(1_000);
        if state.balance_msats < total {
            return Err(WalletError::not_done("send_refused", "the simulated wallet does not hold so much"));
        }
        state.balance_msats -= total;
        let txid = hex(&Sha256::digest(format!("oa simulated transaction\0{}", order.request_id)));
        let sent = OnchainSent {
            txid,
            fee_sats: Some(fee),
            sent_at_ms: Some(now.millis()),
            receipt_sha256: None,
            evidence: None,
        };
        state.sent.insert(order.request_id.clone(), sent.clone());
        Ok(sent)
    }
}

impl Wallet for Simulated {
    fn about(&self) -> About {
        About {
            face: "simulated",
            wallet_id: self.wallet_id.clone(),
            simulated: true,
            honours_deadlines: true,
        }
    }

    fn pay<'a>(&'a self, order: &'a PayOrder) -> Later<'a, Result<Paid, WalletError>> {
        Box::pin(async move { self.pay_now(order) })
    }

    fn payment<'a>(&'a self, payment: &'a PaymentRef) -> Later<'a, Result<PaymentState, WalletError>> {
        Box::pin(async move {
            Ok(match self.state().payments.get(&payment.request_id) {
                Some(Ok(paid)) => PaymentState::Succeeded(paid.clone()),
                Some(Err(trouble)) => PaymentState::Failed(trouble.clone()),
                None => PaymentState::NeverHeardOf,
            })
        })
    }

    fn create_invoice<'a>(&'a self, order: &'a InvoiceOrder) -> Later<'a, Result<Invoice, WalletError>> {
        Box::pin(async move { self.make(order) })
    }

    fn invoice<'a>(&'a self, invoice: &'a InvoiceRef) -> Later<'a, Result<InvoiceState, WalletError>> {
        Box::pin(async move {
            let now = self.clock.now().millis();
            Ok(match self.state().invoices.get(&invoice.request_id) {
                None => InvoiceState::NeverHeardOf,
                Some(Made { settled: Some((received, at)), .. }) => {
                    InvoiceState::Settled { received: *received, settled_at_ms: Some(*at) }
                }
                Some(made) if made.invoice.expires_at_ms.is_some_and(|end| now > end) => {
                    InvoiceState::Canceled
                }
                Some(_) => InvoiceState::Open,
            })
        })
    }

    fn receive_address<'a>(&'a self, request_id: &'a str) -> Later<'a, Result<ReceiveAddress, WalletError>> {
        Box::pin(async move {
            let tail = hex(&Sha256::digest(format!("{}\0{request_id}", self.wallet_id)));
            Ok(ReceiveAddress {
                request_id: request_id.to_owned(),
                address: format!("bcrt1qsimulated{}", &tail[..24]),
                network: Some(self.network.name().into()),
            })
        })
    }

    fn received<'a>(&'a self, address: &'a ReceiveAddress) -> Later<'a, Result<Received, WalletError>> {
        Box::pin(async move {
            let confirmed_sats = self.state().received.get(&address.address).copied().unwrap_or_default();
            Ok(Received { confirmed_sats, unconfirmed_sats: 0, confirmations: 6 })
        })
    }

    fn send_onchain<'a>(&'a self, order: &'a OnchainOrder) -> Later<'a, Result<OnchainSent, WalletError>> {
        Box::pin(async move { self.send(order) })
    }

    fn onchain_fee<'a>(&'a self, order: &'a OnchainOrder) -> Later<'a, Result<u64, WalletError>> {
        Box::pin(async move { Ok(ONCHAIN_FEES_SATS[order.speed as usize]) })
    }

    fn onchain_payment<'a>(&'a self, request_id: &'a str) -> Later<'a, Result<OnchainState, WalletError>> {
        Box::pin(async move {
            let sent = self.state().sent.get(request_id).cloned();
            Ok(sent.map_or(OnchainState::NeverHeardOf, OnchainState::Sent))
        })
    }

    fn balances<'a>(&'a self) -> Later<'a, Result<Balances, WalletError>> {
        Box::pin(async move {
            Ok(Balances { spendable_msats: self.state().balance_msats, onchain_sats: Some(0) })
        })
    }

    fn node_balances<'a>(&'a self) -> Later<'a, Result<NodeBalances, WalletError>> {
        Box::pin(async { Ok(NodeBalances::default()) })
    }

    fn channel_health<'a>(&'a self) -> Later<'a, Result<ChannelHealth, WalletError>> {
        Box::pin(async move {
            let outbound_sats = self.state().balance_msats / 1_000;
            Ok(ChannelHealth {
                total_sats: outbound_sats.saturating_mul(2),
                outbound_sats,
                inbound_sats: outbound_sats,
                channel_count: 1,
                connected_channel_count: 1,
            })
        })
    }

    fn status<'a>(&'a self) -> Later<'a, Result<Value, WalletError>> {
        Box::pin(async move {
            let balance_sats = self.state().balance_msats / 1_000;
            Ok(
                json!({"ok": true, "status": {"walletId": self.wallet_id, "mode": "simulated", "simulated": true,
                "balanceSats": balance_sats, "network": self.network.name(), "lifecycle": "connected", "ready": true}}),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use oa_contract::Timestamp;

    use super::*;

    struct Still;

    impl Clock for Still {
        fn now(&self) -> Timestamp {
            Timestamp::from_unix_seconds(1_772_000_000)
        }
    }

    fn wallet(name: &str) -> Simulated {
        Simulated::new(name, Network::Regtest, Arc::new(Still), Msats::new(10_000_000).expect("msats"))
    }

    fn order(request_id: &str, invoice: &Invoice) -> PayOrder {
        PayOrder {
            request_id: request_id.into(),
            invoice: invoice.bolt11.clone(),
            payment_hash: invoice.payment_hash.clone(),
            amount: invoice.amount,
            max_fee: Msats::new(5_000).expect("msats"),
            host: "h".into(),
            not_after: None,
        }
    }

    #[tokio::test]
    async fn two_simulated_wallets_pay_each_other_once() {
        let (payer, payee) = (wallet("a"), wallet("b"));
        let wanted = InvoiceOrder {
            request_id: "i".into(),
            amount: Msats::new(42_000).expect("msats"),
            memo: None,
            expiry_seconds: None,
        };
        let invoice = payee.create_invoice(&wanted).await.expect("an invoice");
        assert_eq!(payee.create_invoice(&wanted).await.expect("the same"), invoice);
        let paid = payer.pay(&order("p", &invoice)).await.expect("paid");
        assert_eq!(paid.preimage.map(|preimage| preimage.payment_hash()), invoice.payment_hash);
        assert_eq!(payer.pay(&order("p", &invoice)).await.expect("paid before"), paid);
        assert!(payer.pay(&order("q", &invoice)).await.is_err());
        assert_eq!(payer.balances().await.expect("balances").spendable_msats, 10_000_000 - 43_000);
        let known = InvoiceRef { request_id: "i".into(), payment_hash: None };
        assert_eq!(payee.invoice(&known).await, Ok(InvoiceState::Open));
        let other = wallet("c");
        let same = other.create_invoice(&InvoiceOrder { request_id: "j".into(), ..wanted }).await;
        payer.pay(&order("r", &same.expect("an invoice"))).await.expect("paid");
        other.settle_with(&payer);
        other.settle_with(&payer);
        assert_eq!(other.balances().await.expect("balances").spendable_msats, 10_042_000);
        assert!(payee.receive(&invoice.bolt11, None) && !payee.receive(&invoice.bolt11, None));
        assert!(matches!(payee.invoice(&known).await, Ok(InvoiceState::Settled { .. })));
    }
}
