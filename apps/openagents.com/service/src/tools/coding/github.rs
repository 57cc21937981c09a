//! Decides how coding calls are done on GitHub, or whatever speaks its REST API. A comment carries a mark that
//! nobody sees; whoever finds it knows that it was posted, so a crash after posting posts nothing twice.

use std::time::Duration;

use oa_contract::wire::identity::Secret;
use oa_fetch::{FetchError, Fetched, Fetcher, Request};
use serde_json::{Map, Value, json};
use url::Url;

use super::{CodingExecutor, Failure, Later, Operation, Task};
use crate::tools::{config::CodingConfig, trusted};

const TIMEOUT: Duration = Duration::from_secs(15);
/// So many comments of an issue are looked through, a hundred a page.
const PAGES: u32 = 20;
/// Clocks of others may be off by so much.
const SKEW_SECONDS: i64 = 24 * 3_600;

pub struct GitHub {
    http: Result<Fetcher, String>,
    base: String,
    token: Option<Secret>,
    repositories: Vec<String>,
}

/// Owner and name, when the text is nothing else.
pub fn place(repository: &str) -> Option<(&str, &str)> {
    let (owner, name) = repository.split_once('/')?;
    let plain = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && part.len() <= 100
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    (plain(owner) && plain(name)).then_some((owner, name))
}

impl GitHub {
    pub fn new(config: &CodingConfig) -> Self {
        GitHub {
            http: trusted(TIMEOUT, oa_fetch::Trust::default()).map_err(|error| error.to_string()),
            base: config.github_base_url.clone(),
            token: config.github_token.clone(),
            repositories: config.repositories.clone(),
        }
    }

    async fn done(&self, task: &Task<'_>) -> Result<Map<String, Value>, Failure> {
        let coding = task.coding;
        let repository = coding.repository.to_lowercase();
        let owner = repository.split('/').next().unwrap_or_default();
        let listed = |one: &String| *one == repository || one.strip_suffix("/*") == Some(owner);
        if !self.repositories.is_empty() && !self.repositories.iter().any(listed) {
            return Err(refused(
                "github_repository_not_allowed",
                "this service does not work on that repository",
            ));
        }
        let issue = coding.issue_number.unwrap_or_default().to_string();
        let pull = coding.pull_number.unwrap_or_default().to_string();
        let (name, found) = match coding.operation {
            Operation::GetIssue => ("issue", about(&self.get(task, &["issues", &issue], &[]).await?.0)?),
            Operation::GetPullRequest => {
                ("pull_request", about(&self.get(task, &["pulls", &pull], &[]).await?.0)?)
            }
            Operation::AddIssueComment => ("comment", self.comment(task, &issue).await?),
        };
        Ok(Map::from_iter([(name.to_owned(), found)]))
    }

    async fn comment(&self, task: &Task<'_>, issue: &str) -> Result<Value, Failure> {
        if self.token.is_none() {
            return Err(refused("github_token_missing", "this service has no token to comment with"));
        }
        let mark = format!("<!-- oa:{} -->", task.receipt_id);
        let text = task.coding.body.as_deref().unwrap_or_default();
        let body = format!("{text}\n\n{mark}");
        let posted = match self.posted(task, issue, &mark).await? {
            Some(posted) => posted,
            None => {
                let url = self.url(task, &["issues", issue, "comments"], &[])?;
                let sent = json!({"body": body}).to_string().into_bytes();
                read(self.send("POST", url, sent).await?)?.0
            }
        };
        let id = posted.get("id").filter(|id| !id.is_null()).ok_or_else(garbage)?;
        Ok(json!({"id": id, "body": text, "url": posted.get("html_url")}))
    }

    /// The comment that an earlier attempt left behind.
    async fn posted(&self, task: &Task<'_>, issue: &str, mark: &str) -> Result<Option<Value>, Failure> {
        let since = task.first_seen.plus_seconds(-SKEW_SECONDS).zulu_seconds();
        for page in 1..=PAGES {
            let page = page.to_string();
            let query = [("per_page", "100"), ("since", since.as_str()), ("page", page.as_str())];
            let (comments, more) = self.get(task, &["issues", issue, "comments"], &query).await?;
            let comments = comments.as_array().ok_or_else(garbage)?;
            let marked = |comment: &&Value| {
                comment
                    .get("body")
                    .and_then(Value::as_str)
                    .is_some_and(|body| body.trim_end().ends_with(mark))
            };
            if let Some(found) = comments.iter().find(marked) {
                return Ok(Some(found.clone()));
            }
            if comments.is_empty() || !more {
                return Ok(None);
            }
        }
        let why = "the issue has more recent comments than are looked through, so nothing was posted";
        Err(refused("github_too_many_comments", why))
    }

    /// A document, and whether another page follows.
    async fn get(
        &self,
        task: &Task<'_>,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<(Value, bool), Failure> {
        let url = self.url(task, path, query)?;
        read(self.send("GET", url, Vec::new()).await?)
    }

