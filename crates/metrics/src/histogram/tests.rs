//! Histograms: forms, sums, resets, estimates.

use proptest::prelude::*;

use super::*;

fn exponential(
    schema: i8,
    zero: (f64, f64),
    positive: &[(i32, f64)],
    negative: &[(i32, f64)],
) -> NativeHistogram {
    let count = zero.1 + positive.iter().chain(negative).map(|(_, count)| count).sum::<f64>();
    NativeHistogram {
        zero_threshold: zero.0,
        zero_count: zero.1,
        count,
        sum: count * 1.5,
        positive: Buckets::from_rising(positive.to_vec()),
        negative: Buckets::from_rising(negative.to_vec()),
        ..NativeHistogram::empty(Schema::Exponential(schema))
    }
}

fn custom(bounds: &[f64], positive: &[(i32, f64)]) -> NativeHistogram {
    let schema = Schema::new(CUSTOM_SCHEMA, bounds).expect("custom");
    NativeHistogram { schema, ..exponential(0, (0.0, 0.0), positive, &[]) }
}

#[test]
fn spans_and_deltas_are_buckets() {
    let spans = [Span { offset: -2, length: 2 }, Span { offset: 3, length: 1 }];
    let buckets = Buckets::from_deltas(&spans, &[4, -1, 2]).expect("valid");
    assert_eq!(buckets.iter().collect::<Vec<_>>(), [(-2, 4.0), (-1, 3.0), (3, 5.0)]);
    assert_eq!(buckets.to_spans(), (spans.to_vec(), vec![4.0, 3.0, 5.0]));
}

#[test]
fn what_is_no_histogram_is_refused() {
    let spans = |spans: &[(i32, u32)]| {
        spans.iter().map(|(offset, length)| Span { offset: *offset, length: *length }).collect::<Vec<_>>()
    };
    type Row<'a> = (&'a [(i32, u32)], usize, &'a str);
    let rows: [Row<'_>; 4] = [
        (
            &[(0, 2)],
            1,
            "spans need 2 buckets, have 1 buckets: histogram spans specify different number of buckets than provided",
        ),
        (
            &[(0, u32::MAX), (0, u32::MAX)],
            1,
            "spans need 8589934590 buckets, have 1 buckets: histogram spans specify different number of buckets than provided",
        ),
        (
            &[(0, 1), (-1, 1)],
            2,
            "span number 2 with offset -1: histogram has a span whose offset is negative",
        ),
        (&[(i32::MAX, 2)], 2, "span number 1 ends beyond the last bucket that there can be"),
    ];
    for (input, counts, message) in rows {
        let error = Buckets::from_spans(&spans(input), &vec![1.0; counts]).expect_err(message);
        assert_eq!(error.to_string(), message);
    }
    let rows = [
        (
            custom(&[1.0, 1.0], &[]),
            "custom buckets: previous bound is 1.000000 and current is 1.000000: histogram custom bounds must be in strictly increasing order",
        ),
        (
            custom(&[1.0], &[(2, 1.0)]),
            "custom buckets: only 1 custom bounds defined which is insufficient to cover total span length of 3: histogram custom bounds are too few",
        ),
        (
            custom(&[1.0, f64::INFINITY], &[]),
            "custom buckets: last +Inf bound must not be explicitly defined: histogram custom bounds must be finite",
        ),
        (
            exponential(0, (0.0, 0.0), &[(0, 3.0), (1, -1.0)], &[]),
            "positive side: bucket number 2 has observation count of -1: histogram has a bucket whose observation count is negative",
        ),
        (
            exponential(9, (0.0, 0.0), &[], &[]),
            "histogram has an invalid schema, which must be between -4 and 8 for exponential buckets, or -53 for custom buckets, got schema 9",
        ),
    ];
    for (histogram, message) in rows {
        assert_eq!(histogram.validate().expect_err(message).to_string(), message);
    }
}

