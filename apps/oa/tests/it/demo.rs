//! `oa demo` as a newcomer runs it.

use std::{
    process::Output,
    time::{Duration, Instant},
};

use oa_contract::pool_proof;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::server::oa;

/// What every telling tells, whatever the wallet is.
const TOLD: [&str; 26] = [
    "SIMULATED: it runs nothing and makes its answers up",
    "ada says that it has paid, and has not. The pool: 409",
    "3000 shares",
    "holds 5000 sats behind 5000 shares",
    "An agent: Sort numbers as numbers. The check passes now",
    "cheap-and-quick answers: success, exit codes 0, 0",
    "refuted: provider:honest-one and provider:honest-two ran it once more",
    "The check does not pass",
    "paid: nothing",
    "cheap-and-quick has 1 strike and is quarantined",
    "compute_verification_violation",
    "evidence: events",
    "> ok an even count",
    "the-agent wants to be able to spend 122 sats",
    "honest-one hands in an invoice of 120000 msats: lnbcrt1200n1",
    "provider:honest-two ran it once more and came to the same",
    "paid: 120000 msats to honest-one",
    "An agent with 0 settlements may have 2000 sats; decided once more: the same",
    "honest-one's own wallet has received 120000 msats",
    "the-agent owed the-pool 120 sats for it, 1 for the way and 1 as fee; repaid out of what was held: 122 sats, all of it",
    "2 settlements, each with its transfers and what the run tells of it: nothing differs",
    "what left the wallet: compared with the receipts of",
    "5001 sats for 5000 shares",
    "ada: 3000 of 5000 shares of 2 lenders",
    "msats.owed: every account is at 0 again",
    "Nothing is held any more.",
];

/// What is told, on one line, however it was broken.
fn told(done: &Output) -> String {
    let (told, said) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert_eq!(done.status.code(), Some(0), "{told}\n{said}");
    let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
    for words in TOLD {
        assert!(told.contains(words), "{words}: {told}");
    }
    told
}

fn opens(preimage: &Value, hash: &Value) -> bool {
    let preimage = oa_contract::canonical::unhex::<32>(preimage.as_str().unwrap()).unwrap();
    oa_contract::canonical::hex(&Sha256::digest(preimage)) == hash.as_str().unwrap()
}

#[test]
fn the_story_is_told_in_under_two_minutes_and_leaves_nothing_behind() {
    let home = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let done = oa().env("TMPDIR", home.path()).current_dir(home.path()).arg("demo").output().unwrap();
    let took = begun.elapsed();
    let told = told(&done);
    assert!(took < Duration::from_secs(120), "{took:?}");
    for words in [
        "The wallet is SIMULATED: its invoices are whole BOLT11",
        "the wallet behind it could pay 54879 sats now",
        "none missing, none changed",
        "in it: the invoice of 120000 msats, and the preimage that opens its payment hash",
        "in it: ada's 3000 of 5000 shares, inside a total that the same key signed",
        "with one digit of a payment changed: ",
        "pool/msats/the-pool/cep +5001000 msats",
        "wallet/msats/lightning -4879000 msats",
        "together 0 msats",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0, "{told}");
}

#[test]
fn a_directory_that_is_named_is_kept_and_what_it_holds_verifies_offline() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("demo");
    let done = oa().arg("--data").arg(&data).args(["-o", "json", "demo"]).output().unwrap();
    let story: Value = serde_json::from_slice(&done.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&done.stderr)));
    let payment = &story["credit"]["payment"];
    assert!(opens(&payment["preimage"], &payment["payment_hash"]));
    assert_eq!(story["credit"]["loan"]["status"], "repaid");
    assert_eq!(story["credit"]["settlement"]["settlement_route"], "cep_envelope");
    let proof = serde_json::to_vec(&story["shares_proof"]).unwrap();
    assert_eq!(pool_proof::verify(&proof, None).unwrap().shares, 3_000);
    let verified = oa().args(["runs", "verify"]).arg(data.join("proof.jsonl")).output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    let verified = oa().arg("--data").arg(&data).arg("verify-store").output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    let again = oa().arg("--data").arg(&data).arg("demo").output().unwrap();
    assert_eq!(again.status.code(), Some(2), "{}", String::from_utf8_lossy(&again.stdout));
}

#[cfg(not(feature = "ldk"))]
#[test]
fn a_build_without_nodes_says_how_one_with_nodes_is_made() {
    let home = tempfile::tempdir().unwrap();
    let done = oa().env("TMPDIR", home.path()).args(["demo", "--real-lightning"]).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(2), "{said}");
    assert!(said.contains("cargo run --release --features ldk -- demo --real-lightning"), "{said}");
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}

#[cfg(feature = "ldk")]
#[test]
fn the_same_story_is_told_with_real_nodes() {
    let home = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let done = oa().env("TMPDIR", home.path()).args(["demo", "--real-lightning"]).output().unwrap();
    let took = begun.elapsed();
    let told = told(&done);
    assert!(took < Duration::from_secs(120), "{took:?}");
    for words in [
        "The wallet is one of three real LDK nodes in this process",
        "the chain under them is SIMULATED, so there is no money",
        "wallet/msats/lightning -4879000 msats",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0, "{told}");
}
