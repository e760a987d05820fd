//! From sales to a model: split, fit, calibrate, test, report.
//!
//! # What is trained
//!
//! Gradient boosting on the logarithm of the price (300 trees of depth four, `forust-ml`), six features. `location` is
//! the zip code, encoded as the mean logarithm of the prices paid there, drawn towards the overall mean as if ten more
//! sales had been average, so that a zip code with two sales is not fitted to those two.
//!
//! # Which sales are used for what
//!
//! The sales are shuffled with a fixed seed. A fifth is the test set, a fifth the calibration set; the rest fits the
//! encoding and the trees. The half-widths come from the calibration sales only, the report from the test sales only, so
//! its coverage is that of sales the model has not seen.
//!
//! # Guarantees
//!
//! The same file makes the same model, byte for byte: one thread, fixed seeds, ordered maps.

mod booster;
mod report;
mod sales;

use std::collections::BTreeMap;
use std::path::Path;

use crate::forest::Forest;
use crate::house::{FEATURES, House, Location};
use crate::model::{Header, Model, ModelError};

pub use report::Report;
use report::evaluate;
pub use sales::{Sale, SalesError, read_sales};

/// The share of sales an interval must hold.
pub const COVERAGE: f64 = 0.9;
/// Fewer sales leave too few in each part: a 90 % interval needs at least nine to calibrate on, and a zip code needs
/// several.
pub const SALES_MIN: usize = 100;
/// How many average sales are added to each location.
const PRIOR_SALES: f64 = 10.0;
const SHUFFLE_SEED: u64 = 7;

/// Why training failed.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The sales cannot be used.
    #[error(transparent)]
    Sales(#[from] SalesError),
    /// There are fewer than [`SALES_MIN`] sales.
    #[error("{sales} sales are too few: at least {SALES_MIN} are needed")]
    TooFew {
        /// The number of sales.
        sales: usize,
    },
    /// The boosting library failed.
    #[error("boosting failed: {0}")]
    Boosting(String),
    /// The trained model fails the checks of a model file.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Parameters of the training. The default is that of the embedded model.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Boosting rounds, one tree each.
    pub trees: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { trees: 300 }
    }
}

/// Reads the sales of `path` (CSV, or CSV in gzip) and trains on them.
///
/// # Errors
/// An unreadable file, invalid rows (all of them named, up to a limit), or too few sales.
pub fn train_file(path: &Path, settings: Settings) -> Result<Model, TrainError> {
    train(&sales::read_file(path)?, settings)
}

/// Trains on `sales`, calibrates the intervals and measures the result.
///
/// # Errors
/// Too few sales, or prices the boosting library refuses.
pub fn train(sales: &[Sale], settings: Settings) -> Result<Model, TrainError> {
    if sales.len() < SALES_MIN {
        return Err(TrainError::TooFew { sales: sales.len() });
    }
    let parts = Parts::of(sales);
    let (zip_codes, areas) = encode_locations(sales, &parts.fit);
    let forest = fit_forest(&parts.fit, &zip_codes, settings)?;
    let header = Header {
        features: FEATURES.map(str::to_owned).to_vec(),
        base: forest.base,
        half_width_zip_code: half_width(&forest, &parts.calibrate, |sale| {
            zip_code_location(sale, &zip_codes)
        }),
        half_width_area: half_width(&forest, &parts.calibrate, |sale| area_location(sale, &areas)),
        zip_codes,
        areas,
        report: Report::default(),
    };
    let model = Model::assemble(header.clone(), forest.clone())?;
    let report = Report {
        sales: sales.len(),
        fitted: parts.fit.len(),
        calibrated: parts.calibrate.len(),
        ..evaluate(&model, &parts.test)
    };
    Ok(Model::assemble(Header { report, ..header }, forest)?)
}

/// The sales by their use.
struct Parts<'a> {
    /// Three fifths: the trees and the location encoding learn from these.
    fit: Vec<&'a Sale>,
    /// A fifth: the half-widths of the intervals come from these.
    calibrate: Vec<&'a Sale>,
    /// A fifth: the report is measured on these.
    test: Vec<&'a Sale>,
}

impl<'a> Parts<'a> {
    /// Splits the sales; the same sales always give the same split.
    fn of(sales: &'a [Sale]) -> Self {
        let mut shuffled: Vec<&Sale> = sales.iter().collect();
        shuffle(&mut shuffled, SHUFFLE_SEED);
        let fifth = sales.len() / 5;
        let fit = shuffled.split_off(2 * fifth);
        let calibrate = shuffled.split_off(fifth);
        Self { fit, calibrate, test: shuffled }
    }
}

/// Shuffles by Fisher–Yates, driven by SplitMix64. A negligible bias matters less than depending on a random number crate
/// whose sequence may change with its version.
fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut state = seed;
    let mut random = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    };
    for last in (1..items.len()).rev() {
        items.swap(last, (random() % (last as u64 + 1)) as usize);
    }
}

type Encoding = BTreeMap<String, f32>;

/// Returns the mean logarithm of the price of each zip code and of each area. An area's mean is over its sales: it is
/// what is known about a house of which only the area is given.
fn encode_locations(all: &[Sale], fit: &[&Sale]) -> (Encoding, Encoding) {
    let overall = fit.iter().map(|sale| sale.price.ln()).sum::<f64>() / fit.len() as f64;
    let encode = |name: fn(&Sale) -> &String| {
        let mut sums: BTreeMap<String, (f64, f64)> =
            all.iter().map(|sale| (name(sale).clone(), (0.0, 0.0))).collect();
        for sale in fit {
            let (sum, count) = sums.get_mut(name(sale)).expect("every fitted sale is one of all sales");
            *sum += sale.price.ln();
            *count += 1.0;
        }
        let mean = |(sum, count)| ((sum + PRIOR_SALES * overall) / (count + PRIOR_SALES)) as f32;
        sums.into_iter().map(|(name, sums)| (name, mean(sums))).collect()
    };
    (encode(|sale| &sale.zip_code), encode(|sale| &sale.area))
}

fn zip_code_location(sale: &Sale, zip_codes: &Encoding) -> Location {
    Location { log_price_mean: zip_codes[&sale.zip_code], is_zip_code: true }
}

fn area_location(sale: &Sale, areas: &Encoding) -> Location {
    Location { log_price_mean: areas[&sale.area], is_zip_code: false }
}

fn fit_forest(fit: &[&Sale], zip_codes: &Encoding, settings: Settings) -> Result<Forest, TrainError> {
    let houses: Vec<House> = fit.iter().map(|sale| sale.house(zip_code_location(sale, zip_codes))).collect();
    let log_prices: Vec<f64> = fit.iter().map(|sale| sale.price.ln()).collect();
    booster::fit(&houses, &log_prices, settings.trees).map_err(TrainError::Boosting)
}

/// Returns the `ceil((n + 1) * COVERAGE)`-th smallest error on the calibration sales: the finite-sample quantile of split
/// conformal prediction (Vovk; Lei et al. 2018).
fn half_width(forest: &Forest, calibrate: &[&Sale], location: impl Fn(&Sale) -> Location) -> f64 {
    let mut errors: Vec<f64> = calibrate
        .iter()
        .map(|sale| (sale.price.ln() - forest.predict(&sale.house(location(sale)).features())).abs())
        .collect();
    errors.sort_by(f64::total_cmp);
    let rank = ((errors.len() + 1) as f64 * COVERAGE).ceil() as usize;
    errors[rank.min(errors.len()) - 1]
}

#[cfg(test)]
mod tests;
