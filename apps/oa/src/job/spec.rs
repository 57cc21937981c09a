//! Decides what a command line becomes as a job: which commit, which words, and what it may use.

use std::path::{Path, PathBuf};

use oa_contract::wire::jobs::{Repo, Resources, Sandbox, SandboxCommand, SandboxRunRequest, Verification};

use super::Order;
use crate::{failure::Failure, provider::repo};

/// What a job may be, as the market admits it.
const LONGEST_COMMAND: usize = 4_096;
/// Nothing is pulled: a provider of this kind shows its own tools, and says so in its answer.
const NO_IMAGE: &str = "";

/// A job, and what is told of it.
pub struct Spec {
    pub request: SandboxRunRequest,
    /// Where the repository lies, if it is one of this machine.
    pub repository: Option<Vec<PathBuf>>,
    pub line: String,
}

pub fn spec(order: &Order) -> Result<Spec, Failure> {
    let line = line(&order.command)?;
    let (source, repository, commit) = source(order)?;
    let mut env: std::collections::BTreeMap<String, String> = order.env.iter().cloned().collect();
    if !order.artifacts.is_empty() {
        env.insert("OA_ARTIFACTS".into(), order.artifacts.join(":"));
    }
    let request = SandboxRunRequest {
        sandbox: Sandbox {
            provider: (if order.builtin { "oa" } else { "docker" }).into(),
            image_digest: NO_IMAGE.into(),
            network_policy: oa_contract::wire::jobs::NetworkPolicy::None,
            resources: Resources {
                memory_mb: order.memory_mb,
                cpus: order.cpus,
                timeout_secs: order.timeout_secs,
                disk_mb: order.disk_mb,
            },
        },
        repo: Repo { source, git_ref: Some(commit), ..Repo::default() },
        commands: vec![SandboxCommand { cmd: line.clone(), workdir: None, continue_on_fail: false }],
        env,
        verification: Verification::default(),
    };
    Ok(Spec { request, repository, line })
}

/// A directory is pinned to the commit that the name means now: the job's hash names what was run.
fn source(order: &Order) -> Result<(String, Option<Vec<PathBuf>>, String), Failure> {
    if order.repo.contains("://") && !order.repo.starts_with("file://") {
        return Ok((order.repo.clone(), None, order.git_ref.clone()));
    }
    let path = order.repo.strip_prefix("file://").unwrap_or(&order.repo);
    let resolved = repo::resolve(Path::new(path), &order.git_ref).map_err(|why| {
        Failure::usage(format!(
            "{why}. --repo names a git repository with at least one commit, --git-ref what of it"
        ))
    })?;
    let place = &resolved.place;
    let source = place.to_str().ok_or_else(|| Failure::usage(format!("{} is no text", place.display())))?;
    Ok((source.to_owned(), Some(resolved.directories), resolved.commit))
}

/// The command as a shell reads it.
fn line(words: &[String]) -> Result<String, Failure> {
    let line = words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
    match line.len() > LONGEST_COMMAND {
        true => Err(Failure::usage(format!(
            "the command has {} bytes, and a job's at most {LONGEST_COMMAND}: put it into a script in the repository",
            line.len()
        ))),
        false => Ok(line),
    }
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./=:,+@%".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// `NAME=VALUE`.
pub fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("it is written NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_command_as_they_were_given() {
        let line = |words: &[&str]| {
            line(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).expect("a line")
        };
        assert_eq!(line(&["cargo", "test", "-p", "x"]), "cargo test -p x");
        assert_eq!(line(&["sh", "-c", "echo hi; cat file"]), "sh -c 'echo hi; cat file'");
        assert_eq!(line(&["echo", "it's", "", "$HOME"]), r"echo 'it'\''s' '' '$HOME'");
    }

    #[test]
    fn a_variable_has_a_name() {
        assert_eq!(variable("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert!(variable("=x").is_err() && variable("A").is_err());
    }
}
