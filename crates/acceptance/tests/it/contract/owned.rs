//! What a path parameter names: for each of them something that belongs to one user, how it comes to be, and what
//! another user is told who asks for it by name. A built row whose parameter stands here nowhere fails the test in
//! `owners.rs`: whoever builds it says here whose its things are.

use oa_contract::{Owner, Row, Service, matrix};
use oa_testkit::{Answered, Http, World};
use serde_json::{Value, json};

/// The owner of everything, and a stranger, on both ports.
pub struct People {
    pub owner: Http,
    pub stranger: Http,
    pub owner_number: u64,
    pub stranger_number: u64,
}

impl People {
    pub async fn of(world: &World) -> Self {
        let owner = world.sign_in("owner@example.com").await;
        let stranger = world.sign_in("stranger@example.com").await;
        let (owner_number, stranger_number) = (number(&owner).await, number(&stranger).await);
        People { owner, stranger, owner_number, stranger_number }
    }
}

/// The number by which the runtime knows a user.
async fn number(user: &Http) -> u64 {
    let me = user.get("/api/me").await.json();
    principal_number(me["data"]["user"]["id"].as_str().unwrap())
}

/// Control §4, written once more so that a change of it is noticed here.
fn principal_number(user_id: &str) -> u64 {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(user_id.as_bytes());
    u64::from_be_bytes(digest[..8].try_into().unwrap()).max(1)
}

