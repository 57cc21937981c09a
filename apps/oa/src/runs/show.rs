//! Decides how one run is shown: its head, then its events on a line each.

use oa_client::Client;
use oa_contract::wire::runs::{Run, RunReply};
use uuid::Uuid;

use super::{fetch, line_of};
use crate::{
    failure::Failure,
    output::{Format, plain, table},
};

pub async fn show(client: &Client, run_id: Uuid, format: Format) -> Result<(), Failure> {
    let run = fetch(client, run_id).await?;
    format.show(&text(&run), &RunReply { run })
}

fn text(run: &Run) -> String {
    let pair = |name: &str, value: String| vec![name.to_owned(), value];
    let mut head = vec![
        pair("run", run.id.to_string()),
        pair("status", run.status.name().to_owned()),
        pair("begun", run.created_at.zulu()),
        pair("changed", run.updated_at.zulu()),
        pair("metadata", plain(run.metadata.get())),
    ];
    if let Some(worker) = &run.worker_id {
        head.push(pair("worker", plain(worker)));
    }
    let events = run
        .events
        .iter()
        .map(|event| line_of(event.seq, &event.recorded_at.zulu(), &event.event_type, event.payload.get()));
    let mut out = table(&head);
    for line in events {
        out.push_str(&line);
        out.push('\n');
    }
    out
}
