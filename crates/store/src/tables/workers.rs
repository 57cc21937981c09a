//! placeholder
use oa_contract::{Stop, Timestamp};
use serde_json::value::RawValue;
use crate::Tx;
pub struct W { pub owner_key: String, pub projected: P }
pub struct P { pub seq: u64, pub count: u64, pub event_type: String, pub status: String, pub at: Timestamp }
pub struct L { pub seq: u64, pub event_type: String, pub payload: Box<RawValue> }
pub async fn get(_tx: &mut Tx, _id: &str) -> Result<Option<W>, Stop> { Ok(None) }
pub async fn last_event(_tx: &mut Tx, _id: &str) -> Result<Option<L>, Stop> { Ok(None) }
