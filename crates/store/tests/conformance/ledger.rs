//! Decides what the ledger promises on both engines: no account falls below its floor however many write at one
//! time, each id moves money once, and an auditor finds what does not fit.

use oa_contract::{Amount, Asset, Owner, Timestamp, refusal::Stop};
use oa_ledger::{
    AccountId, Capture, Hold, Kind, Leg, Order, State, Step, TransferId,
    audit::Finding,
    budget::{Place as Work, Reservation},
};
use oa_store::{
    Statement, Store, Tx, params,
    tables::{
        budgets,
        ledger::{self, Booked},
        ledger_audit::{self, Cursor},
    },
};

use crate::harness::{Place, refusal};

const NOW: Timestamp = Timestamp::from_unix_seconds(1_700_000_000);

fn amount(units: u64) -> Amount {
    Amount::new(units).expect("an amount")
}

fn account(kind: Kind, subject: &str) -> AccountId {
    AccountId::new(kind, Asset::msats(), subject).expect("an account")
}

fn owner(n: u64) -> AccountId {
    account(Kind::Owner, &format!("user:{n}"))
}

fn provider() -> AccountId {
    account(Kind::Provider, "p")
}

fn id(id: impl Into<String>) -> TransferId {
    TransferId::new(id).expect("an id")
}

fn order(name: impl Into<String>, debit: AccountId, credit: AccountId, units: u64) -> Order {
    let legs = vec![Leg { debit, credit, amount: amount(units) }];
    Order { id: id(name), legs, hold: None, reference: "test".into() }
}

fn held(order: Order, seconds: Option<i64>) -> Order {
    Order { hold: Some(Hold { expires_at: seconds.map(|seconds| NOW.plus_seconds(seconds)) }), ..order }
}

/// Every way to change the ledger, so that a test can send them through the store.
#[derive(Clone, Debug)]
enum Act {
    Transfer(Order),
    Post(TransferId, Capture),
    Void(TransferId),
    Expire(TransferId),
    Pin(TransferId),
    Reserve(Reservation),
    Capture(TransferId, Vec<Amount>),
}

async fn act(tx: &mut Tx, (act, now): &(Act, Timestamp)) -> Result<Booked, Stop> {
    match act {
        Act::Transfer(order) => ledger::transfer(tx, order, *now).await,
        Act::Post(id, capture) => ledger::post(tx, id, capture, *now).await,
        Act::Void(id) => ledger::void(tx, id, *now).await,
        Act::Expire(id) => ledger::expire(tx, id, *now).await,
        Act::Pin(id) => ledger::pin(tx, id, *now).await,
        Act::Reserve(reservation) => budgets::reserve(tx, reservation, *now).await,
        Act::Capture(id, paid) => budgets::capture(tx, id, paid, *now).await,
    }
}

async fn at(store: &Store, wanted: Act, seconds: i64) -> Result<Booked, Stop> {
    store.write("ledger_act", (), (wanted, NOW.plus_seconds(seconds)), act).await
}

async fn now(store: &Store, wanted: Act) -> Result<Booked, Stop> {
    at(store, wanted, 0).await
}

async fn limit(store: &Store, id: AccountId, units: u64) {
    let set = async |tx: &mut Tx, (id, limit): &(AccountId, Amount)| ledger::set_limit(tx, id, *limit).await;
    store.write("ledger_limit", (), (id, amount(units)), set).await.expect("a limit");
}

/// What may still be taken, what is reserved, and what was posted.
async fn stands(store: &Store, id: &AccountId) -> (i128, u64, i128) {
    let read = async |tx: &mut Tx, id: &AccountId| {
        let mut stands = (0, 0, 0);
        for row in id.stripes() {
            let account = ledger::account(tx, &row).await?;
            stands.0 += account.available().unwrap_or_default();
            stands.1 += account.balances.debits_pending.get();
            stands.2 += account.balances.posted();
        }
        Ok(stands)
    };
    store.read("ledger_stands", id.clone(), read).await.expect("an account")
}

/// A whole round of the auditor, in portions of a few rows.
async fn findings(store: &Store) -> Vec<Finding> {
    let (mut findings, mut cursor, mut portions) = (Vec::new(), Some(Cursor::default()), 0);
    while let Some(from) = cursor {
        let look = async |tx: &mut Tx, cursor: &Cursor| ledger_audit::look(tx, cursor, 7).await;
        let looked = store.read("ledger_audit", from, look).await.expect("a look");
        findings.extend(looked.findings);
        cursor = looked.next;
        portions += 1;
        assert!(portions < 10_000, "a round of the auditor ends");
    }
    findings
}

