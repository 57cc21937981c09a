//! Decides nothing: the document is derived from the table once, at the start.

use oa_contract::{Answer, Ask, Handle, Stop, matrix::OpenapiDocument, wire::openapi::Document};

use crate::Runtime;

impl Handle<OpenapiDocument> for Runtime {
    async fn handle(&self, _: Ask<OpenapiDocument>) -> Result<Answer<Document>, Stop> {
        Ok(Document(self.openapi.clone()).into())
    }
}
