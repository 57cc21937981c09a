//! Decides what holds on PostgreSQL alone: several processes on one store, and a server that goes away.

use std::path::Path;
use std::time::Duration;

use oa_contract::refusal::Stop;
use oa_store::{Key, Tx};

use crate::harness::{Place, append, connect, count, put, refusal};

fn address(place: &Place) -> (String, String) {
    match place {
        Place::Postgres { config } => (config.url.clone(), config.schema.clone()),
        Place::Sqlite { .. } => panic!("these tests are PostgreSQL's"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_on_one_key_get_contiguous_numbers() {
    let place = Place::postgres();
    // They also start at once, on an empty schema, and must not trip over each other's migrations.
    let (one, two) = tokio::join!(place.open(), place.open());
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..100 {
        let store = if number % 2 == 0 { one.clone() } else { two.clone() };
        tasks.spawn(async move {
            store.write("append", Key::text("run", "r"), "r", append).await.expect("an append")
        });
    }
    let mut all = tasks.join_all().await;
    all.sort_unstable();
    assert_eq!(all, (1..=100).collect::<Vec<_>>());
    two.close().await;
    place.end(one).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_without_a_key_collide_in_the_table_and_run_again() {
    let place = Place::postgres();
    let store = place.open().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let store = store.clone();
        tasks.spawn(async move { store.write("append", (), "r", append).await.expect("an append") });
    }
    let mut all = tasks.join_all().await;
    all.sort_unstable();
    assert_eq!(all, [1, 2, 3]);
    place.end(store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_that_lock_in_a_circle_are_run_again() {
    let place = Place::postgres();
    let store = place.open().await;
    static TAKE: oa_store::Statement = oa_store::Statement::new(
        "test/take",
        "UPDATE idempotency_records SET status = status + 1 WHERE scope = 's' AND key = $1",
        None,
    );
    let make = async |tx: &mut Tx, (): &()| {
        put(tx, "s", "a", 1).await?;
        put(tx, "s", "b", 2).await
    };
    store.write("make", (), (), make).await.expect("two rows");
    let both = async |tx: &mut Tx, order: &[&'static str; 2]| -> Result<(), Stop> {
        tx.execute(&TAKE, oa_store::params![order[0]]).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
        tx.execute(&TAKE, oa_store::params![order[1]]).await?;
        Ok(())
    };
    let (one, two) =
        tokio::join!(store.write("both", (), ["a", "b"], both), store.write("both", (), ["b", "a"], both));
    one.expect("the first");
    two.expect("the second, run again");
    place.end(store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_the_server_cut_are_replaced() {
    let place = Place::postgres();
    let store = place.open().await;
    store.write("append", (), "r", append).await.expect("an append");
    let (url, schema) = address(&place);
    let cut = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND application_name = '{schema}'"
    );
    let client = connect(&url).await;
    client.batch_execute(&cut).await.expect("cutting");
    store.write("append", (), "r", append).await.expect("an append over a new connection");
    assert_eq!(count(&store, "r").await, 2);
    place.end(store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_there_is_named_at_the_start() {
    let mut config = oa_store::PostgresConfig::new("postgres://oa:secret@127.0.0.1:1/postgres");
    config.connect_timeout = Duration::from_secs(1);
    let Err(error) = oa_store::Store::open(config).await else { panic!("nobody is there") };
    let said = error.to_string();
    assert!(said.contains("PostgreSQL could not be reached") && !said.contains("secret"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_may_lose_answers_is_refused() {
    let mut place = Place::postgres();
    if let Place::Postgres { config } = &mut place {
        config.url.push_str("&options=-c%20synchronous_commit%3Doff");
    }
    let Err(error) = place.try_open().await else { panic!("not durable") };
    assert!(error.to_string().contains("synchronous_commit = off"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_writers_than_connections_wait_their_turn() {
    let mut place = Place::postgres();
    if let Place::Postgres { config } = &mut place {
        config.pool_size = 2;
    }
    let store = place.open().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let store = store.clone();
        tasks.spawn(async move {
            store.write("append", Key::text("run", "r"), "r", append).await.expect("an append")
        });
    }
    assert_eq!(tasks.join_all().await.len(), 64);
    let run = async |_: &mut Tx, (): &()| -> Result<(), Stop> {
        Err(oa_contract::refusal::Refusal::conflict("no").into())
    };
    refusal(store.write("refused", (), (), run).await.expect_err("a refusal"));
    place.end(store).await;
}

/// Every text under `queries/`, as path and SQL.
fn queries(directory: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            queries(&path, found);
        } else {
            found.push((path.display().to_string(), std::fs::read_to_string(&path).expect("a text")));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_understands_every_statement() {
    let place = Place::postgres();
    let store = place.open().await;
    let (url, schema) = address(&place);
    let client = connect(&url).await;
    client.batch_execute(&format!("SET search_path = {schema}")).await.expect("the schema");
    let mut all = Vec::new();
    queries(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/queries")), &mut all);
    assert!(!all.is_empty());
    let mut wrong = Vec::new();
    for (name, text) in all.iter().filter(|(name, _)| !name.ends_with(".sqlite.sql")) {
        match client.prepare(text).await {
            Err(error) => wrong.push(format!("{name}: {:?}", error.as_db_error())),
            Ok(prepared) => wrong.extend(foreign_kinds(&prepared).map(|kind| format!("{name}: {kind}"))),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    place.end(store).await;
}

/// Parameters and columns of kinds that the waist does not carry.
fn foreign_kinds(prepared: &tokio_postgres::Statement) -> impl Iterator<Item = String> {
    use tokio_postgres::types::Type;
    let parameters = prepared.params().iter().map(|kind| ("a parameter", kind));
    let columns = prepared.columns().iter().map(|column| ("a column", column.type_()));
    let known = [Type::INT8, Type::INT4, Type::TEXT, Type::BYTEA, Type::BOOL];
    let foreign = parameters.chain(columns).filter(|(_, kind)| !known.contains(kind));
    foreign.map(|(what, kind)| format!("{what} is {kind}; cast it")).collect::<Vec<_>>().into_iter()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_connection_checks_who_answers() {
    let mut place = Place::postgres();
    let (url, _) = address(&place);
    if let Place::Postgres { config } = &mut place {
        config.url.push_str("&sslmode=require");
    }
    let Err(error) = place.try_open().await else { panic!("an unknown authority was trusted") };
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    // scripts/postgres-for-tests leaves its authority beside the certificate of its server.
    let client = connect(&url).await;
    let shown = client.query_one("SHOW ssl_cert_file", &[]).await.expect("a setting");
    let authority = Path::new(shown.get::<_, &str>(0)).with_file_name("authority.pem");
    if let Place::Postgres { config } = &mut place {
        config.authority = Some(authority);
    }
    let store = place.open().await;
    static PRIVATE: oa_store::Statement = oa_store::Statement::new(
        "test/private",
        "SELECT CAST(ssl AS BIGINT) FROM (SELECT CAST(ssl AS INT) AS ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()) s",
        None,
    );
    let ask = async |tx: &mut Tx, (): &()| tx.one::<(i64,)>(&PRIVATE, &[]).await;
    assert_eq!(store.read("private", (), ask).await.expect("an answer"), Some((1,)));
    assert!(store.verify(|_| {}).await.expect("a check").findings.is_empty());
    store.close().await;
    let Place::Postgres { config } = &mut place else { panic!("PostgreSQL") };
    config.url = config.url.replace("&sslmode=require", "");
    let store = place.open().await;
    place.end(store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_too_long_for_a_lock_is_asked_to_come_back() {
    let mut place = Place::postgres();
    if let Place::Postgres { config } = &mut place {
        config.statement_timeout = Duration::from_millis(300);
    }
    let store = place.open().await;
    let (url, schema) = address(&place);
    // Another replica stands still with the run in its hands.
    let other = connect(&url).await;
    let lock = format!("{schema}/run/r");
    let number = sha2_number(&lock);
    other.batch_execute(&format!("BEGIN; SELECT pg_advisory_xact_lock({number})")).await.expect("locked");
    let said = refusal(store.write("append", Key::text("run", "r"), "r", append).await.expect_err("refused"));
    assert!(said.contains("try again"), "{said}");
    other.batch_execute("ROLLBACK").await.expect("free");
    assert_eq!(store.write("append", Key::text("run", "r"), "r", append).await.expect("an append"), 1);
    place.end(store).await;
}

/// The number that a lock's name becomes.
fn sha2_number(name: &str) -> i64 {
    use sha2::Digest as _;
    let hash = sha2::Sha256::digest(name);
    hash.iter().take(8).fold(0, |number, byte| (number << 8) | i64::from(*byte))
}
