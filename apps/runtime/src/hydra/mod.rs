//! Hydra: how routes are scored, and what is risky about them (marketplace §9).

pub mod fx;
pub mod risk;
pub mod routing_score;
