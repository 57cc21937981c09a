//! A host with things that a job must not reach, and the two ways to try: outside and inside.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command as Process,
    time::Duration,
};

use oa_sandbox::{Cancel, Command, Discard, Launcher, Limits, Network, Outcome, Sandbox, Spec, Visible};

pub const SECRET: &str = "what nobody inside may know";
const PROBE: &str = env!("CARGO_BIN_EXE_oa-sandbox-probe");
const INIT: &str = env!("CARGO_BIN_EXE_oa-sandbox-init");

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

pub struct Host {
    pub dir: tempfile::TempDir,
    /// What an ordinary user may execute.
    init: PathBuf,
}

impl Host {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).expect("open to everybody");
        fs::write(dir.path().join("secret"), SECRET).expect("a secret");
        let init = dir.path().join("init");
        fs::copy(INIT, &init).expect("a launcher");
        Self { dir, init }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("a plain path").to_owned()
    }

    /// Every kind of sandbox that can be made here: as this user, without control groups, and as somebody who
    /// may do nothing on this host.
    pub fn sandboxes(&self) -> Vec<(&'static str, Sandbox)> {
        let own = Sandbox::new(Launcher::program(INIT));
        let mut all = vec![("own", own.clone()), ("without control groups", own.without_cgroups())];
        if is_root() {
            let words = ["--reuid=65534", "--regid=65534", "--clear-groups"].map(OsString::from);
            let args = words.into_iter().chain([self.init.clone().into_os_string()]).collect();
            let launcher = Launcher { program: PathBuf::from("setpriv"), args };
            all.push(("an ordinary user's", Sandbox::new(launcher).without_cgroups()));
        }
        all
    }

    pub fn own(&self) -> Sandbox {
        Sandbox::new(Launcher::program(INIT))
    }

    pub fn spec(&self, words: &[&str]) -> Spec {
        let mut spec = Spec::new(vec![probe(words)]).system_paths();
        spec.visible.push(Visible { host: PathBuf::from(PROBE), at: PathBuf::from("/opt/probe") });
        spec.limits = Limits { preview_bytes: 4096, wall: Duration::from_secs(30), ..Limits::default() };
        spec
    }

    pub fn outside(&self, words: &[&str]) -> Tried {
        self.outside_in(&[], words)
    }

    /// Outside, but started by another program, as `unshare`.
    pub fn outside_in(&self, by: &[&str], words: &[&str]) -> Tried {
        let all: Vec<&str> = by.iter().copied().chain([PROBE]).chain(words.iter().copied()).collect();
        let output = Process::new(all[0])
            .args(&all[1..])
            .current_dir(self.dir.path())
            .output()
            .expect("the probe runs outside");
        Tried {
            worked: output.status.success(),
            said: String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr),
        }
    }
}

pub fn probe(words: &[&str]) -> Command {
    Command::argv(["/opt/probe"].into_iter().chain(words.iter().copied()))
}

pub fn run(sandbox: &Sandbox, spec: &Spec) -> Outcome {
    sandbox.run(spec, &mut Discard, &Cancel::new()).expect("the job is run")
}

pub fn said(outcome: &Outcome) -> String {
    let run = outcome.runs.first().expect("a command was started");
    format!(
        "{:?} {:?}: {}{}",
        outcome.ended,
        run.exit,
        String::from_utf8_lossy(&run.stdout.preview),
        String::from_utf8_lossy(&run.stderr.preview)
    )
}

#[derive(Debug)]
pub struct Tried {
    pub worked: bool,
    pub said: String,
}

/// Works outside, and is refused inside every kind of sandbox.
#[track_caller]
pub fn refused(host: &Host, words: &[&str]) {
    refused_in(host, &[], words);
}

#[track_caller]
pub fn refused_in(host: &Host, by: &[&str], words: &[&str]) {
    let outside = host.outside_in(by, words);
    if is_root() {
        assert!(outside.worked, "{words:?} is to work outside first: {}", outside.said);
    } else if !outside.worked {
        eprintln!("{words:?} does not work outside for an ordinary user: {}", outside.said);
    }
    refused_inside(host, &host.spec(words));
}

/// Where this machine itself has no such thing, that is said, and only the inside is looked at.
#[track_caller]
pub fn refused_where_it_exists(host: &Host, words: &[&str]) {
    let outside = host.outside(words);
    if !outside.worked {
        eprintln!("{words:?} does not work outside on this machine: {}", outside.said);
    }
    refused_inside(host, &host.spec(words));
}

#[track_caller]
pub fn refused_inside(host: &Host, spec: &Spec) {
    for (kind, sandbox) in host.sandboxes() {
        for network in [Network::None, Network::Loopback] {
            let outcome = run(&sandbox, &Spec { network, ..spec.clone() });
            let said = said(&outcome);
            assert!(said.contains("Code(1): refused: "), "in {kind} sandbox, {:?}: {said}", spec.commands);
            assert!(!said.contains(SECRET), "in {kind} sandbox: {said}");
            assert!(!said.contains("no such attempt"), "{said}");
        }
    }
}

pub fn exists(path: impl AsRef<Path>) -> bool {
    path.as_ref().symlink_metadata().is_ok()
}
