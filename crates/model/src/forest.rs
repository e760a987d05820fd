//! Gradient-boosted trees laid out for serving: every tree is a full binary tree of depth four.
//!
//! Fifteen splits and sixteen leaves in arrays, children of `i` at `2i + 1` and `2i + 2`: no pointers, no branches to
//! mispredict, 199 bytes a tree on disk. A branch that ended early in training is padded to the bottom with its own
//! value, which changes no prediction.
//!
//! Each split also stores the mean of the leaves below it, weighted by the training rows that reached them. The step
//! from a node's mean to its child's is what that split's feature contributed (Saabas' path attribution, XGBoost's
//! `approx_contribs`). The steps add up to the prediction exactly, at the cost of one prediction; exact Shapley values
//! cost 75.

use crate::house::FEATURES;

/// Levels of splits in each tree, as the training asks for.
pub(crate) const DEPTH: usize = 4;
const SPLITS: usize = (1 << DEPTH) - 1;
const LEAVES: usize = 1 << DEPTH;
/// Size of one encoded tree: a feature, a threshold and a mean for each split, a value for each leaf.
pub(crate) const TREE_BYTES: usize = SPLITS * (1 + 4 + 4) + LEAVES * 4;

/// One full tree. `features[i] < FEATURES.len()` and everything but a threshold is finite: [`Tree::decode`] checks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tree {
    features: [u8; SPLITS],
    /// A value below the threshold goes left. Infinite where the training stopped early: everything goes left.
    thresholds: [f32; SPLITS],
    means: [f32; SPLITS],
    leaves: [f32; LEAVES],
}

/// A subtree as training produced it, of any shape up to [`DEPTH`] levels.
pub(crate) enum Branch {
    Leaf { value: f32, cover: f32 },
    Split { feature: usize, threshold: f32, left: Box<Branch>, right: Box<Branch> },
}

impl Branch {
    /// Returns the cover-weighted sum of the leaves below, and the sum of their covers.
    fn weighted_sum(&self) -> (f64, f64) {
        match self {
            Self::Leaf { value, cover } => (f64::from(*value) * f64::from(*cover), f64::from(*cover)),
            Self::Split { left, right, .. } => {
                let ((left_sum, left_cover), (right_sum, right_cover)) =
                    (left.weighted_sum(), right.weighted_sum());
                (left_sum + right_sum, left_cover + right_cover)
            }
        }
    }

    fn mean(&self) -> f32 {
        let (sum, cover) = self.weighted_sum();
        (sum / cover) as f32
    }
}

impl Tree {
    /// Lays out a trained tree; `None` if it is deeper than [`DEPTH`].
    pub(crate) fn lay_out(root: &Branch) -> Option<Self> {
        let mut tree = Self {
            features: [0; SPLITS],
            thresholds: [f32::INFINITY; SPLITS],
            means: [0.0; SPLITS],
            leaves: [0.0; LEAVES],
        };
        tree.fill(0, root).then_some(tree)
    }

    /// Writes `branch` at `node` and below; false if it does not fit.
    fn fill(&mut self, node: usize, branch: &Branch) -> bool {
        match branch {
            Branch::Leaf { value, .. } if node >= SPLITS => {
                self.leaves[node - SPLITS] = *value;
                true
            }
            Branch::Leaf { value, .. } => {
                self.means[node] = *value;
                self.fill(2 * node + 1, branch) && self.fill(2 * node + 2, branch)
            }
            Branch::Split { .. } if node >= SPLITS => false,
            Branch::Split { feature, threshold, left, right } => {
                self.features[node] = *feature as u8;
                self.thresholds[node] = *threshold;
                self.means[node] = branch.mean();
                self.fill(2 * node + 1, left) && self.fill(2 * node + 2, right)
            }
        }
    }

    fn child(&self, node: usize, row: &[f32; FEATURES.len()]) -> usize {
        let goes_left = row[usize::from(self.features[node])] < self.thresholds[node];
        2 * node + 2 - usize::from(goes_left)
    }

    fn predict(&self, row: &[f32; FEATURES.len()]) -> f32 {
        let mut node = 0;
        for _ in 0..DEPTH {
            node = self.child(node, row);
        }
        self.leaves[node - SPLITS]
    }

    fn contribute(&self, row: &[f32; FEATURES.len()], contributions: &mut [f64; FEATURES.len()]) {
        let mut node = 0;
        for _ in 0..DEPTH {
            let next = self.child(node, row);
            let mean = if next < SPLITS { self.means[next] } else { self.leaves[next - SPLITS] };
            contributions[usize::from(self.features[node])] += f64::from(mean) - f64::from(self.means[node]);
            node = next;
        }
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.features);
        for value in self.thresholds.iter().chain(&self.means).chain(&self.leaves) {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
    }

    fn decode(bytes: &[u8; TREE_BYTES]) -> Result<Self, &'static str> {
        let (features, numbers) = bytes.split_at(SPLITS);
        let mut numbers = numbers
            .chunks_exact(4)
            .map(|four| f32::from_le_bytes(four.try_into().expect("chunks_exact(4) yields four bytes")));
        let mut next = || numbers.next().expect("TREE_BYTES counts every number");
        let tree = Self {
            features: features.try_into().expect("split at SPLITS"),
            thresholds: std::array::from_fn(|_| next()),
            means: std::array::from_fn(|_| next()),
            leaves: std::array::from_fn(|_| next()),
        };
        if tree.features.iter().any(|&feature| usize::from(feature) >= FEATURES.len()) {
            return Err("a split on a feature that does not exist");
        }
        if tree.thresholds.iter().any(|threshold| threshold.is_nan()) {
            return Err("a threshold that is not a number");
        }
        if tree.means.iter().chain(&tree.leaves).any(|value| !value.is_finite()) {
            return Err("a value that is not finite");
        }
        Ok(tree)
    }
}

