//! What tests are made of: a world with both services over real sockets and real stores, a clock that the test
//! owns, and ids that can be told apart.

mod clock;
mod codex;
mod http;
mod kept;
pub mod simulated;
mod simulated_runtime;
mod world;

pub use clock::{SeededIds, TestClock};
pub use codex::SimulatedCodexWorker;
pub use http::{Answered, Http};
pub use kept::{kept, pages_of_schema};
pub use simulated::{ProviderMood, SimulatedProvider};
pub use simulated_runtime::SimulatedRuntime;
pub use world::{Engine, SECRET, World, WorldOptions, both_engines};
