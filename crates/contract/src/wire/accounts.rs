//! What somebody does with their account: the list of sessions and its end, sign-up for automation,
//! organisations, and the question whether they may (control §5.3, §5.4, §6).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    operation::{Body, Data, Query},
    wire::identity::{Membership, Secret},
};

/// The query of `GET /api/auth/sessions`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ListSessions {
    /// Only the sessions of this device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<String>,
}

impl Query for ListSessions {}

/// One session of the caller, whatever became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListedSession {
    pub session_id: String,
    pub user_id: String,
    pub email: String,
    pub device_id: String,
    pub token_name: String,
    /// `active`, `reauth_required`, `expired` or `revoked`.
    pub status: String,
    pub issued_at: String,
    pub access_expires_at: String,
    pub refresh_expires_at: String,
    pub active_org_id: String,
    pub reauth_required: bool,
    pub last_refreshed_at: Option<String>,
    pub revoked_at: Option<String>,
    pub revoked_reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sessions {
    #[serde(rename = "currentSessionId")]
    pub current_session_id: String,
    /// Newest first, at most a thousand.
    pub sessions: Vec<ListedSession>,
}

/// `GET /api/auth/sessions`.
pub type SessionList = Data<Sessions>;

/// Why sessions are ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RevocationReason {
    #[default]
    UserRequested,
    AdminRevoked,
    TokenReplay,
    DeviceReplaced,
    SecurityPolicy,
}

impl RevocationReason {
    /// The word on the wire and in the store.
    pub const fn name(self) -> &'static str {
        match self {
            RevocationReason::UserRequested => "user_requested",
            RevocationReason::AdminRevoked => "admin_revoked",
            RevocationReason::TokenReplay => "token_replay",
            RevocationReason::DeviceReplaced => "device_replaced",
            RevocationReason::SecurityPolicy => "security_policy",
        }
    }
}

/// `POST /api/auth/sessions/revoke`: exactly one of the three targets.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"device_id": "ios-runtime-b", "reason": "user_requested", "include_current": false}))]
pub struct RevokeMySessions {
    #[serde(default)]
    pub session_id: Option<String>,
    #[serde(default)]
    pub device_id: Option<String>,
    #[serde(default)]
    pub revoke_all_sessions: Option<bool>,
    /// Without it the session that asks is left alone.
    #[serde(default)]
    pub include_current: Option<bool>,
    #[serde(default)]
    pub reason: Option<RevocationReason>,
}

impl Body for RevokeMySessions {}

/// What was ended by this request; what had ended before is not listed. Every list ascends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionsRevoked {
    pub ok: bool,
    pub revoked_session_ids: Vec<String>,
    pub revoked_device_ids: Vec<String>,
    pub revoked_refresh_token_ids: Vec<String>,
    pub reason: RevocationReason,
    pub revoked_at: String,
}

/// `POST /api/auth/register`: a user and a personal token without a sign-in, where that is switched on.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"email": "robot@example.com", "tokenName": "ci", "tokenAbilities": ["runtime.read"]}))]
pub struct Register {
    pub email: String,
    /// From the address, if absent; at most 120 characters.
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default, rename = "tokenName", alias = "token_name")]
    pub token_name: Option<String>,
    /// Empty means `*`.
    #[serde(default, rename = "tokenAbilities", alias = "token_abilities")]
    pub token_abilities: Option<Vec<String>>,
    #[serde(default, rename = "createAutopilot", alias = "create_autopilot")]
    pub create_autopilot: Option<bool>,
    #[serde(default, rename = "autopilotDisplayName", alias = "autopilot_display_name")]
    pub autopilot_display_name: Option<String>,
}

impl Body for Register {}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegisteredUser {
    pub id: String,
    pub name: String,
    pub email: String,
    pub handle: String,
}

/// The personal agent that was made with the user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegisteredAutopilot {
    pub id: String,
    pub handle: String,
    pub display_name: String,
    pub status: String,
    pub visibility: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Registered {
    pub created: bool,
    /// `Bearer`.
    pub token_type: String,
    /// Answered here and never again.
    pub token: Secret,
    pub token_name: String,
    pub token_abilities: Vec<String>,
    pub user: RegisteredUser,
    pub autopilot: Option<RegisteredAutopilot>,
}

pub type RegisterReply = Data<Registered>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Memberships {
    #[serde(rename = "activeOrgId")]
    pub active_org_id: String,
    /// Ascending by `org_id`.
    pub memberships: Vec<Membership>,
}

/// `GET /api/orgs/memberships`.
pub type MembershipList = Data<Memberships>;

/// `POST /api/orgs/active`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"org_id": "org:openagents"}))]
pub struct ActivateOrg {
    pub org_id: String,
}

impl Body for ActivateOrg {}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrgActivated {
    pub ok: bool,
    #[serde(rename = "activeOrgId")]
    pub active_org_id: String,
    pub memberships: Vec<Membership>,
}

/// `POST /api/policy/authorize`: may I, in this organisation, with these scopes, on these topics?
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"org_id": "org:openagents", "required_scopes": ["runtime.write"], "requested_topics": ["org:openagents:workers"]}))]
pub struct Authorize {
    /// The active one, if absent.
    #[serde(default)]
    pub org_id: Option<String>,
    #[serde(default)]
    pub required_scopes: Option<Vec<String>>,
    #[serde(default)]
    pub requested_topics: Option<Vec<String>>,
}

impl Body for Authorize {}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyRuling {
    pub allowed: bool,
    pub resolved_org_id: String,
    pub granted_scopes: Vec<String>,
    /// `org_scope_denied`, `scope_denied:<scope>` or `topic_denied:<topic>`; none means allowed.
    pub denied_reasons: Vec<String>,
}

pub type PolicyReply = Data<PolicyRuling>;
