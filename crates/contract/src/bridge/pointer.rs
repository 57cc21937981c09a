//! Decides how receipts and snapshots are pointed at: what somebody needs to find one and to see that it is that one.

use serde_json::{Map, Value, json};

use super::{APP_DATA, Blank, Unsigned, said, tag};
use crate::canonical::compact;

pub const RECEIPT: &str = "openagents.bridge.receipt_ptr.v1";
pub const LIQUIDITY: &str = "openagents.bridge.liquidity_receipt_pointer.v1";
pub const SNAPSHOT: &str = "openagents.bridge.pool_snapshot.v1";

fn app_data(name: String, schema: &str, tags: Vec<Vec<String>>, content: Map<String, Value>) -> Unsigned {
    let mut all = vec![tag("d", name), tag("oa_schema", schema)];
    all.extend(tags);
    Unsigned { kind: APP_DATA, tags: all, content: compact(&Value::Object(content)) }
}

/// Where the receipt of a settled job is.
#[derive(Clone, Copy, Debug)]
pub struct ReceiptPointer<'a> {
    pub provider_id: &'a str,
    pub run_id: &'a str,
    pub job_hash: &'a str,
    pub receipt_sha256: &'a str,
    pub settlement_status: &'a str,
    pub receipt_url: &'a str,
}

impl ReceiptPointer<'_> {
    pub fn told(&self) -> Result<Unsigned, Blank> {
        let receipt_sha256 = said("receipt_sha256", self.receipt_sha256)?;
        let fields = [
            ("provider_id", said("provider_id", self.provider_id)?),
            ("run_id", said("run_id", self.run_id)?),
            ("job_hash", said("job_hash", self.job_hash)?),
            ("receipt_sha256", receipt_sha256),
            ("settlement_status", said("settlement_status", self.settlement_status)?),
            ("receipt_url", said("receipt_url", self.receipt_url)?),
        ];
        let tags = vec![
            tag("oa_provider_id", self.provider_id),
            tag("oa_run_id", self.run_id),
            tag("oa_job_hash", self.job_hash),
            tag("oa_settlement", self.settlement_status),
            tag("oa_receipt_sha256", receipt_sha256),
        ];
        let content = fields.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
        Ok(app_data(format!("openagents:receipt_ptr:{receipt_sha256}"), RECEIPT, tags, content))
    }
}

/// Where the receipt of a payment, a deposit or a withdrawal is.
#[derive(Clone, Copy, Debug, Default)]
pub struct LiquidityPointer<'a> {
    pub receipt_id: &'a str,
    pub pool_id: Option<&'a str>,
    pub lp_id: Option<&'a str>,
    pub deposit_id: Option<&'a str>,
    pub withdrawal_id: Option<&'a str>,
    pub quote_id: Option<&'a str>,
    pub receipt_sha256: &'a str,
}

impl LiquidityPointer<'_> {
    pub fn told(&self) -> Result<Unsigned, Blank> {
        let receipt_id = said("receipt_id", self.receipt_id)?;
        let receipt_sha256 = said("receipt_sha256", self.receipt_sha256)?;
        let url = format!("openagents://receipt/{receipt_id}");
        let subjects = [
            ("pool_id", self.pool_id),
            ("lp_id", self.lp_id),
            ("deposit_id", self.deposit_id),
            ("withdrawal_id", self.withdrawal_id),
            ("quote_id", self.quote_id),
        ];
        let subjects = subjects.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let mut tags = Vec::new();
        let mut content = Map::new();
        content.insert("receipt_id".into(), json!(receipt_id));
        for (name, value) in subjects.filter(|(_, value)| !value.trim().is_empty()) {
            tags.push(tag(&format!("oa_{name}"), value));
            content.insert(name.into(), json!(value));
        }
        tags.extend([tag("oa_receipt_sha256", receipt_sha256), tag("oa_receipt_url", &url)]);
        content.insert("receipt_sha256".into(), json!(receipt_sha256));
        content.insert("receipt_url".into(), json!(url));
        Ok(app_data(format!("openagents:liquidity_receipt:{receipt_id}"), LIQUIDITY, tags, content))
    }
}

/// What a pool was worth at a moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct PoolSnapshotPointer<'a> {
    pub pool_id: &'a str,
    pub snapshot_id: &'a str,
    pub snapshot_sha256: &'a str,
    pub as_of_unix: i64,
    /// None: the wallet did not say. No number is better than a wrong one.
    pub wallet_balance_sats: Option<u64>,
    pub shares_outstanding: u64,
    pub pending_withdrawals_sats_estimate: u64,
    pub share_price_sats: u64,
    pub receipt_id: Option<&'a str>,
    pub receipt_sha256: Option<&'a str>,
}

