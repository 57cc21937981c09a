//! Decides what overrides the route split: for everything, or for one group of routes; kept until it is cleared.

use oa_contract::{
    Answer, Ask, Handle, Refusal, Stop, Timestamp,
    matrix::RouteSplitOverride,
    operation::Data,
    wire::routing::{OverrideRouteSplit, RouteSplitStatusReply},
};
use oa_store::{
    Tx,
    tables::routing::{self as rows, SplitOverride},
};

use super::{HTMX, HTMX_DEFAULT, HTMX_ROLLBACK, LEGACY, Overrides, RUST, TARGET, group, overrides, show};
use crate::{
    Control,
    audit::{self, Event},
    identity::{require_admin, signed_in},
};

impl Handle<RouteSplitOverride> for Control {
    async fn handle(&self, ask: Ask<RouteSplitOverride>) -> Result<Answer<RouteSplitStatusReply>, Stop> {
        let user = signed_in(&ask.caller)?;
        require_admin(user)?;
        let change = decide(&ask.body)?;
        let now = self.clock.now();
        let overrides =
            self.store.write("route_split_override", rows::split_key(), (change.clone(), now), apply).await?;
        let scope = change.domain.map_or_else(|| "global".to_owned(), |domain| format!("domain:{domain}"));
        let shown = change.value.unwrap_or("clear");
        let attributes = [
            ("target", ask.body.target.as_deref().unwrap_or_default()),
            ("scope", scope.as_str()),
            ("override_kind", change.kind),
            ("htmx_mode", if change.kind == HTMX { shown } else { "" }),
        ];
        let name = match change.kind {
            HTMX => "route.split.htmx.override.updated",
            _ => "route.split.override.updated",
        };
        let user_id = Some(user.user_id.as_str());
        audit::success(Event { name, user_id, attributes: &attributes, ..Event::default() }, &ask.meta, now);
        Ok(Data { data: show(&self.config.route_split, overrides) }.into())
    }
}

/// One override to be set, or to be cleared where there is no value.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    kind: &'static str,
    domain: Option<&'static str>,
    value: Option<&'static str>,
}

fn decide(body: &OverrideRouteSplit) -> Result<Change, Refusal> {
    let target = body.target.as_deref().unwrap_or_default().trim().to_lowercase();
    let named = body.domain.as_deref().map(|domain| domain.trim().to_lowercase().replace('-', "_"));
    let named = named.filter(|domain| !domain.is_empty());
    // What the words mean is known before whom they concern.
    let kind = match target.as_str() {
        "legacy" | "rust" | "rust_shell" | "clear" | "default" | "rollback" => TARGET,
        "htmx_fragment" | "htmx_on" | "htmx_full_page" | "htmx_off" | "htmx_rollback" | "htmx_clear" => HTMX,
        _ => {
            return Err(Refusal::field(
                "target",
                "target must be legacy, rust, rollback or clear, or for a domain htmx_fragment, htmx_full_page, htmx_rollback or htmx_clear",
            ));
        }
    };
    let group = match &named {
        None if kind == HTMX => {
            return Err(Refusal::field("domain", "Domain is required for HTMX overrides."));
        }
        None => None,
        Some(domain) => Some(group(domain).ok_or_else(|| {
            Refusal::field("domain", "domain must name a group of routes, as the status lists them")
        })?),
    };
    let value = match target.as_str() {
        "legacy" => Some(LEGACY),
        "rust" | "rust_shell" => Some(RUST),
        "rollback" => Some(group.map_or(LEGACY, |group| group.rollback)),
        "htmx_fragment" | "htmx_on" => Some(HTMX_DEFAULT),
        "htmx_full_page" | "htmx_off" | "htmx_rollback" => Some(HTMX_ROLLBACK),
        _ => None,
    };
    Ok(Change { kind, domain: group.map(|group| group.domain), value })
}

async fn apply(tx: &mut Tx, (change, now): &(Change, Timestamp)) -> Result<Overrides, Stop> {
    let domain = change.domain.unwrap_or_default();
    match change.value {
        None => rows::remove_split(tx, domain, change.kind).await?,
        Some(value) => {
            let one = SplitOverride {
                domain: domain.to_owned(),
                kind: change.kind.to_owned(),
                value: value.to_owned(),
                updated_at: *now,
            };
            rows::put_split(tx, &one).await?;
        }
    }
    overrides(tx, &()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(target: &str, domain: Option<&str>) -> Result<Change, Refusal> {
        decide(&OverrideRouteSplit { target: Some(target.into()), domain: domain.map(str::to_owned) })
    }

    #[test]
    fn every_word_means_one_change() {
        let set = |kind, domain, value| Ok(Change { kind, domain, value });
        assert_eq!(change("legacy", None), set(TARGET, None, Some(LEGACY)));
        assert_eq!(change(" Rust ", None), set(TARGET, None, Some(RUST)));
        assert_eq!(change("rust_shell", Some("chat-pilot")), set(TARGET, Some("chat_pilot"), Some(RUST)));
        assert_eq!(change("rollback", None), set(TARGET, None, Some(LEGACY)));
        assert_eq!(change("rollback", Some("CHAT_PILOT")), set(TARGET, Some("chat_pilot"), Some(RUST)));
        assert_eq!(change("clear", Some(" ")), set(TARGET, None, None));
        assert_eq!(change("default", Some("auth_entry")), set(TARGET, Some("auth_entry"), None));
        for (words, value) in [
            (["htmx_on", "htmx_fragment"], Some("fragment")),
            (["htmx_off", "htmx_full_page"], Some("full_page")),
            (["htmx_rollback", "htmx_rollback"], Some("full_page")),
            (["htmx_clear", "htmx_clear"], None),
        ] {
            for word in words {
                assert_eq!(change(word, Some("auth_entry")), set(HTMX, Some("auth_entry"), value), "{word}");
            }
        }
    }

    #[test]
    fn a_refusal_names_the_field() {
        let field = |target, domain| change(target, domain).expect_err("refused").field;
        assert_eq!(field("sideways", None).as_deref(), Some("target"));
        assert_eq!(field("", Some("auth_entry")).as_deref(), Some("target"));
        assert_eq!(field("legacy", Some("nowhere")).as_deref(), Some("domain"));
        let refused = change("htmx_on", None).expect_err("refused");
        assert_eq!(refused.field.as_deref(), Some("domain"));
        assert!(refused.message.starts_with("Domain is required"));
    }
}
