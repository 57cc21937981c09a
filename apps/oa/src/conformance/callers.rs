//! Decides whether callers are told apart: rows for anyone ask for no credential, all others answer 401 to whoever
//! shows none, or one that nobody made.

use oa_contract::{Class, Code, Row, Service, matrix};

use super::{
    Group, Heard, Wrong, plan,
    probe::{Asker, Probe, Show},
};

pub async fn refused(asker: &Asker, service: Service) -> Group {
    let mut probes: Vec<(&Row, Probe)> = Vec::new();
    for row in matrix::rows_of(service) {
        let probe = plan::bare_question(row, asker.nothing());
        let shown: &[Show] = match (row.class, service) {
            (Class::Anyone, _) => &[Show::Nothing],
            (_, Service::Control) => &[Show::Nothing, Show::Unknown],
            (_, Service::Runtime) => &[Show::Nothing, Show::Unknown, Show::Forged],
        };
        probes.extend(shown.iter().map(|show| (row, probe.clone().showing(*show))));
    }
    let asked: Vec<Probe> = probes.iter().map(|(_, probe)| probe.clone()).collect();
    let heard = asker.all(&asked).await;
    let mut wrong = Vec::new();
    for ((row, probe), heard) in probes.iter().zip(&heard) {
        match row.class {
            Class::Anyone if !is_let_in(row, heard) => {
                wrong.push(Wrong::heard(probe, "an answer for anyone", heard));
            }
            Class::Anyone => {}
            _ if !is_unauthorized(heard) => wrong.push(Wrong::heard(probe, "401 unauthorized", heard)),
            _ => {}
        }
    }
    let open = probes.iter().filter(|(row, _)| row.class == Class::Anyone).count();
    let name = match service {
        Service::Control => "callers of control",
        Service::Runtime => "callers of runtime",
    };
    let claim =
        format!("{open} rows are open to anyone, {} strangers are refused with 401", probes.len() - open);
    Group::new(name, probes.len(), claim, wrong)
}

/// A row for anyone may still ask for a secret of its own.
fn is_let_in(row: &Row, heard: &Heard) -> bool {
    match heard.status() {
        None | Some(403 | 405) => false,
        Some(401) => row.refusals.contains(&Code::Unauthorized),
        Some(_) => true,
    }
}

fn is_unauthorized(heard: &Heard) -> bool {
    heard.status() == Some(401) && heard.code().as_deref() == Some(Code::Unauthorized.name())
}
