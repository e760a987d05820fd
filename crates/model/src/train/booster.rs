//! The only file that uses `forust-ml`: houses in, a [`Forest`] out.

use forust_ml::GradientBooster;
use forust_ml::data::Matrix;
use forust_ml::gradientbooster::GrowPolicy;
use forust_ml::objective::ObjectiveType;
use forust_ml::sampler::SampleMethod;
use forust_ml::tree::Tree as TrainedTree;

use crate::forest::{Branch, DEPTH, Forest, Tree};
use crate::house::{FEATURES, House};

/// Small steps and four fifths of the rows for each tree, against overfitting.
const LEARNING_RATE: f32 = 0.08;
const SUBSAMPLE: f32 = 0.8;
const SEED: u64 = 7;

/// Fits `trees` trees to `targets`, one for each house.
pub(super) fn fit(houses: &[House], targets: &[f64], trees: usize) -> Result<Forest, String> {
    let columns = columns(houses);
    let mut booster = GradientBooster::default()
        .set_objective_type(ObjectiveType::SquaredLoss)
        .set_iterations(trees)
        .set_learning_rate(LEARNING_RATE)
        .set_max_depth(DEPTH)
        .set_sample_method(SampleMethod::Random)
        .set_subsample(SUBSAMPLE)
        .set_seed(SEED)
        // One thread sums in one order, so the model has the same bytes every time.
        .set_parallel(false);
    booster.grow_policy = GrowPolicy::DepthWise;
    booster
        .fit_unweighted(&Matrix::new(&columns, houses.len(), FEATURES.len()), targets, None)
        .map_err(|error| error.to_string())?;
    lay_out(&booster)
}

/// Returns the features column by column, as the library reads them.
fn columns(houses: &[House]) -> Vec<f64> {
    let rows: Vec<_> = houses.iter().map(House::features).collect();
    (0..FEATURES.len()).flat_map(|feature| rows.iter().map(move |row| f64::from(row[feature]))).collect()
}

fn lay_out(booster: &GradientBooster) -> Result<Forest, String> {
    let trees = booster
        .trees
        .iter()
        .map(|tree| Tree::lay_out(&branch(tree, 0)).ok_or("a tree is deeper than asked for"))
        .collect::<Result<_, _>>()?;
    Ok(Forest { base: booster.base_score, trees })
}

fn branch(tree: &TrainedTree, index: usize) -> Branch {
    let node = &tree.nodes[index];
    if node.is_leaf {
        return Branch::Leaf { value: node.weight_value, cover: node.hessian_sum };
    }
    Branch::Split {
        feature: node.split_feature,
        threshold: node.split_value as f32,
        left: Box::new(branch(tree, node.left_child)),
        right: Box::new(branch(tree, node.right_child)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::house::Location;

    /// The flat layout predicts what the library predicts, for every training row.
    #[test]
    fn the_forest_predicts_what_the_library_does() {
        let houses: Vec<House> = (0..200)
            .map(|i| House {
                sqft: 500.0 + f64::from(i * 37 % 3000),
                bedrooms: i64::from(i % 5 + 1),
                bathrooms: f64::from(i % 9 + 1) / 4.0,
                year_built: i64::from(1900 + i * 7 % 115),
                condition: (i % 5 + 1) as u8,
                location: Location { log_price_mean: 12.0 + (i % 13) as f32 / 10.0, is_zip_code: true },
            })
            .collect();
        let targets: Vec<f64> =
            houses.iter().map(|house| house.sqft.ln() + f64::from(house.location.log_price_mean)).collect();
        let columns = columns(&houses);
        let mut booster = GradientBooster::default()
            .set_objective_type(ObjectiveType::SquaredLoss)
            .set_iterations(20)
            .set_max_depth(DEPTH)
            .set_parallel(false);
        let matrix = Matrix::new(&columns, houses.len(), FEATURES.len());
        booster.fit_unweighted(&matrix, &targets, None).expect("sound data");
        let forest = lay_out(&booster).expect("depth as asked");
        for (house, expected) in houses.iter().zip(booster.predict(&matrix, false)) {
            let row = house.features();
            let predicted = forest.predict(&row);
            assert!((predicted - expected).abs() < 1e-6, "{house:?}: {predicted} against {expected}");
            let explained = forest.mean() + forest.contributions(&row).iter().sum::<f64>();
            assert!((explained - predicted).abs() < 1e-5, "{house:?}: {explained} against {predicted}");
        }
    }
}
