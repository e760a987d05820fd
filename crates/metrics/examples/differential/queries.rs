//! Random queries: valid by their types, so that most have a result.

use std::fmt;

use crate::data::END_MS;
use crate::random::Random;

pub(crate) struct Query {
    pub(crate) text: String,
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
    /// 0 for an instant query.
    pub(crate) step_ms: i64,
    pub(crate) names_dropped_last: bool,
    /// Whether something was done to it that most likely made it no query any more.
    pub(crate) mistaken: bool,
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Query { text, start_ms, end_ms, step_ms, names_dropped_last, .. } = self;
        write!(
            f,
            "{text}    [{start_ms} to {end_ms} step {step_ms}, names dropped last: {names_dropped_last}]"
        )
    }
}

pub(crate) fn random(random: &mut Random) -> Query {
    let start_ms =
        random.below(END_MS as u64 / 1_000) as i64 * 1_000 + if random.chance(0.2) { 377 } else { 0 };
    let steps = random.below(8) as i64;
    let step_ms = if random.chance(0.6) { 0 } else { 1_000 * random.pick(&[&15, &60, &77, &300, &600]) };
    let depth = 1 + random.below(4);
    let mut maker = Maker { random };
    let text = match maker.random.below(20) {
        0 => maker.scalar(depth),
        1 if step_ms == 0 => maker.matrix(depth),
        _ => maker.vector(depth),
    };
    let names_dropped_last = maker.random.chance(0.3);
    // The end need not be a step.
    let beyond_ms = if step_ms > 0 && maker.random.chance(0.3) { step_ms / 3 } else { 0 };
    let end_ms = start_ms + steps * step_ms + beyond_ms;
    let mistaken = random.chance(0.05);
    let text = if mistaken { mistake(random, &text) } else { text };
    Query { text, start_ms, end_ms, step_ms, names_dropped_last, mistaken }
}

/// A query of which a word is gone, there twice, or another one.
fn mistake(random: &mut Random, text: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let mut words: Vec<String> = Vec::new();
    for c in text.chars() {
        match words.last_mut() {
            Some(word) if is_part(c) && word.chars().all(is_part) => word.push(c),
            _ => words.push(c.into()),
        }
    }
    let (at, other) = (random.below(words.len() as u64) as usize, random.below(words.len() as u64) as usize);
    match random.below(4) {
        0 => drop(words.remove(at)),
        1 => words.insert(at, words[at].clone()),
        2 => words[at] = words[other].clone(),
        _ => {
            let any = [
                "by",
                "on",
                "offset",
                "bool",
                "smoothed",
                "@",
                "start()",
                "[5m]",
                "[5m:]",
                "{}",
                "sum",
                "0x1f",
                "1e3",
                "Inf",
                "5m",
                "group_left",
                "fill(1)",
                "1_000",
                "'x'",
                "`y`",
                "=~",
                "end",
                "atan2",
                "1h5m",
                "0",
                "-",
                ":",
                ",",
                "\"",
            ];
            words.insert(at, format!(" {} ", random.pick(&any)));
        }
    }
    words.concat()
}

struct Maker<'a> {
    random: &'a mut Random,
}

const FLOATS: [&str; 5] = ["requests_total", "load", "queue", "duration_seconds_bucket", "up"];
const HISTOGRAMS: [&str; 4] = ["native", "native_gauge", "custom", "mixed"];
const LABELS: [&str; 7] = ["job", "pod", "code", "le", "zone", "instance", "nothing"];

const MATH: [&str; 23] = [
    "abs", "ceil", "floor", "exp", "sqrt", "ln", "log2", "log10", "sin", "cos", "tan", "asin", "acos",
    "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "deg", "rad", "sgn",
];
const CALENDAR: [&str; 8] =
    ["minute", "hour", "day_of_week", "day_of_month", "day_of_year", "days_in_month", "month", "year"];
const OF_HISTOGRAMS: [&str; 5] =
    ["histogram_count", "histogram_sum", "histogram_avg", "histogram_stddev", "histogram_stdvar"];
