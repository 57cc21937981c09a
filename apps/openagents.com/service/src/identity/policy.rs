//! Decides whether somebody may, in an organisation, with scopes, on topics (control §6); `policy.authorize`
//! asks without doing, sync tokens ask before they are made.

use oa_contract::{
    Answer, Ask, Handle, Refusal, Stop, User,
    matrix::PolicyAuthorize,
    wire::{
        accounts::{Authorize, PolicyReply, PolicyRuling},
        identity::Membership,
    },
};

use super::{orgs::Orgs, signed_in};
use crate::Control;

/// Scopes or topics in one question.
pub(crate) const MOST_NAMES: usize = 100;
pub(crate) const LONGEST_NAME: usize = 255;

/// Scopes that are also abilities: a personal token that lacks one is not granted it by its user's role.
const ABILITIES: [&str; 3] = ["runtime.read", "runtime.write", "tokens.manage"];

impl Handle<PolicyAuthorize> for Control {
    async fn handle(&self, ask: Ask<PolicyAuthorize>) -> Result<Answer<PolicyReply>, Stop> {
        let user = signed_in(&ask.caller)?;
        let Authorize { org_id, required_scopes, requested_topics } = &ask.body;
        let scopes = names("required_scopes", required_scopes.as_deref())?;
        let topics = names("requested_topics", requested_topics.as_deref())?;
        let orgs = self.orgs_of(user).await?;
        let org_id = org_id.as_deref().map(str::trim).filter(|id| !id.is_empty());
        Ok(PolicyReply { data: evaluate(user, &orgs, org_id, &scopes, &topics) }.into())
    }
}

/// Trimmed, without blanks; not more and not longer than anybody needs.
pub(crate) fn names(field: &'static str, given: Option<&[String]>) -> Result<Vec<String>, Refusal> {
    let all: Vec<String> = given
        .unwrap_or_default()
        .iter()
        .map(|one| one.trim().to_owned())
        .filter(|one| !one.is_empty())
        .collect();
    match all.len() > MOST_NAMES || all.iter().any(|one| one.chars().count() > LONGEST_NAME) {
        true => Err(Refusal::invalid(format!(
            "{field} may hold {MOST_NAMES} names of at most {LONGEST_NAME} characters each"
        ))),
        false => Ok(all),
    }
}

/// What the policy says. Allowed means that there is no reason against it.
pub(crate) fn evaluate(
    user: &User,
    orgs: &Orgs,
    org_id: Option<&str>,
    scopes: &[String],
    topics: &[String],
) -> PolicyRuling {
    let org_id = org_id.unwrap_or(&orgs.active);
    let mut ruling = PolicyRuling {
        allowed: false,
        resolved_org_id: org_id.to_owned(),
        granted_scopes: Vec::new(),
        denied_reasons: Vec::new(),
    };
    match orgs.membership(org_id) {
        None => ruling.denied_reasons.push("org_scope_denied".to_owned()),
        Some(membership) => {
            for scope in scopes {
                match grants(user, membership, scope) {
                    true => ruling.granted_scopes.push(scope.clone()),
                    false => ruling.denied_reasons.push(format!("scope_denied:{scope}")),
                }
            }
            let denied = topics.iter().filter(|topic| !is_open(user, org_id, topic));
            ruling.denied_reasons.extend(denied.map(|topic| format!("topic_denied:{topic}")));
        }
    }
    ruling.allowed = ruling.denied_reasons.is_empty();
    ruling
}

fn grants(user: &User, membership: &Membership, scope: &str) -> bool {
    let by_role = matches!(membership.role.as_str(), "owner" | "admin")
        || membership.role_scopes.iter().any(|one| one == scope);
    by_role && (!ABILITIES.contains(&scope) || user.may(scope))
}

/// The user's own topics and those of the organisation. Topics of runs are nobody's here: whose run it is, only
/// the runtime knows.
fn is_open(user: &User, org_id: &str, topic: &str) -> bool {
    let own = format!("user:{}:", user.user_id);
    topic.starts_with(&own) || topic.starts_with(&format!("{}:", topic_prefix(org_id)))
}

/// What the topics of an organisation begin with, before the colon.
pub(crate) fn topic_prefix(org_id: &str) -> String {
    match org_id.starts_with("org:") {
        true => org_id.to_owned(),
        false => format!("org:{org_id}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{identity::NewToken, testing::World};

    fn question(org_id: Option<&str>, scopes: &[&str], topics: &[&str]) -> Authorize {
        let owned = |all: &[&str]| Some(all.iter().map(|one| (*one).to_owned()).collect());
        Authorize {
            org_id: org_id.map(str::to_owned),
            required_scopes: owned(scopes),
            requested_topics: owned(topics),
        }
    }

    async fn ask(world: &World, secret: &str, body: Authorize) -> PolicyRuling {
        world.ask_as::<PolicyAuthorize>(secret, body).await.expect("a ruling").body.data
    }

    #[tokio::test]
    async fn an_owner_may_all_scopes_and_a_member_those_of_the_role() {
        let world = World::new().await;
        let session = world.sign_in("ada@openagents.com", "a").await;
        let secret = session.token.reveal();
        let own = ask(&world, secret, question(None, &["runtime.write", " ", "anything"], &[])).await;
        assert!(own.allowed);
        assert_eq!(own.granted_scopes, ["runtime.write", "anything"]);
        let body = question(Some("org:openagents"), &["runtime.write"], &["org:openagents:workers"]);
        let house = ask(&world, secret, body).await;
        assert_eq!(
            serde_json::to_value(&house).expect("json"),
            serde_json::json!({"allowed": false, "resolved_org_id": "org:openagents", "granted_scopes": [],
                "denied_reasons": ["scope_denied:runtime.write"]})
        );
        let elsewhere = ask(&world, secret, question(Some("org:other"), &["runtime.read"], &["x"])).await;
        assert_eq!((elsewhere.allowed, elsewhere.denied_reasons), (false, vec!["org_scope_denied".into()]));
    }

    #[tokio::test]
    async fn topics_are_the_users_and_the_organisations_and_never_a_runs() {
        let world = World::new().await;
        let session = world.sign_in("dev@example.com", "a").await;
        let id = &session.user_id;
        let (mine, orgs) = (format!("user:{id}:runs"), format!("org:user:{id}:workers"));
        let (other, run) = (format!("user:{id}0:runs"), "run:019503c1:events");
        let ruling =
            ask(&world, session.token.reveal(), question(None, &[], &[&mine, &orgs, &other, run])).await;
        assert_eq!(ruling.denied_reasons, [format!("topic_denied:{other}"), format!("topic_denied:{run}")]);
    }

    #[tokio::test]
    async fn a_personal_token_is_granted_no_ability_that_it_lacks() {
        let world = World::new().await;
        let user = world.user("dev@example.com").await;
        let new = NewToken { abilities: vec!["runtime.read".into()], ..NewToken::named("ci") };
        let token = world.personal_token(&user.user_id, new).await;
        let body = question(None, &["runtime.read", "runtime.write", "sync.subscribe"], &[]);
        let ruling = ask(&world, token.reveal(), body).await;
        assert_eq!(ruling.granted_scopes, ["runtime.read", "sync.subscribe"]);
        assert_eq!(ruling.denied_reasons, ["scope_denied:runtime.write"]);
    }
}
