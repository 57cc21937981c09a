//! Liquidity pools: who has deposited what, what their shares are worth, who is paid out and when, and what is signed
//! (liquidity §5 to §8). `docs/pools.md`.

pub mod asking;
pub mod cancel;
pub mod confirm_deposit;
pub mod create;
pub mod deposit_quote;
pub mod deposits;
pub mod execute_due;
mod late;
pub mod latest_snapshot;
pub mod payout;
pub mod prove;
pub mod queue;
pub mod receipts;
pub mod resolve;
pub mod settings;
pub mod signing;
pub mod snapshot;
pub mod standing;
pub mod status;
pub mod throttle;
pub mod withdraw_request;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use oa_contract::{Caller, Code, Fault, Refusal, canonical, wire::pools::PartitionKind};
use oa_ledger::{AccountId, Denied};
use oa_lightning::Wallet;
use oa_store::Key;

use crate::{Runtime, config::TrustMode, liquidity::payments};

/// What a name of a provider, an operator or a key may hold.
const LONGEST_NAME: usize = 255;
const LONGEST_POOL_ID: usize = 128;
/// Whom payouts are for, in the wallet's books (§2).
pub(crate) const HOST: &str = "l402.openagents.com";
/// Up to this a Lightning payout needs no signatures (§2).
pub(crate) const AUTO_PAYOUT_SATS: u64 = 100_000;

/// What a pool's transactions hold.
pub(crate) fn key(pool_id: &str) -> Key {
    Key::text("pool", pool_id)
}

/// The row in which the replica that works on pools is elected.
pub(crate) const WATCH: &str = "pools";

impl Runtime {
    fn wallet(&self) -> &Arc<dyn Wallet> {
        self.payments.wallet()
    }

    pub(crate) fn believes_callers(&self) -> bool {
        self.config.trust_mode == TrustMode::Lenient
    }

    /// The world, as the wallet sees it.
    pub(crate) fn wallet_account(&self) -> Result<AccountId, Denied> {
        payments::wallet_account(&self.wallet().about().wallet_id)
    }
}

fn schema(given: &str, wanted: &str) -> Result<(), Refusal> {
    match given.trim() == wanted {
        true => Ok(()),
        false => Err(Refusal::invalid(format!("schema must be {wanted}"))),
    }
}

/// A text that must say something and can be part of names.
fn name(text: &str, field: &str) -> Result<String, Refusal> {
    let text = text.trim();
    if text.is_empty() {
        return Err(Refusal::invalid(format!("{field} is required")));
    }
    if text.len() > LONGEST_NAME || text.chars().any(char::is_control) {
        let message = format!("{field} must be at most {LONGEST_NAME} bytes without control characters");
        return Err(Refusal::invalid(message));
    }
    Ok(text.to_owned())
}

/// The name of a new pool.
fn pool_name(text: &str) -> Result<String, Refusal> {
    let text = text.trim();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'-');
    let sound = !text.is_empty() && text.len() <= LONGEST_POOL_ID && text.bytes().all(plain);
    match sound && !matches!(text, "admin" | "withdrawals") {
        true => Ok(text.to_owned()),
        false => Err(Refusal::invalid(
            "pool_id must be 1 to 128 letters, digits, dots, underscores, colons or dashes, and neither `admin` nor `withdrawals`",
        )),
    }
}

fn no_pool() -> Refusal {
    Refusal::not_found("no such pool")
}

/// A credential that is bound to one owner acts for that owner's providers only: `user:11`, and `user:11/` with
/// anything behind it.
fn may_act_for(caller: &Caller, lp_id: &str) -> Result<(), Refusal> {
    let Some(owner) = caller.owner() else { return Ok(()) };
    let owner = owner.to_string();
    let own = lp_id.strip_prefix(&owner).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    match own {
        true => Ok(()),
        false => Err(Refusal::forbidden(format!(
            "this credential acts for lp_id {owner}, and for those that begin with {owner}/"
        ))),
    }
}

/// What a caller is told when something behind us does not do its part (§1.1: 500 in this domain).
fn behind_us(message: impl Into<String>) -> Refusal {
    Refusal::new(Code::Internal, message)
}

/// Under which the wallet is asked (§1.5).
pub(crate) fn wallet_request_id(kind: &str, pool_id: &str, lp_id: &str, key: &str) -> String {
    let digest = canonical::sha256_hex(&format!("{kind}|{pool_id}|{lp_id}|{key}"));
    format!("liqpool:{kind}:{}", digest.get(..24).unwrap_or_default())
}

/// The key of a deposit's request: partitions other than the first are told apart.
fn deposit_request_key(partition: PartitionKind, key: &str) -> String {
    match partition {
        PartitionKind::Llp => key.to_owned(),
        other => format!("{other}:{key}"),
    }
}

/// The first partition is left out of digests and receipts: it was there before the others.
pub(crate) fn said(partition: PartitionKind) -> Option<PartitionKind> {
    (partition != PartitionKind::Llp).then_some(partition)
}

fn unfit(what: &str) -> Fault {
    Fault::msg(format!("the sums of a pool do not fit: {what}"))
}

#[cfg(test)]
mod names {
    use oa_contract::Owner;

    use super::*;

    #[test]
    fn the_wallet_knows_requests_by_the_specified_ids() {
        let of = |partition| {
            let key = deposit_request_key(partition, "idem:deposit-1");
            wallet_request_id("deposit", "pool_vignette_llp", "lp:vignette", &key)
        };
        assert_eq!(of(PartitionKind::Llp), "liqpool:deposit:e60578254f72d5e12d7f7d99");
        assert_eq!(of(PartitionKind::Cep), "liqpool:deposit:b377bc211553f609e0f0799c");
    }

    #[test]
    fn a_bound_credential_acts_for_its_own_providers_only() {
        let bound = Caller::Service { name: "x".into(), owner: Some(Owner::User(11)) };
        for own in ["user:11", "user:11/savings"] {
            assert_eq!(may_act_for(&bound, own), Ok(()));
        }
        for other in ["user:1", "user:111", "lp:vignette", "user:11-x"] {
            assert!(may_act_for(&bound, other).is_err(), "{other}");
            assert_eq!(may_act_for(&Caller::Anyone, other), Ok(()));
        }
    }

    #[test]
    fn a_pools_name_is_plain() {
        assert_eq!(pool_name(" llp-main ").as_deref(), Ok("llp-main"));
        for wrong in ["", " ", "admin", "withdrawals", "a/b", "ä", "a b", &"x".repeat(129)] {
            assert!(pool_name(wrong).is_err(), "{wrong}");
        }
    }
}
