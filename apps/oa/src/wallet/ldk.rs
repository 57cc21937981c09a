//! Decides how the LDK nodes of this build serve as a wallet: three real nodes in this process, on a chain that is
//! simulated and says so. The shop among them pays and is paid (`shop.rs`).

use std::{path::Path, sync::Arc};

use oa_contract::{Clock, Ids as _};
use oa_lightning::bolt11::Network;
use oa_lightning_ldk::{Config, LdkWallet, Watch};

use super::number;
use crate::{config::Settings, data_dir::DataDir, failure::Failure, system::SystemIds};

/// Opens the nodes. Blocks: nothing is served before they are there.
pub fn open(
    settings: &Settings,
    data: &DataDir,
    wallet_id: &str,
    network: Network,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<LdkWallet>, Failure> {
    if network != Network::Regtest {
        return Err(Failure::usage("OA_LIGHTNING_WALLET_NETWORK: the nodes of this build live on regtest"));
    }
    data.create()?;
    let folder = data.path().join("ldk");
    // Half of our channel is ours when it is opened.
    let sats = number(settings, "OA_LIGHTNING_WALLET_SIMULATED_BALANCE_SATS", 50_000, 20_000, 8_000_000)?;
    let config = Config {
        watch: watch(&folder),
        folder,
        wallet_id: wallet_id.to_owned(),
        seed: SystemIds::default().secret(),
        clock: clock.clone(),
        channel_sats: sats * 2,
    };
    let wallet = LdkWallet::open(config).map_err(|error| Failure::wrong(format!("LDK: {error}")))?;
    Ok(Arc::new(wallet))
}

/// Nobody watches the commits of a build that is used.
#[cfg(not(debug_assertions))]
fn watch(_folder: &Path) -> Watch {
    Arc::new(|_, _| Ok(()))
}

/// In builds of tests a file in the nodes' folder ends this process as `kill -9` does, at the commit that it names:
/// `7 before` or `7 after`, counted from when it is first seen.
#[cfg(debug_assertions)]
fn watch(folder: &Path) -> Watch {
    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };
    use oa_lightning_ldk::Moment;
    use std::sync::atomic::{AtomicU64, Ordering};

    let (order, passed) = (folder.join("end-at"), AtomicU64::new(0));
    Arc::new(move |_, moment| {
        let Ok(text) = std::fs::read_to_string(&order) else {
            passed.store(0, Ordering::SeqCst);
            return Ok(());
        };
        let name = match moment {
            Moment::Before => "before",
            Moment::After => "after",
        };
        if text.trim() == format!("{} {name}", passed.load(Ordering::SeqCst)) {
            let _ = kill(Pid::this(), Signal::SIGKILL);
        }
        if moment == Moment::After {
            passed.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    })
}
