//! The parameters that paths carry, decoded once, refused early.

use std::borrow::Cow;

use uuid::Uuid;

use crate::{operation::PathParams, refusal::Refusal};

/// `:run_id`. Every UUID form of runtime-core §1 is read; the hyphenated one is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunPath {
    pub run_id: Uuid,
}

impl PathParams for RunPath {
    const NAMES: &'static [&'static str] = &["run_id"];

    fn parse(segments: &[Cow<'_, str>]) -> Result<Self, Refusal> {
        let text = first(segments);
        let run_id = Uuid::parse_str(text).map_err(|error| {
            Refusal::invalid(format!("Invalid URL: cannot parse `run_id` with value `{text}`: {error}"))
                .with_status(400)
        })?;
        Ok(RunPath { run_id })
    }

    fn values(&self) -> Vec<String> {
        vec![self.run_id.to_string()]
    }
}

/// `:worker_id`, any text of one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerPath {
    pub worker_id: String,
}

impl PathParams for WorkerPath {
    const NAMES: &'static [&'static str] = &["worker_id"];

    fn parse(segments: &[Cow<'_, str>]) -> Result<Self, Refusal> {
        Ok(WorkerPath { worker_id: first(segments).to_owned() })
    }

    fn values(&self) -> Vec<String> {
        vec![self.worker_id.clone()]
    }
}

/// `:stream`, the id of a stream (runtime-core §12).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamPath {
    pub stream: String,
}

impl PathParams for StreamPath {
    const NAMES: &'static [&'static str] = &["stream"];

    fn parse(segments: &[Cow<'_, str>]) -> Result<Self, Refusal> {
        Ok(StreamPath { stream: first(segments).to_owned() })
    }

    fn values(&self) -> Vec<String> {
        vec![self.stream.clone()]
    }
}

/// `:thread_id`, any text of one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadPath {
    pub thread_id: String,
}

impl PathParams for ThreadPath {
    const NAMES: &'static [&'static str] = &["thread_id"];

    fn parse(segments: &[Cow<'_, str>]) -> Result<Self, Refusal> {
        Ok(ThreadPath { thread_id: first(segments).to_owned() })
    }

    fn values(&self) -> Vec<String> {
        vec![self.thread_id.clone()]
    }
}

/// `:token_id` of a personal access token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenPath {
    pub token_id: String,
}

impl PathParams for TokenPath {
    const NAMES: &'static [&'static str] = &["token_id"];

    fn parse(segments: &[Cow<'_, str>]) -> Result<Self, Refusal> {
        Ok(TokenPath { token_id: first(segments).to_owned() })
    }

    fn values(&self) -> Vec<String> {
        vec![self.token_id.clone()]
    }
}

/// `:skill_id` and `:version` of a skill (control §12).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkillPath {
    /// Not blank, as given.
    pub skill_id: String,
    /// At least 1.
    pub version: u64,
}

impl PathParams for SkillPath {
    const NAMES: &'static [&'static str] = &["skill_id", "version"];

    fn parse(segments: &[Cow<'_, str>]) -> Result<Self, Refusal> {
        let skill_id = first(segments);
        if skill_id.trim().is_empty() {
            return Err(Refusal::field("skill_id", "The skill_id must not be blank."));
        }
        let version = segments.get(1).and_then(|text| crate::bundle::digits(text));
        // A column holds no more.
        let version = version.filter(|version| (1..=i64::MAX as u64).contains(version)).ok_or_else(|| {
            Refusal::field("version", "The version must be a whole number in decimal, at least 1.")
        })?;
        Ok(SkillPath { skill_id: skill_id.to_owned(), version })
    }

    fn values(&self) -> Vec<String> {
        vec![self.skill_id.clone(), self.version.to_string()]
    }
}

/// `:autopilot`, the id or the handle of an autopilot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AutopilotPath {
    pub autopilot: String,
}

impl PathParams for AutopilotPath {
    const NAMES: &'static [&'static str] = &["autopilot"];

    fn parse(segments: &[Cow<'_, str>]) -> Result<Self, Refusal> {
        Ok(AutopilotPath { autopilot: first(segments).to_owned() })
    }

    fn values(&self) -> Vec<String> {
        vec![self.autopilot.clone()]
    }
}