pub async fn thirty_two_transfers_never_overdraw_an_account(place: Place) {
    let store = place.open().await;
    limit(&store, owner(1), 100).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..32 {
        let store = store.clone();
        // Half of them hold, half of them move; ten units each, and a hundred there are.
        let one = order(format!("t{n}"), owner(1), provider(), 10);
        let one = if n % 2 == 0 { one } else { held(one, None) };
        tasks.spawn(async move { now(&store, Act::Transfer(one)).await });
    }
    let ended = tasks.join_all().await;
    assert_eq!(ended.iter().filter(|one| one.is_ok()).count(), 10);
    for denied in ended.into_iter().filter_map(Result::err) {
        assert!(refusal(denied).contains("insufficient budget"));
    }
    let (available, reserved, posted) = stands(&store, &owner(1)).await;
    assert_eq!((available, i128::from(reserved) - posted), (0, 100));
    assert_eq!(findings(&store).await, []);
    place.end(store).await;
}

pub async fn thirty_two_repetitions_of_a_transfer_move_money_once(place: Place) {
    let store = place.open().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let store = store.clone();
        let one = held(order("t", owner(1), provider(), 10), Some(60));
        tasks.spawn(async move { now(&store, Act::Transfer(one)).await.expect("held").fresh });
    }
    assert_eq!(tasks.join_all().await.into_iter().filter(|fresh| *fresh).count(), 1);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..32 {
        let store = store.clone();
        let end = if n % 2 == 0 { Act::Post(id("t"), Capture::Full) } else { Act::Void(id("t")) };
        tasks.spawn(async move { now(&store, end).await });
    }
    let ended = tasks.join_all().await;
    // Whoever wanted what came first is answered with it; whoever wanted the other is refused.
    assert_eq!(ended.iter().flatten().filter(|booked| booked.fresh).count(), 1);
    assert_eq!(ended.iter().flatten().count(), 16);
    for denied in ended.into_iter().filter_map(Result::err) {
        let said = refusal(denied);
        assert!(said.contains("already"), "{said}");
    }
    let (_, reserved, posted) = stands(&store, &owner(1)).await;
    assert!(reserved == 0 && (posted == 0 || posted == -10), "{reserved} {posted}");
    assert_eq!(findings(&store).await, []);
    place.end(store).await;
}

pub async fn crossing_transfers_end_without_a_circle(place: Place) {
    let store = place.open().await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..48_u64 {
        let store = store.clone();
        let (from, to) = (owner(n % 3), owner((n + 1 + n % 2) % 3));
        tasks.spawn(async move {
            now(&store, Act::Transfer(order(format!("t{n}"), from, to, 1))).await.expect("moved")
        });
    }
    assert_eq!(tasks.join_all().await.len(), 48);
    let sum: i128 = [
        stands(&store, &owner(0)).await.2,
        stands(&store, &owner(1)).await.2,
        stands(&store, &owner(2)).await.2,
    ]
    .into_iter()
    .sum();
    assert_eq!(sum, 0);
    assert_eq!(findings(&store).await, []);
    place.end(store).await;
}

pub async fn an_id_stands_for_one_content_for_ever(place: Place) {
    let store = place.open().await;
    let first = order("t", owner(1), provider(), 10);
    assert!(now(&store, Act::Transfer(first.clone())).await.expect("moved").fresh);
    let again = at(&store, Act::Transfer(first.clone()), 5).await.expect("stands");
    assert_eq!((again.fresh, again.transfer.opened_at), (false, NOW));
    let others = [
        order("t", owner(1), provider(), 11),
        order("t", owner(2), provider(), 10),
        order("t", owner(1), account(Kind::Provider, "q"), 10),
        held(first.clone(), None),
        Order { reference: "other".into(), ..first.clone() },
        Order { legs: vec![first.legs[0].clone(), first.legs[0].clone()], ..first },
    ];
    for other in others {
        let said = refusal(now(&store, Act::Transfer(other)).await.expect_err("refused"));
        assert_eq!(said, "conflict: the id t was used for another transfer");
    }
    assert_eq!(stands(&store, &owner(1)).await.2, -10);
    place.end(store).await;
}

