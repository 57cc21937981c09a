//! `GET /internal/v1/liquidity/status`: whether payments can be made now, as the wallet says when it is asked (§4.3).

use oa_contract::{
    Answer, Ask, Handle, Stop,
    matrix::LiquidityStatus as Row,
    wire::liquidity::{LiquidityStatus, STATUS_RESPONSE},
};

use crate::Runtime;

impl Handle<Row> for Runtime {
    async fn handle(&self, _: Ask<Row>) -> Result<Answer<LiquidityStatus>, Stop> {
        let seen = self.wallet_watch.look(self).await;
        Ok(LiquidityStatus {
            schema: STATUS_RESPONSE.into(),
            wallet_executor_configured: seen.configured,
            wallet_executor_reachable: seen.reachable,
            receipt_signing_enabled: self.signer.is_some(),
            quote_ttl_seconds: self.config.liquidity.quote_ttl_seconds.unsigned_abs(),
            wallet_status: seen.status,
            error_code: seen.error_code,
            error_message: seen.error_message,
        }
        .into())
    }
}