const OVER_TIME: [&str; 28] = [
    "rate",
    "increase",
    "irate",
    "delta",
    "idelta",
    "changes",
    "resets",
    "deriv",
    "avg_over_time",
    "sum_over_time",
    "count_over_time",
    "min_over_time",
    "max_over_time",
    "last_over_time",
    "first_over_time",
    "present_over_time",
    "stddev_over_time",
    "stdvar_over_time",
    "mad_over_time",
    "absent_over_time",
    "ts_of_min_over_time",
    "ts_of_max_over_time",
    "ts_of_last_over_time",
    "ts_of_first_over_time",
    "rate",
    "increase",
    "rate",
    "increase",
];
const AGGREGATIONS: [&str; 10] =
    ["sum", "sum", "avg", "avg", "count", "min", "max", "group", "stddev", "stdvar"];
const ARITHMETIC: [&str; 7] = ["+", "-", "*", "/", "%", "^", "atan2"];
const COMPARISONS: [&str; 6] = ["==", "!=", "<", "<=", ">", ">="];
const SETS: [&str; 3] = ["and", "or", "unless"];

impl Maker<'_> {
    fn pick(&mut self, all: &[&'static str]) -> &'static str {
        self.random.pick(all)
    }

    fn number(&mut self) -> &'static str {
        self.pick(&[
            "0", "1", "2", "-1", "0.5", "10", "0.9", "3", "1.5", "-0.25", "1e3", "NaN", "Inf", "5m", "100",
        ])
    }

    fn duration(&mut self) -> &'static str {
        if self.random.chance(0.1) {
            return self.pick(&[
                "1m + 30s",
                "2 * 90s",
                "10m / 4",
                "5m % 2m",
                "step() + 1m",
                "max_of(step(), 2m)",
                "min_of(range() + 5m, 10m)",
                "(3m - 30s) * 2",
                "2 ^ 7",
                "300",
            ]);
        }
        self.pick(&["1m", "2m", "5m", "90s", "30s", "10m", "17s", "1h", "5m30s"])
    }

    fn scalar(&mut self, depth: u64) -> String {
        if depth == 0 {
            return self.number().to_owned();
        }
        match self.random.below(7) {
            0 => "time()".into(),
            1 => format!("scalar({})", self.vector(depth - 1)),
            2 => {
                // Not `^` and `atan2`: their last digit would show where annotations tell the number.
                let op = self.pick(&ARITHMETIC[..5]);
                format!("({} {op} {})", self.scalar(depth - 1), self.scalar(depth - 1))
            }
            3 => {
                let op = self.pick(&COMPARISONS);
                format!("({} {op} bool {})", self.scalar(depth - 1), self.scalar(depth - 1))
            }
            4 => format!("-{}", self.scalar(depth - 1)),
            _ => self.number().to_owned(),
        }
    }

    fn selector(&mut self) -> String {
        let mut text = match self.random.below(12) {
            0 => "{__name__=~\"native.*|load\"}".to_owned(),
            1..6 => self.pick(&HISTOGRAMS).to_owned(),
            _ => self.pick(&FLOATS).to_owned(),
        };
        if self.random.chance(0.3) && !text.contains('{') {
            let matcher = self.pick(&[
                "pod=\"a\"",
                "pod!=\"b\"",
                "job=~\"a.*\"",
                "job!~\"w.b\"",
                "code=\"200\"",
                "le=~\"0.*\"",
                "zone=\"\"",
                "nothing!=\"x\"",
            ]);
            text.push_str(&format!("{{{matcher}}}"));
        }
        text
    }

    fn shift(&mut self) -> String {
        let mut text = String::new();
        if self.random.chance(0.1) {
            text.push_str(self.pick(&[
                " @ 1800",
                " @ 900.5",
                " @ start()",
                " @ end()",
                " @ 0",
                " @ -60",
                " @ 5000",
            ]));
        }
        if self.random.chance(0.12) {
            text.push_str(self.pick(&[
                " offset 1m",
                " offset -2m",
                " offset 17s",
                " offset 10m",
                " offset -20m",
                " offset (1m + step())",
                " offset -(2 * 45s)",
                " offset max_of(1m, step())",
            ]));
        }
        text
    }

    fn matrix(&mut self, depth: u64) -> String {
        let range = self.duration();
        if depth > 0 && self.random.chance(0.25) {
            let step = self.pick(&["", "15s", "1m", "37s", "2m", "step() + 13s", "5m"]);
            let inner = self.vector(depth - 1);
            return format!("({inner})[{range}:{step}]{}", self.shift());
        }
        format!("{}[{range}]{}", self.selector(), self.shift())
    }

    /// A function of an extended window; now and then one that can't have it.
    fn extended(&mut self) -> String {
        let (range, selector, shift) = (self.duration(), self.selector(), self.shift());
        if self.random.chance(0.5) {
            let function = self.pick(&["rate", "increase", "delta", "changes", "resets", "deriv"]);
            return format!("{function}({selector}[{range}] anchored{shift})");
        }
        let function = self.pick(&["rate", "increase", "delta", "rate", "increase", "resets"]);
        format!("{function}({selector}[{range}] smoothed{shift})")
    }

    fn info(&mut self, depth: u64) -> String {
        let vector = self.vector(depth);
        let selector = self.pick(&[
            "",
            "",
            ", {version=~\".+\"}",
            ", {version=~\".*\"}",
            ", {version=\"2\", pod=~\".*\"}",
            ", {__name__=\"build_info\"}",
            ", {__name__=~\".+_info\"}",
            ", {__name__=~\".+_info\", revision=~\".+\"}",
            ", {__name__!=\"target_info\"}",
            ", {__name__=~\"build_info|native\"}",
            ", {nothing=~\".+\"} @ 10",
        ]);
        format!("info({vector}{selector})")
    }

    fn labels(&mut self) -> String {
        let count = self.random.below(3);
        let mut labels: Vec<&str> = (0..count).map(|_| self.pick(&LABELS)).collect();
        labels.sort_unstable();
        labels.dedup();
        labels.join(", ")
    }

    fn grouping(&mut self) -> String {
        match self.random.below(4) {
            0 => String::new(),
            1 => format!(" without ({})", self.labels()),
            _ => format!(" by ({})", self.labels()),
        }
    }

    fn vector(&mut self, depth: u64) -> String {
        if depth == 0 {
            return format!("{}{}", self.selector(), self.shift());
        }
        let inner = depth - 1;
        match self.random.below(25) {
            22 => self.extended(),
            23 => self.info(inner),
            24 => format!("{} smoothed{}", self.selector(), self.shift()),
            0 => format!("{}({})", self.pick(&MATH), self.vector(inner)),
            1 => format!("{}({})", self.pick(&OF_HISTOGRAMS), self.vector(inner)),
            2..7 => format!("{}({})", self.pick(&OVER_TIME), self.matrix(inner)),
            7 => self.over_time_with_parameters(inner),
            8..11 => format!("{}{} ({})", self.pick(&AGGREGATIONS), self.grouping(), self.vector(inner)),
            11 => self.aggregation_with_parameter(inner),
            12 => {
                let op = self.pick(&[
                    ARITHMETIC[0],
                    "-",
                    "*",
                    "/",
                    "%",
                    "^",
                    "atan2",
                    "==",
                    "<",
                    ">=",
                    "!=",
                    "</",
                    ">/",
                    "> bool",
                    "== bool",
                ]);
                if self.random.chance(0.7) {
                    format!("({} {op} {})", self.vector(inner), self.scalar(inner.min(1)))
                } else {
                    format!("({} {op} {})", self.scalar(inner.min(1)), self.vector(inner))
                }
            }
            13..15 => self.binary(inner),
            15 => format!("-{}", self.vector(inner)),
            16 => self.histogram_estimate(inner),
            17 => self.histogram_estimate(inner),
            18 => self.with_labels(inner),
            19 => self.misc(inner),
            _ => format!("{}{}", self.selector(), self.shift()),
        }
    }

    fn over_time_with_parameters(&mut self, depth: u64) -> String {
        match self.random.below(3) {
            0 => format!("quantile_over_time({}, {})", self.scalar(depth.min(1)), self.matrix(depth)),
            1 => format!("predict_linear({}, {})", self.matrix(depth), self.scalar(depth.min(1))),
            _ => {
                let factors = self.pick(&["0.5, 0.1", "0.1, 0.9", "0.3, 0.3"]);
                format!("double_exponential_smoothing({}, {factors})", self.matrix(depth))
            }
        }
    }

    fn aggregation_with_parameter(&mut self, depth: u64) -> String {
        match self.random.below(5) {
            3 => {
                let ratio = self.pick(&["0.5", "-0.3", "0.9", "1.5", "0", "-1", "time() / 5000"]);
                format!("limit_ratio{} ({ratio}, {})", self.grouping(), self.vector(depth))
            }
            4 => {
                let k = self.pick(&["1", "2", "5", "0", "100"]);
                format!("limitk{} ({k}, {})", self.grouping(), self.vector(depth))
            }
            0 => {
                let op = self.pick(&["topk", "bottomk"]);
                let k = self.pick(&["1", "2", "5", "0", "-1", "100"]);
                format!("{op}{} ({k}, {})", self.grouping(), self.vector(depth))
            }
            1 => {
                format!("quantile{} ({}, {})", self.grouping(), self.scalar(depth.min(1)), self.vector(depth))
            }
            // A value that becomes a label differs by its last digit; so only values that are exact.
            _ => format!("count_values{} (\"value\", {})", self.grouping(), self.vector(0)),
        }
    }

    fn binary(&mut self, depth: u64) -> String {
        let (left, right) = (self.vector(depth), self.vector(depth));
        let matching = match self.random.below(8) {
            0 => " on (job, pod)".to_owned(),
            1 => " on (job, pod) group_left ()".to_owned(),
            2 => " on (pod, job) group_right (zone)".to_owned(),
            3 => " ignoring (le, code, zone)".to_owned(),
            4 => " ignoring (le, code, zone) group_left ()".to_owned(),
            5 => format!(" on ({})", self.labels()),
            _ => String::new(),
        };
        let grouped = matching.contains("group_");
        let fill = match self.random.below(12) {
            0 => " fill (0)",
            1 => " fill_left (1)",
            2 => " fill_right (NaN) fill_left (2)",
            _ => "",
        };
        let op = match self.random.below(6) {
            0 if !grouped && fill.is_empty() => self.pick(&SETS).to_owned(),
            1 => self.pick(&COMPARISONS).to_owned(),
            2 => format!("{} bool", self.pick(&COMPARISONS)),
            3 => self.pick(&["</", ">/", "+", "-", "*", "/"]).to_owned(),
            _ => self.pick(&ARITHMETIC).to_owned(),
        };
        format!("({left} {op}{matching}{fill} {right})")
    }

    fn histogram_estimate(&mut self, depth: u64) -> String {
        let arg = match self.random.below(4) {
            0 => format!("sum by (le, job) (rate(duration_seconds_bucket[{}]))", self.duration()),
            1 => "duration_seconds_bucket".to_owned(),
            _ => self.vector(depth),
        };
        match self.random.below(5) {
            0 | 1 => format!("histogram_quantile({}, {arg})", self.scalar(depth.min(1))),
            2 => format!("histogram_quantiles({arg}, \"q\", 0.5, 0.9, {})", self.number()),
            _ => format!("histogram_fraction({}, {}, {arg})", self.number(), self.number()),
        }
    }

    fn with_labels(&mut self, depth: u64) -> String {
        let arg = self.vector(depth);
        match self.random.below(3) {
            0 => format!("label_join({arg}, \"joined\", \"-\", \"job\", \"pod\")"),
            1 => {
                let label = self.pick(&LABELS);
                format!("label_replace({arg}, \"new\", \"$1x\", \"{label}\", \"(.).*\")")
            }
            _ => format!("label_replace({arg}, \"__name__\", \"other_$1\", \"pod\", \"(.*)\")"),
        }
    }

    fn misc(&mut self, depth: u64) -> String {
        match self.random.below(11) {
            10 => format!("sort_by_label_desc({}, \"job\", \"pod\")", self.vector(depth)),
            0 => format!("absent({})", self.vector(depth)),
            1 => format!("vector({})", self.scalar(depth)),
            2 => format!("timestamp({})", self.vector(depth)),
            3 => format!("clamp({}, {}, {})", self.vector(depth), self.number(), self.number()),
            4 => format!("clamp_min({}, {})", self.vector(depth), self.number()),
            5 => format!("clamp_max({}, {})", self.vector(depth), self.number()),
            6 => format!("round({}, {})", self.vector(depth), self.number()),
            7 => format!("{}({})", self.pick(&["sort", "sort_desc"]), self.vector(depth)),
            8 => format!("sort_by_label({}, \"pod\", \"job\")", self.vector(depth)),
            // What dates make of infinities depends on the processor in Go.
            _ => format!("{}(timestamp({}))", self.pick(&CALENDAR), self.vector(depth)),
        }
    }
}