#[test]
fn text_forms_are_those_of_prometheus() {
    let histogram = exponential(0, (0.001, 2.0), &[(0, 3.0), (1, 0.0), (2, 1e6)], &[(1, 4.0)]);
    assert_eq!(
        histogram.to_string(),
        "{count:1.000009e+06, sum:1.5000135e+06, [-2,-1):4, [-0.001,0.001]:2, (0.5,1]:3, (2,4]:1e+06}"
    );
    assert_eq!(
        histogram.to_script(),
        "{{count:1.000009e+06 sum:1.5000135e+06 z_bucket:2 z_bucket_w:0.001 buckets:[3 0 1e+06] n_offset:1 n_buckets:[4]}}"
    );
    let histogram = custom(&[2.0, 4.0], &[(1, 1.0), (2, 2.0)]);
    assert_eq!(histogram.to_string(), "{count:3, sum:4.5, (2,4]:1, (4,+Inf]:2}");
    assert_eq!(
        histogram.to_script(),
        "{{schema:-53 count:3 sum:4.5 custom_values:[2 4] offset:1 buckets:[1 2]}}"
    );
}

#[test]
fn sums_meet_at_the_coarser_layout() {
    let coarse = exponential(0, (0.001, 1.0), &[(0, 1.0), (2, 1.0)], &[]);
    let fine = exponential(1, (0.6, 1.0), &[(0, 5.0), (3, 2.0)], &[(1, 3.0)]);
    let mut sum = coarse.clone();
    sum.add(&fine).expect("both exponential");
    // 0.6 lies inside (0.5, 1], so the bucket around zero grows to 1 and takes that bucket of both.
    assert_eq!((sum.zero_threshold, sum.zero_count), (1.0, 1.0 + 1.0 + 1.0 + 5.0));
    assert_eq!(sum.positive.iter().collect::<Vec<_>>(), [(2, 3.0)]);
    assert_eq!(sum.negative.iter().collect::<Vec<_>>(), [(1, 3.0)]);
    assert_eq!(sum.count, 14.0);
    let mut mixed = coarse;
    assert_eq!(mixed.add(&custom(&[1.0], &[])), Err(MixedSchemas));
    let mut reconciled = custom(&[1.0, 2.0, 4.0], &[(0, 1.0), (1, 1.0), (2, 1.0), (3, 1.0)]);
    let added =
        reconciled.add(&custom(&[2.0, 3.0], &[(0, 10.0), (1, 10.0), (2, 10.0)])).expect("both custom");
    assert!(added.bounds_reconciled && !added.hints_collide);
    assert_eq!(reconciled.schema.custom_bounds(), [2.0]);
    assert_eq!(reconciled.positive.iter().collect::<Vec<_>>(), [(0, 12.0), (1, 22.0)]);
}

#[test]
fn resets_are_found_from_counts() {
    let base = exponential(1, (0.01, 2.0), &[(1, 3.0), (4, 1.0)], &[(0, 1.0)]);
    let more = |positive: &[(i32, f64)]| exponential(1, (0.01, 2.0), positive, &[(0, 1.0)]);
    let rows = [
        (more(&[(1, 3.0), (4, 1.0)]), false, "the same"),
        (more(&[(1, 3.0), (3, 9.0), (4, 1.0)]), false, "a new bucket"),
        (more(&[(1, 2.0), (4, 9.0)]), true, "a smaller bucket"),
        (more(&[(4, 9.0)]), true, "a bucket is gone"),
        (exponential(0, (0.01, 2.0), &[(1, 3.0), (2, 1.0)], &[(0, 1.0)]), false, "coarser"),
        (exponential(2, (0.01, 2.0), &[(1, 30.0)], &[]), true, "finer"),
        (
            exponential(1, (0.001, 20.0), &[(1, 3.0), (4, 1.0)], &[(0, 1.0)]),
            true,
            "a narrower bucket around zero",
        ),
        (exponential(1, (1.0, 3.0), &[(1, 3.0), (4, 1.0)], &[]), false, "a wider bucket around zero"),
        (exponential(1, (1.2, 9.0), &[(1, 3.0), (4, 1.0)], &[]), true, "one that cuts a bucket"),
        (custom(&[1.0], &[(0, 100.0)]), true, "custom bounds"),
    ];
    for (current, expected, what) in rows {
        assert_eq!(current.detect_reset(&base), expected, "{what}");
    }
    let negative = custom(&[0.5, 2.0], &[(0, -3.0), (2, -5.0)]);
    for (current, expected, what) in [
        (custom(&[1.0, 2.0], &[(2, -5.0)]), false, "a bucket below nothing that is not there any more"),
        (custom(&[1.0, 2.0], &[(1, -4.0), (2, -5.0)]), true, "less below nothing"),
        (custom(&[1.0, 2.0], &[(1, -1.0), (2, -5.0)]), false, "the same in other buckets"),
    ] {
        assert_eq!(current.detect_reset(&negative), expected, "{what}");
    }
    let hinted = NativeHistogram { reset_hint: ResetHint::Reset, ..base.clone() };
    assert!(hinted.detect_reset(&base));
    assert_eq!(
        (base.stored_hint(Some(&base)), hinted.stored_hint(Some(&base))),
        (ResetHint::NotReset, ResetHint::Unknown)
    );
}

