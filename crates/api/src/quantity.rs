//! `resource.Quantity`: the amounts of Kubernetes, such as `500m`, `1.5Gi` and `1e3`, read and written
//! exactly.
//!
//! The rules are those of `k8s.io/apimachinery/pkg/api/resource`: an amount is kept to a billionth, rounded
//! up (away from zero) when it is written more finely, since who asks for a little should not get nothing; it
//! remembers whether it was written with decimal suffixes, binary suffixes or an exponent; and it is written
//! back with the largest suffix that loses nothing. Comparing ignores how an amount was written.

use std::cmp::Ordering;
use std::fmt;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use thiserror::Error;

const NANOS_PER_UNIT: i128 = 1_000_000_000;
const NANOS_PER_MILLI: i128 = 1_000_000;

/// Amounts with a binary suffix are capped here, as Kubernetes caps them.
const BINARY_NANOS_MAX: i128 = i64::MAX as i128 * NANOS_PER_UNIT;

/// No real amount needs more; it keeps error messages and work short.
const TEXT_LENGTH_MAX: usize = 128;

/// An exact amount and the way it is written.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// Which suffixes an amount is written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `n u m k M G T P E`: powers of 1000.
    DecimalSi,
    /// `Ki Mi Gi Ti Pi Ei`: powers of 1024.
    BinarySi,
    /// `e3`, `e6`: powers of 1000 in digits.
    DecimalExponent,
}

/// Why a text is not an amount.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum QuantityError {
    /// Not a number followed by a suffix.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// The number is followed by something else than a suffix.
    #[error("unable to parse quantity's suffix")]
    Suffix,
    /// More than can be represented.
    #[error("quantity is too large: at most 10^29 can be represented")]
    TooLarge,
}

impl Quantity {
    /// So many thousandths.
    pub fn from_milli(milli: i64, format: Format) -> Self {
        Self { nanos: i128::from(milli) * NANOS_PER_MILLI, format }
    }

    /// So many whole units.
    pub fn from_units(units: i64, format: Format) -> Self {
        Self { nanos: i128::from(units) * NANOS_PER_UNIT, format }
    }

    /// Reads an amount.
    ///
    /// # Errors
    /// If the text is not a number with a known suffix, or the amount is beyond 10^29.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        if text.len() > TEXT_LENGTH_MAX {
            return Err(QuantityError::TooLarge);
        }
        let (negative, unsigned) = match text.strip_prefix(['+', '-']) {
            Some(rest) => (text.starts_with('-'), rest),
            None => (false, text),
        };
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || whole.len() + fraction.len() == 0 {
            return Err(QuantityError::Format);
        }
        let (scale, mut format) = Scale::parse(suffix)?;
        let mut nanos = scale.nanos(whole, fraction)?;
        if format == Format::BinarySi {
            nanos = nanos.min(BINARY_NANOS_MAX);
            if nanos < NANOS_PER_UNIT {
                format = Format::DecimalSi;
            }
        }
        Ok(Self { nanos: if negative { -nanos } else { nanos }, format })
    }

    /// Whole units, rounded away from zero.
    pub fn value(self) -> i64 {
        divide_away_from_zero(self.nanos, NANOS_PER_UNIT)
    }

    /// Thousandths, rounded away from zero.
    pub fn milli_value(self) -> i64 {
        divide_away_from_zero(self.nanos, NANOS_PER_MILLI)
    }

    /// The nearest floating-point number.
    pub fn as_f64(self) -> f64 {
        self.nanos as f64 / NANOS_PER_UNIT as f64
    }

    /// How the amount is written.
    pub fn format(self) -> Format {
        self.format
    }
}

/// Rounds up in magnitude and stays within 64 bits.
fn divide_away_from_zero(nanos: i128, unit: i128) -> i64 {
    let quotient = nanos / unit + (nanos % unit).signum();
    i64::try_from(quotient).unwrap_or(if quotient > 0 { i64::MAX } else { i64::MIN })
}

/// What a suffix multiplies by.
#[derive(Clone, Copy)]
enum Scale {
    /// A power of ten.
    Ten(i32),
    /// A power of two.
    Two(u32),
}

