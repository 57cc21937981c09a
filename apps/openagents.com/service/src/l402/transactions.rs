//! `GET /api/l402/transactions`: decides which receipts of the caller make a page, newest first.

use oa_contract::{
    Answer, Ask, Handle, Refusal, Stop,
    matrix::L402Transactions,
    wire::l402::{ListTransactions, Pagination, Transactions, TransactionsReply},
};
use oa_store::{
    Tx,
    tables::l402::{self as rows, Receipt},
};

use crate::{Control, identity::signed_in};

/// Whoever wants more than this follows `next`: skipping costs as much as reading.
const DEEPEST: u32 = 10_000;

impl Handle<L402Transactions> for Control {
    async fn handle(&self, ask: Ask<L402Transactions>) -> Result<Answer<TransactionsReply>, Stop> {
        let user = signed_in(&ask.caller)?;
        let page = decide(ask.query)?;
        let (per_page, current_page) = (page.per_page, page.number);
        let asked = (user.owner_user_id.to_string(), page);
        let mut found = self.store.read("l402_transactions", asked, of).await?;
        let has_more_pages = found.len() > per_page as usize;
        found.truncate(per_page as usize);
        let next = found.last().filter(|_| has_more_pages).map(|last| last.event_id);
        let shown: Result<Vec<_>, _> = found.into_iter().map(|receipt| super::view(receipt, None)).collect();
        let pagination = Pagination { current_page, per_page, has_more_pages, next };
        Ok(TransactionsReply { data: Transactions { transactions: shown?, pagination } }.into())
    }
}

struct Page {
    autopilot: Option<String>,
    per_page: u32,
    number: u32,
    before: i64,
}

fn decide(query: ListTransactions) -> Result<Page, Refusal> {
    let autopilot =
        query.autopilot.map(|autopilot| autopilot.trim().to_owned()).filter(|one| !one.is_empty());
    if autopilot.as_ref().is_some_and(|autopilot| autopilot.chars().count() > 160) {
        return Err(Refusal::field("autopilot", "autopilot must be at most 160 characters"));
    }
    let per_page = query.per_page.unwrap_or(20).clamp(1, 200);
    let number = query.page.unwrap_or(1).max(1);
    let skipped = (number - 1).checked_mul(per_page);
    if skipped.is_none_or(|skipped| skipped > DEEPEST) {
        return Err(Refusal::field(
            "page",
            "page leads too far: follow `pagination.next` with `before` instead",
        ));
    }
    Ok(Page { autopilot, per_page, number, before: query.before.unwrap_or(i64::MAX) })
}

async fn of(tx: &mut Tx, (principal, page): &(String, Page)) -> Result<Vec<Receipt>, Stop> {
    let window = (page.per_page + 1, (page.number - 1) * page.per_page);
    rows::receipts(tx, principal, page.autopilot.as_deref(), page.before, window).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_bounded_in_length_and_in_depth() {
        let page = |per_page, number| {
            decide(ListTransactions { per_page, page: number, ..ListTransactions::default() })
        };
        let first = page(None, None).expect("a page");
        assert_eq!((first.per_page, first.number, first.before), (20, 1, i64::MAX));
        assert_eq!(page(Some(0), Some(0)).expect("a page").per_page, 1);
        assert_eq!(page(Some(9_999), None).expect("a page").per_page, 200);
        for number in [53, u32::MAX] {
            assert_eq!(page(Some(200), Some(number)).err().expect("too deep").field.as_deref(), Some("page"));
        }
        let long = ListTransactions { autopilot: Some("x".repeat(161)), ..ListTransactions::default() };
        assert_eq!(decide(long).err().expect("too long").field.as_deref(), Some("autopilot"));
    }
}
