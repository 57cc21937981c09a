//! `GET /internal/v1/workers`: the workers of one owner, ascending by the bytes of their ids, page by page. A page ends
//! at its number of workers or at its bytes, so that no list is larger than the services that carry it.

use oa_contract::{
    Answer, Ask, Handle, Owner, Refusal, Stop,
    matrix::WorkersList,
    wire::workers::{WorkerList, WorkerStatus},
};
use oa_store::{
    Tx,
    tables::workers::{self, WorkerRow},
};

use super::{
    owner,
    snapshot::{self, Moment},
};
use crate::Runtime;

/// The largest page, and what a page is when nobody says.
const LARGEST_PAGE: u64 = 10_000;
const USUAL_PAGE: u64 = 1_000;
/// Bytes of metadata after which a page ends.
const PAGE_BYTES: usize = 8 * 1024 * 1024;
/// Rows that are read at once: each has up to 64 KiB.
const ROWS: usize = 250;

struct Wanted {
    owner: Owner,
    status: Option<WorkerStatus>,
    after: String,
    page: usize,
}

/// The workers of one page, and whether others follow.
struct Page {
    rows: Vec<WorkerRow>,
    more: bool,
}

impl Handle<WorkersList> for Runtime {
    async fn handle(&self, ask: Ask<WorkersList>) -> Result<Answer<WorkerList>, Stop> {
        let query = ask.query;
        let owner = owner(&ask.caller, query.owner_user_id, query.owner_guest_scope.as_deref())?;
        let page = page(query.limit)?;
        let wanted = Wanted { owner, status: query.status, after: query.after.unwrap_or_default(), page };
        let found = self.store.read("workers.list", wanted, read).await?;
        Ok(listed(&found, Moment::of(self))?.into())
    }
}

async fn read(tx: &mut Tx, wanted: &Wanted) -> Result<Page, Stop> {
    let mut rows: Vec<WorkerRow> = Vec::new();
    let mut bytes = 0;
    loop {
        let after = rows.last().map_or(wanted.after.as_str(), |row| row.worker_id.as_str());
        // One row more than there is room for says whether another page follows.
        let some = (wanted.page - rows.len() + 1).min(ROWS);
        let found =
            workers::list(tx, &wanted.owner, wanted.status, after, i64::try_from(some).unwrap_or(1)).await?;
        let ended = found.len() < some;
        for row in found {
            if rows.len() == wanted.page || bytes > PAGE_BYTES {
                return Ok(Page { rows, more: true });
            }
            bytes += row.metadata.get().len();
            rows.push(row);
        }
        if ended {
            return Ok(Page { rows, more: false });
        }
    }
}

fn page(limit: Option<u64>) -> Result<usize, Refusal> {
    let page = Some(limit.unwrap_or(USUAL_PAGE)).filter(|page| (1..=LARGEST_PAGE).contains(page));
    page.and_then(|page| usize::try_from(page).ok())
        .ok_or_else(|| Refusal::invalid(format!("limit must be between 1 and {LARGEST_PAGE}")))
}

