//! The `oa runs` commands against a simulated runtime over real sockets.

use oa_contract::{export::verify_export, signer::Signer};

use super::{tail::Follow, *};
use crate::{
    data_dir::tests::scratch,
    failure::{NO_ANSWER, OK, REFUSED, WRONG},
    output::Format,
    simulated::{SECRET, Simulated},
};

async fn recorded(simulated: &Simulated) -> (Client, Uuid) {
    let directory = scratch();
    let data = crate::data_dir::DataDir::at(directory.path());
    let place = simulated.place();
    let around = crate::exec::Around { place: &place, data: &data, format: Format::Json };
    let order = crate::exec::Order {
        argv: ["sh", "-c", "echo out"].map(Into::into).to_vec(),
        run: None,
        name: None,
        metadata: None,
        finish: false,
        offline_ok: false,
        patience: Duration::from_secs(10),
    };
    crate::exec::run(order, around).await.expect("recorded");
    (place.client().expect("a client"), simulated.held().runs.last().expect("a run").id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_listed_shown_and_followed_over_broken_connections() {
    let simulated = Simulated::start().await;
    simulated.held().cut_stream_after = Some(1);
    let (client, id) = recorded(&simulated).await;
    list::list(&client, None, 10, Format::Text).await.expect("listed");
    show::show(&client, id, Format::Json).await.expect("shown");
    let follow = Follow { after: 0, until_head: false, past_finish: false };
    let tail = tail::tail(&client, id, follow, Format::Json);
    tokio::time::timeout(Duration::from_secs(20), tail).await.expect("ends with the run").expect("followed");
    let follow = Follow { after: 2, until_head: true, past_finish: true };
    tail::tail(&client, id, follow, Format::Text).await.expect("ends at the head");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_run_is_a_refusal_and_a_dead_server_is_no_answer() {
    let mut simulated = Simulated::start().await;
    let client = simulated.place().client().expect("a client");
    let follow = Follow { after: 0, until_head: false, past_finish: false };
    assert_eq!(
        tail::tail(&client, Uuid::nil(), follow, Format::Text).await.expect_err("unknown").code,
        REFUSED
    );
    assert_eq!(show::show(&client, Uuid::nil(), Format::Text).await.expect_err("unknown").code, REFUSED);
    simulated.kill().await;
    assert_eq!(list::list(&client, None, 1, Format::Text).await.expect_err("dead").code, NO_ANSWER);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_verifies_for_its_signer_only_and_not_after_a_change() {
    let simulated = Simulated::start().await;
    let (client, id) = recorded(&simulated).await;
    let directory = scratch();
    let file = directory.path().join("proof.jsonl");
    export::export(&client, id, Some(&file), Format::Text).await.expect("exported");
    let signer = Signer::from_secret(SECRET).expect("a key").public_key_hex();
    assert_eq!(verify::verify(&file, Some(&signer), Format::Text), Ok(OK));
    assert_eq!(verify::verify(&file, Some(&"0".repeat(64)), Format::Json), Ok(WRONG));
    assert!(verify::verify(&file, Some("short"), Format::Text).is_err());
    let changed = std::fs::read_to_string(&file).expect("there").replace("out\\n", "aut\\n");
    assert!(verify_export(changed.as_bytes(), None).is_err());
    std::fs::write(&file, changed).expect("written");
    assert_eq!(verify::verify(&file, None, Format::Text), Ok(WRONG));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_runs_than_a_page_holds_are_listed_page_by_page() {
    let simulated = Simulated::start().await;
    let client = simulated.place().client().expect("a client");
    for _ in 0..3 {
        recorded(&simulated).await;
    }
    list::list(&client, Some(oa_contract::wire::runs::RunStatus::Succeeded), 1_000, Format::Json)
        .await
        .expect("listed");
}
