//! Whatever stands in the place of a worker's id, control asks its runtime for that worker or for nothing: a path
//! never gains or loses a segment on the way (control §21.1 (1)).

use oa_contract::{Lane, Method, Operation, Row, matrix, operation::Proxied};
use oa_testkit::{SimulatedRuntime, World, WorldOptions};
use proptest::{prelude::*, test_runner::TestRunner};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Control with a recording runtime behind it, and a user.
struct Stage {
    _world: World,
    runtime: SimulatedRuntime,
    address: String,
    token: String,
}

impl Stage {
    async fn set() -> Self {
        let runtime = SimulatedRuntime::start().await;
        let options = WorldOptions {
            control: vec![("OA_RUNTIME_BASE_URL", runtime.url.clone())],
            ..WorldOptions::default()
        };
        let world = World::with(options).await;
        let user = world.sign_in("dev@example.com").await;
        let address = user.base.strip_prefix("http://").unwrap().to_owned();
        let token = user.bearer.clone().unwrap();
        Stage { _world: world, runtime, address, token }
    }

    /// Sends exactly this path, as no client library would; gives the status, or nothing when the connection is cut.
    async fn send(&self, row: &Row, path: &str) -> Option<u16> {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let body = if row.method == Method::Get { "" } else { r#"{"status":"stopped"}"# };
        let head = format!(
            "{} {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            row.method.name(),
            self.address,
            self.token,
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        answer.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
    }

    /// Asks one row for the worker that this raw segment names, and checks where the runtime was asked.
    async fn check(&self, row: &Row, segment: &str) -> Result<(), TestCaseError> {
        let path = row.path.replace(":worker_id", segment);
        let status = self.send(row, &path).await;
        let heard = self.runtime.heard();
        let expected = upstream(row);
        for asked in &heard {
            let (method, uri) = asked.split_once(' ').unwrap_or_default();
            let asked_path = uri.split('?').next().unwrap_or_default();
            prop_assert_eq!(
                Some((method, shape(asked_path))),
                expected.as_ref().map(|(method, template)| (*method, shape(template))),
                "{} as {:?} became {}",
                row.name,
                segment,
                asked
            );
            let id = asked_path.split('/').nth(4).unwrap_or_default();
            let plain = (1..=160).contains(&id.len())
                && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:@-".contains(&byte))
                && !matches!(id, "." | "..");
            prop_assert!(plain, "{} was asked for {:?}", row.name, id);
        }
        let answered = heard.len();
        prop_assert!(answered <= 1, "{} asked the runtime {} times", row.name, answered);
        if answered == 0 {
            let refused = status.is_none_or(|status| (400..500).contains(&status) || status == 501);
            prop_assert!(
                refused,
                "{} as {:?} was answered with {:?} without the runtime",
                row.name,
                segment,
                status
            );
        }
        Ok(())
    }
}

/// The template of the authority's row that a proxied row asks; native rows ask nobody.
fn upstream(row: &Row) -> Option<(&'static str, &'static str)> {
    fn of<P: Proxied>() -> (&'static str, &'static str, &'static str) {
        let target = <P::Target as Operation>::ROW;
        (P::ROW.name, target.method.name(), target.path)
    }
    let all = [
        of::<matrix::PublicWorkersGet>(),
        of::<matrix::PublicWorkersHeartbeat>(),
        of::<matrix::PublicWorkersStatus>(),
    ];
    all.into_iter().find(|(name, ..)| *name == row.name).map(|(_, method, path)| (method, path))
}

/// The segments of a path, those in the place of the id left out.
fn shape(path: &str) -> Vec<String> {
    path.split('/')
        .enumerate()
        .map(|(at, segment)| if at == 4 { String::new() } else { segment.to_owned() })
        .collect()
}

/// Every row of control that names a worker.
fn rows() -> Vec<&'static Row> {
    let rows: Vec<&Row> =
        matrix::CONTROL.iter().copied().filter(|row| row.path.contains(":worker_id")).collect();
    assert_eq!(rows.iter().filter(|row| row.lane == Lane::Proxied).count(), 3);
    rows
}

const NOTORIOUS: [&str; 34] = [
    "..%2Fcredit%2Fsettle%3F",
    "..%2Fcredit%2Fhealth%3Fz=",
    "%2e%2e",
    "%2E%2E%2F%2E%2E",
    "..",
    ".",
    "%2e",
    "..;",
    "a%2Fb",
    "a/b",
    "a%2fb%2f..",
    "a\\b",
    "a%5Cb",
    ";",
    "a;b=c",
    "%00",
    "a%00b",
    "?",
    "%3F",
    "a?b=c",
    "#",
    "%23",
    "a#b",
    "%25%32%65",
    "%252e%252e%252f",
    "%ff",
    "%C3%BC",
    "ü",
    "%E2%80%AE",
    "%EF%BC%8F",
    "%20",
    "a%0d%0aX-Injected:%201",
    "%",
    "http:%2F%2F127.0.0.1",
];

#[tokio::test(flavor = "multi_thread")]
async fn notorious_ids_reach_no_other_lane() {
    let stage = Stage::set().await;
    let (longest, too_long) = ("x".repeat(160), "x".repeat(161));
    for row in rows() {
        for segment in
            NOTORIOUS.iter().copied().chain([too_long.as_str(), &longest, "desktop:w9", "desktop%3Aw9"])
        {
            stage.check(row, segment).await.unwrap_or_else(|error| panic!("{error}"));
        }
    }
    let get = rows().into_iter().find(|row| row.name == "api.workers.get").unwrap();
    for (segment, status) in [
        ("..%2Fcredit%2Fsettle%3F", 422),
        ("%2e%2e", 422),
        ("a%2Fb", 422),
        (";", 422),
        ("%00", 400),
        ("%ff", 400),
        ("%C3%BC", 422),
        ("a/b", 404),
        (too_long.as_str(), 422),
        (longest.as_str(), 200),
        ("desktop%3Aw9", 200),
    ] {
        assert_eq!(
            stage.send(get, &get.path.replace(":worker_id", segment)).await,
            Some(status),
            "{segment}"
        );
    }
    assert_eq!(stage.runtime.heard().len(), 2);
}

#[test]
fn no_segment_at_all_changes_the_shape_of_the_upstream_path() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let stage = runtime.block_on(Stage::set());
    let rows = rows();
    // Text of every kind percent-encoded; bytes that are legal in a path as they are; pieces of attacks put together.
    let encoded =
        any::<String>().prop_map(|text| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>());
    let bare = "[!-~]{1,40}";
    let pieces = prop::collection::vec(
        prop::sample::select(vec![
            "..", ".", "%2e", "%2F", "/", "%3F", "?", "%23", ";", "%00", "%25", "a", ":", "@", "credit",
            "settle", "%5c",
        ]),
        1..8,
    )
    .prop_map(|pieces| pieces.concat());
    let segment = prop_oneof![encoded, bare, pieces];
    let config = ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new(config)
        .run(&(0..rows.len(), segment), |(at, segment)| {
            prop_assume!(segment.len() <= 4_000);
            runtime.block_on(stage.check(rows[at], &segment))
        })
        .unwrap_or_else(|error| panic!("{error}"));
}
