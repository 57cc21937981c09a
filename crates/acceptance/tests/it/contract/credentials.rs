//! Every built row for users refuses every credential that is no good, with exactly its status, and does nothing;
//! the requests are otherwise those that a good credential would see carried out.

use oa_contract::{Class, Row, Service, matrix::rows_of, openapi};
use oa_testkit::{Answered, Http, World, WorldOptions};
use serde_json::{Value, json};

use super::examples::{example, operation};

/// A credential that is no good.
struct Bad {
    what: &'static str,
    authorization: Option<String>,
    status: u16,
}

impl Bad {
    fn bearer(what: &'static str, token: &str) -> Self {
        Bad { what, authorization: Some(format!("Bearer {token}")), status: 401 }
    }
}

/// Somebody with a good token, something to lose, and credentials that have ended in every way.
struct Stage {
    world: World,
    live: Http,
    live_token_id: String,
    bad: Vec<Bad>,
}

fn token_of(answered: &Answered) -> String {
    answered.json()["data"]["token"].as_str().unwrap_or_else(|| panic!("{}", answered.text())).to_owned()
}

async fn personal(session: &Http, name: &str, abilities: &[&str], expires_at: Option<&str>) -> String {
    let body = json!({"name": name, "abilities": abilities, "expiresAt": expires_at});
    token_of(&session.post("/api/tokens", &body).await)
}

async fn id_of_token(session: &Http, name: &str) -> String {
    let listed = session.get("/api/tokens").await.json();
    let listed = listed["data"].as_array().unwrap();
    listed.iter().find(|one| one["name"] == name).unwrap()["id"].as_str().unwrap().to_owned()
}

async fn stage() -> Stage {
    // An hour passes here: nobody is to be failed for its silence meanwhile, however long the test takes.
    let patient = |config: &mut oa_runtime::Config| config.heartbeat_lost_after_ms = i64::from(u32::MAX);
    let world = World::with(WorldOptions { runtime: Box::new(patient), ..WorldOptions::default() }).await;
    let session = world.sign_in("row@example.com").await;
    let bearer = |http: &Http| http.bearer.clone().unwrap();
    let expired_session = bearer(&session);
    let live = personal(&session, "live", &["*"], None).await;
    let expired = personal(&session, "expired", &["*"], Some("2026-02-25T10:30:00Z")).await;
    let narrow = personal(&session, "narrow", &["an.ability.of.no.row"], None).await;
    let revoked = personal(&session, "revoked", &["*"], None).await;
    let revoked_id = id_of_token(&session, "revoked").await;
    assert_eq!(session.send("DELETE", &format!("/api/tokens/{revoked_id}"), &[], None).await.status, 200);
    assert_eq!(session.post("/api/runtime/workers", &json!({"workerId": "w"})).await.status, 200);
    // Past the end of the session and of the token, and then somebody signs in and out.
    world.clock.advance_millis(3_600_001);
    let other = world.sign_in("other@example.com").await;
    let revoked_session = bearer(&other);
    assert_eq!(other.post("/api/auth/logout", &json!({})).await.status, 200);
    let live = session.with_bearer(&live);
    let live_token_id = id_of_token(&live, "live").await;
    let good = live.bearer.clone().unwrap();
    let malformed = |authorization: &str| Bad {
        what: "malformed",
        authorization: Some(authorization.to_owned()),
        status: 401,
    };
    let bad = vec![
        Bad { what: "none", authorization: None, status: 401 },
        malformed("Bearer"),
        malformed("Bearer "),
        malformed(&good),
        malformed(&format!("bearer {good}")),
        malformed(&format!("Basic {good}")),
        malformed(&format!("Bearer {good}, Bearer {good}")),
        malformed(&format!("Bearer {}", &good[..good.len() - 1])),
        malformed(&format!("Bearer {good}0")),
        malformed(&format!("Bearer {}", good.to_uppercase())),
        malformed(&format!("Bearer {}", "x".repeat(16_000))),
        Bad::bearer("an unknown session", &format!("oa_at_{}", "0".repeat(64))),
        Bad::bearer("an unknown token", &format!("oa_pat_{}", "0".repeat(64))),
        Bad::bearer("a service token", "oa_st_of_the_tests"),
        Bad::bearer("an expired session", &expired_session),
        Bad::bearer("a revoked session", &revoked_session),
        Bad::bearer("an expired token", &expired),
        Bad::bearer("a revoked token", &revoked),
        Bad { status: 403, ..Bad::bearer("a token without the ability", &narrow) },
    ];
    Stage { world, live, live_token_id, bad }
}

