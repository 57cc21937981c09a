//! Chapters: a cheat is cheapest and says that the check passes; before it is paid, two others run it once more.

use oa_contract::{
    Nothing,
    matrix::{FraudIncidents, MarketplaceCatalogProviders},
    operation::Call,
    wire::{
        fraud::ListIncidents,
        jobs::SandboxRunRequest,
        marketplace::{CatalogEntry, DispatchReply, ListProviders, ProviderCatalog, Quote, QuoteReply},
    },
};
use serde_json::{Value, json};

use super::{Stage, book::Book, cheat};
use crate::{
    failure::Failure,
    job::{
        report::{checked, paid},
        talk::Talk,
    },
};

/// A job that somebody has done, or says so.
pub struct Done {
    pub request: SandboxRunRequest,
    pub quoted: QuoteReply,
    pub reply: DispatchReply,
}

impl Done {
    pub fn quote(&self) -> &Quote {
        self.reply.quote.as_ref().unwrap_or(&self.quoted.quote)
    }

    /// Shows who was considered, who did it, and what came back.
    pub async fn ask(stage: &Stage<'_>, book: &Book, request: SandboxRunRequest) -> Result<Self, Failure> {
        for command in &request.commands {
            book.indented(&format!("$ {}", command.cmd))?;
        }
        let quoted = stage.talk.quote(&request, None).await?;
        book.line("")?;
        book.considered(&quoted.selection.considered)?;
        let reply = stage.talk.dispatch(stage.run_id, &request, &quoted.quote, 1).await?;
        let codes: Vec<String> = reply.response.runs.iter().map(|run| run.exit_code.to_string()).collect();
        book.indented(&format!(
            "{} msats are held. After {} ms {} answers: {}, exit codes {}",
            quoted.quote.total_price_msats.get(),
            reply.latency_ms,
            reply.selection.provider.provider_id,
            reply.response.status.word().to_lowercase(),
            codes.join(", ")
        ))?;
        Ok(Done { request, quoted, reply })
    }
}

pub async fn first_patch(stage: &Stage<'_>, book: &mut Book) -> Result<(), Failure> {
    book.chapter("An agent has patched some code. Somebody wants to know: does the check pass now?")?;
    stage.code.first.told(book)?;
    stage.code.better.told(book)?;
    book.line("")?;
    let done = Done::ask(stage, book, stage.code.check(&stage.code.better)?).await?;
    book.chapter("Before anybody is paid, others run it once more")?;
    let settled = stage.talk.settle(stage.run_id, &done.request, (done.quote(), &done.reply), true).await?;
    book.indented(&checked(settled.reexecution.as_ref()))?;
    let differences = settled.reexecution.iter().flat_map(|report| &report.differences);
    if differences.clone().any(|what| what.starts_with("exit_code")) {
        book.indented(
            "The check does not pass: the patch mends half of it, and the cheapest had not looked.",
        )?;
    }
    let culprit = &done.reply.selection.provider;
    book.indented(&paid(&settled, done.quote(), &culprit.provider_id))?;
    let caught = catalog(&stage.talk).await?.into_iter().find(|one| one.worker_id == culprit.worker_id);
    let caught = caught.ok_or_else(|| Failure::wrong("the cheat is gone from the catalogue"))?;
    book.indented(&standing(&caught))?;
    let incidents = incidents(stage, book, &caught.provider_id).await?;
    let is_cheat = book.named(&caught.provider_id) == cheat::NAME;
    if settled.verification_passed || !is_cheat || !caught.quarantined || incidents.is_empty() {
        return Err(Failure::wrong("the cheat was not caught: please report this with the output above"));
    }
    book.keep(
        "caught",
        json!({"provider_id": caught.provider_id, "quarantined": caught.quarantined,
            "failure_strikes": caught.failure_strikes, "incidents": incidents, "settlement": settled}),
    );
    Ok(())
}

async fn catalog(talk: &Talk) -> Result<Vec<CatalogEntry>, Failure> {
    let call = Call::<MarketplaceCatalogProviders> {
        path: Nothing {},
        query: ListProviders::default(),
        body: Nothing {},
    };
    let ProviderCatalog { providers, .. } = talk.asked(&call).await?;
    Ok(providers)
}

fn standing(entry: &CatalogEntry) -> String {
    let strikes = match entry.failure_strikes {
        1 => "1 strike".to_owned(),
        more => format!("{more} strikes"),
    };
    let reason = entry.quarantine_reason.as_deref().unwrap_or("no reason is given");
    match entry.quarantined {
        true => format!(
            "{} has {strikes} and is quarantined ({reason}): nobody is sent there any more",
            entry.provider_id
        ),
        false => format!("{} has {strikes}", entry.provider_id),
    }
}

/// Shows what was written down about the cheat, and where the evidence stands.
async fn incidents(stage: &Stage<'_>, book: &Book, provider_id: &str) -> Result<Vec<String>, Failure> {
    let query = ListIncidents { provider_id: Some(provider_id.to_owned()), ..ListIncidents::default() };
    let call = Call::<FraudIncidents> { path: Nothing {}, query, body: Nothing {} };
    let list = stage.talk.asked(&call).await?;
    for incident in list.incidents.iter().rev() {
        let evidence: Value = incident
            .evidence
            .as_ref()
            .and_then(|text| serde_json::from_str(text.get()).ok())
            .unwrap_or_default();
        let events = evidence["events"].as_array().into_iter().flatten();
        let seqs: Vec<String> = events.map(|event| event["seq"].to_string()).collect();
        let points = match seqs.is_empty() {
            true => String::new(),
            false => format!(", its evidence: events {} of run {}", seqs.join(", "), stage.run_id),
        };
        book.indented(&format!(
            "{} ({}, {}){points}",
            incident.incident_id,
            incident.incident_type,
            incident.severity.name()
        ))?;
    }
    Ok(list.incidents.into_iter().map(|incident| incident.incident_id).collect())
}
