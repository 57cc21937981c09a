//! Decides how three nodes live in one process: ours, a hub that takes a fee, and a shop that is paid.
//!
//! ```text
//! ours ── channel ── hub ── channel ── shop        one chain, simulated
//! ```
//!
//! Everything here runs on the caller's thread and returns when nobody has anything left to say.

use std::{
    fmt::{self, Display},
    fs, io,
    path::PathBuf,
    str::FromStr as _,
};

use lightning::{
    bitcoin::hashes::{Hash as _, sha256},
    bolt11_invoice::{Bolt11Invoice, Bolt11InvoiceDescription, Currency, Description},
    ln::{
        channelmanager::{Bolt11InvoiceParameters, Bolt11PaymentError, Retry, RetryableSendFailure},
        peer_handler::SocketDescriptor as _,
    },
    routing::router::RouteParametersConfig,
    types::payment::{PaymentHash, PaymentPreimage},
};

use oa_contract::canonical::{hex, unhex};

use crate::{
    chain::Chain,
    keeper::Watch,
    node::{Birth, Node, Now},
    payments::{
        Asked, Invoiced, Received, Sent, State, hash_key, held_key, invoice_key, payment_id, received_key,
        sent_key,
    },
    store::Store,
    wire::Wire,
};

/// So many rounds of messages are more than any payment needs: beyond them something goes in circles.
const ROUNDS: u32 = 10_000;

#[derive(Debug)]
pub enum Failure {
    Store(rusqlite::Error),
    Io(io::Error),
    /// What is on disk does not fit together.
    Torn(String),
    /// Somebody who watches the commits ended it.
    Stopped,
    /// The request is wrong by itself.
    Refused(String),
    /// The request contradicts an earlier one.
    Conflict(String),
    /// The time in which it might have been begun is over.
    TooLate,
    /// The nodes do what they should not.
    Broken(String),
}

impl Failure {
    /// The request was wrong, and the nodes are as they were.
    pub fn is_the_callers(&self) -> bool {
        matches!(self, Failure::Refused(_) | Failure::Conflict(_) | Failure::TooLate)
    }

