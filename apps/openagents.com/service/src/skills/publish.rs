//! Decides how a specification becomes a release: once, from `validated`, with tools that exist, signed; asked for
//! again, the same release is answered.

use oa_contract::{
    Answer, Ask, Handle, Refusal, Stop, Timestamp,
    bundle::Signed,
    canonical::{canonical_digest, hex},
    matrix::SkillsPublish,
    signer::Signer,
    wire::skills::SkillReleaseReply,
};
use oa_store::{
    Tx,
    tables::skills::{self as rows, Kind, Release, Spec, State},
};
use serde_json::Value;

use super::{
    builtin,
    check::{AllowedTool, allowed_tools},
    name_key, not_found, public,
    release::answered,
    scope::Scope,
    spec_key,
};
use crate::{Control, audit};

#[derive(Clone)]
struct Wish {
    scope: Scope,
    /// As it stands in the path.
    skill_id: String,
    /// The same in lower case.
    key: String,
    version: u64,
    now: Timestamp,
    signer: Option<Signer>,
}

/// A release that is asked for, and whose it becomes.
struct Order {
    wish: Wish,
    org_id: String,
}

impl Handle<SkillsPublish> for Control {
    async fn handle(&self, ask: Ask<SkillsPublish>) -> Result<Answer<SkillReleaseReply>, Stop> {
        let scope = self.skill_scope(&ask.caller).await?;
        let wish = Wish {
            scope: scope.clone(),
            key: ask.path.skill_id.trim().to_lowercase(),
            skill_id: ask.path.skill_id.clone(),
            version: ask.path.version,
            now: self.clock.now(),
            signer: self.signer.clone(),
        };
        let order = self.store.read("skills_publish_where", wish, owned).await?;
        scope.must_write(&order.org_id)?;
        let key = &order.wish.key;
        let keys = [spec_key(Kind::Skill, &order.org_id, key), name_key(key)];
        let release = self.store.write("skills_publish", keys, order, publish).await?;
        let data = answered(release, ask.path.skill_id)?;
        let version = data.version.to_string();
        let event = audit::Event {
            name: "runtime.skills.skill_spec.published",
            user_id: Some(&scope.user_id),
            session_id: Some(&scope.session_id),
            org_id: Some(&data.org_id),
            attributes: &[
                ("skill_id", &data.skill_id),
                ("version", &version),
                ("release_id", &data.release_id),
            ],
            ..audit::Event::default()
        };
        audit::success(event, &ask.meta, self.clock.now());
        Ok(SkillReleaseReply { data }.into())
    }
}

/// Whose specification is meant: a stored one is found whatever the case of its id, in the active organisation
/// first; one built in by its exact id only, and it is published for the active organisation.
async fn owned(tx: &mut Tx, wish: &Wish) -> Result<Order, Stop> {
    for org_id in &wish.scope.orgs {
        if rows::spec(tx, org_id, Kind::Skill, &wish.key, wish.version).await?.is_some() {
            return Ok(Order { wish: wish.clone(), org_id: org_id.clone() });
        }
    }
    match built_in(wish) {
        Some(_) => Ok(Order { wish: wish.clone(), org_id: wish.scope.active().to_owned() }),
        None => Err(not_found().into()),
    }
}

fn built_in(wish: &Wish) -> Option<&'static Spec> {
    builtin::named(Kind::Skill, &wish.key, wish.version).filter(|spec| spec.id == wish.skill_id)
}

async fn publish(tx: &mut Tx, order: &Order) -> Result<Release, Stop> {
    let Order { wish, org_id } = order;
    let stored = rows::spec(tx, org_id, Kind::Skill, &wish.key, wish.version).await?;
    let spec = stored.or_else(|| built_in(wish).cloned()).ok_or_else(not_found)?;
    let existing = rows::release(tx, org_id, &wish.key, wish.version).await?;
    if let Ruling::Known(release) = decide(&spec, existing)? {
        return Ok(release);
    }
    let value = public::read(&spec.text)?;
    for tool in allowed_tools(&value)? {
        if !exists(tx, org_id, &tool).await? {
            return Err(unknown_tool(&tool).into());
        }
    }
    let built_in = spec.org_id.is_empty();
    let seen = !built_in && public::is_asked(&value);
    if seen {
        public::claim(tx, org_id, &spec, &value).await?;
    }
    let release = made(wish, &spec, org_id, &value, seen)?;
    rows::put_release(tx, &release).await?;
    if !built_in {
        let spec = Spec { state: State::Published, frozen: true, updated_at: wish.now, ..spec };
        rows::put_spec(tx, &spec).await?;
        public::refresh(tx, org_id, &wish.key).await?;
    }
    Ok(release)
}

enum Ruling {
    Known(Release),
    Publish,
}

fn decide(spec: &Spec, existing: Option<Release>) -> Result<Ruling, Refusal> {
    let (id, version) = (&spec.id, spec.version);
    match (spec.state, existing) {
        (State::Draft, _) => Err(Refusal::conflict(format!(
            "{id} version {version} is a draft; store it with the state `validated` first"
        ))),
        (State::Deprecated, _) => Err(Refusal::conflict(format!(
            "{id} version {version} is deprecated; store it with the state `{}` first, or publish a newer version",
            if spec.frozen { "published" } else { "validated" }
        ))),
        (_, Some(release)) if release.bundle_hash == spec.hash => Ok(Ruling::Known(release)),
        (_, Some(_)) => Err(Refusal::conflict(format!(
            "{id} version {version} is published with another content; publish it under the next version"
        ))),
        (State::Validated | State::Published, None) => Ok(Ruling::Publish),
    }
}

async fn exists(tx: &mut Tx, org_id: &str, tool: &AllowedTool) -> Result<bool, Stop> {
    if builtin::named(Kind::Tool, &tool.key, tool.version).is_some() {
        return Ok(true);
    }
    Ok(rows::spec(tx, org_id, Kind::Tool, &tool.key, tool.version).await?.is_some())
}

fn unknown_tool(tool: &AllowedTool) -> Refusal {
    Refusal::field(
        "skill_spec.allowed_tools",
        format!(
            "The skill_spec.allowed_tools field names {} version {}, which is neither built in nor stored in this organisation.",
            tool.key, tool.version
        ),
    )
}

fn made(wish: &Wish, spec: &Spec, org_id: &str, value: &Value, public: bool) -> Result<Release, Stop> {
    let published_at = wish.now.zulu_seconds();
    let signed = Signed { org_id, version: spec.version, published_at: &published_at, skill_spec: value };
    let signature = wish.signer.as_ref().map(|signer| serde_json::json!(signed.sign(signer)).to_string());
    let bundle_hash = canonical_digest(value);
    if bundle_hash != spec.hash {
        let what = format!("the specification {} has the hash {}", spec.id, hex(&bundle_hash));
        return Err(oa_contract::Fault::msg(what).into());
    }
    Ok(Release {
        org_id: org_id.to_owned(),
        key: spec.key.clone(),
        version: spec.version,
        bundle_hash,
        published_by: wish.scope.user_id.clone(),
        published_at: wish.now,
        signature,
        public,
        text: spec.text.clone(),
    })
}
