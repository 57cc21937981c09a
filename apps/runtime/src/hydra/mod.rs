//! Hydra: how routes are scored, what is risky about them, and what was counted (marketplace §9, liquidity §11).

pub mod fx;
pub mod observability;
pub mod risk;
pub mod risk_health;
pub mod routing_score;
pub mod sources;
pub mod tally;
