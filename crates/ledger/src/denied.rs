//! Decides how the ledger says no, and which promise of the contract each of its reasons is.

use std::fmt;

use oa_contract::{Refusal, Stop, refusal::Shortage};

use crate::{
    account::{AccountId, Kind},
    transfer::{State, TransferId},
};

/// Why nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// More than is available would be taken.
    Insufficient {
        account: AccountId,
        available: i128,
        needed: i128,
    },
    Closed {
        account: AccountId,
    },
    /// The id stands for a transfer of other content.
    Reused {
        id: TransferId,
    },
    /// The transfer has ended, and otherwise than is asked for now.
    Settled {
        id: TransferId,
        state: State,
    },
    /// The hold's time is over: nothing can be captured any more.
    Expired {
        id: TransferId,
    },
    /// The hold's time is not over, or it has none.
    NotDue {
        id: TransferId,
    },
    /// More would be captured than is held.
    OverCapture {
        id: TransferId,
        leg: usize,
    },
    /// A sum would grow beyond what can be kept.
    Overflow {
        account: AccountId,
    },
    /// The limit would lie below what is spent and reserved; `least` would not.
    BelowUse {
        account: AccountId,
        least: i128,
    },
    /// The account holds something, or something is pending.
    NotEmpty {
        account: AccountId,
    },
    Unknown {
        id: TransferId,
    },
    /// What is asked for can never be done.
    Malformed(String),
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Denied::Insufficient { account, available, needed } => {
                write!(f, "{needed} are needed of {account}, and {available} are available")
            }
            Denied::Closed { account } => write!(f, "the account {account} is closed"),
            Denied::Reused { id } => write!(f, "the id {id} was used for another transfer"),
            Denied::Settled { id, state } => write!(f, "the transfer {id} is {} already", state.name()),
            Denied::Expired { id } => write!(f, "the hold {id} has expired"),
            Denied::NotDue { id } => write!(f, "the hold {id} is not over yet"),
            Denied::OverCapture { id, leg } => {
                write!(f, "leg {leg} of {id} holds less than is to be captured")
            }
            Denied::Overflow { account } => {
                write!(f, "the amount does not fit into the sums of the account {account}")
            }
            Denied::BelowUse { least, .. } => {
                write!(f, "a limit must be at least {least}, which is spent and reserved already")
            }
            Denied::NotEmpty { account } => write!(f, "the account {account} is not empty"),
            Denied::Unknown { id } => write!(f, "there is no transfer {id}"),
            Denied::Malformed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Denied {}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        match &denied {
            // The words that clients of the marketplace know.
            Denied::Insufficient { account, available, needed }
                if matches!(account.kind(), Kind::Owner | Kind::Budget) =>
            {
                let msats = |units: i128| u64::try_from(units.max(0)).unwrap_or(u64::MAX);
                let shortage = Shortage {
                    budget: account.to_string(),
                    remaining_msats: msats(*available),
                    needed_msats: msats(*needed),
                };
                Refusal {
                    reason_code: Some("budget_exceeded"),
                    shortage: Some(Box::new(shortage)),
                    ..Refusal::forbidden("insufficient budget")
                }
            }
            Denied::Unknown { .. } => Refusal::not_found(denied.to_string()),
            Denied::Malformed(_) | Denied::Overflow { .. } => Refusal::invalid(denied.to_string()),
            _ => Refusal::conflict(denied.to_string()),
        }
    }
}

impl From<Denied> for Stop {
    fn from(denied: Denied) -> Self {
        Refusal::from(denied).into()
    }
}