pub async fn a_hold_is_captured_in_part_and_the_rest_is_free(place: Place) {
    let store = place.open().await;
    limit(&store, owner(1), 100).await;
    let mut hold = held(order("t", owner(1), provider(), 80), Some(60));
    let fee = Leg { debit: owner(1), credit: account(Kind::OperatorFee, "operator"), amount: amount(20) };
    hold.legs.push(fee);
    now(&store, Act::Transfer(hold)).await.expect("held");
    assert_eq!(stands(&store, &owner(1)).await, (0, 100, 0));
    let over = Act::Post(id("t"), Capture::Part(vec![amount(81), amount(1)]));
    assert!(refusal(now(&store, over).await.expect_err("refused")).contains("leg 0 of t holds less"));
    let part = Act::Post(id("t"), Capture::Part(vec![amount(50), amount(0)]));
    let posted = now(&store, part.clone()).await.expect("captured").transfer;
    assert_eq!(posted.state, State::Posted);
    assert!(!now(&store, part).await.expect("stands").fresh);
    assert!(now(&store, Act::Post(id("t"), Capture::Full)).await.is_err());
    assert_eq!(stands(&store, &owner(1)).await, (50, 0, -50));
    assert_eq!(stands(&store, &provider()).await.2, 50);
    let read = async |tx: &mut Tx, id: &AccountId| {
        Ok((ledger::entries(tx, id, None, 3).await?, ledger::entries(tx, id, Some(2), 3).await?))
    };
    let (newest, rest) = store.read("entries", owner(1), read).await.expect("entries");
    let steps: Vec<_> = newest.iter().map(|row| (row.entry.seq, row.entry.step)).collect();
    assert_eq!(steps, [(4, Step::Released), (3, Step::Captured), (2, Step::Held)]);
    assert_eq!(rest.iter().map(|row| row.entry.seq).collect::<Vec<_>>(), [1]);
    assert_eq!(findings(&store).await, []);
    place.end(store).await;
}

pub async fn two_assets_move_together_or_not_at_all(place: Place) {
    let store = place.open().await;
    let cents = || Asset::new("USD.cents").expect("an asset");
    let dollars = |kind, subject: &str| AccountId::new(kind, cents(), subject).expect("an account");
    let desk = account(Kind::Wallet, "desk");
    let exchange = held(
        Order {
            id: id("fx"),
            legs: vec![
                Leg {
                    debit: dollars(Kind::Owner, "user:1"),
                    credit: dollars(Kind::Wallet, "desk"),
                    amount: amount(100),
                },
                Leg { debit: desk, credit: owner(1), amount: amount(2_500) },
            ],
            hold: None,
            reference: "fx".into(),
        },
        None,
    );
    assert!(now(&store, Act::Transfer(exchange.clone())).await.is_err(), "nobody has dollars yet");
    let paid_in = order("in", dollars(Kind::Wallet, "bank"), dollars(Kind::Owner, "user:1"), 100);
    now(&store, Act::Transfer(paid_in)).await.expect("paid in");
    now(&store, Act::Transfer(exchange)).await.expect("held");
    assert_eq!(stands(&store, &owner(1)).await.2, 0, "what is promised is not there yet");
    now(&store, Act::Post(id("fx"), Capture::Full)).await.expect("posted");
    assert_eq!(stands(&store, &owner(1)).await.2, 2_500);
    assert_eq!(stands(&store, &dollars(Kind::Owner, "user:1")).await.2, 0);
    assert_eq!(findings(&store).await, []);
    place.end(store).await;
}

pub async fn a_hold_expires_when_its_time_is_over_and_a_pinned_one_never(place: Place) {
    let store = place.open().await;
    for name in ["soon", "pinned", "later"] {
        let seconds = if name == "later" { 61 } else { 60 };
        let hold = held(order(name, owner(1), provider(), 10), Some(seconds));
        now(&store, Act::Transfer(hold)).await.expect("held");
    }
    now(&store, Act::Transfer(held(order("unknown", owner(1), provider(), 10), None))).await.expect("held");
    at(&store, Act::Pin(id("pinned")), 59).await.expect("pinned");
    let early = at(&store, Act::Expire(id("soon")), 59).await.expect_err("not over");
    assert!(refusal(early).contains("is not over yet"));
    let late = at(&store, Act::Post(id("soon"), Capture::Full), 60).await.expect_err("over");
    assert!(refusal(late).contains("has expired"));
    assert!(at(&store, Act::Pin(id("soon")), 60).await.is_err());
    let due = async |tx: &mut Tx, seconds: &i64| ledger::due(tx, NOW.plus_seconds(*seconds), 10).await;
    assert_eq!(store.read("due", 59, due).await.expect("due"), []);
    assert_eq!(store.read("due", 1_000_000, due).await.expect("due"), [id("soon"), id("later")]);
    let expired = at(&store, Act::Expire(id("soon")), 60).await.expect("expired").transfer;
    assert_eq!(expired.state, State::Expired);
    assert_eq!(store.read("due", 60, due).await.expect("due"), []);
    assert!(at(&store, Act::Expire(id("unknown")), 1_000_000).await.is_err());
    at(&store, Act::Post(id("pinned"), Capture::Full), 1_000_000).await.expect("captured at last");
    assert_eq!(stands(&store, &owner(1)).await.1, 20);
    assert_eq!(findings(&store).await, []);
    place.end(store).await;
}

