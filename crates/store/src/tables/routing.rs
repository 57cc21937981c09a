//! Decides what is kept of overrides: of the route split one row a scope and kind, of drivers one row a user or
//! autopilot.

use oa_contract::{
    instant::Timestamp,
    refusal::{Fault, Stop},
};

use crate::{
    job::Key,
    params,
    row::{FromRow, Row},
    sealed_statement, statement,
    statement::Statement,
    transaction::Tx,
};

static PUT_SPLIT: Statement = sealed_statement!("routing/put_split_override", "route_split_overrides");
static REMOVE_SPLIT: Statement = statement!("routing/remove_split_override");
static SPLITS: Statement = sealed_statement!("routing/split_overrides", "route_split_overrides");
static PUT_DRIVER: Statement = sealed_statement!("routing/put_driver_override", "driver_overrides");
static DRIVER: Statement = sealed_statement!("routing/driver_override", "driver_overrides");
static DRIVERS: Statement = sealed_statement!("routing/driver_overrides", "driver_overrides");

/// More scopes than there can be.
const SPLITS_MAX: u32 = 100;

/// An override of the route split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitOverride {
    /// Empty for everything.
    pub domain: String,
    /// `target` or `htmx`.
    pub kind: String,
    pub value: String,
    pub updated_at: Timestamp,
}

/// An override of the driver of a user or an autopilot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverOverride {
    /// `user` or `autopilot`.
    pub scope_type: String,
    pub scope_id: String,
    pub override_id: String,
    pub driver: String,
    pub is_active: bool,
    pub reason: Option<String>,
    /// JSON.
    pub meta: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl FromRow for SplitOverride {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(SplitOverride {
            domain: row.text(0)?.to_owned(),
            kind: row.text(1)?.to_owned(),
            value: row.text(2)?.to_owned(),
            updated_at: row.timestamp(3)?,
        })
    }
}

impl FromRow for DriverOverride {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(DriverOverride {
            scope_type: row.text(0)?.to_owned(),
            scope_id: row.text(1)?.to_owned(),
            override_id: row.text(2)?.to_owned(),
            driver: row.text(3)?.to_owned(),
            is_active: row.bool(4)?,
            reason: row.opt_text(5)?.map(str::to_owned),
            meta: row.opt_text(6)?.map(str::to_owned),
            created_at: row.timestamp(7)?,
            updated_at: row.timestamp(8)?,
        })
    }
}

/// What whoever overrides the route split holds.
pub fn split_key() -> Key {
    Key::text("route_split", "")
}

/// What whoever overrides the driver of this scope holds.
pub fn driver_key(scope_type: &str, scope_id: &str) -> Key {
    Key::text("driver_override", format!("{scope_type}::{scope_id}"))
}

/// Writes an override, new or changed.
pub async fn put_split(tx: &mut Tx, one: &SplitOverride) -> Result<(), Stop> {
    let SplitOverride { domain, kind, value, updated_at } = one;
    tx.execute(&PUT_SPLIT, params![domain, kind, value, *updated_at]).await?;
    Ok(())
}

pub async fn remove_split(tx: &mut Tx, domain: &str, kind: &str) -> Result<(), Stop> {
    tx.execute(&REMOVE_SPLIT, params![domain, kind]).await?;
    Ok(())
}

pub async fn splits(tx: &mut Tx) -> Result<Vec<SplitOverride>, Stop> {
    tx.all(&SPLITS, params![SPLITS_MAX]).await
}

/// Writes an override, new or changed.
pub async fn put_driver(tx: &mut Tx, one: &DriverOverride) -> Result<(), Stop> {
    let params = params![
        &one.scope_type,
        &one.scope_id,
        &one.override_id,
        &one.driver,
        one.is_active,
        &one.reason,
        &one.meta,
        one.created_at,
        one.updated_at
    ];
    tx.execute(&PUT_DRIVER, params).await?;
    Ok(())
}

pub async fn driver(tx: &mut Tx, scope_type: &str, scope_id: &str) -> Result<Option<DriverOverride>, Stop> {
    tx.one(&DRIVER, params![scope_type, scope_id]).await
}

/// Up to `limit` overrides, the last changed first.
pub async fn drivers(tx: &mut Tx, limit: u32) -> Result<Vec<DriverOverride>, Stop> {
    tx.all(&DRIVERS, params![limit]).await
}
