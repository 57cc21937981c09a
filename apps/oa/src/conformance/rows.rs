//! Decides whether the rows stand where the table puts them: answered on their own port and nowhere else, under
//! their own methods and no others, and nothing beside them.

use oa_contract::{
    Code, Row, Service,
    matrix::{self, AUTHORITY, CONTROL},
    openapi,
};

use super::{
    Group, Wrong, name_of,
    plan::{self, some_path},
    probe::{Asker, Heard, Probe, Show},
};

/// Every row of a port is answered there: the built ones in one of their documented ways, the planned ones with 501.
pub async fn answered(asker: &Asker, service: Service) -> Group {
    let rows: Vec<&Row> = matrix::rows_of(service).collect();
    let probes: Vec<Probe> = rows
        .iter()
        .map(|row| {
            plan::question(row, asker.nothing())
                .unwrap_or_else(|| plan::bare_question(row, asker.nothing()).showing(Show::Nothing))
        })
        .collect();
    let heard = asker.all(&probes).await;
    let mut wrong = Vec::new();
    for ((row, probe), heard) in rows.iter().zip(&probes).zip(&heard) {
        if let Err(wanted) = judge(row, probe, heard) {
            wrong.push(Wrong::heard(probe, wanted, heard));
        }
    }
    let (name, of_table, prefix) = match service {
        Service::Control => ("control's rows", CONTROL, "/api/runtime"),
        Service::Runtime => ("the runtime's rows", AUTHORITY, "/internal/v1"),
    };
    let planned = |rows: &mut dyn Iterator<Item = &&Row>| rows.filter(|row| !row.built).count();
    let claim = format!(
        "{} of {prefix} at {}, {} of them planned (501); {} beside them, {} planned",
        of_table.len(),
        asker.base(service),
        planned(&mut of_table.iter()),
        rows.len() - of_table.len(),
        planned(&mut rows.iter()) - planned(&mut of_table.iter()),
    );
    Group::new(name, probes.len(), claim, wrong)
}

/// Whether a row answered as it may, or what it should have answered.
fn judge(row: &Row, probe: &Probe, heard: &Heard) -> Result<(), String> {
    let Some(answer) = heard.answer() else { return Err("an answer".to_owned()) };
    let wants = |met: bool, wanted: &str| if met { Ok(()) } else { Err(wanted.to_owned()) };
    if probe.show == Show::Nothing {
        return wants(answer.status == 401, "401");
    }
    if !row.built {
        let told = answer.status == 501 && answer.code().as_deref() == Some(Code::NotBuilt.name());
        return wants(told, "501 not_built");
    }
    if answer.is_unserved() {
        return Err("an answer of this row".to_owned());
    }
    if probe.is_broken() && row.shape.has_body {
        return wants(matches!(answer.status, 400 | 422 | 429), "400, because the body is no JSON");
    }
    let documented = openapi::refusals(row, row.served_by());
    let documented = || documented.iter().map(|(status, _)| *status);
    // The token opens every row, unless the row itself says that it may refuse whoever comes.
    let opened = match answer.status {
        401 => row.refusals.contains(&Code::Unauthorized),
        403 => row.refusals.contains(&Code::Forbidden),
        _ => true,
    };
    let fits = row.success.contains(&answer.status) || documented().any(|status| status == answer.status);
    // Readiness and a runtime that is away are 503, and the table says so of them.
    let broke = answer.status >= 500
        && !row.success.contains(&answer.status)
        && !row.refusals.contains(&Code::ServiceUnavailable);
    match fits && opened && !broke {
        true => Ok(()),
        false => {
            let mut wanted: Vec<u16> =
                row.success.iter().copied().chain(documented().filter(|status| *status < 500)).collect();
            wanted.retain(|status| !matches!(status, 401 | 403));
            wanted.sort_unstable();
            wanted.dedup();
            let wanted: Vec<String> = wanted.iter().map(u16::to_string).collect();
            Err(format!("one of {}", wanted.join(", ")))
        }
    }
}

/// The rows of the other port's prefix are not answered here.
pub async fn elsewhere(asker: &Asker, service: Service) -> Group {
    let (name, others) = match service {
        Service::Control => ("only on the runtime", AUTHORITY),
        Service::Runtime => ("only on control", CONTROL),
    };
    let probes: Vec<Probe> = others
        .iter()
        .map(|row| Probe::of(service, row.method.name(), some_path(row, asker.nothing())))
        .collect();
    let wrong = unless(asker, &probes, 404).await;
    let claim = format!("{} rows are 404 on {}'s port", probes.len(), name_of(service));
    Group::new(name, probes.len(), claim, wrong)
}

