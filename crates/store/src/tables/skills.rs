//! Decides what is kept of the registry of tools and skills: specifications by organisation, kind, id and
//! version; releases that never change; and the names that everybody sees.

use oa_contract::instant::Timestamp;
use oa_contract::refusal::{Fault, Stop};

use crate::row::{FromRow, Row};
use crate::statement::Statement;
use crate::transaction::Tx;
use crate::value::Value;
use crate::{params, sealed_statement, statement};

static PUT_SPEC: Statement = sealed_statement!("skills/put_spec", "specs");
static SPEC: Statement = sealed_statement!("skills/spec", "specs");
static SPEC_PLACES: Statement = statement!("skills/spec_places");
static SPECS_BETWEEN: Statement = sealed_statement!("skills/specs_between", "specs");
static PUT_RELEASE: Statement = sealed_statement!("skills/put_release", "skill_releases");
static RELEASE: Statement = sealed_statement!("skills/release", "skill_releases");
static NEWEST_PUBLIC: Statement = sealed_statement!("skills/newest_public", "skill_releases");
static PUT_PUBLIC: Statement = sealed_statement!("skills/put_public", "public_skills");
static PUBLIC: Statement = sealed_statement!("skills/public", "public_skills");
static LIST_PUBLIC: Statement = sealed_statement!("skills/list_public", "public_skills");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Tool,
    Skill,
}

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Tool => "tool",
            Kind::Skill => "skill",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Draft,
    Validated,
    Published,
    Deprecated,
}

impl State {
    const ALL: [State; 4] = [State::Draft, State::Validated, State::Published, State::Deprecated];

    pub const fn name(self) -> &'static str {
        match self {
            State::Draft => "draft",
            State::Validated => "validated",
            State::Published => "published",
            State::Deprecated => "deprecated",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// A specification of an organisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    pub org_id: String,
    pub kind: Kind,
    /// The id in lower case.
    pub key: String,
    pub version: u64,
    /// As it was given, trimmed.
    pub id: String,
    /// The user who stored it first.
    pub owner_id: String,
    /// Of a tool only.
    pub tool_pack: Option<String>,
    pub state: State,
    /// Published once: the text does not change any more.
    pub frozen: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// SHA-256 over the canonical form.
    pub hash: [u8; 32],
    /// The text exactly as it was sent.
    pub text: String,
}

/// Where a specification lies among those of its organisation and kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpecPlace {
    pub key: String,
    pub version: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    pub org_id: String,
    /// The skill's id in lower case.
    pub key: String,
    pub version: u64,
    pub bundle_hash: [u8; 32],
    /// The user who published it.
    pub published_by: String,
    pub published_at: Timestamp,
    /// JSON, where the registry has a key.
    pub signature: Option<String>,
    /// Whether everybody may see it.
    pub public: bool,
    pub text: String,
}

/// What everybody sees under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicName {
    pub name: String,
    /// Whose name it is, for ever.
    pub org_id: String,
    /// The newest public version; `None` when none is left.
    pub version: Option<u64>,
    /// `skill-md` or `archive`.
    pub artifact: String,
    pub description: String,
    /// SHA-256 of the artifact.
    pub digest: [u8; 32],
}

fn digest(row: &Row<'_>, column: usize) -> Result<[u8; 32], Fault> {
    row.bytes(column)?.try_into().map_err(|error| Fault::new("reading a kept hash", error))
}

impl FromRow for Spec {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        let kind = match row.text(1)? {
            "tool" => Kind::Tool,
            "skill" => Kind::Skill,
            other => return Err(Fault::msg(format!("a specification is kept with the kind {other:?}"))),
        };
        let state = row.text(7)?;
        let known = State::from_name(state);
        Ok(Spec {
            org_id: row.text(0)?.into(),
            kind,
            key: row.text(2)?.into(),
            version: row.uint(3)?,
            id: row.text(4)?.into(),
            owner_id: row.text(5)?.into(),
            tool_pack: row.opt_text(6)?.map(str::to_owned),
            state: known
                .ok_or_else(|| Fault::msg(format!("a specification is kept with the state {state:?}")))?,
            frozen: row.bool(8)?,
            created_at: row.timestamp(9)?,
            updated_at: row.timestamp(10)?,
            hash: digest(row, 11)?,
            text: row.text(13)?.into(),
        })
    }
}

