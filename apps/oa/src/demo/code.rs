//! Decides what the coding job is about: a small repository that the demonstration makes itself, with a check that fails,
//! a patch of an agent that does not mend it, and one that does. Its commands need nothing but a shell.

use std::{collections::BTreeMap, path::PathBuf};

use gix::{
    ObjectId, actor::SignatureRef, bstr::BString, create, objs::Tree, objs::tree::Entry,
    objs::tree::EntryKind,
};
use oa_contract::wire::jobs::{
    NetworkPolicy, Repo, Resources, Sandbox, SandboxCommand, SandboxRunRequest, Verification,
};

use super::book::Book;
use crate::{data_dir::DataDir, failure::Failure};

/// When everything was committed, so that the commits have the same names everywhere.
const MOMENT: &str = "1790000000 +0000";
const PERSON: (&str, &str) = ("A person", "person@example.com");
const AGENT: (&str, &str) = ("An agent", "agent@example.com");

/// What the job runs.
const COMMANDS: [&str; 2] = ["sh -n median.sh", "sh check.sh"];

const CHECK: &str = r#"# One line a case; the exit code says whether all of them passed.
failed=0
check() {
    what=$1 wanted=$2
    shift 2
    got=$(printf '%s\n' "$@" | sh median.sh)
    if [ "$got" = "$wanted" ]; then
        echo "ok      $what"
    else
        echo "not ok  $what: $wanted is wanted, not $got"
        failed=1
    fi
}
check "one digit each" 5  9 1 5
check "several digits" 10  9 10 100
check "an even count" 4  9 1 5 3
exit $failed
"#;

const BROKEN: &str = r#"# The median of numbers, one a line.
sort | {
    set -- $(cat)
    shift $(($# / 2))
    echo "$1"
}
"#;

const BETTER: &str = r#"# The median of numbers, one a line.
sort -n | {
    set -- $(cat)
    shift $(($# / 2))
    echo "$1"
}
"#;

const MENDED: &str = r#"# The median of numbers, one a line; of an even count, the mean of the two in the middle.
sort -n | {
    set -- $(cat)
    odd=$(($# % 2))
    shift $((($# - 1) / 2))
    [ $odd -eq 1 ] && echo "$1" || echo $((($1 + $2) / 2))
}
"#;

/// A commit, and how it is shown.
pub struct Commit {
    pub id: String,
    pub by: &'static str,
    pub says: &'static str,
}

impl Commit {
    pub fn told(&self, book: &Book) -> Result<(), Failure> {
        let id = self.id.get(..8).unwrap_or_default();
        book.indented(&format!("{id}  {}: {}", self.by, self.says))
    }
}

/// The repository.
pub struct Code {
    pub place: PathBuf,
    pub first: Commit,
    /// Of the agent: it mends one of two faults.
    pub better: Commit,
    /// Of the agent: it mends both.
    pub mended: Commit,
}

impl Code {
    /// Without git: it may not be there.
    pub fn make(data: &DataDir) -> Result<Self, Failure> {
        let place = data.path().join("code.git");
        let repository = gix::ThreadSafeRepository::init_opts(
            &place,
            create::Kind::Bare,
            create::Options::default(),
            gix::open::Options::isolated(),
        );
        let repository = repository.map_err(|error| failed(&error))?.to_thread_local();
        let commit = |median: &str, parent: Option<&Commit>, (by, email), says| {
            let id = commit(&repository, median, parent, (by, email), says)?;
            Ok::<_, Failure>(Commit { id: id.to_string(), by, says })
        };
        let first = commit(BROKEN, None, PERSON, "The median of some numbers, with a check that fails")?;
        let better = commit(BETTER, Some(&first), AGENT, "Sort numbers as numbers. The check passes now")?;
        let mended = commit(MENDED, Some(&better), AGENT, "An even count has two numbers in the middle")?;
        Ok(Code { place, first, better, mended })
    }

    /// The check, at a commit.
    pub fn check(&self, at: &Commit) -> Result<SandboxRunRequest, Failure> {
        let source = self.place.to_str();
        let source = source.ok_or_else(|| Failure::usage(format!("{} is no text", self.place.display())))?;
        let command =
            |cmd: &str| SandboxCommand { cmd: cmd.to_owned(), workdir: None, continue_on_fail: false };
        Ok(SandboxRunRequest {
            sandbox: Sandbox {
                provider: "docker".into(),
                image_digest: String::new(),
                network_policy: NetworkPolicy::None,
                resources: Resources { timeout_secs: 30, memory_mb: 128, ..Resources::default() },
            },
            repo: Repo { source: source.to_owned(), git_ref: Some(at.id.clone()), ..Repo::default() },
            commands: COMMANDS.map(command).to_vec(),
            env: BTreeMap::default(),
            verification: Verification::default(),
        })
    }
}

fn failed(error: &dyn std::fmt::Display) -> Failure {
    Failure::wrong(format!("the repository of the demonstration cannot be made: {error}"))
}

fn commit(
    repository: &gix::Repository,
    median: &str,
    parent: Option<&Commit>,
    (name, email): (&'static str, &'static str),
    says: &str,
) -> Result<ObjectId, Failure> {
    let entry = |filename: &str, text: &str| {
        let oid = repository.write_blob(text).map_err(|error| failed(&error))?.detach();
        Ok::<_, Failure>(Entry { mode: EntryKind::Blob.into(), filename: BString::from(filename), oid })
    };
    // In the order of their names, as a tree has to be.
    let tree = Tree { entries: vec![entry("check.sh", CHECK)?, entry("median.sh", median)?] };
    let tree = repository.write_object(&tree).map_err(|error| failed(&error))?.detach();
    let parent = parent.map(|parent| ObjectId::from_hex(parent.id.as_bytes())).transpose();
    let parent = parent.map_err(|error| failed(&error))?;
    let by = SignatureRef { name: name.into(), email: email.into(), time: MOMENT };
    let made = repository.commit_as(by, by, "HEAD", says, tree, parent);
    Ok(made.map_err(|error| failed(&error))?.detach())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{data_dir::tests::scratch, provider::repo};

    #[test]
    fn the_repository_has_its_three_commits_under_the_same_names_everywhere() {
        let (one, other) = (scratch(), scratch());
        let code = Code::make(&DataDir::at(one.path())).expect("made");
        let again = Code::make(&DataDir::at(other.path())).expect("made");
        assert_eq!(code.mended.id, again.mended.id);
        let head = repo::resolve(&code.place, "HEAD").expect("a commit");
        assert_eq!(head.commit, code.mended.id);
        for (name, commit) in [("HEAD~1", &code.better), ("HEAD~2", &code.first)] {
            assert_eq!(repo::resolve(&code.place, name).expect("a commit").commit, commit.id);
        }
        let request = code.check(&code.better).expect("a job");
        assert_eq!(request.repo.git_ref, Some(code.better.id));
    }
}
