//! `GET /internal/v1/workers`: the workers of one owner, ascending by the bytes of their ids, all of them or
//! page by page.

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

/// The largest page.
const LARGEST_PAGE: u64 = 10_000;

struct Wanted {
    owner: Owner,
    status: Option<WorkerStatus>,
    after: String,
    /// Rows to read: one more than a page, so that it is known whether another follows.
    rows: i64,
}

impl Handle<WorkersList> for Runtime {
    async fn handle(&self, ask: Ask<WorkersList>) -> Result<Answer<WorkerList>, Stop> {
        let query = ask.query;
        let owner = owner(&ask.caller, query.owner_user_id, query.owner_guest_scope.as_deref())?;
        let page = page(query.limit)?;
        let rows = page.map_or(Ok(i64::MAX), |page| i64::try_from(page + 1));
        let rows = rows.map_err(|_| Refusal::invalid("limit is too large"))?;
        let wanted = Wanted { owner, status: query.status, after: query.after.unwrap_or_default(), rows };
        let found = self.store.read("workers.list", wanted, read).await?;
        Ok(listed(found, page, Moment::of(self))?.into())
    }
}

async fn read(tx: &mut Tx, wanted: &Wanted) -> Result<Vec<WorkerRow>, Stop> {
    workers::list(tx, &wanted.owner, wanted.status, &wanted.after, wanted.rows).await
}

fn page(limit: Option<u64>) -> Result<Option<usize>, Refusal> {
    match limit {
        None => Ok(None),
        Some(limit @ 1..=LARGEST_PAGE) => Ok(usize::try_from(limit).ok()),
        Some(_) => Err(Refusal::invalid(format!("limit must be between 1 and {LARGEST_PAGE}"))),
    }
}

fn listed(mut found: Vec<WorkerRow>, page: Option<usize>, moment: Moment) -> Result<WorkerList, Stop> {
    let mut next = None;
    if let Some(page) = page.filter(|page| found.len() > *page) {
        found.truncate(page);
        next = found.last().map(|row| row.worker_id.clone());
    }
    let workers: Result<Vec<_>, _> = found.iter().map(|row| snapshot::snapshot(row, moment)).collect();
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
        workers::tests_support::{change, register, stored, user},
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
        })
        .await;
    }
}
