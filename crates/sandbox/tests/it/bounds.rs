//! Each bomb goes off outside, at a harmless size, and is bounded inside.

use std::time::{Duration, Instant};

use oa_sandbox::{Ended, Exit, Limit, Limits, Outcome, Sandbox, Spec};

use crate::host::{Host, probe, run, said};

const MIB: u64 = 1 << 20;

/// Works outside; inside it ends as `expected` says, in every kind of sandbox.
#[track_caller]
fn bounded(words: &[&str], change: impl Fn(&mut Limits), expected: impl Fn(&Outcome) -> bool) {
    let host = Host::new();
    let outside = host.outside(words);
    assert!(outside.worked, "{words:?} is to work outside first: {}", outside.said);
    for (kind, sandbox) in host.sandboxes() {
        let mut spec = host.spec(words);
        change(&mut spec.limits);
        let outcome = run(&sandbox, &spec);
        assert!(expected(&outcome), "in {kind} sandbox, {words:?}: {} {:?}", said(&outcome), outcome.used);
    }
}

fn refused(outcome: &Outcome) -> bool {
    said(outcome).contains("Code(1): refused")
}

/// Ended from outside, killed by the kernel, or told no.
fn out_of_memory(outcome: &Outcome) -> bool {
    outcome.ended == Ended::Limit(Limit::Memory) || refused(outcome)
}

#[test]
fn processes_are_bounded() {
    bounded(
        &["forks", "400"],
        |limits| limits.processes = 40,
        |outcome| refused(outcome) && !said(outcome).contains("refused: 400"),
    );
}

#[test]
fn threads_are_bounded() {
    bounded(&["threads", "400"], |limits| limits.processes = 40, refused);
}

#[test]
fn a_bomb_of_processes_ends_with_its_time_and_nothing_is_left_of_it() {
    let host = Host::new();
    // Outside, only its beginning is shown: that processes can be made without end.
    assert!(host.outside(&["forks", "1000"]).worked);
    for (kind, sandbox) in host.sandboxes() {
        let mut spec = host.spec(&["fork_bomb"]);
        (spec.limits.wall, spec.limits.processes) = (Duration::from_millis(500), 64);
        let begun = Instant::now();
        let outcome = run(&sandbox, &spec);
        assert_eq!(outcome.ended, Ended::Limit(Limit::Wall), "{kind}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{kind}");
        assert!(crate::left_behind::nobody_runs("fork_bomb"), "{kind}");
    }
}

#[test]
fn memory_of_one_process_is_bounded() {
    let bytes = (256 * MIB).to_string();
    bounded(&["memory", &bytes], small_memory, out_of_memory);
}

#[test]
fn memory_of_many_processes_is_bounded_together() {
    let bytes = (24 * MIB).to_string();
    bounded(&["memory_of_many", "8", &bytes], small_memory, out_of_memory);
}

#[test]
fn shared_memory_is_bounded() {
    let bytes = (256 * MIB).to_string();
    bounded(&["shared_memory", &bytes], small_memory, out_of_memory);
}

#[test]
fn memory_that_only_a_descriptor_holds_is_bounded() {
    let bytes = (256 * MIB).to_string();
    bounded(&["memfd", &bytes], small_memory, |outcome| out_of_memory(outcome) || killed_for_size(outcome));
}

#[test]
fn memory_that_nobody_holds_is_bounded() {
    let bytes = (256 * MIB).to_string();
    bounded(&["shmget", &bytes], small_memory, out_of_memory);
}

fn small_memory(limits: &mut Limits) {
    (limits.memory_bytes, limits.disk_bytes) = (64 * MIB, 8 * MIB);
}

/// A file that grew beyond the limit on files.
fn killed_for_size(outcome: &Outcome) -> bool {
    outcome.runs[0].exit == Exit::Signal(25)
}

#[test]
fn the_disk_is_bounded_in_every_place_and_over_all_of_them() {
    let bytes = (64 * MIB).to_string();
    let small = |limits: &mut Limits| limits.disk_bytes = 16 * MIB;
    for path in ["/tmp/oa-probe-fills", "/dev/shm/oa-probe-fills", "fills"] {
        bounded(&["disk", path, &bytes], small, |outcome| refused(outcome) || killed_for_size(outcome));
    }
    bounded(&["disk_in_pieces", &bytes], small, refused);
    let host = Host::new();
    for (kind, sandbox) in host.sandboxes() {
        let mut spec = host.spec(&[]);
        spec.limits.disk_bytes = 16 * MIB;
        let line = "head -c 10000000 /dev/urandom > /tmp/a; head -c 10000000 /dev/urandom > b";
        spec.commands = vec![oa_sandbox::Command::shell(line)];
        let outcome = run(&sandbox, &spec);
        assert_ne!(outcome.runs[0].exit, Exit::Code(0), "{kind}");
        assert!(outcome.used.disk_bytes <= 16 * MIB, "{kind}: {:?}", outcome.used);
    }
}

#[test]
fn files_are_bounded_even_when_they_are_empty() {
    bounded(&["files", "5000"], |limits| limits.files = 500, refused);
}

#[test]
fn output_is_bounded_and_what_was_kept_is_exactly_that_much() {
    let expected = |outcome: &Outcome| {
        outcome.ended == Ended::Limit(Limit::Output) && outcome.runs[0].stdout.bytes == MIB
    };
    bounded(&["output", &(8 * MIB).to_string()], |limits| limits.output_bytes = MIB, expected);
}

#[test]
fn time_is_bounded_for_the_job_and_for_each_command() {
    bounded(
        &["spin", "2000"],
        |limits| limits.wall = Duration::from_millis(300),
        |outcome| outcome.ended == Ended::Limit(Limit::Wall) && outcome.used.wall < Duration::from_secs(20),
    );
    let host = Host::new();
    let mut spec = host.spec(&["spin", "2000"]);
    spec.commands[0].wall = Some(Duration::from_millis(300));
    spec.commands.push(probe(&["capabilities"]));
    let outcome = run(&host.own(), &spec);
    assert_eq!((outcome.ended, outcome.runs.len()), (Ended::Limit(Limit::Wall), 1));
}

#[test]
fn a_share_of_the_processors_is_what_a_job_gets() {
    let host = Host::new();
    // Two that spin for a second use two seconds of processor time where there are two processors to use.
    let line = "/opt/probe spin 1000 & /opt/probe spin 1000 & wait";
    for (kind, sandbox) in host.sandboxes() {
        let mut spec: Spec = host.spec(&[]);
        spec.commands = vec![oa_sandbox::Command::shell(line)];
        spec.limits.cpus = 1.0;
        let outcome = run(&sandbox, &spec);
        let used = outcome.used.cpu;
        assert!(used < Duration::from_millis(1500), "{kind}: {used:?}");
        assert!(used > Duration::from_millis(50), "{kind}: {used:?}");
    }
}

#[test]
fn what_the_host_lacks_and_a_job_demands_is_refused_and_not_run_with_less() {
    use oa_sandbox::{Cancel, Discard, Layer, Layers, Refused};
    let host = Host::new();
    let without: Sandbox = host.own().without_cgroups();
    let mut spec = host.spec(&["capabilities"]);
    spec.minimum = Layers::standard().with(Layer::CgroupMemory);
    let refused = without.run(&spec, &mut Discard, &Cancel::new());
    let Err(Refused::Isolation { missing, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(missing.iter().collect::<Vec<_>>(), [Layer::CgroupMemory]);
    assert!(!without.isolation().has(Layer::CgroupMemory));
    assert!(without.isolation().has(Layer::Seccomp));
}
