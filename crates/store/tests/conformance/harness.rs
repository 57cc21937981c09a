//! Decides where a test keeps its store, and how it meddles with one from outside.

use std::path::PathBuf;

use oa_contract::refusal::Stop;
use oa_store::{
    OnCommit, OpenError, PostgresConfig, SqliteConfig, Statement, Store, StoreConfig, Tx, params,
};
use uuid::Uuid;

/// A place for one store of one test; gone with the test.
pub enum Place {
    Sqlite { directory: PathBuf, config: SqliteConfig },
    Postgres { config: PostgresConfig },
}

impl Place {
    pub fn sqlite() -> Self {
        let directory = std::env::temp_dir().join(format!("oa-store-{}", Uuid::new_v4()));
        let config = SqliteConfig::new(directory.join("runtime.db"));
        Place::Sqlite { directory, config }
    }

    pub fn postgres() -> Self {
        let url = std::env::var("OA_TEST_POSTGRES_URL").expect(
            "OA_TEST_POSTGRES_URL is not set: a skipped engine is a failed test. Run `eval \"$(scripts/postgres-for-tests start)\"` first",
        );
        let schema = format!("t_{}", Uuid::new_v4().simple());
        // The name lets a test tell its own connections from those of others.
        let mut config = PostgresConfig::new(format!("{url}?application_name={schema}"));
        config.schema = schema;
        config.transaction_timeout = std::time::Duration::from_secs(5);
        Place::Postgres { config }
    }

    pub fn config(&self) -> StoreConfig {
        match self {
            Place::Sqlite { config, .. } => config.clone().into(),
            Place::Postgres { config } => config.clone().into(),
        }
    }

    pub async fn open(&self) -> Store {
        self.try_open().await.expect("a store that opens")
    }

    pub async fn try_open(&self) -> Result<Store, OpenError> {
        Store::open(self.config()).await
    }

    pub async fn open_with(&self, on_commit: OnCommit) -> Store {
        Store::open_with(self.config(), on_commit).await.expect("a store that opens")
    }

    /// Runs SQL behind the store's back.
    pub async fn meddle(&self, sql: &str) {
        match self {
            Place::Sqlite { config, .. } => {
                let connection = rusqlite::Connection::open(&config.path).expect("the file");
                connection.execute_batch(sql).expect("meddling");
            }
            Place::Postgres { config } => {
                let client = connect(&config.url).await;
                let sql = format!("SET search_path = {}; {sql}", config.schema);
                client.batch_execute(&sql).await.expect("meddling");
            }
        }
    }

    /// Closes the store and removes the place.
    pub async fn end(self, store: Store) {
        store.close().await;
        if let Place::Postgres { config } = &self {
            let client = connect(&config.url).await;
            client.batch_execute(&format!("DROP SCHEMA {} CASCADE", config.schema)).await.expect("dropping");
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Place::Sqlite { directory, .. } = self {
            let _ = std::fs::remove_dir_all(directory);
        }
    }
}

pub async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("PostgreSQL");
    tokio::spawn(connection);
    client
}

/// A row of the suite's own, in a table that every store has: no test needs a table of its own, which the
/// store would refuse.
pub static PUT: Statement = Statement::new(
    "test/put",
    "INSERT INTO idempotency_records (scope, key, fingerprint, status, reply, created_at, seal) VALUES ($1, $2, $3, $4, $5, $6, $7)",
    Some("idempotency_records"),
);
pub static COUNT: Statement =
    Statement::new("test/count", "SELECT COUNT(*) FROM idempotency_records WHERE scope = $1", None);
pub static GET: Statement = Statement::new(
    "test/get",
    "SELECT scope, key, fingerprint, status, reply, created_at FROM idempotency_records WHERE scope = $1 ORDER BY created_at, key",
    None,
);

pub async fn put(tx: &mut Tx, scope: &str, key: &str, number: i64) -> Result<(), Stop> {
    tx.execute(&PUT, params![scope, key, b"", 0, "", number]).await?;
    Ok(())
}

pub async fn count_in(tx: &mut Tx, scope: &str) -> Result<i64, Stop> {
    Ok(tx.one::<(i64,)>(&COUNT, params![scope]).await?.map_or(0, |(count,)| count))
}

/// How many rows a reader sees.
pub async fn count(store: &Store, scope: &'static str) -> i64 {
    store
        .read("test_count", scope, async |tx: &mut Tx, scope: &&'static str| count_in(tx, scope).await)
        .await
        .expect("a count")
}

/// Appends the next number under a key: reads the last, writes the next.
pub async fn append(tx: &mut Tx, scope: &&'static str) -> Result<i64, Stop> {
    let next = count_in(tx, scope).await? + 1;
    put(tx, scope, &format!("{next:08}"), next).await?;
    Ok(next)
}

pub fn fault(stop: Stop) -> String {
    match stop {
        Stop::Fault(fault) => fault.to_string(),
        Stop::Refusal(refusal) => panic!("a refusal where a fault was expected: {refusal}"),
    }
}

pub fn refusal(stop: Stop) -> String {
    match stop {
        Stop::Refusal(refusal) => refusal.to_string(),
        Stop::Fault(fault) => panic!("a fault where a refusal was expected: {fault}"),
    }
}
