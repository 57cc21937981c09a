//! Which origins browsers may ask from, and who may do what administrators may.

use oa_contract::{Caller, Class, Port as _, Presented};
use oa_testkit::{World, WorldOptions};

use super::{sign_in_on, text};

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_origins_is_kept_to_and_without_one_every_origin_is_reflected() {
    let list = vec![("OA_CORS_ALLOWED_ORIGINS", "https://app.test, https://desk.test".to_owned())];
    let listed = World::with(WorldOptions { control: list, ..WorldOptions::default() }).await;
    let open = World::new().await;
    let told = async |world: &World, method: &str, origin: &str| {
        let answered = world.control_http.send(method, "/api/me", &[("origin", origin)], None).await;
        answered.header("access-control-allow-origin").map(str::to_owned)
    };
    for method in ["OPTIONS", "GET"] {
        assert_eq!(told(&listed, method, "https://desk.test").await.as_deref(), Some("https://desk.test"));
        assert_eq!(told(&listed, method, "https://evil.test").await, None);
        assert_eq!(told(&open, method, "https://evil.test").await.as_deref(), Some("https://evil.test"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_is_whoever_proved_an_address_of_the_list() {
    let control = vec![("OA_ADMIN_EMAILS", "Routes@OpenAgents.com".to_owned())];
    let world = World::with(WorldOptions { control, ..WorldOptions::default() }).await;
    for (email, admin) in [("routes@openagents.com", true), ("dev@example.com", false)] {
        let (_, session) = sign_in_on(&world, email, "laptop").await;
        let header = format!("Bearer {}", text(&session["token"]));
        let presented = Presented {
            method: "GET",
            path: "/",
            authorization: Some(&header),
            signature: None,
            cookie: None,
            body: b"",
            peer: "127.0.0.1",
        };
        let caller = world.control.authenticate(Class::User("self"), presented).await.expect("a caller");
        let Caller::User(user) = caller else { panic!("nobody") };
        assert_eq!(user.admin, admin, "{email}");
    }
}
