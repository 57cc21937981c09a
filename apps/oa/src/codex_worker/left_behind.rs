//! Decides what becomes of what outlives its parent: the commands of a codex that was killed are inherited and ended, and the codex of a worker that was killed is waited for and ended.

use std::{
    fs, io,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use nix::{
    sys::{
        signal::{Signal, kill, killpg},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};

/// How long a codex whose worker was killed may take to see that and to end; then it is told to, and then it is killed.
const ALONE: Duration = Duration::from_secs(10);
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

/// Writes down which process codex is, for a worker that comes after this one was killed.
pub fn remember(file: &Path, pid: i32) -> io::Result<()> {
    match born(pid) {
        Some(born) => fs::write(file, format!("{pid} {born}")),
        None => Ok(()),
    }
}

/// Waits for the codex of an earlier worker: while it lives, it holds its threads.
pub async fn await_former(file: &Path) {
    let Some((pid, born_then)) = fs::read_to_string(file).ok().and_then(|text| read(&text)) else { return };
    // A process of the same number that was born at another time is somebody else.
    let lives = || born(pid) == Some(born_then);
    for signal in [None, Some(Signal::SIGTERM), Some(Signal::SIGKILL)] {
        if let (Some(signal), true) = (signal, lives()) {
            let _ = killpg(Pid::from_raw(pid), signal);
        }
        let since = Instant::now();
        while lives() && since.elapsed() < ALONE {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn read(text: &str) -> Option<(i32, u64)> {
    let (pid, born) = text.trim().split_once(' ')?;
    Some((pid.parse().ok().filter(|pid| *pid > 1)?, born.parse().ok()?))
}

/// When a process was born, in the kernel's ticks; `None` when it does not run any more.
fn born(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    match fields.next()? {
        "Z" | "X" => None,
        // The state is the third field, the birth the twenty-second.
        _ => fields.nth(18)?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;

    use super::*;
    use crate::data_dir::tests::scratch;

    #[tokio::test]
    async fn only_the_very_process_that_was_written_down_is_waited_for() {
        let directory = scratch();
        let file = directory.path().join("codex.pid");
        await_former(&file).await;
        let mut other =
            std::process::Command::new("sleep").arg("1000").process_group(0).spawn().expect("started");
        let pid = i32::try_from(other.id()).expect("a number");
        fs::write(&file, format!("{pid} 1")).expect("written");
        await_former(&file).await;
        assert!(other.try_wait().expect("looked").is_none(), "a stranger was ended");
        remember(&file, pid).expect("written");
        let waits = tokio::spawn(async move { await_former(&file).await });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        other.kill().expect("killed");
        other.wait().expect("ended");
        waits.await.expect("waited");
    }
}
