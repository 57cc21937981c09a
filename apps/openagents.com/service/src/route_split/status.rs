//! Decides that whoever is signed in may see how pages are split.

use oa_contract::{
    Answer, Ask, Handle, Stop, matrix::RouteSplitStatus, operation::Data,
    wire::routing::RouteSplitStatusReply,
};

use crate::Control;

impl Handle<RouteSplitStatus> for Control {
    async fn handle(&self, _: Ask<RouteSplitStatus>) -> Result<Answer<RouteSplitStatusReply>, Stop> {
        Ok(Data { data: self.route_split_status().await? }.into())
    }
}
