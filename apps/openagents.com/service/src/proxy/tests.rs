//! The proxied rows against a runtime made of canned answers: what it is asked, and what becomes of each answer.

use std::sync::{Mutex, PoisonError};

use oa_contract::{
    Caller, Credential, Handle, Nothing, Service, User,
    credential::{Bound, SIGNATURE_HEADER, verify},
    matrix::{PublicWorkersGet, PublicWorkersList, PublicWorkersRegister},
    wire::{identity::Secret, paths::WorkerPath, workers::PublicRegisterWorker},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::{identity::principal_number, testing::World};

/// One answer, or a connection that is cut.
type Canned = Option<&'static str>;

/// A runtime that says what it was told to say, one answer a request, and remembers what it was asked.
#[derive(Clone)]
struct CannedRuntime {
    address: String,
    heard: Arc<Mutex<Vec<String>>>,
}

impl CannedRuntime {
    async fn start(answers: Vec<Canned>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let told = heard.clone();
        tokio::spawn(async move {
            for answer in answers {
                let Ok((mut stream, _)) = listener.accept().await else { return };
                let request = read_request(&mut stream).await;
                told.lock().unwrap_or_else(PoisonError::into_inner).push(request);
                if let Some(answer) = answer {
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            }
        });
        CannedRuntime { address, heard }
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn read_request(stream: &mut tokio::net::TcpStream) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 4_096];
    loop {
        let read = stream.read(&mut buffer).await.unwrap_or(0);
        text.extend_from_slice(&buffer[..read]);
        let so_far = String::from_utf8_lossy(&text).into_owned();
        let whole = so_far.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            let length = header(head, "content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
            body.len() >= length
        });
        if whole || read == 0 {
            return so_far;
        }
    }
}

fn header<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    request.lines().find_map(|line| {
        line.split_once(": ").filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    })
}

