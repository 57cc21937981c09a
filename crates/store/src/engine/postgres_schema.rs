//! Decides whether a PostgreSQL server may be our store: reachable, durable, and with our history in its
//! schema.

use std::error::Error as _;
use std::time::Duration;

use deadpool_postgres::{Object, PoolError};
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, GenericClient};

use super::EngineKind;
use super::tls::Tls;
use crate::config::{OpenError, PostgresConfig};
use crate::migrate::{self, Applied, Migration};

/// Nothing inside a transaction waits for anything but the store. A process that says nothing for so long in the middle
/// of one stands still, and must not keep its locks from the others.
const LONGEST_STANDSTILL: Duration = Duration::from_secs(5);

/// Where to connect, and what every connection is set to from its first byte on.
pub(crate) fn target(config: &PostgresConfig) -> Result<Config, OpenError> {
    let bad = |error: tokio_postgres::Error| {
        OpenError::new(format!(
            "the PostgreSQL address is not one ({error}); write postgres://user:password@host:port/database"
        ))
    };
    let mut target: Config = config.url.parse().map_err(bad)?;
    check_name(&config.schema)?;
    // TLS is either asked for and checked, or left away: never tried and silently given up.
    if target.get_ssl_mode() != SslMode::Require {
        target.ssl_mode(SslMode::Disable);
    }
    let milliseconds = config.statement_timeout.as_millis();
    let idle = config.transaction_timeout.min(LONGEST_STANDSTILL).as_millis();
    let given = target.get_options().unwrap_or_default().to_owned();
    target.options(format!(
        "{given} -c search_path={} -c statement_timeout={milliseconds} -c idle_in_transaction_session_timeout={idle}",
        config.schema
    ));
    if target.get_application_name().is_none() {
        target.application_name("oa");
    }
    target.connect_timeout(config.connect_timeout);
    Ok(target)
}

/// A connection outside of the pool, for work that takes long.
pub(crate) async fn connect_alone(config: &PostgresConfig) -> Result<Client, OpenError> {
    let target = target(config)?;
    let tls = Tls::new(config.authority.as_deref())?;
    let (client, connection) = target.connect(tls).await.map_err(|error| failed(&error))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::warn!(%error, "a connection to PostgreSQL ended");
        }
    });
    Ok(client)
}

/// The schema's name stands in statements as it is.
fn check_name(schema: &str) -> Result<(), OpenError> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    match schema.starts_with(|c: char| c.is_ascii_lowercase()) && schema.chars().all(plain) {
        true => Ok(()),
        false => Err(OpenError::new(format!(
            "`{schema}` cannot be the name of a schema; use small letters, digits and _"
        ))),
    }
}

pub(crate) fn unreachable(error: &PoolError) -> OpenError {
    let cause = error.source().map(|cause| format!(": {}", whole(cause))).unwrap_or_default();
    OpenError::new(format!(
        "PostgreSQL could not be reached ({error}{cause}); check that it runs, the address and the password"
    ))
}

/// The chain of an error, once each.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    text
}

/// We answer only what is durable, so the server must not answer before.
pub(crate) async fn check_durability(client: &Object) -> Result<(), OpenError> {
    for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
        let row = client.query_one(&format!("SHOW {setting}"), &[]).await.map_err(|error| failed(&error))?;
        let value: String = row.try_get(0).map_err(|error| failed(&error))?;
        if value == "off" {
            return Err(OpenError::new(format!(
                "PostgreSQL runs with {setting} = off and would lose acknowledged work in a crash; set it to on"
            )));
        }
    }
    Ok(())
}

fn failed(error: &tokio_postgres::Error) -> OpenError {
    OpenError::new(format!("PostgreSQL could not be read while the store was opened: {}", whole(error)))
}

/// Takes the pending steps. Replicas that start together take turns.
pub(crate) async fn migrate(client: &mut Object, config: &PostgresConfig) -> Result<(), OpenError> {
    let schema = &config.schema;
    let turn = format!(
        "BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('{schema}/migrations', 0)); CREATE SCHEMA IF NOT EXISTS {schema}; {}; COMMIT",
        migrate::BOOKKEEPING
    );
    client.batch_execute(&turn).await.map_err(|error| {
        OpenError::new(format!(
            "the schema `{schema}` could not be made or read ({}); let the user of the address create it, or create it for them",
            whole(&error)
        ))
    })?;
    while step(client, schema).await? {}
    Ok(())
}

/// Takes one step in one transaction; says whether there was one to take.
async fn step(client: &mut Object, schema: &str) -> Result<bool, OpenError> {
    let work = client.transaction().await.map_err(|error| failed(&error))?;
    let turn = format!("SELECT pg_advisory_xact_lock(hashtextextended('{schema}/migrations', 0))");
    work.batch_execute(&turn).await.map_err(|error| failed(&error))?;
    let applied = applied(&*work).await.map_err(|error| failed(&error))?;
    let Some(step) = migrate::pending(migrate::ALL, &applied)?.first() else { return Ok(false) };
    take(work, step).await.map_err(|error| {
        OpenError::new(format!(
            "the schema step {} (`{}`) did not fit the schema `{schema}`: {}; nothing was changed; restore a backup, or install the version that wrote the store",
            step.version(),
            step.name(),
            whole(&error)
        ))
    })?;
    Ok(true)
}

/// The steps that the schema has taken; none where there is no such schema yet. Changes nothing.
pub(crate) async fn history(config: &PostgresConfig) -> Result<Option<Vec<Applied>>, OpenError> {
    let client = connect_alone(config).await?;
    let table = format!("{}.schema_migrations", config.schema);
    let found = client.query_one("SELECT to_regclass($1::text)::text", &[&table]).await;
    let found: Option<String> = found.and_then(|row| row.try_get(0)).map_err(|error| failed(&error))?;
    match found {
        None => Ok(None),
        Some(_) => applied(&client).await.map(Some).map_err(|error| failed(&error)),
    }
}

async fn applied(work: &impl GenericClient) -> Result<Vec<Applied>, tokio_postgres::Error> {
    let rows = work.query(migrate::READ, &[]).await?;
    let read = |row: &tokio_postgres::Row| -> Result<Applied, tokio_postgres::Error> {
        Ok(Applied { version: row.try_get(0)?, name: row.try_get(1)?, checksum: row.try_get(2)? })
    };
    rows.iter().map(read).collect()
}

async fn take(
    work: deadpool_postgres::Transaction<'_>,
    step: &Migration,
) -> Result<(), tokio_postgres::Error> {
    work.batch_execute("SET LOCAL statement_timeout = 0").await?;
    work.batch_execute(&step.text_for(EngineKind::Postgres)).await?;
    work.execute(migrate::NOTE, &[&step.version(), &step.name(), &step.checksum(), &migrate::now_micros()])
        .await?;
    work.commit().await
}
