//! What was revoked here is told to the runtime (control §5.8): at once, or when it is back.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use oa_contract::Stop;
use oa_store::{
    Tx,
    tables::revocations::{self, Kind},
};
use oa_testkit::{World, WorldOptions, both_engines};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use super::{sign_in_on, text};

/// A road to the runtime that can be closed: connections are dropped until it leads somewhere.
#[derive(Clone, Default)]
struct Road(Arc<Mutex<Option<SocketAddr>>>);

impl Road {
    async fn laid() -> (Self, String) {
        let road = Road::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let here = road.clone();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let Some(there) = here.leads_to() else { continue };
                tokio::spawn(async move {
                    if let Ok(mut far) = TcpStream::connect(there).await {
                        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                    }
                });
            }
        });
        (road, url)
    }

    fn leads_to(&self) -> Option<SocketAddr> {
        *self.0.lock().expect("a lock")
    }

    fn open(&self, world: &World) {
        let address = world.http.base.strip_prefix("http://").expect("http").parse().expect("an address");
        *self.0.lock().expect("a lock") = Some(address);
    }
}

async fn revoked(world: &World, session_id: &str) -> bool {
    let read = async |tx: &mut Tx, (id,): &(String,)| -> Result<bool, Stop> {
        revocations::is_revoked(tx, Kind::Session, id).await
    };
    world.runtime.store.read("test_revoked", (session_id.to_owned(),), read).await.expect("a read")
}

/// Waits for the background, whose pauses are measured by the world's clock.
async fn becomes_revoked(world: &World, session_id: &str) {
    let heard = async {
        while !revoked(world, session_id).await {
            world.clock.advance_millis(1_000);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), heard).await.expect("the runtime hears of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runtime_hears_of_a_logout_and_a_revocation_at_once() {
    for engine in both_engines() {
        let world = World::with(WorldOptions { engine, ..WorldOptions::default() }).await;
        let (phone, first) = sign_in_on(&world, "dev@example.com", "phone").await;
        let (laptop, second) = sign_in_on(&world, "dev@example.com", "laptop").await;
        let body = json!({"session_id": first["sessionId"]});
        assert_eq!(laptop.post("/api/auth/sessions/revoke", &body).await.status, 200);
        assert!(revoked(&world, text(&first["sessionId"])).await);
        assert_eq!(phone.get("/api/me").await.status, 401);
        let left = laptop.send("POST", "/api/auth/logout", &[], None).await;
        assert_eq!(left.status, 200, "{}", left.text());
        assert!(revoked(&world, text(&second["sessionId"])).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_that_was_away_hears_of_it_when_it_is_back_even_after_a_restart() {
    for engine in both_engines() {
        let (road, url) = Road::laid().await;
        let control = vec![("OA_RUNTIME_SYNC_REVOKE_BASE_URL", url)];
        let world = World::with(WorldOptions { engine, control, ..WorldOptions::default() }).await;
        let (dev, session) = sign_in_on(&world, "dev@example.com", "laptop").await;
        let left = dev.send("POST", "/api/auth/logout", &[], None).await;
        assert_eq!(left.status, 503, "{}", left.text());
        assert_eq!(left.json()["error"]["code"], "service_unavailable");
        assert_eq!(dev.get("/api/me").await.status, 401, "the revocation stands here");
        assert!(!revoked(&world, text(&session["sessionId"])).await);
        let world = world.restart().await;
        road.open(&world);
        becomes_revoked(&world, text(&session["sessionId"])).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_ended_in_passing_are_told_too_and_nobody_waits_for_it() {
    let (road, url) = Road::laid().await;
    let control = vec![("OA_RUNTIME_SYNC_REVOKE_BASE_URL", url)];
    let world = World::with(WorldOptions { control, ..WorldOptions::default() }).await;
    let (_, replaced) = sign_in_on(&world, "dev@example.com", "laptop").await;
    let (_, replayed) = sign_in_on(&world, "dev@example.com", "laptop").await;
    let refresh = json!({"refresh_token": replayed["refreshToken"]});
    assert_eq!(world.control_http.post("/api/auth/refresh", &refresh).await.status, 200);
    assert_eq!(world.control_http.post("/api/auth/refresh", &refresh).await.status, 401);
    road.open(&world);
    becomes_revoked(&world, text(&replaced["sessionId"])).await;
    becomes_revoked(&world, text(&replayed["sessionId"])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_runtime_nobody_is_told_and_nothing_fails() {
    for options in [
        WorldOptions { control_knows_runtime: false, ..WorldOptions::default() },
        WorldOptions {
            control: vec![("OA_RUNTIME_SYNC_REVOKE_BASE_URL", "off".into())],
            ..WorldOptions::default()
        },
    ] {
        let world = World::with(options).await;
        let (dev, session) = sign_in_on(&world, "dev@example.com", "laptop").await;
        assert_eq!(dev.send("POST", "/api/auth/logout", &[], None).await.status, 200);
        assert!(!revoked(&world, text(&session["sessionId"])).await);
    }
}
