//! Decides what a coding call answers where nobody executes it: what it would look like, marked as simulated.

use serde_json::{Map, Value, json};

use super::{CodingExecutor, Failure, Later, Operation, Task};

pub struct Synthetic;

impl CodingExecutor for Synthetic {
    fn execute<'a>(&'a self, task: Task<'a>) -> Later<'a, Result<Map<String, Value>, Failure>> {
        Box::pin(async move { Ok(made_up(&task)) })
    }

    fn ages(&self) -> bool {
        false
    }
}

fn made_up(task: &Task<'_>) -> Map<String, Value> {
    let (coding, hash) = (task.coding, task.hash);
    let issue = coding.issue_number.unwrap_or_default();
    let pull = coding.pull_number.unwrap_or_default();
    let home = format!("https://github.com/{}", coding.repository);
    let (name, made) = match coding.operation {
        Operation::GetIssue => (
            "issue",
            json!({"number": issue, "title": format!("Issue #{issue}"), "url": format!("{home}/issues/{issue}")}),
        ),
        Operation::GetPullRequest => (
            "pull_request",
            json!({"number": pull, "title": format!("Pull request #{pull}"), "url": format!("{home}/pull/{pull}")}),
        ),
        Operation::AddIssueComment => (
            "comment",
            json!({"id": format!("comment_{}", &hash[..16]), "body": coding.body,
                "url": format!("{home}/issues/{issue}#issuecomment-{}", &hash[..12])}),
        ),
    };
    let mut made_up = Map::new();
    made_up.insert(name.into(), made);
    made_up.insert("simulated".into(), true.into());
    made_up
}