#[test]
fn estimates_interpolate_inside_buckets() {
    let powers = exponential(0, (0.0, 0.0), &[(1, 10.0), (2, 10.0)], &[]);
    assert_eq!(quantile(0.5, &powers), (2.0, None));
    assert_eq!(quantile(0.25, &powers).0, 2f64.sqrt());
    assert_eq!(fraction(0.0, 2.0, &powers), (0.5, false));
    let bounds = custom(&[1.0, 3.0], &[(0, 5.0), (1, 10.0), (2, 5.0)]);
    assert_eq!(
        (quantile(0.5, &bounds).0, quantile(0.125, &bounds).0, quantile(0.99, &bounds).0),
        (2.0, 0.5, 3.0)
    );
    assert_eq!(fraction(1.0, 2.0, &bounds), (0.25, false));
    let mut trimmed = bounds.clone();
    trimmed.trim(2.0, Side::Below);
    assert_eq!(
        (trimmed.count, trimmed.positive.iter().collect::<Vec<_>>()),
        (10.0, vec![(0, 5.0), (1, 5.0)])
    );
}

fn histograms() -> impl Strategy<Value = NativeHistogram> {
    let side = || prop::collection::btree_map(-20i32..20, 0u32..50, 0..8);
    (-2i8..=3, prop::sample::select(vec![0.0, 0.001, 0.3, 1.0, 5.0]), 0u32..9, side(), side()).prop_map(
        |(schema, threshold, zero, positive, negative)| {
            // What is inside the bucket around zero is counted there and nowhere else.
            let outside = |index: i32| bounds::upper(&Schema::Exponential(schema), index - 1) >= threshold;
            let floats = |side: std::collections::BTreeMap<i32, u32>| {
                let side = side.into_iter().filter(|(index, _)| outside(*index));
                side.map(|(index, count)| (index, f64::from(count))).collect::<Vec<_>>()
            };
            exponential(schema, (threshold, f64::from(zero)), &floats(positive), &floats(negative))
        },
    )
}

proptest! {
    #[test]
    fn a_sum_has_all_observations_and_is_no_reset(a in histograms(), b in histograms()) {
        let mut sum = a.clone();
        sum.add(&b).expect("both exponential");
        let inside: f64 = sum.positive.iter().chain(sum.negative.iter()).map(|(_, count)| count).sum();
        prop_assert_eq!(inside + sum.zero_count, a.zero_count + b.zero_count
            + [&a, &b].iter().flat_map(|h| h.positive.iter().chain(h.negative.iter())).map(|(_, count)| count).sum::<f64>());
        let mut kahan: HistogramSum = a.lifted();
        kahan.add(&b).expect("both exponential");
        prop_assert_eq!(kahan.total(), sum.clone());
        let mut zero = sum.clone();
        zero.sub(&sum).expect("both exponential");
        prop_assert!(zero.count == 0.0 && zero.positive.iter().all(|(_, count)| count == 0.0));
    }

    #[test]
    fn quantiles_rise_and_fractions_undo_them(histogram in histograms(), low in 0.0..1.0, high in 0.0..1.0) {
        let (low, high) = if low < high { (low, high) } else { (high, low) };
        let (a, b) = (quantile(low, &histogram).0, quantile(high, &histogram).0);
        prop_assert!(histogram.count == 0.0 || a <= b * (1.0 + 1e-9 * b.signum()) + 1e-12, "{a} {b}");
    }

    #[test]
    fn spans_come_back(histogram in histograms()) {
        let (spans, counts) = histogram.positive.to_spans();
        prop_assert_eq!(Buckets::from_spans(&spans, &counts), Ok(histogram.positive.clone()));
    }
}
