//! Double entry, pure: what accounts and transfers are, and what a transfer does to the accounts it touches.
//! No store, no clock: everything is decided from what was read, and comes back as what is to be written.

pub mod account;
pub mod audit;
pub mod book;
pub mod budget;
pub mod denied;
pub mod pool;
pub mod transfer;

pub use account::{Account, AccountId, Balances, Floor, Kind};
pub use book::{Accounts, Decision, Ruling};
pub use denied::Denied;
pub use transfer::{
    BookedLeg, Capture, Entry, Hold, Leg, Order, Places, Side, State, Step, Transfer, TransferId,
};
