//! Decides how everything is kept: one SQL text, two engines, and one waist between the commands of the
//! system and both of them.

pub mod backup;
mod config;
mod engine;
mod fence;
pub mod idempotency;
mod job;
mod measure;
mod migrate;
pub mod outbox;
mod row;
mod seal;
mod statement;
mod store;
pub mod tables;
mod transaction;
mod value;
mod verify;

pub use config::{OpenError, PostgresConfig, SqliteConfig, StoreConfig};
pub use engine::{EngineKind, OnCommit};
pub use job::{Key, Keys};
pub use migrate::{Plan, plan};
pub use row::{FromColumn, FromRow, Row};
pub use statement::Statement;
pub use store::{Health, Store};
pub use transaction::{Tx, Wake};
pub use value::Value;
pub use verify::{Progress, Verified};
