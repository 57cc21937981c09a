//! Decides that the document which the compatibility lanes name is where their headers say: anybody may read it.

use oa_contract::{
    Answer, Ask, Handle, Stop, Streamed, matrix::CompatMigration, sunset, wire::skills::Markdown,
};

use crate::Control;

impl Handle<CompatMigration> for Control {
    async fn handle(&self, _: Ask<CompatMigration>) -> Result<Answer<Streamed<Markdown>>, Stop> {
        Ok(Answer::new(Streamed::whole(sunset::migration_document()))
            .with_header("x-content-type-options", "nosniff"))
    }
}
