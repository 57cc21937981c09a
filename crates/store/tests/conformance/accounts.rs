//! What both engines promise of memberships, session lists and the keys of sync tokens.

use oa_contract::{instant::Timestamp, refusal::Stop};
use oa_store::{
    Store, Tx,
    tables::{
        accounts::{self, Membership},
        identity::{self, SecretHash, Session, SessionStatus},
        sync_keys::{self, SyncKey},
    },
};

use crate::harness::Place;

const NOW: Timestamp = Timestamp::from_unix_seconds(1_700_000_000);

async fn on_both_engines(test: impl AsyncFn(&Store)) {
    for place in [Place::sqlite(), Place::postgres()] {
        let store = place.open().await;
        test(&store).await;
        let verified = store.verify(|_| {}).await.expect("a check");
        assert_eq!(verified.findings, Vec::<String>::new());
        place.end(store).await;
    }
}

fn member(user_id: &str, org_id: &str, role: &str) -> Membership {
    Membership {
        user_id: user_id.into(),
        org_id: org_id.into(),
        org_slug: org_id.replace(':', "-"),
        role: role.into(),
        role_scopes: vec!["runtime.read".into()],
        default_org: false,
        created_at: NOW,
    }
}

async fn memberships(tx: &mut Tx, user_id: &&'static str) -> Result<Vec<Membership>, Stop> {
    accounts::memberships(tx, user_id).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_membership_stays_as_it_was_first_given_however_many_give_it_at_once() {
    on_both_engines(async |store| {
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..8 {
            let store = store.clone();
            let user = if n % 2 == 0 { "ada" } else { "bob" };
            let join = async |tx: &mut Tx, one: &Membership| accounts::join(tx, one).await;
            tasks.spawn(async move {
                store.write("join", (), member(user, "org:house", "member"), join).await.expect("joined");
            });
        }
        tasks.join_all().await;
        let join = async |tx: &mut Tx, one: &Membership| accounts::join(tx, one).await;
        store.write("join", (), member("ada", "org:house", "owner"), join).await.expect("joined");
        let found = store.read("list", "ada", memberships).await.expect("a list");
        assert_eq!(found, [member("ada", "org:house", "member")]);
        assert_eq!(store.read("list", "eve", memberships).await.expect("a list"), []);
    })
    .await;
}

fn session(n: u8, user_id: &str, device_id: &str, status: SessionStatus) -> Session {
    Session {
        session_id: format!("sess_{n}"),
        user_id: user_id.into(),
        email: "dev@example.com".into(),
        device_id: device_id.into(),
        token_name: "t".into(),
        active_org_id: "o".into(),
        access: SecretHash([n; 32]),
        refresh: SecretHash([n; 32]),
        refresh_token_id: format!("rtid_{n}"),
        issued_at: NOW.plus_seconds(i64::from(n)),
        access_expires_at: NOW,
        refresh_expires_at: NOW,
        status,
        reauth_required: false,
        last_refreshed_at: None,
        revoked_at: None,
        revoked_reason: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_newest_first_and_the_living_ones_in_portions() {
    on_both_engines(async |store| {
        let keep = async |tx: &mut Tx, (): &()| {
            for n in 1..=5 {
                let status = if n == 3 { SessionStatus::Revoked } else { SessionStatus::Active };
                let device = if n < 3 { "a" } else { "b" };
                identity::put_session(tx, &session(n, "ada", device, status)).await?;
            }
            identity::put_session(tx, &session(6, "bob", "a", SessionStatus::Active)).await
        };
        store.write("keep", (), (), keep).await.expect("kept");
        let list = async |tx: &mut Tx, (): &()| {
            let all = identity::sessions_of_user(tx, "ada", None, 4).await?;
            let device = identity::sessions_of_user(tx, "ada", Some("a"), 4).await?;
            let first = identity::active_sessions(tx, "ada", "", 2).await?;
            let rest = identity::active_sessions(tx, "ada", "sess_2", 9).await?;
            Ok([all, device, first, rest]
                .map(|list| list.into_iter().map(|one| one.session_id).collect::<Vec<_>>()))
        };
        let lists = store.read("list", (), list).await.expect("lists");
        assert_eq!(lists[0], ["sess_5", "sess_4", "sess_3", "sess_2"]);
        assert_eq!(lists[1], ["sess_2", "sess_1"]);
        assert_eq!(lists[2], ["sess_1", "sess_2"]);
        assert_eq!(lists[3], ["sess_4", "sess_5"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_shown_until_its_moment_and_then_forgotten() {
    on_both_engines(async |store| {
        let key = |kid: &str, at: i64| SyncKey {
            kid: kid.into(),
            public_key: vec![7; 32],
            made_at: NOW.plus_seconds(at),
            retired_at: None,
            served_until: None,
        };
        let (old, new) = (key("old", 0), key("new", 10));
        let retired = SyncKey {
            retired_at: Some(NOW.plus_seconds(10)),
            served_until: Some(NOW.plus_seconds(20)),
            ..old.clone()
        };
        let keep = async |tx: &mut Tx, keys: &Vec<SyncKey>| {
            for key in keys {
                sync_keys::put(tx, key).await?;
            }
            Ok(())
        };
        store.write("keep", (), vec![old, new.clone(), retired.clone()], keep).await.expect("kept");
        let signing = async |tx: &mut Tx, (): &()| sync_keys::signing(tx).await;
        assert_eq!(store.read("signing", (), signing).await.expect("keys"), std::slice::from_ref(&new));
        let served = async |tx: &mut Tx, now: &Timestamp| sync_keys::served(tx, *now).await;
        let at = async |seconds| store.read("served", NOW.plus_seconds(seconds), served).await.expect("keys");
        assert_eq!(at(19).await, [new.clone(), retired]);
        assert_eq!(at(20).await, [new]);
        let purge = async |tx: &mut Tx, now: &Timestamp| sync_keys::purge(tx, *now).await;
        assert_eq!(store.write("purge", (), NOW.plus_seconds(19), purge).await.expect("purged"), 0);
        assert_eq!(store.write("purge", (), NOW.plus_seconds(20), purge).await.expect("purged"), 1);
    })
    .await;
}
