//! Decides what `oa migrate` does: brings the schema of each store to what this version knows, as a server's start does
//! too, and says from which version to which.

use oa_store::{Plan, Store, StoreConfig, plan};
use serde_json::{Value, json};

use crate::{
    backup::{MANIFEST, STORES},
    config::Settings,
    data_dir::DataDir,
    failure::{Failure, OK},
    output::Format,
    up::store_config,
};

/// `oa migrate`: takes the steps that are to be taken, or lists them. No server may hold an embedded store while they
/// are taken.
pub async fn migrate(
    data: &DataDir,
    settings: &Settings,
    dry_run: bool,
    format: Format,
) -> Result<u8, Failure> {
    if data.path().join(MANIFEST).exists() {
        return Err(Failure::usage(format!(
            "{} is a backup, which stays as it is: `oa restore` makes a data directory of it",
            data.path().display()
        )));
    }
    let mut told = Vec::new();
    for name in STORES {
        let config = match name {
            // The wallet's memory is a file of its own process, wherever the services keep theirs.
            "wallet" => oa_store::SqliteConfig::new(data.path().join("wallet.db")).into(),
            _ => store_config(settings, data, name),
        };
        let failed =
            |error| Failure::wrong(format!("the schema of the {name} store cannot be changed: {error}"));
        let plan = plan(&config).await.map_err(failed)?;
        // A file is made by the server that needs it.
        if !plan.exists && matches!(config, StoreConfig::Sqlite(_)) {
            continue;
        }
        if !dry_run && !plan.steps.is_empty() {
            Store::open(config).await.map_err(failed)?.close().await;
        }
        told.push((name, plan));
    }
    if told.is_empty() {
        format.note(&format!("there is no store in {} yet; a server makes it", data.path().display()));
    }
    let text = told.iter().map(|(name, plan)| sentence(name, plan, dry_run)).collect::<Vec<_>>().join("\n");
    let stores: Vec<Value> = told.iter().map(|(name, plan)| value(name, plan)).collect();
    format.show(&text, &json!({"dry_run": dry_run, "stores": stores}))?;
    Ok(OK)
}

fn sentence(name: &str, plan: &Plan, dry_run: bool) -> String {
    if plan.steps.is_empty() {
        return format!("{name}: at schema {}, nothing to do", plan.from);
    }
    let steps = plan.steps.iter().map(|(version, step)| format!("{version:04}_{step}")).collect::<Vec<_>>();
    let did = if dry_run { "would be taken" } else { "taken" };
    format!("{name}: from schema {} to {}, {did}: {}", plan.from, plan.to(), steps.join(", "))
}

fn value(name: &str, plan: &Plan) -> Value {
    let steps: Vec<Value> =
        plan.steps.iter().map(|(version, step)| json!({"version": version, "name": step})).collect();
    json!({"store": name, "from": plan.from, "to": plan.to(), "steps": steps})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_says_from_which_version_to_which() {
        let plan = Plan { exists: true, from: 14, steps: vec![(15, "credit"), (16, "fx")] };
        assert_eq!(
            sentence("runtime", &plan, true),
            "runtime: from schema 14 to 16, would be taken: 0015_credit, 0016_fx"
        );
        let done = Plan { exists: true, from: 16, steps: Vec::new() };
        assert_eq!(sentence("control", &done, false), "control: at schema 16, nothing to do");
    }
}
