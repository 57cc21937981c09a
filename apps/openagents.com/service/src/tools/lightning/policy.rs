//! Decides which limits hold: the strictest of the caller's, the organisation's and the service's. A caller only
//! tightens; leniently, the caller's word stands as long as the operator has set nothing (control §11.5, §21.1).

use oa_contract::Refusal;
use serde_json::{Value, json};

use crate::tools::{
    Later,
    call::Call,
    config::{MOST_MSATS, ServiceLimits, TrustMode},
    fields::{self, Members},
};

/// Where nothing else limits a call (the specification's own number).
const CALL_MSATS: u64 = 100_000;

/// What an organisation says about its members' payments.
#[derive(Clone, Debug, Default)]
pub struct OrganisationLimits {
    pub require_approval: bool,
    pub max_per_call_msats: Option<u64>,
    pub max_per_day_msats: Option<u64>,
    pub allowed_hosts: Vec<String>,
}

/// Whoever knows what organisations say.
pub(crate) trait OrganisationPolicy: Send + Sync {
    fn limits(&self, principal: u64) -> Later<'_, OrganisationLimits>;
}

/// Nobody has said anything yet.
pub struct NoOrganisations;

impl OrganisationPolicy for NoOrganisations {
    fn limits(&self, _: u64) -> Later<'_, OrganisationLimits> {
        Box::pin(async { OrganisationLimits::default() })
    }
}

/// What the caller says about their own payments.
#[derive(Clone, Debug, Default)]
pub struct CallerLimits {
    policy_approval: Option<bool>,
    request_approval: Option<bool>,
    request_max_msats: Option<u64>,
    policy_max_msats: Option<u64>,
    max_per_day_msats: Option<u64>,
    allowed_hosts: Vec<String>,
}

impl CallerLimits {
    pub fn read(call: &Call) -> Result<Self, Refusal> {
        let request = Members::of(&call.request, "request.");
        let mut limits = CallerLimits {
            request_approval: request.switch("require_approval")?,
            request_max_msats: request.number("max_spend_msats")?.map(held),
            ..CallerLimits::default()
        };
        let Some(policy) = call.policy.as_object() else { return Ok(limits) };
        let policy = Members::of(policy, "policy.");
        limits.policy_approval = policy.switch("l402_require_approval")?;
        limits.policy_max_msats = policy.number("l402_max_spend_msats_per_call")?.map(held);
        limits.max_per_day_msats = policy.number("l402_max_spend_msats_per_day")?.map(held);
        limits.allowed_hosts = hosts(&policy)?;
        Ok(limits)
    }
}

/// A limit beyond all money is none that could be exceeded.
fn held(msats: u64) -> u64 {
    msats.min(MOST_MSATS)
}

fn hosts(policy: &Members<'_>) -> Result<Vec<String>, Refusal> {
    let name = "l402_allowed_hosts";
    let Some(value) = policy.get(name) else { return Ok(Vec::new()) };
    let list = value.as_array().filter(|list| list.len() <= 200);
    let list = list.ok_or_else(|| policy.refuse(name, "must be an array of at most 200 hosts"))?;
    let mut hosts = Vec::new();
    for host in list {
        let host = fields::text(Some(host), 255).map_err(|why| policy.refuse(name, why))?;
        hosts.extend(host.map(|host| host.to_lowercase()));
    }
    Ok(hosts)
}

/// The limits that hold for one call.
#[derive(Clone, Debug)]
pub struct Limits {
    pub require_approval: bool,
    /// Without one the quoted price decides, or the specification's number.
    max_per_call_msats: Option<u64>,
    shown_per_call_msats: Option<u64>,
    /// Counted for the autopilot that the caller names.
    pub caller_day_msats: Option<u64>,
    /// Counted for everything that the caller pays.
    pub house_day_msats: Option<u64>,
    hosts: Hosts,
}

/// Which hosts may be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    Any,
    These(Vec<String>),
}

impl Limits {
    pub fn of(
        caller: &CallerLimits,
        organisation: &OrganisationLimits,
        service: &ServiceLimits,
        trust: TrustMode,
    ) -> Self {
        let house_approval = service.require_approval || organisation.require_approval;
        let house_call = least([service.max_per_call_msats, organisation.max_per_call_msats]);
        let said = match trust {
            TrustMode::Strict => {
                caller.policy_approval.unwrap_or(true) || caller.request_approval == Some(true)
            }
            TrustMode::Lenient => caller.request_approval.or(caller.policy_approval).unwrap_or(true),
        };
        let asked = match trust {
            TrustMode::Strict => least([caller.request_max_msats, caller.policy_max_msats]),
            TrustMode::Lenient => caller.request_max_msats.or(caller.policy_max_msats),
        };
        let max_per_call_msats = least([asked, house_call]);
        let shown = match trust {
            TrustMode::Strict => max_per_call_msats,
            TrustMode::Lenient => least([caller.policy_max_msats, house_call]),
        };
        let hosts = [&service.allowed_hosts, &organisation.allowed_hosts, &caller.allowed_hosts];
        Limits {
            require_approval: house_approval || said,
            max_per_call_msats,
            shown_per_call_msats: shown,
            caller_day_msats: caller.max_per_day_msats,
            house_day_msats: least([service.max_per_day_msats, organisation.max_per_day_msats]),
            hosts: hosts.into_iter().fold(Hosts::Any, |known, more| known.and(more)),
        }
    }

    /// What a call may cost at most, when this is asked for it.
    pub fn cap(&self, quoted_msats: Option<u64>) -> u64 {
        self.max_per_call_msats.or(quoted_msats).unwrap_or(CALL_MSATS)
    }