impl Scale {
    fn parse(suffix: &str) -> Result<(Self, Format), QuantityError> {
        if let Some(power) = BINARY_SUFFIXES.iter().position(|&known| known == suffix && !known.is_empty()) {
            return Ok((Self::Two(10 * power as u32), Format::BinarySi));
        }
        if let Some(&(power, _)) = DECIMAL_SUFFIXES.iter().find(|&&(_, known)| known == suffix) {
            return Ok((Self::Ten(power), Format::DecimalSi));
        }
        match suffix.strip_prefix(['e', 'E']).map(str::parse::<i32>) {
            Some(Ok(power)) => Ok((Self::Ten(power), Format::DecimalExponent)),
            _ if suffix.chars().all(|c| "eEinumkKMGTP+-0123456789".contains(c)) => Err(QuantityError::Suffix),
            _ => Err(QuantityError::Format),
        }
    }

    /// The number in billionths, rounded up.
    fn nanos(self, whole: &str, fraction: &str) -> Result<i128, QuantityError> {
        match self {
            Self::Ten(power) => decimal_nanos(whole, fraction, i64::from(power)),
            Self::Two(power) => binary_nanos(whole, fraction, power),
        }
    }
}

/// Moves the decimal point; what is left behind it rounds up.
fn decimal_nanos(whole: &str, fraction: &str, power: i64) -> Result<i128, QuantityError> {
    let digits = format!("{whole}{fraction}");
    if digits.bytes().all(|digit| digit == b'0') {
        return Ok(0);
    }
    let point = whole.len() as i64 + power + 9;
    let cut = usize::try_from(point).unwrap_or(0).min(digits.len());
    let zeros = u32::try_from((point - cut as i64).max(0)).map_err(|_| QuantityError::TooLarge)?;
    let scale = 10i128.checked_pow(zeros).ok_or(QuantityError::TooLarge)?;
    let kept = parse_digits(&digits[..cut])?.checked_mul(scale).ok_or(QuantityError::TooLarge)?;
    let lost = digits[cut..].bytes().any(|digit| digit != b'0');
    kept.checked_add(i128::from(lost)).ok_or(QuantityError::TooLarge)
}

/// Multiplies by a power of two; the fraction is multiplied digit by digit from the last, which is exact.
fn binary_nanos(whole: &str, fraction: &str, power: u32) -> Result<i128, QuantityError> {
    let unit = NANOS_PER_UNIT << power;
    let mut behind = 0i128;
    let mut lost = false;
    for digit in fraction.bytes().rev() {
        let sum = i128::from(digit - b'0') * unit + behind;
        lost |= sum % 10 != 0;
        behind = sum / 10;
    }
    let capped =
        parse_digits(whole).ok().and_then(|units| units.checked_mul(unit)).unwrap_or(BINARY_NANOS_MAX);
    Ok(capped.saturating_add(behind + i128::from(lost)))
}

fn parse_digits(digits: &str) -> Result<i128, QuantityError> {
    if digits.is_empty() { Ok(0) } else { digits.parse().map_err(|_| QuantityError::TooLarge) }
}

