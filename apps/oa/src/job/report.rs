//! Decides what is said of a job when it is over: what came of it, who checked it, who was paid what, and how to prove it.

use oa_contract::wire::{
    marketplace::{Considered, DispatchReply, Quote},
    treasury::{JobStatus, ReexecutionOutcome, ReexecutionReport, Settlement},
};
use serde_json::json;
use uuid::Uuid;

use super::show::Screen;
use crate::{data_dir::DataDir, failure::Failure, output::Format};

/// A job that was settled.
pub struct Report {
    pub run_id: Uuid,
    pub quote: Quote,
    pub considered: Vec<Considered>,
    pub reply: DispatchReply,
    pub settlement: Settlement,
}

impl Report {
    pub fn succeeded(&self) -> bool {
        self.settlement.exit_code == 0 && self.is_paid()
    }

    fn is_paid(&self) -> bool {
        self.settlement.settlement_status == JobStatus::Released
    }

    pub fn exit_code(&self) -> u8 {
        u8::try_from(self.settlement.exit_code).unwrap_or(1)
    }

    pub fn show(
        &self,
        screen: &Screen,
        data: &DataDir,
        status: &str,
        receipt: Option<&str>,
        format: Format,
    ) -> Result<(), Failure> {
        if format == Format::Json {
            return format.show("", &self.json(status, receipt));
        }
        let provider = &self.reply.selection.provider;
        screen.tells(&format!(
            "exit code {} after {:.1} s at {}",
            self.settlement.exit_code,
            self.reply.latency_ms as f64 / 1_000.0,
            provider.provider_id
        ));
        screen.tells(&checked(self.settlement.reexecution.as_ref()));
        for violation in &self.settlement.violations {
            screen.tells(&format!("  {violation}"));
        }
        screen.tells(&paid(&self.settlement, &self.quote, &provider.provider_id));
        let receipt = receipt.unwrap_or("(not to be had now: `oa runs export` gets it)");
        screen.tells(&format!("run {} {status}, receipt sha256 {receipt}", self.run_id));
        let place = data.path().display();
        screen.tells(&format!(
            "prove it: oa --data {place} runs export {} proof.jsonl && oa runs verify proof.jsonl",
            self.run_id
        ));
        Ok(())
    }

    fn json(&self, status: &str, receipt: Option<&str>) -> serde_json::Value {
        let paid = self.is_paid();
        let amount = |msats: u64| if paid { msats } else { 0 };
        json!({
            "run_id": self.run_id,
            "status": status,
            "exit_code": self.settlement.exit_code,
            "job_hash": self.settlement.job_hash,
            "provider_id": self.reply.selection.provider.provider_id,
            "provider_worker_id": self.reply.selection.provider.worker_id,
            "considered": self.considered,
            "response": self.reply.response,
            "latency_ms": self.reply.latency_ms,
            "dispatch_id": self.reply.dispatch_id,
            "verification_passed": self.settlement.verification_passed,
            "violations": self.settlement.violations,
            "reexecution": self.settlement.reexecution,
            "settlement_status": self.settlement.settlement_status,
            "paid": {
                "provider_msats": amount(self.quote.provider_price_msats.get()),
                "operator_fee_msats": amount(self.quote.operator_fee_msats.get()),
                "policy_adder_msats": amount(self.quote.policy_adder_msats.get()),
            },
            "receipt_sha256": receipt,
        })
    }
}

/// What running it once more showed.
pub fn checked(report: Option<&ReexecutionReport>) -> String {
    let Some(report) = report else {
        return "verified: the answer is sound in itself; it was not run once more".to_owned();
    };
    let who = report.observers.join(" and ");
    let what = report.differences.join(", ");
    match report.outcome {
        ReexecutionOutcome::Confirmed if what.is_empty() => {
            format!("verified: {who} ran it once more and came to the same")
        }
        ReexecutionOutcome::Confirmed => format!(
            "verified: {who} ran it once more and came to the same, but for what may differ honestly: {what}"
        ),
        ReexecutionOutcome::Disputed => {
            format!(
                "disputed: {who} ran it once more and came to something else ({what}); nobody can tell who is right"
            )
        }
        ReexecutionOutcome::Refuted => {
            format!("refuted: {who} ran it once more and agree on something else: {what}")
        }
        ReexecutionOutcome::Unavailable => {
            "verified: the answer is sound in itself; nobody else could run it once more".to_owned()
        }
    }
}

/// Where the money went.
pub fn paid(settlement: &Settlement, quote: &Quote, provider: &str) -> String {
    match settlement.settlement_status {
        JobStatus::Released => {
            let adder = match quote.policy_adder_msats.get() {
                0 => String::new(),
                msats => format!(", {msats} msats by policy"),
            };
            format!(
                "paid: {} msats to {provider}, {} msats fee to the operator{adder}",
                settlement.amount_msats.get(),
                quote.operator_fee_msats.get()
            )
        }
        _ => format!(
            "paid: nothing; the {} msats that were reserved for {provider} are free again",
            quote.total_price_msats.get()
        ),
    }
}
