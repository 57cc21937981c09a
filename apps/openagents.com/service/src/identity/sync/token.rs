//! Decides who gets a sync token, for which scopes and topics, and for how long. The checks come in the order of
//! control §7; four paths share them.

use oa_contract::{
    Answer, Ask, Caller, Code, Credential, Handle, Meta, Refusal, Stop, Timestamp, User,
    matrix::{SpacetimeToken, SpacetimeTokenV1, SyncToken as SyncTokenRow, SyncTokenV1},
    wire::{
        identity::{Secret, SessionView},
        sync::{GrantedStream, GrantedTopic, RequestSyncToken, SyncToken, SyncTokenReply},
    },
};

use super::{jwt::Claims, signing::usable};
use crate::{
    Control, audit,
    identity::{
        device,
        orgs::Orgs,
        policy::{evaluate, names, topic_prefix},
        settings::SyncTokenConfig,
        signed_in,
    },
};

/// What each scope is for: the end of its topics, and whose they are.
const SCOPES: [(&str, &str, Whose); 3] = [
    ("runtime.codex_worker_events", "worker_events", Whose::Organisation),
    ("runtime.codex_worker_summaries", "workers", Whose::Organisation),
    ("runtime.run_summaries", "runs", Whose::User),
];

#[derive(Clone, Copy)]
enum Whose {
    Organisation,
    User,
}

macro_rules! serves {
    ($($row:ident)+) => { $(
        impl Handle<$row> for Control {
            async fn handle(&self, ask: Ask<$row>) -> Result<Answer<SyncTokenReply>, Stop> {
                self.sync_token(&ask.caller, &ask.body, &ask.meta).await
            }
        }
    )+ };
}

serves!(SyncTokenRow SpacetimeToken SyncTokenV1 SpacetimeTokenV1);

impl Control {
    async fn sync_token(
        &self,
        caller: &Caller,
        body: &RequestSyncToken,
        meta: &Meta,
    ) -> Result<Answer<SyncTokenReply>, Stop> {
        let now = self.clock.now();
        let user = signed_in(caller)?;
        let made = self.make_sync_token(user, body, now).await;
        let event = audit::Event {
            user_id: Some(&user.user_id),
            session_id: Some(&user.session_id),
            org_id: Some(&user.active_org_id),
            ..audit::Event::default()
        };
        match &made {
            Ok(token) => {
                let counts = [token.scopes.len(), token.granted_topics.len()].map(|count| count.to_string());
                let expires_in = token.expires_in.to_string();
                let attributes = [
                    ("scope_count", counts[0].as_str()),
                    ("topic_count", counts[1].as_str()),
                    ("expires_in", expires_in.as_str()),
                ];
                let event = audit::Event {
                    name: "sync.token.issued",
                    device_id: Some(&token.device_id),
                    attributes: &attributes,
                    ..event
                };
                audit::success(event, meta, now);
            }
            Err(Failed::Policy(_)) => audit::rejected(
                audit::Event {
                    name: "sync.token.policy_denied",
                    attributes: &[("reason", "forbidden")],
                    ..event
                },
                meta,
                now,
            ),
            Err(Failed::Issue(stop)) => audit::failure("sync.token.issue.failed", stop, meta, now),
            Err(Failed::Auth(stop)) => audit::failure("sync.token.auth_failed", stop, meta, now),
        }
        Ok(SyncTokenReply { data: made? }.into())
    }

    async fn make_sync_token(
        &self,
        user: &User,
        body: &RequestSyncToken,
        now: Timestamp,
    ) -> Result<SyncToken, Failed> {
        let standing = self.standing(user).await.map_err(Failed::Auth)?;
        check_device(user, body.device_id.as_deref(), &standing.session).map_err(Failed::issue)?;
        let config = &self.config.accounts.sync;
        let secret = usable(config).map_err(Failed::issue)?;
        let grant = decide(config, body, user).map_err(Failed::issue)?;
        let orgs = Orgs { active: user.active_org_id.clone(), memberships: standing.memberships };
        let ruling = evaluate(user, &orgs, None, &grant.scopes, &grant.topics());
        if !ruling.allowed {
            let why = ruling.denied_reasons.join(", ");
            return Err(Failed::Policy(Refusal::forbidden(format!(
                "The policy does not allow this: {why}."
            ))));
        }
        let key = self.sync_key(secret, now).await.map_err(Failed::Issue)?;
        let token_id = format!("sync_{}", self.ids.uuid32());
        let subject = format!("user:{}", user.user_id);
        let (iat, ttl) = (now.unix_seconds(), i64::from(grant.ttl_seconds));
        let topics = grant.topics();
        let claims = Claims {
            iss: &config.issuer,
            aud: &config.audience,
            sub: &subject,
            iat,
            nbf: iat,
            exp: iat + ttl,
            jti: &token_id,
            oa_user_id: &user.user_id,
            oa_org_id: &user.active_org_id,
            oa_session_id: &standing.session.session_id,
            oa_device_id: &standing.session.device_id,
            oa_sync_scopes: &grant.scopes,
            oa_sync_topics: &topics,
            oa_sync_streams: &topics,
            oa_claims_version: &config.claims_version,
        };
        let token = key.sign(&claims).map_err(|fault| Failed::Issue(fault.into()))?;
        let refresh_after_in = (ttl - 30).max(1);
        Ok(SyncToken {
            token: Secret::new(token),
            token_type: "Bearer".into(),
            transport: "spacetime_ws".into(),
            protocol_version: "spacetime.sync.v1".into(),
            expires_in: ttl,
            refresh_after_in,
            issued_at: now.offset(),
            refresh_after: now.plus_seconds(refresh_after_in).offset(),
            expires_at: now.plus_seconds(ttl).offset(),
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            subject,
            org_id: user.active_org_id.clone(),
            claims_version: config.claims_version.clone(),
            scopes: grant.scopes,
            granted_streams: grant
                .granted
                .iter()
                .map(|one| GrantedStream {
                    stream: one.topic.clone(),
                    required_scope: one.required_scope.clone(),
                })
                .collect(),
            granted_topics: grant.granted,
            kid: key.kid,
            token_id,
            session_id: standing.session.session_id,
            device_id: standing.session.device_id,
        })
    }
}

