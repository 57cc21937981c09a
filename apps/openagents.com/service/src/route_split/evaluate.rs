//! Decides where one page would be served for one key, without serving it.

use oa_contract::{
    Answer, Ask, Handle, Meta, Refusal, Stop, matrix::RouteSplitEvaluate, operation::Data,
    wire::routing::RouteSplitDecisionReply,
};

use super::decide::decide;
use crate::Control;

/// Headers that name a key, the closest first.
const KEYS: [&str; 4] = ["x-oa-route-key", "x-device-id", "x-forwarded-for", "user-agent"];

impl Handle<RouteSplitEvaluate> for Control {
    async fn handle(&self, ask: Ask<RouteSplitEvaluate>) -> Result<Answer<RouteSplitDecisionReply>, Stop> {
        let path = ask.body.path.as_deref().unwrap_or_default().trim();
        if path.is_empty() {
            return Err(Refusal::field("path", "path must name a page").into());
        }
        let key = cohort_key(ask.body.cohort_key.as_deref(), &ask.meta);
        let overrides = self.route_split_overrides().await?;
        Ok(Data { data: decide(&self.config.route_split, &overrides, path, &key) }.into())
    }
}

fn cohort_key(given: Option<&str>, meta: &Meta) -> String {
    let named = [given].into_iter().chain(KEYS.iter().map(|name| meta.header(name))).flatten();
    let key = named.map(str::trim).find(|key| !key.is_empty()).unwrap_or("anonymous");
    key.to_owned()
}

#[cfg(test)]
mod tests {
    use oa_contract::wire::routing::EvaluateRouteSplit;

    use super::*;
    use crate::testing::World;

    #[test]
    fn the_body_names_the_key_before_the_headers_and_they_in_their_order() {
        let meta = |headers: &[(&'static str, &str)]| Meta {
            headers: headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
            ..Meta::default()
        };
        let all = [("user-agent", "ua"), ("x-device-id", "device"), ("x-oa-route-key", " ")];
        assert_eq!(cohort_key(Some(" k "), &meta(&all)), "k");
        assert_eq!(cohort_key(Some(" "), &meta(&all)), "device");
        assert_eq!(cohort_key(None, &meta(&[])), "anonymous");
    }

    #[tokio::test]
    async fn a_page_without_a_path_is_refused_by_its_field() {
        let world = World::new().await;
        let session = world.sign_in("dev@example.com", "a").await;
        for path in [None, Some("  ".to_owned())] {
            let body = EvaluateRouteSplit { path, cohort_key: None };
            let refused = world.ask_as::<RouteSplitEvaluate>(session.token.reveal(), body).await;
            assert_eq!(refused.expect_err("refused").field.as_deref(), Some("path"));
        }
    }
}
