//! Decides what a call is: which pack, whose, under which hash. Two calls with one hash are one call
//! (control §11.1, §11.2).

use oa_contract::{
    Refusal, User,
    canonical::{canon, hex},
    wire::tools::ExecuteTool,
};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::fields;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pack {
    Coding,
    Lightning,
}

impl Pack {
    pub const fn name(self) -> &'static str {
        match self {
            Pack::Coding => "coding.v1",
            Pack::Lightning => "lightning.v1",
        }
    }

    const fn prefix(self) -> &'static str {
        match self {
            Pack::Coding => "coding_",
            Pack::Lightning => "l402_",
        }
    }
}

/// A well-formed call.
#[derive(Clone, Debug)]
pub struct Call {
    pub pack: Pack,
    pub mode: String,
    /// The principal number; it may exceed what a column of numbers holds.
    pub principal: u64,
    pub run_id: Option<String>,
    pub thread_id: Option<String>,
    pub manifest: Option<Value>,
    /// With the principal, and the ids that stood beside it.
    pub request: Map<String, Value>,
    pub policy: Value,
    /// 64 hex digits.
    pub hash: String,
}

impl Call {
    /// The checks of the specification, in its order.
    pub fn read(body: ExecuteTool, user: &User) -> Result<Self, Refusal> {
        let pack = pack(body.tool_pack.as_ref())?;
        let mode = mode(body.mode.as_ref())?;
        let run_id = id("run_id", body.run_id.as_ref())?;
        let thread_id = id("thread_id", body.thread_id.as_ref())?;
        principal(body.user_id.as_ref(), user)?;
        let manifest = collection("manifest", body.manifest)?;
        let manifest_ref = collection("manifest_ref", body.manifest_ref)?;
        if manifest.is_none() && manifest_ref.is_none() {
            return Err(Refusal::invalid("manifest or manifest_ref is required"));
        }
        let Some(Value::Object(mut request)) = body.request else {
            return Err(Refusal::field("request", "request must be an object"));
        };
        let policy = collection("policy", body.policy)?.unwrap_or_else(|| json!([]));
        request.insert("user_id".into(), user.owner_user_id.into());
        for (name, given) in [("run_id", &run_id), ("thread_id", &thread_id)] {
            if let Some(given) = given
                && !request.contains_key(name)
            {
                request.insert(name.into(), given.clone().into());
            }
        }
        let seed = json!({
            "tool_pack": pack.name(),
            "manifest": manifest.clone().unwrap_or_else(|| json!([])),
            "manifest_ref": manifest_ref.unwrap_or_else(|| json!([])),
            "request": request,
            "policy": policy,
            "run_id": run_id,
            "thread_id": thread_id,
            "user_id": user.owner_user_id,
        });
        let hash = hex(&Sha256::digest(canon(&seed)));
        let principal = user.owner_user_id;
        Ok(Call { pack, mode, principal, run_id, thread_id, manifest, request, policy, hash })
    }

    /// The principal as it is kept.
    pub fn owner(&self) -> String {
        self.principal.to_string()
    }

    pub fn receipt_id(&self) -> String {
        format!("{}{}", self.pack.prefix(), &self.hash[..24])
    }

    /// An id that stood beside the request or in it.
    pub fn id_of(&self, name: &str) -> Option<String> {
        let beside = if name == "run_id" { &self.run_id } else { &self.thread_id };
        let inside = || fields::text(self.request.get(name), 160).ok().flatten().map(str::to_owned);
        beside.clone().or_else(inside)
    }
}

fn wrong(field: &str, why: impl std::fmt::Display) -> Refusal {
    Refusal::field(field, format!("{field} {why}"))
}

fn pack(value: Option<&Value>) -> Result<Pack, Refusal> {
    let given = fields::text(value, 120).map_err(|why| wrong("tool_pack", why))?;
    match given.map(str::to_lowercase).as_deref() {
        Some("coding.v1") => Ok(Pack::Coding),
        Some("lightning.v1" | "l402.v1") => Ok(Pack::Lightning),
        Some(_) => Err(wrong("tool_pack", "must be coding.v1 or lightning.v1")),
        None => Err(wrong("tool_pack", "is required")),
    }
}

fn mode(value: Option<&Value>) -> Result<String, Refusal> {
    let given = fields::text(value, 120).map_err(|why| wrong("mode", why))?;
    match given.map(str::to_lowercase).as_deref() {
        None | Some("execute") => Ok("execute".into()),
        Some("replay") => Ok("replay".into()),
        Some(_) => Err(wrong("mode", "must be execute or replay")),
    }
}

fn id(field: &'static str, value: Option<&Value>) -> Result<Option<String>, Refusal> {
    Ok(fields::text(value, 160).map_err(|why| wrong(field, why))?.map(str::to_owned))
}

fn principal(value: Option<&Value>, user: &User) -> Result<(), Refusal> {
    let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(()) };
    match fields::number(value) {
        None | Some(0) => Err(wrong("user_id", "must be a whole number, at least 1")),
        Some(number) if number != user.owner_user_id => {
            Err(Refusal::forbidden("user_id is not the principal number of this credential"))
        }
        Some(_) => Ok(()),
    }
}

