//! Nobody reads or changes what is another's by knowing its name: over every row of the table whose path names
//! something (control §13, §14.2, §5.6; runtime-core §14.2).

use oa_contract::{Method, Owner, Row, Service, matrix::rows, openapi};
use oa_testkit::{Answered, World};
use serde_json::{Value, json};

use super::{
    examples::{example, operation},
    owned::{Owned, People, fixture, signed, subject},
};

/// Path parameters of built rows that name nothing which could be somebody's, with the reason.
const NOBODYS: [(&str, &str); 1] = [(
    "pool_id",
    "a pool is open to every provider; whose the deposits and shares in it are is told in apps/runtime/src/pools/tests",
)];

fn path(row: &Row, owned: &Owned) -> String {
    let mut path = row.path.to_owned();
    for (name, value) in &owned.values {
        path = path.replace(&format!(":{name}"), value);
    }
    assert!(!path.contains("/:"), "{}: no value for a parameter of {path}", row.name);
    path
}

/// The row's example, in the stranger's own name.
fn body(row: &Row, people: &People) -> Option<Value> {
    let document = openapi::document(row.served_by());
    let mut body = example(&document, operation(&document, row))?;
    if body.get("owner_user_id").is_some() {
        body["owner_user_id"] = json!(people.stranger_number);
    }
    Some(body)
}

