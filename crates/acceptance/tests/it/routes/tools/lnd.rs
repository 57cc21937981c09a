//! The same fetches, paid by a simulated LND node.

use oa_testkit::{
    World, WorldOptions,
    simulated::{LndMood, SimulatedL402Service, SimulatedLightning, SimulatedLnd},
};
use serde_json::{Value, json};

use super::{execute, words};

fn fetch(service: &SimulatedL402Service, id: &str) -> Value {
    json!({"tool_pack": "lightning.v1", "manifest": {}, "policy": {"l402_require_approval": false},
        "request": {"operation": "lightning_l402_fetch", "url": service.url(&format!("/{id}"))}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_pays_once_and_is_asked_what_became_of_it() {
    let lightning = SimulatedLightning::default();
    let node = SimulatedLnd::start(lightning.clone()).await;
    let service = SimulatedL402Service::start(lightning.clone(), 1_000).await;
    let mut control = node.variables();
    control.push(("OA_L402_ALLOW_PRIVATE_HOSTS", "1".into()));
    control.push(("OA_L402_REQUIRE_APPROVAL", "0".into()));
    let world = World::with(WorldOptions { control, ..WorldOptions::default() }).await;
    let user = world.sign_in("dev@example.com").await;
    let paid = execute(&user, &fetch(&service, "a")).await;
    assert_eq!(words(&paid), ("succeeded", "allowed", "paid_fetch_completed"));
    node.become_(LndMood::NoRoute);
    let failed = execute(&user, &fetch(&service, "b")).await;
    assert_eq!(words(&failed), ("failed", "failed", "invoice_pay_failed"));
    assert_eq!(
        (&failed["error"]["message"], &failed["result"]["paymentBackend"]),
        (&json!("no_route"), &json!("lnd_rest"))
    );
    node.become_(LndMood::PaysAndCuts);
    assert_eq!(execute(&user, &fetch(&service, "b")).await["reason_code"], "invoice_payment_unknown");
    assert_eq!(execute(&user, &fetch(&service, "b")).await["reason_code"], "paid_fetch_completed");
    assert_eq!(lightning.payments(), 2);
}
