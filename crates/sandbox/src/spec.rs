//! Decides what a job is: commands, what it sees, what it may use.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{Layers, Refused, cgroup::Groups, plan::Plan};

/// One job: its commands run one after another in the same private place.
#[derive(Clone, Debug)]
pub struct Spec {
    pub commands: Vec<Command>,
    /// All that the commands find in their environment.
    pub env: BTreeMap<String, String>,
    pub work: Work,
    /// What is seen of the host, read-only. Nothing else is.
    pub visible: Vec<Visible>,
    pub limits: Limits,
    pub network: Network,
    /// Files and directories, relative to the working directory, whose regular files are kept as artifacts.
    pub artifacts: Vec<PathBuf>,
    /// The job is refused where the host lacks one of these.
    pub minimum: Layers,
}

impl Spec {
    /// These commands, in an empty working directory, seeing nothing of the host, with every layer demanded that
    /// needs no set-up by an administrator.
    #[must_use]
    pub fn new(commands: Vec<Command>) -> Self {
        Self {
            commands,
            env: BTreeMap::new(),
            work: Work::default(),
            visible: Vec::new(),
            limits: Limits::default(),
            network: Network::None,
            artifacts: Vec::new(),
            minimum: Layers::standard(),
        }
    }

    /// Shows what a shell and its tools need: `/usr` and the names that point into it, the dynamic loader's cache,
    /// certificates and a few names of `/etc` that hold no secrets.
    #[must_use]
    pub fn system_paths(mut self) -> Self {
        self.visible.extend(system_paths());
        self.env
            .entry("PATH".to_owned())
            .or_insert_with(|| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
        self
    }

    /// Shows a path of the host under its own name.
    #[must_use]
    pub fn show(mut self, path: impl AsRef<Path>) -> Self {
        self.visible.push(Visible::same(path));
        self
    }

    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }
}

/// See [`Spec::system_paths`]; those of them that this host has.
#[must_use]
pub fn system_paths() -> Vec<Visible> {
    [
        "/usr",
        "/bin",
        "/sbin",
        "/lib",
        "/lib32",
        "/lib64",
        "/libx32",
        "/etc/alternatives",
        "/etc/ld.so.cache",
        "/etc/ld.so.conf",
        "/etc/ld.so.conf.d",
        "/etc/localtime",
        "/etc/ssl/certs",
    ]
    .into_iter()
    .filter(|path| Path::new(path).exists())
    .map(Visible::same)
    .collect()
}

/// One command of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    pub program: Program,
    /// Relative to the working directory, and inside it.
    pub workdir: Option<PathBuf>,
    /// Whether the job goes on when this command fails.
    pub continue_on_fail: bool,
    /// How long it may take; the job's own bound holds as well.
    pub wall: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Program {
    /// A program, looked for in the job's `PATH`, and its arguments.
    Argv(Vec<String>),
    /// A line for `sh -c`.
    Shell(String),
}

impl Command {
    #[must_use]
    pub fn shell(line: impl Into<String>) -> Self {
        Self { program: Program::Shell(line.into()), workdir: None, continue_on_fail: false, wall: None }
    }

    #[must_use]
    pub fn argv<T: Into<String>>(words: impl IntoIterator<Item = T>) -> Self {
        let words = words.into_iter().map(Into::into).collect();
        Self { program: Program::Argv(words), workdir: None, continue_on_fail: false, wall: None }
    }
}

/// The private writable directory that commands start in.
#[derive(Clone, Debug)]
pub struct Work {
    /// Whose content it starts with. It is copied: the job never holds the original.
    pub from: Option<PathBuf>,
    /// Where the job finds it.
    pub at: PathBuf,
}

impl Default for Work {
    fn default() -> Self {
        Self { from: None, at: PathBuf::from("/workspace") }
    }
}

/// Something of the host that a job may read and execute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visible {
    pub host: PathBuf,
    pub at: PathBuf,
}

impl Visible {
    #[must_use]
    pub fn same(path: impl AsRef<Path>) -> Self {
        Self { host: path.as_ref().to_owned(), at: path.as_ref().to_owned() }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// Nothing, not even a loopback.
    #[default]
    None,
    /// A loopback of the job's own, which reaches nobody else.
    Loopback,
}

/// What a job may use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// All commands together.
    pub wall: Duration,
    pub memory_bytes: u64,
    /// Processes and threads at one time.
    pub processes: u64,
    /// How many processors' worth of time it gets.
    pub cpus: f64,
    /// Everything that it writes, in its working directory, `/tmp`, `/dev/shm` and its home together.
    pub disk_bytes: u64,
    pub files: u64,
    /// Of each stream of each command.
    pub output_bytes: u64,
    /// How much of the beginning of each stream is kept.
    pub preview_bytes: usize,
    pub artifacts: usize,
    pub artifact_bytes: u64,
    pub open_files: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            wall: Duration::from_secs(60),
            memory_bytes: 512 << 20,
            processes: 256,
            cpus: 1.0,
            disk_bytes: 256 << 20,
            files: 100_000,
            output_bytes: 16 << 20,
            preview_bytes: 240,
            artifacts: 128,
            artifact_bytes: 64 << 20,
            open_files: 1024,
        }
    }
}