/// `200` with these bytes.
macro_rules! ok {
    ($body:literal) => {
        Some(concat!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", $body))
    };
}

const USER: &str = "user_0123456789abcdef0123456789abcdef";

async fn world(runtime: &CannedRuntime, legacy: bool) -> World {
    let errors = if legacy { "legacy" } else { "mapped" };
    let env = [
        ("OA_RUNTIME_BASE_URL", runtime.address.as_str()),
        ("OA_RUNTIME_SIGNATURE_SECRET", "hush"),
        ("OA_RUNTIME_PROXY_ERRORS", errors),
    ];
    World::with_runtime(&env).await
}

fn asked<O: Operation<Query: Default>>(world: &World, path: O::Path, body: O::Body) -> Ask<O> {
    let user = User {
        user_id: USER.into(),
        email: "dev@example.com".into(),
        owner_user_id: principal_number(USER),
        active_org_id: "user:user_1".into(),
        admin: false,
        session_id: "sess_1".into(),
        credential: Credential::Session,
        abilities: Vec::new(),
    };
    Ask { path, query: O::Query::default(), body, caller: Caller::User(user), meta: world.meta(&[]) }
}

async fn list(world: &World) -> Result<String, Refusal> {
    let ask = asked::<PublicWorkersList>(world, Nothing {}, Nothing {});
    told(Handle::<PublicWorkersList>::handle(&*world.control, ask).await)
}

async fn register(world: &World, body: PublicRegisterWorker) -> Result<String, Refusal> {
    let ask = asked::<PublicWorkersRegister>(world, Nothing {}, body);
    told(Handle::<PublicWorkersRegister>::handle(&*world.control, ask).await)
}

async fn get(world: &World, id: &str) -> Result<String, Refusal> {
    let ask = asked::<PublicWorkersGet>(world, WorkerPath { worker_id: id.into() }, Nothing {});
    told(Handle::<PublicWorkersGet>::handle(&*world.control, ask).await)
}

fn told(result: Result<Answer<Enveloped>, Stop>) -> Result<String, Refusal> {
    match result {
        Ok(answer) => Ok(serde_json::to_string(&answer.body).expect("json")),
        Err(Stop::Refusal(refusal)) => Err(refusal),
        Err(Stop::Fault(fault)) => panic!("{fault}"),
    }
}

fn status(refusal: &Refusal) -> u16 {
    refusal.status(Service::Control)
}

#[tokio::test]
async fn without_a_runtime_the_answer_is_503_before_the_fields_are_looked_at() {
    let world = World::new().await;
    let refused =
        register(&world, PublicRegisterWorker { worker_id: Some("a/b".into()), ..Default::default() })
            .await
            .expect_err("refused");
    assert_eq!((status(&refused), refused.message.as_str()), (503, "Runtime is not configured."));
}

#[tokio::test]
async fn the_members_pass_untouched_digit_for_digit() {
    let runtime = CannedRuntime::start(vec![
        ok!(r#"{"workers":[{"worker":{"owner":{"user_id":18446744073709551615},"x":1.50, "big":123456789012345678901234567890}}],"next":"a"}"#),
        ok!(r#"{"workers":{"not":"a list"}}"#),
        ok!("{}"),
    ])
    .await;
    let world = world(&runtime, false).await;
    assert_eq!(
        list(&world).await.expect("a list"),
        r#"{"data":[{"worker":{"owner":{"user_id":18446744073709551615},"x":1.50, "big":123456789012345678901234567890}}],"next":"a"}"#
    );
    assert_eq!(list(&world).await.expect("a list"), r#"{"data":[]}"#);
    assert_eq!(get(&world, "w").await.expect("nothing"), r#"{"data":null}"#);
}

#[tokio::test]
async fn the_runtime_hears_a_bound_credential_the_owner_and_the_trace() {
    let runtime = CannedRuntime::start(vec![ok!(r#"{"worker":{}}"#)]).await;
    let world = world(&runtime, false).await;
    register(&world, PublicRegisterWorker { worker_id: Some("desktop:w9".into()), ..Default::default() })
        .await
        .expect("registered");
    let heard = runtime.heard().remove(0);
    let (head, body) = heard.split_once("\r\n\r\n").expect("a request");
    assert!(head.starts_with("POST /internal/v1/workers HTTP/1.1"), "{head}");
    assert!(body.contains("\"owner_user_id\":11626709635607040195"), "{body}");
    let bound = Bound { method: "POST", path: "/internal/v1/workers", body: body.as_bytes() };
    let verified =
        verify(&["hush"], header(head, SIGNATURE_HEADER).expect("a signature"), bound, world.now())
            .expect("verified");
    assert_eq!((verified.owner, verified.bound), (Some(Owner::User(principal_number(USER))), true));
    assert_eq!(header(head, "x-request-id"), Some("req_test"));
    assert_eq!(header(head, "traceparent"), Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
    assert_eq!((header(head, "authorization"), header(head, "cookie")), (None, None));
}

#[tokio::test]
async fn a_question_is_asked_twice_and_an_act_once_when_no_answer_comes() {
    let runtime =
        CannedRuntime::start(vec![None, ok!(r#"{"workers":[]}"#), None, ok!(r#"{"worker":{}}"#)]).await;
    let world = world(&runtime, false).await;
    assert!(list(&world).await.is_ok());
    assert_eq!(runtime.heard().len(), 2);
    let nonces: Vec<_> =
        runtime.heard().iter().map(|one| header(one, SIGNATURE_HEADER).map(str::to_owned)).collect();
    assert_ne!(nonces[0], nonces[1], "a signature was sent twice");
    let refused = register(&world, PublicRegisterWorker::default()).await.expect_err("no answer");
    assert_eq!(status(&refused), 503);
    assert!(
        refused.message.starts_with("Failed to register worker: runtime_request_failed:"),
        "{}",
        refused.message
    );
    assert_eq!(runtime.heard().len(), 3);
}

#[tokio::test]
async fn a_refusal_keeps_its_meaning_and_a_failure_is_503() {
    const NOT_FOUND: &str = "HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\n{\"error\":\"not_found\",\"detail\":\"no worker w\"}";
    let runtime = CannedRuntime::start(vec![
        Some("HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n{\"error\":\"invalid_request\",\"message\":\"bad metadata\"}"),
        Some("HTTP/1.1 403 Forbidden\r\nconnection: close\r\n\r\n{\"error\":\"forbidden\",\"message\":\"not yours\"}"),
        Some(NOT_FOUND),
        Some("HTTP/1.1 409 Conflict\r\nconnection: close\r\n\r\n{\"error\":\"conflict\",\"message\":\"taken\"}"),
        Some("HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\nconnection: close\r\n\r\n{}"),
        Some("HTTP/1.1 500 Internal Server Error\r\nconnection: close\r\n\r\nboom"),
        ok!("not json"),
    ])
    .await;
    let world = world(&runtime, false).await;
    let mut seen = Vec::new();
    for _ in 0..7 {
        let refused = get(&world, "w").await.expect_err("refused");
        seen.push((status(&refused), refused.message, refused.retry_after_ms));
    }
    let expected: Vec<(u16, &str, Option<u64>)> = vec![
        (422, "bad metadata", None),
        (403, "not yours", None),
        (404, "no worker w", None),
        (409, "taken", None),
        (429, "the runtime answered 429", Some(7_000)),
        (503, "Failed to read worker: runtime_http_500 Internal Server Error:boom", None),
    ];
    for (seen, expected) in seen.iter().zip(expected) {
        assert_eq!((seen.0, seen.1.as_str(), seen.2), expected);
    }
    assert_eq!(seen[6].0, 503);
    assert!(seen[6].1.starts_with("Failed to read worker: runtime_json_decode_failed:"), "{}", seen[6].1);
}

#[tokio::test]
async fn the_legacy_switch_makes_every_refusal_a_503() {
    let runtime = CannedRuntime::start(vec![Some(
        "HTTP/1.1 409 Conflict\r\nconnection: close\r\n\r\n{\"error\":\"conflict\",\"message\":\"taken\"}",
    )])
    .await;
    let world = world(&runtime, true).await;
    let refused = get(&world, "w").await.expect_err("refused");
    assert_eq!(status(&refused), 503);
    assert_eq!(
        refused.message,
        r#"Failed to read worker: runtime_http_409 Conflict:{"error":"conflict","message":"taken"}"#
    );
}

#[tokio::test]
async fn a_worker_id_that_is_not_plain_never_reaches_the_runtime() {
    let runtime = CannedRuntime::start(Vec::new()).await;
    let world = world(&runtime, false).await;
    for id in ["../credit/health?z=", "a/b", "..", "ü"] {
        let refused = get(&world, id).await.expect_err(id);
        assert_eq!((status(&refused), refused.field.as_deref()), (422, Some("worker_id")));
    }
    assert!(runtime.heard().is_empty());
}

#[test]
fn a_client_is_made_only_for_a_configured_runtime() {
    let mut config = RuntimeConfig {
        base_url: None,
        signature_secret: Some(Secret::new("hush")),
        signature_ttl_seconds: 60,
        errors: UpstreamErrors::Mapped,
    };
    let (clock, ids) = crate::testing::still();
    assert!(runtime_client(&config, clock.clone(), ids.clone()).expect("no client").is_none());
    config.base_url = Some("http://127.0.0.1:4100".into());
    let client = runtime_client(&config, clock, ids).expect("a client").expect("a client");
    assert_eq!(client.base(), "http://127.0.0.1:4100");
}
