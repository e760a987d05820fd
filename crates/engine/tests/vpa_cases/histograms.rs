//! Histograms, alone and decaying, and their checkpoints.

use flyball_engine::vertical::{Buckets, DecayingHistogram, Histogram, HistogramCheckpoint};
use serde_json::Value;

use crate::Case;
use crate::json::{at, flag, float, list, number, seconds, text, whole};

fn buckets(options: &Value) -> Buckets {
    let [max, epsilon] = ["max_value", "epsilon"].map(|name| float(&options[name]));
    if text(&options["scheme"]) == "linear" {
        Buckets::linear(max, float(&options["bucket_size"]), epsilon)
    } else {
        Buckets::exponential(max, float(&options["first_bucket_size"]), float(&options["ratio"]), epsilon)
    }
}

fn apply(histogram: &mut Histogram, op: &Value) {
    let (value, weight) = (float(&op["value"]), float(&op["weight"]));
    if text(&op["op"]) == "subtract" {
        histogram.subtract(value, weight)
    } else {
        histogram.add(value, weight)
    }
}

/// The histogram of a list of operations.
pub(crate) fn histogram(options: &Value, ops: &Value) -> Histogram {
    let mut histogram = Histogram::new(buckets(options));
    list(ops).iter().for_each(|op| apply(&mut histogram, op));
    histogram
}

fn decaying(input: &Value, samples: &Value) -> DecayingHistogram {
    let mut histogram = DecayingHistogram::new(buckets(&input["options"]), seconds(&input["half_life_s"]));
    for sample in list(samples) {
        histogram.add(float(&sample["value"]), float(&sample["weight"]), at(&sample["t_s"]));
    }
    histogram
}

pub(crate) fn check(case: &Case) -> Result<(), String> {
    let (input, expected) = (&case.input, &case.expected);
    let options = &input["options"];
    match case.kind.as_str() {
        "histogram_options" => layout(case),
        "histogram_percentile" => {
            let histogram = histogram(options, &input["ops"]);
            percentiles(case, |share| histogram.percentile(share))
        }
        "decaying_percentile" => {
            let histogram = decaying(input, &input["samples"]);
            percentiles(case, |share| histogram.percentile(share))
        }
        "histogram_empty" => empty(case),
        "histogram_merge" => {
            let mut merged = histogram(options, &input["a"]);
            merged.merge(&histogram(options, &input["b"]));
            let equal = merged.resembles(&histogram(options, &expected["equals_ops"]));
            case.same("equal", equal, true)
        }
        "decaying_merge" => {
            let mut merged = decaying(input, &input["a"]);
            merged.merge(&decaying(input, &input["b"]));
            let equal = merged.resembles(&decaying(input, &expected["equals_samples"]));
            case.same("equal", equal, true)
        }
        "histogram_checkpoint_save" => {
            let saved = histogram(options, &input["ops"]).save();
            case.near("total_weight", saved.total_weight, float(&expected["total_weight"]))?;
            let weights = serde_json::to_value(&saved.bucket_weights).expect("a map of numbers");
            case.same("bucket_weights", &weights, &expected["bucket_weights"])
        }
        "histogram_checkpoint_load" => load(case),
        "histogram_checkpoint_roundtrip" => {
            let saved = histogram(options, &input["ops"]);
            case.same("empty_before", saved.is_empty(), flag(&expected["empty_before"]))?;
            let mut loaded = Histogram::new(buckets(options));
            loaded.load(&saved.save()).map_err(|error| error.to_string())?;
            case.same("empty_after", loaded.is_empty(), flag(&expected["empty_after"]))
        }
        other => Err(format!("unknown kind {other}")),
    }
}

fn layout(case: &Case) -> Result<(), String> {
    let buckets = buckets(&case.input);
    case.same("num_buckets", buckets.count(), number(&case.expected["num_buckets"]) as usize)?;
    for pair in list(&case.expected["bucket_start"]) {
        case.near(
            &format!("start of {}", pair[0]),
            buckets.start(number(&pair[0]) as usize),
            float(&pair[1]),
        )?;
    }
    for pair in list(&case.expected["find_bucket"]) {
        case.same(
            &format!("bucket of {}", pair[0]),
            buckets.find(float(&pair[0])),
            number(&pair[1]) as usize,
        )?;
    }
    Ok(())
}

fn percentiles(case: &Case, percentile: impl Fn(f64) -> f64) -> Result<(), String> {
    let values = list(&case.expected["values"]);
    for (share, value) in list(&case.input["quantiles"]).iter().zip(values) {
        case.near(&format!("percentile {share}"), percentile(float(share)), float(value))?;
    }
    Ok(())
}

fn empty(case: &Case) -> Result<(), String> {
    let mut histogram = Histogram::new(buckets(&case.input["options"]));
    case.same("before", histogram.is_empty(), flag(&case.expected["empty_before"]))?;
    for (op, empty) in list(&case.input["ops"]).iter().zip(list(&case.expected["empty_after_each"])) {
        apply(&mut histogram, op);
        case.same(&format!("after {op}"), histogram.is_empty(), flag(empty))?;
    }
    Ok(())
}

fn load(case: &Case) -> Result<(), String> {
    let checkpoint = &case.input["checkpoint"];
    let mut histogram = Histogram::new(buckets(&case.input["options"]));
    let loaded = parse(checkpoint).is_some_and(|checkpoint| histogram.load(&checkpoint).is_ok());
    case.same("error", !loaded, flag(&case.expected["error"]))?;
    let weights = case.expected["weights"].as_object().or(case.expected["bucket_weights"].as_object());
    for (bucket, weight) in weights.into_iter().flatten() {
        let bucket: usize = bucket.parse().map_err(|_| format!("bucket {bucket}"))?;
        case.near(&format!("weight of {bucket}"), histogram.weight(bucket), float(weight))?;
    }
    Ok(())
}

fn parse(checkpoint: &Value) -> Option<HistogramCheckpoint> {
    let weights = checkpoint["bucket_weights"].as_object()?;
    let pair = |(bucket, weight): (&String, &Value)| {
        Some((bucket.parse().ok()?, u32::try_from(whole(weight)?).ok()?))
    };
    let bucket_weights = weights.iter().map(pair).collect::<Option<_>>()?;
    let total_weight = float(&checkpoint["total_weight"]);
    Some(HistogramCheckpoint { reference_timestamp: None, bucket_weights, total_weight })
}
