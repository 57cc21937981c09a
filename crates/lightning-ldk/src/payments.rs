//! Decides what a node remembers of its payments, and for how long: for ever.

use lightning::{
    bitcoin::hashes::{Hash as _, sha256},
    ln::channelmanager::PaymentId,
};
use oa_contract::canonical::hex;
use serde::{Deserialize, Serialize};

/// A payment that somebody asks this node to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Chosen by the caller: the same request is sent once, whatever happens.
    pub request_id: String,
    pub invoice: String,
    /// What the invoice must ask for.
    pub amount_msats: u64,
    /// Above the amount of the invoice.
    pub max_fee_msats: u64,
    /// Whom it is for; a label.
    pub host: String,
    /// A request that is not known by then is never begun.
    pub not_after_ms: Option<u64>,
}

/// A payment that this node made, tries to make or could not make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    pub request_id: String,
    pub payment_hash: String,
    pub invoice: String,
    pub amount_msats: u64,
    pub max_fee_msats: u64,
    pub host: String,
    pub state: State,
    pub asked_at_ms: u64,
    pub ended_at_ms: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// On its way: it may still be paid, and may still fail. No timer ends that.
    Pending,
    /// The payee has given the preimage for it.
    Paid { preimage: String, fee_msats: u64 },
    /// Nothing of it is under way any more, and nothing was paid.
    Failed { reason: String },
}

/// An invoice that this node made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invoiced {
    pub request_id: String,
    pub payment_hash: String,
    pub invoice: String,
    pub amount_msats: u64,
    pub description: String,
    pub created_at_ms: u64,
    pub expires_at_ms: u64,
}

/// A payment that this node was paid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    pub payment_hash: String,
    pub preimage: Option<String>,
    pub amount_msats: u64,
    pub claimed_at_ms: u64,
}

/// LDK's name of a payment: the same for the same request, in every life of this process.
pub fn payment_id(request_id: &str) -> PaymentId {
    PaymentId(sha256::Hash::hash(format!("oa.lightning.ldk.payment:{request_id}").as_bytes()).to_byte_array())
}

pub fn sent_key(id: PaymentId) -> String {
    format!("sent/{}", hex(&id.0))
}

/// Which request has, or last had, the payment of this hash.
pub fn hash_key(payment_hash: &str) -> String {
    format!("sent-hash/{payment_hash}")
}

pub fn invoice_key(request_id: &str) -> String {
    format!("invoice/{}", sha256::Hash::hash(request_id.as_bytes()))
}

pub fn received_key(payment_hash: &str) -> String {
    format!("received/{payment_hash}")
}

/// Payments of this hash are neither claimed nor failed until somebody says so.
pub fn held_key(payment_hash: &str) -> String {
    format!("held/{payment_hash}")
}
