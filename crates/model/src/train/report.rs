//! What a model is worth: errors and coverage on sales it never saw.

use serde::{Deserialize, Serialize};

use super::Sale;
use crate::model::{Model, Prediction};

/// The measured quality of a model. Kept in its file and shown at `/health`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Sales in the data.
    pub sales: usize,
    /// Of them, the trees learnt from this many,
    pub fitted: usize,
    /// the intervals from this many,
    pub calibrated: usize,
    /// and the rest of this report is about these.
    pub tested: usize,
    /// Share of the variance of the price that is explained, 0–1.
    pub r2: f64,
    /// Dollars.
    pub mean_absolute_error: f64,
    /// Half of the predictions are closer than this share of the price.
    pub median_relative_error: f64,
    /// Share of prices within the interval where the zip code was given, 0–1.
    pub coverage_zip_code: f64,
    /// The same where only urban, suburban or rural was given.
    pub coverage_area: f64,
    /// Share of prices within ten percent of the prediction: what a made-up ±10 % interval would hold.
    pub coverage_ten_percent: f64,
    /// Half-width of the interval in the logarithm of the price, by zip code.
    pub half_width_zip_code: f64,
    /// The same by area.
    pub half_width_area: f64,
}

/// Measures `model` on `sales`, which it must not have learnt from. The counts of other parts are left at zero.
///
/// Sales at places the model does not know are left out.
pub(super) fn evaluate(model: &Model, sales: &[&Sale]) -> Report {
    let by_zip_code = predictions(model, sales, |sale| &sale.zip_code);
    let by_area = predictions(model, sales, |sale| &sale.area);
    let mean_price = by_zip_code.iter().map(|(price, _)| price).sum::<f64>() / by_zip_code.len() as f64;
    let squares = |error: &dyn Fn(&(f64, Prediction)) -> f64| {
        by_zip_code.iter().map(|pair| error(pair).powi(2)).sum::<f64>()
    };
    let place = |is_zip_code| crate::Place { log_price_mean: 0.0, is_zip_code };
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
        half_width_zip_code: round(model.half_width(place(true)), 4),
        half_width_area: round(model.half_width(place(false)), 4),
        ..Report::default()
    }
}

type Pairs = [(f64, Prediction)];

fn predictions(model: &Model, sales: &[&Sale], location: fn(&Sale) -> &String) -> Vec<(f64, Prediction)> {
    let predict = |sale: &&Sale| {
        let place = model.place(location(sale))?;
        Some((sale.price, model.predict(&sale.house(place))))
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

/// Four digits are what 4,000 sales can tell.
fn round(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}
