//! Decides what is on the chain that is simulated: blocks in a row, each with what was broadcast before it.
//!
//! Headers carry work as on regtest, so that they look right to whoever checks them. Scripts and balances are not
//! checked, and the coins that open channels come out of nothing.

use lightning::bitcoin::{
    Block, BlockHash, Network, Transaction, TxMerkleNode, absolute,
    block::{Header, Version},
    blockdata::constants::genesis_block,
    consensus::{deserialize, serialize},
    hashes::Hash as _,
};

use crate::{regtest::Failure, store::Store};

/// So many blocks follow whatever was broadcast, so that it counts as settled.
const CONFIRMATIONS: u32 = 6;

pub struct Chain {
    store: Store,
    blocks: Vec<Block>,
}

impl Chain {
    pub fn open(store: Store) -> Result<Self, Failure> {
        let mut blocks = vec![genesis_block(Network::Regtest)];
        for (name, bytes) in store.list("block/")? {
            let block: Block = deserialize(&bytes).map_err(|error| Failure::torn(&name, &error))?;
            if block.header.prev_blockhash != tip(&blocks) {
                return Err(Failure::torn(&name, &"it does not follow the block before it"));
            }
            blocks.push(block);
        }
        Ok(Chain { store, blocks })
    }

    pub fn height(&self) -> u32 {
        self.blocks.len() as u32 - 1
    }

    /// The blocks above a height, each with its own.
    pub fn above(&self, height: u32) -> impl Iterator<Item = (u32, &Block)> {
        self.blocks.iter().enumerate().map(|(at, block)| (at as u32, block)).skip(height as usize + 1)
    }

    pub fn hash_at(&self, height: u32) -> Option<BlockHash> {
        self.blocks.get(height as usize).map(Block::block_hash)
    }

    /// Confirms what was broadcast. What is on the chain already stays where it is.
    pub fn confirm(&mut self, broadcast: Vec<Transaction>, now_seconds: u64) -> Result<bool, Failure> {
        let next = absolute::Height::from_consensus(self.height() + 1).unwrap_or(absolute::Height::ZERO);
        let time = u32::try_from(now_seconds).unwrap_or(u32::MAX);
        let time = absolute::Time::from_consensus(time).unwrap_or(absolute::Time::MAX);
        let fresh: Vec<Transaction> = broadcast
            .into_iter()
            .filter(|tx| tx.is_absolute_timelock_satisfied(next, time))
            .filter(|tx| {
                !self.blocks.iter().any(|block| block.txdata.iter().any(|known| conflict(known, tx)))
            })
            .fold(Vec::new(), |mut chosen: Vec<Transaction>, tx| {
                if !chosen.iter().any(|other| conflict(other, &tx)) {
                    chosen.push(tx);
                }
                chosen
            });
        if fresh.is_empty() {
            return Ok(false);
        }
        let known = self.blocks.len();
        self.mine(fresh, now_seconds);
        for _ in 1..CONFIRMATIONS {
            self.mine(Vec::new(), now_seconds);
        }
        let named = self.blocks.iter().enumerate().skip(known);
        let batch = named.map(|(at, block)| (format!("block/{at:010}"), Some(serialize(block)))).collect();
        self.store.commit(&batch)?;
        Ok(true)
    }

    fn mine(&mut self, txdata: Vec<Transaction>, now_seconds: u64) {
        let Some(last) = self.blocks.last() else { return };
        let mut header = Header {
            version: Version::TWO,
            prev_blockhash: last.block_hash(),
            merkle_root: last.header.merkle_root,
            time: u32::try_from(now_seconds).unwrap_or(u32::MAX).max(last.header.time),
            bits: last.header.bits,
            nonce: 0,
        };
        let mut block = Block { header, txdata };
        header.merkle_root = block.compute_merkle_root().unwrap_or(TxMerkleNode::all_zeros());
        while header.validate_pow(header.target()).is_err() {
            header.nonce += 1;
        }
        block.header = header;
        self.blocks.push(block);
    }
}

fn tip(blocks: &[Block]) -> BlockHash {
    blocks.last().map_or(BlockHash::all_zeros(), Block::block_hash)
}

/// The same transaction, or one that spends the same coins.
fn conflict(known: &Transaction, tx: &Transaction) -> bool {
    known.compute_txid() == tx.compute_txid()
        || known.input.iter().any(|a| tx.input.iter().any(|b| a.previous_output == b.previous_output))
}
