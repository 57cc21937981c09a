//! Decides what storing a specification does: a new row, a changed row, or nothing because it was published.

use oa_contract::{Refusal, Stop, Timestamp};
use oa_store::{
    Key, Tx,
    tables::skills::{self as rows, Kind, Spec, State},
};

use super::{builtin, check::Checked, name_key, public, scope::Scope, spec_key};
use crate::Control;

/// Everything that storing needs.
struct Ask {
    org_id: String,
    user_id: String,
    checked: Checked,
    now: Timestamp,
}

impl Control {
    /// Stores what was checked for the active organisation of the caller.
    pub(super) async fn store_spec(&self, scope: &Scope, checked: Checked) -> Result<Spec, Stop> {
        let org_id = scope.active().to_owned();
        scope.must_write(&org_id)?;
        let keys = keys(&org_id, &checked);
        let ask = Ask { org_id, user_id: scope.user_id.clone(), checked, now: self.clock.now() };
        self.store.write("skills_store_spec", keys, ask, put).await
    }
}

fn keys(org_id: &str, checked: &Checked) -> Vec<Key> {
    let spec = spec_key(checked.kind, org_id, &checked.key);
    match checked.kind {
        Kind::Tool => vec![spec],
        Kind::Skill => vec![spec, name_key(&checked.key)],
    }
}

async fn put(tx: &mut Tx, ask: &Ask) -> Result<Spec, Stop> {
    let Checked { kind, key, version, .. } = &ask.checked;
    let existing = rows::spec(tx, &ask.org_id, *kind, key, *version).await?;
    match decide(existing, ask)? {
        Ruling::Unchanged(spec) => Ok(spec),
        Ruling::Put(spec) => {
            rows::put_spec(tx, &spec).await?;
            if spec.kind == Kind::Skill && spec.frozen {
                public::refresh(tx, &spec.org_id, &spec.key).await?;
            }
            Ok(spec)
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Ruling {
    Unchanged(Spec),
    Put(Spec),
}

fn decide(existing: Option<Spec>, ask: &Ask) -> Result<Ruling, Refusal> {
    let Checked { kind, id, key, version, tool_pack, state, hash, text } = &ask.checked;
    if builtin::named(*kind, key, *version).is_some() {
        return Err(Refusal::forbidden(format!(
            "{id} version {version} is built in and read-only; choose another id or version"
        )));
    }
    match existing {
        Some(published) if published.frozen => published_again(published, *state, hash, ask.now),
        other => {
            let state = state.unwrap_or(State::Validated);
            Ok(Ruling::Put(Spec {
                org_id: ask.org_id.clone(),
                kind: *kind,
                key: key.clone(),
                version: *version,
                id: id.clone(),
                owner_id: other.as_ref().map_or_else(|| ask.user_id.clone(), |spec| spec.owner_id.clone()),
                tool_pack: tool_pack.clone(),
                state,
                frozen: state == State::Published,
                created_at: other.map_or(ask.now, |spec| spec.created_at),
                updated_at: ask.now,
                hash: *hash,
                text: text.clone(),
            }))
        }
    }
}

/// What was published keeps its text; only whether it is deprecated may change.
fn published_again(
    spec: Spec,
    state: Option<State>,
    hash: &[u8; 32],
    now: Timestamp,
) -> Result<Ruling, Refusal> {
    if spec.hash != *hash {
        return Err(Refusal::conflict(format!(
            "{} version {} was published and does not change any more; store it under the next version",
            spec.id, spec.version
        )));
    }
    match state {
        Some(State::Draft) => Err(Refusal::conflict(format!(
            "{} version {} was published and is no draft any more; it can only be deprecated",
            spec.id, spec.version
        ))),
        Some(state @ (State::Deprecated | State::Published)) if state != spec.state => {
            Ok(Ruling::Put(Spec { state, updated_at: now, ..spec }))
        }
        _ => Ok(Ruling::Unchanged(spec)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::skills::check;

    fn ask(name: &str, state: Option<&str>, at: i64) -> Ask {
        let spec = json!({"skill_id": "Triage", "version": 2, "name": name});
        let checked = check::skill(oa_contract::wire::skills::StoreSkillSpec {
            skill_spec: Some(serde_json::value::to_raw_value(&spec).expect("json")),
            state: state.map(|state| json!(state)),
        });
        Ask {
            org_id: "user:u".into(),
            user_id: format!("user_{at}"),
            checked: checked.expect("checked"),
            now: Timestamp::from_unix_seconds(at),
        }
    }

    fn put(existing: Option<Spec>, ask: &Ask) -> Spec {
        match decide(existing, ask).expect("a ruling") {
            Ruling::Put(spec) => spec,
            Ruling::Unchanged(spec) => panic!("unchanged: {spec:?}"),
        }
    }

    #[test]
    fn a_change_keeps_when_and_by_whom_it_was_stored_first() {
        let first = put(None, &ask("a", None, 1));
        assert_eq!((first.state, first.frozen, first.owner_id.as_str()), (State::Validated, false, "user_1"));
        let second = put(Some(first.clone()), &ask("b", Some("draft"), 2));
        assert_eq!((second.created_at, second.owner_id), (first.created_at, first.owner_id));
        assert_eq!((second.updated_at, second.state), (Timestamp::from_unix_seconds(2), State::Draft));
        assert_ne!(second.hash, first.hash);
    }

    #[test]
    fn what_was_published_never_changes_its_text() {
        let published = put(None, &ask("a", Some("published"), 1));
        assert!(published.frozen);
        assert!(decide(Some(published.clone()), &ask("b", None, 2)).is_err());
        assert!(decide(Some(published.clone()), &ask("a", Some("draft"), 2)).is_err());
        for same in [None, Some("validated"), Some("published")] {
            let ruling = decide(Some(published.clone()), &ask("a", same, 2)).expect("a ruling");
            assert_eq!(ruling, Ruling::Unchanged(published.clone()));
        }
        let deprecated = put(Some(published.clone()), &ask("a", Some("deprecated"), 2));
        assert_eq!((deprecated.state, deprecated.frozen), (State::Deprecated, true));
        assert!(decide(Some(deprecated.clone()), &ask("b", Some("published"), 3)).is_err());
        assert_eq!(put(Some(deprecated), &ask("a", Some("published"), 3)).state, State::Published);
    }
}
