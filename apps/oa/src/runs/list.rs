//! Decides how runs are listed: newest first, one line each.

use oa_client::Client;
use oa_contract::{
    Nothing,
    matrix::RunsList,
    operation::Call,
    wire::runs::{ListRuns, RunList, RunStatus},
};

use crate::{
    failure::Failure,
    output::{Format, table, title},
};

/// The server gives at most so many at once.
const PAGE: u64 = 500;

pub async fn list(
    client: &Client,
    status: Option<RunStatus>,
    limit: u64,
    format: Format,
) -> Result<(), Failure> {
    let mut list = RunList { runs: Vec::new(), next: None };
    loop {
        let room = limit.saturating_sub(list.runs.len() as u64);
        if room == 0 {
            break;
        }
        let query = ListRuns { limit: Some(room.min(PAGE)), status, before: list.next };
        let call = Call::<RunsList> { path: Nothing {}, query, body: Nothing {} };
        let page = client.call(call).await.map_err(|error| Failure::call(client.base(), error))?;
        list.runs.extend(page.runs);
        list.next = page.next;
        if list.next.is_none() {
            break;
        }
    }
    format.show(&text(&list), &list)
}

fn text(list: &RunList) -> String {
    if list.runs.is_empty() {
        return "no runs: `oa exec -- COMMAND` records one".to_owned();
    }
    let heading = ["RUN", "STATUS", "EVENTS", "BEGUN", "WHAT"].map(str::to_owned).to_vec();
    let lines = list.runs.iter().map(|run| {
        vec![
            run.id.to_string(),
            run.status.name().to_owned(),
            run.latest_seq.to_string(),
            run.created_at.zulu_seconds(),
            title(run.metadata.get()),
        ]
    });
    table(&std::iter::once(heading).chain(lines).collect::<Vec<_>>())
}