fn listed(page: &Page, moment: Moment) -> Result<WorkerList, Stop> {
    let next = page.rows.last().filter(|_| page.more).map(|row| row.worker_id.clone());
    let workers: Result<Vec<_>, _> = page.rows.iter().map(|row| snapshot::snapshot(row, moment)).collect();
    Ok(WorkerList { workers: workers?, next })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use oa_contract::{
        Nothing,
        wire::workers::{ListWorkers, RegisterWorker},
    };

    use super::*;
    use crate::{
        testing::{World, bound_to, on_each_engine, operator, refused},
        workers::tests_support::{change, raw, register, stored, user},
    };

    async fn ask(world: &World, query: ListWorkers) -> Result<WorkerList, Stop> {
        Ok(world.call::<WorkersList>(&operator(), Nothing {}, query, Nothing {}).await?.1)
    }

    fn of(user_id: u64) -> ListWorkers {
        ListWorkers { owner_user_id: Some(user_id), ..ListWorkers::default() }
    }

    fn ids(list: &WorkerList) -> Vec<&str> {
        list.workers.iter().map(|one| one.worker.worker_id.as_str()).collect()
    }

    #[tokio::test]
    async fn the_workers_of_one_owner_are_listed_by_the_bytes_of_their_ids() {
        on_each_engine(async |world: World| {
            for (id, owner) in [("b", 1), ("Z", 1), ("a-1", 1), ("a", 1), ("é", 1), ("other", 2)] {
                let body = RegisterWorker { worker_id: Some(id.into()), ..user(owner) };
                register(&world, &operator(), body).await.expect("registered");
            }
            let all = ask(&world, of(1)).await.expect("listed");
            assert_eq!(ids(&all), ["Z", "a", "a-1", "b", "é"]);
            assert_eq!(serde_json::to_value(&all).expect("JSON").as_object().expect("an object").len(), 1);
            assert_eq!(ids(&ask(&world, of(3)).await.expect("listed")), Vec::<&str>::new());

            let mut seen = Vec::new();
            let mut query = ListWorkers { limit: Some(2), ..of(1) };
            loop {
                let page = ask(&world, query.clone()).await.expect("listed");
                seen.extend(ids(&page).into_iter().map(str::to_owned));
                match page.next {
                    Some(next) => query.after = Some(next),
                    None => break,
                }
            }
            assert_eq!(seen, ["Z", "a", "a-1", "b", "é"]);

            change(&world, "b", 1, WorkerStatus::Failed, None).await.expect("changed");
            let failed = ListWorkers { status: Some(WorkerStatus::Failed), ..of(1) };
            assert_eq!(ids(&ask(&world, failed).await.expect("listed")), ["b"]);
        })
        .await;
    }

    #[tokio::test]
    async fn a_list_names_its_owner_and_a_page_its_bounds() {
        let world = World::sqlite().await;
        assert_eq!(
            refused(ask(&world, ListWorkers::default()).await).message,
            "owner_user_id or owner_guest_scope must be provided (but not both)"
        );
        for limit in [0, 10_001, u64::MAX] {
            let refusal = refused(ask(&world, ListWorkers { limit: Some(limit), ..of(1) }).await);
            assert_eq!(refusal.message, "limit must be between 1 and 10000");
        }
        let theirs = world.call::<WorkersList>(&bound_to(1), Nothing {}, of(2), Nothing {}).await;
        assert_eq!(refused(theirs).code.name(), "forbidden");
    }

    #[tokio::test]
    async fn a_page_of_large_workers_ends_early_and_the_next_goes_on_where_it_ended() {
        on_each_engine(async |world: World| {
            let body = RegisterWorker {
                worker_id: Some("w".into()),
                metadata: Some(raw(&format!(r#"{{"note":"{}"}}"#, "x".repeat(60_000)))),
                ..user(1)
            };
            register(&world, &operator(), body).await.expect("registered");
            let (row, _) = stored(&world, "w").await;
            let many = async |tx: &mut Tx, row: &WorkerRow| {
                for n in 0..299 {
                    workers::put(tx, &WorkerRow { worker_id: format!("w{n:05}"), ..row.clone() }).await?;
                }
                Ok(())
            };
            world.runtime.store.write("test.many", (), row, many).await.expect("written");
            let (mut seen, mut pages, mut query) = (0, 0, of(1));
            loop {
                let page = ask(&world, query.clone()).await.expect("listed");
                let bytes = serde_json::to_vec(&page).expect("JSON").len();
                assert!(bytes < 2 * PAGE_BYTES, "{bytes} bytes");
                (seen, pages) = (seen + page.workers.len(), pages + 1);
                match page.next {
                    Some(next) => query.after = Some(next),
                    None => break,
                }
            }
            assert_eq!((seen, pages), (300, 3));
        })
        .await;
    }

    #[tokio::test]
    async fn ten_thousand_workers_are_one_question() {
        on_each_engine(async |world: World| {
            let body = RegisterWorker { worker_id: Some("w".into()), ..user(1) };
            register(&world, &operator(), body).await.expect("registered");
            let (row, _) = stored(&world, "w").await;
            let many = async |tx: &mut Tx, row: &WorkerRow| {
                for n in 0..9_999 {
                    workers::put(tx, &WorkerRow { worker_id: format!("w{n:05}"), ..row.clone() }).await?;
                }
                Ok(())
            };
            world.runtime.store.write("test.many", (), row, many).await.expect("written");
            let begun = Instant::now();
            let list = ask(&world, ListWorkers { limit: Some(10_000), ..of(1) }).await.expect("listed");
            println!("{:?}: 10,000 workers in {:?}", world.runtime.store.engine(), begun.elapsed());
            assert_eq!((list.workers.len(), list.next), (10_000, None));
            // Nobody is given all of that unasked.
            let list = ask(&world, of(1)).await.expect("listed");
            assert_eq!((list.workers.len(), list.next.as_deref()), (1_000, Some("w00998")));
        })
        .await;
    }
}
