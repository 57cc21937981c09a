//! Short-lived tokens with which clients follow their streams, and the public keys that prove them
//! (control §7).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    operation::{Body, Data},
    wire::identity::Secret,
};

/// `POST /api/sync/token` and its three other names.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"scopes": ["runtime.codex_worker_events"]}))]
pub struct RequestSyncToken {
    /// The default scopes, if empty.
    #[serde(default)]
    pub scopes: Option<Vec<String>>,
    /// Another word for topics; both are taken together.
    #[serde(default)]
    pub streams: Option<Vec<String>>,
    /// One for each scope, if both are empty.
    #[serde(default)]
    pub topics: Option<Vec<String>>,
    #[serde(default)]
    pub ttl_seconds: Option<u32>,
    /// When given it must be the session's.
    #[serde(default)]
    pub device_id: Option<String>,
}

impl Body for RequestSyncToken {}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GrantedTopic {
    pub topic: String,
    pub required_scope: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GrantedStream {
    pub stream: String,
    pub required_scope: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SyncToken {
    /// A JWT (RFC 7519).
    pub token: Secret,
    /// `Bearer`.
    pub token_type: String,
    /// `spacetime_ws`.
    pub transport: String,
    /// `spacetime.sync.v1`.
    pub protocol_version: String,
    /// Seconds.
    pub expires_in: i64,
    /// Seconds after which a client should ask for the next token.
    pub refresh_after_in: i64,
    pub issued_at: String,
    pub refresh_after: String,
    pub expires_at: String,
    pub issuer: String,
    pub audience: String,
    /// `user:<user_id>`.
    pub subject: String,
    pub org_id: String,
    pub claims_version: String,
    pub scopes: Vec<String>,
    pub granted_topics: Vec<GrantedTopic>,
    /// The topics once more, under their other name.
    pub granted_streams: Vec<GrantedStream>,
    /// Which key signed the token.
    pub kid: String,
    pub token_id: String,
    pub session_id: String,
    pub device_id: String,
}

pub type SyncTokenReply = Data<SyncToken>;

/// A public key of Ed25519 (RFC 8037).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PublicKey {
    /// `OKP`.
    pub kty: String,
    /// `Ed25519`.
    pub crv: String,
    /// The key, base64url without padding.
    pub x: String,
    pub kid: String,
    /// `EdDSA`.
    pub alg: String,
    /// `sig`.
    #[serde(rename = "use")]
    pub usage: String,
}

/// `GET /.well-known/jwks.json` (RFC 7517). Empty where tokens are signed with a shared secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeySet {
    pub keys: Vec<PublicKey>,
}
