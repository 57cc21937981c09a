//! `coding.v1`: made up by default, done on a simulated GitHub when that is configured.

use oa_testkit::{
    World, WorldOptions, both_engines,
    simulated::{GitHubMood as Mood, SimulatedGitHub},
};
use serde_json::{Value, json};

use super::{execute, words};

fn call(operation: &str, more: Value) -> Value {
    let mut request =
        json!({"integration_id": "github.primary", "operation": operation, "repository": "acme/widgets"});
    for (name, value) in more.as_object().unwrap() {
        request[name] = value.clone();
    }
    json!({"tool_pack": "coding.v1", "manifest_ref": {"integration_id": "github.primary"}, "request": request})
}

fn comment(tool_call_id: &str) -> Value {
    call("add_issue_comment", json!({"issue_number": 42, "body": "Fixed.", "tool_call_id": tool_call_id}))
}

async fn with(github: &SimulatedGitHub) -> World {
    World::with(WorldOptions { control: github.variables(), ..WorldOptions::default() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_executor_answers_are_made_up_and_say_so() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let user = world.sign_in("dev@example.com").await;
        let first = execute(&user, &call("get_issue", json!({"issue_number": 42}))).await;
        assert_eq!(words(&first), ("succeeded", "allowed", "policy_allowed.default"));
        assert_eq!(
            (&first["result"]["simulated"], &first["idempotentReplay"]),
            (&json!(true), &json!(false))
        );
        assert!(first.get("error").is_none() && first["receipt"]["first_seen"].is_string());
        let again = execute(&user, &call("get_issue", json!({"issue_number": 42}))).await;
        assert_eq!(again["idempotentReplay"], true);
        assert_eq!(again["receipt"], first["receipt"]);
        let other = world.sign_in("other@example.com").await;
        let theirs = execute(&other, &call("get_issue", json!({"issue_number": 42}))).await;
        assert_eq!(theirs["idempotentReplay"], false, "another principal's call is another call");
        let world = world.restart().await;
        let user = world.sign_in("dev@example.com").await;
        let kept = execute(&user, &call("get_issue", json!({"issue_number": 42}))).await;
        assert_eq!(kept["idempotentReplay"], true, "a restart forgets nothing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn issues_and_pull_requests_are_read_where_they_are() {
    let github = SimulatedGitHub::start().await;
    let world = with(&github).await;
    let user = world.sign_in("dev@example.com").await;
    let issue = execute(&user, &call("get_issue", json!({"issue_number": 42}))).await;
    assert_eq!(
        issue["result"]["issue"],
        json!({"number": 42, "title": "It leaks", "url": "https://github.com/acme/widgets/issues/42", "state": "open"})
    );
    assert!(issue["result"].get("simulated").is_none());
    let pull = execute(&user, &call("get_pull_request", json!({"pull_number": 7}))).await;
    assert_eq!(pull["result"]["pull_request"]["title"], "Mend it");
    let odd = call("get_issue", json!({"issue_number": 42, "repository": "acme/../secrets"}));
    assert_eq!(user.post(super::EXECUTE, &odd).await.status, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comment_is_posted_once_even_when_the_answer_was_lost() {
    let github = SimulatedGitHub::start().await;
    let world = with(&github).await;
    let user = world.sign_in("dev@example.com").await;
    github.chatter(4);
    github.become_(Mood::PostsAndCuts);
    let lost = execute(&user, &comment("c1")).await;
    assert_eq!(words(&lost), ("failed", "failed", "github_unreachable"));
    github.chatter(5);
    github.become_(Mood::Good);
    let found = execute(&user, &comment("c1")).await;
    assert_eq!(words(&found), ("succeeded", "allowed", "policy_allowed.default"));
    assert_eq!(found["result"]["comment"]["body"], "Fixed.");
    let again = execute(&user, &comment("c1")).await;
    assert_eq!(again["idempotentReplay"], true);
    let receipt_id = found["receipt"]["receipt_id"].as_str().unwrap();
    let marked = |comment: &&Value| comment["body"].as_str().unwrap().contains(receipt_id);
    assert_eq!(github.comments().iter().filter(marked).count(), 1);
    execute(&user, &comment("c2")).await;
    assert_eq!(github.comments().len(), 11, "another call is another comment");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_github_refuses_is_told_as_it_is_and_only_what_may_pass_is_tried_again() {
    let github = SimulatedGitHub::start().await;
    let world = with(&github).await;
    let user = world.sign_in("dev@example.com").await;
    let cases = [
        (Mood::Status(404, None), "github_not_found", false),
        (Mood::Status(401, None), "github_unauthorized", false),
        (Mood::Status(422, None), "github_rejected", false),
        (Mood::Status(403, Some(("x-ratelimit-remaining", "0"))), "github_rate_limited", true),
        (Mood::Status(500, None), "github_unavailable", true),
        (Mood::Garbage, "github_garbled", true),
    ];
    for (n, (mood, reason, retryable)) in cases.into_iter().enumerate() {
        let body = call("get_issue", json!({"issue_number": 42, "tool_call_id": format!("t{n}")}));
        github.become_(mood);
        let failed = execute(&user, &body).await;
        assert_eq!(words(&failed), ("failed", "failed", reason));
        assert_eq!(
            (&failed["error"]["code"], &failed["result"]["retryable"]),
            (&json!(reason), &json!(retryable))
        );
        github.become_(Mood::Good);
        let again = execute(&user, &body).await;
        assert_eq!(again["idempotentReplay"], !retryable, "{reason}");
        assert_eq!(again["state"] == "succeeded", retryable, "{reason}");
    }
    github.down();
    let body = call("get_issue", json!({"issue_number": 42, "tool_call_id": "down"}));
    assert_eq!(execute(&user, &body).await["reason_code"], "github_unreachable");
    github.up().await;
    assert_eq!(execute(&user, &body).await["state"], "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_two_comments_of_one_call_are_one() {
    let github = SimulatedGitHub::start().await;
    let world = with(&github).await;
    let user = world.sign_in("dev@example.com").await;
    let answered = super::all_at_once(&user, vec![comment("c"); 32]).await;
    let fresh = answered.iter().filter(|one| one.json()["data"]["idempotentReplay"] == false).count();
    assert_eq!((fresh, github.comments().len()), (1, 1));
}
