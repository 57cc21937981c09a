//! SIMULATED Lightning: real invoices of a network where everybody can pay and nobody has money. It counts how often
//! each was paid.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use lightning_invoice::{Bolt11Invoice, Currency, InvoiceBuilder, PaymentSecret};
use oa_contract::{Timestamp, canonical::hex};
use secp256k1::{
    Secp256k1, SecretKey,
    hashes::{Hash as _, sha256},
};
use sha2::{Digest, Sha256};

/// Clones are one network.
#[derive(Clone, Default)]
pub struct SimulatedLightning(Arc<Mutex<Network>>);

#[derive(Default)]
struct Network {
    made: u64,
    /// By payment hash.
    preimages: HashMap<String, [u8; 32]>,
    paid: HashMap<String, u32>,
}

impl SimulatedLightning {
    fn network(&self) -> MutexGuard<'_, Network> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new invoice that nobody has paid, good for a year.
    pub fn invoice(&self, amount_msats: u64, made_at: Timestamp) -> String {
        let preimage: [u8; 32] = {
            let mut network = self.network();
            network.made += 1;
            let preimage: [u8; 32] = Sha256::digest(format!("preimage {}", network.made)).into();
            network.preimages.insert(hex(&Sha256::digest(preimage)), preimage);
            preimage
        };
        let key = SecretKey::from_slice(&[42; 32]).expect("a key");
        let since = Duration::from_secs(made_at.unix_seconds().unsigned_abs());
        InvoiceBuilder::new(Currency::Bitcoin)
            .description("simulated".into())
            .payment_hash(sha256::Hash::hash(&preimage))
            .payment_secret(PaymentSecret([7; 32]))
            .duration_since_epoch(since)
            .min_final_cltv_expiry_delta(18)
            .expiry_time(Duration::from_secs(365 * 86_400))
            .amount_milli_satoshis(amount_msats)
            .build_signed(|message| Secp256k1::new().sign_ecdsa_recoverable(message, &key))
            .expect("an invoice")
            .to_string()
    }

    /// Pays, however often it was paid before; gives the preimage and the amount.
    pub fn pay(&self, invoice: &str) -> Option<([u8; 32], u64)> {
        let invoice: Bolt11Invoice = invoice.parse().ok()?;
        let hash = invoice.payment_hash().to_string();
        let mut network = self.network();
        let preimage = *network.preimages.get(&hash)?;
        *network.paid.entry(hash).or_default() += 1;
        Some((preimage, invoice.amount_milli_satoshis()?))
    }

    /// How often anything was paid.
    pub fn payments(&self) -> u32 {
        self.network().paid.values().sum()
    }
}
