//! A house as the model sees it: six numbers in a fixed order.
//!
//! Every `House` is one that the model can price: [`crate::input`] checks the ranges, and a [`Location`] only comes from
//! a model that knows it.

use std::ops::RangeInclusive;

/// The names of the features, in the order in which the trees read them.
pub const FEATURES: [&str; 6] = ["sqft", "bedrooms", "bathrooms", "year_built", "condition", "location"];

/// The accepted years of construction; wider than in the sales (1900–2015), because trees extrapolate flat.
pub(crate) const BUILD_YEARS: RangeInclusive<i64> = 1800..=2030;

/// What a model knows about a location, from [`Model::location`](crate::Model::location).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Location {
    /// The mean logarithm of the prices paid there, drawn towards the overall mean where sales are few.
    pub log_price_mean: f32,
    /// True for a zip code, false for the coarse urban, suburban and rural, which widen the interval.
    pub is_zip_code: bool,
}

/// A house to price.
#[derive(Clone, Debug, PartialEq)]
pub struct House {
    /// Living area in square feet, above 0.
    pub sqft: f64,
    /// At least 1.
    pub bedrooms: i64,
    /// Above 0, in quarters (a half bath is 0.5).
    pub bathrooms: f64,
    /// 1800 to 2030.
    pub year_built: i64,
    /// The assessor's grade: 1 poor, 2 fair, 3 average, 4 good, 5 very good.
    pub condition: u8,
    /// The location, as the model encodes it.
    pub location: Location,
}

impl House {
    /// Returns the row that the trees read. `f32` holds every value of the training data exactly, so each split falls as
    /// it did in training.
    pub(crate) fn features(&self) -> [f32; FEATURES.len()] {
        [
            self.sqft as f32,
            self.bedrooms as f32,
            self.bathrooms as f32,
            self.year_built as f32,
            f32::from(self.condition),
            self.location.log_price_mean,
        ]
    }

    /// Returns the grade for one of the assessor's words, in any case; `excellent`, which the assessor does not use, is
    /// the best grade.
    pub(crate) fn condition_of_word(word: &str) -> Option<u8> {
        let word = word.trim();
        let grade = CONDITION_WORDS.iter().position(|known| known.eq_ignore_ascii_case(word))?;
        Some((grade as u8 + 1).min(5))
    }
}

/// The words for the conditions from 1 upwards; the last two mean the same grade.
pub(crate) const CONDITION_WORDS: [&str; 6] = ["poor", "fair", "average", "good", "very good", "excellent"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_the_assessors_words() {
        for (word, grade) in [
            ("poor", Some(1)),
            ("Fair", Some(2)),
            (" average ", Some(3)),
            ("GOOD", Some(4)),
            ("very good", Some(5)),
            ("Excellent", Some(5)),
            ("", None),
            ("verygood", None),
            ("3", None),
        ] {
            assert_eq!(House::condition_of_word(word), grade, "{word:?}");
        }
    }
}