fn path(row: &Row, live_token_id: &str) -> String {
    let segment = |segment: &str| match segment {
        ":token_id" => live_token_id.to_owned(),
        ":worker_id" => "w".to_owned(),
        ":version" => "1".to_owned(),
        ":run_id" => "019503c1-8a6e-7f10-9c55-2b7f0c1d4e90".to_owned(),
        parameter if parameter.starts_with(':') => "some-id".to_owned(),
        literal => literal.to_owned(),
    };
    row.path.split('/').map(segment).collect::<Vec<_>>().join("/")
}

async fn ask(http: &Http, row: &Row, path: &str, bad: &Bad, body: Option<&Value>) -> Answered {
    let mut headers = Vec::new();
    if let Some(authorization) = &bad.authorization {
        headers.push(("authorization", authorization.as_str()));
    }
    if body.is_some() {
        headers.push(("content-type", "application/json"));
    }
    let body = body.map(|body| body.to_string().into_bytes());
    http.send(row.method.name(), path, &headers, body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_is_no_good_opens_no_row_and_changes_nothing() {
    let Stage { world, live, live_token_id, bad } = stage().await;
    let document = openapi::document(Service::Control);
    let stranger = live.anonymous();
    // That a session has expired is noted at its first use; from then on nothing is.
    for bad in &bad {
        let me = rows_of(Service::Control).find(|row| row.name == "me.profile").unwrap();
        let answered = ask(&stranger, me, "/api/me", bad, None).await;
        assert_eq!(answered.status, bad.status, "{}: {}", bad.what, answered.text());
    }
    let before = world.kept();
    let mut asked = 0;
    for row in rows_of(Service::Control).filter(|row| row.built) {
        let Class::User(ability) = row.class else { continue };
        let body = example(&document, operation(&document, row));
        let path = path(row, &live_token_id);
        for bad in &bad {
            if bad.status == 403 && ability == "self" {
                // What a token may ask about and do to itself needs no ability.
                continue;
            }
            let answered = ask(&stranger, row, &path, bad, body.as_ref()).await;
            assert_eq!(answered.status, bad.status, "{} with {}: {}", row.name, bad.what, answered.text());
            let code = if bad.status == 401 { "unauthorized" } else { "forbidden" };
            assert_eq!(answered.json()["error"]["code"], code, "{} with {}", row.name, bad.what);
            asked += 1;
        }
    }
    assert!(asked > 100, "only {asked} requests were made");
    assert_eq!(world.kept(), before, "a refused request changed something");
    assert_eq!(live.get("/api/me").await.status, 200);
    assert_eq!(live.get("/api/runtime/workers").await.json()["data"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_that_is_no_good_opens_nothing_either() {
    let Stage { world, live, bad, .. } = stage().await;
    let stranger = live.anonymous();
    for row in rows_of(Service::Control).filter(|row| row.built && matches!(row.class, Class::User(_))) {
        for bad in bad.iter().filter(|bad| bad.status == 401) {
            let token = bad.authorization.as_deref().unwrap_or_default();
            let Some(token) = token.strip_prefix("Bearer ") else { continue };
            let cookie = format!("oa_access_token={token}");
            let path = path(row, "pat_x");
            let sent = stranger.send(row.method.name(), &path, &[("cookie", cookie.as_str())], None).await;
            assert_eq!(sent.status, 401, "{} with {} as a cookie", row.name, bad.what);
        }
    }
    drop(world);
}