    pub(crate) fn torn(name: &str, error: &dyn fmt::Debug) -> Self {
        Failure::Torn(format!("{name}: {error:?}"))
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Store(error) => write!(f, "a node cannot keep what it knows: {error}"),
            Failure::Io(error) => write!(f, "the nodes' folder: {error}"),
            Failure::Torn(what) => write!(f, "a node's memory does not fit together: {what}"),
            Failure::Stopped => f.write_str("ended by whoever watches"),
            Failure::TooLate => f.write_str("the time in which it might have been begun is over"),
            Failure::Refused(why) | Failure::Conflict(why) | Failure::Broken(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Failure {}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Failure::Store(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Io(error)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Ours,
    Hub,
    Shop,
}

const PLACES: [(Place, &str); 3] = [(Place::Ours, "ours"), (Place::Hub, "hub"), (Place::Shop, "shop")];

pub struct Settings {
    pub folder: PathBuf,
    /// Random, for nodes that are made; nodes that are there keep theirs.
    pub seed: [u8; 32],
    pub now: Now,
    pub watch: Watch,
    pub channel_sats: u64,
    /// Whether a commit outlives the machine, and not only this process.
    pub fsync: bool,
}

struct Link {
    ends: [usize; 2],
    wires: Option<[Wire; 2]>,
    wanted: bool,
}

pub struct Regtest {
    nodes: [Node; 3],
    chain: Chain,
    links: [Link; 2],
    wires_made: u64,
    now: Now,
}

/// How the channels of a node stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Channels {
    pub count: u64,
    pub connected: u64,
    pub total_sats: u64,
    pub outbound_msats: u64,
    pub inbound_msats: u64,
}

impl Regtest {
    /// Makes the nodes and their channels, or brings them back as they were.
    pub fn open(settings: Settings) -> Result<Self, Failure> {
        let Settings { folder, seed, now, watch, channel_sats, fsync } = settings;
        fs::create_dir_all(&folder)?;
        let chain = Chain::open(Store::open(&folder.join("chain.sqlite"), fsync)?)?;
        let open = |(place, name): (Place, &'static str)| {
            let own = [seed.as_slice(), name.as_bytes()].concat();
            let birth = Birth {
                name,
                seed: sha256::Hash::hash(&own).to_byte_array(),
                now: now.clone(),
                watch: watch.clone(),
                forwards: place == Place::Hub,
            };
            Node::open(Store::open(&folder.join(format!("{name}.sqlite")), fsync)?, birth, &chain)
        };
        let nodes = [open(PLACES[0])?, open(PLACES[1])?, open(PLACES[2])?];
        let links = [[0, 1], [1, 2]].map(|ends| Link { ends, wires: None, wanted: true });
        let mut regtest = Regtest { nodes, chain, links, wires_made: 0, now };
        regtest.settle()?;
        regtest.open_channels(channel_sats)?;
        Ok(regtest)
    }

    fn node(&self, place: Place) -> &Node {
        &self.nodes[place as usize]
    }

    /// One channel per link, half of it on either side, unless it is there.
    fn open_channels(&mut self, channel_sats: u64) -> Result<(), Failure> {
        for at in 0..self.links.len() {
            let [from, to] = self.links[at].ends;
            let name = at as u128 + 1;
            let manager = &self.nodes[from].heart.manager;
            if manager.list_channels().iter().any(|channel| channel.user_channel_id == name) {
                continue;
            }
            let pushed_msats = channel_sats.saturating_mul(500);
            manager
                .create_channel(self.nodes[to].id, channel_sats, pushed_msats, name, None, None)
                .map_err(|error| Failure::Broken(format!("a channel cannot be opened: {error:?}")))?;
            self.settle()?;
        }
        for link in &self.links {
            for end in link.ends {
                let node = &self.nodes[end];
                if node.heart.manager.list_usable_channels().is_empty() {
                    let all = node.heart.manager.list_channels();
                    tracing::warn!(node = node.heart.name, ?all, "no channel can be used");
                    return Err(Failure::Broken(format!("{} has no channel to use", node.heart.name)));
                }
            }
        }
        Ok(())
    }

    /// Lets everybody act until nobody has anything left to do.
    pub fn settle(&mut self) -> Result<(), Failure> {
        let mut forward = false;
        for _ in 0..ROUNDS {
            self.connect()?;
            let mut moved = false;
            for node in &self.nodes {
                node.catch_up(&self.chain)?;
                moved |= node.turn(forward)?;
            }
            // Whoever said it has committed since.
            self.links.iter().flat_map(|link| &link.wires).flatten().for_each(Wire::release);
            moved |= self.deliver();
            let broadcast = self.nodes.iter().flat_map(Node::take_broadcast).collect();
            moved |= self.chain.confirm(broadcast, (self.now)().as_secs())?;
            if !moved && forward {
                return Ok(());
            }
            // A payment goes on only when everybody has listened: a hub that has just come back would otherwise
            // refuse it for a neighbour that it has not met yet.
            forward = !moved;
        }
        Err(Failure::Broken("the nodes do not come to rest".into()))
    }

    fn connect(&mut self) -> Result<(), Failure> {
        for link in &mut self.links {
            if !link.wanted || link.wires.is_some() {
                continue;
            }
            let [from, to] = link.ends.map(|end| &self.nodes[end]);
            self.wires_made += 2;
            let mut wires = [Wire::new(self.wires_made - 1), Wire::new(self.wires_made)];
            let refused = |_| Failure::Broken("two nodes of one process cannot meet".into());
            to.peers.new_inbound_connection(wires[1].clone(), None).map_err(refused)?;
            let hello = from.peers.new_outbound_connection(to.id, wires[0].clone(), None).map_err(refused)?;
            wires[0].send_data(&hello, true);
            link.wires = Some(wires);
        }
        Ok(())
    }

    fn deliver(&mut self) -> bool {
        let mut moved = false;
        for link in &mut self.links {
            let Some(wires) = &link.wires else { continue };
            let mut broken = !link.wanted;
            for (from, to) in [(0, 1), (1, 0)] {
                let node = &self.nodes[link.ends[to]];
                let mut wire = wires[to].clone();
                for piece in wires[from].take().chunks(4096) {
                    moved = true;
                    broken = broken || node.peers.read_event(&mut wire, piece).is_err();
                }
            }
            if broken || wires.iter().any(Wire::is_closed) {
                for (end, wire) in link.ends.into_iter().zip(wires) {
                    self.nodes[end].peers.socket_disconnected(wire);
                }
                link.wires = None;
                moved = true;
            }
        }
        moved
    }

    /// Cuts the connection between the hub and the shop, or mends it.
    pub fn connect_shop(&mut self, wanted: bool) -> Result<(), Failure> {
        self.links[1].wanted = wanted;
        self.settle()
    }

    /// A payment that our node makes, once per request: repeated, it answers how it stands.
    pub fn pay(&mut self, asked: &Asked) -> Result<Sent, Failure> {
        self.pay_from(Place::Ours, asked)
    }

    /// The same of any node.
    pub fn pay_from(&mut self, place: Place, asked: &Asked) -> Result<Sent, Failure> {
        let id = payment_id(&asked.request_id);
        let key = sent_key(id);
        let heart = &self.node(place).heart;
        if let Some(known) = heart.keeper.read::<Sent>(&key)? {
            if (&known.invoice, known.max_fee_msats, &known.host)
                != (&asked.invoice, asked.max_fee_msats, &asked.host)
            {
                return Err(Failure::Conflict("this request id stands for another payment".into()));
            }
            return Ok(known);
        }
        if asked.not_after_ms.is_some_and(|end| heart.now_ms() > end) {
            return Err(Failure::TooLate);
        }
        let invoice = payable(&asked.invoice)?;
        let amount_msats = asked.amount_msats;
        if invoice.amount_milli_satoshis() != Some(amount_msats) {
            return Err(Failure::Refused(format!("the invoice is not for {amount_msats} msats")));
        }
        let payment_hash = hex(invoice.payment_hash().as_byte_array());
        if let Some(other) = self.find_from(place, &payment_hash)?
            && !matches!(other.state, State::Failed { .. })
        {
            return Err(Failure::Conflict("another request pays this invoice".into()));
        }
        let heart = &self.node(place).heart;
        let sent = Sent {
            request_id: asked.request_id.clone(),
            payment_hash: payment_hash.clone(),
            invoice: asked.invoice.clone(),
            amount_msats,
            max_fee_msats: asked.max_fee_msats,
            host: asked.host.clone(),
            state: State::Pending,
            asked_at_ms: heart.now_ms(),
            ended_at_ms: None,
        };
        heart.keeper.write(key.clone(), &sent);
        heart.keeper.put(hash_key(&payment_hash), key.clone().into_bytes());
        let limits = RouteParametersConfig::default().with_max_total_routing_fee_msat(asked.max_fee_msats);
        match heart.manager.pay_for_bolt11_invoice(&invoice, id, None, limits, Retry::Attempts(3)) {
            Ok(()) => {}
            // It is under way: how it ends will be told.
            Err(Bolt11PaymentError::SendingFailed(RetryableSendFailure::DuplicatePayment)) => {}
            Err(Bolt11PaymentError::SendingFailed(reason)) => {
                heart.ended(id, State::Failed { reason: format!("{reason:?}") })?;
            }
            Err(Bolt11PaymentError::InvalidAmount) => {
                heart.ended(id, State::Failed { reason: "InvalidAmount".into() })?;
            }
        }
        self.settle()?;
        let known = self.node(place).heart.keeper.read(&key)?;
        known.ok_or_else(|| Failure::Torn("a payment is not kept".into()))
    }

    /// How the payment of this request stands.
    pub fn sent(&self, request_id: &str) -> Result<Option<Sent>, Failure> {
        self.node(Place::Ours).heart.keeper.read(&sent_key(payment_id(request_id)))
    }

    /// How the payment of this hash stands; of several requests for one hash, the one that is not refuted.
    pub fn find(&self, payment_hash: &str) -> Result<Option<Sent>, Failure> {
        self.find_from(Place::Ours, payment_hash)
    }

    fn find_from(&self, place: Place, payment_hash: &str) -> Result<Option<Sent>, Failure> {
        let keeper = &self.node(place).heart.keeper;
        match keeper.get(&hash_key(payment_hash))? {
            Some(key) => keeper.read(&String::from_utf8_lossy(&key)),
            None => Ok(None),
        }
    }

    /// An invoice, once per request. Who is paid for it keeps the preimage, unless the hash is given: then payments
    /// of it wait for [`Regtest::release`].
    pub fn invoice(&mut self, place: Place, wish: &Wish) -> Result<Invoiced, Failure> {
        let key = invoice_key(&wish.request_id);
        let heart = &self.node(place).heart;
        if let Some(known) = heart.keeper.read::<Invoiced>(&key)? {
            let same = known.amount_msats == wish.amount_msats
                && known.description == wish.description
                && known.expires_at_ms - known.created_at_ms == u64::from(wish.expiry_seconds) * 1000;
            return if same {
                Ok(known)
            } else {
                Err(Failure::Conflict("this request id stands for another invoice".into()))
            };
        }
        let description = Description::new(wish.description.clone())
            .map_err(|error| Failure::Refused(format!("the description: {error}")))?;
        let hash = match &wish.held {
            Some(text) => {
                let bytes =
                    unhex(text).ok_or_else(|| Failure::Refused("a payment hash is 64 hex digits".into()))?;
                heart.keeper.put(held_key(text), Vec::new());
                Some(PaymentHash(bytes))
            }
            None => None,
        };
        let invoice = heart
            .manager
            .create_bolt11_invoice(Bolt11InvoiceParameters {
                amount_msats: Some(wish.amount_msats),
                description: Bolt11InvoiceDescription::Direct(description),
                invoice_expiry_delta_secs: Some(wish.expiry_seconds),
                min_final_cltv_expiry_delta: None,
                payment_hash: hash,
            })
            .map_err(|error| Failure::Refused(format!("the invoice cannot be made: {error}")))?;
        let created_at_ms = heart.now_ms();
        let invoiced = Invoiced {
            request_id: wish.request_id.clone(),
            payment_hash: hex(invoice.payment_hash().as_byte_array()),
            invoice: invoice.to_string(),
            amount_msats: wish.amount_msats,
            description: wish.description.clone(),
            created_at_ms,
            expires_at_ms: created_at_ms + u64::from(wish.expiry_seconds) * 1000,
        };
        heart.keeper.write(key, &invoiced);
        self.settle()?;
        Ok(invoiced)
    }

    pub fn invoiced(&self, place: Place, request_id: &str) -> Result<Option<Invoiced>, Failure> {
        self.node(place).heart.keeper.read(&invoice_key(request_id))
    }

    pub fn received(&self, place: Place, payment_hash: &str) -> Result<Option<Received>, Failure> {
        self.node(place).heart.keeper.read(&received_key(payment_hash))
    }

    /// The shop takes a payment that waits for its preimage.
    pub fn release(&mut self, preimage: [u8; 32]) -> Result<(), Failure> {
        self.node(Place::Shop).heart.manager.claim_funds(PaymentPreimage(preimage));
        self.settle()
    }

    /// The shop does not want a payment that waits.
    pub fn decline(&mut self, payment_hash: [u8; 32]) -> Result<(), Failure> {
        self.node(Place::Shop).heart.manager.fail_htlc_backwards(&PaymentHash(payment_hash));
        self.settle()
    }

    pub fn channels(&self, place: Place) -> Channels {
        let mut sums = Channels::default();
        for channel in self.node(place).heart.manager.list_channels() {
            sums.count += 1;
            sums.connected += u64::from(channel.is_usable);
            sums.total_sats += channel.channel_value_satoshis;
            sums.outbound_msats += channel.outbound_capacity_msat;
            sums.inbound_msats += channel.inbound_capacity_msat;
        }
        sums
    }

    pub fn identity(&self, place: Place) -> String {
        self.node(place).id.to_string()
    }

    pub fn height(&self) -> u32 {
        self.chain.height()
    }

    pub fn ten_seconds_went_by(&mut self) -> Result<(), Failure> {
        self.nodes.iter().for_each(Node::ten_seconds_went_by);
        self.settle()
    }

    pub fn a_minute_went_by(&mut self) -> Result<(), Failure> {
        self.nodes.iter().for_each(Node::a_minute_went_by);
        self.settle()
    }
}

/// What an invoice should say.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    pub request_id: String,
    pub amount_msats: u64,
    pub description: String,
    pub expiry_seconds: u32,
    pub held: Option<String>,
}

/// An invoice that is whole, signed and of this chain. LDK looks at its time.
fn payable(text: &str) -> Result<Bolt11Invoice, Failure> {
    let invoice = Bolt11Invoice::from_str(text.trim())
        .map_err(|error| Failure::Refused(format!("this is no BOLT11 invoice: {error}")))?;
    match invoice.currency() {
        Currency::Regtest => Ok(invoice),
        other => Err(Failure::Refused(format!("the invoice is for {other:?}, these nodes live on regtest"))),
    }
}
