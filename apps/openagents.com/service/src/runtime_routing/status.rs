//! Decides that whoever is signed in may see how drivers are chosen.

use oa_contract::{
    Answer, Ask, Handle, Stop, matrix::RuntimeRoutingStatus, operation::Data,
    wire::routing::RuntimeRoutingStatusReply,
};

use crate::Control;

impl Handle<RuntimeRoutingStatus> for Control {
    async fn handle(&self, _: Ask<RuntimeRoutingStatus>) -> Result<Answer<RuntimeRoutingStatusReply>, Stop> {
        Ok(Data { data: self.runtime_routing_status().await? }.into())
    }
}