fn reservation(name: &str, work: Work, units: u64) -> Reservation {
    Reservation {
        id: id(name),
        owner: Owner::User(1),
        place: work,
        payees: vec![(provider(), amount(units)), (account(Kind::OperatorFee, "operator"), amount(1))],
        hold: Hold { expires_at: Some(NOW.plus_seconds(60)) },
        reference: "job".into(),
    }
}

fn work(organisation: &str, repo: Option<&str>) -> Work {
    let repo = repo.map(str::to_owned);
    Work { organisation: Some(organisation.into()), repo, issue: None, run: None }
}

fn budget(work: &Work) -> AccountId {
    work.scope().account(&Owner::User(1)).expect("an account")
}

pub async fn a_reservation_holds_in_every_budget_around_it_or_in_none(place: Place) {
    let store = place.open().await;
    let (wide, narrow) = (work("acme", None), work("acme", Some("site")));
    limit(&store, owner(1), 1_000).await;
    limit(&store, budget(&wide), 100).await;
    now(&store, Act::Reserve(reservation("a", narrow.clone(), 59))).await.expect("held");
    limit(&store, budget(&narrow), 50).await;
    // It was held before the narrow budget was set, and repeated it is still the same.
    assert!(!now(&store, Act::Reserve(reservation("a", narrow.clone(), 59))).await.expect("stands").fresh);
    assert_eq!(stands(&store, &budget(&wide)).await, (40, 60, 0));
    for (name, work, units) in [("b", &wide, 40), ("c", &narrow, 50)] {
        let denied = now(&store, Act::Reserve(reservation(name, work.clone(), units))).await;
        assert_eq!(refusal(denied.expect_err("too much")), "forbidden: insufficient budget");
    }
    assert_eq!(stands(&store, &owner(1)).await, (940, 60, 0), "what was refused holds nowhere");
    now(&store, Act::Reserve(reservation("d", narrow.clone(), 39))).await.expect("held");
    assert_eq!(stands(&store, &budget(&narrow)).await, (10, 40, 0));
    now(&store, Act::Capture(id("d"), vec![amount(30), amount(1)])).await.expect("captured");
    assert_eq!(stands(&store, &budget(&narrow)).await, (19, 0, -31));
    now(&store, Act::Void(id("a"))).await.expect("released");
    assert_eq!(stands(&store, &budget(&wide)).await, (69, 0, -31));
    assert_eq!(stands(&store, &owner(1)).await, (969, 0, -31));
    assert_eq!(stands(&store, &provider()).await.2, 30);
    let other = reservation("d", wide, 39);
    assert!(refusal(now(&store, Act::Reserve(other)).await.expect_err("other")).contains("used for another"));
    assert_eq!(findings(&store).await, []);
    place.end(store).await;
}

pub async fn thirty_two_reservations_never_exceed_the_narrowest_budget(place: Place) {
    let store = place.open().await;
    limit(&store, budget(&work("acme", Some("site"))), 55).await;
    limit(&store, budget(&work("acme", None)), 1_000).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..32 {
        let store = store.clone();
        let one = reservation(&format!("r{n}"), work("acme", Some("site")), 9);
        tasks.spawn(async move { now(&store, Act::Reserve(one)).await.is_ok() });
    }
    assert_eq!(tasks.join_all().await.into_iter().filter(|held| *held).count(), 5);
    assert_eq!(stands(&store, &budget(&work("acme", None))).await, (950, 50, 0));
    assert_eq!(findings(&store).await, []);
    place.end(store).await;
}

