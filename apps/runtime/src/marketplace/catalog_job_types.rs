//! `GET /internal/v1/marketplace/catalog/job-types`: what can be bought, and how it is verified when nothing else
//! is said (marketplace §3.6).

use oa_contract::{
    Answer, Ask, Handle, Stop,
    matrix::MarketplaceCatalogJobTypes,
    wire::{
        jobs::{Adjudication, REPO_INDEX, SANDBOX_RUN, Verification, VerificationMode},
        marketplace::{JobType, JobTypeCatalog, SchemaVersion},
    },
};

use crate::Runtime;

impl Handle<MarketplaceCatalogJobTypes> for Runtime {
    async fn handle(&self, _: Ask<MarketplaceCatalogJobTypes>) -> Result<Answer<JobTypeCatalog>, Stop> {
        Ok(catalogue().into())
    }
}

fn catalogue() -> JobTypeCatalog {
    use Adjudication::{JudgeModel, MajorityVote, None};
    use VerificationMode::{Objective, Subjective};
    let types = [
        (
            "oa.code_chunk_analysis.v1",
            Subjective,
            2,
            JudgeModel,
            "Reads pieces of code and says what they do and what may be wrong with them.",
        ),
        ("oa.embeddings.v1", Subjective, 1, MajorityVote, "Turns texts into vectors of a named model."),
        (
            "oa.retrieval_rerank.v1",
            Subjective,
            2,
            MajorityVote,
            "Puts the passages that were found for a question into the order of their use to it.",
        ),
        (
            REPO_INDEX,
            Objective,
            1,
            None,
            "Lists the files of a tree with their digests, so that anybody can compute the same hash of it.",
        ),
        (
            SANDBOX_RUN,
            Objective,
            1,
            None,
            "Runs commands on a checkout in a sandbox without a network, and proves what they wrote by digests.",
        ),
    ];
    let job_type = |(name, mode, redundancy, adjudication, description): (&str, _, _, _, &str)| JobType {
        job_type: name.into(),
        schema_version: SchemaVersion { major: 1, minor: 0, patch: 0 },
        default_verification: Verification { mode, redundancy, adjudication, judge_model: Option::None },
        description: description.into(),
    };
    JobTypeCatalog { job_types: types.into_iter().map(job_type).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sandbox_job_is_there_and_objective() {
        let types = serde_json::to_value(catalogue()).expect("JSON")["job_types"].clone();
        let names: Vec<_> =
            types.as_array().expect("types").iter().map(|one| one["job_type"].clone()).collect();
        assert_eq!(
            names,
            [
                "oa.code_chunk_analysis.v1",
                "oa.embeddings.v1",
                "oa.retrieval_rerank.v1",
                "oa.repo_index.v1",
                "oa.sandbox_run.v1"
            ]
        );
        assert_eq!(
            types[4]["default_verification"],
            serde_json::json!({"mode": "objective", "redundancy": 1, "adjudication": "none"})
        );
        assert_eq!(types[0]["default_verification"]["adjudication"], "judge_model");
        assert_eq!(types[4]["schema_version"], serde_json::json!({"major": 1, "minor": 0, "patch": 0}));
    }
}
