//! Decides which files are refused: never an empty start, never a damaged one, never somebody else's.

use std::fs;
use std::path::PathBuf;

use crate::harness::{Place, append, count};

/// A place with a store of some pages in it, closed.
async fn written() -> (Place, PathBuf) {
    let place = Place::sqlite();
    let store = place.open().await;
    for _ in 0..200 {
        store.write("append", (), "s", append).await.expect("an append");
    }
    store.close().await;
    let Place::Sqlite { config, .. } = &place else { panic!("a file") };
    let path = config.path.clone();
    (place, path)
}

async fn refused(place: &Place) -> String {
    match place.try_open().await {
        Ok(_) => panic!("the store opened"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn a_store_that_is_gone_is_not_made_anew() {
    let (place, path) = written().await;
    fs::remove_file(&path).expect("removing");
    let said = refused(&place).await;
    assert!(said.contains("is missing") && said.contains("restore a backup"), "{said}");
    assert!(!path.exists());
}

#[tokio::test]
async fn a_store_of_no_length_is_not_made_anew() {
    let (place, path) = written().await;
    fs::write(&path, "").expect("emptying");
    let said = refused(&place).await;
    assert!(said.contains("is empty"), "{said}");
}

#[tokio::test]
async fn a_log_without_its_store_is_refused() {
    let (place, path) = written().await;
    fs::remove_file(&path).expect("removing");
    fs::remove_file(path.with_extension("db.made")).expect("removing");
    fs::write(path.with_extension("db-wal"), "frames").expect("a log");
    assert!(refused(&place).await.contains("its log"));
}

#[tokio::test]
async fn a_store_cut_short_is_refused_wherever_it_is_cut() {
    let (place, path) = written().await;
    let whole = fs::read(&path).expect("reading");
    for keep in [1, 50, 100, 4096, 4097, whole.len() / 2, whole.len() - 4096, whole.len() - 1] {
        fs::write(&path, &whole[..keep]).expect("cutting");
        let said = refused(&place).await;
        assert!(said.contains("restore a backup"), "cut at {keep}: {said}");
    }
    fs::write(&path, &whole).expect("restoring");
    let store = place_opens(&place).await;
    place.end(store).await;
}

async fn place_opens(place: &Place) -> oa_store::Store {
    let store = place.open().await;
    assert_eq!(count(&store, "s").await, 200);
    store
}

#[tokio::test]
async fn garbage_is_refused_wherever_it_lies() {
    let (place, path) = written().await;
    let whole = fs::read(&path).expect("reading");
    for page in 0..whole.len() / 4096 {
        let mut torn = whole.clone();
        torn[page * 4096..page * 4096 + 512].fill(0xA5);
        fs::write(&path, &torn).expect("damaging");
        let said = refused(&place).await;
        assert!(said.contains("restore a backup"), "page {page}: {said}");
    }
    fs::write(&path, &whole).expect("restoring");
    let store = place_opens(&place).await;
    place.end(store).await;
}

#[tokio::test]
async fn a_file_of_somebody_else_is_refused_and_left_alone() {
    let (place, path) = written().await;
    fs::remove_file(&path).expect("removing");
    let other = rusqlite::Connection::open(&path).expect("a database");
    other.execute_batch("CREATE TABLE songs (name TEXT)").expect("a table");
    drop(other);
    let before = fs::read(&path).expect("reading");
    let said = refused(&place).await;
    assert!(said.contains("not a store of oa"), "{said}");
    assert_eq!(fs::read(&path).expect("reading"), before);
    fs::write(&path, "a letter to somebody, quite long, which is no database at all".repeat(99))
        .expect("a text");
    let said = refused(&place).await;
    assert!(said.contains("is not a store"), "{said}");
}

#[tokio::test]
async fn a_schema_altered_by_hand_is_refused() {
    let (place, _) = written().await;
    place.meddle("CREATE INDEX mine ON outbox (payload)").await;
    let said = refused(&place).await;
    assert!(said.contains("altered from outside") && said.contains("`mine`"), "{said}");
    place.meddle("DROP INDEX mine; DROP TABLE store_probe").await;
    assert!(refused(&place).await.contains("`store_probe`"));
}

#[tokio::test]
async fn a_restored_copy_without_its_marker_opens_and_is_marked() {
    let (place, path) = written().await;
    let marker = path.with_extension("db.made");
    fs::remove_file(&marker).expect("removing");
    let store = place_opens(&place).await;
    assert!(marker.exists());
    place.end(store).await;
}

#[tokio::test]
async fn a_directory_that_may_not_be_written_is_named() {
    let (place, path) = written().await;
    let Place::Sqlite { directory, .. } = &place else { panic!("a file") };
    // A file where a directory should be: refused for everybody, root included.
    let mut config = oa_store::SqliteConfig::new(path.join("below").join("runtime.db"));
    config.readers = 1;
    let Err(error) = oa_store::Store::open(config).await else { panic!("opened below a file") };
    assert!(error.to_string().contains("choose another directory"), "{error}");
    let taken = directory.join("taken");
    fs::create_dir(&taken).expect("a directory");
    let Err(error) = oa_store::Store::open(oa_store::SqliteConfig::new(taken)).await else {
        panic!("opened")
    };
    assert!(error.to_string().contains("is not a file"), "{error}");
}

#[tokio::test]
async fn a_log_left_by_a_crash_is_carried_over() {
    let (place, path) = written().await;
    let store = place.open().await;
    store.write("append", (), "s", append).await.expect("an append");
    // What a crash leaves: the file and its log as they are now.
    let copy = path.with_file_name("crashed.db");
    fs::copy(&path, &copy).expect("copying");
    fs::copy(path.with_extension("db-wal"), path.with_file_name("crashed.db-wal")).expect("copying");
    store.close().await;
    let store = oa_store::Store::open(oa_store::SqliteConfig::new(&copy)).await.expect("a store that opens");
    assert_eq!(count(&store, "s").await, 201);
    store.close().await;
    drop(place);
}
