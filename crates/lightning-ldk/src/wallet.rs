//! Decides how the nodes serve as a wallet: they live on a thread of their own and do one thing after the other.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use oa_contract::{Clock, Msats, canonical::unhex};
use oa_lightning::{
    About, Balances, ChannelHealth, Invoice, InvoiceOrder, InvoiceRef, InvoiceState, Later, NodeBalances,
    Paid, PayOrder, PaymentRef, PaymentState, Preimage, Trouble, Wallet, WalletError,
    bolt11::{invoice_hash, payment_hash},
    receipts::{Made, Payment},
};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::{
    keeper::Watch,
    payments::{Asked, Invoiced, Sent, State, payment_id},
    regtest::{Channels, Failure, Place, Regtest, Settings, Wish},
};

/// LDK wants to hear of time about so often.
const TICK: Duration = Duration::from_secs(10);
const TICKS_PER_MINUTE: u32 = 6;
const DEFAULT_EXPIRY_SECONDS: u64 = 3600;

/// How the nodes are made.
pub struct Config {
    /// Where they keep what they know.
    pub folder: PathBuf,
    pub wallet_id: String,
    /// Random, for nodes that are made; nodes that are there keep theirs.
    pub seed: [u8; 32],
    pub clock: Arc<dyn Clock>,
    pub channel_sats: u64,
    /// Called at both sides of every commit.
    pub watch: Watch,
}

type Job = Box<dyn FnOnce(&mut Regtest) -> Option<Failure> + Send>;

/// Our node, as a wallet. When its thread ends, because a node cannot keep what it knows, nothing is known any more
/// until the process is started anew: every answer says so, and none says that something was not paid.
pub struct LdkWallet {
    /// None while it is dropped.
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    wallet_id: String,
    identity: String,
}

impl LdkWallet {
    /// Makes the nodes, or brings them back. Blocks until their channels can be used.
    pub fn open(config: Config) -> Result<Self, Failure> {
        let Config { folder, wallet_id, seed, clock, channel_sats, watch } = config;
        let now = Arc::new(move || Duration::from_micros(u64::try_from(clock.now().micros()).unwrap_or(0)));
        let settings = Settings { folder, seed, now, watch, channel_sats, fsync: true };
        let (jobs, todo) = mpsc::channel::<Job>();
        let (say, opened) = mpsc::channel();
        let thread = thread::Builder::new().name("ldk".into()).spawn(move || {
            let mut nodes = match Regtest::open(settings) {
                Ok(nodes) => nodes,
                Err(failure) => return say.send(Err(failure)).unwrap_or_default(),
            };
            say.send(Ok(nodes.identity(Place::Ours))).unwrap_or_default();
            let mut ticks = 0;
            loop {
                let ended = match todo.recv_timeout(TICK) {
                    Ok(job) => job(&mut nodes),
                    Err(RecvTimeoutError::Timeout) => {
                        ticks += 1;
                        let minute = ticks % TICKS_PER_MINUTE == 0;
                        let ticked = nodes.ten_seconds_went_by();
                        ticked.and_then(|()| if minute { nodes.a_minute_went_by() } else { Ok(()) }).err()
                    }
                    Err(RecvTimeoutError::Disconnected) => return,
                };
                if let Some(failure) = ended {
                    tracing::error!(%failure, "the nodes stop: what they would do now might not be remembered");
                    return;
                }
            }
        })?;
        let gone = || Failure::Broken("the nodes ended while they were opened".into());
        let identity = opened.recv().map_err(|_| gone())??;
        Ok(LdkWallet { jobs: Some(jobs), thread: Some(thread), wallet_id, identity })
    }