async fn ask_as_stranger(world: &World, people: &People, row: &Row, owned: &Owned) -> Answered {
    let (mut path, body) = (path(row, owned), body(row, people));
    match row.served_by() {
        Service::Control => {
            let headers: &[(&str, &str)] =
                if body.is_some() { &[("content-type", "application/json")] } else { &[] };
            let body = body.map(|body| body.to_string().into_bytes());
            people.stranger.send(row.method.name(), &path, headers, body).await
        }
        Service::Runtime => {
            if row.method == Method::Get
                && row.name.starts_with("workers.")
                && row.name != "workers.checkpoint"
            {
                path = format!("{path}?owner_user_id={}", people.stranger_number);
            }
            let stranger = Owner::User(people.stranger_number);
            signed(world, &stranger, row.method.name(), &path, body).await
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_request_for_something_owned_is_refused_and_changes_nothing() {
    let world = World::new().await;
    let people = People::of(&world).await;
    let (mut asked, mut planned) = (0, 0);
    for row in rows().filter(|row| row.path.contains("/:")) {
        let (parameter, ..) = subject(row).unwrap();
        if NOBODYS.iter().any(|(name, _)| *name == parameter) {
            continue;
        }
        if !row.built {
            planned += 1;
            continue;
        }
        let Some(owned) = fixture(&world, &people, row).await else {
            panic!(
                "{}: nobody has said whose `{parameter}` is: add it to `owned.rs`, or to NOBODYS with the reason",
                row.name
            );
        };
        let before = world.kept();
        let refused = ask_as_stranger(&world, &people, row, &owned).await;
        assert_eq!(refused.status, owned.refused, "{}: {}", row.name, refused.text());
        assert_eq!(world.kept(), before, "{} changed something for a stranger", row.name);
        for (_, value) in owned.values.iter().filter(|(name, _)| *name == "token_id") {
            assert!(!refused.text().contains("secret"), "{value}");
        }
        asked += 1;
    }
    assert!(asked >= 14, "only {asked} rows were asked");
    let all = rows().filter(|row| row.path.contains("/:")).count();
    let nobodys = |row: &&Row| {
        subject(row).is_some_and(|(parameter, ..)| NOBODYS.iter().any(|(name, _)| *name == parameter))
    };
    let nobodys = rows().filter(|row| row.path.contains("/:")).filter(nobodys).count();
    assert_eq!(asked + planned + nobodys, all, "a row was passed over");
    println!("{asked} rows refuse strangers, {planned} are planned");
}

/// What does not exist and what is another's look the same where the specification wants it so.
#[tokio::test(flavor = "multi_thread")]
async fn a_404_for_what_is_anothers_tells_no_more_than_one_for_nothing() {
    let world = World::new().await;
    let people = People::of(&world).await;
    for row in rows().filter(|row| row.built && row.path.contains("/:")) {
        let Some(owned) = fixture(&world, &people, row).await.filter(|owned| owned.refused == 404) else {
            continue;
        };
        let theirs = ask_as_stranger(&world, &people, row, &owned).await;
        let nothing = Owned {
            refused: 404,
            values: owned
                .values
                .iter()
                .map(|(name, value)| match *name {
                    "run_id" => (*name, "019503c1-8a6e-7f10-9c55-2b7f0c1d4e90".to_owned()),
                    "stream" => (*name, "runtime.run.019503c1-8a6e-7f10-9c55-2b7f0c1d4e90.events".to_owned()),
                    "version" => (*name, value.clone()),
                    _ => (*name, "nothing-at-all".to_owned()),
                })
                .collect(),
        };
        let none = ask_as_stranger(&world, &people, row, &nothing).await;
        let plain = |answered: &Answered, owned: &Owned| {
            let mut text = answered.text();
            for (_, value) in &owned.values {
                let run = value.strip_prefix("runtime.run.").and_then(|rest| rest.strip_suffix(".events"));
                text = text.replace(run.unwrap_or(value), "…");
            }
            let mut body: Value = serde_json::from_str(&text).unwrap();
            body["request_id"] = Value::Null;
            (answered.status, body)
        };
        assert_eq!(plain(&theirs, &owned), plain(&none, &nothing), "{}", row.name);
    }
}

/// Makes one of everything, as the owner.
async fn make_everything(world: &World, people: &People) {
    for row in rows().filter(|row| row.built && row.path.contains("/:")) {
        let _ = fixture(world, people, row).await;
    }
}

async fn id_of(user: &oa_testkit::Http) -> String {
    user.get("/api/me").await.json()["data"]["user"]["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_listed_for_a_stranger_names_nothing_of_the_owners() {
    let world = World::new().await;
    let people = People::of(&world).await;
    make_everything(&world, &people).await;
    let owner_id = id_of(&people.owner).await;
    let traces = [
        owner_id.as_str(),
        "owner@example.com",
        &people.owner_number.to_string(),
        "\"owned",
        "runtime-owned",
    ]
    .map(str::to_owned);
    let listed = rows().filter(|row| {
        let users = matches!(row.class, oa_contract::Class::User(_));
        row.built && users && row.method == Method::Get && !row.path.contains("/:")
    });
    let (mut asked, mut shown) = (0, 0);
    for row in listed {
        let owners = people.owner.get(row.path).await.text();
        let strangers = people.stranger.get(row.path).await;
        assert!(strangers.status < 500, "{}: {}", row.name, strangers.text());
        for trace in &traces {
            assert!(!strangers.text().contains(trace), "{} shows {trace} to a stranger", row.name);
        }
        shown += usize::from(traces.iter().any(|trace| owners.contains(trace)));
        asked += 1;
    }
    assert!(asked >= 15, "only {asked} lists were read");
    assert!(shown >= 9, "only {shown} of {asked} lists show their owner anything: the others prove nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn naming_what_is_anothers_in_a_body_is_refused_and_changes_nothing() {
    let world = World::new().await;
    let people = People::of(&world).await;
    make_everything(&world, &people).await;
    let owner_id = id_of(&people.owner).await;
    let session = people.owner.get("/api/auth/session").await.json()["data"]["session"]["sessionId"].clone();
    let own = json!({"worker_id": "strangers"});
    assert_eq!(people.stranger.post("/api/runtime/codex/workers", &own).await.status, 202);
    let turn =
        json!({"request_id": "r", "method": "turn/start", "params": {"thread_id": "owned", "text": "x"}});
    let read = json!({"request_id": "s", "method": "thread/read", "params": {"thread_id": "owned"}});
    let call = json!({
        "tool_pack": "coding.v1", "user_id": people.owner_number, "manifest_ref": {"integration_id": "github.primary"},
        "request": {"integration_id": "github.primary", "operation": "get_issue", "repository": "a/b", "issue_number": 1},
    });
    let topics = json!({"topics": [format!("user:{owner_id}:worker_events")]});
    let org = format!("user:{owner_id}");
    let driver = json!({"scope_type": "user", "scope_id": owner_id, "driver": "runtime"});
    let requests = "/api/runtime/codex/workers/strangers/requests";
    let cases = [
        ("/api/runtime/workers", json!({"workerId": "owned"}), 403),
        ("/api/runtime/codex/workers", json!({"worker_id": "owned"}), 403),
        (requests, json!({"request": turn}), 403),
        (requests, json!({"request": read}), 403),
        ("/api/chat/stream", json!({"id": "owned", "text": "x"}), 403),
        ("/api/runtime/tools/execute", call, 403),
        ("/api/auth/sessions/revoke", json!({"session_id": session}), 403),
        ("/api/v1/auth/sessions/revoke", json!({"session_id": session}), 403),
        ("/api/orgs/active", json!({"org_id": org}), 403),
        ("/api/sync/token", topics, 403),
        ("/api/v1/control/runtime-routing/evaluate", json!({"thread_id": "t", "user_id": owner_id}), 403),
        ("/api/v1/control/runtime-routing/override", driver, 403),
        ("/api/v1/control/route-split/override", json!({"target": "legacy"}), 403),
    ];
    let messages = "/api/runtime/threads/owned/messages";
    let said = people.owner.get(messages).await.json();
    for (path, body, status) in cases {
        let before = world.kept();
        let refused = people.stranger.post(path, &body).await;
        assert_eq!(refused.status, status, "{path} {body}: {}", refused.text());
        assert!(!refused.text().contains("mine"), "{path} {body} tells what is another's");
        // A refused request to one's own worker is one's own record.
        assert!(path == requests || world.kept() == before, "{path} {body} changed something");
    }
    assert_eq!(people.owner.get(messages).await.json(), said);
    let ruling = people.stranger.post("/api/policy/authorize", &json!({"org_id": org})).await.json();
    assert_eq!(ruling["data"]["denied_reasons"], json!(["org_scope_denied"]));
    let silent = json!({"thread_id": "owned"});
    let decided = people.stranger.post("/api/v1/control/runtime-routing/evaluate", &silent).await.json();
    assert!(decided["data"].get("autopilot_id").is_none(), "{decided}");
}
