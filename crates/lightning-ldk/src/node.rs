//! Decides how one LDK node is made, brought back from disk, and moved: turn by turn, each ended by one commit.

use std::{
    sync::{Arc, Mutex, RwLock},
    time::Duration,
};

use lightning::{
    bitcoin::{BlockHash, Network, Transaction, secp256k1::PublicKey},
    chain::{
        BestBlock, Filter, Listen as _, Watch as _,
        chaininterface::{ConfirmationTarget, FeeEstimator},
        chainmonitor::ChainMonitor,
        channelmonitor::ChannelMonitor,
    },
    events::{EventsProvider as _, ReplayEvent},
    ln::{
        channelmanager::{ChainParameters, ChannelManager, ChannelManagerReadArgs},
        peer_handler::{IgnoringMessageHandler, MessageHandler, PeerManager},
    },
    onion_message::messenger::NullMessageRouter,
    routing::{gossip::NetworkGraph, router::DefaultRouter, scoring::FixedPenaltyScorer},
    sign::{EntropySource as _, InMemorySigner, KeysManager, NodeSigner as _},
    util::{
        config::UserConfig,
        logger::{Level, Logger, Record},
        ser::{ReadableArgs as _, Writeable as _},
    },
};

use crate::{
    chain::Chain,
    keeper::{Keeper, Watch},
    regtest::Failure,
    store::{Batch, Store},
    wire::Wire,
};

type Monitor = ChannelMonitor<InMemorySigner>;
type Monitors = ChainMonitor<
    InMemorySigner,
    Arc<dyn Filter + Send + Sync>,
    Arc<Keeper>,
    Arc<Fees>,
    Arc<Log>,
    Arc<Keeper>,
    Arc<KeysManager>,
>;
type Graph = NetworkGraph<Arc<Log>>;
type Router = DefaultRouter<
    Arc<Graph>,
    Arc<Log>,
    Arc<KeysManager>,
    Arc<RwLock<FixedPenaltyScorer>>,
    (),
    FixedPenaltyScorer,
>;
pub type Manager = ChannelManager<
    Arc<Monitors>,
    Arc<Keeper>,
    Arc<KeysManager>,
    Arc<KeysManager>,
    Arc<KeysManager>,
    Arc<Fees>,
    Arc<Router>,
    Arc<NullMessageRouter>,
    Arc<Log>,
>;
type Peers = PeerManager<
    Wire,
    Arc<Manager>,
    IgnoringMessageHandler,
    IgnoringMessageHandler,
    Arc<Log>,
    IgnoringMessageHandler,
    Arc<KeysManager>,
    Arc<Monitors>,
>;

pub type Now = Arc<dyn Fn() -> Duration + Send + Sync>;

/// What LDK's events act on.
pub struct Heart {
    pub name: &'static str,
    pub keys: Arc<KeysManager>,
    pub manager: Arc<Manager>,
    pub keeper: Arc<Keeper>,
    now: Now,
}

impl Heart {
    pub fn now_ms(&self) -> u64 {
        u64::try_from((self.now)().as_millis()).unwrap_or(u64::MAX)
    }
}

pub struct Node {
    pub heart: Heart,
    pub peers: Peers,
    pub id: PublicKey,
    monitors: Arc<Monitors>,
}

/// What a node is made of besides what its folder holds.
pub struct Birth {
    pub name: &'static str,
    /// The seed of a node that has none yet.
    pub seed: [u8; 32],
    pub now: Now,
    pub watch: Watch,
    pub forwards: bool,
}

