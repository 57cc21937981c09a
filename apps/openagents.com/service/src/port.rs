//! Decides who may call a row of control: anyone, or whoever carries a session or a personal token whose
//! abilities reach that far; and how often, where users are counted (control §2.8).

use std::net::IpAddr;

use oa_contract::{Arriving, Barred, Caller, Class, Port, Presented, Refusal, Row, Service, Stop};

use crate::{
    Control, forwarded, headers,
    identity::{authenticate::unauthenticated, throttle},
};

impl Port for Control {
    const SERVICE: Service = Service::Control;

    async fn authenticate(&self, class: Class, presented: Presented<'_>) -> Result<Caller, Stop> {
        let ability = match class {
            Class::Anyone => return Ok(Caller::Anyone),
            // No row of control is for services.
            Class::Service | Class::Operator => return Err(unauthenticated().into()),
            Class::User(ability) => ability,
        };
        let cookie = presented.cookie.filter(|_| takes_the_cookie(presented.path));
        let user = self.identify(Presented { cookie, ..presented }).await?;
        match user.may(ability) {
            true => Ok(Caller::User(user)),
            false => {
                Err(Refusal::forbidden(format!("this token does not carry the ability `{ability}`")).into())
            }
        }
    }

    /// Each try counts, also one whose body is no JSON (control §2.1, §2.8).
    fn counts(&self, row: &Row, caller: &Caller, peer: &str) -> Result<(), Refusal> {
        let signs_up = self.config.accounts.signup.is_some();
        let (limit, who) = match (row.name, caller) {
            ("auth.email", _) => (throttle::EMAIL, throttle::peer_key(peer)),
            ("auth.register", _) if signs_up => (throttle::EMAIL, throttle::peer_key(peer)),
            ("threads.append_message", Caller::User(user)) => {
                (throttle::THREAD_MESSAGE, user.user_id.clone())
            }
            ("codex.requests", Caller::User(user)) => (throttle::CODEX_REQUEST, user.user_id.clone()),
            _ => return Ok(()),
        };
        self.throttle.admit(limit, &who, self.clock.now())
    }

    fn admits_writes(&self) -> Result<(), Refusal> {
        Ok(())
    }

    fn request_id(&self) -> String {
        let id = self.ids.uuid32();
        match uuid::Uuid::parse_str(&id) {
            Ok(id) => id.to_string(),
            Err(_) => id,
        }
    }

    fn bars(&self, arriving: &Arriving<'_>) -> Option<Barred> {
        self.gates(arriving)
    }

    fn answers_preflight(&self, path: &str) -> bool {
        headers::is_api(path)
    }

    fn dress(&self, path: &str, origin: Option<&str>, preflight: bool) -> Vec<(&'static str, String)> {
        headers::dress(path, origin, preflight, self.config.accounts.cors_allowed_origins.as_deref())
    }

    fn client(&self, peer: IpAddr, forwarded_for: &str, real_ip: &str) -> IpAddr {
        forwarded::client(&self.config.accounts.trusted_proxies, peer, forwarded_for, real_ip)
    }
}

/// Whether the cookie of a browser counts here. Rows of credential S (control §2.7) want the header: a browser sends
/// its cookies along whoever made it ask, and what these rows do (pay, end sessions, send messages) is not to be done
/// by accident.
fn takes_the_cookie(path_and_query: &str) -> bool {
    const HEADER_ONLY: [&str; 7] = [
        "/api/auth",
        "/api/v1/auth",
        "/api/v1/control",
        "/api/runtime/tools",
        "/api/runtime/threads",
        "/api/chats",
        "/api/chat/stream",
    ];
    let path = path_and_query.split('?').next().unwrap_or_default();
    let below =
        |front: &str| path.strip_prefix(front).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let requests = path.starts_with("/api/runtime/codex/workers/") && path.ends_with("/requests");
    !requests && !HEADER_ONLY.into_iter().any(below)
}

#[cfg(test)]
mod tests {
    use oa_contract::{Lane, Method, matrix};

    use super::*;
    use crate::testing::World;

    #[test]
    fn the_cookie_counts_where_the_specification_says_so_and_nowhere_else() {
        let protected = matrix::rows_of(Service::Control).filter(|row| matches!(row.class, Class::User(_)));
        let (takes, refuses): (Vec<_>, Vec<_>) = protected.partition(|row| takes_the_cookie(row.path));
        for name in ["control.status", "auth.logout", "auth.revoke_sessions_v1", "route_split.override"] {
            assert!(refuses.iter().any(|row| row.name == name), "{name}");
        }
        for name in ["tools.execute", "threads.append_message", "codex.requests", "chat.stream", "chats.list"]
        {
            assert!(refuses.iter().any(|row| row.name == name), "{name}");
        }
        for name in ["me.profile", "tokens.list", "orgs.activate", "chat.guest_session", "sync.token_v1"] {
            assert!(takes.iter().any(|row| row.name == name), "{name}");
        }
        assert!(takes.iter().any(|row| row.name == "codex.stream" && row.method == Method::Get));
        assert_eq!(takes.iter().filter(|row| row.lane == Lane::Proxied).count(), 5);
        assert!(!takes_the_cookie("/api/chats?limit=1") && takes_the_cookie("/api/me?x=/api/chats"));
    }

    #[tokio::test]
    async fn a_browser_alone_does_not_end_a_session() {
        let world = World::new().await;
        let signed_in = world.sign_in("dev@example.com", "a").await;
        let cookie = format!("oa_access_token={}", signed_in.token.reveal());
        let asks = async |path| {
            let presented = Presented {
                method: "POST",
                path,
                authorization: None,
                signature: None,
                cookie: Some(&cookie),
                body: b"",
                peer: "127.0.0.1",
            };
            world.control.authenticate(Class::User("self"), presented).await.is_ok()
        };
        assert!(!asks("/api/auth/logout").await);
        assert!(asks("/api/orgs/active").await);
    }
}
