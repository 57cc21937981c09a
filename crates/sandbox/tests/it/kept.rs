//! What is said of a job is true: digests, artifacts, ends.

use std::{fs, path::PathBuf};

use oa_sandbox::{Artifact, Cancel, Command, Ended, Exit, Layer, Limits, Output, Spec, Stream};
use sha2::{Digest, Sha256};

use crate::host::{Host, SECRET, run};

#[derive(Default)]
struct Everything {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    piece: Vec<u8>,
    artifacts: Vec<(Artifact, Vec<u8>)>,
}

impl Output for Everything {
    fn chunk(&mut self, _: usize, stream: Stream, bytes: &[u8]) {
        match stream {
            Stream::Stdout => self.stdout.extend_from_slice(bytes),
            Stream::Stderr => self.stderr.extend_from_slice(bytes),
        }
    }

    fn artifact_chunk(&mut self, bytes: &[u8]) {
        self.piece.extend_from_slice(bytes);
    }

    fn artifact(&mut self, artifact: &Artifact) {
        self.artifacts.push((artifact.clone(), std::mem::take(&mut self.piece)));
    }

    fn no_artifact(&mut self) {
        self.piece.clear();
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn shell(host: &Host, lines: &[&str]) -> Spec {
    let commands = lines.iter().map(|line| Command::shell(*line)).collect();
    Spec { commands, ..host.spec(&[]) }
}

#[test]
fn digests_are_over_every_byte_of_each_stream_and_previews_over_the_first() {
    let host = Host::new();
    for (kind, sandbox) in host.sandboxes() {
        let mut spec = shell(&host, &["head -c 300000 /dev/urandom; printf 'not \\377 text' >&2"]);
        spec.limits.preview_bytes = 100;
        let mut all = Everything::default();
        let outcome = sandbox.run(&spec, &mut all, &Cancel::new()).expect("it ran");
        let run = &outcome.runs[0];
        assert_eq!(all.stdout.len(), 300_000, "{kind}");
        assert_eq!((run.stdout.sha256, run.stdout.bytes), (sha256(&all.stdout), 300_000), "{kind}");
        assert_eq!(run.stdout.preview, all.stdout[..100], "{kind}");
        assert_eq!(run.stderr.sha256, sha256(b"not \xff text"), "{kind}");
    }
}

#[test]
fn a_working_directory_starts_with_a_copy_and_the_original_stays() {
    let host = Host::new();
    let from = host.path("from");
    fs::create_dir_all(from.join("deep")).expect("a directory");
    fs::write(from.join("deep/file"), "first").expect("a file");
    fs::write(from.join("run.sh"), "#!/bin/sh\ncat deep/file\n").expect("a file");
    fs::set_permissions(from.join("run.sh"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("mode");
    std::os::unix::fs::symlink("deep/file", from.join("link")).expect("a link");
    for (kind, sandbox) in host.sandboxes() {
        let mut spec =
            shell(&host, &["./run.sh && echo second > deep/file && cat link && rm -rf deep run.sh"]);
        spec.work.from = Some(from.clone());
        let outcome = run(&sandbox, &spec);
        assert_eq!(outcome.runs[0].exit, Exit::Code(0), "{kind}: {outcome:?}");
        assert_eq!(outcome.runs[0].stdout.preview, b"firstsecond\n", "{kind}");
        assert_eq!(fs::read(from.join("deep/file")).expect("it is there"), b"first", "{kind}");
    }
    let mut spec = shell(&host, &["true"]);
    spec.work.from = Some(from.clone());
    spec.limits.disk_bytes = 64 << 10;
    fs::write(from.join("large"), vec![1; 1 << 20]).expect("a file");
    let refused = host.own().run(&spec, &mut Everything::default(), &Cancel::new());
    assert!(refused.expect_err("it does not fit").to_string().contains("does not fit the limits on disk"));
}

#[test]
fn artifacts_are_regular_files_inside_and_no_link_leads_to_one() {
    let host = Host::new();
    let secret = host.text("secret");
    let line = format!(
        "mkdir -p out/sub && printf one > out/a && printf two > out/sub/b && ln -s {secret} out/link && \
         ln -s /etc out/dir && ln -s out linked && mkfifo out/pipe && ln out/a out/hard"
    );
    for (kind, sandbox) in host.sandboxes() {
        let mut spec = shell(&host, &[&line]);
        spec.artifacts = ["out", "linked/a", "missing"].map(PathBuf::from).to_vec();
        let mut all = Everything::default();
        let outcome = sandbox.run(&spec, &mut all, &Cancel::new()).expect("it ran");
        let kept: Vec<_> = outcome.artifacts.iter().map(|one| (one.path.as_str(), one.bytes)).collect();
        assert_eq!(kept, [("out/a", 3), ("out/hard", 3), ("out/sub/b", 3)], "{kind}: {outcome:?}");
        assert_eq!(outcome.artifacts[2].sha256, sha256(b"two"), "{kind}");
        let left: Vec<_> = outcome.left_out.iter().map(|one| one.path.as_str()).collect();
        assert_eq!(left, ["out/dir", "out/link", "out/pipe", "linked/a", "missing"], "{kind}");
        for (artifact, bytes) in &all.artifacts {
            assert_eq!(artifact.sha256, sha256(bytes), "{kind}");
        }
    }
}

#[test]
fn a_name_that_is_now_a_file_and_now_a_link_never_leads_out() {
    let host = Host::new();
    let secret = host.text("secret");
    // Outside, whoever reads the name without care gets the secret sooner or later.
    std::os::unix::fs::symlink(&secret, host.path("flip")).expect("a link");
    assert_eq!(fs::read_to_string(host.path("flip")).expect("it leads there"), SECRET);
    // A link to what is shown inside too: were it followed, there would be something to read.
    for target in [secret.as_str(), "/etc/passwd"] {
        let mut spec = host.spec(&["flip", target]);
        spec.artifacts = vec![PathBuf::from("flip"), PathBuf::from(".")];
        spec.artifacts.pop();
        spec.limits.wall = std::time::Duration::from_millis(150);
        for (kind, sandbox) in host.sandboxes() {
            for _ in 0..3 {
                let mut all = Everything::default();
                let outcome = sandbox.run(&spec, &mut all, &Cancel::new()).expect("it ran");
                assert!(outcome.ended != Ended::Complete, "{kind}");
                for (_, bytes) in &all.artifacts {
                    assert!(bytes.is_empty() || bytes == b"harmless", "{kind}: {bytes:?}");
                }
            }
        }
    }
}

#[test]
fn more_or_larger_artifacts_than_allowed_are_left_out_and_said_so() {
    let host = Host::new();
    let mut spec =
        shell(&host, &["mkdir o; for i in 1 2 3 4 5; do echo $i > o/$i; done; head -c 9000 /dev/zero > big"]);
    spec.artifacts = vec![PathBuf::from("big"), PathBuf::from("o")];
    spec.limits = Limits { artifacts: 3, artifact_bytes: 1000, ..spec.limits };
    let mut all = Everything::default();
    let outcome = host.own().run(&spec, &mut all, &Cancel::new()).expect("it ran");
    assert_eq!((outcome.artifacts.len(), outcome.left_out.len()), (3, 3), "{outcome:?}");
    assert_eq!(all.artifacts[0].1, b"1\n");
}

#[test]
fn the_first_failure_ends_a_job_unless_it_is_said_to_go_on() {
    let host = Host::new();
    let spec = shell(&host, &["exit 3", "echo never"]);
    let outcome = run(&host.own(), &spec);
    assert_eq!((outcome.ended, outcome.runs.len()), (Ended::Stopped, 1));
    let mut spec = spec;
    spec.commands[0].continue_on_fail = true;
    let outcome = run(&host.own(), &spec);
    assert_eq!(
        (outcome.ended, outcome.runs.len(), &outcome.runs[0].exit),
        (Ended::Complete, 2, &Exit::Code(3))
    );
    let outcome = run(&host.own(), &shell(&host, &["kill -SEGV $$"]));
    assert_eq!(outcome.runs[0].exit, Exit::Signal(11));
    let outcome = run(&host.own(), &Spec { commands: vec![Command::argv(["no-such-program"])], ..spec });
    assert!(matches!(outcome.runs[0].exit, Exit::NotStarted(_)), "{outcome:?}");
}

#[test]
fn commands_start_where_they_say_and_not_where_a_link_leads() {
    let host = Host::new();
    let mut spec =
        shell(&host, &["mkdir -p in/side && ln -s /usr out && touch file", "pwd", "pwd", "pwd", "pwd"]);
    for (command, dir) in spec.commands[1..].iter_mut().zip(["in/side", "out", "no-such", "file"]) {
        command.workdir = Some(PathBuf::from(dir));
        command.continue_on_fail = true;
    }
    let outcome = run(&host.own(), &spec);
    assert_eq!(outcome.runs[1].stdout.preview, b"/workspace/in/side\n");
    // The job has failed by itself, and says why where a shell would.
    for (run, why) in outcome.runs[2..].iter().zip(["not in the working", "No such file", "Not a directory"])
    {
        let said = String::from_utf8_lossy(&run.stderr.preview);
        assert_eq!((&run.exit, said.contains(why)), (&Exit::Code(127), true), "{said}");
    }
}

#[test]
fn what_is_claimed_stands() {
    let host = Host::new();
    let isolation = host.own().isolation();
    for layer in Layer::ALL {
        if layer.is_core() {
            assert!(isolation.has(layer), "{layer:?}: {isolation:?}");
        } else {
            assert!(isolation.has(layer) || isolation.missing.contains_key(&layer), "{isolation:?}");
        }
    }
    let outcome =
        run(&host.own(), &shell(&host, &["grep -E 'NoNewPrivs|Seccomp:|CapPrm' /proc/self/status"]));
    let said = String::from_utf8_lossy(&outcome.runs[0].stdout.preview).into_owned();
    for line in ["NoNewPrivs:\t1", "Seccomp:\t2", "CapPrm:\t0000000000000000"] {
        assert!(said.contains(line), "{said}");
    }
    assert_eq!(outcome.isolation.layers, isolation.layers);
}

#[test]
fn a_whole_toolchain_works_inside() {
    let host = Host::new();
    let line =
        "printf '#include <stdio.h>\\nint main(void){puts(\"made inside\");}' > a.c && cc a.c -o a && ./a";
    let outcome = run(&host.own(), &shell(&host, &[line]));
    assert!(String::from_utf8_lossy(&outcome.runs[0].stdout.preview).contains("made inside"), "{outcome:?}");
}
