//! Kubernetes quantities (`100m`, `64Mi`, `1e3`, `0.5`) as whole numbers, rounded up, as the API server and the kubelet do.
//!
//! Exact integer arithmetic: a quantity is a decimal mantissa times a power of ten or of two. Anything that is not a
//! quantity, is negative or does not fit is `None`; the API server refuses such objects before they get here.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// The value in thousandths (milli-CPU), rounded up.
pub(crate) fn milli(quantity: &Quantity) -> Option<u64> {
    parse(&quantity.0, 1000)
}

/// The value in units (bytes, pods), rounded up.
pub(crate) fn whole(quantity: &Quantity) -> Option<u64> {
    parse(&quantity.0, 1)
}

fn parse(text: &str, scale: u128) -> Option<u64> {
    let text = text.trim().strip_prefix('+').unwrap_or(text.trim());
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (digits, suffix) = text.split_at(end);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    // longer ones do not fit into the arithmetic below, nor into any machine
    if whole.len() + fraction.len() > 20 || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let mantissa: u128 = format!("{whole}{fraction}").parse().ok()?;
    let (binary, exponent) = multiplier(suffix)?;
    let exponent = exponent - i32::try_from(fraction.len()).ok()?;
    let value = mantissa.checked_mul(scale)?.checked_mul(1u128 << binary)?;
    let power = 10u128.checked_pow(exponent.unsigned_abs())?;
    let value = if exponent >= 0 { value.checked_mul(power)? } else { value.div_ceil(power) };
    u64::try_from(value).ok()
}

/// A suffix as (power of two, power of ten).
fn multiplier(suffix: &str) -> Option<(u32, i32)> {
    Some(match suffix {
        "" => (0, 0),
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            (-30..=30).contains(&exponent).then_some((0, exponent))?
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_kubernetes_reads() {
        let check = |text: &str, as_milli, as_whole| {
            let quantity = Quantity(text.to_owned());
            assert_eq!((milli(&quantity), whole(&quantity)), (as_milli, as_whole), "{text}");
        };
        check("100m", Some(100), Some(1));
        check("0.5", Some(500), Some(1));
        check("2", Some(2000), Some(2));
        check("1.5Gi", Some(1_610_612_736_000), Some(1_610_612_736));
        check("64Mi", Some(67_108_864_000), Some(67_108_864));
        check("1e3", Some(1_000_000), Some(1000));
        check("12345678n", Some(13), Some(1));
        check("128974848", Some(128_974_848_000), Some(128_974_848));
        for bad in ["", "Mi", "1X", "-1", "1e99", "99999999999999999999999", "1..2"] {
            check(bad, None, None);
        }
    }
}
