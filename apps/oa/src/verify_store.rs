//! Decides whether what is kept is whole: the engine's own check, every seal, every run from its first event to its last, and the ledger, added up again.

use std::sync::atomic::{AtomicU64, Ordering};

use oa_store::{SqliteConfig, Store, StoreConfig};
use serde_json::{Value, json};

use crate::{
    backup,
    config::Settings,
    data_dir::DataDir,
    failure::{Failure, OK, WRONG},
    output::Format,
    up::store_config,
};

/// Rows between two lines of progress.
const STRIDE: u64 = 100_000;

/// What one store is found to be.
pub struct Checked {
    name: &'static str,
    rows: u64,
    runs: u64,
    events: u64,
    ledger_rows: u64,
    findings: Vec<String>,
}

impl Checked {
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty()
    }
}

/// `oa verify-store`: reads everything once. No server may hold the stores meanwhile. A backup is checked where it
/// lies, and nothing in it is changed.
pub async fn verify_store(data: &DataDir, settings: &Settings, format: Format) -> Result<u8, Failure> {
    let all = match data.path().join(backup::MANIFEST).exists() {
        true => backup::restore::verify(data.path(), format).await?,
        false => check_all(data, settings, format).await?,
    };
    let whole = all.iter().all(Checked::is_whole);
    format.show(&sentences(&all), &json!({"whole": whole, "stores": values(&all)}))?;
    Ok(if whole { OK } else { WRONG })
}

async fn check_all(data: &DataDir, settings: &Settings, format: Format) -> Result<Vec<Checked>, Failure> {
    if settings.get("DB_URL").is_none() {
        return check_embedded(data, format).await;
    }
    let mut all = Vec::new();
    for name in ["runtime", "control"] {
        all.push(check(name, store_config(settings, data, name), format).await?);
    }
    Ok(all)
}

/// Every embedded store that lies in a directory.
pub async fn check_embedded(data: &DataDir, format: Format) -> Result<Vec<Checked>, Failure> {
    let mut all = Vec::new();
    for name in ["runtime", "control", "wallet"] {
        let path = data.path().join(format!("{name}.db"));
        // A store that was made once and is gone is refused when it is opened.
        if path.exists() || path.with_extension("db.made").exists() {
            all.push(check(name, SqliteConfig::new(path).into(), format).await?);
        } else if name != "wallet" {
            format.note(&format!("there is no {name} store in {}", data.path().display()));
        }
    }
    Ok(all)
}

pub fn sentences(all: &[Checked]) -> String {
    all.iter().map(sentence).collect::<Vec<_>>().join("\n")
}

pub fn values(all: &[Checked]) -> Vec<Value> {
    all.iter()
        .map(|checked| json!({"store": checked.name, "rows": checked.rows, "runs": checked.runs, "events": checked.events, "ledger_rows": checked.ledger_rows, "findings": checked.findings}))
        .collect()
}

async fn check(name: &'static str, config: StoreConfig, format: Format) -> Result<Checked, Failure> {
    let store = Store::open(config)
        .await
        .map_err(|error| Failure::wrong(format!("the {name} store cannot be opened: {error}")))?;
    let failed = |stop| Failure::wrong(format!("the {name} store cannot be read: {stop}"));
    let verified = store
        .verify(move |progress| {
            if progress.rows > 0 && progress.rows.is_multiple_of(STRIDE) {
                format.note(&format!("{name}: {} rows of {}", progress.rows, progress.part));
            }
        })
        .await
        .map_err(failed)?;
    let told = AtomicU64::new(0);
    let audit = oa_runtime::audit::audit(&store, |audit| {
        if audit.events >= told.load(Ordering::Relaxed) + STRIDE {
            told.store(audit.events, Ordering::Relaxed);
            format.note(&format!("{name}: {} events of {} runs", audit.events, audit.runs));
        }
    })
    .await
    .map_err(failed)?;
    store.close().await;
    let rows = verified.tables.iter().map(|(_, rows)| rows).sum();
    let oa_runtime::audit::Audit { runs, events, ledger_rows, findings } = audit;
    let findings = verified.findings.into_iter().chain(findings).collect();
    Ok(Checked { name, rows, runs, events, ledger_rows, findings })
}

fn sentence(checked: &Checked) -> String {
    let Checked { name, rows, runs, events, ledger_rows, findings } = checked;
    let read = format!(
        "{name}: {rows} sealed rows, {runs} runs with {events} events, {ledger_rows} rows of the ledger"
    );
    match findings.is_empty() {
        true => format!("{read}: everything fits"),
        false => format!(
            "{read}: {} findings; stop the service and restore a backup\n  {}",
            findings.len(),
            findings.join("\n  ")
        ),
    }
}
