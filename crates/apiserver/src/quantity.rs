//! Kubernetes quantities (`100m`, `64Mi`, `1e3`): exact parsing, comparison, and canonical formatting.
//!
//! A quantity is an integer number of nano-units; like apimachinery, parsing rounds anything finer up. The
//! canonical form uses the largest suffix that needs no fraction, in the family (decimal, binary, exponent) of the
//! input.

use std::cmp::Ordering;

const NANOS: i128 = 1_000_000_000;
/// Maximum number of whole units (apimachinery caps at 2^63 - 1).
const WHOLE_MAX: i128 = i64::MAX as i128;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Decimal,
    Binary,
    Exponent,
}

/// A parsed quantity, with its suffix family.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quantity {
    nanos: i128,
    family: Family,
}

const DECIMAL: [(&str, i32); 10] =
    [("E", 18), ("P", 15), ("T", 12), ("G", 9), ("M", 6), ("k", 3), ("", 0), ("m", -3), ("u", -6), ("n", -9)];
const BINARY: [(&str, u32); 6] = [("Ei", 60), ("Pi", 50), ("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)];

impl Quantity {
    /// Parses a quantity; errors have apimachinery's message.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        Self::read(text).ok_or_else(|| {
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
                .to_owned()
        })
    }

    fn read(text: &str) -> Option<Self> {
        let (negative, rest) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.len() + fraction.len() == 0 || fraction.contains('.') || whole.len() > 30 {
            return None;
        }
        let (family, power_of_ten, factor) = unit(suffix)?;
        let kept = fraction.get(..fraction.len().min(18))?;
        let digits: i128 = format!("0{whole}{kept}").parse().ok()?;
        // value = digits × factor × 10^(power - fraction digits); nano-units need another 10^9.
        let shift = power_of_ten - i32::try_from(kept.len()).ok()? + 9;
        let scaled = digits.checked_mul(factor);
        let nanos = match (scaled, 10_i128.checked_pow(shift.unsigned_abs())) {
            (Some(scaled), Some(power)) if shift >= 0 => scaled.checked_mul(power),
            (Some(scaled), Some(power)) => Some(scaled / power + i128::from(scaled % power != 0)),
            (Some(_), None) if shift < 0 => Some(i128::from(digits != 0)),
            _ => None,
        };
        let nanos = nanos.unwrap_or(WHOLE_MAX * NANOS).min(WHOLE_MAX * NANOS);
        Some(Self { nanos: if negative { -nanos } else { nanos }, family })
    }

    pub(crate) fn is_negative(self) -> bool {
        self.nanos < 0
    }

    pub(crate) fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// Returns the sum, in this quantity's suffix family.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self { nanos: (self.nanos + other.nanos).min(WHOLE_MAX * NANOS), family: self.family }
    }

    /// Returns the nearest floating-point number of units.
    pub(crate) fn as_f64(self) -> f64 {
        self.nanos as f64 / NANOS as f64
    }

    /// Returns whether this is a whole number of units.
    pub(crate) fn is_integer(self) -> bool {
        self.nanos % NANOS == 0
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.nanos.partial_cmp(&other.nanos)
    }
}

fn unit(suffix: &str) -> Option<(Family, i32, i128)> {
    if let Some((_, bits)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        return Some((Family::Binary, 0, 1_i128 << bits));
    }
    if let Some((_, power)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Some((Family::Decimal, *power, 1));
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    (-40..=40).contains(&exponent).then_some((Family::Exponent, exponent, 1))
}

impl std::fmt::Display for Quantity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        if self.family == Family::Binary && self.is_integer() && self.nanos.abs() >= 1024 * NANOS {
            let units = self.nanos / NANOS;
            let fits = |(_, bits): &&(&str, u32)| units % (1_i128 << bits) == 0;
            return match BINARY.iter().find(fits) {
                Some((name, bits)) => write!(f, "{}{name}", units >> bits),
                None => write!(f, "{units}"),
            };
        }
        let power = |exponent: i32| 10_i128.pow((exponent + 9).unsigned_abs());
        for (name, exponent) in DECIMAL {
            if self.nanos % power(exponent) == 0 {
                let number = self.nanos / power(exponent);
                return match self.family {
                    Family::Exponent if exponent != 0 => write!(f, "{number}e{exponent}"),
                    _ => write!(f, "{number}{name}"),
                };
            }
        }
        write!(f, "{}n", self.nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::Quantity;

    #[test]
    fn prints_the_canonical_form() {
        for (written, canonical) in [
            ("0", "0"),
            ("1", "1"),
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1500m", "1500m"),
            ("1.5Gi", "1536Mi"),
            ("64Mi", "64Mi"),
            ("1024Mi", "1Gi"),
            ("1000", "1k"),
            ("1e3", "1e3"),
            ("0.1m", "100u"),
            ("-5", "-5"),
            ("512Ki", "512Ki"),
            ("128974848", "128974848"),
            ("999999999999999999999999", "9223372036854775807"),
            ("0.5Mi", "512Ki"),
        ] {
            assert_eq!(
                Quantity::parse(written).map(|quantity| quantity.to_string()).as_deref(),
                Ok(canonical),
                "{written}"
            );
        }
        for wrong in ["", "x", "1.2.3", "5Mib", "1 Gi", "-", ".", "é"] {
            assert!(Quantity::parse(wrong).is_err(), "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics_and_is_stable(text in "[-+]?[0-9.]{0,40}[a-zA-Z0-9-]{0,4}") {
            if let Ok(quantity) = Quantity::parse(&text) {
                let printed = quantity.to_string();
                let again = Quantity::parse(&printed).expect("canonical forms parse");
                proptest::prop_assert_eq!(again, quantity);
                proptest::prop_assert_eq!(again.to_string(), printed);
            }
        }
    }
}
