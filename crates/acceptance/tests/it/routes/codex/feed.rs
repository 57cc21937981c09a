//! The feed: pages, long polls and server-sent events, resumed without a gap or a repeat (control §21.3.2).

use std::time::Duration;

use futures_util::StreamExt;
use oa_testkit::{Http, SimulatedCodexWorker, World, WorldOptions, both_engines};
use serde_json::{Value, json};

use super::{path, post_event, snapshot};

const SSE: (&str, &str) = ("accept", "text/event-stream");

/// An open stream of server-sent events.
struct Sse {
    response: reqwest_stream::Body,
    text: String,
}

mod reqwest_stream {
    use std::pin::Pin;

    use futures_util::{Stream, StreamExt};
    use oa_testkit::Http;

    pub type Body = Pin<Box<dyn Stream<Item = Option<String>> + Send>>;

    /// Chunks as text; `None` where the connection broke.
    pub async fn open(http: &Http, path: &str, headers: &[(&str, &str)]) -> (u16, String, Body) {
        let response = http.open(path, headers).await;
        let status = response.status().as_u16();
        let media = response.headers()["content-type"].to_str().unwrap().to_owned();
        let chunks = response.bytes_stream();
        let text = chunks.map(|chunk| chunk.ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()));
        (status, media, Box::pin(text))
    }
}

impl Sse {
    async fn open(http: &Http, path: &str, headers: &[(&str, &str)]) -> Self {
        let (status, media, response) = reqwest_stream::open(http, path, &[headers, &[SSE]].concat()).await;
        assert_eq!((status, media.as_str()), (200, "text/event-stream"));
        Sse { response, text: String::new() }
    }

    /// The next event, if the stream does not end first: its id, its type, its data.
    async fn next(&mut self) -> Option<(u64, String, Value)> {
        loop {
            while let Some((message, rest)) =
                self.text.split_once("\n\n").map(|(a, b)| (a.to_owned(), b.to_owned()))
            {
                self.text = rest;
                let field =
                    |name: &str| message.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                if let (Some(id), Some(event), Some(data)) =
                    (field("id: "), field("event: "), field("data: "))
                {
                    return Some((id.parse().unwrap(), event, serde_json::from_str(&data).unwrap()));
                }
            }
            let chunk =
                tokio::time::timeout(Duration::from_secs(20), self.response.next()).await.expect("in time");
            self.text.push_str(&chunk.flatten()?);
        }
    }

