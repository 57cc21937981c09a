//! What both engines promise of the registry: one order of ids, one row a version, and releases that stay.

use oa_contract::instant::Timestamp;
use oa_contract::refusal::Stop;
use oa_store::Tx;
use oa_store::tables::skills::{
    self as rows, Kind, PublicName, Release, Spec, SpecPlace, State, newest_public, put_public, put_release,
    put_spec, spec_places, specs_between,
};

use crate::harness::{Place, fault};

const NOW: Timestamp = Timestamp::from_unix_seconds(1_700_000_000);

fn spec(org_id: &str, key: &str, version: u64) -> Spec {
    Spec {
        org_id: org_id.into(),
        kind: Kind::Skill,
        key: key.into(),
        version,
        id: key.to_uppercase(),
        owner_id: "user_1".into(),
        tool_pack: None,
        state: State::Published,
        frozen: true,
        created_at: NOW,
        updated_at: NOW,
        hash: [7; 32],
        text: format!("{{\"v\": {version} }}"),
    }
}

fn release(key: &str, version: u64, public: bool) -> Release {
    Release {
        org_id: "org:a".into(),
        key: key.into(),
        version,
        bundle_hash: [7; 32],
        published_by: "user_1".into(),
        published_at: NOW,
        signature: Some("{}".into()),
        public,
        text: "{}".into(),
    }
}

async fn keep(tx: &mut Tx, specs: &Vec<Spec>) -> Result<(), Stop> {
    for spec in specs {
        put_spec(tx, spec).await?;
    }
    Ok(())
}

async fn specifications(place: Place) {
    let store = place.open().await;
    // An order of words would put `_` and capitals elsewhere than an order of bytes.
    let keys = [("zeta", 1), ("a_b", 1), ("ab", 10), ("ab", 9), ("a-b", 1), ("é", 1)];
    let mut specs: Vec<Spec> = keys.iter().map(|(key, version)| spec("org:a", key, *version)).collect();
    specs.push(spec("org:b", "ab", 9));
    specs.push(Spec { kind: Kind::Tool, tool_pack: Some("coding.v1".into()), ..spec("org:a", "ab", 9) });
    store.write("keep", (), specs, keep).await.expect("kept");
    let places = async |tx: &mut Tx, (key, version, limit): &(String, u64, u32)| {
        spec_places(tx, "org:a", Kind::Skill, &SpecPlace { key: key.clone(), version: *version }, *limit)
            .await
    };
    let listed = |found: Vec<(SpecPlace, u64)>| -> Vec<String> {
        found.into_iter().map(|(place, _)| format!("{}{}", place.key, place.version)).collect()
    };
    let all = store.read("places", (String::new(), 0, 100), places).await.expect("places");
    assert!(all.iter().all(|(_, bytes)| *bytes >= 9));
    assert_eq!(listed(all), ["a-b1", "a_b1", "ab9", "ab10", "zeta1", "é1"]);
    let some = store.read("places", ("ab".into(), 10, 2), places).await.expect("places");
    assert_eq!(listed(some), ["ab10", "zeta1"]);
    let between = async |tx: &mut Tx, (): &()| {
        let place = |key: &str, version| SpecPlace { key: key.into(), version };
        specs_between(tx, "org:a", Kind::Skill, &place("a_b", 1), &place("ab", 9)).await
    };
    let found = store.read("between", (), between).await.expect("specifications");
    assert_eq!(found, [spec("org:a", "a_b", 1), spec("org:a", "ab", 9)]);
    let changed = Spec { state: State::Deprecated, ..spec("org:a", "ab", 9) };
    store.write("keep", (), vec![changed.clone()], keep).await.expect("changed");
    let read = async |tx: &mut Tx, kind: &Kind| rows::spec(tx, "org:a", *kind, "ab", 9).await;
    assert_eq!(store.read("read", Kind::Skill, read).await.expect("read"), Some(changed));
    let tool = store.read("read", Kind::Tool, read).await.expect("read").expect("a tool");
    assert_eq!((tool.tool_pack.as_deref(), tool.state), (Some("coding.v1"), State::Published));
    place.end(store).await;
}

async fn releases(place: Place) {
    let store = place.open().await;
    let specs = vec![
        spec("org:a", "x", 2),
        spec("org:a", "x", 10),
        Spec { state: State::Deprecated, ..spec("org:a", "x", 11) },
        spec("org:a", "x", 12),
        spec("org:b", "x", 13),
    ];
    store.write("keep", (), specs, keep).await.expect("kept");
    let publish = async |tx: &mut Tx, release: &Release| put_release(tx, release).await;
    for (version, public) in [(2, true), (10, true), (11, true), (12, false)] {
        store.write("publish", (), release("x", version, public), publish).await.expect("published");
    }
    let again = store.write("publish", (), release("x", 2, true), publish).await.expect_err("it stays");
    assert!(fault(again).contains("put_release"));
    let newest = async |tx: &mut Tx, org_id: &String| newest_public(tx, org_id, "x").await;
    let found = store.read("newest", "org:a".to_owned(), newest).await.expect("read");
    assert_eq!(found, Some(release("x", 10, true)));
    assert_eq!(store.read("newest", "org:b".to_owned(), newest).await.expect("read"), None);
    let name = |name: &str, version| PublicName {
        name: name.into(),
        org_id: "org:a".into(),
        version,
        artifact: "skill-md".into(),
        description: "d".into(),
        digest: [9; 32],
    };
    let show = async |tx: &mut Tx, public: &PublicName| put_public(tx, public).await;
    for public in [name("b", Some(1)), name("a-c", None), name("ab", Some(3)), name("b", Some(2))] {
        store.write("show", (), public, show).await.expect("shown");
    }
    let after =
        async |tx: &mut Tx, (after, limit): &(String, u32)| rows::list_public(tx, after, *limit).await;
    let all = store.read("list", (String::new(), 10), after).await.expect("a list");
    assert_eq!(all, [name("a-c", None), name("ab", Some(3)), name("b", Some(2))]);
    let rest = store.read("list", ("a-c".into(), 1), after).await.expect("a list");
    assert_eq!(rest, [name("ab", Some(3))]);
    place.meddle("UPDATE skill_releases SET spec = '{\"other\":1}' WHERE version = 2").await;
    let read = async |tx: &mut Tx, (): &()| rows::release(tx, "org:a", "x", 2).await;
    assert!(fault(store.read("read", (), read).await.expect_err("it was changed")).contains("release"));
    place.end(store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn specifications_are_ordered_by_bytes_and_kept_by_organisation_on_sqlite() {
    specifications(Place::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn specifications_are_ordered_by_bytes_and_kept_by_organisation_on_postgres() {
    specifications(Place::postgres()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_is_written_once_and_found_by_what_everybody_may_see_on_sqlite() {
    releases(Place::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_is_written_once_and_found_by_what_everybody_may_see_on_postgres() {
    releases(Place::postgres()).await;
}
