//! Decides what the demonstration tells and in which order: a market, a cheat who is cheapest, how it is caught, who is
//! paid instead, and what proves all of it. Everything that it starts it ends again.

mod books;
mod cheat;

use std::{
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use oa_contract::{
    Nothing,
    matrix::{FraudIncidents, MarketplaceCatalogProviders},
    operation::Call,
    wire::{
        fraud::ListIncidents,
        jobs::{Resources, Sandbox, SandboxCommand, SandboxRunRequest, Verification},
        marketplace::{CatalogEntry, ListProviders, ProviderCatalog},
        treasury::Settlement,
        workers::NameOwner,
    },
};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::cheat::Cheat;
use crate::{
    config::{SettingFlags, Settings},
    connect::{self, Place, Wish},
    data_dir::DataDir,
    exec::Signals,
    failure::{Failure, OK},
    job::{
        report::{checked, paid},
        show,
        talk::Talk,
    },
    output::{Format, print_line, table},
    provider::local::{self, Local},
    runs, up,
};

/// Who buys.
const BUYER: u64 = 1;

/// Tells the story; `kept` is a new directory that stays.
pub async fn tell(kept: Option<PathBuf>, format: Format) -> Result<u8, Failure> {
    let begun = std::time::Instant::now();
    let home = Home::make(kept)?;
    let data = DataDir::at(&home.path);
    let mut signals = Signals::catch().map_err(|error| Failure::wrong(error.to_string()))?;
    let mut book = Book { format, told: Vec::new() };
    let enough = CancellationToken::new();
    let (ready, served) = oneshot::channel();
    let nowhere = [("RUNTIME_BIND_ADDR", "127.0.0.1:0"), ("OA_CONTROL_BIND_ADDR", "127.0.0.1:0")];
    let serving = up::beside(&data, settings(&data, &nowhere)?, enough.clone().cancelled_owned(), || {
        let _ = ready.send(());
    });
    let story = async {
        let Ok(()) = served.await else { return Err(Failure::wrong("the services did not start")) };
        let told = tokio::select! {
            told = market(&data, &mut book) => told,
            signal = signals.next() => Err(Failure::new(130, format!("{signal}: the demonstration is over"))),
        };
        enough.cancel();
        told
    };
    let (serving, story) = tokio::join!(serving, story);
    serving?;
    let proof = story?;
    prove(&mut book, &proof)?;
    books::balance(&mut book, &data, &settings(&data, &[])?).await?;
    let seconds = begun.elapsed().as_secs_f64();
    book.line(&match home.kept {
        true => format!("\nThat took {seconds:.0} s. Everything is in {}.", home.path.display()),
        false => format!("\nThat took {seconds:.0} s, and nothing of it is left. `oa up`, then `oa job run -- COMMAND`, is the real thing."),
    })?;
    book.close()?;
    Ok(OK)
}

/// Everybody's environment is left alone: the demonstration has settings of its own.
fn settings(data: &DataDir, given: &[(&'static str, &str)]) -> Result<Settings, Failure> {
    let mut flags = SettingFlags::default();
    for (name, value) in given {
        flags.or_give(name, Some((*value).to_owned()));
    }
    Settings::load(&flags, &|_| None, data)
}

/// A directory that is gone when the story is over, unless somebody named it.
struct Home {
    path: PathBuf,
    kept: bool,
}

impl Home {
    fn make(named: Option<PathBuf>) -> Result<Self, Failure> {
        let kept = named.is_some();
        let path = named
            .unwrap_or_else(|| std::env::temp_dir().join(format!("oa-demo-{}", Uuid::now_v7().simple())));
        if fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(Failure::usage(format!(
                "{} holds something already: --data of a demonstration is a new directory",
                path.display()
            )));
        }
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(|error| Failure::file(&path, &error))?;
        Ok(Home { path, kept })
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// What is told, to people as it happens, to programs at the end.
pub struct Book {
    format: Format,
    told: Vec<(&'static str, Value)>,
}

impl Book {
    fn line(&self, text: &str) -> Result<(), Failure> {
        match self.format {
            Format::Text => print_line(text.trim_end_matches('\n')),
            Format::Json => Ok(()),
        }
    }

    fn chapter(&self, number: u32, title: &str) -> Result<(), Failure> {
        self.line(&format!("\n{number}. {title}\n"))
    }

    /// Lines that belong to the one above.
    fn indented(&self, text: &str) -> Result<(), Failure> {
        text.lines().try_for_each(|line| self.line(&format!("   {line}")))
    }

    fn keep(&mut self, name: &'static str, value: Value) {
        self.told.push((name, value));
    }

    fn close(self) -> Result<(), Failure> {
        let all: serde_json::Map<String, Value> =
            self.told.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        match self.format {
            Format::Text => Ok(()),
            Format::Json => self.format.show("", &all),
        }
    }
}

/// The work: something that says the same wherever it is really run.
fn work() -> SandboxRunRequest {
    let command = |cmd: &str| SandboxCommand { cmd: cmd.to_owned(), workdir: None, continue_on_fail: false };
    SandboxRunRequest {
        sandbox: Sandbox {
            provider: "docker".into(),
            image_digest: String::new(),
            network_policy: oa_contract::wire::jobs::NetworkPolicy::None,
            resources: Resources { timeout_secs: 30, memory_mb: 128, ..Resources::default() },
        },
        repo: oa_contract::wire::jobs::Repo::default(),
        commands: vec![
            command("seq 1 200000 | sha256sum"),
            command("test $((6 * 7)) -eq 42 && echo all tests passed"),
        ],
        env: std::collections::BTreeMap::default(),
        verification: Verification::default(),
    }
}

/// Everything that needs the services; gives the file that proves it.
async fn market(data: &DataDir, book: &mut Book) -> Result<PathBuf, Failure> {
    let own = settings(data, &[])?;
    let place = connect::find(&Wish::default(), &own, data)?;
    let talk = Talk {
        client: place.client()?,
        owner: NameOwner { owner_user_id: Some(BUYER), owner_guest_scope: None },
    };
    book.chapter(1, "Three strangers offer to run jobs")?;
    let cheat = Cheat::start(&talk.client, 101, 900).await?;
    let mut honest = Vec::new();
    for (name, owner, price) in [("honest-one", 102, "1200"), ("honest-two", 103, "1500")] {
        honest.push(sandbox(data, &place, name, owner, price).await?);
    }
    let layers = honest.first().map(|one| one.layers.clone()).unwrap_or_default();
    let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
    book.indented(&table(&[
        row([cheat::NAME, "900 msats", "SIMULATED: it runs nothing and makes its answers up"]),
        row(["honest-one", "1200 msats", "real sandboxes"]),
        row(["honest-two", "1500 msats", "real sandboxes"]),
    ]))?;
    book.indented(&format!("(around each job of the honest: {layers})"))?;
    let told = trade(data, book, &talk).await;
    for one in honest {
        one.stop().await;
    }
    drop(cheat);
    told
}

async fn sandbox(
    data: &DataDir,
    place: &Place,
    name: &str,
    owner: u64,
    price: &str,
) -> Result<Local, Failure> {
    let keep = DataDir::at(data.path().join("providers").join(name));
    fs::create_dir_all(keep.path()).map_err(|error| Failure::file(keep.path(), &error))?;
    Local::start(local::Wish {
        settings: &settings(data, &[("OA_PROVIDER_MIN_PRICE_MSATS", price)])?,
        place,
        data: &keep,
        id: name.to_owned(),
        owner: NameOwner { owner_user_id: Some(owner), owner_guest_scope: None },
        reserve_pool: true,
        tap: None,
        format: Format::Text,
    })
    .await
}

async fn trade(data: &DataDir, book: &mut Book, talk: &Talk) -> Result<PathBuf, Failure> {
    let request = work();
    let run_id = talk.begin(&json!({"kind": "demo", "name": "the demonstration"})).await?;
    book.chapter(2, "Somebody wants a job done, and the cheapest gets it")?;
    for command in &request.commands {
        book.indented(&format!("$ {}", command.cmd))?;
    }
    let quoted = talk.quote(&request, None).await?;
    book.line("")?;
    book.indented(&show::considered(&quoted.selection.considered))?;
    let reply = talk.dispatch(run_id, &request, &quoted.quote, 1).await?;
    book.indented(&format!(
        "{} msats are held. After {} ms it answers: {}, every exit code 0.",
        quoted.quote.total_price_msats.get(),
        reply.latency_ms,
        reply.response.status.word().to_lowercase()
    ))?;
    book.chapter(3, "Before anybody is paid, others run it once more")?;
    let first = talk.settle(run_id, &request, (&quoted.quote, &reply), true).await?;
    book.indented(&checked(first.reexecution.as_ref()))?;
    book.indented(&paid(&first, &quoted.quote, cheat::NAME))?;
    let caught = catalog(talk).await?.into_iter().find(|one| one.provider_id == cheat::NAME);
    let caught = caught.ok_or_else(|| Failure::wrong("the cheat is gone from the catalogue"))?;
    book.indented(&standing(&caught))?;
    let incident = incidents(book, talk, run_id).await?;
    if first.verification_passed || !caught.quarantined || incident == 0 {
        return Err(Failure::wrong("the cheat was not caught: please report this with the output above"));
    }
    book.chapter(4, "The same job again: who is left, and who is paid")?;
    let quoted = talk.quote(&request, None).await?;
    book.indented(&show::considered(&quoted.selection.considered))?;
    let reply = talk.dispatch(run_id, &request, &quoted.quote, 2).await?;
    for run in &reply.response.runs {
        book.indented(&format!(
            "> {}",
            crate::output::plain(run.stdout_preview.as_deref().unwrap_or_default().trim_end())
        ))?;
    }
    let second = talk.settle(run_id, &request, (&quoted.quote, &reply), true).await?;
    let provider = &reply.selection.provider.provider_id;
    book.indented(&checked(second.reexecution.as_ref()))?;
    book.indented(&paid(&second, &quoted.quote, provider))?;
    if !second.verification_passed {
        return Err(Failure::wrong(
            "the honest provider was not paid: please report this with the output above",
        ));
    }
    let settlement = |name: &str, one: &Settlement| json!({"provider_id": name, "settlement": one});
    book.keep("settlements", json!([settlement(cheat::NAME, &first), settlement(provider, &second)]));
    book.keep(
        "caught",
        json!({"provider_id": caught.provider_id, "quarantined": caught.quarantined,
        "failure_strikes": caught.failure_strikes, "incidents": incident}),
    );
    talk.finish(run_id, "succeeded").await?;
    let file = data.path().join("proof.jsonl");
    runs::export::write_proof(&talk.client, run_id, &file).await?;
    Ok(file)
}

async fn catalog(talk: &Talk) -> Result<Vec<CatalogEntry>, Failure> {
    let call = Call::<MarketplaceCatalogProviders> {
        path: Nothing {},
        query: ListProviders::default(),
        body: Nothing {},
    };
    let ProviderCatalog { providers, .. } = talk.asked(&call).await?;
    Ok(providers)
}

fn standing(entry: &CatalogEntry) -> String {
    let strikes = match entry.failure_strikes {
        1 => "1 strike".to_owned(),
        more => format!("{more} strikes"),
    };
    let reason = entry.quarantine_reason.as_deref().unwrap_or("no reason is given");
    match entry.quarantined {
        true => format!(
            "{} has {strikes} and is quarantined ({reason}): nobody is sent there any more",
            entry.provider_id
        ),
        false => format!("{} has {strikes}", entry.provider_id),
    }
}

/// Shows what was written down about the cheat; says how many incidents there are.
async fn incidents(book: &Book, talk: &Talk, run_id: Uuid) -> Result<usize, Failure> {
    let query = ListIncidents { provider_id: Some(cheat::NAME.to_owned()), ..ListIncidents::default() };
    let list = talk.asked(&Call::<FraudIncidents> { path: Nothing {}, query, body: Nothing {} }).await?;
    for incident in list.incidents.iter().rev() {
        let evidence: Value = incident
            .evidence
            .as_ref()
            .and_then(|text| serde_json::from_str(text.get()).ok())
            .unwrap_or_default();
        let seqs: Vec<String> = evidence["events"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|event| event["seq"].to_string())
            .collect();
        let points = match seqs.is_empty() {
            true => String::new(),
            false => format!(", its evidence: events {} of run {run_id}", seqs.join(", ")),
        };
        book.indented(&format!(
            "{} ({}, {}){points}",
            incident.incident_id,
            incident.incident_type,
            incident.severity.name()
        ))?;
    }
    Ok(list.incidents.len())
}

/// The services are gone; the file still tells.
fn prove(book: &mut Book, file: &Path) -> Result<(), Failure> {
    book.chapter(5, "The services have ended. One file proves what happened")?;
    let proof = fs::read(file).map_err(|error| Failure::file(file, &error))?;
    let verified = oa_contract::export::verify_export(&proof, None)
        .map_err(|unfit| Failure::wrong(format!("{} proves nothing: {unfit}", file.display())))?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    book.indented(&format!("{name}: {} events, none missing, none changed", verified.events))?;
    book.indented(&format!("receipt sha256 {}, recomputed from the events", verified.receipt_sha256))?;
    let signer = verified.signer.as_deref().unwrap_or("nobody");
    book.indented(&format!("signed by {signer}"))?;
    book.keep("proof", json!(verified));
    Ok(())
}
