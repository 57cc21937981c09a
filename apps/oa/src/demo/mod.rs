//! Decides what the demonstration tells and in which order: strangers who offer work, a pool that lends, a cheat who is
//! cheapest and how it is caught, who is paid instead and with whose money, and what proves all of it. Everything that
//! it starts it ends again. One file, one chapter or two.

mod book;
mod books;
mod caught;
mod cheat;
mod code;
mod compared;
mod credit;
mod home;
mod pool;
mod proof;
mod purse;
mod snapshot;
mod strangers;

use std::path::PathBuf;

use oa_contract::wire::workers::NameOwner;
use serde_json::json;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::{book::Book, code::Code, home::Home, purse::Purse};
use crate::{
    connect::{self, Place, Wish},
    data_dir::DataDir,
    exec::Signals,
    failure::{Failure, OK},
    job::talk::Talk,
    output::Format,
    runs, up,
};

/// Who has the work done.
const BUYER: u64 = 1;

/// What every chapter has around it.
pub struct Stage<'a> {
    pub data: &'a DataDir,
    pub place: Place,
    pub talk: Talk,
    pub purse: &'a Purse,
    pub code: Code,
    pub run_id: Uuid,
}

/// Tells the story; `kept` is a new directory that stays.
pub async fn tell(kept: Option<PathBuf>, real_lightning: bool, format: Format) -> Result<u8, Failure> {
    let begun = std::time::Instant::now();
    let home = Home::make(kept)?;
    let data = DataDir::at(&home.path);
    let mut signals = Signals::catch().map_err(|error| Failure::wrong(error.to_string()))?;
    let mut book = Book::new(format);
    let purse = Purse::open(&data, real_lightning).await?;
    let told = served(&data, &purse, &mut book, &mut signals).await;
    purse.served.stop().await;
    proof::check(&mut book, &told?)?;
    books::balance(&mut book, &data).await?;
    let seconds = begun.elapsed().as_secs_f64();
    book.keep("seconds", json!(seconds));
    book.line(&match home.kept {
        true => format!("\nThat took {seconds:.0} s. Everything is in {}.", home.path.display()),
        false => format!("\nThat took {seconds:.0} s, and nothing of it is left. `oa up`, then `oa job run -- COMMAND`, is the real thing."),
    })?;
    book.close()?;
    Ok(OK)
}

/// Everything that needs the services, which have ended when this returns; gives the file that proves it.
async fn served(
    data: &DataDir,
    purse: &Purse,
    book: &mut Book,
    signals: &mut Signals,
) -> Result<PathBuf, Failure> {
    let enough = CancellationToken::new();
    let (ready, is_served) = oneshot::channel();
    let own = [
        ("RUNTIME_BIND_ADDR", "127.0.0.1:0"),
        ("OA_CONTROL_BIND_ADDR", "127.0.0.1:0"),
        ("RUNTIME_LIQUIDITY_WALLET_EXECUTOR_BASE_URL", &purse.served.base),
        ("RUNTIME_LIQUIDITY_WALLET_EXECUTOR_AUTH_TOKEN", &purse.token),
        ("RUNTIME_LIGHTNING_NETWORK", "regtest"),
    ];
    let serving = up::beside(data, home::settings(data, &own)?, enough.clone().cancelled_owned(), || {
        let _ = ready.send(());
    });
    let story = async {
        let Ok(()) = is_served.await else { return Err(Failure::wrong("the services did not start")) };
        let told = tokio::select! {
            told = story(data, purse, book) => told,
            signal = signals.next() => Err(Failure::new(130, format!("{signal}: the demonstration is over"))),
        };
        enough.cancel();
        told
    };
    let (serving, story) = tokio::join!(serving, story);
    serving?;
    story
}

/// The chapters that need the services.
async fn story(data: &DataDir, purse: &Purse, book: &mut Book) -> Result<PathBuf, Failure> {
    let place = connect::find(&Wish::default(), &home::settings(data, &[])?, data)?;
    let talk = Talk {
        client: place.client()?,
        owner: NameOwner { owner_user_id: Some(BUYER), owner_guest_scope: None },
    };
    let code = Code::make(data)?;
    let run_id = talk.begin(&json!({"kind": "demo", "name": "the demonstration"})).await?;
    let stage = Stage { data, place, talk, purse, code, run_id };
    let strangers = strangers::gather(&stage, book).await?;
    let told = trade(&stage, book).await;
    strangers.stop().await;
    told
}

async fn trade(stage: &Stage<'_>, book: &mut Book) -> Result<PathBuf, Failure> {
    let pool = pool::fund(stage, book).await?;
    caught::first_patch(stage, book).await?;
    credit::second_patch(stage, book, &pool).await?;
    compared::all(stage, book).await?;
    snapshot::prove(stage, book, &pool).await?;
    stage.talk.finish(stage.run_id, "succeeded").await?;
    let file = stage.data.path().join("proof.jsonl");
    runs::export::write_proof(&stage.talk.client, stage.run_id, &file).await?;
    book.keep("run_id", json!(stage.run_id));
    Ok(file)
}
