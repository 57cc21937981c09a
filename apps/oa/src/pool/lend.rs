//! Decides how an operator says whom a pool's credit lends to, and how that is shown.

use oa_client::Client;
use oa_contract::{
    Nothing, Owner,
    matrix::{PoolsLending, PoolsLendingSet},
    operation::Call,
    wire::{
        credit::{Borrower, Lending, SetLending},
        paths::PoolPath,
    },
};

use crate::{
    failure::Failure,
    output::{Format, plain, table},
};

/// Whom it is to lend to; nothing said only shows.
pub fn wanted(to: &[String], together: Option<u64>, nobody: bool) -> Result<Option<SetLending>, Failure> {
    if to.is_empty() && !nobody {
        return Ok(None);
    }
    let borrowers: Vec<_> = to.iter().map(|one| borrower(one)).collect::<Result<_, _>>()?;
    let sum = borrowers.iter().fold(0_u64, |sum, one| sum.saturating_add(one.max_sats));
    Ok(Some(SetLending { borrowers, together_sats: together.unwrap_or(sum) }))
}

fn borrower(text: &str) -> Result<Borrower, Failure> {
    let wrong = || Failure::usage(format!("--to {text}: user:1=SATS, guest:lab=SATS or AGENT=SATS"));
    let (who, sats) = text.rsplit_once('=').ok_or_else(wrong)?;
    let max_sats = sats.trim().parse().ok().filter(|sats| *sats > 0).ok_or_else(wrong)?;
    let who = who.trim();
    let hex = who.len() == 64 && who.bytes().all(|byte| byte.is_ascii_hexdigit());
    match Owner::parse(who) {
        Some(owner) => Ok(Borrower {
            owner_user_id: owner.user_id(),
            owner_guest_scope: owner.guest_scope().map(str::to_owned),
            agent_id: None,
            max_sats,
        }),
        None if hex => Ok(Borrower { agent_id: Some(who.to_owned()), max_sats, ..Borrower::default() }),
        None => Err(wrong()),
    }
}

pub async fn lend(
    client: &Client,
    pool_id: String,
    said: Option<SetLending>,
    format: Format,
) -> Result<(), Failure> {
    let path = PoolPath { pool_id };
    let told = match said {
        Some(body) => client.call(Call::<PoolsLendingSet> { path, query: Nothing {}, body }).await,
        None => client.call(Call::<PoolsLending> { path, query: Nothing {}, body: Nothing {} }).await,
    };
    let told = told.map_err(|error| Failure::call(client.base(), error))?;
    format.show(&text(&told.lending), &told)
}

fn text(lending: &Lending) -> String {
    let mut out = match &lending.borrowers {
        None => "Nothing was said: it lends to the agents of its operator.\n".to_owned(),
        Some(none) if none.is_empty() => "It lends to nobody.\n".to_owned(),
        Some(borrowers) => {
            let mut rows = vec![vec!["borrower".to_owned(), "sats".to_owned()]];
            rows.extend(borrowers.iter().map(|one| vec![plain(&name(one)), one.max_sats.to_string()]));
            rows.extend(lending.together_sats.map(|sats| vec!["together".to_owned(), sats.to_string()]));
            table(&rows)
        }
    };
    out.push_str(&format!("{} sats are held, {} msats are owed.\n", lending.held_sats, lending.owed_msats));
    out
}

fn name(borrower: &Borrower) -> String {
    match (&borrower.agent_id, borrower.owner_user_id, &borrower.owner_guest_scope) {
        (Some(agent_id), ..) => agent_id.clone(),
        (None, Some(id), _) => Owner::User(id).to_string(),
        (None, None, scope) => Owner::Guest(scope.clone().unwrap_or_default()).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_and_how_much_is_read_and_shown() {
        let to = ["user:1=20".to_owned(), "guest:a=b=5".to_owned(), format!("{}=7", "a".repeat(64))];
        let said = wanted(&to, None, false).expect("read").expect("said");
        assert_eq!(said.together_sats, 32);
        assert_eq!(said.borrowers[1].owner_guest_scope.as_deref(), Some("a=b"));
        let lending = Lending {
            pool_id: "p".into(),
            borrowers: Some(said.borrowers),
            together_sats: Some(9),
            held_sats: 1,
            owed_msats: 2,
            changed_at: None,
        };
        let shown = text(&lending);
        assert!(shown.contains("user:1") && shown.contains("guest:a=b") && shown.contains("together"));
        assert!(text(&Lending { borrowers: None, ..lending }).starts_with("Nothing was said"));
        assert_eq!(wanted(&[], None, false).expect("read"), None);
        assert_eq!(wanted(&[], None, true).expect("read").map(|said| said.borrowers.len()), Some(0));
        for wrong in ["user:1", "user:01=5", "user:1=0", "someone=5", "=5"] {
            assert!(wanted(&[wrong.to_owned()], None, false).is_err(), "{wrong}");
        }
    }
}