/// `:conversation_id`, a thread under its former name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationPath {
    pub conversation_id: String,
}

impl PathParams for ConversationPath {
    const NAMES: &'static [&'static str] = &["conversation_id"];

    fn parse(segments: &[Cow<'_, str>]) -> Result<Self, Refusal> {
        Ok(ConversationPath { conversation_id: first(segments).to_owned() })
    }

    fn values(&self) -> Vec<String> {
        vec![self.conversation_id.clone()]
    }
}

/// `:conversation_id` and `:run_id`, which here names a turn and is no UUID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationRunPath {
    pub conversation_id: String,
    pub run_id: String,
}

impl PathParams for ConversationRunPath {
    const NAMES: &'static [&'static str] = &["conversation_id", "run_id"];

    fn parse(segments: &[Cow<'_, str>]) -> Result<Self, Refusal> {
        let run_id = segments.get(1).map_or("", |segment| segment);
        Ok(ConversationRunPath { conversation_id: first(segments).to_owned(), run_id: run_id.to_owned() })
    }

    fn values(&self) -> Vec<String> {
        vec![self.conversation_id.clone(), self.run_id.clone()]
    }
}

/// `:event_id` of an L402 receipt. What is no number names nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventPath {
    pub event_id: String,
}

impl PathParams for EventPath {
    const NAMES: &'static [&'static str] = &["event_id"];

    fn parse(segments: &[Cow<'_, str>]) -> Result<Self, Refusal> {
        Ok(EventPath { event_id: first(segments).to_owned() })
    }

    fn values(&self) -> Vec<String> {
        vec![self.event_id.clone()]
    }
}

/// `:rfq_id`, any text of one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RfqPath {
    pub rfq_id: String,
}

impl PathParams for RfqPath {
    const NAMES: &'static [&'static str] = &["rfq_id"];

    fn parse(segments: &[Cow<'_, str>]) -> Result<Self, Refusal> {
        Ok(RfqPath { rfq_id: first(segments).to_owned() })
    }

    fn values(&self) -> Vec<String> {
        vec![self.rfq_id.clone()]
    }
}

/// `:agent_id`, the public key of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentPath {
    pub agent_id: String,
}

impl PathParams for AgentPath {
    const NAMES: &'static [&'static str] = &["agent_id"];

    fn parse(segments: &[Cow<'_, str>]) -> Result<Self, Refusal> {
        Ok(AgentPath { agent_id: first(segments).to_owned() })
    }

    fn values(&self) -> Vec<String> {
        vec![self.agent_id.clone()]
    }
}

/// `:offer_id`, an offer of credit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferPath {
    pub offer_id: String,
}

impl PathParams for OfferPath {
    const NAMES: &'static [&'static str] = &["offer_id"];

    fn parse(segments: &[Cow<'_, str>]) -> Result<Self, Refusal> {
        Ok(OfferPath { offer_id: first(segments).to_owned() })
    }

    fn values(&self) -> Vec<String> {
        vec![self.offer_id.clone()]
    }
}

/// `:settlement_id`, a settlement of credit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreditSettlementPath {
    pub settlement_id: String,
}

impl PathParams for CreditSettlementPath {
    const NAMES: &'static [&'static str] = &["settlement_id"];

    fn parse(segments: &[Cow<'_, str>]) -> Result<Self, Refusal> {
        Ok(CreditSettlementPath { settlement_id: first(segments).to_owned() })
    }

    fn values(&self) -> Vec<String> {
        vec![self.settlement_id.clone()]
    }
}

/// `:pool_id`, any text of one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolPath {
    pub pool_id: String,
}

impl PathParams for PoolPath {
    const NAMES: &'static [&'static str] = &["pool_id"];

    fn parse(segments: &[Cow<'_, str>]) -> Result<Self, Refusal> {
        Ok(PoolPath { pool_id: first(segments).to_owned() })
    }

    fn values(&self) -> Vec<String> {
        vec![self.pool_id.clone()]
    }
}