    /// Does something on the nodes' thread. `None` when they have ended, before or meanwhile.
    async fn ask<T: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Regtest) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |nodes| match f(nodes) {
            Err(failure) if !failure.is_the_callers() => {
                let told = Failure::Broken(failure.to_string());
                answer.send(Err(told)).ok();
                Some(failure)
            }
            said => {
                answer.send(said).ok();
                None
            }
        });
        let gone = || Failure::Broken("the nodes have stopped".into());
        self.jobs.as_ref().ok_or_else(gone)?.send(job).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    async fn paid(&self, order: &PayOrder) -> Result<Paid, WalletError> {
        if let Some(named) = &order.payment_hash
            && payment_hash(&order.invoice).as_ref() != Some(named)
        {
            return Err(WalletError::not_done("prepare_failed", "the invoice has another payment hash"));
        }
        let asked = Asked {
            request_id: order.request_id.clone(),
            invoice: order.invoice.trim().to_owned(),
            amount_msats: order.amount.get(),
            max_fee_msats: order.max_fee.get(),
            host: order.host.clone(),
            not_after_ms: order.not_after.map(|end| u64::try_from(end.millis()).unwrap_or(0)),
        };
        let sent = self.ask(move |nodes| nodes.pay(&asked)).await.map_err(|failure| match failure {
            Failure::Refused(why) => WalletError::not_done("prepare_failed", why),
            Failure::Conflict(why) => WalletError::not_done("idempotency_conflict", why),
            Failure::TooLate => WalletError::not_done("too_late", failure.to_string()),
            other => unclear(&other),
        })?;
        match self.state_of(&sent) {
            PaymentState::Succeeded(paid) => Ok(paid),
            PaymentState::Failed(trouble) => Err(WalletError::NotDone(trouble)),
            PaymentState::InFlight | PaymentState::NeverHeardOf | PaymentState::CannotTell { .. } => {
                Err(WalletError::unknown("payment_pending", "the payee has not taken it yet"))
            }
        }
    }

    fn state_of(&self, sent: &Sent) -> PaymentState {
        match &sent.state {
            State::Pending => PaymentState::InFlight,
            State::Failed { reason } => {
                PaymentState::Failed(Trouble::new("payment_failed", format!("LDK: {reason}")))
            }
            State::Paid { preimage, fee_msats } => {
                let payment_id = format!("{}", payment_id(&sent.request_id));
                let paid_at_ms = millis(sent.ended_at_ms.unwrap_or(sent.asked_at_ms));
                let receipt = Payment {
                    request_id: &sent.request_id,
                    wallet_id: &self.wallet_id,
                    host: &sent.host,
                    payment_id: &payment_id,
                    invoice_hash: &invoice_hash(&sent.invoice),
                    quoted_msats: sent.amount_msats,
                    settled_msats: sent.amount_msats,
                    preimage_hex: preimage,
                    paid_at_ms,
                }
                .receipt();
                let proof = unhex(preimage).map(Preimage);
                PaymentState::Succeeded(Paid {
                    payment_id: Some(payment_id),
                    preimage: proof,
                    amount: Msats::new(sent.amount_msats),
                    fee: Msats::new(*fee_msats),
                    paid_at_ms: Some(paid_at_ms),
                    receipt_sha256: Some(receipt.sha256),
                    preimage_sha256: proof.map(|proof| proof.text_sha256()),
                    evidence: None,
                })
            }
        }
    }

    async fn made(&self, place: Place, order: &InvoiceOrder) -> Result<Invoice, WalletError> {
        let seconds = order.expiry_seconds.unwrap_or(DEFAULT_EXPIRY_SECONDS);
        let Ok(expiry_seconds) = u32::try_from(seconds) else {
            return Err(WalletError::not_done("invalid_request", "the invoice would be valid for too long"));
        };
        let wish = Wish {
            request_id: order.request_id.clone(),
            amount_msats: order.amount.get(),
            description: order.memo.clone().unwrap_or_default(),
            expiry_seconds,
            held: None,
        };
        let made =
            self.ask(move |nodes| nodes.invoice(place, &wish)).await.map_err(|failure| match failure {
                Failure::Refused(why) => WalletError::not_done("invalid_request", why),
                Failure::Conflict(why) => WalletError::not_done("idempotency_conflict", why),
                other => unclear(&other),
            })?;
        Ok(self.invoice_of(&made))
    }

    fn invoice_of(&self, made: &Invoiced) -> Invoice {
        let invoice_hash = invoice_hash(&made.invoice);
        let (created_at_ms, expires_at_ms) = (millis(made.created_at_ms), millis(made.expires_at_ms));
        let receipt = Made {
            request_id: &made.request_id,
            wallet_id: &self.wallet_id,
            invoice_hash: &invoice_hash,
            amount_msats: made.amount_msats,
            created_at_ms,
            expires_at_ms: Some(expires_at_ms),
        }
        .receipt();
        Invoice {
            bolt11: made.invoice.clone(),
            invoice_hash,
            payment_hash: Some(made.payment_hash.clone()),
            amount: Msats::new(made.amount_msats).unwrap_or(Msats::MAX),
            created_at_ms: Some(created_at_ms),
            expires_at_ms: Some(expires_at_ms),
            receipt_sha256: Some(receipt.sha256),
        }
    }

    async fn settled(&self, place: Place, invoice: &InvoiceRef) -> Result<InvoiceState, WalletError> {
        let request_id = invoice.request_id.clone();
        let found = self.ask(move |nodes| {
            let Some(made) = nodes.invoiced(place, &request_id)? else { return Ok(None) };
            Ok(Some(nodes.received(place, &made.payment_hash)?))
        });
        Ok(match found.await.map_err(|failure| unclear(&failure))? {
            None => InvoiceState::NeverHeardOf,
            // Also when it is old: it is the payer who looks at its time.
            Some(None) => InvoiceState::Open,
            Some(Some(got)) => InvoiceState::Settled {
                received: Msats::new(got.amount_msats).unwrap_or(Msats::MAX),
                settled_at_ms: Some(millis(got.claimed_at_ms)),
            },
        })
    }

    /// An invoice of the shop: somebody whom the wallet can pay, with nothing outside of this process.
    pub async fn shop_invoice(&self, order: &InvoiceOrder) -> Result<Invoice, WalletError> {
        self.made(Place::Shop, order).await
    }

    /// What the shop says of an invoice of its own.
    pub async fn shop_settled(&self, invoice: &InvoiceRef) -> Result<InvoiceState, WalletError> {
        self.settled(Place::Shop, invoice).await
    }

    async fn our_channels(&self) -> Result<Channels, WalletError> {
        self.ask(|nodes| Ok(nodes.channels(Place::Ours))).await.map_err(|failure| unclear(&failure))
    }
}

