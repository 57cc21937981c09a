//! Decides which repositories jobs may be made of, and how one is read: inside the sandbox, from its objects and names alone.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::ffi::OsStrExt as _,
    path::{Component, Path, PathBuf},
    process::ExitCode,
};

use gix::{bstr::ByteSlice as _, objs::tree::EntryKind};
use oa_contract::canonical::hex;
use oa_sandbox::Visible;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The hidden command that reads a repository inside a sandbox.
pub const COMMAND: &str = "sandbox-repo";
/// Where a sandbox has the repository, and this program.
pub const REPOSITORY: &str = "/opt/oa/repository";
pub const PROGRAM: &str = "/opt/oa/oa";
/// How deep a tree may be.
const DEPTH: usize = 128;

/// The repositories of one provider: directories under which a source may lie.
#[derive(Clone, Debug, Default)]
pub struct Allowed(Vec<PathBuf>);

impl Allowed {
    /// `list` holds directories, separated by commas.
    pub fn parse(list: &str) -> Result<Self, String> {
        let paths = list.split(',').map(str::trim).filter(|path| !path.is_empty());
        let all: Result<Vec<_>, _> = paths
            .map(|path| {
                fs::canonicalize(path).map_err(|error| format!("OA_PROVIDER_REPOSITORIES: {path}: {error}"))
            })
            .collect();
        all.map(Allowed)
    }

    fn allows(&self, real: &Path) -> bool {
        self.0.iter().any(|allowed| real.starts_with(allowed))
    }

    /// What a job is shown of the repository `source`: its objects and its names, not its configuration, in which
    /// credentials may stand.
    pub fn shown(&self, source: &str) -> Result<Vec<Visible>, String> {
        let lower = source.to_ascii_lowercase();
        if lower.contains("://") && !lower.starts_with("file://")
            || (source.contains('@') && source.contains(':'))
        {
            return Err("this provider fetches no repositories; it runs jobs on those of its own machine that it allows".to_owned());
        }
        let path = source.strip_prefix("file://").unwrap_or(source);
        if !Path::new(path).is_absolute() {
            return Err("repo.source must be an absolute path, or empty".to_owned());
        }
        // What does not exist and what is not allowed is told alike.
        let refused = || format!("{path} is no repository that this provider allows");
        let real = fs::canonicalize(path).map_err(|_| refused())?;
        if !self.allows(&real) {
            return Err(refused());
        }
        let (own, common) = git_dirs(&real).ok_or_else(refused)?;
        if common.join("objects/info/alternates").exists() {
            return Err(format!("{path} borrows objects of another repository, which a job cannot be shown"));
        }
        let mut shown = vec![(own.join("HEAD"), "HEAD")];
        for name in ["objects", "refs", "packed-refs", "shallow"] {
            shown.push((common.join(name), name));
        }
        shown.retain(|(host, _)| host.exists());
        // A link, or another work tree's directory, must not lead out of what is allowed either.
        let allowed =
            shown.iter().all(|(host, _)| fs::canonicalize(host).is_ok_and(|real| self.allows(&real)));
        if shown.len() < 3 || !allowed {
            return Err(refused());
        }
        let at = |name: &str| Path::new(REPOSITORY).join(name);
        Ok(shown.into_iter().map(|(host, name)| Visible { host, at: at(name) }).collect())
    }
}

/// A repository's own directory and the one that it shares with its other work trees.
fn git_dirs(path: &Path) -> Option<(PathBuf, PathBuf)> {
    let inside = path.join(".git");
    let own = if inside.is_dir() {
        inside
    } else if inside.is_file() {
        let text = fs::read_to_string(&inside).ok()?;
        path.join(text.strip_prefix("gitdir:")?.trim())
    } else {
        path.to_owned()
    };
    let common = match fs::read_to_string(own.join("commondir")) {
        Ok(text) => own.join(text.trim()),
        Err(_) => own.clone(),
    };
    let (own, common) = (fs::canonicalize(own).ok()?, fs::canonicalize(common).ok()?);
    Some((own, common)).filter(|(own, common)| own.join("HEAD").is_file() && common.join("objects").is_dir())
}

/// A commit of a repository of this machine.
pub struct Resolved {
    pub place: PathBuf,
    /// Where its objects and names lie; elsewhere for a further work tree.
    pub directories: Vec<PathBuf>,
    pub commit: String,
}

