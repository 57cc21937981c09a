//! Decides under which keys a run is told what became of money and of evidence (marketplace §10.4). One list: the keys
//! are made from it, found by it, and kept from callers by it.

use std::fmt::Display;

use oa_contract::Refusal;

/// What a key begins with; the job, and what tells one such event of it from another, come behind.
#[derive(Clone, Copy, Debug)]
pub struct Prefix(&'static str);

impl Prefix {
    pub fn key(self, rest: impl Display) -> String {
        format!("{}{rest}", self.0)
    }

    /// What comes behind, if the key is one of these.
    pub fn strip(self, key: &str) -> Option<&str> {
        key.strip_prefix(self.0)
    }
}

macro_rules! prefixes {
    ($($name:ident $text:literal)+) => {
        $(pub const $name: Prefix = Prefix($text);)+
        const ALL: &[Prefix] = &[$($name),+];
    };
}

prefixes! {
    QUOTE_COMMIT "quote-commit:"
    PRICE_INTEGRITY "price-integrity:"
    BUDGET_RESERVED "budget-reserved:"
    BUDGET_RELEASED "budget-released:"
    VERIFY "verify:"
    VERIFICATION "verification:"
    CEP_SETTLEMENT "cep-settlement:"
    PAYMENT "payment:"
    RECEIPT_PAYMENT "receipt-payment:"
    FRAUD "fraud:"
}

/// Refuses a key that would be taken for one of these. A caller that may name a key of the service could otherwise
/// keep such an event out of the log.
pub fn not_reserved(key: &str) -> Result<(), Refusal> {
    match ALL.iter().find(|prefix| prefix.strip(key).is_some()) {
        Some(Prefix(prefix)) => Err(Refusal::invalid(format!(
            "idempotency_key must not begin with {prefix}, which is how settlements are told; choose another prefix"
        ))),
        None => Ok(()),
    }
}
