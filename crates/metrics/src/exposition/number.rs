//! Values of samples: Go's `ParseFloat`, quick for the numbers that pages are made of.

use crate::text::parse_value;

/// Powers of ten that a double holds exactly.
const EXACT_POWERS: [f64; 16] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// Reads a value. Hexadecimal floats and underscores are refused, as Prometheus refuses them, and so is what a
/// double can't hold.
pub(super) fn parse_number(word: &str) -> Result<f64, &'static str> {
    if let Some(value) = short_decimal(word.as_bytes()) {
        return Ok(value);
    }
    match parse_value(word) {
        Some(value) if value.is_infinite() && word.bytes().any(|byte| byte.is_ascii_digit()) => {
            Err("value out of range")
        }
        Some(value) => Ok(value),
        None => Err("expected value, got"),
    }
}

/// At most fifteen digits with at most one point: digits and power are exact, so one division rounds right
/// (Clinger, "How to read floating point numbers accurately", 1990).
fn short_decimal(bytes: &[u8]) -> Option<f64> {
    let (negative, digits) = match bytes {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > EXACT_POWERS.len() || !digits[0].is_ascii_digit() {
        return None;
    }
    let (mut number, mut after_point) = (0u64, None);
    for (at, byte) in digits.iter().enumerate() {
        match byte {
            b'0'..=b'9' => number = number * 10 + u64::from(byte - b'0'),
            b'.' if after_point.is_none() => after_point = Some(digits.len() - at - 1),
            _ => return None,
        }
    }
    if after_point.is_none() && digits.len() == EXACT_POWERS.len() {
        return None;
    }
    let value = number as f64 / EXACT_POWERS[after_point.unwrap_or(0)];
    Some(if negative { -value } else { value })
}

/// Whether a number is written as OpenMetrics would write it already: `0.25`, `1.0`, `+Inf`. What has so few digits stands
/// for itself in the shortest form, so nothing needs to be worked out.
pub(super) fn is_canonical(word: &str) -> bool {
    let bytes = word.as_bytes();
    let Some(point) = bytes.iter().position(|byte| *byte == b'.') else { return word == "+Inf" };
    let (whole, fraction) = (&bytes[..point], &bytes[point + 1..]);
    let digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    let no_zeros =
        (whole == b"0" || !whole.starts_with(b"0")) && (fraction == b"0" || !fraction.ends_with(b"0"));
    let no_exponent = whole.len() <= 6 && (whole != b"0" || !fraction.starts_with(b"0000"));
    word.len() <= EXACT_POWERS.len() && digits(whole) && digits(fraction) && no_zeros && no_exponent
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_those_of_go() {
        for (word, value) in [("0", 0.0), ("-0", -0.0), ("007", 7.0), ("1.", 1.0), ("0.1", 0.1), ("+3", 3.0)]
        {
            assert_eq!(parse_number(word).map(f64::to_bits), Ok(f64::to_bits(value)), "{word}");
        }
        for word in ["1e999", "-1e999", "0x1p3", "1_0", "", "-", ".", "1.2.3", "1\r", "true"] {
            assert!(parse_number(word).is_err(), "{word}");
        }
        assert!(parse_number("nan").is_ok_and(f64::is_nan) && parse_number("-inf") == Ok(f64::NEG_INFINITY));
    }

    proptest! {
        #[test]
        fn what_is_canonical_is_written_the_same(word in "[0-9]{1,10}(\\.[0-9]{0,10})?|\\+Inf") {
            if is_canonical(&word) {
                let number = parse_number(&word).expect("a number");
                prop_assert_eq!(crate::text::format_open_metrics(number), word);
            }
        }

        #[test]
        fn the_quick_way_is_the_right_way(word in "-?[0-9]{1,16}(\\.[0-9]{0,12})?") {
            let exact: f64 = word.parse().expect("a number");
            prop_assert_eq!(parse_number(&word).map(f64::to_bits), Ok(exact.to_bits()));
        }
    }
}