/// `:pool_id` and `:deposit_id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolDepositPath {
    pub pool_id: String,
    pub deposit_id: String,
}

impl PathParams for PoolDepositPath {
    const NAMES: &'static [&'static str] = &["pool_id", "deposit_id"];

    fn parse(segments: &[Cow<'_, str>]) -> Result<Self, Refusal> {
        let deposit_id = segments.get(1).map_or("", |segment| segment);
        Ok(PoolDepositPath { pool_id: first(segments).to_owned(), deposit_id: deposit_id.to_owned() })
    }

    fn values(&self) -> Vec<String> {
        vec![self.pool_id.clone(), self.deposit_id.clone()]
    }
}

/// `:payment_id` of a payment over Lightning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentPath {
    pub payment_id: String,
}

impl PathParams for PaymentPath {
    const NAMES: &'static [&'static str] = &["payment_id"];

    fn parse(segments: &[Cow<'_, str>]) -> Result<Self, Refusal> {
        Ok(PaymentPath { payment_id: first(segments).to_owned() })
    }

    fn values(&self) -> Vec<String> {
        vec![self.payment_id.clone()]
    }
}

/// `:pool_id` and `:withdrawal_id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolWithdrawalPath {
    pub pool_id: String,
    pub withdrawal_id: String,
}

impl PathParams for PoolWithdrawalPath {
    const NAMES: &'static [&'static str] = &["pool_id", "withdrawal_id"];

    fn parse(segments: &[Cow<'_, str>]) -> Result<Self, Refusal> {
        let withdrawal_id = segments.get(1).map_or("", |segment| segment);
        Ok(PoolWithdrawalPath {
            pool_id: first(segments).to_owned(),
            withdrawal_id: withdrawal_id.to_owned(),
        })
    }

    fn values(&self) -> Vec<String> {
        vec![self.pool_id.clone(), self.withdrawal_id.clone()]
    }
}

/// `:pool_id` and `:request_id` of a signing request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolRequestPath {
    pub pool_id: String,
    pub request_id: String,
}

impl PathParams for PoolRequestPath {
    const NAMES: &'static [&'static str] = &["pool_id", "request_id"];

    fn parse(segments: &[Cow<'_, str>]) -> Result<Self, Refusal> {
        let request_id = segments.get(1).map_or("", |segment| segment);
        Ok(PoolRequestPath { pool_id: first(segments).to_owned(), request_id: request_id.to_owned() })
    }

    fn values(&self) -> Vec<String> {
        vec![self.pool_id.clone(), self.request_id.clone()]
    }
}

/// Whatever stands in the path of a planned row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnyPath;

impl PathParams for AnyPath {
    const NAMES: &'static [&'static str] = &[];

    fn parse(_: &[Cow<'_, str>]) -> Result<Self, Refusal> {
        Ok(AnyPath)
    }

    fn values(&self) -> Vec<String> {
        Vec::new()
    }
}

fn first<'a>(segments: &'a [Cow<'_, str>]) -> &'a str {
    segments.first().map_or("", |segment| segment.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_id_is_read_in_every_specified_form() {
        let id = Uuid::from_u128(0x0195_03c1_8a6e_7f10_9c55_2b7f_0c1d_4e90);
        for text in [
            "019503c1-8a6e-7f10-9c55-2b7f0c1d4e90",
            "019503c18a6e7f109c552b7f0c1d4e90",
            "019503C1-8A6E-7F10-9C55-2B7F0C1D4E90",
            "{019503c1-8a6e-7f10-9c55-2b7f0c1d4e90}",
            "urn:uuid:019503c1-8a6e-7f10-9c55-2b7f0c1d4e90",
        ] {
            assert_eq!(RunPath::parse(&[Cow::Borrowed(text)]), Ok(RunPath { run_id: id }), "{text}");
        }
        let refused = RunPath::parse(&[Cow::Borrowed("not-a-uuid")]).expect_err("a refusal");
        assert_eq!(refused.status(crate::Service::Runtime), 400);
    }
}