    async fn take(&mut self, count: usize) -> Vec<u64> {
        let mut ids = Vec::new();
        while ids.len() < count {
            ids.push(self.next().await.expect("an event").0);
        }
        ids
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_goes_on_where_it_was_across_a_disconnect_and_a_restart() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let user = world.sign_in("dev@example.com").await;
        post_event(&user, "w", "worker.note", json!({"n": 1})).await;
        let stream = path("w", "/stream");
        let mut sse = Sse::open(&user, &stream, &[]).await;
        let (id, event, data) = sse.next().await.expect("an event");
        assert_eq!(
            (id, event.as_str(), &data["payload"], &data["seq"]),
            (1, "worker.note", &json!({"n": 1}), &json!(1))
        );
        let poster = {
            let user = user.clone();
            tokio::spawn(async move {
                for n in 2..=20 {
                    post_event(&user, "w", "worker.note", json!({"n": n})).await;
                }
            })
        };
        assert_eq!(sse.take(9).await, (2..=10).collect::<Vec<_>>(), "{engine:?}");
        drop(sse);
        poster.await.unwrap();
        let mut sse = Sse::open(&user, &format!("{stream}?cursor=3"), &[("last-event-id", "10")]).await;
        assert_eq!(sse.take(10).await, (11..=20).collect::<Vec<_>>(), "{engine:?}");
        let restarted = tokio::spawn(world.restart());
        assert!(sse.next().await.is_none(), "the stream ends when the process drains");
        let world = restarted.await.unwrap();
        let user = world.control_http.with_bearer(user.bearer.as_deref().unwrap());
        let mut sse = Sse::open(&user, &stream, &[("last-event-id", "20")]).await;
        post_event(&user, "w", "worker.note", json!({"n": 21})).await;
        assert_eq!(sse.take(1).await, [21], "{engine:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_comes_at_once_and_a_wait_ends_with_the_first_event() {
    for engine in both_engines() {
        let world = World::on(engine).await;
        let user = world.sign_in("dev@example.com").await;
        post_event(&user, "w", "worker.note", json!({})).await;
        let at_once = user.get(&path("w", "/stream?cursor=1&tail_ms=120000")).await.json()["data"].clone();
        assert_eq!(
            (&at_once["events"], &at_once["tail_ms"], &at_once["cursor"]),
            (&json!([]), &json!(120_000), &json!(1))
        );
        for (query, headers) in [("&wait=1", vec![]), ("", vec![("prefer", "wait=30")])] {
            let cursor = snapshot(&user, "w").await["latest_seq"].as_u64().unwrap();
            let waiting = {
                let (user, path) =
                    (user.clone(), path("w", &format!("/stream?cursor={cursor}&tail_ms=60000{query}")));
                tokio::spawn(async move { user.send("GET", &path, &headers, None).await })
            };
            post_event(&user, "w", "worker.note", json!({"late": true})).await;
            let page =
                tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("in time").unwrap();
            assert_eq!(page.json()["data"]["events"][0]["seq"], cursor + 1, "{engine:?}");
        }
        let empty = user.get(&path("w", "/stream?cursor=99&tail_ms=1&wait=1")).await;
        assert_eq!((empty.status, &empty.json()["data"]["events"]), (200, &json!([])));
        let first = user.get(&path("w", "/stream?limit=2")).await.json()["data"].clone();
        assert_eq!((first["events"].as_array().unwrap().len(), &first["next"]), (2, &json!(2)));
        for bad in ["?tail_ms=0", "?tail_ms=120001", "?limit=0", "?limit=1001", "?consumer=spy", "?wait=soon"]
        {
            assert_eq!(user.get(&path("w", &format!("/stream{bad}"))).await.status, 422, "{bad}");
        }
        assert_eq!(user.get(&path("w", "/stream?cursor=-1")).await.status, 400);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_longer_kept_is_410_and_says_where_to_go_on() {
    for engine in both_engines() {
        let control = vec![("OA_CODEX_EVENT_RETENTION", "10".to_owned())];
        let world = World::with(WorldOptions { engine, control, ..WorldOptions::default() }).await;
        let user = world.sign_in("dev@example.com").await;
        for n in 1..=30 {
            post_event(&user, "w", "worker.note", json!({"n": n})).await;
        }
        let oldest = snapshot(&user, "w").await["oldest_seq"].as_u64().unwrap();
        assert!((20..=21).contains(&oldest), "{engine:?} {oldest}");
        for headers in [&[][..], &[SSE]] {
            let stale = user.send("GET", &path("w", "/stream?cursor=5"), headers, None).await;
            assert_eq!((stale.status, &stale.json()["error"]["code"]), (410, &json!("stale_cursor")));
            assert_eq!(stale.json()["resume_after"], oldest - 1, "{}", stale.text());
        }
        let page = user.get(&path("w", "/stream")).await.json()["data"].clone();
        assert_eq!(page["events"][0]["seq"], oldest);
        assert_eq!(page["events"].as_array().unwrap().len() as u64, 31 - oldest);
        // A week later nothing of it is kept, and the numbers go on.
        world.clock.advance_millis(604_801_000);
        let user = world.sign_in("dev@example.com").await;
        world.sweep_codex().await;
        let page = user.get(&path("w", "/stream")).await.json()["data"].clone();
        assert_eq!(
            (&page["events"], &page["snapshot"]["oldest_seq"]),
            (&json!([]), &json!(31)),
            "{engine:?}"
        );
        assert_eq!(post_event(&user, "w", "worker.note", json!({})).await.json()["data"]["seq"], 31);
        assert_eq!(user.get(&path("w", "/stream?cursor=30")).await.json()["data"]["events"][0]["seq"], 31);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_ended_ends_its_streams() {
    let world = World::new().await;
    let user = world.sign_in("dev@example.com").await;
    post_event(&user, "w", "worker.note", json!({})).await;
    let made = user.post("/api/tokens", &json!({"name": "viewer"})).await.json()["data"].clone();
    let viewer = user.with_bearer(made["token"].as_str().unwrap());
    let mut sse = Sse::open(&viewer, &path("w", "/stream"), &[]).await;
    assert_eq!(sse.take(1).await, [1]);
    assert_eq!(viewer.send("DELETE", "/api/tokens/current", &[], None).await.status, 200);
    world.clock.advance_millis(15_000);
    assert!(sse.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_read_as_the_worker_keeps_it_attached() {
    let world = World::new().await;
    let user = world.sign_in("dev@example.com").await;
    SimulatedCodexWorker::attach(&user, "desk", world.now()).await;
    world.clock.advance_millis(61_000);
    assert_eq!(snapshot(&user, "desk").await["attached"], false);
    let mut sse = Sse::open(&user, &path("desk", "/stream?consumer=worker"), &[]).await;
    assert_eq!(snapshot(&user, "desk").await["attached"], true);
    world.clock.advance_millis(61_000);
    // The next look at the feed, which an event brings about, is noted before the event is sent.
    post_event(&user, "desk", "worker.note", json!({})).await;
    assert_eq!(sse.take(1).await, [1]);
    assert_eq!(snapshot(&user, "desk").await["attached"], true);
}