    pub fn allows(&self, host: &str) -> bool {
        match &self.hosts {
            Hosts::Any => true,
            Hosts::These(hosts) => hosts.iter().any(|entry| under(host, entry)),
        }
    }

    pub fn allowed_hosts(&self) -> Vec<String> {
        match &self.hosts {
            Hosts::Any => Vec::new(),
            Hosts::These(hosts) => hosts.clone(),
        }
    }

    pub fn view(&self) -> Value {
        json!({
            "requireApproval": self.require_approval,
            "maxSpendMsatsPerCall": self.shown_per_call_msats,
            "maxSpendMsatsPerDay": least([self.caller_day_msats, self.house_day_msats]),
            "allowedHosts": self.allowed_hosts(),
        })
    }
}

fn least<const N: usize>(limits: [Option<u64>; N]) -> Option<u64> {
    limits.into_iter().flatten().min()
}

/// A host matches an entry that it equals or lies under.
fn under(host: &str, entry: &str) -> bool {
    host == entry || host.strip_suffix(entry).is_some_and(|head| head.ends_with('.'))
}

impl Hosts {
    /// What both lists allow; an empty list says nothing.
    fn and(self, more: &[String]) -> Self {
        match self {
            known if more.is_empty() => known,
            Hosts::Any => Hosts::These(more.to_vec()),
            Hosts::These(known) => {
                let narrower = |one: &String, others: &[String]| others.iter().any(|other| under(one, other));
                let mut both: Vec<_> = known.iter().filter(|one| narrower(one, more)).cloned().collect();
                both.extend(more.iter().filter(|one| narrower(one, &known) && !known.contains(one)).cloned());
                Hosts::These(both)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(approval: bool, call: Option<u64>, day: Option<u64>, hosts: &[&str]) -> ServiceLimits {
        ServiceLimits {
            require_approval: approval,
            max_per_call_msats: call,
            max_per_day_msats: day,
            allowed_hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        }
    }

    fn caller() -> CallerLimits {
        CallerLimits {
            policy_approval: Some(false),
            policy_max_msats: Some(5_000),
            ..CallerLimits::default()
        }
    }

    fn limits(caller: &CallerLimits, service: &ServiceLimits, trust: TrustMode) -> Limits {
        Limits::of(caller, &OrganisationLimits::default(), service, trust)
    }

    #[test]
    fn a_caller_tightens_and_never_loosens() {
        let house = service(false, Some(1_000), Some(9_000), &[]);
        let greedy =
            CallerLimits { max_per_day_msats: Some(u64::MAX), request_max_msats: Some(2_000), ..caller() };
        let held = limits(&greedy, &house, TrustMode::Strict);
        assert_eq!((held.cap(Some(7)), held.require_approval), (1_000, false));
        assert_eq!(held.view()["maxSpendMsatsPerDay"], 9_000);
        let modest = CallerLimits { request_max_msats: Some(10), ..caller() };
        assert_eq!(limits(&modest, &house, TrustMode::Strict).cap(None), 10);
        assert!(limits(&caller(), &service(true, None, None, &[]), TrustMode::Strict).require_approval);
        assert!(limits(&CallerLimits::default(), &house, TrustMode::Strict).require_approval);
        let waved = CallerLimits { policy_approval: None, request_approval: Some(false), ..caller() };
        assert!(limits(&waved, &house, TrustMode::Strict).require_approval);
        assert!(!limits(&waved, &house, TrustMode::Lenient).require_approval);
    }

    #[test]
    fn an_organisation_tightens_too() {
        let org = OrganisationLimits {
            require_approval: true,
            max_per_call_msats: Some(3),
            allowed_hosts: vec!["a.test".into()],
            ..OrganisationLimits::default()
        };
        let held = Limits::of(&caller(), &org, &service(false, Some(9), None, &[]), TrustMode::Strict);
        assert!(held.require_approval && held.cap(None) == 3 && !held.allows("b.test"));
    }

    #[test]
    fn leniently_the_caller_the_price_and_the_specified_number_decide_in_this_order() {
        let open = service(false, None, None, &[]);
        let held = limits(&caller(), &open, TrustMode::Lenient);
        assert_eq!(
            (held.cap(Some(9_999)), held.view()["maxSpendMsatsPerCall"].as_u64()),
            (5_000, Some(5_000))
        );
        let none = limits(&CallerLimits::default(), &open, TrustMode::Lenient);
        assert_eq!((none.cap(Some(7)), none.cap(None)), (7, CALL_MSATS));
        assert_eq!(
            none.view(),
            json!({"requireApproval": true, "maxSpendMsatsPerCall": null, "maxSpendMsatsPerDay": null, "allowedHosts": []})
        );
    }

    #[test]
    fn hosts_are_those_that_every_list_allows() {
        let with = |ours: &[&str], theirs: &[&str]| {
            let theirs = theirs.iter().map(|host| (*host).to_owned()).collect();
            limits(
                &CallerLimits { allowed_hosts: theirs, ..caller() },
                &service(false, None, None, ours),
                TrustMode::Strict,
            )
        };
        let held = with(&["example.com", "x.test"], &["api.example.com", "other.test"]);
        assert_eq!(held.allowed_hosts(), ["api.example.com"]);
        assert!(held.allows("api.example.com") && held.allows("v1.api.example.com"));
        for host in ["example.com", "x.test", "other.test", "evilapi.example.com.test", "xapi.example.com"] {
            assert!(!held.allows(host), "{host}");
        }
        assert!(!with(&["a.test"], &["b.test"]).allows("a.test"));
        assert!(with(&[], &[]).allows("anything.test"));
    }
}
