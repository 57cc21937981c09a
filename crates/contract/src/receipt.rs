//! placeholder until the artifacts are merged
#[derive(Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Receipt {}
