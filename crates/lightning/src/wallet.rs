//! The port of a wallet: what it is asked, and what it can say. A wallet is asked under ids that the asker chose,
//! and asked twice under one id it acts once. What it did not say is unknown, and is asked for later: silence is
//! never taken for failure.

use std::{fmt, future::Future, pin::Pin};

use oa_contract::{Msats, Timestamp, canonical::hex};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// What a wallet answers with, some time.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Whoever keeps keys. One object serves every lane, so a wallet is shared as `Arc<dyn Wallet>`.
///
/// What is not offered has a default that answers `unsupported`, which surely did nothing.
pub trait Wallet: Send + Sync + 'static {
    fn about(&self) -> About;

    /// Pays an invoice. Asked twice under one request id it pays once, also after a restart.
    ///
    /// `Err(NotDone)` is a promise: this request was not paid, and will not be unless it is asked again.
    fn pay<'a>(&'a self, order: &'a PayOrder) -> Later<'a, Result<Paid, WalletError>>;

    /// What became of a payment. An error says that it cannot be told now, and nothing about the payment.
    fn payment<'a>(&'a self, payment: &'a PaymentRef) -> Later<'a, Result<PaymentState, WalletError>>;

    /// An invoice to be paid to us. Asked twice under one id it is the same invoice.
    fn create_invoice<'a>(&'a self, order: &'a InvoiceOrder) -> Later<'a, Result<Invoice, WalletError>>;

    /// Whether an invoice of ours is settled, and with how much.
    fn invoice<'a>(&'a self, invoice: &'a InvoiceRef) -> Later<'a, Result<InvoiceState, WalletError>>;

    /// An on-chain address for this id: the same for the same id, another for every other.
    fn receive_address<'a>(&'a self, request_id: &'a str) -> Later<'a, Result<ReceiveAddress, WalletError>> {
        let _ = request_id;
        unsupported("receive on-chain")
    }

    /// What an address of ours has received.
    fn received<'a>(&'a self, address: &'a ReceiveAddress) -> Later<'a, Result<Received, WalletError>> {
        let _ = address;
        unsupported("watch addresses")
    }

    /// Sends on-chain. Asked twice under one request id it sends once, also after a restart.
    fn send_onchain<'a>(&'a self, order: &'a OnchainOrder) -> Later<'a, Result<OnchainSent, WalletError>> {
        let _ = order;
        unsupported("send on-chain")
    }

    /// What the network would ask for a sending now, in sats.
    fn onchain_fee<'a>(&'a self, order: &'a OnchainOrder) -> Later<'a, Result<u64, WalletError>> {
        let _ = order;
        unsupported("send on-chain")
    }

    /// What became of a sending.
    fn onchain_payment<'a>(&'a self, request_id: &'a str) -> Later<'a, Result<OnchainState, WalletError>> {
        let _ = request_id;
        unsupported("send on-chain")
    }

    /// What the wallet itself holds.
    fn balances<'a>(&'a self) -> Later<'a, Result<Balances, WalletError>>;

    /// The node behind the wallet: what it holds on-chain (§10).
    fn node_balances<'a>(&'a self) -> Later<'a, Result<NodeBalances, WalletError>> {
        unsupported("tell of a node")
    }

    /// The node behind the wallet: its channels (§10).
    fn channel_health<'a>(&'a self) -> Later<'a, Result<ChannelHealth, WalletError>> {
        unsupported("tell of channels")
    }

    /// Opens a channel. Asked twice under one request id it opens one.
    fn open_channel<'a>(&'a self, order: &'a OpenChannel) -> Later<'a, Result<ChannelOpened, WalletError>> {
        let _ = order;
        unsupported("open channels")
    }

    fn close_channel<'a>(&'a self, order: &'a CloseChannel) -> Later<'a, Result<ChannelClosed, WalletError>> {
        let _ = order;
        unsupported("close channels")
    }

    /// Which wallet it is and what its silence proves, as it says now.
    fn promises<'a>(&'a self) -> Later<'a, Result<Promises, WalletError>> {
        let about = self.about();
        let promises = Promises { memory: about.wallet_id, honours_deadlines: about.honours_deadlines };
        Box::pin(async move { Ok(promises) })
    }

    /// What the wallet says of itself: the document of `GET /status` (§9.2), whole.
    fn status<'a>(&'a self) -> Later<'a, Result<Value, WalletError>>;
}

