//! Quantities as the HorizontalPodAutoscaler computes with them: whole thousandths in an `i64`
//! (`pkg/controller/podautoscaler`). All arithmetic saturates, so no measured value can overflow a decision.

use std::fmt;
use std::iter::Sum;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An amount in thousandths: 1500 is 1.5 CPUs, 83.2 requests are 83200.
///
/// Written and read as a number of wholes, so that nobody outside has to know the unit: 1.5, 83.2. One with more digits
/// than a float holds is written as text: "1024819115206086.077".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Milli(i64);

impl Serialize for Milli {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if Self::from_f64(self.as_f64()) != *self {
            serializer.collect_str(self)
        } else if self.0 % 1000 == 0 {
            serializer.serialize_i64(self.0 / 1000)
        } else {
            serializer.serialize_f64(self.as_f64())
        }
    }
}

impl<'de> Deserialize<'de> for Milli {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match NumberOrText::deserialize(deserializer)? {
            NumberOrText::Number(value) => Ok(Self::from_f64(value)),
            NumberOrText::Text(text) => {
                Self::from_text(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is no amount")))
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(f64),
    Text(String),
}

impl Milli {
    /// That many thousandths.
    pub const fn new(thousandths: i64) -> Self {
        Self(thousandths)
    }

    /// The nearest thousandth. What is not a number, infinite or negative counts as zero, as KEDA has it
    /// (`GenerateMetricInMili`): such a value is no amount of load.
    pub fn from_reading(value: f64) -> Self {
        if value.is_finite() && value > 0.0 { Self::from_f64(value) } else { Self(0) }
    }

    /// The nearest thousandth of any number; NaN is zero and the ends saturate.
    pub fn from_f64(value: f64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "float to integer casts saturate")]
        Self((value * 1000.0).round_ties_even() as i64)
    }

    /// What `Display` writes; none for anything else.
    fn from_text(text: &str) -> Option<Self> {
        let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
        let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
        let unsigned = whole.strip_prefix('-').unwrap_or(whole);
        if rest.len() > 3 || !is_number(rest) || unsigned.is_empty() || !is_number(unsigned) {
            return None;
        }
        format!("{whole}{rest:0<3}").parse().ok().map(Self)
    }

    /// In thousandths.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// As a number of wholes.
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }
}

impl Sum for Milli {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        Self(iter.fold(0, |sum, milli| sum.saturating_add(milli.0)))
    }
}

impl fmt::Display for Milli {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, size) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        let (whole, rest) = (size / 1000, size % 1000);
        if rest == 0 {
            return write!(f, "{sign}{whole}");
        }
        let digits = format!("{rest:03}");
        write!(f, "{sign}{whole}.{}", digits.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_thousandths() {
        let table = [
            (0.0, 0, "0"),
            (83.2, 83_200, "83.2"),
            (0.0004, 0, "0"),
            (0.0625, 62, "0.062"),
            (-1.5, 0, "0"),
            (f64::NAN, 0, "0"),
            (f64::INFINITY, 0, "0"),
            (f64::NEG_INFINITY, 0, "0"),
            (f64::MAX, i64::MAX, "9223372036854775.807"),
        ];
        for (value, thousandths, text) in table {
            let milli = Milli::from_reading(value);
            assert_eq!((milli.get(), milli.to_string().as_str()), (thousandths, text), "{value}");
        }
        assert_eq!(Milli::from_f64(-1.5).to_string(), "-1.5");
        assert_eq!(Milli::new(i64::MIN).to_string(), "-9223372036854775.808");
    }

    #[test]
    fn every_amount_is_read_back_as_it_was_written() {
        for (thousandths, json) in [
            (83_200, "83.2"),
            (-1500, "-1.5"),
            (2000, "2"),
            (i64::MAX, "9223372036854776.0"), // reading saturates
            (i64::MIN, "-9223372036854776.0"),
            (1_024_819_115_206_086_077, "\"1024819115206086.077\""),
        ] {
            let milli = Milli::new(thousandths);
            assert_eq!(serde_json::to_string(&milli).expect("an amount can be written"), json);
            assert_eq!(serde_json::from_str::<Milli>(json).expect("and read"), milli);
        }
        for wrong in ["\"\"", "\"1.2345\"", "\"1.-2\"", "\"many\"", "\"99999999999999999999\""] {
            assert!(serde_json::from_str::<Milli>(wrong).is_err(), "{wrong}");
        }
    }
}
