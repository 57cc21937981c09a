//! Decides how a backup becomes a data directory: copied and compared beside its place, opened, read from end to end,
//! and only then put there. What is there is never overwritten.

use std::path::Path;

use serde_json::json;

use super::{Draft, MANIFEST, Manifest, STORES, is_free, store_file};
use crate::{
    config::{SettingFlags, Settings, process_environment},
    data_dir::DataDir,
    failure::{Failure, OK, WRONG},
    output::Format,
    verify_store,
};

/// `oa restore`: makes the data directory `data` from the backup `source`.
pub async fn restore(source: &Path, data: &DataDir, format: Format) -> Result<u8, Failure> {
    let manifest = Manifest::read(source)?;
    let place = data.path();
    refuse_what_is_there(place)?;
    // A backup holds embedded stores: with an address of PostgreSQL they would lie there unread.
    let environment = Settings::load(&SettingFlags::default(), &process_environment, data)?;
    if environment.get("DB_URL").is_some() {
        return Err(Failure::usage(
            "DB_URL is set, so no server would read what is restored: unset it, or restore PostgreSQL with pg_restore",
        ));
    }
    let draft = Draft::beside(place)?;
    format.note(&format!("copying {} of {}", files(&manifest), manifest.taken_at));
    manifest.copy_files(source, &draft.path)?;
    let checked = verify_store::check_embedded(&DataDir::at(&draft.path), format).await?;
    if checked.iter().any(|checked| !checked.is_whole()) {
        let text = verify_store::sentences(&checked);
        format.show(
            &format!("{text}\nnothing was restored: the backup itself is damaged, use another"),
            &json!({"restored": false, "stores": verify_store::values(&checked)}),
        )?;
        return Ok(WRONG);
    }
    let place = draft.keep()?;
    let mut text = verify_store::sentences(&checked);
    text.push_str(&format!("\nrestored {} as it was at {}", place.display(), manifest.taken_at));
    for note in notes(&manifest) {
        text.push_str(&format!("\n- {note}"));
    }
    format.show(
        &text,
        &json!({"restored": true, "data": place, "taken_at": manifest.taken_at,
            "stores": verify_store::values(&checked), "notes": notes(&manifest)}),
    )?;
    Ok(OK)
}

/// Checks a backup as it lies there, and changes nothing in it: its stores are opened as copies.
pub async fn verify(backup: &Path, format: Format) -> Result<Vec<verify_store::Checked>, Failure> {
    let manifest = Manifest::read(backup)?;
    let draft = Draft::beside(&std::env::temp_dir().join("oa-verify"))?;
    manifest.copy_stores(backup, &draft.path)?;
    verify_store::check_embedded(&DataDir::at(&draft.path), format).await
}

fn refuse_what_is_there(place: &Path) -> Result<(), Failure> {
    if is_free(place)? {
        return Ok(());
    }
    let shown = place.display();
    for name in STORES {
        if oa_store::backup::is_held(&place.join(store_file(name))).unwrap_or(false) {
            return Err(Failure::usage(format!(
                "a server runs on {shown} (its {name} store is held): stop it, and restore to a new directory"
            )));
        }
    }
    Err(Failure::usage(match place.join(MANIFEST).exists() {
        true => format!("{shown} is a backup itself: give --data for the new data directory"),
        false => format!(
            "{shown} holds something, and nothing is ever overwritten: give --data for a new directory, or move that one away"
        ),
    }))
}

fn files(manifest: &Manifest) -> String {
    format!(
        "{} files, {} bytes",
        manifest.files.len(),
        manifest.files.iter().map(|file| file.bytes).sum::<u64>()
    )
}

/// What whoever restores has to know before the first start.
fn notes(manifest: &Manifest) -> Vec<String> {
    let mut notes = vec![format!(
        "what was acknowledged after {} may not be in it. If money has moved since, start with RUNTIME_AUTHORITY_WRITE_MODE=read_only and compare first: docs/operations.md",
        manifest.taken_at
    )];
    if manifest.stores.iter().any(|store| store.name == "wallet") {
        notes.push(
            "the wallet's memory is as old as the backup. If a newer wallet.db is left, put it in place of this one before `oa wallet` starts: it is what keeps a payment from being made twice"
                .to_owned(),
        );
    }
    if !manifest.with_keys {
        notes.push(
            "no keys were in it: put keys/ and oa.conf in place first, or the first start makes new keys, and tokens, signatures and secrets of before are worth nothing"
                .to_owned(),
        );
    }
    notes
}
