//! Decides whether a running pair of services is what the table says: every row answered by its owner, nothing
//! else answered, callers told apart. It asks only what cannot change anything (`probe.rs` says how).

mod callers;
mod documents;
mod plan;
mod probe;
mod proxied;
mod rows;

use std::fmt::Write as _;

use oa_contract::Service;
use secrecy::SecretString;
use serde::Serialize;
use serde_json::json;

use self::probe::{Asker, Heard, Probe};
use crate::{
    cli::{Common, Conformance},
    config::Settings,
    connect::{self, Wish},
    data_dir::DataDir,
    failure::{Failure, NO_ANSWER, OK, WRONG},
    output::{Format, plain},
};

/// What is shown of one group to people; JSON has all of it.
const SHOWN: usize = 5;

/// The two services and what to show them.
pub struct Pair {
    pub control: String,
    pub runtime: String,
    pub personal_token: SecretString,
    pub service_token: Option<SecretString>,
    /// Control has no runtime, or it is down: the proxied rows must say so.
    pub without_runtime: bool,
}

impl Pair {
    /// The pair that the command line names, else the one that the data directory knows.
    pub fn find(
        wanted: &Conformance,
        common: &Common,
        settings: &Settings,
        data: &DataDir,
    ) -> Result<Self, Failure> {
        let announced = data.endpoints()?.and_then(|endpoints| endpoints.control);
        let usual = || settings.address("OA_CONTROL_BIND_ADDR").map(|address| format!("http://{address}"));
        let named = wanted.control_url.clone().or_else(|| wanted.url.clone());
        let control = named.or_else(|| announced.clone()).or_else(usual);
        let control = control.ok_or_else(|| Failure::usage("where is control? Give --control-url"))?;
        let own = announced.as_deref() == Some(control.as_str()) || connect::is_loopback(&control);
        let personal = match &common.token {
            Some(token) => Some(SecretString::from(token.as_str())),
            // The directory's token belongs to this machine's server and is not shown to another.
            None if own => data.personal_token()?,
            None => None,
        };
        let personal_token = personal.ok_or_else(|| {
            Failure::usage(
                "control asks for a personal token that may do everything: give --token, as `oa user add` prints one",
            )
        })?;
        let wish = Wish { runtime_url: common.runtime_url.clone(), token: wanted.service_token.clone() };
        let runtime = connect::find(&wish, settings, data)?;
        if runtime.token.is_none() && !wanted.expect_no_runtime {
            return Err(Failure::usage("the runtime asks for a service token: give --service-token"));
        }
        Ok(Pair {
            control: control.trim_end_matches('/').to_owned(),
            runtime: runtime.url.trim_end_matches('/').to_owned(),
            personal_token,
            service_token: runtime.token,
            without_runtime: wanted.expect_no_runtime,
        })
    }

    /// The services that are asked.
    fn services(&self) -> Vec<Service> {
        match self.without_runtime {
            true => vec![Service::Control],
            false => vec![Service::Control, Service::Runtime],
        }
    }
}

/// One thing that is not as the table says.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Wrong {
    pub service: &'static str,
    pub asked: String,
    pub wanted: String,
    pub got: String,
}

impl Wrong {
    /// What was heard is not what was wanted.
    fn heard(probe: &Probe, wanted: impl Into<String>, heard: &Heard) -> Self {
        Wrong {
            service: name_of(probe.port),
            asked: probe.to_string(),
            wanted: wanted.into(),
            got: heard.to_string(),
        }
    }
}

/// Everything that was looked at under one heading.
#[derive(Debug, Serialize)]
pub struct Group {
    pub group: &'static str,
    pub conforms: bool,
    /// How many requests it took.
    pub requests: usize,
    /// What was looked at, as it should be.
    pub claim: String,
    pub wrong: Vec<Wrong>,
}

impl Group {
    fn new(group: &'static str, requests: usize, claim: impl Into<String>, wrong: Vec<Wrong>) -> Self {
        Group { group, conforms: wrong.is_empty(), requests, claim: claim.into(), wrong }
    }
}

/// How a service is called in sentences.
pub fn name_of(service: Service) -> &'static str {
    match service {
        Service::Control => "control",
        Service::Runtime => "runtime",
    }
}

/// Asks everything and prints what was found; gives the exit code.
pub async fn check(pair: &Pair, format: Format) -> Result<u8, Failure> {
    let asker = Asker::new(pair)?;
    for service in pair.services() {
        reachable(&asker, service).await?;
    }
    let groups = groups(&asker, pair).await;
    let conforms = groups.iter().all(|group| group.conforms);
    format.show(
        &text(&groups, conforms),
        &json!({
            "conforms": conforms,
            "control": pair.control,
            "runtime": (!pair.without_runtime).then_some(&pair.runtime),
            "version": env!("CARGO_PKG_VERSION"),
            "groups": groups,
        }),
    )?;
    Ok(if conforms { OK } else { WRONG })
}

async fn reachable(asker: &Asker, service: Service) -> Result<(), Failure> {
    let probe = Probe::get(service, "/healthz");
    match asker.ask(&probe).await {
        Heard::Answer(_) => Ok(()),
        Heard::Nothing(why) => Err(Failure::new(
            NO_ANSWER,
            format!("no answer from {} at {} ({why})", name_of(service), asker.base(service)),
        )),
    }
}

async fn groups(asker: &Asker, pair: &Pair) -> Vec<Group> {
    let mut groups = vec![documents::ownership(asker).await];
    for service in pair.services() {
        groups.push(rows::answered(asker, service).await);
    }
    for service in pair.services() {
        groups.push(rows::elsewhere(asker, service).await);
    }
    for service in pair.services() {
        groups.push(rows::methods(asker, service).await);
    }
    for service in pair.services() {
        groups.push(rows::nothing_extra(asker, service).await);
    }
    for service in pair.services() {
        groups.push(callers::refused(asker, service).await);
    }
    for service in pair.services() {
        groups.push(documents::openapi(asker, service).await);
    }
    groups.push(match pair.without_runtime {
        true => proxied::without_runtime(asker).await,
        false => proxied::with_runtime(asker).await,
    });
    groups
}

fn text(groups: &[Group], conforms: bool) -> String {
    let mut out = String::new();
    for group in groups {
        let (mark, how) = match group.conforms {
            true => ("ok   ", String::new()),
            false => ("WRONG", format!("{} times not so: ", group.wrong.len())),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{mark}  {:<20}  {how}{}", group.group, plain(&group.claim));
        for wrong in group.wrong.iter().take(SHOWN) {
            let Wrong { service, asked, wanted, got } = wrong;
            let _ = writeln!(out, "         {service}: {} wants {wanted}, got {}", plain(asked), plain(got));
        }
        if let more @ 1.. = group.wrong.len().saturating_sub(SHOWN) {
            let _ = writeln!(out, "         and {more} more; `--output json` names them");
        }
    }
    out.push_str(match conforms {
        true => "Both sides of the table hold.",
        false => "The table does not hold: see above.",
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_see_the_first_of_many_and_how_many_more() {
        let wrong = |n: usize| Wrong {
            service: "control",
            asked: format!("GET /{n}\u{1b}[2J"),
            wanted: "404".into(),
            got: "200".into(),
        };
        let group = Group::new("methods", 7, "7 asked", (0..7).map(wrong).collect());
        let text = text(&[group], false);
        assert!(text.contains("WRONG  methods") && text.contains("and 2 more"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
        assert_eq!(text.lines().count(), 8);
    }
}