fn unsupported<'a, T: Send + 'a>(what: &'static str) -> Later<'a, Result<T, WalletError>> {
    Box::pin(async move { Err(WalletError::not_done("unsupported", format!("this wallet does not {what}"))) })
}

/// What kind of wallet it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The name of the face: `wallet_executor`, `lnd`, `ldk`, `simulated`, `none`.
    pub face: &'static str,
    /// Whose books its money is in: part of the name of its account in the ledger.
    pub wallet_id: String,
    /// There is no money behind it.
    pub simulated: bool,
    /// Never begins a payment after [`PayOrder::not_after`]; so one that it has not heard of by then never
    /// happens.
    pub honours_deadlines: bool,
}

/// What a wallet answers for when it says that it has not heard of a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promises {
    /// Whose memory it is. A wallet that has another one, because it lost its own or because it is another wallet,
    /// cannot say of a payment that was begun with this one that it never happened.
    pub memory: String,
    /// See [`About::honours_deadlines`].
    pub honours_deadlines: bool,
}

/// The secret that proves a payment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Preimage(pub [u8; 32]);

impl Preimage {
    /// The hash that an invoice asks to be opened: over the bytes.
    pub fn payment_hash(&self) -> String {
        hex(&Sha256::digest(self.0))
    }

    /// The `preimageSha256` of receipts: over the lower-case hex text (§9.2), so not the payment hash.
    pub fn text_sha256(&self) -> String {
        hex(&Sha256::digest(self.hex()))
    }

    pub fn hex(&self) -> String {
        hex(&self.0)
    }
}

impl fmt::Debug for Preimage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Preimage(of {})", self.payment_hash())
    }
}

/// What is to be paid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayOrder {
    /// The same for every attempt at the same payment, and of no other.
    pub request_id: String,
    pub invoice: String,
    /// 64 hex digits; none where the invoice was believed without being read whole.
    pub payment_hash: Option<String>,
    /// What the invoice asks for.
    pub amount: Msats,
    /// What routing may cost beyond that.
    pub max_fee: Msats,
    /// Whom it is for; a label.
    pub host: String,
    /// Nothing may be begun after this.
    pub not_after: Option<Timestamp>,
}

impl PayOrder {
    /// The most that may leave the wallet.
    pub fn max_amount_msats(&self) -> u64 {
        self.amount.get().saturating_add(self.max_fee.get())
    }
}

/// Which payment is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentRef {
    pub request_id: String,
    /// 64 hex digits; wallets that know payments by their hash only need it.
    pub payment_hash: Option<String>,
    /// When it was begun. What such a wallet knows of the hash from before is about another request.
    pub begun_at: Option<Timestamp>,
}

/// A payment that was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Paid {
    /// The wallet's own name of it.
    pub payment_id: Option<String>,
    /// Without one nothing is proved.
    pub preimage: Option<Preimage>,
    /// What arrived.
    pub amount: Option<Msats>,
    /// What routing cost; none when the wallet does not say.
    pub fee: Option<Msats>,
    pub paid_at_ms: Option<i64>,
    /// The digest of the wallet's receipt (§9.2).
    pub receipt_sha256: Option<String>,
    /// The `preimageSha256` of that receipt.
    pub preimage_sha256: Option<String>,
    /// Everything that the wallet said, word for word.
    pub evidence: Option<Value>,
}

