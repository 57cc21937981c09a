//! Decides when what a node has decided is on disk: once per turn, all of it.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lightning::{
    bitcoin::{
        Transaction,
        consensus::{deserialize, serialize},
    },
    chain::{
        ChannelMonitorUpdateStatus,
        chaininterface::BroadcasterInterface,
        chainmonitor::Persist,
        channelmonitor::{ChannelMonitor, ChannelMonitorUpdate},
    },
    ln::types::ChannelId,
    sign::InMemorySigner,
    util::{persist::MonitorName, ser::Writeable as _},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    regtest::Failure,
    store::{Batch, Moment, Store},
};

/// Called at both sides of every commit; whoever refuses ends the node there.
pub type Watch = Arc<dyn Fn(&str, Moment) -> Result<(), Failure> + Send + Sync>;

/// What one node keeps. LDK is told of everything that it is being written ("in progress"), and that it is written
/// after the commit: until then LDK holds back every message that depends on it.
pub struct Keeper {
    node: &'static str,
    watch: Watch,
    inside: Mutex<Inside>,
}

struct Inside {
    store: Store,
    /// Decided in this turn.
    waiting: Batch,
    /// Changes of monitors that LDK waits for.
    updates: Vec<(ChannelId, u64)>,
    /// Broadcast in this turn, and what was broadcast and is on disk.
    said: Vec<Transaction>,
    ready: Vec<Transaction>,
}

impl Keeper {
    pub fn open(node: &'static str, store: Store, watch: Watch) -> Result<Self, Failure> {
        let mut ready = Vec::new();
        for (name, bytes) in store.list("tx/")? {
            ready.push(deserialize(&bytes).map_err(|error| Failure::torn(&name, &error))?);
        }
        let inside = Inside { store, waiting: BTreeMap::new(), updates: Vec::new(), said: Vec::new(), ready };
        Ok(Keeper { node, watch, inside: Mutex::new(inside) })
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known now, on disk or decided in this turn.
    pub fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        let inside = self.inside();
        match inside.waiting.get(name) {
            Some(value) => Ok(value.clone()),
            None => Ok(inside.store.get(name)?),
        }
    }

    pub fn list(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, Failure> {
        Ok(self.inside().store.list(prefix)?)
    }

    pub fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Failure> {
        let Some(bytes) = self.get(name)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| Failure::torn(name, &error))
    }

    pub fn put(&self, name: String, value: Vec<u8>) {
        self.inside().waiting.insert(name, Some(value));
    }

    pub fn write<T: Serialize>(&self, name: String, value: &T) {
        // Records are plain structs of text and numbers: they always have a text.
        self.put(name, serde_json::to_vec(value).unwrap_or_default());
    }

    pub fn has_something_to_commit(&self) -> bool {
        !self.inside().waiting.is_empty()
    }

    /// Writes everything that was decided, and says which changes of monitors LDK may now rely on.
    pub fn commit(&self) -> Result<Vec<(ChannelId, u64)>, Failure> {
        (self.watch)(self.node, Moment::Before)?;
        let updates = {
            let mut inside = self.inside();
            let batch = mem::take(&mut inside.waiting);
            inside.store.commit(&batch)?;
            let said = mem::take(&mut inside.said);
            inside.ready.extend(said);
            mem::take(&mut inside.updates)
        };
        (self.watch)(self.node, Moment::After)?;
        Ok(updates)
    }

    /// What was broadcast since somebody asked.
    pub fn take_broadcast(&self) -> Vec<Transaction> {
        mem::take(&mut self.inside().ready)
    }

    fn keep_monitor(&self, name: MonitorName, monitor: &ChannelMonitor<InMemorySigner>, update: Option<u64>) {
        let bytes = monitor.encode();
        let mut inside = self.inside();
        inside.waiting.insert(format!("monitor/{name}"), Some(bytes));
        inside.updates.extend(update.map(|id| (monitor.channel_id(), id)));
    }
}

impl Persist<InMemorySigner> for Keeper {
    fn persist_new_channel(
        &self,
        name: MonitorName,
        monitor: &ChannelMonitor<InMemorySigner>,
    ) -> ChannelMonitorUpdateStatus {
        self.keep_monitor(name, monitor, Some(monitor.get_latest_update_id()));
        ChannelMonitorUpdateStatus::InProgress
    }

    fn update_persisted_channel(
        &self,
        name: MonitorName,
        update: Option<&ChannelMonitorUpdate>,
        monitor: &ChannelMonitor<InMemorySigner>,
    ) -> ChannelMonitorUpdateStatus {
        self.keep_monitor(name, monitor, update.map(|update| update.update_id));
        ChannelMonitorUpdateStatus::InProgress
    }

    fn archive_persisted_channel(&self, name: MonitorName) {
        let from = format!("monitor/{name}");
        if let Ok(Some(bytes)) = self.get(&from) {
            let mut inside = self.inside();
            inside.waiting.insert(format!("archive/{name}"), Some(bytes));
            inside.waiting.insert(from, None);
        }
    }
}

impl BroadcasterInterface for Keeper {
    fn broadcast_transactions(&self, transactions: &[&Transaction]) {
        let mut inside = self.inside();
        for transaction in transactions {
            let name = format!("tx/{}", transaction.compute_txid());
            inside.waiting.insert(name, Some(serialize(*transaction)));
            inside.said.push((*transaction).clone());
        }
    }
}