/// Why there is no token; each has an event of its own.
enum Failed {
    Auth(Stop),
    Issue(Stop),
    Policy(Refusal),
}

impl Failed {
    fn issue(refusal: Refusal) -> Self {
        Failed::Issue(refusal.into())
    }
}

impl From<Failed> for Stop {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Auth(stop) | Failed::Issue(stop) => stop,
            Failed::Policy(refusal) => refusal.into(),
        }
    }
}

/// A session names its own device or none; a personal token has none to name.
fn check_device(user: &User, named: Option<&str>, session: &SessionView) -> Result<(), Refusal> {
    let other = match named.map(str::trim).filter(|id| !id.is_empty()) {
        Some(named) if user.credential == Credential::Session => {
            !matches!(device::device_id(Some(named)), Ok(Some(id)) if id == session.device_id)
        }
        _ => false,
    };
    match other {
        true => Err(Refusal::forbidden("This session belongs to another device.")),
        false => Ok(()),
    }
}

/// What a token would hold, if the policy allows it.
#[derive(Debug, PartialEq, Eq)]
struct Grant {
    ttl_seconds: u32,
    /// Ascending.
    scopes: Vec<String>,
    /// Ascending by topic.
    granted: Vec<GrantedTopic>,
}

impl Grant {
    fn topics(&self) -> Vec<String> {
        self.granted.iter().map(|one| one.topic.clone()).collect()
    }
}

/// Time, scopes, topics: in this order.
fn decide(config: &SyncTokenConfig, body: &RequestSyncToken, user: &User) -> Result<Grant, Refusal> {
    let ttl_seconds = body.ttl_seconds.unwrap_or(config.ttl_seconds);
    let bounds = config.min_ttl_seconds..=config.max_ttl_seconds;
    if !bounds.contains(&ttl_seconds) {
        let message = format!("ttl_seconds must lie between {} and {}", bounds.start(), bounds.end());
        return Err(Refusal::invalid(message));
    }
    let scopes = scopes(config, body.scopes.as_deref())?;
    let mut topics = names("streams", body.streams.as_deref())?;
    topics.extend(names("topics", body.topics.as_deref())?);
    let topics = if topics.is_empty() { topics_of(&scopes, user) } else { in_order(topics) };
    let granted: Vec<_> = topics
        .into_iter()
        .map(|topic| match required_scope(&topic) {
            Some(scope) => Ok(GrantedTopic { topic, required_scope: scope.to_owned() }),
            None => Err(Refusal::invalid(format!("the topic {topic} is of no kind that is known"))),
        })
        .collect::<Result<_, _>>()?;
    match granted.iter().find(|one| !scopes.contains(&one.required_scope)) {
        Some(GrantedTopic { topic, required_scope }) => Err(Refusal::new(
            Code::InvalidScope,
            format!("the topic {topic} needs the scope {required_scope}, which was not asked for"),
        )),
        None => Ok(Grant { ttl_seconds, scopes, granted }),
    }
}

fn scopes(config: &SyncTokenConfig, asked: Option<&[String]>) -> Result<Vec<String>, Refusal> {
    let asked = names("scopes", asked)?;
    let scopes = [asked, config.default_scopes.clone(), config.allowed_scopes.clone()]
        .into_iter()
        .find(|scopes| !scopes.is_empty())
        .unwrap_or_default();
    match scopes.iter().find(|scope| !config.allowed_scopes.contains(scope)) {
        Some(scope) => Err(Refusal::new(Code::InvalidScope, format!("the scope {scope} is not given out"))),
        None => Ok(in_order(scopes)),
    }
}

fn in_order(mut names: Vec<String>) -> Vec<String> {
    names.sort_unstable();
    names.dedup();
    names
}

fn topics_of(scopes: &[String], user: &User) -> Vec<String> {
    let topics = SCOPES.iter().filter(|(scope, ..)| scopes.iter().any(|one| one == scope));
    let topics = topics.map(|(_, end, whose)| match whose {
        Whose::Organisation => format!("{}:{end}", topic_prefix(&user.active_org_id)),
        Whose::User => format!("user:{}:{end}", user.user_id),
    });
    in_order(topics.collect())
}

fn required_scope(topic: &str) -> Option<&'static str> {
    let (_, end) = topic.rsplit_once(':')?;
    SCOPES.iter().find(|(_, known, _)| *known == end).map(|(scope, ..)| *scope)
}

#[cfg(test)]
mod tests;
