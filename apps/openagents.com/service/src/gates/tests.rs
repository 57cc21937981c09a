//! The gates together: which answer wins.

use oa_contract::{Arriving, Barred, Service};

use crate::testing::World;

async fn status(env: &[(&str, &str)], path: &str, days: i64) -> u16 {
    let world = World::with_runtime(env).await;
    world.clock.advance_millis(days * 86_400_000);
    let nothing = |_: &str| None;
    let arriving = Arriving { method: "GET", path, query: None, header: &nothing, request_id: "r" };
    match world.control.gates(&arriving) {
        None => 200,
        Some(Barred::Answered { status, .. }) => status,
        Some(Barred::Refused { refusal, .. }) => refusal.status(Service::Control),
    }
}

#[tokio::test]
async fn an_ended_lane_comes_before_an_old_client_before_maintenance() {
    const COMPAT: (&str, &str) = ("OA_COMPAT_CONTROL_ENFORCED", "1");
    const CLOSED: (&str, &str) = ("OA_MAINTENANCE_MODE_ENABLED", "1");
    const SUNSET: (&str, &str) = ("OA_COMPAT_SUNSET_ENFORCED", "1");
    let path = "/api/v1/control/status";
    assert_eq!(status(&[], path, 400).await, 200);
    assert_eq!(status(&[CLOSED], path, 0).await, 503);
    assert_eq!(status(&[COMPAT, CLOSED], path, 0).await, 426);
    assert_eq!(status(&[COMPAT, CLOSED], "/api/me", 0).await, 503);
    assert_eq!(status(&[COMPAT, CLOSED, SUNSET], path, 0).await, 426);
    assert_eq!(status(&[COMPAT, CLOSED, SUNSET], path, 400).await, 410);
    assert_eq!(status(&[COMPAT, SUNSET], "/api/runtime/threads", 400).await, 200);
}
