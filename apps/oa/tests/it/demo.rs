//! `oa demo` as a newcomer runs it.

use std::time::{Duration, Instant};

use crate::server::oa;

#[test]
fn the_story_is_told_in_under_a_minute_and_leaves_nothing_behind() {
    let home = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let done = oa().env("TMPDIR", home.path()).current_dir(home.path()).arg("demo").output().unwrap();
    let took = begun.elapsed();
    let (told, said) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert_eq!(done.status.code(), Some(0), "{told}\n{said}");
    assert!(took < Duration::from_secs(60), "{took:?}");
    for words in [
        "SIMULATED",
        "refuted: provider:honest-one and provider:honest-two ran it once more",
        "paid: nothing",
        "cheap-and-quick has 1 strike and is quarantined",
        "compute_verification_violation",
        "evidence: events",
        "all tests passed",
        "provider:honest-two ran it once more and came to the same",
        "paid: 1200 msats to honest-one",
        "none missing, none changed",
        "0 msats, nothing held",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0, "{told}");
}
