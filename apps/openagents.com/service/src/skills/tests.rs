//! Proves who may do what in an organisation that several people share.

use oa_contract::{
    Ask, Handle, Nothing, Operation, Refusal, Stop,
    matrix::{OrgsActivate, SkillsListSkillSpecs, SkillsPublish, SkillsRelease, SkillsStoreSkillSpec},
    wire::{
        accounts::ActivateOrg,
        paths::SkillPath,
        skills::{ListSpecs, SkillRelease, SkillReleaseReply, SkillSpecRecord, StoreSkillSpec},
    },
};
use oa_store::{Tx, tables::accounts};
use serde_json::{Value, json, value::to_raw_value};

use crate::{Control, testing::World};

const LAB: &str = "org:lab";

/// Somebody who acts for the shared organisation.
async fn member(world: &World, email: &str, role: &str, scopes: &[&str]) -> String {
    let session = world.sign_in(email, "a").await;
    let membership = accounts::Membership {
        user_id: session.user_id.clone(),
        org_id: LAB.to_owned(),
        org_slug: "lab".to_owned(),
        role: role.to_owned(),
        role_scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        default_org: false,
        created_at: world.now(),
    };
    let join = async |tx: &mut Tx, membership: &accounts::Membership| accounts::join(tx, membership).await;
    world.control.store.write("test_join", (), membership, join).await.expect("joined");
    let token = session.token.reveal().to_owned();
    act_for(world, &token, LAB).await;
    token
}

async fn act_for(world: &World, token: &str, org_id: &str) {
    let body = ActivateOrg { org_id: org_id.to_owned() };
    world.ask_as::<OrgsActivate>(token, body).await.expect("chosen");
}

async fn store(world: &World, token: &str, spec: Value) -> Result<SkillSpecRecord, Refusal> {
    let body = StoreSkillSpec { skill_spec: Some(to_raw_value(&spec).expect("json")), state: None };
    Ok(world.ask_as::<SkillsStoreSkillSpec>(token, body).await?.body.data)
}

async fn at<O>(world: &World, token: &str, id: &str, version: u64) -> Result<SkillRelease, Refusal>
where
    O: Operation<Path = SkillPath, Query = Nothing, Body = Nothing, Reply = SkillReleaseReply>,
    Control: Handle<O>,
{
    let ask = Ask {
        path: SkillPath { skill_id: id.to_owned(), version },
        query: Nothing {},
        body: Nothing {},
        caller: world.caller(token).await?,
        meta: world.meta(&[]),
    };
    match Handle::<O>::handle(&*world.control, ask).await {
        Ok(answer) => Ok(answer.body.data),
        Err(Stop::Refusal(refusal)) => Err(refusal),
        Err(Stop::Fault(fault)) => panic!("{fault}"),
    }
}

async fn owners(world: &World, token: &str) -> Vec<String> {
    let ask = Ask {
        path: Nothing {},
        query: ListSpecs::default(),
        body: Nothing {},
        caller: world.caller(token).await.expect("a caller"),
        meta: world.meta(&[]),
    };
    let list = Handle::<SkillsListSkillSpecs>::handle(&*world.control, ask).await.expect("a list").body.data;
    list.into_iter().filter_map(|record| record.org_id).collect()
}

#[tokio::test]
async fn what_an_organisation_stores_is_seen_and_published_by_its_members() {
    let world = World::new().await;
    let ada = member(&world, "ada@example.com", "owner", &[]).await;
    let ben = member(&world, "ben@example.com", "member", &["runtime.write"]).await;
    let eve = world.sign_in("eve@example.com", "a").await.token.reveal().to_owned();
    let record = store(&world, &ada, json!({"skill_id": "Triage", "version": 1})).await.expect("stored");
    assert_eq!(record.org_id.as_deref(), Some(LAB));
    assert_eq!(owners(&world, &ben).await, [LAB]);
    assert!(owners(&world, &eve).await.is_empty());
    let changed =
        store(&world, &ben, json!({"skill_id": "triage", "version": 1, "n": 1})).await.expect("stored");
    assert_eq!(changed.owner_id, record.owner_id, "the owner is whoever stored it first");
    let own = format!("user:{}", world.signed_in(&ben).await.user_id);
    act_for(&world, &ben, &own).await;
    assert_eq!(owners(&world, &ben).await, [LAB], "members see it whatever they act for");
    let release = at::<SkillsPublish>(&world, &ben, "triage", 1).await.expect("published");
    assert_eq!(release.org_id, LAB);
    assert_eq!(
        at::<SkillsRelease>(&world, &ada, "triage", 1).await.expect("seen").release_id,
        release.release_id
    );
    for unseen in [
        at::<SkillsPublish>(&world, &eve, "triage", 1).await,
        at::<SkillsRelease>(&world, &eve, "triage", 1).await,
    ] {
        assert_eq!(unseen.expect_err("nothing").message, "Not found.");
    }
}

#[tokio::test]
async fn a_role_that_only_reads_changes_nothing() {
    let world = World::new().await;
    let ada = member(&world, "ada@example.com", "admin", &[]).await;
    let viewer = member(&world, "vic@example.com", "viewer", &["runtime.read"]).await;
    store(&world, &ada, json!({"skill_id": "triage", "version": 1})).await.expect("stored");
    assert_eq!(owners(&world, &viewer).await, [LAB]);
    let refused =
        store(&world, &viewer, json!({"skill_id": "triage", "version": 2})).await.expect_err("refused");
    assert_eq!(refused.status(oa_contract::Service::Control), 403);
    for (id, version) in [("triage", 1), ("github-coding", 1)] {
        let refused = at::<SkillsPublish>(&world, &viewer, id, version).await.expect_err("refused");
        assert_eq!(refused.status(oa_contract::Service::Control), 403, "{id}");
    }
    assert!(at::<SkillsRelease>(&world, &ada, "triage", 1).await.is_err(), "nothing was published");
}

#[tokio::test]
async fn each_organisation_has_its_own_versions() {
    let world = World::new().await;
    let ada = member(&world, "ada@example.com", "owner", &[]).await;
    store(&world, &ada, json!({"skill_id": "triage", "version": 1, "of": "lab"})).await.expect("stored");
    let own = format!("user:{}", world.signed_in(&ada).await.user_id);
    act_for(&world, &ada, &own).await;
    store(&world, &ada, json!({"skill_id": "triage", "version": 1, "of": "me"})).await.expect("stored");
    assert_eq!(owners(&world, &ada).await, [LAB, own.as_str()]);
    let mine = at::<SkillsPublish>(&world, &ada, "triage", 1).await.expect("published");
    assert_eq!(mine.org_id, own, "the active organisation's comes first");
    act_for(&world, &ada, LAB).await;
    let theirs = at::<SkillsPublish>(&world, &ada, "triage", 1).await.expect("published");
    assert_eq!(theirs.org_id, LAB);
    assert_ne!(theirs.bundle_hash, mine.bundle_hash);
}