impl Node {
    pub fn open(mut store: Store, birth: Birth, chain: &Chain) -> Result<Self, Failure> {
        let Birth { name, seed, now, watch, forwards } = birth;
        let seed = seed_of(&mut store, seed)?;
        let begun = now();
        let keys = Arc::new(KeysManager::new(&seed, begun.as_secs(), begun.subsec_nanos(), true));
        let keeper = Arc::new(Keeper::open(name, store, watch)?);
        let log = Arc::new(Log { node: name });
        let fees = Arc::new(Fees);
        let monitors = Arc::new(Monitors::new(
            None,
            keeper.clone(),
            log.clone(),
            fees.clone(),
            keeper.clone(),
            keys.clone(),
            keys.get_peer_storage_key(),
        ));
        let graph = Arc::new(Graph::new(Network::Regtest, log.clone()));
        let scorer = Arc::new(RwLock::new(FixedPenaltyScorer::with_penalty(0)));
        let router = Arc::new(Router::new(graph, log.clone(), keys.clone(), scorer, ()));
        let known = read_monitors(&keeper, &keys)?;
        for monitor in &known {
            catch_monitor_up(monitor, chain, &keeper, &fees, &log)?;
        }
        let config = settings(forwards);
        let message_router = Arc::new(NullMessageRouter {});
        let manager = match keeper.get("manager")? {
            Some(bytes) => {
                let arguments = ChannelManagerReadArgs::new(
                    keys.clone(),
                    keys.clone(),
                    keys.clone(),
                    fees,
                    monitors.clone(),
                    keeper.clone(),
                    router,
                    message_router,
                    log.clone(),
                    config,
                    known.iter().collect(),
                );
                let (_, manager) = <(BlockHash, Manager)>::read(&mut bytes.as_slice(), arguments)
                    .map_err(|error| Failure::torn("manager", &error))?;
                manager
            }
            None => Manager::new(
                fees,
                monitors.clone(),
                keeper.clone(),
                router,
                message_router,
                log.clone(),
                keys.clone(),
                keys.clone(),
                keys.clone(),
                config,
                ChainParameters {
                    network: Network::Regtest,
                    best_block: BestBlock::from_network(Network::Regtest),
                },
                u32::try_from(begun.as_secs()).unwrap_or(u32::MAX),
            ),
        };
        let manager = Arc::new(manager);
        // Written once more, so that LDK hears that it is written: of a channel that was new when the node ended it
        // does not know.
        for monitor in known {
            monitors
                .watch_channel(monitor.channel_id(), monitor)
                .map_err(|()| Failure::Torn("a monitor is there twice".into()))?;
        }
        let handlers = MessageHandler {
            chan_handler: manager.clone(),
            route_handler: IgnoringMessageHandler {},
            onion_message_handler: IgnoringMessageHandler {},
            custom_message_handler: IgnoringMessageHandler {},
            send_only_message_handler: monitors.clone(),
        };
        let peers = Peers::new(
            handlers,
            u32::try_from(begun.as_secs()).unwrap_or(u32::MAX),
            &keys.get_secure_random_bytes(),
            log,
            keys.clone(),
        );
        let id = manager.get_our_node_id();
        Ok(Node { heart: Heart { name, keys, manager, keeper, now }, peers, id, monitors })
    }

    /// Hears of the blocks that it has not heard of.
    pub fn catch_up(&self, chain: &Chain) -> Result<(), Failure> {
        let best = self.heart.manager.current_best_block();
        if chain.hash_at(best.height) != Some(best.block_hash) {
            return Err(Failure::Torn(format!(
                "{} stands on a block that the chain does not have",
                self.heart.name
            )));
        }
        for (height, block) in chain.above(best.height) {
            self.monitors.block_connected(block, height);
            self.heart.manager.block_connected(block, height);
        }
        Ok(())
    }

