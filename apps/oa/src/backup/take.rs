//! Decides how a backup is taken: the stores one after the other while servers run, then keys and settings, then the
//! manifest, all on disk before the directory gets its name.

use std::{fs, io, path::Path};

use oa_contract::{Clock as _, credential::hex};
use oa_store::backup::copy_store;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{
    Draft, FORMAT, KEYS, MANIFEST, Manifest, STORES, StoreEntry, copy_file, is_free, make_directory,
    store_file,
};
use crate::{
    config::{self, Settings},
    data_dir::{DataDir, write_atomically},
    failure::{Failure, OK},
    output::Format,
    system::SystemClock,
};

/// Pages between two lines of progress.
const STRIDE: u64 = 1 << 18;

/// `oa backup`: writes a new directory that `oa restore` reads.
pub fn take(
    data: &DataDir,
    settings: &Settings,
    destination: &Path,
    with_keys: bool,
    format: Format,
) -> Result<u8, Failure> {
    if settings.get("DB_URL").is_some() {
        return Err(on_postgres(data));
    }
    if data.path().join(MANIFEST).exists() {
        return Err(Failure::usage(format!(
            "{} is a backup already; copy it as it is",
            data.path().display()
        )));
    }
    let stores: Vec<&str> =
        STORES.into_iter().filter(|name| data.path().join(store_file(name)).exists()).collect();
    if stores.iter().all(|name| *name == "wallet") {
        return Err(Failure::usage(format!(
            "there is no store in {}: give --data for the directory that the servers use",
            data.path().display()
        )));
    }
    if !is_free(destination)? {
        return Err(Failure::usage(format!(
            "{} is there already; a backup is written to a new directory",
            destination.display()
        )));
    }
    let draft = Draft::beside(destination)?;
    let mut manifest = Manifest {
        format: FORMAT.into(),
        oa_version: env!("CARGO_PKG_VERSION").into(),
        taken_at: SystemClock::default().now().to_string(),
        with_keys,
        stores: Vec::new(),
        files: Vec::new(),
    };
    for name in stores {
        let file = store_file(name);
        let copy = draft.path.join(&file);
        let mut told = 0;
        let heads = copy_store(&data.path().join(&file), &copy, |pages, all| {
            if pages >= told + STRIDE {
                told = pages;
                format.note(&format!("{name}: {pages} of {all} pages"));
            }
        })
        .map_err(|error| Failure::wrong(error.to_string()))?;
        manifest.stores.push(StoreEntry::new(name, heads));
        manifest.files.push(copy_file(&copy, None, &file)?);
    }
    if with_keys {
        keys(data, &draft.path, &mut manifest)?;
    }
    let text = serde_json::to_vec_pretty(&manifest).map_err(|error| Failure::wrong(error.to_string()))?;
    write_atomically(&draft.path.join(MANIFEST), &text)?;
    let place = draft.keep()?;
    let sha256 = hex(&Sha256::digest(&text));
    format.show(
        &sentence(&manifest, &place, &sha256, data),
        &json!({"backup": place, "manifest_sha256": sha256, "manifest": manifest}),
    )?;
    Ok(OK)
}

/// Keys and settings: they change seldom, and each file is written whole.
fn keys(data: &DataDir, to: &Path, manifest: &mut Manifest) -> Result<(), Failure> {
    let conf = data.path().join(config::FILE);
    if conf.exists() {
        manifest.files.push(copy_file(&conf, Some(&to.join(config::FILE)), config::FILE)?);
    }
    let folder = data.path().join(KEYS);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Failure::file(&folder, &error)),
    };
    make_directory(&to.join(KEYS))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| Failure::file(&folder, &error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // What is being made at this moment has a name of its own until it is whole.
        if !name.ends_with(".tmp") {
            names.push(name);
        }
    }
    names.sort();
    for name in names {
        let file = format!("{KEYS}/{name}");
        manifest.files.push(copy_file(&folder.join(&name), Some(&to.join(&file)), &file)?);
    }
    Ok(())
}

fn sentence(manifest: &Manifest, place: &Path, sha256: &str, data: &DataDir) -> String {
    let mut text = format!("backup    {}\nmanifest  sha256 {sha256}\n", place.display());
    for store in &manifest.stores {
        text.push_str(&format!(
            "{:<9} schema {}, {} runs with {} events\n",
            store.name, store.schema_version, store.runs, store.events
        ));
    }
    text.push_str(match manifest.with_keys {
        true => "keys      in it: whoever has this backup can sign as this service\n",
        false => {
            "keys      not in it: keep keys/ and oa.conf apart, nothing is readable to callers without them\n"
        }
    });
    if data.path().join("ldk").exists() {
        text.push_str("ldk       not in it: an old state of channels must never be used again\n");
    }
    text.push_str(&format!("check     oa --data {} verify-store", place.display()));
    text
}

/// Half a backup would be taken for a whole one.
fn on_postgres(data: &DataDir) -> Failure {
    let path = data.path().display();
    Failure::usage(format!(
        "the stores are in PostgreSQL (DB_URL is set), and its own tools back it up:\n  \
         pg_dump --format=custom --schema=runtime --schema=control --file=oa.dump \"$DB_URL\"   (one moment of both; servers go on)\n  \
         pg_restore --exit-on-error --dbname=\"$NEW_DB_URL\" oa.dump                            (into an empty database)\n\
         A dump loses what comes after it: for less, archive the write-ahead log (point-in-time recovery). \
         Keep {path}/keys and {path}/oa.conf beside it. docs/operations.md tells the rest"
    ))
}