/// `obj_or_arr` of control §3.
fn collection(field: &'static str, value: Option<Value>) -> Result<Option<Value>, Refusal> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value @ (Value::Object(_) | Value::Array(_))) => Ok(Some(value)),
        Some(_) => Err(wrong(field, "must be an object or an array")),
    }
}

#[cfg(test)]
mod tests {
    use oa_contract::{Credential, Service};

    use super::*;
    use crate::identity::principal_number;

    fn user() -> User {
        let user_id = "user_0123456789abcdef0123456789abcdef";
        User {
            user_id: user_id.into(),
            email: "dev@example.com".into(),
            owner_user_id: principal_number(user_id),
            session_id: "s".into(),
            active_org_id: String::new(),
            admin: false,
            credential: Credential::Session,
            abilities: vec!["*".into()],
        }
    }

    fn read(body: Value) -> Result<Call, Refusal> {
        Call::read(serde_json::from_value(body).expect("a body"), &user())
    }

    fn example() -> Value {
        json!({"tool_pack": "coding.v1", "mode": "execute", "run_id": "run_7", "thread_id": "thread_7",
            "manifest_ref": {"integration_id": "github.primary"},
            "request": {"integration_id": "github.primary", "operation": "get_issue", "repository": "acme/widgets", "issue_number": 42},
            "policy": {"budget": {"max_per_call_sats": 100}}})
    }

    #[test]
    fn the_hash_of_the_specified_example_is_the_specified_one() {
        let call = read(example()).expect("a call");
        assert_eq!(call.hash, "c3b19a7bf705619fa18869f76836161576349e6278dca40958551518c4b08ace");
        assert_eq!(call.receipt_id(), "coding_c3b19a7bf705619fa18869f7");
    }

    #[test]
    fn the_mode_is_no_part_of_the_hash_and_everything_else_is() {
        let hash = read(example()).expect("a call").hash;
        let changed = |member: &str, value: Value| {
            let mut body = example();
            body[member] = value;
            read(body).expect("a call").hash
        };
        assert_eq!(changed("mode", json!(" REPLAY ")), hash);
        assert_eq!(changed("tool_pack", json!(" Coding.V1 ")), hash);
        for (member, value) in [
            ("run_id", json!("run_8")),
            ("manifest", json!([])),
            ("policy", json!([])),
            ("tool_pack", json!("l402.v1")),
        ] {
            assert_eq!(changed(member, value.clone()) == hash, member == "manifest", "{member}");
        }
    }

    #[test]
    fn the_first_member_that_is_wrong_is_named() {
        let long = "x".repeat(161);
        let cases = [
            (json!({}), Some("tool_pack"), 422),
            (json!({"tool_pack": 7}), Some("tool_pack"), 422),
            (json!({"tool_pack": "x".repeat(121)}), Some("tool_pack"), 422),
            (json!({"tool_pack": "shell.v1"}), Some("tool_pack"), 422),
            (json!({"tool_pack": "coding.v1", "mode": "dry"}), Some("mode"), 422),
            (json!({"tool_pack": "coding.v1", "run_id": long}), Some("run_id"), 422),
            (json!({"tool_pack": "coding.v1", "threadId": {}}), Some("thread_id"), 422),
            (json!({"tool_pack": "coding.v1", "user_id": "x"}), Some("user_id"), 422),
            (json!({"tool_pack": "coding.v1", "user_id": 0}), Some("user_id"), 422),
            (json!({"tool_pack": "coding.v1", "user_id": 7}), None, 403),
            (json!({"tool_pack": "coding.v1", "manifest": "m"}), Some("manifest"), 422),
            (json!({"tool_pack": "coding.v1", "manifestRef": 1}), Some("manifest_ref"), 422),
            (json!({"tool_pack": "coding.v1"}), None, 422),
            (json!({"tool_pack": "coding.v1", "manifest": {}}), Some("request"), 422),
            (json!({"tool_pack": "coding.v1", "manifest": {}, "request": []}), Some("request"), 422),
            (
                json!({"tool_pack": "coding.v1", "manifest": {}, "request": {}, "policy": 1}),
                Some("policy"),
                422,
            ),
        ];
        for (body, field, status) in cases {
            let refused = read(body.clone()).expect_err("refused");
            assert_eq!(
                (refused.field.as_deref(), refused.status(Service::Control)),
                (field, status),
                "{body}"
            );
        }
        let refused = read(json!({"tool_pack": "coding.v1"})).expect_err("refused");
        assert_eq!(refused.message, "manifest or manifest_ref is required");
    }

    #[test]
    fn the_principal_is_the_callers_whatever_the_request_says() {
        let mut body = example();
        body["user_id"] = json!(user().owner_user_id.to_string());
        body["request"]["user_id"] = json!(1);
        let call = read(body).expect("a call");
        assert_eq!(call.hash, read(example()).expect("a call").hash);
        assert_eq!(call.request["user_id"], json!(11_626_709_635_607_040_195_u64));
    }
}
