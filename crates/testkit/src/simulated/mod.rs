//! SIMULATIONS of the services that ours talk to: real sockets, nothing else real. Each can be down, late, say
//! something twice or say nonsense, when a test tells it to.

mod collector;
mod github;
mod l402_service;
mod lightning;
mod lnd;
mod provider;
mod relay;
mod responses_api;
mod server;
mod vignette_executor;
mod wallet_executor;

pub use collector::{Collected, SimulatedCollector};
pub use github::{Mood as GitHubMood, SimulatedGitHub};
pub use l402_service::{Mood as L402Mood, SimulatedL402Service};
pub use lightning::SimulatedLightning;
pub use lnd::{MACAROON as LND_MACAROON, Mood as LndMood, SimulatedLnd};
pub use provider::{ProviderMood, SimulatedProvider};
pub use relay::{Mood as RelayMood, SimulatedRelay};
pub use responses_api::{SimulatedAnswer, SimulatedResponses};
pub use vignette_executor::{VIGNETTE_ADDRESS, VIGNETTE_TOKEN, VignetteExecutor, vignette_invoice};
pub use wallet_executor::{Mood as ExecutorMood, SimulatedWalletExecutor, TOKEN as EXECUTOR_TOKEN};
