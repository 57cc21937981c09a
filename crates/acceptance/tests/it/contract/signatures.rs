//! Every protected row of the runtime refuses every signed header that is no good, planned rows too, and does nothing:
//! expired, from the future, of another secret, of another method, path, query or body, cut, or used before.

use oa_contract::{
    Class, Method, Owner, Row, Service,
    credential::{self, Bound, SIGNATURE_HEADER},
    matrix::{self, rows_of},
};
use oa_testkit::{Answered, SECRET, World};

use super::some_path;

const BODY: &[u8] = b"{}";

struct Stage {
    world: World,
    owner: Owner,
}

impl Stage {
    fn signed(&self, secret: &[u8], bound: Bound<'_>, ago_seconds: i64, nonce: &str) -> String {
        let at = self.world.now().plus_seconds(-ago_seconds);
        credential::sign(secret, bound, Some(&self.owner), nonce.to_owned(), at, 60)
    }

    async fn ask(&self, row: &Row, signature: &str) -> Answered {
        let body = (row.method == Method::Post).then(|| BODY.to_vec());
        let mut headers = vec![(SIGNATURE_HEADER, signature)];
        if body.is_some() {
            headers.push(("content-type", "application/json"));
        }
        self.world.http.anonymous().send(row.method.name(), &some_path(row), &headers, body).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_that_is_no_good_opens_no_row_of_the_runtime() {
    let world = World::new().await;
    let stage = Stage { world, owner: Owner::User(7) };
    let secret = SECRET;
    let before = stage.world.kept();
    let mut asked = 0;
    for row in rows_of(Service::Runtime).filter(|row| row.class != Class::Anyone) {
        let path = some_path(row);
        let body: &[u8] = if row.method == Method::Post { BODY } else { b"" };
        let method = row.method.name();
        let bound = Bound { method, path: &path, body };
        let longer = format!("{path}?a=b");
        let other_method = if method == "GET" { "POST" } else { "GET" };
        let nonce = |what: &str| format!("{what}-{}", row.name);
        let good = stage.signed(secret, bound, 0, &nonce("cut"));
        let mut bad = vec![
            ("expired", stage.signed(secret, bound, 600, &nonce("expired"))),
            ("from the future", stage.signed(secret, bound, -600, &nonce("future"))),
            ("of another secret", stage.signed(b"another secret", bound, 0, &nonce("secret"))),
            (
                "of another method",
                stage.signed(secret, Bound { method: other_method, ..bound }, 0, &nonce("method")),
            ),
            ("of another query", stage.signed(secret, Bound { path: &longer, ..bound }, 0, &nonce("query"))),
            (
                "of another path",
                stage.signed(secret, Bound { path: "/internal/v1/elsewhere", ..bound }, 0, &nonce("path")),
            ),
            ("cut", good[..good.len() - 1].to_owned()),
            ("not a signature", "v1.x.y".to_owned()),
            ("of another version", good.replacen("v1.", "v2.", 1)),
        ];
        if row.method == Method::Post {
            let other = Bound { body: b"{\"a\":1}", ..bound };
            bad.push(("of another body", stage.signed(secret, other, 0, &nonce("body"))));
        }
        for (what, signature) in &bad {
            let answered = stage.ask(row, signature).await;
            assert_eq!(answered.status, 401, "{} {what}: {}", row.name, answered.text());
            assert_eq!(answered.json()["error"], "unauthorized", "{} {what}", row.name);
            asked += 1;
        }
    }
    assert_eq!(stage.world.kept(), before, "a refused request changed something");
    assert!(asked > 9 * matrix::AUTHORITY.len(), "only {asked} requests were made");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_opens_its_row_once() {
    let world = World::new().await;
    let stage = Stage { world, owner: Owner::User(7) };
    for row in rows_of(Service::Runtime).filter(|row| row.class == Class::Service) {
        let path = some_path(row);
        let body: &[u8] = if row.method == Method::Post { BODY } else { b"" };
        let bound = Bound { method: row.method.name(), path: &path, body };
        let signature = stage.signed(SECRET, bound, 0, row.name);
        assert_ne!(stage.ask(row, &signature).await.status, 401, "{}", row.name);
        assert_eq!(stage.ask(row, &signature).await.status, 401, "{} a second time", row.name);
    }
}
