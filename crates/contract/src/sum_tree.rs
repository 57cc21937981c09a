//! Decides how a total proves what it is made of: a Merkle tree whose nodes carry sums. Whoever has one leaf, the path
//! above it and the signed root can tell offline that the leaf is counted in the total, and learns of the others only
//! sums. A branch cannot hide anything below zero: sums are unsigned, and a sum that does not fit is no proof.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::canonical::{hex, unhex};

/// The deepest path that is believed; more leaves than this allows do not fit anywhere.
const DEEPEST: usize = 48;

/// A hash and the sum of everything below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    pub hash: [u8; 32],
    pub sum: u64,
}

/// What fills a layer up to an even number: nobody's, and nothing.
const NOBODY: Node = Node { hash: [0; 32], sum: 0 };

/// Somebody's part. The nonce keeps the names of others from being guessed from their hashes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaf {
    pub name: String,
    pub nonce: String,
    pub amount: u64,
}

impl Leaf {
    fn node(&self) -> Node {
        let mut hash = Sha256::new();
        hash.update([0]);
        for text in [&self.name, &self.nonce] {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        }
        hash.update(self.amount.to_be_bytes());
        Node { hash: hash.finalize().into(), sum: self.amount }
    }
}

fn parent(left: Node, right: Node) -> Option<Node> {
    let sum = left.sum.checked_add(right.sum)?;
    let mut hash = Sha256::new();
    hash.update([1]);
    for node in [left, right] {
        hash.update(node.hash);
        hash.update(node.sum.to_be_bytes());
    }
    Some(Node { hash: hash.finalize().into(), sum })
}

/// One step from a leaf to the root: what stands on the other side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    pub side: Side,
    /// 64 hex digits.
    pub hash: String,
    pub sum: u64,
}

/// Where the sibling stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    Left,
    Right,
}

/// Why a path does not lead to the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    Malformed,
    Overflow,
    Root,
    Total,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Broken::Malformed => "a step of the path is malformed",
            Broken::Overflow => "the sums of the path do not fit",
            Broken::Root => "the path leads to another root",
            Broken::Total => "the path adds up to another total",
        })
    }
}

impl std::error::Error for Broken {}

/// The whole tree, leaves first.
#[derive(Clone, Debug)]
pub struct SumTree {
    layers: Vec<Vec<Node>>,
}

impl SumTree {
    /// None when the sums do not fit. Without leaves the root is nobody's.
    pub fn of(leaves: &[Leaf]) -> Option<Self> {
        let mut layers = vec![leaves.iter().map(Leaf::node).collect::<Vec<_>>()];
        while let Some(last) = layers.last().filter(|last| last.len() > 1) {
            let pairs = last.chunks(2).map(|pair| parent(pair[0], pair.get(1).copied().unwrap_or(NOBODY)));
            let next = pairs.collect::<Option<Vec<_>>>()?;
            layers.push(next);
        }
        Some(SumTree { layers })
    }

    pub fn root(&self) -> Node {
        self.layers.last().and_then(|last| last.first()).copied().unwrap_or(NOBODY)
    }

    /// The way from the leaf at this place to the root.
    pub fn path(&self, at: usize) -> Option<Vec<Step>> {
        let mut at = (at < self.layers.first()?.len()).then_some(at)?;
        let mut path = Vec::with_capacity(self.layers.len());
        for layer in self.layers.iter().take(self.layers.len() - 1) {
            let node = layer.get(at ^ 1).copied().unwrap_or(NOBODY);
            let side = if at % 2 == 0 { Side::Right } else { Side::Left };
            path.push(Step { side, hash: hex(&node.hash), sum: node.sum });
            at /= 2;
        }
        Some(path)
    }
}

/// Walks from the leaf to the root and compares hash and sum.
pub fn check(leaf: &Leaf, path: &[Step], root_hex: &str, total: u64) -> Result<(), Broken> {
    let root = unhex::<32>(root_hex).ok_or(Broken::Malformed)?;
    if path.len() > DEEPEST {
        return Err(Broken::Malformed);
    }
    let mut node = leaf.node();
    for step in path {
        let other = Node { hash: unhex::<32>(&step.hash).ok_or(Broken::Malformed)?, sum: step.sum };
        let above = match step.side {
            Side::Left => parent(other, node),
            Side::Right => parent(node, other),
        };
        node = above.ok_or(Broken::Overflow)?;
    }
    match (node.hash == root, node.sum == total) {
        (false, _) => Err(Broken::Root),
        (true, false) => Err(Broken::Total),
        (true, true) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leaves(amounts: &[u64]) -> Vec<Leaf> {
        let leaf = |(at, amount): (usize, &u64)| Leaf {
            name: format!("lp:{at}"),
            nonce: format!("{at:032x}"),
            amount: *amount,
        };
        amounts.iter().enumerate().map(leaf).collect()
    }

    #[test]
    fn every_leaf_of_every_size_leads_to_the_root() {
        for size in 1..40_u64 {
            let leaves = leaves(&(1..=size).collect::<Vec<_>>());
            let tree = SumTree::of(&leaves).expect("a tree");
            let root = tree.root();
            assert_eq!(root.sum, size * (size + 1) / 2);
            for (at, leaf) in leaves.iter().enumerate() {
                let path = tree.path(at).expect("a path");
                assert_eq!(check(leaf, &path, &hex(&root.hash), root.sum), Ok(()));
            }
            assert_eq!(tree.path(leaves.len()), None);
        }
        assert_eq!(SumTree::of(&[]).expect("a tree").root(), NOBODY);
    }

    #[test]
    fn what_is_not_counted_has_no_proof() {
        let leaves = leaves(&[5, 7, 11]);
        let tree = SumTree::of(&leaves).expect("a tree");
        let (root, path) = (hex(&tree.root().hash), tree.path(1).expect("a path"));
        let more = Leaf { amount: 8, ..leaves[1].clone() };
        assert_eq!(check(&more, &path, &root, 23), Err(Broken::Root));
        let other = Leaf { name: "lp:9".into(), ..leaves[1].clone() };
        assert_eq!(check(&other, &path, &root, 23), Err(Broken::Root));
        assert_eq!(check(&leaves[1], &path, &root, 24), Err(Broken::Total));
        let mut swollen = path.clone();
        swollen[0].sum = u64::MAX;
        assert_eq!(check(&leaves[1], &swollen, &root, 23), Err(Broken::Overflow));
        let mut short = path.clone();
        short[0].hash = "ab".into();
        assert_eq!(check(&leaves[1], &short, &root, 23), Err(Broken::Malformed));
        assert_eq!(check(&leaves[1], &vec![path[0].clone(); 49], &root, 23), Err(Broken::Malformed));
        assert!(SumTree::of(&super::tests::leaves(&[u64::MAX, 1])).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_root_is_the_sum_of_all_and_a_changed_one_is_noticed(
            amounts in prop::collection::vec(0..u64::from(u32::MAX), 1..70),
            pick in any::<prop::sample::Index>(),
            by in 1..1000_u64,
        ) {
            let leaves = leaves(&amounts);
            let tree = SumTree::of(&leaves).expect("a tree");
            let root = tree.root();
            prop_assert_eq!(root.sum, amounts.iter().sum::<u64>());
            let at = pick.index(leaves.len());
            let path = tree.path(at).expect("a path");
            prop_assert_eq!(check(&leaves[at], &path, &hex(&root.hash), root.sum), Ok(()));
            let changed = Leaf { amount: leaves[at].amount + by, ..leaves[at].clone() };
            prop_assert!(check(&changed, &path, &hex(&root.hash), root.sum + by).is_err());
        }
    }
}
