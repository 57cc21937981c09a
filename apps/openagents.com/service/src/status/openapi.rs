//! Decides how the service describes itself: the document derived from the table, sent again only when it changed
//! (control §16).

use oa_contract::{Answer, Ask, Handle, Stop, matrix::ControlOpenapi, wire::openapi::Document};

use crate::Control;

impl Handle<ControlOpenapi> for Control {
    async fn handle(&self, ask: Ask<ControlOpenapi>) -> Result<Answer<Document>, Stop> {
        let known = ask.meta.header("if-none-match").is_some_and(|tags| matches(tags, &self.openapi.etag));
        let answer = Answer::new(Document(self.openapi.text.clone()))
            .with_header("etag", self.openapi.etag.clone())
            .with_header("cache-control", "no-cache, no-store, must-revalidate");
        Ok(if known { answer.with_status(304) } else { answer })
    }
}

/// Whether one of the listed tags is ours; weak ones count, and `*` is any.
pub(crate) fn matches(tags: &str, ours: &str) -> bool {
    tags.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == ours)
}

#[cfg(test)]
mod tests {
    use oa_contract::Nothing;

    use super::*;
    use crate::testing::World;

    #[test]
    fn a_list_a_weak_tag_and_a_star_match() {
        for tags in ["\"a\"", "\"x\", W/\"a\"", "*"] {
            assert!(matches(tags, "\"a\""), "{tags}");
        }
        assert!(!matches("\"b\", a", "\"a\""));
    }

    #[tokio::test]
    async fn a_known_document_is_not_sent_again() {
        let world = World::new().await;
        let first = world.ask::<ControlOpenapi>(Nothing {}).await.expect("a document");
        assert_eq!(first.status, None);
        let etag = first.headers[0].1.clone();
        let second = world
            .ask_with::<ControlOpenapi>(Nothing {}, &[("if-none-match", &etag)])
            .await
            .expect("an answer");
        assert_eq!((second.status, &second.headers), (Some(304), &first.headers));
        assert!(first.body.0.contains("/api/auth/verify"));
    }
}
