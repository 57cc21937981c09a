//! Decides what is kept of organisations and of what users are in them.

use oa_contract::{
    instant::Timestamp,
    refusal::{Fault, Stop},
};

use crate::{
    params,
    row::{FromRow, Row},
    sealed_statement,
    statement::Statement,
    transaction::Tx,
};

static INSERT_ORG: Statement = sealed_statement!("accounts/insert_org", "organisations");
static INSERT_MEMBERSHIP: Statement = sealed_statement!("accounts/insert_membership", "memberships");
static MEMBERSHIPS_OF_USER: Statement = sealed_statement!("accounts/memberships_of_user", "memberships");

/// What a user is in an organisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    pub user_id: String,
    pub org_id: String,
    pub org_slug: String,
    /// `owner`, `admin`, `member` or `viewer`.
    pub role: String,
    pub role_scopes: Vec<String>,
    pub default_org: bool,
    pub created_at: Timestamp,
}

impl FromRow for Membership {
    fn from_row(row: &Row<'_>) -> Result<Self, Fault> {
        let scopes = serde_json::from_str(row.text(4)?);
        Ok(Membership {
            user_id: row.text(0)?.into(),
            org_id: row.text(1)?.into(),
            org_slug: row.text(2)?.into(),
            role: row.text(3)?.into(),
            role_scopes: scopes.map_err(|error| Fault::new("reading the scopes of a role", error))?,
            default_org: row.bool(5)?,
            created_at: row.timestamp(6)?,
        })
    }
}

/// Makes a user a member, and the organisation if there is none yet. What they are already stays as it is.
pub async fn join(tx: &mut Tx, membership: &Membership) -> Result<(), Stop> {
    let Membership { user_id, org_id, org_slug, role, role_scopes, default_org, created_at } = membership;
    tx.execute(&INSERT_ORG, params![org_id, org_slug, *created_at]).await?;
    let scopes = serde_json::to_string(role_scopes);
    let scopes = scopes.map_err(|error| Fault::new("writing the scopes of a role", error))?;
    let params = params![user_id, org_id, org_slug, role, &scopes, *default_org, *created_at];
    tx.execute(&INSERT_MEMBERSHIP, params).await?;
    Ok(())
}

/// What a user is and where, at most a thousand; in no order that callers may lean on, for the two engines
/// compare texts in their own ways.
pub async fn memberships(tx: &mut Tx, user_id: &str) -> Result<Vec<Membership>, Stop> {
    tx.all(&MEMBERSHIPS_OF_USER, params![user_id]).await
}
