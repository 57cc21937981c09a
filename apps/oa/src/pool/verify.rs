//! Decides what a proof of shares says to somebody who has nothing but the file: that the shares are inside the signed
//! total, or the first thing that does not fit.

use std::{
    fs,
    io::{self, Read as _},
    path::Path,
};

use oa_contract::pool_proof::{self, Proved};
use serde_json::json;

use crate::{
    failure::{Failure, OK, WRONG},
    output::{Format, table},
};

/// A proof is small.
const LARGEST: u64 = 16 * 1024 * 1024;

/// Checks a proof without any server; gives the exit code.
pub fn verify(file: &Path, signer: Option<&str>, format: Format) -> Result<u8, Failure> {
    let signer = signer.map(public_key).transpose()?;
    match pool_proof::verify(&read(file)?, signer.as_deref()) {
        Ok(proved) => {
            let shown = json!({
                "proved": true, "lp_id": proved.lp_id, "shares": proved.shares,
                "total_shares": proved.total_shares, "providers": proved.providers,
                "snapshot_id": proved.snapshot_id, "signer": proved.signer,
            });
            format.show(&told(file, &proved, signer.is_some()), &shown).map(|()| OK)
        }
        Err(unfit) => {
            let sentence = format!("{} proves nothing: {unfit}", file.display());
            format.show(&sentence, &json!({"proved": false, "why": unfit.to_string()}))?;
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
        true => io::stdin().take(LARGEST).read_to_end(&mut text),
        false => fs::File::open(file).and_then(|file| file.take(LARGEST).read_to_end(&mut text)),
    };
    read.map_err(|error| Failure::file(file, &error)).map(|_| text)
}

fn told(file: &Path, proved: &Proved, expected: bool) -> String {
    let signer = match expected {
        true => format!("{}, as expected", proved.signer),
        false => format!("{}: give it as --signer if you know whose key it is", proved.signer),
    };
    let pairs = [
        ("provider", proved.lp_id.clone()),
        ("shares", proved.shares.to_string()),
        ("inside a total of", format!("{} of {} providers", proved.total_shares, proved.providers)),
        ("snapshot", proved.snapshot_id.clone()),
        ("signed by", signer),
    ];
    let rows: Vec<Vec<String>> =
        pairs.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
    format!("{} fits together\n{}", file.display(), table(&rows))
}
