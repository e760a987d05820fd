//! A trained model: prices with calibrated intervals, and the file format.
//!
//! # The interval
//!
//! Split conformal prediction: the trees never saw the calibration sales, so the 90th percentile of their errors there
//! (in the logarithm of the price) covers 90 % of new sales of the same kind, however wrong the model is. The width is
//! one factor for all houses, about ×0.7 to ×1.4; a fixed ±10 % would cover 44 % of the sales. A location given as
//! urban, suburban or rural says less than a zip code, so those houses get a wider interval.
//!
//! # The file
//!
//! Eight bytes of magic with the format's version, the length of the JSON header (`u32`, little-endian), the header
//! (locations, half-widths, the training report), then the trees (`forest.rs`). A model file is untrusted: everything is
//! checked before the first prediction.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::forest::{Forest, TREE_BYTES};
use crate::house::{FEATURES, House, Location};
use crate::train::Report;

const MAGIC: &[u8; 8] = b"FLYHPM\x00\x01";
/// The largest model file that is read: over 40,000 trees, 150 times what the embedded model needs.
pub(crate) const MODEL_BYTES_MAX: usize = 8 << 20;
static EMBEDDED: &[u8] = include_bytes!("../data/house-price.model");

/// Why a model file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The magic bytes are those of another format or version.
    #[error("not a house-price model of format 1; train one with this version")]
    NotAModel,
    /// The file is truncated, or larger than a model can be.
    #[error("the file is {bytes} bytes, but {expected}")]
    Length {
        /// The size of the file.
        bytes: usize,
        /// The limit that it breaks, as a clause.
        expected: String,
    },
    /// The JSON header cannot be parsed.
    #[error("the header is not readable")]
    Header(#[from] serde_json::Error),
    /// The model was trained on other features, or holds a number out of range.
    #[error("the model is not usable: {0}")]
    Unusable(String),
}

/// The predicted price of one house.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// The price in dollars.
    pub price: f64,
    /// The 90 % interval in dollars, lower end first.
    pub interval: [f64; 2],
}

/// The JSON header of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) features: Vec<String>,
    /// The value that the trees start from, as a logarithm of dollars.
    pub(crate) base: f64,
    /// Mean logarithm of the price by zip code.
    pub(crate) zip_codes: BTreeMap<String, f32>,
    /// The same for urban, suburban and rural.
    pub(crate) areas: BTreeMap<String, f32>,
    /// Half the interval, in the logarithm of the price, for houses located by zip code.
    pub(crate) half_width_zip_code: f64,
    /// The same for houses located by area.
    pub(crate) half_width_area: f64,
    pub(crate) report: Report,
}

/// A model ready to serve.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    header: Header,
    forest: Forest,
}

impl Model {
    /// Decodes the model that is built in, trained on `data/king_county_houses.csv.gz` by `train`.
    ///
    /// # Errors
    /// None in a released program: a test decodes the same bytes.
    pub fn embedded() -> Result<Self, ModelError> {
        Self::decode(EMBEDDED)
    }

    pub(crate) fn assemble(header: Header, forest: Forest) -> Result<Self, ModelError> {
        header.check()?;
        Ok(Self { header, forest })
    }

    /// Decodes the output of [`Model::encode`].
    ///
    /// # Errors
    /// Fails on anything that would break a later prediction: a wrong version, truncation, other features, values that
    /// are not finite.
    pub fn decode(bytes: &[u8]) -> Result<Self, ModelError> {
        if bytes.len() > MODEL_BYTES_MAX {
            let expected = format!("at most {MODEL_BYTES_MAX} are allowed");
            return Err(ModelError::Length { bytes: bytes.len(), expected });
        }
        let rest = bytes.strip_prefix(MAGIC).ok_or(ModelError::NotAModel)?;
        let (header, trees) = split_header(rest).ok_or_else(|| ModelError::Length {
            bytes: bytes.len(),
            expected: "the header is longer".into(),
        })?;
        let header: Header = serde_json::from_slice(header)?;
        let trees = Forest::decode_trees(trees).map_err(ModelError::Unusable)?;
        let forest = Forest { base: header.base, trees };
        Self::assemble(header, forest)
    }

    /// Returns the bytes of the model file; the same model always makes the same bytes.
    pub fn encode(&self) -> Vec<u8> {
        let header = serde_json::to_vec(&self.header).expect("string keys and finite numbers are JSON");
        let mut bytes = Vec::with_capacity(12 + header.len() + self.forest.trees.len() * TREE_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&(header.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&header);
        self.forest.encode_trees(&mut bytes);
        bytes
    }

    /// Looks up a King County zip code, or urban, suburban or rural in any case; `None` for anything else.
    pub fn location(&self, location: &str) -> Option<Location> {
        let location = location.trim();
        if let Some(&log_price_mean) = self.header.zip_codes.get(location) {
            return Some(Location { log_price_mean, is_zip_code: true });
        }
        let (_, &log_price_mean) =
            self.header.areas.iter().find(|(area, _)| area.eq_ignore_ascii_case(location))?;
        Some(Location { log_price_mean, is_zip_code: false })
    }

    /// Predicts the price of a house, with the interval that holds it nine times in ten.
    pub fn predict(&self, house: &House) -> Prediction {
        let log_price = self.forest.predict(&house.features());
        let half_width = self.half_width(house.location);
        Prediction {
            price: log_price.exp(),
            interval: [(log_price - half_width).exp(), (log_price + half_width).exp()],
        }
    }

    /// Returns the contribution of each of [`FEATURES`] to the logarithm of the price: `exp(c)` is the factor. With
    /// [`Model::base`] they add up to the logarithm of the predicted price.
    pub fn contributions(&self, house: &House) -> [f64; FEATURES.len()] {
        self.forest.contributions(&house.features())
    }

    /// Returns the logarithm of the price before anything is known about the house.
    pub fn base(&self) -> f64 {
        self.forest.mean()
    }

    /// Returns half of the interval, in the logarithm of the price.
    pub(crate) fn half_width(&self, location: Location) -> f64 {
        if location.is_zip_code { self.header.half_width_zip_code } else { self.header.half_width_area }
    }

    /// Returns the quality measured on sales that the model never saw.
    pub fn report(&self) -> &Report {
        &self.header.report
    }

    pub(crate) fn tree_count(&self) -> usize {
        self.forest.trees.len()
    }
}

impl Header {
    fn check(&self) -> Result<(), ModelError> {
        let unusable = |why: &str| Err(ModelError::Unusable(why.to_owned()));
        if self.features != FEATURES {
            return unusable(&format!("it was trained on {:?}, but {FEATURES:?} are served", self.features));
        }
        let means = self.zip_codes.values().chain(self.areas.values());
        if !self.base.is_finite() || means.into_iter().any(|mean| !mean.is_finite()) {
            return unusable("a starting value or location is not finite");
        }
        let half_widths = [self.half_width_zip_code, self.half_width_area];
        if half_widths.iter().any(|width| !(width.is_finite() && *width >= 0.0)) {
            return unusable("an interval has no width");
        }
        Ok(())
    }
}

/// Splits the header's bytes from those that follow it; `None` if the file ends before.
fn split_header(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}
