//! Decides what a proof says to somebody who has nothing but the file: what was proved, or the first thing that does not fit.

use std::{
    fs,
    io::{self, Read as _},
    path::Path,
};

use oa_contract::export::{Unfit, Verified, verify_export};
use serde_json::{Value, json};

use crate::{
    failure::{Failure, WRONG},
    output::{Format, table},
};

/// Checks a proof without any server; gives the exit code.
pub fn verify(file: &Path, signer: Option<&str>, format: Format) -> Result<u8, Failure> {
    let signer = signer.map(public_key).transpose()?;
    let text = read(file)?;
    match verify_export(&text, signer.as_deref()) {
        Ok(verified) => format
            .show(&proved(file, &verified, signer.is_some()), &good(&verified))
            .map(|()| crate::failure::OK),
        Err(unfit) => {
            let sentence = format!("{} proves nothing: {unfit}", file.display());
            format.show(&sentence, &bad(&unfit))?;
            Ok(WRONG)
        }
    }
}

fn public_key(text: &str) -> Result<String, Failure> {
    match text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(text.to_lowercase()),
        false => Err(Failure::usage("--signer is a public key of 64 hex digits")),
    }
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    let read = match file == Path::new("-") {
        true => io::stdin().read_to_end(&mut text).map(drop),
        false => fs::read(file).map(|bytes| text = bytes),
    };
    read.map_err(|error| Failure::file(file, &error)).map(|()| text)
}

fn proved(file: &Path, verified: &Verified, expected: bool) -> String {
    let signer = match (&verified.signer, expected) {
        (Some(key), true) => format!("{key}, as expected"),
        (Some(key), false) => format!("{key}: give it as --signer if you know whose key it is"),
        (None, _) => "nobody: the file fits together, but anybody could have written it".to_owned(),
    };
    let pairs = [
        ("run", verified.run_id.to_string()),
        ("status", verified.status.name().to_owned()),
        ("events", format!("{}, none missing, none changed", verified.events)),
        ("last link", verified.chain.clone()),
        ("trajectory", verified.trajectory_hash.clone()),
        ("receipt", format!("sha256 {}, recomputed from the events", verified.receipt_sha256)),
        ("signed by", signer),
    ];
    let rows: Vec<Vec<String>> =
        pairs.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
    format!("{} fits together\n{}", file.display(), table(&rows))
}

fn good(verified: &Verified) -> Value {
    let mut out = json!(verified);
    out["verified"] = json!(true);
    out
}

fn bad(unfit: &Unfit) -> Value {
    let mut out = json!({"verified": false, "sentence": unfit.to_string()});
    let (place, why) = match unfit {
        Unfit::Header { why } => ("header", why),
        Unfit::Event { seq, line, why } => {
            out["seq"] = json!(seq);
            out["line"] = json!(line);
            ("event", why)
        }
        Unfit::End { line, why } => {
            out["line"] = json!(line);
            ("end", why)
        }
        Unfit::Receipt { field, why } => {
            out["field"] = json!(field);
            ("receipt", why)
        }
        Unfit::Signature { why } => ("signature", why),
    };
    out["where"] = json!(place);
    out["why"] = json!(why);
    out
}
