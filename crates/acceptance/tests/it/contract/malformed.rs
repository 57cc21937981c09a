//! Malformed input of every kind gets its status, says what is wrong, and changes nothing (runtime-core §1).

use oa_contract::matrix::rows;
use oa_testkit::{Answered, World};

use super::{opener, some_path};

/// Headers, body, and the status that they must get.
type Case<'a> = (&'a [(&'a str, &'a str)], Vec<u8>, u16);

fn says_what_is_wrong(answered: &Answered, name: &str) {
    let body = answered.json();
    assert_eq!(answered.header("content-type"), Some("application/problem+json"), "{name}");
    assert!(body["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{name}: {body}");
    assert_eq!(body["status"], answered.status, "{name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_body_is_refused_by_every_row_that_takes_one() {
    let world = World::new().await;
    let session = world.sign_in("row@example.com").await;
    let json: &[(&str, &str)] = &[("content-type", "application/json; charset=utf-8")];
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    for row in rows().filter(|row| row.built && row.shape.has_body) {
        let http = opener(&world, &session, row).await;
        let path = some_path(row);
        let cases: [Case<'_>; 9] = [
            (&[], b"{}".to_vec(), 415),
            (&[("content-type", "text/plain")], b"{}".to_vec(), 415),
            (json, Vec::new(), 400),
            (json, b"{".to_vec(), 400),
            (json, b"{\"a\":1,}".to_vec(), 400),
            (json, b"\xff\xfe".to_vec(), 400),
            (json, deep.clone().into_bytes(), 422),
            (json, b"[1]".to_vec(), 422),
            (json, vec![b' '; 2 * 1024 * 1024 + 1], 413),
        ];
        for (headers, body, status) in cases {
            let shown = String::from_utf8_lossy(&body[..body.len().min(20)]).into_owned();
            let answered = http.send(row.method.name(), &path, headers, Some(body)).await;
            // Nesting beyond the limit may be noticed as syntax or, at the first bracket, as another shape.
            let fits = answered.status == status || (status == 422 && answered.status == 400);
            assert!(
                fits,
                "{} with {shown:?}: {} instead of {status}: {}",
                row.name,
                answered.status,
                answered.text()
            );
            says_what_is_wrong(&answered, row.name);
        }
    }
    let listed = world.http.get("/admin/v1/runs").await.json();
    assert_eq!(listed["runs"], serde_json::json!([]), "a malformed request left a run behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_path_or_query_is_400() {
    let world = World::new().await;
    for path in [
        "/internal/v1/runs/not-a-uuid",
        "/internal/v1/runs/%ff",
        "/internal/v1/runs/019503c1-8a6e-7f10-9c55-2b7f0c1d4e90?limit=x",
        "/internal/v1/projectors/checkpoints/1",
        "/internal/v1/projectors/drift",
        "/internal/v1/projectors/drift?topic=%20",
        "/internal/v1/fraud/incidents?limit=abc",
        "/internal/v1/fraud/incidents?limit=1&limit=2",
        "/internal/v1/workers",
        "/internal/v1/workers?owner_user_id=-1",
        "/internal/v1/workers?owner_user_id=1&owner_guest_scope=x",
        "/internal/v1/workers/%00?owner_user_id=1",
    ] {
        let answered = world.http.get(path).await;
        assert_eq!(answered.status, 400, "{path}: {}", answered.text());
        says_what_is_wrong(&answered, path);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_nesting_and_strange_text_in_free_json_change_nothing_or_come_back_exactly() {
    let world = World::new().await;
    let headers: &[(&str, &str)] = &[("content-type", "application/json")];
    let nested = |levels: usize| format!("{{\"metadata\":{}1{}}}", "[".repeat(levels), "]".repeat(levels));
    let refused = world.http.send("POST", "/internal/v1/runs", headers, Some(nested(200).into_bytes())).await;
    assert_eq!(refused.status, 400, "{}", refused.text());
    let taken = world.http.send("POST", "/internal/v1/runs", headers, Some(nested(100).into_bytes())).await;
    assert_eq!(taken.status, 201, "{}", taken.text());
    let strange = r#"{"metadata":{"z":1,"a":"\u0000 \ud83d\ude00 \u2028","b":1E2,"z":{"y":-0.0}}}"#;
    let taken = world.http.send("POST", "/internal/v1/runs", headers, Some(strange.into())).await;
    assert_eq!(taken.status, 201, "{}", taken.text());
    let text = taken.text();
    assert!(
        text.contains("\"metadata\":{\"z\":{\"y\":-0.0},\"a\":\"\\u0000 😀 \u{2028}\",\"b\":100.0}"),
        "{text}"
    );
}
