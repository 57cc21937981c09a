//! Who somebody is and what they carry: sign-in by e-mail code, sessions, personal access tokens
//! (control §5, §6).

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    instant::Timestamp,
    operation::{Body, Data, Query},
};

/// A secret on its way to the one who may have it: written in clear on the wire, printed nowhere.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text itself; whoever calls this answers for where it goes.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// `POST /api/auth/email`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"email": "dev@example.com"}))]
pub struct RequestCode {
    /// Trimmed and lower-cased; must hold `@`, at most 255 bytes.
    pub email: String,
}

impl Body for RequestCode {}

/// A code is on its way. The challenge is also set as the cookie `oa_magic_challenge`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CodeSent {
    pub ok: bool,
    /// `code-sent`.
    pub status: String,
    pub email: String,
    pub challenge_id: Secret,
}

/// `POST /api/auth/verify`. The first attempt consumes the challenge, right or wrong.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"code": "123456", "challenge_id": "challenge_d1c63eba82c943f49b47da5003cf9c7f"}))]
pub struct VerifyCode {
    pub code: Secret,
    /// Otherwise the cookie `oa_magic_challenge`.
    #[serde(default)]
    pub challenge_id: Option<Secret>,
    /// Otherwise the header `x-device-id`, otherwise the token's name.
    #[serde(default, alias = "deviceId")]
    pub device_id: Option<String>,
}

impl Body for VerifyCode {}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignedInUser {
    pub id: String,
    pub email: String,
    pub name: String,
    /// The identity under which the provider knows the user.
    pub workos_id: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignedIn {
    pub ok: bool,
    pub user_id: String,
    /// `authenticated`.
    pub status: String,
    pub user: SignedInUser,
    pub redirect: String,
    /// `Bearer`.
    pub token_type: String,
    pub token: Secret,
    pub token_name: String,
    pub refresh_token: Secret,
    pub session_id: String,
    pub new_user: bool,
}

/// `POST /api/auth/refresh`. A refresh token is good once.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"refresh_token": "oa_rt_5ff4", "device_id": "desktop:autopilot-desktop"}))]
pub struct RefreshSession {
    /// Otherwise the bearer header.
    #[serde(default)]
    pub refresh_token: Option<Secret>,
    /// Only `true` is served.
    #[serde(default)]
    #[schemars(extend("enum" = [true, null]))]
    pub rotate_refresh_token: Option<bool>,
    /// Otherwise the header `x-device-id`; when given it must be the session's.
    #[serde(default)]
    pub device_id: Option<String>,
}

impl Body for RefreshSession {}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Refreshed {
    pub ok: bool,
    /// `active`.
    pub status: String,
    pub token_type: String,
    pub token: Secret,
    pub refresh_token: Secret,
    pub refresh_token_id: String,
    pub replaced_refresh_token_id: String,
    pub session_id: String,
    pub access_expires_at: String,
    pub refresh_expires_at: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignedOut {
    pub ok: bool,
    /// `revoked`.
    pub status: String,
    pub session_id: String,
    pub revoked_at: String,
}

/// A session, or a personal token seen as one (`pat:<token_id>`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionView {
    pub session_id: String,
    pub user_id: String,
    pub email: String,
    pub device_id: String,
    /// `active`, `reauth_required`, `expired` or `revoked`.
    pub status: String,
    pub token_name: String,
    pub issued_at: String,
    pub access_expires_at: String,
    pub refresh_expires_at: String,
    pub active_org_id: String,
    pub reauth_required: bool,
    pub last_refreshed_at: Option<String>,
    pub revoked_at: Option<String>,
    pub revoked_reason: Option<String>,
}

/// What somebody is in an organisation (control §6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Membership {
    pub org_id: String,
    pub org_slug: String,
    /// `owner`, `admin`, `member` or `viewer`.
    pub role: String,
    pub role_scopes: Vec<String>,
    pub default_org: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CurrentSession {
    pub session: SessionView,
    pub user: SignedInUser,
    /// Ascending by `org_id`.
    pub memberships: Vec<Membership>,
}

/// `GET /api/auth/session`.
pub type SessionReply = Data<CurrentSession>;

/// The query of `GET /api/me`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ReadProfile {
    /// At most so many chat threads: 50 if absent, held between 1 and 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_limit: Option<u64>,
}

impl Query for ReadProfile {}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProfileUser {
    pub id: String,
    pub email: String,
    pub name: String,
    pub handle: String,
    /// Always empty: no pictures are kept.
    pub avatar: String,
    pub created_at: Option<String>,
    pub updated_at: Option<String>,
    pub workos_id: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChatThread {
    pub id: String,
    pub title: String,
    pub updated_at: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    pub user: ProfileUser,
    /// Newest first.
    pub chat_threads: Vec<ChatThread>,
}

/// `GET /api/me`.
pub type ProfileReply = Data<Profile>;

/// A personal access token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenView {
    pub id: String,
    pub name: String,
    pub abilities: Vec<String>,
    /// Written at most once a minute.
    pub last_used_at: Option<String>,
    pub expires_at: Option<String>,
    pub created_at: String,
    /// Whether the request was made with this token.
    pub is_current: bool,
}

/// `GET /api/tokens`: those not revoked, newest first.
pub type TokenList = Data<Vec<TokenView>>;

/// `POST /api/tokens`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(example = serde_json::json!({"name": "ci", "abilities": ["runtime.read"], "expiresAt": "2030-01-01T00:00:00Z"}))]
#[schemars(extend("required" = ["name"]))]
pub struct CreateToken {
    /// 1 to 100 characters.
    #[serde(default)]
    #[schemars(regex(pattern = r"\S"), length(max = 100))]
    pub name: String,
    /// `runtime.read`, `runtime.write`, `tokens.manage`, or `*` for all; empty means `*`.
    #[serde(default)]
    pub abilities: Option<Vec<String>>,
    /// RFC 3339; without it the token does not expire.
    #[serde(default, rename = "expiresAt", alias = "expires_at")]
    pub expires_at: Option<String>,
}

impl Body for CreateToken {}

/// The only answer that ever holds the secret of a personal token.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreatedToken {
    pub token: Secret,
    pub tokenable_id: String,
    pub name: String,
    pub abilities: Vec<String>,
    pub expires_at: Option<String>,
}

pub type TokenReply = Data<CreatedToken>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Deleted {
    pub deleted: bool,
}

/// `DELETE /api/tokens/current` and `DELETE /api/tokens/:token_id`.
pub type DeletedReply = Data<Deleted>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeletedTokens {
    /// Those that were still good.
    pub deleted_count: u64,
}

/// `DELETE /api/tokens`.
pub type DeletedTokensReply = Data<DeletedTokens>;

/// `ts_sec` of control §4, or nothing.
pub fn seconds(moment: Option<Timestamp>) -> Option<String> {
    moment.map(Timestamp::zulu_seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_sent_but_never_printed() {
        let body: VerifyCode =
            serde_json::from_str(r#"{"code":"654321","challenge_id":"challenge_x","deviceId":"a"}"#)
                .expect("a body");
        let printed = format!("{body:?}");
        assert!(!printed.contains("654321") && !printed.contains("challenge_x"), "{printed}");
        assert_eq!(serde_json::to_value(&body).expect("json")["code"], "654321");
        assert_eq!(body.device_id.as_deref(), Some("a"));
    }
}
