//! The market, pure: who offers what, at which price, who is chosen, and what a decision hashes to. No store and
//! no clock: the same offers at the same moment give the same choice.

pub mod admission;
pub mod commerce;
pub mod index;
pub mod offer;
pub mod price;
pub mod quote;
pub mod router;
pub mod score;
mod shelf;

pub use index::{Candidate, Index, Need};
pub use offer::{Caps, Offer, Standing};
pub use price::AllIn;