impl FromRow for Release {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(Release {
            org_id: row.text(0)?.into(),
            key: row.text(1)?.into(),
            version: row.uint(2)?,
            bundle_hash: digest(row, 3)?,
            published_by: row.text(4)?.into(),
            published_at: row.timestamp(5)?,
            signature: row.opt_text(6)?.map(str::to_owned),
            public: row.bool(7)?,
            text: row.text(8)?.into(),
        })
    }
}

impl FromRow for PublicName {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(PublicName {
            name: row.text(0)?.into(),
            org_id: row.text(1)?.into(),
            version: row.opt_uint(2)?,
            artifact: row.text(3)?.into(),
            description: row.text(4)?.into(),
            digest: digest(row, 5)?,
        })
    }
}

/// Writes a specification, new or changed.
pub async fn put_spec(tx: &mut Tx, spec: &Spec) -> Result<(), Stop> {
    let params = params![
        &spec.org_id,
        spec.kind.name(),
        &spec.key,
        Value::unsigned(spec.version)?,
        &spec.id,
        &spec.owner_id,
        &spec.tool_pack,
        spec.state.name(),
        spec.frozen,
        spec.created_at,
        spec.updated_at,
        &spec.hash,
        Value::unsigned(spec.text.len() as u64)?,
        &spec.text,
    ];
    tx.execute(&PUT_SPEC, params).await?;
    Ok(())
}

pub async fn spec(
    tx: &mut Tx,
    org_id: &str,
    kind: Kind,
    key: &str,
    version: u64,
) -> Result<Option<Spec>, Stop> {
    tx.one(&SPEC, params![org_id, kind.name(), key, Value::unsigned(version)?]).await
}

/// The places of an organisation's specifications from `from` on, each with the bytes of its text.
pub async fn spec_places(
    tx: &mut Tx,
    org_id: &str,
    kind: Kind,
    from: &SpecPlace,
    limit: u32,
) -> Result<Vec<(SpecPlace, u64)>, Stop> {
    let params = params![org_id, kind.name(), &from.key, Value::unsigned(from.version)?, limit];
    let places: Vec<(String, u64, u64)> = tx.all(&SPEC_PLACES, params).await?;
    Ok(places.into_iter().map(|(key, version, bytes)| (SpecPlace { key, version }, bytes)).collect())
}

/// The specifications of an organisation from one place to another, both included.
pub async fn specs_between(
    tx: &mut Tx,
    org_id: &str,
    kind: Kind,
    from: &SpecPlace,
    to: &SpecPlace,
) -> Result<Vec<Spec>, Stop> {
    let (first, last) = (Value::unsigned(from.version)?, Value::unsigned(to.version)?);
    tx.all(&SPECS_BETWEEN, params![org_id, kind.name(), &from.key, first, &to.key, last]).await
}

/// Writes a release; one that is there already is a fault.
pub async fn put_release(tx: &mut Tx, release: &Release) -> Result<(), Stop> {
    let params = params![
        &release.org_id,
        &release.key,
        Value::unsigned(release.version)?,
        &release.bundle_hash,
        &release.published_by,
        release.published_at,
        &release.signature,
        release.public,
        &release.text,
    ];
    tx.execute(&PUT_RELEASE, params).await?;
    Ok(())
}

pub async fn release(tx: &mut Tx, org_id: &str, key: &str, version: u64) -> Result<Option<Release>, Stop> {
    tx.one(&RELEASE, params![org_id, key, Value::unsigned(version)?]).await
}

/// The newest public release of a skill whose specification is not deprecated.
pub async fn newest_public(tx: &mut Tx, org_id: &str, key: &str) -> Result<Option<Release>, Stop> {
    tx.one(&NEWEST_PUBLIC, params![org_id, key]).await
}

/// Writes what everybody sees under a name.
pub async fn put_public(tx: &mut Tx, public: &PublicName) -> Result<(), Stop> {
    let PublicName { name, org_id, version, artifact, description, digest } = public;
    let version = version.map(Value::unsigned).transpose()?.unwrap_or(Value::Null);
    tx.execute(&PUT_PUBLIC, params![name, org_id, version, artifact, description, digest]).await?;
    Ok(())
}

pub async fn public(tx: &mut Tx, name: &str) -> Result<Option<PublicName>, Stop> {
    tx.one(&PUBLIC, params![name]).await
}

/// Names after this one, ascending.
pub async fn list_public(tx: &mut Tx, after: &str, limit: u32) -> Result<Vec<PublicName>, Stop> {
    tx.all(&LIST_PUBLIC, params![after, limit]).await
}
