//! Nothing of a job is left, whatever way it ended.

use std::{
    fs,
    io::Read,
    process::{Command as Process, Stdio},
    time::{Duration, Instant},
};

use oa_sandbox::{Cancel, Command, Ended, Output, Stream};

use crate::host::{Host, probe, run};

/// Whether no process of the whole host has this word among its arguments.
pub fn nobody_runs(word: &str) -> bool {
    running(word).is_empty()
}

fn running(word: &str) -> Vec<u32> {
    let own = std::process::id();
    let processes = fs::read_dir("/proc").expect("/proc");
    processes
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse::<u32>().ok()?;
            let words = fs::read(entry.path().join("cmdline")).ok()?;
            let has = words.split(|byte| *byte == 0).any(|one| one == word.as_bytes());
            (has && pid != own).then_some(pid)
        })
        .collect()
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// How long the daemon of this test would stay: a number that nobody else sleeps.
fn marker(of: u32) -> String {
    format!("{}", 100_000_000 + u64::from(std::process::id()) * 10 + u64::from(of))
}

fn mounts() -> usize {
    fs::read_to_string("/proc/self/mountinfo").expect("mounts").lines().count()
}

fn groups() -> usize {
    let mut count = 0;
    let mut dirs = vec![std::path::PathBuf::from("/sys/fs/cgroup")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let own = format!("oa-job-{}-", std::process::id());
                count += usize::from(entry.file_name().to_string_lossy().starts_with(&own));
                dirs.push(entry.path());
            }
        }
    }
    count
}

#[test]
fn a_daemon_ends_with_the_command_that_started_it() {
    let host = Host::new();
    let outside = marker(0);
    assert!(host.outside(&["stay", &outside]).worked);
    assert!(!nobody_runs(&outside));
    for pid in running(&outside) {
        let _ = Process::new("kill").args(["-9", &pid.to_string()]).status();
    }
    for (kind, sandbox) in host.sandboxes() {
        let inside = marker(1);
        let mut spec = host.spec(&["stay", &inside]);
        // Not even the next command of the same job finds it.
        spec.commands.push(Command::shell("ls -d /proc/[0-9]* | wc -l; pgrep sleep || echo nobody"));
        let outcome = run(&sandbox, &spec);
        assert!(nobody_runs(&inside), "{kind}");
        assert!(
            String::from_utf8_lossy(&outcome.runs[1].stdout.preview).contains("nobody"),
            "{kind}: {outcome:?}"
        );
    }
}

#[test]
fn what_a_shell_left_in_the_background_ends() {
    let host = Host::new();
    for (kind, sandbox) in host.sandboxes() {
        let marker = marker(2);
        let line = format!(
            "nohup setsid sleep {marker} >/dev/null 2>&1 & (setsid sleep {marker} &) ; sleep {marker} & exit 0"
        );
        let mut spec = host.spec(&[]);
        spec.commands = vec![Command::shell(line)];
        let outcome = run(&sandbox, &spec);
        assert_eq!(outcome.ended, Ended::Complete, "{kind}");
        assert!(nobody_runs(&marker), "{kind}");
    }
}

#[test]
fn no_mount_no_directory_and_no_control_group_is_left() {
    let host = Host::new();
    let (mounts_before, temporary) = (mounts(), std::env::temp_dir());
    // What other tests make there meanwhile is theirs.
    let left = || {
        let names = fs::read_dir(&temporary).expect("it").flatten().map(|one| one.file_name());
        names.filter(|name| name == "oa-probe-left" || name == ".area" || name == "workspace").count()
    };
    let before = left();
    for (_, sandbox) in host.sandboxes() {
        let mut spec = host.spec(&["disk_in_pieces", "1048576"]);
        spec.commands.push(Command::shell("echo x > /tmp/oa-probe-left; mkdir -p deep/er; exit 3"));
        run(&sandbox, &spec);
        spec.commands = vec![probe(&["spin", "60000"])];
        spec.limits.wall = Duration::from_millis(100);
        run(&sandbox, &spec);
    }
    assert_eq!((mounts(), left(), groups()), (mounts_before, before, 0));
}

/// Cancels when the job says something.
struct CancelAtOutput(Cancel);

impl Output for CancelAtOutput {
    fn chunk(&mut self, _: usize, _: Stream, _: &[u8]) {
        self.0.cancel();
    }
}

#[test]
fn a_cancelled_job_ends_at_once_with_all_its_processes() {
    let host = Host::new();
    for (kind, sandbox) in host.sandboxes() {
        let marker = marker(3);
        let mut spec = host.spec(&[]);
        spec.commands =
            vec![Command::shell(format!("(setsid sleep {marker} &); echo begun; sleep {marker}"))];
        let cancel = Cancel::new();
        let outcome = sandbox.run(&spec, &mut CancelAtOutput(cancel.clone()), &cancel).expect("it ran");
        assert_eq!(outcome.ended, Ended::Cancelled, "{kind}");
        assert!(outcome.used.wall < Duration::from_secs(20), "{kind}");
        assert!(nobody_runs(&marker), "{kind}");
    }
}

#[test]
fn a_job_ends_when_the_program_that_runs_it_is_killed() {
    let host = Host::new();
    let marker = marker(4);
    // This test again, as the program that runs a job and is killed.
    let mut runner = Process::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "left_behind::runs_a_job_for_ever_when_told_to", "--nocapture"])
        .env("OA_SANDBOX_TEST_MARKER", &marker)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a runner");
    wait_until("the job runs", || !nobody_runs(&marker));
    let groups_of_runner = format!("oa-job-{}-", runner.id());
    runner.kill().expect("it is killed");
    runner.wait().expect("it ended");
    wait_until("the job ends", || nobody_runs(&marker));
    wait_until("its control groups go", || !found_group(&groups_of_runner));
    drop(host);
}

fn found_group(prefix: &str) -> bool {
    let mut text = String::new();
    let mut find = Process::new("find")
        .args(["/sys/fs/cgroup", "-maxdepth", "6", "-type", "d", "-name", &format!("{prefix}*")])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("find");
    find.stdout.take().expect("its output").read_to_string(&mut text).expect("text");
    let _ = find.wait();
    !text.is_empty()
}

#[test]
fn runs_a_job_for_ever_when_told_to() {
    let Ok(marker) = std::env::var("OA_SANDBOX_TEST_MARKER") else { return };
    let host = Host::new();
    let mut spec = host.spec(&[]);
    spec.commands = vec![Command::shell(format!("sleep {marker}"))];
    spec.limits.wall = Duration::from_secs(60);
    run(&host.own(), &spec);
}
