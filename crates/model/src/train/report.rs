//! Measures a model: errors and coverage on sales that it never saw.

use serde::{Deserialize, Serialize};

use super::Sale;
use crate::model::{Model, Prediction};

/// The measured quality of a model, stored in its file and shown at `/health`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Sales in the data.
    pub sales: usize,
    /// Sales that fitted the encoding and the trees.
    pub fitted: usize,
    /// Sales that calibrated the intervals.
    pub calibrated: usize,
    /// Sales that the rest of this report is measured on.
    pub tested: usize,
    /// Share of the variance of the price that the model explains, 0–1.
    pub r2: f64,
    /// Mean absolute error in dollars.
    pub mean_absolute_error: f64,
    /// Median absolute error as a share of the price.
    pub median_relative_error: f64,
    /// Share of prices within the interval where the zip code was given, 0–1.
    pub coverage_zip_code: f64,
    /// The same where only urban, suburban or rural was given.
    pub coverage_area: f64,
    /// Share of prices within ten percent of the prediction: the coverage of a fixed ±10 % interval.
    pub coverage_ten_percent: f64,
    /// Half-width of the interval in the logarithm of the price, by zip code.
    pub half_width_zip_code: f64,
    /// The same by area.
    pub half_width_area: f64,
}

/// Measures `model` on `sales`, which must not have trained it. The counts of the other parts are left at zero.
///
/// Sales at locations that the model does not know are left out.
pub(super) fn evaluate(model: &Model, sales: &[&Sale]) -> Report {
    let by_zip_code = predictions(model, sales, |sale| &sale.zip_code);
    let by_area = predictions(model, sales, |sale| &sale.area);
    let mean_price = by_zip_code.iter().map(|(price, _)| price).sum::<f64>() / by_zip_code.len() as f64;
    let squares = |error: &dyn Fn(&(f64, Prediction)) -> f64| {
        by_zip_code.iter().map(|pair| error(pair).powi(2)).sum::<f64>()
    };
    let location = |is_zip_code| crate::Location { log_price_mean: 0.0, is_zip_code };
    Report {
        tested: by_zip_code.len(),
        r2: round(
            1.0 - squares(&|(price, said)| price - said.price) / squares(&|(price, _)| price - mean_price),
            4,
        ),
        mean_absolute_error: round(mean(&by_zip_code, |price, said| (price - said.price).abs()), 0),
        median_relative_error: round(
            median(&by_zip_code, |price, said| ((price - said.price) / price).abs()),
            4,
        ),
        coverage_zip_code: round(share(&by_zip_code, is_covered), 4),
        coverage_area: round(share(&by_area, is_covered), 4),
        coverage_ten_percent: round(
            share(&by_zip_code, |price, said| (price - said.price).abs() <= 0.1 * said.price),
            4,
        ),
        half_width_zip_code: round(model.half_width(location(true)), 4),
        half_width_area: round(model.half_width(location(false)), 4),
        ..Report::default()
    }
}

type Pairs = [(f64, Prediction)];

fn predictions(model: &Model, sales: &[&Sale], location: fn(&Sale) -> &String) -> Vec<(f64, Prediction)> {
    let predict = |sale: &&Sale| {
        let location = model.location(location(sale))?;
        Some((sale.price, model.predict(&sale.house(location))))
    };
    sales.iter().filter_map(predict).collect()
}

fn is_covered(price: f64, said: &Prediction) -> bool {
    (said.interval[0]..=said.interval[1]).contains(&price)
}

fn mean(pairs: &Pairs, of: impl Fn(f64, &Prediction) -> f64) -> f64 {
    pairs.iter().map(|(price, said)| of(*price, said)).sum::<f64>() / pairs.len() as f64
}

fn share(pairs: &Pairs, holds: impl Fn(f64, &Prediction) -> bool) -> f64 {
    mean(pairs, |price, said| f64::from(u8::from(holds(price, said))))
}

fn median(pairs: &Pairs, of: impl Fn(f64, &Prediction) -> f64) -> f64 {
    let mut values: Vec<f64> = pairs.iter().map(|(price, said)| of(*price, said)).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Rounds to `digits` decimals; more than four mean nothing on 4,000 sales.
fn round(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}
