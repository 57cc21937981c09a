//! Payments over Lightning: what an invoice may cost, paying it once, and what proves it. `docs/money.md`.

pub mod desk;
pub mod lanes;
pub mod pay;
pub mod payments;
pub mod quote_pay;
pub mod receipt;
pub mod resolve;
pub mod settings;
pub mod status;
pub mod watch;

/// Trimmed; empty is absent.
fn some(text: Option<String>) -> Option<String> {
    text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod chaos;
#[cfg(test)]
mod tests;