/// Where a payment stands.
#[derive(Clone, Debug, PartialEq)]
pub enum PaymentState {
    InFlight,
    Succeeded(Paid),
    /// It was not paid and will not be.
    Failed(Trouble),
    /// The wallet keeps a record of payments, and has none of this one. It may still be on its way to it.
    NeverHeardOf,
    /// The wallet has no way of telling, which says nothing about the payment.
    CannotTell {
        /// It tells repeated orders also after a restart: the same order again is surely the same payment.
        may_ask_again: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvoiceOrder {
    pub request_id: String,
    pub amount: Msats,
    pub memo: Option<String>,
    pub expiry_seconds: Option<u64>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Invoice {
    pub bolt11: String,
    /// SHA-256 of the text, as receipts name it.
    pub invoice_hash: String,
    /// 64 hex digits; none when the wallet does not say and the text cannot be read.
    pub payment_hash: Option<String>,
    pub amount: Msats,
    pub created_at_ms: Option<i64>,
    pub expires_at_ms: Option<i64>,
    pub receipt_sha256: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvoiceRef {
    /// The id it was created under.
    pub request_id: String,
    pub payment_hash: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvoiceState {
    /// Nobody has paid it yet.
    Open,
    /// Held by the wallet, neither taken nor refused.
    Accepted,
    /// It was paid, with so much.
    Settled {
        received: Msats,
        settled_at_ms: Option<i64>,
    },
    /// It will not be paid any more.
    Canceled,
    NeverHeardOf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiveAddress {
    /// The id it was made under.
    pub request_id: String,
    pub address: String,
    /// `mainnet`, `testnet`, `signet` or `regtest`, where the wallet says.
    pub network: Option<String>,
}

/// What came in at an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// In blocks that are deep enough for the wallet.
    pub confirmed_sats: u64,
    /// Seen, but not that deep.
    pub unconfirmed_sats: u64,
    /// How deep the least deep of what is confirmed lies.
    pub confirmations: u32,
}

/// How soon a sending should be in a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Speed {
    Slow,
    #[default]
    Medium,
    Fast,
}

impl Speed {
    pub const fn name(self) -> &'static str {
        match self {
            Speed::Slow => "slow",
            Speed::Medium => "medium",
            Speed::Fast => "fast",
        }
    }

    /// Older callers say `normal` for medium.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "slow" => Some(Speed::Slow),
            "medium" | "normal" => Some(Speed::Medium),
            "fast" => Some(Speed::Fast),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnchainOrder {
    /// The same for every attempt at the same sending, and of no other.
    pub request_id: String,
    pub address: String,
    pub amount_sats: u64,
    /// What the network may cost beyond that.
    pub max_fee_sats: Option<u64>,
    pub speed: Speed,
}

#[derive(Clone, Debug, PartialEq)]
pub struct OnchainSent {
    pub txid: String,
    pub fee_sats: Option<u64>,
    pub sent_at_ms: Option<i64>,
    pub receipt_sha256: Option<String>,
    pub evidence: Option<Value>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum OnchainState {
    InFlight,
    Sent(OnchainSent),
    Failed(Trouble),
    NeverHeardOf,
}

/// What a wallet holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balances {
    /// What can be spent over Lightning.
    pub spendable_msats: u64,
    /// On-chain, where the wallet tells it apart.
    pub onchain_sats: Option<u64>,
}

/// `openagents.lightning.node_balances.v1` (§10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeBalances {
    pub onchain_sats: u64,
}

/// `openagents.lightning.channel_health.v1` (§10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelHealth {
    pub total_sats: u64,
    pub outbound_sats: u64,
    pub inbound_sats: u64,
    pub channel_count: u64,
    pub connected_channel_count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenChannel {
    pub request_id: String,
    pub peer_id: String,
    pub amount_sats: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelOpened {
    pub channel_id: String,
    pub txid: String,
    pub opened_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseChannel {
    pub request_id: String,
    pub channel_id: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelClosed {
    pub txids: Vec<String>,
    pub closed_at: Timestamp,
}

/// Why something was not done, or is not known.
#[derive(Clone, Debug, PartialEq)]
pub struct Trouble {
    /// The wallet's word (§9.1), or `http_<status>` when it gave none.
    pub code: String,
    pub message: String,
    /// Everything that the wallet said; `null` when that was no JSON, none when it said nothing.
    pub evidence: Option<Box<Value>>,
}

impl Trouble {
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Trouble { code: code.into(), message: message.into(), evidence: None }
    }

    pub fn with_evidence(self, evidence: Option<Value>) -> Self {
        Trouble { evidence: evidence.map(Box::new), ..self }
    }

    /// As an executor would have said it.
    pub fn body(&self) -> Value {
        json!({"ok": false, "error": {"code": self.code, "message": self.message}})
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

/// What was asked of a wallet and did not come to an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum WalletError {
    /// Surely not done, and it will not be by itself.
    NotDone(Trouble),
    /// It may have been done, or be done yet: ask.
    Unknown(Trouble),
}

impl WalletError {
    pub fn not_done(code: impl Into<String>, message: impl Into<String>) -> Self {
        WalletError::NotDone(Trouble::new(code, message))
    }

    pub fn unknown(code: impl Into<String>, message: impl Into<String>) -> Self {
        WalletError::Unknown(Trouble::new(code, message))
    }

    pub fn trouble(&self) -> &Trouble {
        match self {
            WalletError::NotDone(trouble) | WalletError::Unknown(trouble) => trouble,
        }
    }

    pub fn is_unknown(&self) -> bool {
        matches!(self, WalletError::Unknown(_))
    }
}

impl fmt::Display for WalletError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.trouble().fmt(f)
    }
}

impl std::error::Error for WalletError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preimage_has_two_digests_and_does_not_show_itself() {
        let preimage = Preimage([0xab; 32]);
        assert_eq!(preimage.text_sha256(), hex(&Sha256::digest("ab".repeat(32))));
        assert_ne!(preimage.text_sha256(), preimage.payment_hash());
        assert!(!format!("{preimage:?}").contains(&"ab".repeat(32)));
    }

    #[test]
    fn normal_is_an_older_word_for_medium() {
        assert_eq!(Speed::parse("normal"), Some(Speed::Medium));
        assert_eq!(Speed::parse("Fast"), None);
    }
}