/// The trees of a model and the value that they start from, all as logarithms of dollars.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Forest {
    pub(crate) base: f64,
    pub(crate) trees: Vec<Tree>,
}

impl Forest {
    /// Returns the logarithm of the price for a row in the order of [`FEATURES`].
    pub(crate) fn predict(&self, row: &[f32; FEATURES.len()]) -> f64 {
        self.base + self.trees.iter().map(|tree| f64::from(tree.predict(row))).sum::<f64>()
    }

    /// Returns what each feature adds to [`Forest::mean`]; together they make [`Forest::predict`].
    pub(crate) fn contributions(&self, row: &[f32; FEATURES.len()]) -> [f64; FEATURES.len()] {
        let mut contributions = [0.0; FEATURES.len()];
        for tree in &self.trees {
            tree.contribute(row, &mut contributions);
        }
        contributions
    }

    /// Returns the prediction for a house about which nothing is known.
    pub(crate) fn mean(&self) -> f64 {
        self.base + self.trees.iter().map(|tree| f64::from(tree.means[0])).sum::<f64>()
    }

    pub(crate) fn encode_trees(&self, bytes: &mut Vec<u8>) {
        for tree in &self.trees {
            tree.encode(bytes);
        }
    }

    /// Decodes the trees that fill `bytes` exactly; the error says which tree is wrong and why.
    pub(crate) fn decode_trees(bytes: &[u8]) -> Result<Vec<Tree>, String> {
        let (trees, rest) = bytes.as_chunks::<TREE_BYTES>();
        if !rest.is_empty() {
            return Err(format!("{} bytes of trees are not a multiple of {TREE_BYTES}", bytes.len()));
        }
        trees
            .iter()
            .enumerate()
            .map(|(index, tree)| Tree::decode(tree).map_err(|why| format!("tree {index} has {why}")))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(value: f32, cover: f32) -> Box<Branch> {
        Box::new(Branch::Leaf { value, cover })
    }

    fn split(feature: usize, threshold: f32, left: Box<Branch>, right: Box<Branch>) -> Box<Branch> {
        Box::new(Branch::Split { feature, threshold, left, right })
    }

    /// Below 1000 sqft: 1 (3 rows); else built before 1990: 2 (2 rows), otherwise 5 (1 row).
    fn small_tree() -> Tree {
        let root = split(0, 1000.0, leaf(1.0, 3.0), split(3, 1990.0, leaf(2.0, 2.0), leaf(5.0, 1.0)));
        Tree::lay_out(&root).expect("two levels fit")
    }

    #[test]
    fn a_value_below_the_threshold_goes_left_and_an_equal_one_right() {
        let forest = Forest { base: 10.0, trees: vec![small_tree()] };
        for (sqft, year, expected) in
            [(999.0, 2000.0, 11.0), (1000.0, 1989.0, 12.0), (1000.0, 1990.0, 15.0), (999.0, 1900.0, 11.0)]
        {
            assert_eq!(forest.predict(&[sqft, 1.0, 1.0, year, 3.0, 12.0]), expected, "{sqft} {year}");
        }
    }

    #[test]
    fn contributions_step_from_mean_to_mean_along_the_path() {
        let forest = Forest { base: 10.0, trees: vec![small_tree()] };
        assert_eq!(forest.mean(), 12.0, "10 + (3x1 + 2x2 + 1x5) / 6");
        let row = [2000.0, 1.0, 1.0, 2000.0, 3.0, 12.0];
        // 2 at the root, 3 for the large ones ((2x2 + 5) / 3), 5 for the large and new ones
        assert_eq!(forest.contributions(&row), [1.0, 0.0, 0.0, 2.0, 0.0, 0.0]);
    }

    #[test]
    fn a_tree_that_is_too_deep_is_refused() {
        let mut branch = leaf(1.0, 1.0);
        for _ in 0..=DEPTH {
            branch = split(0, 1.0, branch, leaf(1.0, 1.0));
        }
        assert!(Tree::lay_out(&branch).is_none());
    }

    #[test]
    fn trees_survive_encoding_and_damage_is_named() {
        let forest = Forest { base: 0.0, trees: vec![small_tree(), small_tree()] };
        let mut bytes = Vec::new();
        forest.encode_trees(&mut bytes);
        assert_eq!(Forest::decode_trees(&bytes).as_ref(), Ok(&forest.trees));

        let damaged = |at: usize, with: &[u8]| {
            let mut bytes = bytes.clone();
            bytes[at..at + with.len()].copy_from_slice(with);
            Forest::decode_trees(&bytes).expect_err("damaged")
        };
        assert_eq!(damaged(TREE_BYTES, &[6]), "tree 1 has a split on a feature that does not exist");
        assert_eq!(damaged(SPLITS, &f32::NAN.to_le_bytes()), "tree 0 has a threshold that is not a number");
        let last = 2 * TREE_BYTES - 4;
        assert_eq!(damaged(last, &f32::INFINITY.to_le_bytes()), "tree 1 has a value that is not finite");
        assert!(Forest::decode_trees(&bytes[1..]).is_err());
    }
}
