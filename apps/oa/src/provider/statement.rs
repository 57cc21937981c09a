//! Decides how a provider's statement is shown: what is owed to it, and the movements that made it so, newest first.

use oa_client::Client;
use oa_contract::{
    Nothing,
    matrix::ProvidersStatement,
    operation::Call,
    wire::{
        paths::WorkerPath,
        treasury::{ProviderStatement, StatementQuery},
    },
};

use crate::{
    failure::Failure,
    output::{Format, plain, table},
};

/// The server gives at most so many at once.
const PAGE: u64 = 200;

pub async fn show(client: &Client, worker_id: &str, limit: u64, format: Format) -> Result<(), Failure> {
    let mut whole: Option<ProviderStatement> = None;
    loop {
        let seen = whole.as_ref().map_or(0, |whole| whole.entries.len() as u64);
        let before = whole.as_ref().and_then(|whole| whole.next);
        let query = StatementQuery { limit: Some(limit.saturating_sub(seen).clamp(1, PAGE)), before };
        let path = WorkerPath { worker_id: worker_id.to_owned() };
        let call = Call::<ProvidersStatement> { path, query, body: Nothing {} };
        let page = client.call(call).await.map_err(|error| Failure::call(client.base(), error))?;
        let next = page.next;
        match &mut whole {
            None => whole = Some(page),
            Some(whole) => {
                whole.entries.extend(page.entries);
                whole.next = next;
            }
        }
        let seen = whole.as_ref().map_or(0, |whole| whole.entries.len() as u64);
        if next.is_none() || seen >= limit {
            break;
        }
    }
    match whole {
        Some(statement) => format.show(&text(&statement), &statement),
        None => Ok(()),
    }
}

fn text(statement: &ProviderStatement) -> String {
    let sums = format!(
        "{} of {}\npayable {} msats: earned {}, paid {}, being paid {}\nheld for jobs that are not settled {} msats",
        plain(&statement.worker_id),
        plain(&statement.owner_key),
        statement.payable_msats.get(),
        statement.earned_msats_total.get(),
        statement.paid_msats_total.get(),
        statement.paying_out_msats.get(),
        statement.held_for_jobs_msats.get(),
    );
    if statement.entries.is_empty() {
        return sums;
    }
    let heading = ["AT", "STEP", "PAYABLE", "HELD", "TRANSFER"].map(str::to_owned).to_vec();
    let lines = statement.entries.iter().map(|entry| {
        vec![
            entry.at.zulu_seconds(),
            plain(&entry.step),
            format!("{:+}", entry.posted_msats),
            format!("{:+}", entry.pending_msats),
            plain(&entry.transfer_id),
        ]
    });
    format!("{sums}\n\n{}", table(&std::iter::once(heading).chain(lines).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use oa_contract::{Msats, Timestamp, wire::treasury::StatementEntry};

    use super::*;

    #[test]
    fn a_statement_says_what_is_owed_and_why() {
        let msats = |units| Msats::new(units).expect("an amount");
        let mut statement = ProviderStatement {
            schema: "s".into(),
            worker_id: "provider:a".into(),
            provider_id: "a".into(),
            owner_key: "user:1".into(),
            payable_msats: msats(700),
            earned_msats_total: msats(1_000),
            paid_msats_total: msats(300),
            held_for_jobs_msats: msats(5),
            paying_out_msats: Msats::ZERO,
            entries: Vec::new(),
            next: None,
        };
        assert!(
            text(&statement).starts_with("provider:a of user:1\npayable 700 msats: earned 1000, paid 300")
        );
        statement.entries.push(StatementEntry {
            seq: 2,
            at: Timestamp::from_unix_seconds(1_772_000_000),
            transfer_id: "market:dsp_1:1".into(),
            step: "post".into(),
            pending_msats: -1_000,
            posted_msats: 1_000,
        });
        let said = text(&statement);
        assert!(
            said.contains("+1000") && said.contains("-1000") && said.contains("market:dsp_1:1"),
            "{said}"
        );
    }
}
