//! Decides for which autopilot a call is made, and what its owner lets it use and spend: the one that the call names,
//! or else the one that its thread is bound to (control §9.2, §21.1).

use oa_contract::{Refusal, Stop, wire::autopilots::AutopilotPolicy};
use oa_store::{
    Tx,
    tables::{
        autopilots::{self as rows, Autopilot as Kept},
        threads,
    },
};

use super::{
    Tools,
    call::{Call, Pack},
};
use crate::autopilots;

/// Whoever a call is made for.
#[derive(Clone, Debug, Default)]
pub struct Autopilot {
    /// What its spending is counted under: its id, the name that was given if nothing is kept under it, or nothing.
    pub key: String,
    pub policy: AutopilotPolicy,
}

struct Asked {
    user_id: String,
    named: Option<String>,
    thread_id: Option<String>,
}

impl Tools {
    /// The autopilot of a user that is kept under this name, or nobody but the name.
    pub(super) async fn autopilot_named(&self, user_id: &str, named: &str) -> Result<Autopilot, Stop> {
        let (user_id, name) = (user_id.to_owned(), named.to_owned());
        let asked = Asked { user_id, named: Some(name), thread_id: None };
        let (kept, _) = self.store.read("tools_autopilot", asked, known).await?;
        of(kept, named)
    }

    /// The autopilot that a call is made for. A thread that is bound to one is spent from under no other name.
    pub(super) async fn autopilot(&self, call: &Call, named: Option<&str>) -> Result<Autopilot, Stop> {
        let thread_id = call.id_of("thread_id");
        if named.is_none() && thread_id.is_none() {
            return Ok(Autopilot::default());
        }
        let asked = Asked { user_id: call.user_id.clone(), named: named.map(str::to_owned), thread_id };
        let (named_one, bound) = self.store.read("tools_autopilot", asked, known).await?;
        let other =
            |bound: &Kept| named_one.as_ref().is_none_or(|one| one.autopilot_id != bound.autopilot_id);
        if named.is_some() && bound.as_ref().is_some_and(other) {
            let field = "request.autopilot_id";
            return Err(Refusal::field(field, format!("{field} is not the autopilot of this thread")).into());
        }
        of(bound.or(named_one), named.unwrap_or_default())
    }
}

fn of(kept: Option<Kept>, named: &str) -> Result<Autopilot, Stop> {
    match kept {
        Some(kept) => {
            let policy = autopilots::policy(&kept)?;
            Ok(Autopilot { key: kept.autopilot_id, policy })
        }
        None => Ok(Autopilot { key: named.to_owned(), ..Autopilot::default() }),
    }
}

async fn known(tx: &mut Tx, asked: &Asked) -> Result<(Option<Kept>, Option<Kept>), Stop> {
    let named = match &asked.named {
        Some(named) => rows::of_owner(tx, &asked.user_id, named).await?,
        None => None,
    };
    let thread = match &asked.thread_id {
        Some(thread_id) => threads::get(tx, thread_id).await?,
        None => None,
    };
    let bound_to = thread.filter(|thread| thread.user_id == asked.user_id).and_then(|one| one.autopilot_id);
    let bound = match bound_to {
        Some(autopilot_id) => rows::get(tx, &autopilot_id).await?.filter(|one| one.user_id == asked.user_id),
        None => None,
    };
    Ok((named, bound))
}

/// Whether the owner keeps an operation from an autopilot. A list names packs and operations; an empty one says
/// nothing, and `*` means all.
pub fn forbids(policy: &AutopilotPolicy, pack: Pack, operation: &str) -> bool {
    let means = |entry: &String| {
        let entry = entry.trim().to_lowercase();
        entry == "*" || entry == operation || Pack::named(&entry) == Some(pack)
    };
    let listed = |list: &Option<Vec<String>>| list.iter().flatten().any(means);
    let limited = policy.tool_allowlist.as_ref().is_some_and(|list| !list.is_empty());
    listed(&policy.tool_denylist) || (limited && !listed(&policy.tool_allowlist))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_packs_and_operations() {
        let list = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        let policy = |allow, deny| AutopilotPolicy {
            tool_allowlist: allow,
            tool_denylist: deny,
            ..AutopilotPolicy::default()
        };
        let issue = |policy: &AutopilotPolicy| forbids(policy, Pack::Coding, "get_issue");
        let fetch = |policy: &AutopilotPolicy| forbids(policy, Pack::Lightning, "lightning_l402_fetch");
        for (given, keeps_issue, keeps_fetch) in [
            (policy(None, None), false, false),
            (policy(list(&[]), list(&[])), false, false),
            (policy(list(&[" Coding.V1 "]), None), false, true),
            (policy(list(&["get_pull_request", "l402.v1"]), None), true, false),
            (policy(None, list(&["GET_ISSUE"])), true, false),
            (policy(list(&["*"]), list(&["lightning_l402_fetch"])), false, true),
            (policy(list(&["get_issue"]), list(&["*"])), true, true),
            (policy(list(&["get"]), None), true, true),
        ] {
            assert_eq!((issue(&given), fetch(&given)), (keeps_issue, keeps_fetch), "{given:?}");
        }
    }
}