/// Nothing stands beside the rows.
pub async fn nothing_extra(asker: &Asker, service: Service) -> Group {
    let probes = plan::near_misses(service, asker.nothing());
    let wrong = unless(asker, &probes, 404).await;
    let name = match service {
        Service::Control => "no more on control",
        Service::Runtime => "no more on runtime",
    };
    Group::new(name, probes.len(), format!("{} near misses are 404", probes.len()), wrong)
}

async fn unless(asker: &Asker, probes: &[Probe], status: u16) -> Vec<Wrong> {
    let heard = asker.all(probes).await;
    let missed = probes.iter().zip(&heard).filter(|(_, heard)| heard.status() != Some(status));
    missed.map(|(probe, heard)| Wrong::heard(probe, status.to_string(), heard)).collect()
}

/// A method that no row has at a path is 405 and told the right ones; on control's protected paths only to those
/// who may know.
pub async fn methods(asker: &Asker, service: Service) -> Group {
    let known = plan::wrong_methods(service, asker.nothing());
    let strangers: Vec<Probe> = match service {
        Service::Control => known.iter().map(|probe| probe.clone().showing(Show::Nothing)).collect(),
        Service::Runtime => Vec::new(),
    };
    let probes: Vec<Probe> = known.into_iter().chain(strangers).collect();
    let heard = asker.all(&probes).await;
    let mut wrong = Vec::new();
    for (probe, heard) in probes.iter().zip(&heard) {
        let protected = plan::rows_at(service, &probe.path).next().is_some_and(is_protected);
        if probe.show == Show::Nothing && protected {
            if heard.status() != Some(401) {
                wrong.push(Wrong::heard(probe, "401", heard));
            }
            continue;
        }
        let allow = plan::allowed(service, &probe.path);
        let told = heard.answer().is_some_and(|answer| answer.status == 405 && answer.allow == allow);
        if !told {
            wrong.push(Wrong::heard(probe, format!("405 with allow {}", allow.join(",")), heard));
        }
    }
    let name = match service {
        Service::Control => "methods on control",
        Service::Runtime => "methods on runtime",
    };
    Group::new(
        name,
        probes.len(),
        format!("{} wrong ones are refused and told the right ones", probes.len()),
        wrong,
    )
}

fn is_protected(row: &Row) -> bool {
    row.class != oa_contract::Class::Anyone
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::probe::Answer;

    fn heard(status: u16, body: &str) -> Heard {
        Heard::Answer(Answer { status, allow: Vec::new(), body: body.into() })
    }

    fn row(name: &str) -> &'static Row {
        matrix::rows().find(|row| row.name == name).expect("a row")
    }

    fn verdict(name: &str, status: u16, body: &str) -> bool {
        let row = row(name);
        let probe = plan::question(row, "x").expect("a question");
        judge(row, &probe, &heard(status, body)).is_ok()
    }

    #[test]
    fn a_body_that_is_no_json_is_refused_by_whoever_takes_one() {
        assert!(verdict("runs.start", 400, "") && verdict("api.workers.register", 422, ""));
        for status in [200, 201, 401, 403, 404, 405, 500, 501, 503] {
            assert!(!verdict("runs.start", status, ""), "{status}");
        }
    }

    #[test]
    fn a_question_is_answered_in_a_documented_way() {
        assert!(verdict("workers.checkpoint", 404, r#"{"error":"not_found"}"#));
        assert!(!verdict("workers.checkpoint", 404, r#"{"detail":"nothing is served at /x"}"#));
        assert!(verdict("control.ready", 503, "") && !verdict("fraud.incidents", 503, ""));
        assert!(!verdict("fraud.incidents", 403, "") && !verdict("fraud.incidents", 418, ""));
    }

    #[test]
    fn a_planned_row_says_so_in_its_own_words() {
        let Some(planned) = matrix::rows().find(|row| !row.built) else { return };
        assert!(verdict(planned.name, 501, r#"{"error":{"code":"not_built"}}"#));
        assert!(!verdict(planned.name, 501, "") && !verdict(planned.name, 200, "{}"));
    }
}