const DECIMAL_SUFFIXES: [(i32, &str); 10] =
    [(18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k"), (0, ""), (-3, "m"), (-6, "u"), (-9, "n")];

const BINARY_SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let large = self.nanos.abs() >= 1024 * NANOS_PER_UNIT;
        if self.format == Format::BinarySi && large && self.nanos % NANOS_PER_UNIT == 0 {
            let mut units = self.nanos / NANOS_PER_UNIT;
            let mut power = 0;
            while units % 1024 == 0 && power + 1 < BINARY_SUFFIXES.len() {
                units /= 1024;
                power += 1;
            }
            return write!(f, "{units}{}", BINARY_SUFFIXES[power]);
        }
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let (power, suffix) = DECIMAL_SUFFIXES
            .into_iter()
            .find(|&(power, _)| self.nanos % 10i128.pow((power + 9) as u32) == 0)
            .expect("a billionth divides every amount");
        let number = self.nanos / 10i128.pow((power + 9) as u32);
        match self.format {
            Format::DecimalExponent if power != 0 => write!(f, "{number}e{power}"),
            _ => write!(f, "{number}{suffix}"),
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl TryFrom<&Text> for Quantity {
    type Error = QuantityError;

    fn try_from(text: &Text) -> Result<Self, QuantityError> {
        Self::parse(&text.0)
    }
}

impl From<Quantity> for Text {
    fn from(quantity: Quantity) -> Self {
        Text(quantity.to_string())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_are_written_canonically() {
        for (text, canonical, milli) in [
            ("0", "0", 0),
            ("-0", "0", 0),
            ("1", "1", 1_000),
            ("+1", "1", 1_000),
            ("0.5", "500m", 500),
            (".5", "500m", 500),
            ("5.", "5", 5_000),
            ("1500m", "1500m", 1_500),
            ("2000m", "2", 2_000),
            ("1500", "1500", 1_500_000),
            ("2000", "2k", 2_000_000),
            ("1e3", "1e3", 1_000_000),
            ("1E3", "1e3", 1_000_000),
            ("15e2", "1500", 1_500_000),
            ("100e-3", "100e-3", 100),
            ("1E", "1E", i64::MAX),
            ("10E", "10E", i64::MAX),
            ("0.1m", "100u", 1),
            ("1u", "1u", 1),
            ("1n", "1n", 1),
            ("0.1n", "1n", 1),
            ("-0.1n", "-1n", -1),
            ("-1.5", "-1500m", -1_500),
            ("12345678n", "12345678n", 13),
            ("64Mi", "64Mi", 67_108_864_000),
            ("1.5Gi", "1536Mi", 1_610_612_736_000),
            ("1024Ki", "1Mi", 1_048_576_000),
            ("0.5Ki", "512", 512_000),
            ("0.0001Ki", "102400u", 103),
            ("1000Ki", "1000Ki", 1_024_000_000),
            ("1500000000", "1500M", 1_500_000_000_000),
            ("8Ei", "9223372036854775807", i64::MAX),
            ("1.1Ki", "1126400m", 1_126_400),
        ] {
            let quantity = Quantity::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(quantity.to_string(), canonical, "{text}");
            assert_eq!(quantity.milli_value(), milli, "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        use QuantityError::{Format, Suffix, TooLarge};
        for (text, error) in [
            ("", Format),
            (".", Format),
            ("m", Format),
            ("-", Format),
            ("1.1.M", Format),
            ("1 Gi", Format),
            (" 1", Format),
            ("abc", Format),
            ("NaN", Format),
            ("1mi", Suffix),
            ("1i", Suffix),
            ("1K", Suffix),
            ("1KI", Format),
            ("1e", Suffix),
            ("1e-", Suffix),
            ("1e1.5", Format),
            ("--1", Format),
            ("1e30", TooLarge),
            ("1e2147483647", TooLarge),
            ("99999999999999999999999999999999999999999", TooLarge),
        ] {
            assert_eq!(Quantity::parse(text), Err(error), "{text:?}");
        }
        assert_eq!(Quantity::parse(&"1".repeat(1_000)), Err(TooLarge));
    }

    #[test]
    fn binary_amounts_are_shown_binary_only_where_that_is_exact() {
        for (quantity, text) in [
            (Quantity::from_units(1 << 30, Format::BinarySi), "1Gi"),
            (Quantity::from_units(1_500_000_000, Format::BinarySi), "1500000000"),
            (Quantity::from_units(1_000, Format::BinarySi), "1k"),
            (Quantity::from_units(-2048, Format::BinarySi), "-2Ki"),
            (Quantity::from_milli(123_456_789_500, Format::BinarySi), "123456789500m"),
            (Quantity::from_milli(94, Format::DecimalSi), "94m"),
            (Quantity::from_milli(-20_000, Format::DecimalSi), "-20"),
        ] {
            assert_eq!(quantity.to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}") {
            let _ = Quantity::parse(&text);
        }

        #[test]
        fn what_is_written_reads_the_same(
            text in "[+-]?[0-9]{1,9}(\\.[0-9]{0,12})?(n|u|m|k|M|G|T|P|Ki|Mi|Gi|Ti|e-?[0-9]|E)?",
        ) {
            let quantity = Quantity::parse(&text).expect("a well-formed amount");
            let written = quantity.to_string();
            let again = Quantity::parse(&written).expect("what was written");
            prop_assert_eq!(again, quantity);
            prop_assert_eq!(again.to_string(), written);
        }

        #[test]
        fn rounding_never_loses_an_amount(milli in any::<i64>(), nanos in -999_999i128..1_000_000) {
            let quantity = Quantity { nanos: i128::from(milli) * NANOS_PER_MILLI + nanos, format: Format::DecimalSi };
            let rounded = Quantity::from_milli(quantity.milli_value(), Format::DecimalSi);
            prop_assert!(quantity.milli_value() == i64::MAX || quantity.milli_value() == i64::MIN
                || rounded.nanos.abs() >= quantity.nanos.abs());
            prop_assert!((rounded.nanos - quantity.nanos).abs() < NANOS_PER_MILLI);
        }
    }
}
