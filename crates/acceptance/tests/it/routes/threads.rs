//! The three `/api/runtime/threads` rows (control §13).

use oa_testkit::{Http, World, both_engines};
use serde_json::{Value, json};

fn messages(thread_id: &str) -> String {
    format!("/api/runtime/threads/{thread_id}/messages")
}

async fn say(http: &Http, thread_id: &str, text: &str) -> Value {
    let answered = http.post(&messages(thread_id), &json!({"text": text})).await;
    assert_eq!(answered.status, 200, "{}", answered.text());
    answered.json()["data"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_opens_its_thread_and_both_survive_a_restart() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let user = world.sign_in("dev@example.com").await;
        assert_eq!(user.get("/api/runtime/threads").await.json(), json!({"data": {"threads": []}}));
        let said = say(&user, "thread-42", "  Who are you? ").await;
        let (thread, message) = (&said["thread"], &said["message"]);
        let user_id = thread["user_id"].as_str().unwrap().to_owned();
        assert_eq!(said["accepted"], true);
        assert_eq!(thread["org_id"], format!("user:{user_id}"));
        assert_eq!(
            (&thread["message_count"], &thread["last_message_at"]),
            (&json!(1), &thread["updated_at"])
        );
        assert_eq!((&message["text"], &message["role"]), (&json!("Who are you?"), &json!("user")));
        assert!(message["id"].as_str().unwrap().starts_with("msg_"));
        let accepted_at = message["accepted_at"].as_str().unwrap();
        assert_eq!((accepted_at.len(), accepted_at.ends_with('Z')), (24, true), "{accepted_at}");
        say(&user, "other", "x").await;
        say(&user, "thread-42", "And again?").await;
        let world = world.restart().await;
        let user = world.control_http.with_bearer(user.bearer.as_deref().unwrap());
        let listed = user.get("/api/runtime/threads").await.json();
        let ids: Vec<_> =
            listed["data"]["threads"].as_array().unwrap().iter().map(|one| &one["thread_id"]).collect();
        assert_eq!(ids, ["thread-42", "other"], "{engine:?}");
        assert_eq!(listed["data"]["threads"][0]["message_count"], 2);
        let read = user.get(&messages("thread-42")).await.json();
        assert_eq!(read["data"]["thread_id"], "thread-42");
        let texts: Vec<_> =
            read["data"]["messages"].as_array().unwrap().iter().map(|one| &one["text"]).collect();
        assert_eq!(texts, ["Who are you?", "And again?"]);
        assert_eq!(read["data"]["messages"][0]["message_id"], message["id"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_users_thread_is_403_and_an_unknown_one_404() {
    let world = World::new().await;
    let (user, other) = (world.sign_in("dev@example.com").await, world.sign_in("other@example.com").await);
    say(&user, "mine", "hello").await;
    for answered in
        [other.get(&messages("mine")).await, other.post(&messages("mine"), &json!({"text": "x"})).await]
    {
        assert_eq!(answered.status, 403, "{}", answered.text());
        assert_eq!(answered.json()["error"]["message"], "Requested thread is not available.");
    }
    let unknown = user.get(&messages("nothing")).await;
    assert_eq!((unknown.status, &unknown.json()["error"]["message"]), (404, &json!("Thread not found.")));
    assert_eq!(other.get("/api/runtime/threads").await.json()["data"]["threads"], json!([]));
    assert_eq!(user.get(&messages("mine")).await.json()["data"]["messages"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_without_words_or_with_too_many_is_refused_and_changes_nothing() {
    let world = World::new().await;
    let user = world.sign_in("dev@example.com").await;
    for body in
        [json!({}), json!({"text": null}), json!({"text": " \n"}), json!({"text": "x".repeat(20_001)})]
    {
        let refused = user.post(&messages("t"), &body).await;
        assert_eq!(refused.status, 422, "{}", refused.text());
        assert!(refused.json()["errors"]["text"].is_array());
    }
    let blank = user.post(&messages("%20"), &json!({"text": "x"})).await;
    assert_eq!((blank.status, blank.json()["errors"]["thread_id"].is_array()), (422, true));
    assert_eq!(user.get("/api/runtime/threads").await.json()["data"]["threads"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_message_under_a_key_is_taken_once_however_often_it_is_sent() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let user = world.sign_in("dev@example.com").await;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let user = user.clone();
            tasks.spawn(async move {
                user.post_with(&messages("t"), &json!({"text": "once"}), &[("idempotency-key", "k1")]).await
            });
        }
        let answers: Vec<_> = tasks.join_all().await;
        assert!(answers.iter().all(|one| one.status == 200 && one.bytes == answers[0].bytes), "{engine:?}");
        let other =
            user.post_with(&messages("t"), &json!({"text": "twice"}), &[("idempotency-key", "k1")]).await;
        assert_eq!(other.status, 409, "{}", other.text());
        assert_eq!(user.get(&messages("t")).await.json()["data"]["messages"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_follow_each_other_without_a_gap_or_a_repeat() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let user = world.sign_in("dev@example.com").await;
        for number in 0..7 {
            say(&user, "t", &format!("{number}")).await;
            say(&user, &format!("thread_{number}"), "x").await;
        }
        let (mut path, mut texts) = (format!("{}?limit=3", messages("t")), Vec::new());
        loop {
            let page = user.get(&path).await.json()["data"].clone();
            let said = page["messages"].as_array().unwrap();
            texts.extend(said.iter().map(|one| one["text"].as_str().unwrap().to_owned()));
            let Some(next) = page["next"].as_u64() else { break };
            path = format!("{}?limit=3&after={next}", messages("t"));
        }
        assert_eq!(texts, ["0", "1", "2", "3", "4", "5", "6"], "{engine:?}");
        let page = user.get(&format!("{}?limit=2&before=4", messages("t"))).await.json()["data"].clone();
        assert_eq!(
            (&page["messages"][0]["seq"], &page["messages"][1]["seq"], &page["next"]),
            (&json!(2), &json!(3), &json!(2))
        );
        let (mut path, mut ids) = ("/api/runtime/threads?limit=3".to_owned(), Vec::new());
        loop {
            let page = user.get(&path).await.json()["data"].clone();
            let found = page["threads"].as_array().unwrap();
            ids.extend(found.iter().map(|one| one["thread_id"].as_str().unwrap().to_owned()));
            let Some(next) = page["next"].as_str() else { break };
            path = format!("/api/runtime/threads?limit=3&before={next}");
        }
        let wanted =
            ["thread_6", "t", "thread_5", "thread_4", "thread_3", "thread_2", "thread_1", "thread_0"];
        assert_eq!(ids, wanted, "{engine:?}");
        for bad in ["?limit=0", "?limit=1001", "?after=1&before=2"] {
            assert_eq!(user.get(&format!("{}{bad}", messages("t"))).await.status, 422, "{bad}");
        }
        assert_eq!(user.get("/api/runtime/threads?before=nonsense").await.status, 422);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sixty_first_message_of_a_minute_waits_whatever_token_it_comes_with() {
    let world = World::new().await;
    let user = world.sign_in("dev@example.com").await;
    let token = user.post("/api/tokens", &json!({"name": "second"})).await.json();
    let second = user.with_bearer(token["data"]["token"].as_str().unwrap());
    for http in [&user, &second].into_iter().cycle().take(60) {
        say(http, "t", "x").await;
    }
    let refused = second.post(&messages("t"), &json!({"text": "x"})).await;
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (429, &json!("rate_limited")));
    assert!(refused.header("retry-after").is_some());
    assert_eq!(second.get(&messages("t")).await.status, 200);
    world.clock.advance_millis(60_000);
    say(&second, "t", "x").await;
}
