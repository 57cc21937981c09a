//! Decides what is derived from the table and where it lies, so that a change of the contract is visible in
//! review as a changed line.

use std::{fmt::Write as _, fs};

use anyhow::{Context, bail};
use oa_contract::{
    Class, Code, Lane, Row, Service,
    matrix::{AUTHORITY, CONTROL, CONTROL_ASIDES, RUNTIME_ASIDES},
    openapi, sunset,
};

/// Writes what differs, or says what does.
pub fn run(check: bool) -> anyhow::Result<()> {
    let mut stale = Vec::new();
    for (path, text) in derived()? {
        let file = crate::root().join(path);
        if fs::read_to_string(&file).is_ok_and(|present| present == text) {
            continue;
        }
        stale.push(path);
        if !check {
            if let Some(folder) = file.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(&file, text).with_context(|| format!("writing {path}"))?;
        }
    }
    match (check, stale.is_empty()) {
        (_, true) => println!("everything derived is as the table says"),
        (false, false) => println!("written: {}", stale.join(", ")),
        (true, false) => {
            bail!("not as the table says: {}; run `cargo xtask sync` and commit the result", stale.join(", "))
        }
    }
    Ok(())
}

fn derived() -> anyhow::Result<Vec<(&'static str, String)>> {
    let document =
        |service| serde_json::to_string_pretty(&openapi::document(service)).map(|text| text + "\n");
    Ok(vec![
        ("docs/routes.md", routes()),
        ("docs/refusals.md", refusals()),
        (sunset::MIGRATION_DOC, sunset::migration_document()),
        ("openapi/control.json", document(Service::Control)?),
        ("openapi/runtime.json", document(Service::Runtime)?),
    ])
}

const DERIVED: &str = "<!-- Derived from crates/contract/src/matrix.rs by `cargo xtask sync`. Change the table, not this file. -->\n\n";

fn routes() -> String {
    let mut out = format!("{DERIVED}# Routes\n");
    ownership(&mut out, "`/api/runtime/*` Ownership Matrix", CONTROL);
    ownership(&mut out, "`/internal/v1/*` Ownership Matrix", AUTHORITY);
    asides(&mut out, "What the runtime serves beside them", RUNTIME_ASIDES);
    asides(&mut out, "What control serves beside them", CONTROL_ASIDES);
    names(&mut out);
    out
}

/// The columns and words of the route-ownership document.
fn ownership(out: &mut String, title: &str, rows: &[&Row]) {
    let _ = writeln!(
        out,
        "\n## {title}\n\n| Method | Path | Owner | Delivery | Migration Status |\n|---|---|---|---|---|"
    );
    for row in rows {
        let lane = row.lane;
        let _ = writeln!(
            out,
            "| {} | `{}` | `{}` | `{}` | `{}` |",
            row.method.name(),
            row.path,
            lane.owner().label(),
            lane.delivery(),
            lane.migration_status()
        );
    }
}

fn asides(out: &mut String, title: &str, rows: &[&Row]) {
    let _ =
        writeln!(out, "\n## {title}\n\n| Method | Path | Name | Who may call | Why |\n|---|---|---|---|---|");
    for row in rows {
        let _ = writeln!(
            out,
            "| {} | `{}` | `{}` | {} | {} |",
            row.method.name(),
            row.path,
            row.name,
            caller(row.class),
            row.rationale.trim()
        );
    }
}

/// The one name of each owned row, whether it is built, and why it is there.
fn names(out: &mut String) {
    let rows = || CONTROL.iter().chain(AUTHORITY);
    let built = rows().filter(|row| row.built).count();
    let total = rows().count();
    let others = if built < total { "; the others answer `501 not_built`" } else { "" };
    let _ = writeln!(out, "\n## Names and state\n\n{built} of {total} owned rows are built{others}.\n");
    let _ = writeln!(out, "| Name | Row | State | Who may call | Why |\n|---|---|---|---|---|");
    for row in rows() {
        let state = match (row.built, row.lane) {
            (false, _) => "planned",
            (true, Lane::Proxied) => "built (derived proxy)",
            (true, _) => "built",
        };
        let _ = writeln!(
            out,
            "| `{}` | {} `{}` | {state} | {} | {} |",
            row.name,
            row.method.name(),
            row.path,
            caller(row.class),
            row.rationale.trim()
        );
    }
}

fn caller(class: Class) -> String {
    match class {
        Class::Anyone => "anyone".into(),
        Class::Service => "a service credential".into(),
        Class::Operator => "an operator (a service credential bound to no owner)".into(),
        Class::User("*") => "a session or personal token".into(),
        Class::User(ability) => format!("a session, or a personal token with `{ability}`"),
    }
}

fn refusals() -> String {
    let mut out = format!("{}# Refusals\n\n", DERIVED.replace("matrix.rs", "refusal.rs"));
    out.push_str("Every code that either service may put into `error`. The runtime answers flat (`{\"error\": code, \"message\": …}`), control in its envelope (`{\"error\": {\"code\", \"message\"}, \"message\", \"errors\"?}`); both are `application/problem+json` with the members of RFC 9457 beside. The status is the usual one; a malformed body carries a closer one (400, 413, 415, 422) under the same code.\n\n");
    out.push_str("| Code | Runtime | Control | Meaning | Ask again? |\n|---|---|---|---|---|\n");
    for code in Code::ALL {
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {} | {} |",
            code.name(),
            code.status(Service::Runtime),
            code.status(Service::Control),
            code.meaning().trim(),
            code.retry().label()
        );
    }
    out
}