/// Something of the owner's: the values of a row's parameters, and the status a stranger gets.
pub struct Owned {
    pub values: Vec<(&'static str, String)>,
    pub refused: u16,
}

impl Owned {
    fn of<const N: usize>(refused: u16, values: [(&'static str, &str); N]) -> Self {
        Owned { refused, values: values.map(|(name, value)| (name, value.to_owned())).to_vec() }
    }
}

/// What a path names first, and below which path; later parameters belong to the first.
pub fn subject(row: &Row) -> Option<(&'static str, Service, &'static str)> {
    let (front, rest) = row.path.split_once("/:")?;
    Some((rest.split('/').next().unwrap_or(rest), row.served_by(), front))
}

fn built(name: &str) -> bool {
    matrix::rows().any(|row| row.name == name && row.built)
}

fn ok(answered: &Answered) -> Value {
    assert!((200..300).contains(&answered.status), "{} {}", answered.status, answered.text());
    answered.json()
}

/// Makes what the row names, as the owner. `None`: nobody has said yet whose it is.
pub async fn fixture(world: &World, people: &People, row: &Row) -> Option<Owned> {
    let (parameter, port, front) = subject(row)?;
    match port {
        Service::Control => of_control(people, row, parameter, front).await,
        Service::Runtime => of_runtime(world, people, row, parameter).await,
    }
}

async fn of_control(people: &People, row: &Row, parameter: &str, front: &str) -> Option<Owned> {
    let owner = &people.owner;
    let owned = match (parameter, front) {
        // §10, §21.2.11: the runtime's own 403 keeps its meaning.
        ("worker_id", "/api/runtime/workers") => {
            ok(&owner.post("/api/runtime/workers", &json!({"workerId": "owned"})).await);
            Owned::of(403, [("worker_id", "owned")])
        }
        // §14.2: `worker does not belong to authenticated principal`.
        ("worker_id", "/api/runtime/codex/workers") => {
            ok(&owner.post("/api/runtime/codex/workers", &json!({"worker_id": "owned"})).await);
            Owned::of(403, [("worker_id", "owned")])
        }
        // §13: `Requested thread is not available.`
        ("thread_id", "/api/runtime/threads") => {
            thread(owner).await;
            Owned::of(403, [("thread_id", "owned")])
        }
        // §15: the legacy lanes look at the same threads.
        ("conversation_id", "/api/chats") => {
            match built("threads.append_message") {
                true => thread(owner).await,
                // Without the lane that begins threads there is nothing to own.
                false => return None,
            }
            Owned::of(403, [("conversation_id", "owned"), ("run_id", "turn_owned")])
        }
        // §5.6: other user's 403.
        ("token_id", "/api/tokens") => {
            ok(&owner.post("/api/tokens", &json!({"name": "owned"})).await);
            let listed = ok(&owner.get("/api/tokens").await);
            let listed = listed["data"].as_array().unwrap();
            let id = listed.iter().find(|one| one["name"] == "owned").unwrap()["id"].as_str().unwrap();
            Owned::of(403, [("token_id", id)])
        }
        // §21.1 (7): somebody else's records are not to be seen.
        ("skill_id", _) => {
            let spec = json!({"state": "validated", "skill_spec": {"skill_id": "owned", "version": 1, "name": "Owned"}});
            ok(&owner.post("/api/runtime/skills/skill-specs", &spec).await);
            if row.name == "skills.release" {
                ok(&owner.post("/api/runtime/skills/skill-specs/owned/1/publish", &json!({})).await);
            }
            Owned::of(404, [("skill_id", "owned"), ("version", "1")])
        }
        // §19: one's own agents, found by id or handle.
        ("autopilot", "/api/autopilots") => {
            let handle = format!("owned-{}", row.name.replace(['.', '_'], "-"));
            let body = json!({"handle": handle, "displayName": "Owned"});
            let made = ok(&owner.post("/api/autopilots", &body).await);
            let id = made["data"]["id"].as_str().unwrap().to_owned();
            Owned::of(404, [("autopilot", &id)])
        }
        // §11.6, §19: receipts are read back by whoever they are of.
        ("event_id", "/api/l402/transactions") => match built("tools.execute") {
            true => Owned::of(404, [("event_id", &l402_receipt(owner).await)]),
            false => return None,
        },
        _ => return None,
    };
    Some(owned)
}

async fn thread(owner: &Http) {
    let sent = owner.post("/api/runtime/threads/owned/messages", &json!({"text": "mine"})).await;
    ok(&sent);
}

/// A host that the policy does not allow: a receipt without any payment or request.
async fn l402_receipt(owner: &Http) -> String {
    let call = json!({
        "tool_pack": "lightning.v1",
        "manifest_ref": {"integration_id": "lightning.l402"},
        "request": {"operation": "lightning_l402_fetch", "url": "https://denied.example/answer"},
        "policy": {"l402_allowed_hosts": ["allowed.example"]},
    });
    ok(&owner.post("/api/runtime/tools/execute", &call).await);
    let listed = ok(&owner.get("/api/l402/transactions").await);
    // The list stands in `data`, or in a member of it.
    let text = |value: &Value| match &value["eventId"] {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let lists = [&listed["data"], &listed["data"]["transactions"], &listed["data"]["items"]];
    let first = lists.into_iter().find_map(|list| text(list.as_array()?.first()?));
    first.unwrap_or_else(|| panic!("no receipt in {listed}"))
}

async fn of_runtime(world: &World, people: &People, row: &Row, parameter: &str) -> Option<Owned> {
    let owned = match parameter {
        // Runtime-core §21.1: a run of another owner is as unknown as none; rebuilding is for operators.
        "run_id" => {
            let refused = if row.name == "projectors.rebuild" { 403 } else { 404 };
            Owned::of(refused, [("run_id", &run(world, people).await)])
        }
        "stream" => {
            let run = run(world, people).await;
            Owned::of(404, [("stream", &format!("runtime.run.{run}.events"))])
        }
        // §14.2: `owner mismatch for worker <id>`; the checkpoint names no owner, so it is 404.
        "worker_id" => {
            let body = json!({"worker_id": "runtime-owned", "owner_user_id": people.owner_number});
            ok(&world.http.post("/internal/v1/workers", &body).await);
            let unknown = ["workers.checkpoint", "providers.statement"].contains(&row.name);
            let refused = if unknown { 404 } else { 403 };
            Owned::of(refused, [("worker_id", "runtime-owned")])
        }
        // Whoever asks for quotes is told of them; to others the request does not exist.
        "rfq_id" => {
            let requester = format!("user:{}", people.owner_number);
            let body = json!({
                "schema": "openagents.hydra.fx_rfq_request.v1", "idempotency_key": "owned",
                "requester_id": requester, "budget_scope_id": "owned",
                "sell": {"asset": "USD", "amount": 100, "unit": "cents"}, "buy_asset": "BTC_LN",
                "min_buy_amount": 1, "max_spread_bps": 1, "max_fee_bps": 1, "max_latency_ms": 1,
                "quote_ttl_seconds": 300, "policy_context": {},
            });
            let opened = ok(&world.http.post("/internal/v1/hydra/fx/rfq", &body).await);
            Owned::of(404, [("rfq_id", opened["rfq"]["rfq_id"].as_str().unwrap())])
        }
        // Whose an agent is, its own key says; that there is such a key is no secret.
        "agent_id" => {
            let owner = Owner::User(people.owner_number);
            let signer = oa_contract::signer::Signer::from_secret(&"2a".repeat(32)).unwrap();
            let agent = signer.public_key_hex();
            let intent = json!({
                "schema": "openagents.credit.intent_request.v1", "idempotency_key": "owned", "agent_id": agent,
                "scope_type": "nip90", "scope_id": "owned", "max_sats": 1, "exp": "2026-02-25T10:30:00Z",
            });
            let hash = oa_contract::canonical::canonical_hash;
            let mut signed_over = intent.clone();
            signed_over["policy_context_sha256"] = json!(hash(&json!({})));
            let claim = json!({"schema": "openagents.credit.agent_claim.v1", "owner": owner.to_string(),
                "intent_sha256": hash(&signed_over)});
            let digest = oa_contract::canonical::canonical_digest(&claim);
            let mut body = intent;
            body["agent_signature"] = json!(oa_contract::canonical::hex(&signer.sign_digest(&digest)));
            ok(&signed(world, &owner, "POST", "/internal/v1/credit/intent", Some(body)).await);
            Owned::of(403, [("agent_id", &agent)])
        }
        // For operators only.
        "offer_id" => Owned::of(403, [("offer_id", "owned")]),
        "settlement_id" => Owned::of(403, [("settlement_id", "owned")]),
        "payment_id" => Owned::of(403, [("payment_id", "liq_quote_owned")]),
        _ => return None,
    };
    Some(owned)
}

/// A run that belongs to the owner, because a credential that is bound to them began it.
async fn run(world: &World, people: &People) -> String {
    let owner = Owner::User(people.owner_number);
    let begun = signed(world, &owner, "POST", "/internal/v1/runs", Some(json!({}))).await;
    ok(&begun)["run"]["id"].as_str().unwrap().to_owned()
}

/// A request to the runtime with a credential that is bound to one owner, as control makes it.
pub async fn signed(world: &World, owner: &Owner, method: &str, path: &str, body: Option<Value>) -> Answered {
    let body = body.map(|body| body.to_string().into_bytes());
    let signature = world.signature(owner, method, path, body.as_deref().unwrap_or_default());
    let mut headers = vec![(oa_contract::credential::SIGNATURE_HEADER, signature.as_str())];
    if body.is_some() {
        headers.push(("content-type", "application/json"));
    }
    world.http.anonymous().send(method, path, &headers, body).await
}
