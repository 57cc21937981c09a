//! Decides what becomes of commands that outlive codex: this process inherits them, and ends them.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
};

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};

/// So many generations of orphans are ended at once, at most.
const GENERATIONS: usize = 64;

/// Only who inherits may end: without it the children of this process are somebody else's.
static INHERITS: AtomicBool = AtomicBool::new(false);

/// From now on processes whose parent dies become ours instead of init's. Codex gives its commands sessions of
/// their own, so that when it is killed no group tells them.
pub fn inherit() {
    // Elsewhere codex still ends its commands itself as long as it is ended in order.
    #[cfg(target_os = "linux")]
    INHERITS.store(nix::sys::prctl::set_child_subreaper(true).is_ok(), Ordering::Relaxed);
}

/// Ends every process that was left to us. No other child of this process may run.
pub fn end_all() {
    for _ in 0..GENERATIONS {
        let left = children();
        if left.is_empty() {
            return;
        }
        for pid in left {
            let _ = kill(pid, Signal::SIGKILL);
            let _ = waitpid(pid, None);
        }
    }
}

/// Buries what has died meanwhile, but for the child that somebody waits for.
pub fn bury(but: i32) {
    for pid in children() {
        if pid.as_raw() != but {
            let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
        }
    }
}

/// The processes whose parent is this one.
fn children() -> Vec<Pid> {
    if !INHERITS.load(Ordering::Relaxed) {
        return Vec::new();
    }
    let own = std::process::id();
    let Ok(tasks) = fs::read_dir(format!("/proc/{own}/task")) else { return Vec::new() };
    tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| {
            text.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect::<Vec<_>>()
        })
        .collect()
}