    fn url(&self, task: &Task<'_>, path: &[&str], query: &[(&str, &str)]) -> Result<Url, Failure> {
        let wrong = || refused("github_misconfigured", "OA_GITHUB_API_BASE_URL cannot be used");
        let (owner, name) = place(&task.coding.repository).ok_or_else(wrong)?;
        let mut url = Url::parse(&self.base).map_err(|_| wrong())?;
        url.path_segments_mut()
            .map_err(|()| wrong())?
            .pop_if_empty()
            .extend(["repos", owner, name])
            .extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    async fn send(&self, method: &str, url: Url, body: Vec<u8>) -> Result<Fetched, Failure> {
        let http = self.http.as_ref().map_err(|why| later("github_unavailable", why.clone()))?;
        let mut headers = vec![
            ("accept".to_owned(), "application/vnd.github+json".to_owned()),
            ("user-agent".to_owned(), "oa".to_owned()),
            ("x-github-api-version".to_owned(), "2022-11-28".to_owned()),
        ];
        if !body.is_empty() {
            headers.push(("content-type".into(), "application/json".into()));
        }
        if let Some(token) = &self.token {
            headers.push(("authorization".into(), format!("Bearer {}", token.reveal())));
        }
        let request = Request { method: method.into(), url: url.into(), headers, body, timeout: None };
        http.send(request).await.map_err(|error| match error {
            FetchError::Forbidden(_) => {
                refused("github_misconfigured", "OA_GITHUB_API_BASE_URL cannot be used")
            }
            FetchError::Unsent(_) => later("github_unreachable", "GitHub could not be reached"),
            FetchError::Failed(_) => later(
                "github_unreachable",
                "GitHub did not answer; whether anything was done is found out when this is asked again",
            ),
        })
    }
}

impl CodingExecutor for GitHub {
    fn execute<'a>(&'a self, task: Task<'a>) -> Later<'a, Result<Map<String, Value>, Failure>> {
        Box::pin(async move { self.done(&task).await })
    }

    fn ages(&self) -> bool {
        true
    }
}

fn refused(reason_code: &'static str, message: impl Into<String>) -> Failure {
    Failure { reason_code, message: message.into(), retryable: false }
}

fn later(reason_code: &'static str, message: impl Into<String>) -> Failure {
    Failure { reason_code, message: message.into(), retryable: true }
}

fn garbage() -> Failure {
    later("github_garbled", "GitHub answered something that cannot be read")
}

/// What an issue or a pull request is, in our words.
fn about(found: &Value) -> Result<Value, Failure> {
    let number = found.get("number").filter(|number| number.is_u64()).ok_or_else(garbage)?;
    Ok(
        json!({"number": number, "title": found.get("title"), "url": found.get("html_url"), "state": found.get("state")}),
    )
}

/// The document of a good answer; what any other answer means.
fn read(fetched: Fetched) -> Result<(Value, bool), Failure> {
    let limited =
        fetched.header("x-ratelimit-remaining") == Some("0") || fetched.header("retry-after").is_some();
    match fetched.status {
        200..=299 => {
            let more = fetched.header("link").is_some_and(|link| link.contains("rel=\"next\""));
            Ok((serde_json::from_slice(&fetched.body).map_err(|_| garbage())?, more))
        }
        429 => Err(later("github_rate_limited", "GitHub asks to slow down")),
        403 if limited => Err(later("github_rate_limited", "GitHub asks to slow down")),
        300..=399 => Err(refused("github_moved", "the repository has moved to another name")),
        401 => Err(refused("github_unauthorized", "GitHub does not accept the token of this service")),
        403 => Err(refused("github_forbidden", "the token of this service may not do that")),
        404 => Err(refused("github_not_found", "GitHub knows no such repository, issue or pull request")),
        410 => Err(refused("github_gone", "GitHub says that this was removed")),
        422 => Err(refused("github_rejected", "GitHub does not accept what was sent")),
        500..=599 => Err(later("github_unavailable", format!("GitHub answered {}", fetched.status))),
        other => Err(refused("github_refused", format!("GitHub answered {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_an_owner_and_a_name_and_nothing_else() {
        assert_eq!(place("acme/widgets.rs"), Some(("acme", "widgets.rs")));
        for bad in ["acme", "acme/../x", "acme/..", "./x", "a/b/c", "a/b?c", "a/b#c", "a/%2e%2e", "a /b", "/"]
        {
            assert_eq!(place(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_answer_has_its_reason_and_only_some_are_worth_another_try() {
        let answer = |status, headers: &[(&str, &str)], body: &str| Fetched {
            status,
            headers: headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            body: body.into(),
        };
        for (fetched, reason, retryable) in [
            (answer(404, &[], ""), "github_not_found", false),
            (answer(401, &[], ""), "github_unauthorized", false),
            (answer(403, &[], ""), "github_forbidden", false),
            (answer(403, &[("x-ratelimit-remaining", "0")], ""), "github_rate_limited", true),
            (answer(403, &[("retry-after", "60")], ""), "github_rate_limited", true),
            (answer(429, &[], ""), "github_rate_limited", true),
            (answer(422, &[], "{}"), "github_rejected", false),
            (answer(301, &[], ""), "github_moved", false),
            (answer(410, &[], ""), "github_gone", false),
            (answer(502, &[], "<html>"), "github_unavailable", true),
            (answer(200, &[], "<html>"), "github_garbled", true),
        ] {
            let failure = read(fetched).expect_err(reason);
            assert_eq!((failure.reason_code, failure.retryable), (reason, retryable));
        }
        assert!(read(answer(200, &[("link", "<u>; rel=\"next\"")], "[]")).expect("a page").1);
    }
}