/// Where the job's own directories are; nothing of the host can be shown there.
pub(crate) const OWN: [&str; 5] = ["/tmp", "/dev", "/proc", "/home/job", "/.area"];

impl Spec {
    /// Whether it makes sense.
    pub(crate) fn check(&self) -> Result<(), Refused> {
        let no = |what: String| Err(Refused::Spec(what));
        if !self.minimum.beyond(&Layers::all()).is_empty() || !Layers::core().beyond(&self.minimum).is_empty()
        {
            let missing = Layers::core().beyond(&self.minimum);
            return no(format!("nothing is run without {missing}"));
        }
        for (name, value) in &self.env {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return no(format!("{name:?} cannot stand in an environment"));
            }
        }
        for path in self.visible.iter().flat_map(|shown| [&shown.host, &shown.at]).chain([&self.work.at]) {
            if !is_plain(path) || !path.is_absolute() {
                return no(format!("{} is not a plain absolute path", path.display()));
            }
        }
        for path in self.visible.iter().map(|shown| &shown.at).chain([&self.work.at]) {
            if path == Path::new("/") || OWN.iter().any(|own| path.starts_with(own)) {
                return no(format!("{} is not free in a sandbox", path.display()));
            }
        }
        for shown in &self.visible {
            if shown.at.starts_with(&self.work.at) || self.work.at.starts_with(&shown.at) {
                return no(format!("{} lies in the way of the working directory", shown.at.display()));
            }
        }
        for path in self.artifacts.iter().chain(self.commands.iter().filter_map(|one| one.workdir.as_ref())) {
            if path.is_absolute() || (!is_plain(path) && !path.as_os_str().is_empty()) {
                return no(format!("{} does not lie in the working directory", path.display()));
            }
        }
        for command in &self.commands {
            let words: Vec<&str> = match &command.program {
                Program::Shell(line) => vec![line],
                Program::Argv(words) => words.iter().map(String::as_str).collect(),
            };
            if words.first().is_none_or(|word| word.is_empty())
                || words.iter().any(|word| word.contains('\0'))
            {
                return no("a command is empty, or holds a zero byte".to_owned());
            }
        }
        if !(self.limits.cpus.is_finite() && self.limits.cpus > 0.0) {
            return no("a job needs some processor time".to_owned());
        }
        if self.limits.disk_bytes < 64 << 10 || self.limits.files < 16 || self.limits.memory_bytes < 4 << 20 {
            return no("the limits leave no room for anything".to_owned());
        }
        Ok(())
    }

    pub(crate) fn plan(&self, groups: &Groups) -> Plan {
        Plan {
            commands: self.commands.clone(),
            env: self.env.clone(),
            work_from: self.work.from.clone(),
            work_at: self.work.at.clone(),
            visible: self.visible.iter().map(|shown| (shown.host.clone(), shown.at.clone())).collect(),
            limits: self.limits.clone(),
            network: self.network,
            minimum: self.minimum.clone(),
            cgroup_dirs: groups.dirs(),
            cgroups: groups.layers().clone(),
        }
    }
}

/// No `..`, no `.` in the middle, no zero byte.
fn is_plain(path: &Path) -> bool {
    !path.as_os_str().is_empty()
        && !path.as_os_str().as_encoded_bytes().contains(&0)
        && path
            .components()
            .all(|part| matches!(part, std::path::Component::RootDir | std::path::Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(spec: &Spec) -> bool {
        matches!(spec.check(), Err(Refused::Spec(_)))
    }

    #[test]
    fn a_job_that_leads_out_of_its_place_is_refused_before_anything_is_made() {
        let fine = Spec::new(vec![Command::shell("true")]).system_paths();
        assert!(fine.check().is_ok());
        for path in ["/", "/proc", "/dev/shm", "/tmp/x", "usr", "/usr/../etc", "/workspace", "/workspace/x"] {
            assert!(refused(&fine.clone().show(path)), "{path}");
        }
        for path in ["/etc", "..", "a/../../b"] {
            let artifacts = vec![PathBuf::from(path)];
            assert!(refused(&Spec { artifacts, ..fine.clone() }), "{path}");
            let mut command = Command::shell("true");
            command.workdir = Some(PathBuf::from(path));
            assert!(refused(&Spec { commands: vec![command], ..fine.clone() }), "{path}");
        }
        assert!(refused(&fine.clone().env("A=B", "c")));
        assert!(refused(&Spec { minimum: Layers::default(), ..fine.clone() }));
        assert!(refused(&Spec { commands: vec![Command::argv::<String>([])], ..fine }));
    }
}
