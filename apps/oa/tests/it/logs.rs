//! Log lines of a real process: whoever knows the id of a request finds all of its lines.

use std::{fs, path::Path, time::Duration};

use oa_testkit::Http;
use serde_json::{Value, json};

use crate::server::Server;

/// Every line so far; a line that is no JSON object is a mistake.
fn lines(log: &Path) -> Vec<Value> {
    let text = fs::read_to_string(log).unwrap();
    // The last line may be on its way.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect()
}

/// The lines of one request, once the one that ends it is there.
async fn of(log: &Path, request: &str, services: usize) -> Vec<Value> {
    for _ in 0..400 {
        let mine: Vec<Value> = lines(log).into_iter().filter(|line| line["request_id"] == request).collect();
        if mine.iter().filter(|line| line["message"] == "answered").count() >= services {
            return mine;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{request}: {:#?}", lines(log));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_of_a_request_names_the_id_that_it_came_with() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let mut runtime = Server::new(&data);
    runtime.environment = vec![("RUST_LOG", "info,oa_edge=debug,oa_runtime=debug,oa_control=debug".into())];
    runtime.start().await;
    let elsewhere = home.path().join("control");
    let mut control = Server::control(&elsewhere);
    let token = control.add_user("dev@example.com");
    let secret = fs::read_to_string(data.join("keys/signature.secret")).unwrap();
    control.environment = vec![
        ("RUST_LOG", "info,oa_edge=debug,oa_control=debug".into()),
        ("OA_RUNTIME_BASE_URL", runtime.url()),
        ("OA_RUNTIME_SIGNATURE_SECRET", secret.trim().to_owned()),
    ];
    control.start().await;
    let (runtime_log, control_log) = (data.with_extension("log"), elsewhere.with_extension("log"));

    // Lines that handlers write themselves; one of them says its request, the other need not.
    let http = Http::new(control.url(), None);
    let sent = http.post("/api/auth/email", &json!({"email": "dev@example.com"})).await.json();
    let code = fs::read_to_string(elsewhere.join("keys/sign-in.code")).unwrap();
    let body = json!({"code": code.trim(), "challenge_id": sent["challengeId"]});
    let verified = http.post_with("/api/auth/verify", &body, &[("x-request-id", "req-sign-in")]).await;
    assert_eq!((verified.status, verified.header("x-request-id")), (200, Some("req-sign-in")));
    let mine = of(&control_log, "req-sign-in", 1).await;
    assert!(mine.iter().any(|line| line["message"] == "audit_event"), "{mine:#?}");
    let body = json!({"refresh_token": verified.json()["refreshToken"]});
    assert_eq!(http.post("/api/auth/refresh", &body).await.status, 200);
    let again = http.post_with("/api/auth/refresh", &body, &[("x-request-id", "req-twice")]).await;
    assert_eq!(again.status, 401);
    let mine = of(&control_log, "req-twice", 1).await;
    let warned = mine.iter().find(|line| line["level"] == "WARN").expect("a warning");
    assert_eq!(warned["message"], "a refresh token was used twice; its session is revoked");

    // One id for both services.
    let user = Http::new(control.url(), Some(token));
    while user.post("/api/runtime/workers", &json!({"workerId": "v"})).await.status == 503 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let odd = "req-\"odd\" id";
    let asked =
        user.post_with("/api/runtime/workers", &json!({"workerId": "w"}), &[("x-request-id", odd)]).await;
    assert_eq!(asked.status, 200);
    assert_eq!(of(&control_log, odd, 1).await.len(), 1);
    assert_eq!(of(&runtime_log, odd, 1).await.len(), 1);
}
