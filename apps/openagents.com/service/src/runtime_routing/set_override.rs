//! Decides what overrides the driver of a user or an autopilot: one override a scope, kept until another takes its
//! place.

use oa_contract::{
    Answer, Ask, Handle, Refusal, Stop, Timestamp,
    matrix::RuntimeRoutingOverride,
    operation::Data,
    wire::routing::{OverriddenRouting, OverriddenRoutingReply, OverrideRuntimeRouting},
};
use oa_store::{
    Tx,
    tables::routing::{self as rows, DriverOverride},
};

use super::{decide::driver_label, overrides, show, show_override};
use crate::{
    Control,
    audit::{self, Event},
    identity::{require_admin, signed_in},
};

/// Bytes of `meta` as JSON.
const META_MAX: usize = 64 * 1024;

impl Handle<RuntimeRoutingOverride> for Control {
    async fn handle(&self, ask: Ask<RuntimeRoutingOverride>) -> Result<Answer<OverriddenRoutingReply>, Stop> {
        let user = signed_in(&ask.caller)?;
        require_admin(user)?;
        let now = self.clock.now();
        let new = decide(ask.body, format!("rdo_{}", self.ids.uuid32()), now)?;
        let key = rows::driver_key(&new.scope_type, &new.scope_id);
        let (changed, all) = self.store.write("runtime_routing_override", key, new, apply).await?;
        let attributes = [
            ("scope_type", changed.scope_type.as_str()),
            ("scope_id", changed.scope_id.as_str()),
            ("driver", changed.driver.as_str()),
            ("is_active", if changed.is_active { "true" } else { "false" }),
        ];
        let event = Event {
            name: "runtime.routing.override.updated",
            user_id: Some(&user.user_id),
            attributes: &attributes,
            ..Event::default()
        };
        audit::success(event, &ask.meta, now);
        let status = show(&self.config.routing, all)?;
        Ok(Data { data: OverriddenRouting { changed: show_override(changed)?, status } }.into())
    }
}

fn decide(body: OverrideRuntimeRouting, id: String, now: Timestamp) -> Result<DriverOverride, Refusal> {
    let text = |text: Option<String>| text.map(|text| text.trim().to_owned()).unwrap_or_default();
    let scope_type = text(body.scope_type).to_lowercase();
    if !matches!(scope_type.as_str(), "user" | "autopilot") {
        return Err(Refusal::field("scope_type", "scope_type must be user or autopilot"));
    }
    let scope_id = text(body.scope_id);
    if !(1..=160).contains(&scope_id.chars().count()) {
        return Err(Refusal::field("scope_id", "scope_id must have 1 to 160 characters"));
    }
    let driver = driver_label(&text(body.driver))
        .ok_or_else(|| Refusal::field("driver", "driver must be control_service or runtime_service"))?;
    let reason = Some(text(body.reason)).filter(|reason| !reason.is_empty());
    if reason.as_ref().is_some_and(|reason| reason.chars().count() > 255) {
        return Err(Refusal::field("reason", "reason must have at most 255 characters"));
    }
    let meta = body.meta.map(|meta| meta.to_string());
    if meta.as_ref().is_some_and(|meta| meta.len() > META_MAX) {
        return Err(Refusal::field("meta", "meta must have at most 64 KiB"));
    }
    Ok(DriverOverride {
        scope_type,
        scope_id,
        override_id: id,
        driver: driver.to_owned(),
        is_active: body.is_active.unwrap_or(true),
        reason,
        meta,
        created_at: now,
        updated_at: now,
    })
}

async fn apply(tx: &mut Tx, new: &DriverOverride) -> Result<(DriverOverride, Vec<DriverOverride>), Stop> {
    let changed = match rows::driver(tx, &new.scope_type, &new.scope_id).await? {
        None => new.clone(),
        Some(known) => DriverOverride {
            override_id: known.override_id,
            created_at: known.created_at,
            meta: new.meta.clone().or(known.meta),
            ..new.clone()
        },
    };
    rows::put_driver(tx, &changed).await?;
    Ok((changed, overrides(tx, &()).await?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn body() -> OverrideRuntimeRouting {
        OverrideRuntimeRouting {
            scope_type: Some("User".into()),
            scope_id: Some(" user_1 ".into()),
            driver: Some("runtime_service".into()),
            ..OverrideRuntimeRouting::default()
        }
    }

    fn decided(body: OverrideRuntimeRouting) -> Result<DriverOverride, Refusal> {
        decide(body, "rdo_1".into(), Timestamp::EPOCH)
    }

    #[test]
    fn an_override_is_active_unless_it_says_otherwise() {
        let made = decided(body()).expect("an override");
        assert_eq!((made.scope_type.as_str(), made.scope_id.as_str()), ("user", "user_1"));
        assert!(made.is_active && made.driver == "runtime_service");
        let off = OverrideRuntimeRouting { is_active: Some(false), meta: Some(json!([1])), ..body() };
        let made = decided(off).expect("an override");
        assert_eq!((made.is_active, made.meta.as_deref()), (false, Some("[1]")));
    }

    #[test]
    fn a_refusal_names_the_field() {
        let field = |body| decided(body).expect_err("refused").field;
        for (field_name, bad) in [
            ("scope_type", OverrideRuntimeRouting { scope_type: Some("org".into()), ..body() }),
            ("scope_id", OverrideRuntimeRouting { scope_id: Some(" ".into()), ..body() }),
            ("scope_id", OverrideRuntimeRouting { scope_id: Some("x".repeat(161)), ..body() }),
            ("driver", OverrideRuntimeRouting { driver: Some("laravel".into()), ..body() }),
            ("driver", OverrideRuntimeRouting { driver: Some("runtime".into()), ..body() }),
            ("driver", OverrideRuntimeRouting { driver: Some("control".into()), ..body() }),
            ("driver", OverrideRuntimeRouting { driver: None, ..body() }),
            ("reason", OverrideRuntimeRouting { reason: Some("x".repeat(256)), ..body() }),
            ("meta", OverrideRuntimeRouting { meta: Some(json!("x".repeat(META_MAX))), ..body() }),
        ] {
            assert_eq!(field(bad).as_deref(), Some(field_name));
        }
    }
}