impl PoolSnapshotPointer<'_> {
    pub fn told(&self) -> Result<Unsigned, Blank> {
        let pool_id = said("pool_id", self.pool_id)?;
        let sha256 = said("snapshot_sha256", self.snapshot_sha256)?;
        let tags = vec![
            tag("oa_pool_id", pool_id),
            tag("oa_snapshot_sha256", sha256),
            tag("oa_as_of_unix", self.as_of_unix.to_string()),
        ];
        let fields = [
            ("pool_id", json!(pool_id)),
            ("snapshot_id", json!(said("snapshot_id", self.snapshot_id)?)),
            ("snapshot_sha256", json!(sha256)),
            ("as_of_unix", json!(self.as_of_unix)),
            ("wallet_balance_sats", json!(self.wallet_balance_sats)),
            ("shares_outstanding", json!(self.shares_outstanding)),
            ("pending_withdrawals_sats_estimate", json!(self.pending_withdrawals_sats_estimate)),
            ("share_price_sats", json!(self.share_price_sats)),
        ];
        let receipt = [("receipt_id", self.receipt_id), ("receipt_sha256", self.receipt_sha256)];
        let receipt = receipt.into_iter().filter_map(|(name, value)| Some((name, json!(value?))));
        let content =
            fields.into_iter().chain(receipt).map(|(name, value)| (name.to_owned(), value)).collect();
        let short = sha256.get(..16).unwrap_or(sha256);
        Ok(app_data(format!("openagents:pool_snapshot:{pool_id}:{short}"), SNAPSHOT, tags, content))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(unsigned: &Unsigned) -> String {
        format!("{} {}", json!(unsigned.tags), unsigned.content)
    }

    fn receipt() -> ReceiptPointer<'static> {
        ReceiptPointer {
            provider_id: "prov-1",
            run_id: "r1",
            job_hash: "j1",
            receipt_sha256: "ab12",
            settlement_status: "released",
            receipt_url: "openagents://receipt/r",
        }
    }

    #[test]
    fn a_receipt_pointer_has_its_tags_and_members_in_order() {
        assert_eq!(
            told(&receipt().told().expect("told")),
            r#"[["d","openagents:receipt_ptr:ab12"],["oa_schema","openagents.bridge.receipt_ptr.v1"],["oa_provider_id","prov-1"],["oa_run_id","r1"],["oa_job_hash","j1"],["oa_settlement","released"],["oa_receipt_sha256","ab12"]] {"provider_id":"prov-1","run_id":"r1","job_hash":"j1","receipt_sha256":"ab12","settlement_status":"released","receipt_url":"openagents://receipt/r"}"#
        );
    }

    #[test]
    fn what_is_required_must_not_be_blank() {
        let blank = ReceiptPointer { job_hash: " ", ..receipt() }.told().expect_err("refused");
        assert_eq!(blank.to_string(), "job_hash must not be empty");
        let blank = LiquidityPointer { receipt_sha256: "x", ..LiquidityPointer::default() };
        assert_eq!(blank.told().expect_err("refused").to_string(), "receipt_id must not be empty");
        let blank = PoolSnapshotPointer { pool_id: "p", ..PoolSnapshotPointer::default() };
        assert_eq!(blank.told().expect_err("refused").to_string(), "snapshot_sha256 must not be empty");
    }

    #[test]
    fn a_liquidity_pointer_names_what_it_is_about_and_nothing_else() {
        let pointer = LiquidityPointer {
            receipt_id: "lpd_1",
            pool_id: Some("p"),
            deposit_id: Some("d"),
            withdrawal_id: Some(""),
            receipt_sha256: "ab",
            ..LiquidityPointer::default()
        };
        assert_eq!(
            told(&pointer.told().expect("told")),
            r#"[["d","openagents:liquidity_receipt:lpd_1"],["oa_schema","openagents.bridge.liquidity_receipt_pointer.v1"],["oa_pool_id","p"],["oa_deposit_id","d"],["oa_receipt_sha256","ab"],["oa_receipt_url","openagents://receipt/lpd_1"]] {"receipt_id":"lpd_1","pool_id":"p","deposit_id":"d","receipt_sha256":"ab","receipt_url":"openagents://receipt/lpd_1"}"#
        );
    }

    #[test]
    fn a_snapshot_is_named_by_its_pool_and_the_beginning_of_its_digest() {
        let pointer = PoolSnapshotPointer {
            pool_id: "p",
            snapshot_id: "lips_1",
            snapshot_sha256: "0123456789abcdef0123",
            as_of_unix: 7,
            wallet_balance_sats: Some(9),
            shares_outstanding: 3,
            share_price_sats: 1,
            receipt_id: Some("lpsr_1"),
            ..PoolSnapshotPointer::default()
        };
        assert_eq!(
            told(&pointer.told().expect("told")),
            r#"[["d","openagents:pool_snapshot:p:0123456789abcdef"],["oa_schema","openagents.bridge.pool_snapshot.v1"],["oa_pool_id","p"],["oa_snapshot_sha256","0123456789abcdef0123"],["oa_as_of_unix","7"]] {"pool_id":"p","snapshot_id":"lips_1","snapshot_sha256":"0123456789abcdef0123","as_of_unix":7,"wallet_balance_sats":9,"shares_outstanding":3,"pending_withdrawals_sats_estimate":0,"share_price_sats":1,"receipt_id":"lpsr_1"}"#
        );
    }
}