/// The repository at or above `path`, and which commit of it `name` is.
pub fn resolve(path: &Path, name: &str) -> Result<Resolved, String> {
    let real = fs::canonicalize(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let place = real.ancestors().find_map(|place| Some((place, git_dirs(place)?)));
    let (place, (own, common)) = place.ok_or_else(|| format!("{} is no git repository", real.display()))?;
    let options = gix::open::Options::isolated();
    let repository = gix::open_opts(place, options)
        .map_err(|error| format!("the repository {} cannot be read: {error}", place.display()))?;
    let unknown =
        |error: &dyn std::fmt::Display| format!("{} has no commit {name:?}: {error}", place.display());
    let object = repository.rev_parse_single(name).map_err(|error| unknown(&error))?;
    let object = object.object().map_err(|error| unknown(&error))?;
    let commit = object.peel_to_kind(gix::object::Kind::Commit).map_err(|error| unknown(&error))?;
    let commit = commit.id.to_string();
    Ok(Resolved { place: place.to_owned(), directories: vec![place.to_owned(), own, common], commit })
}

/// A line of what `index` prints.
#[derive(Debug, Serialize, Deserialize)]
pub struct Entry {
    pub path: String,
    pub sha256: String,
    pub bytes: u64,
}

/// `oa sandbox-repo checkout|index [REF]`: nothing but what a sandbox starts.
pub fn main(words: &[String]) -> ExitCode {
    let done = match words {
        [what] if what == "checkout" => checkout("HEAD", Path::new(".")),
        [what, name] if what == "checkout" => checkout(name, Path::new(".")),
        [what, name] if what == "index" => index(name, &mut io::stdout().lock()),
        _ => Err("this command is started by `oa provider`, not by hand".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let _ = writeln!(io::stderr(), "{why}");
            ExitCode::FAILURE
        }
    }
}

fn checkout(name: &str, to: &Path) -> Result<(), String> {
    let repository = open(Path::new(REPOSITORY))?;
    let mut links = Vec::new();
    walk(&repository, name, &mut |path, kind, content| {
        let target = to.join(path);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(said)?;
        }
        match kind {
            // Links come last, so that no file is written through one.
            EntryKind::Link => links.push((target, content.to_vec())),
            _ => {
                let mut file =
                    fs::OpenOptions::new().write(true).create_new(true).open(&target).map_err(said)?;
                file.write_all(content).map_err(said)?;
                let mode = if kind == EntryKind::BlobExecutable { 0o755 } else { 0o644 };
                file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode)).map_err(said)?;
            }
        }
        Ok(())
    })?;
    for (target, content) in links {
        std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(&content), target).map_err(said)?;
    }
    Ok(())
}

fn index(name: &str, out: &mut impl io::Write) -> Result<(), String> {
    let repository = open(Path::new(REPOSITORY))?;
    walk(&repository, name, &mut |path, _, content| {
        let path = path.to_str().ok_or_else(|| format!("{} is no text", path.display()))?;
        let entry = Entry {
            path: path.to_owned(),
            sha256: hex(&Sha256::digest(content)),
            bytes: content.len() as u64,
        };
        serde_json::to_writer(&mut *out, &entry).map_err(|error| error.to_string())?;
        out.write_all(b"\n").map_err(said)
    })
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn open(path: &Path) -> Result<gix::Repository, String> {
    // Isolated: no configuration of whoever runs this, no variables of the environment.
    let options = gix::open::Options::isolated().open_path_as_is(true);
    gix::open_opts(path, options).map_err(|error| format!("the repository cannot be read: {error}"))
}

type Visit<'a> = dyn FnMut(&Path, EntryKind, &[u8]) -> Result<(), String> + 'a;

/// Every file of the tree that `name` names, in the tree's own order.
fn walk(repository: &gix::Repository, name: &str, visit: &mut Visit<'_>) -> Result<(), String> {
    let unknown = |error: &dyn std::fmt::Display| format!("the repository has no {name:?}: {error}");
    let object = repository
        .rev_parse_single(name)
        .map_err(|error| unknown(&error))?
        .object()
        .map_err(|error| unknown(&error))?;
    let tree = object.peel_to_tree().map_err(|error| unknown(&error))?;
    walk_tree(&tree, Path::new(""), DEPTH, visit)
}

fn walk_tree(tree: &gix::Tree<'_>, at: &Path, depth: usize, visit: &mut Visit<'_>) -> Result<(), String> {
    if depth == 0 {
        return Err(format!("{} lies too deep", at.display()));
    }
    for entry in tree.iter() {
        let entry = entry.map_err(said)?;
        let name = entry.filename().to_path().map_err(said)?;
        // Whoever made the tree may have written anything: one plain name, and not git's own.
        let mut parts = name.components();
        let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
        if !plain || name.as_os_str().eq_ignore_ascii_case(".git") || name.as_os_str().as_bytes().contains(&0)
        {
            return Err(format!("the tree holds a name that is none: {}", entry.filename()));
        }
        let path = at.join(name);
        match entry.mode().kind() {
            EntryKind::Tree => {
                let inner = entry.object().map_err(said)?.peel_to_tree().map_err(said)?;
                walk_tree(&inner, &path, depth - 1, visit)?;
            }
            // Another repository, which is not here.
            EntryKind::Commit => {}
            kind => visit(&path, kind, &entry.object().map_err(said)?.data)?,
        }
    }
    Ok(())
}
