//! Decides which driver would run one thread of the caller, without running it.

use oa_contract::{
    Answer, Ask, Handle, Refusal, Stop, matrix::RuntimeRoutingEvaluate, operation::Data,
    wire::routing::RuntimeRoutingDecisionReply,
};
use oa_store::{
    Tx,
    tables::{
        autopilots,
        routing::{self as rows, DriverOverride},
        threads,
    },
};

use super::decide::{Subject, decide};
use crate::{Control, identity::signed_in};

/// Characters of an id.
const ID_MAX: usize = 255;

impl Handle<RuntimeRoutingEvaluate> for Control {
    async fn handle(
        &self,
        ask: Ask<RuntimeRoutingEvaluate>,
    ) -> Result<Answer<RuntimeRoutingDecisionReply>, Stop> {
        let user = signed_in(&ask.caller)?;
        let thread_id = id("thread_id", ask.body.thread_id.as_deref())?
            .ok_or_else(|| Refusal::field("thread_id", "thread_id must name a thread"))?;
        if id("user_id", ask.body.user_id.as_deref())?.is_some_and(|named| named != user.user_id) {
            return Err(Refusal::forbidden("only the caller's own routing is decided here").into());
        }
        let asked = Asked {
            autopilot_id: id("autopilot_id", ask.body.autopilot_id.as_deref())?,
            user_id: user.user_id.clone(),
            thread_id,
        };
        let found = self.store.read("runtime_routing_evaluate", asked.clone(), find).await?;
        let subject = Subject {
            thread_id: &asked.thread_id,
            user_id: &asked.user_id,
            autopilot_id: found.autopilot_id.as_deref(),
            user_override: found.user_override.as_deref(),
            autopilot_override: found.autopilot_override.as_deref(),
            binding: found.binding.as_deref(),
        };
        Ok(Data { data: decide(&self.config.routing, subject) }.into())
    }
}

fn id(field: &str, text: Option<&str>) -> Result<Option<String>, Refusal> {
    let text = text.map(str::trim).filter(|text| !text.is_empty());
    match text {
        Some(text) if text.chars().count() > ID_MAX => {
            Err(Refusal::field(field, format!("{field} must have at most {ID_MAX} characters")))
        }
        text => Ok(text.map(str::to_owned)),
    }
}

#[derive(Clone, Debug)]
struct Asked {
    thread_id: String,
    user_id: String,
    autopilot_id: Option<String>,
}

#[derive(Debug, Default)]
struct Found {
    autopilot_id: Option<String>,
    user_override: Option<String>,
    autopilot_override: Option<String>,
    binding: Option<String>,
}

async fn find(tx: &mut Tx, asked: &Asked) -> Result<Found, Stop> {
    let active = |found: Option<DriverOverride>| found.filter(|one| one.is_active).map(|one| one.driver);
    let mut found = Found {
        autopilot_id: match &asked.autopilot_id {
            Some(given) => Some(given.clone()),
            None => autopilot_of_thread(tx, asked).await?,
        },
        user_override: active(rows::driver(tx, "user", &asked.user_id).await?),
        ..Found::default()
    };
    if let Some(autopilot_id) = &found.autopilot_id {
        let autopilot = autopilots::get(tx, autopilot_id).await?;
        // Nothing is said of somebody else's autopilot, not even that it is there.
        if autopilot.as_ref().is_none_or(|autopilot| autopilot.user_id == asked.user_id) {
            found.autopilot_override = active(rows::driver(tx, "autopilot", autopilot_id).await?);
            found.binding = autopilot.and_then(|autopilot| autopilot.runtime_type);
        }
    }
    Ok(found)
}

async fn autopilot_of_thread(tx: &mut Tx, asked: &Asked) -> Result<Option<String>, Stop> {
    let thread = threads::get(tx, &asked.thread_id).await?;
    Ok(thread.filter(|thread| thread.user_id == asked.user_id).and_then(|thread| thread.autopilot_id))
}

#[cfg(test)]
mod tests {
    use oa_contract::{
        matrix::AutopilotsCreate,
        wire::{autopilots::CreateAutopilot, routing::EvaluateRuntimeRouting},
    };

    use super::*;
    use crate::{identity::NewToken, testing::World};

    /// What an earlier version kept: a binding under a label that is retired since.
    async fn keep_old(tx: &mut Tx, (known, label): &(String, &'static str)) -> Result<String, Stop> {
        let mut old = autopilots::get(tx, known).await?.expect("an autopilot");
        old.autopilot_id = format!("autopilot_{label}");
        old.handle = (*label).to_owned();
        old.runtime_type = Some((*label).to_owned());
        assert!(autopilots::insert(tx, &old).await?);
        Ok(old.autopilot_id)
    }

    #[tokio::test]
    async fn a_stored_binding_under_a_retired_label_prefers_no_driver() {
        let world = World::new().await;
        let user = world.user("dev@example.com").await;
        let token = world.personal_token(&user.user_id, NewToken::named("t")).await;
        let bound = CreateAutopilot { runtime_type: Some("runtime_service".into()), ..Default::default() };
        let made = world.ask_as::<AutopilotsCreate>(token.reveal(), bound).await.expect("made").body.data;
        let ask = async |autopilot_id: &str| {
            let body = EvaluateRuntimeRouting {
                thread_id: Some("t".into()),
                autopilot_id: Some(autopilot_id.to_owned()),
                ..EvaluateRuntimeRouting::default()
            };
            world.ask_as::<RuntimeRoutingEvaluate>(token.reveal(), body).await.expect("decided").body.data
        };
        assert_eq!(ask(&made.id).await.reason, "autopilot_binding");
        for label in ["elixir", "laravel", "legacy", "openagents.com", "runtime", "control"] {
            let known = (made.id.clone(), label);
            let old = world.control.store.write("test.bind", (), known, keep_old).await.expect("kept");
            let decision = ask(&old).await;
            assert_eq!(
                (decision.reason.as_str(), decision.driver.as_str(), decision.autopilot_binding_driver),
                ("default_driver", "control_service", None),
                "{label}"
            );
        }
    }
}