pub async fn a_closed_account_takes_nothing_more(place: Place) {
    let store = place.open().await;
    let close = async |tx: &mut Tx, id: &AccountId| ledger::close(tx, id).await;
    now(&store, Act::Transfer(order("in", owner(1), provider(), 5))).await.expect("earned");
    let full = store.write("close", (), provider(), close).await.expect_err("not empty");
    assert!(refusal(full).contains("is not empty"));
    now(&store, Act::Transfer(order("out", provider(), account(Kind::Wallet, "main"), 5)))
        .await
        .expect("paid");
    assert!(store.write("close", (), provider(), close).await.expect("closed").closed);
    let late = now(&store, Act::Transfer(order("late", owner(1), provider(), 5))).await.expect_err("closed");
    assert_eq!(refusal(late), "conflict: the account provider/msats/p is closed");
    place.end(store).await;
}

/// Changes a row as a fault of ours would: its seal is good, but the books no longer fit.
static CHANGE_ACCOUNT: Statement = Statement::new(
    "test/change_account",
    include_str!("../../queries/ledger/update_account.sql"),
    Some("ledger_accounts"),
);
static CHANGE_TRANSFER: Statement = Statement::new(
    "test/change_transfer",
    include_str!("../../queries/ledger/update_transfer.sql"),
    Some("ledger_transfers"),
);
static CHANGE_ENTRY: Statement = Statement::new(
    "test/change_entry",
    "UPDATE ledger_entries SET transfer_id = $3, leg = $4, side = $5, step = $6, pending = $7, posted = $8, at = $9, seal = $10 WHERE account_id = $1 AND seq = $2",
    Some("ledger_entries"),
);

async fn earned(tx: &mut Tx, credits: &i64) -> Result<u64, Stop> {
    let account = ledger::account(tx, &provider()).await?;
    let (name, entries) = (account.id.to_string(), account.entries as i64);
    let pending = account.balances.credits_pending.signed();
    let columns = params![&name, "msats", 0, false, 0, 0, pending, *credits, entries];
    tx.execute(&CHANGE_ACCOUNT, columns).await
}

async fn third_entry(tx: &mut Tx, posted: &i64) -> Result<u64, Stop> {
    let name = provider().to_string();
    let columns = params![&name, 3, "t02", 0, "credit", "posted", 0, *posted, NOW];
    tx.execute(&CHANGE_ENTRY, columns).await
}

async fn ended(tx: &mut Tx, (): &()) -> Result<u64, Stop> {
    let over = NOW.plus_seconds(60);
    tx.execute(&CHANGE_TRANSFER, params!["t03", "posted", true, over, "test", NOW, NOW]).await
}

pub async fn an_auditor_names_the_account_and_the_entry_that_do_not_fit(place: Place) {
    let store = place.open().await;
    for n in 0..20 {
        let one = order(format!("t{n:02}"), owner(1), provider(), 10);
        now(&store, Act::Transfer(if n % 2 == 0 { one } else { held(one, Some(60)) }))
            .await
            .expect("written");
    }
    now(&store, Act::Post(id("t01"), Capture::Full)).await.expect("captured");
    assert_eq!(findings(&store).await, []);
    let said = async || findings(&store).await.iter().map(Finding::to_string).collect::<Vec<_>>();

    assert_eq!(store.write("meddle", (), 115, earned).await.expect("changed"), 1);
    let found = said().await;
    assert_eq!(
        found,
        [
            "account provider/msats/p: holds debits 0 (pending 0) and credits 115 (pending 90), but its entries make debits 0 (pending 0) and credits 110 (pending 90)",
            "the accounts of msats do not sum to zero: debits 110 (pending 90) and credits 115 (pending 90)",
        ]
    );
    store.write("meddle", (), 110, earned).await.expect("put right");

    assert_eq!(store.write("meddle", (), 11, third_entry).await.expect("changed"), 1);
    let found = said().await;
    let wrong = "account provider/msats/p, entry 3: is not what the transfer t02 says";
    assert_eq!((found[0].as_str(), found.len()), (wrong, 3), "{found:?}");
    store.write("meddle", (), 10, third_entry).await.expect("put right");
    assert_eq!(said().await, Vec::<String>::new());

    assert_eq!(store.write("meddle", (), (), ended).await.expect("changed"), 1);
    assert_eq!(said().await, ["the transfer t03: leg 0 is not posted"]);
    place.meddle("DELETE FROM ledger_entries WHERE account_id = 'provider/msats/p' AND seq = 21").await;
    let lost = "account provider/msats/p, entry 21: missing; the account counts 21";
    assert!(said().await.contains(&lost.to_owned()), "{:?}", said().await);
    place.end(store).await;
}