    /// Does what there is to do, commits it, and says whether there was anything. What it said may leave afterwards.
    pub fn turn(&self, forward: bool) -> Result<bool, Failure> {
        let manager = &self.heart.manager;
        self.peers.process_events();
        if forward {
            manager.process_pending_htlc_forwards();
        }
        let failed = Mutex::new(None);
        let handle = |event| {
            self.heart.handle(event).map_err(|failure| {
                failed.lock().map(|mut failed| *failed = Some(failure)).ok();
                ReplayEvent()
            })
        };
        manager.process_pending_events(&handle);
        self.monitors.process_pending_events(&handle);
        if let Ok(Some(failure)) = failed.into_inner() {
            return Err(failure);
        }
        self.peers.process_events();
        if !manager.get_and_clear_needs_persistence() && !self.heart.keeper.has_something_to_commit() {
            return Ok(false);
        }
        self.heart.keeper.put("manager".into(), manager.encode());
        for (channel, update) in self.heart.keeper.commit()? {
            // Fails for a channel that LDK has forgotten meanwhile: nobody waits for that.
            let _ = self.monitors.channel_monitor_updated(channel, update);
        }
        Ok(true)
    }

    pub fn take_broadcast(&self) -> Vec<Transaction> {
        self.heart.keeper.take_broadcast()
    }

    /// Time goes by: LDK asks that it be told of it about so often.
    pub fn ten_seconds_went_by(&self) {
        self.peers.timer_tick_occurred();
    }

    pub fn a_minute_went_by(&self) {
        self.heart.manager.timer_tick_occurred();
        self.monitors.rebroadcast_pending_claims();
    }
}

/// The seed it has, or the one it is given, which it then has.
fn seed_of(store: &mut Store, fresh: [u8; 32]) -> Result<[u8; 32], Failure> {
    if let Some(bytes) = store.get("seed")? {
        return bytes.try_into().map_err(|_| Failure::Torn("the seed of a node has not 32 bytes".into()));
    }
    store.commit(&Batch::from([("seed".to_owned(), Some(fresh.to_vec()))]))?;
    Ok(fresh)
}

fn read_monitors(keeper: &Keeper, keys: &KeysManager) -> Result<Vec<Monitor>, Failure> {
    let mut monitors = Vec::new();
    for (name, bytes) in keeper.list("monitor/")? {
        let (_, monitor) = <(BlockHash, Monitor)>::read(&mut bytes.as_slice(), (keys, keys))
            .map_err(|error| Failure::torn(&name, &error))?;
        monitors.push(monitor);
    }
    Ok(monitors)
}

/// A monitor may be kept less often than its node: it hears of the blocks between by itself.
fn catch_monitor_up(
    monitor: &Monitor,
    chain: &Chain,
    keeper: &Arc<Keeper>,
    fees: &Arc<Fees>,
    log: &Arc<Log>,
) -> Result<(), Failure> {
    let best = monitor.current_best_block();
    if chain.hash_at(best.height) != Some(best.block_hash) {
        return Err(Failure::Torn("a monitor stands on a block that the chain does not have".into()));
    }
    for (height, block) in chain.above(best.height) {
        let transactions: Vec<_> = block.txdata.iter().enumerate().collect();
        monitor.block_connected(&block.header, &transactions, height, keeper.clone(), fees.clone(), log);
    }
    Ok(())
}

fn settings(forwards: bool) -> UserConfig {
    let mut config = UserConfig::default();
    config.channel_handshake_config.minimum_depth = 1;
    config.channel_handshake_config.max_inbound_htlc_value_in_flight_percent_of_channel = 100;
    config.channel_handshake_limits.force_announced_channel_preference = false;
    config.accept_forwards_to_priv_channels = forwards;
    config
}

/// Nobody competes for room in blocks that are simulated.
pub struct Fees;

impl FeeEstimator for Fees {
    fn get_est_sat_per_1000_weight(&self, _target: ConfirmationTarget) -> u32 {
        500
    }
}

pub struct Log {
    node: &'static str,
}

impl Logger for Log {
    fn log(&self, record: Record) {
        let node = self.node;
        match record.level {
            Level::Error => tracing::warn!(target: "ldk", node, "{}", record.args),
            Level::Warn | Level::Info => tracing::debug!(target: "ldk", node, "{}", record.args),
            Level::Debug | Level::Trace | Level::Gossip => {
                tracing::trace!(target: "ldk", node, "{}", record.args);
            }
        }
    }
}
