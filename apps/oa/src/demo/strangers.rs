//! Chapter: who offers to run jobs. Two providers with real sandboxes, and a SIMULATED one that cheats.

use std::fs;

use oa_contract::{canonical::hex, signer::Signer, wire::workers::NameOwner};
use serde_json::json;

use super::{Stage, book::Book, book::short, cheat, cheat::Cheat, home};
use crate::{
    data_dir::DataDir,
    failure::Failure,
    output::{Format, table},
    provider::local::{self, Local},
    system,
};

/// Who is honest, whose it is, and what it wants.
const HONEST: [(&str, u64, &str); 2] = [("honest-one", 102, "120000"), ("honest-two", 103, "150000")];

/// Providers that live as long as the story needs them.
pub struct Strangers {
    honest: Vec<Local>,
    _cheat: Cheat,
}

impl Strangers {
    pub async fn stop(self) {
        for one in self.honest {
            one.stop().await;
        }
    }
}

pub async fn gather(stage: &Stage<'_>, book: &mut Book) -> Result<Strangers, Failure> {
    book.chapter("Three strangers offer to run jobs")?;
    let key = fresh_key()?;
    book.name(&key, cheat::NAME);
    let cheat = Cheat::start(&stage.talk.client, &key, 101).await?;
    let row = |cells: [&str; 4]| cells.map(str::to_owned).to_vec();
    let does = "SIMULATED: it runs nothing and makes its answers up";
    let mut rows = vec![row([cheat::NAME, &format!("{} msats", cheat::PRICE_MSATS), &short(&key), does])];
    let mut honest = Vec::new();
    for (name, owner, price) in HONEST {
        let key = fresh_key()?;
        book.name(&key, name);
        let started = sandbox(stage, name, &key, (owner, price)).await;
        match started {
            Ok(one) => honest.push(one),
            Err(failure) => {
                Strangers { honest, _cheat: cheat }.stop().await;
                return Err(failure);
            }
        }
        rows.push(row([name, &format!("{price} msats"), &short(&key), "real sandboxes"]));
    }
    book.line(&indent(&table(&rows)))?;
    let layers = honest.first().map(|one| one.layers.clone()).unwrap_or_default();
    book.indented(&format!("(around each job of the honest: {layers})"))?;
    book.keep("isolation", json!(layers));
    Ok(Strangers { honest, _cheat: cheat })
}

/// The table holds the beginnings of keys, which are no names.
fn indent(table: &str) -> String {
    table.lines().map(|line| format!("   {line}\n")).collect()
}

/// Who is paid through credit is known by a public key.
pub fn fresh_key() -> Result<String, Failure> {
    let secret = Signer::from_secret(&hex(&system::random()));
    Ok(secret.map_err(|error| Failure::wrong(format!("no key can be made: {error}")))?.public_key_hex())
}

async fn sandbox(
    stage: &Stage<'_>,
    name: &str,
    key: &str,
    (owner, price): (u64, &str),
) -> Result<Local, Failure> {
    let keep = DataDir::at(stage.data.path().join("providers").join(name));
    fs::create_dir_all(keep.path()).map_err(|error| Failure::file(keep.path(), &error))?;
    let repository = stage.code.place.to_string_lossy();
    // All who are paid here have one wallet beside the operator's, and so one node.
    let node_id = stage.purse.node_of_others().await?;
    let wanted = [
        ("OA_PROVIDER_MIN_PRICE_MSATS", price),
        ("OA_PROVIDER_REPOSITORIES", &*repository),
        ("OA_PROVIDER_LIGHTNING_NODE_ID", &*node_id),
    ];
    Local::start(local::Wish {
        settings: &home::settings(stage.data, &wanted)?,
        place: &stage.place,
        data: &keep,
        id: key.to_owned(),
        owner: NameOwner { owner_user_id: Some(owner), owner_guest_scope: None },
        reserve_pool: true,
        tap: None,
        format: Format::Text,
    })
    .await
}
