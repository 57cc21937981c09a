//! Decides where in an owner's budgets a piece of work lies: where its run was begun, where its dispatch was made, or
//! else where whoever asks says. None of them may be contradicted.

use oa_contract::{Refusal, Stop};
use oa_ledger::budget::Place;
use oa_store::{Tx, tables::runs};
use serde_json::Value;
use uuid::Uuid;

/// The member of a run's metadata that names its organisation, repo and issue.
const MEMBER: &str = "budget";

/// What a request names, well formed.
pub fn said(
    organisation: Option<String>,
    repo: Option<String>,
    issue: Option<String>,
) -> Result<Place, Refusal> {
    Ok(Place { organisation, repo, issue, run: None }.checked()?)
}

/// The place of work in this run. The caller has seen that the run is the owner's.
pub async fn around(tx: &mut Tx, run_id: Option<Uuid>, said: &Place) -> Result<Place, Stop> {
    let run = match run_id {
        Some(run_id) => runs::get(tx, run_id).await?,
        None => None,
    };
    let of_run = match run {
        Some(run) => begun(run.metadata.get())?,
        None => Place::default(),
    };
    Ok(Place { run: run_id, ..agreed(&of_run, said, "the run")? })
}

/// What is known stands, and what is said must not differ from it.
pub fn agreed(known: &Place, said: &Place, whose: &str) -> Result<Place, Refusal> {
    let names = |place: &Place| [place.organisation.clone(), place.repo.clone(), place.issue.clone()];
    if names(known) == [None, None, None] {
        return Ok(Place { run: known.run.or(said.run), ..said.clone() });
    }
    let levels = ["organisation", "repo", "issue"].into_iter().zip(names(known)).zip(names(said));
    for ((level, known), said) in levels {
        if said.is_some() && said != known {
            return Err(Refusal::invalid(format!("{level} is not that of {whose}")));
        }
    }
    Ok(known.clone())
}

fn begun(metadata: &str) -> Result<Place, Refusal> {
    // What does not even name it is not read any further.
    if !metadata.contains(MEMBER) {
        return Ok(Place::default());
    }
    let metadata: Value = serde_json::from_str(metadata).unwrap_or_default();
    let named = |level: &str| metadata.get(MEMBER)?.get(level)?.as_str().map(str::to_owned);
    said(named("organisation"), named("repo"), named("issue")).map_err(|refusal| Refusal {
        message: format!("the run's metadata.{MEMBER}: {}", refusal.message),
        ..refusal
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(names: [Option<&str>; 3]) -> Place {
        let [organisation, repo, issue] = names.map(|name| name.map(str::to_owned));
        Place { organisation, repo, issue, run: None }
    }

    #[test]
    fn a_run_says_where_it_lies_or_says_nothing() {
        for silent in ["{}", "[1]", r#"{"budget":7}"#, r#"{"repo":"x","note":"budget"}"#] {
            assert_eq!(begun(silent), Ok(Place::default()), "{silent}");
        }
        let named = begun(r#"{"budget":{"organisation":" acme ","repo":"site","issue":"12"}}"#);
        assert_eq!(named, Ok(place([Some("acme"), Some("site"), Some("12")])));
        let gap = begun(r#"{"budget":{"repo":"site"}}"#).expect_err("refused");
        assert_eq!(gap.message, "the run's metadata.budget: repo needs organisation");
    }

    #[test]
    fn what_is_known_is_not_contradicted() {
        let known = place([Some("acme"), Some("site"), None]);
        for said in [place([None; 3]), place([Some("acme"), None, None]), known.clone()] {
            assert_eq!(agreed(&known, &said, "the run"), Ok(known.clone()));
        }
        for said in [place([Some("other"), None, None]), place([Some("acme"), Some("site"), Some("1")])] {
            let refusal = agreed(&known, &said, "the run").expect_err("refused");
            assert!(refusal.message.ends_with("is not that of the run"), "{}", refusal.message);
        }
        let run = Some(Uuid::from_u128(7));
        let nameless = Place { run, ..Place::default() };
        assert_eq!(agreed(&nameless, &known, "the dispatch"), Ok(Place { run, ..known }));
    }
}
