//! An OpenAPI document as an answer: already text, sent as it is.

use std::sync::Arc;

use schemars::{Schema, SchemaGenerator, json_schema};

use crate::{
    operation::{Content, Reply},
    refusal::Fault,
};

/// The bytes of a document that was derived once.
#[derive(Clone, Debug)]
pub struct Document(pub Arc<str>);

impl Reply for Document {
    const CONTENT_TYPE: &'static str = "application/json";

    fn schema(_: &mut SchemaGenerator) -> Option<Schema> {
        Some(json_schema!({"type": "object", "required": ["openapi", "info", "paths"]}))
    }

    fn content(self) -> Result<Content, Fault> {
        Ok(Content::Whole(self.0.as_bytes().to_vec()))
    }
}