impl Drop for LdkWallet {
    /// Waits for the nodes, so that whoever opens their folder next finds it free.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Wallet for LdkWallet {
    fn about(&self) -> About {
        About { face: "ldk", wallet_id: self.wallet_id.clone(), simulated: true, honours_deadlines: true }
    }

    fn pay<'a>(&'a self, order: &'a PayOrder) -> Later<'a, Result<Paid, WalletError>> {
        Box::pin(self.paid(order))
    }

    fn payment<'a>(&'a self, payment: &'a PaymentRef) -> Later<'a, Result<PaymentState, WalletError>> {
        let request_id = payment.request_id.clone();
        Box::pin(async move {
            let sent = self.ask(move |nodes| nodes.sent(&request_id)).await;
            let sent = sent.map_err(|failure| unclear(&failure))?;
            Ok(sent.map_or(PaymentState::NeverHeardOf, |sent| self.state_of(&sent)))
        })
    }

    fn create_invoice<'a>(&'a self, order: &'a InvoiceOrder) -> Later<'a, Result<Invoice, WalletError>> {
        Box::pin(self.made(Place::Ours, order))
    }

    fn invoice<'a>(&'a self, invoice: &'a InvoiceRef) -> Later<'a, Result<InvoiceState, WalletError>> {
        Box::pin(self.settled(Place::Ours, invoice))
    }

    fn balances<'a>(&'a self) -> Later<'a, Result<Balances, WalletError>> {
        Box::pin(async move {
            let spendable_msats = self.our_channels().await?.outbound_msats;
            Ok(Balances { spendable_msats, onchain_sats: Some(0) })
        })
    }

    fn node_balances<'a>(&'a self) -> Later<'a, Result<NodeBalances, WalletError>> {
        // The coins of the simulated chain are all in channels.
        Box::pin(async move { Ok(NodeBalances { onchain_sats: 0 }) })
    }

    fn channel_health<'a>(&'a self) -> Later<'a, Result<ChannelHealth, WalletError>> {
        Box::pin(async move {
            let channels = self.our_channels().await?;
            let outbound_sats = channels.outbound_msats / 1000;
            Ok(ChannelHealth {
                total_sats: channels.total_sats,
                outbound_sats,
                inbound_sats: channels.total_sats.saturating_sub(outbound_sats),
                channel_count: channels.count,
                connected_channel_count: channels.connected,
            })
        })
    }

    fn status<'a>(&'a self) -> Later<'a, Result<Value, WalletError>> {
        Box::pin(async move {
            let asked = self.ask(|nodes| Ok((nodes.channels(Place::Ours), nodes.height()))).await;
            let (channels, height) = asked.map_err(|failure| unclear(&failure))?;
            Ok(json!({
                "walletId": self.wallet_id,
                "mode": "ldk",
                "lifecycle": "connected",
                "network": "regtest",
                "identityPubkey": self.identity,
                "balanceSats": channels.outbound_msats / 1000,
                "ready": channels.connected > 0,
                "durableIdempotency": true,
                "simulated": true,
                "chain": {"kind": "simulated", "height": height},
                "channels": {"count": channels.count, "connected": channels.connected},
            }))
        })
    }
}

/// The nodes have stopped, so nobody knows.
fn unclear(failure: &Failure) -> WalletError {
    WalletError::unknown("ldk_stopped", failure.to_string())
}

fn millis(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}
