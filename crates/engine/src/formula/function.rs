//! The functions and methods that formulas know, and how many arguments each takes.
//!
//! They are expr-lang's, as far as they work on numbers and on time. Those for texts, maps and encodings are named in
//! [`REFUSED`], so that a formula that uses one is told why it is not there.

use std::ops::RangeInclusive;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Function {
    All,
    None,
    Any,
    One,
    Filter,
    Map,
    Find,
    FindIndex,
    FindLast,
    FindLastIndex,
    Count,
    Sum,
    SortBy,
    Reduce,
    Len,
    Abs,
    Ceil,
    Floor,
    Round,
    Int,
    Float,
    Max,
    Min,
    Mean,
    Median,
    First,
    Last,
    Get,
    Take,
    Reverse,
    Uniq,
    Concat,
    Flatten,
    Sort,
    Bit(Bit),
    BitNot,
    Now,
    Duration,
    Date,
    Timezone,
}

/// Operations on the bits of two whole numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Bit {
    And,
    Or,
    Xor,
    AndNot,
    ShiftLeft,
    ShiftRight,
    ShiftRightUnsigned,
}

const MANY: usize = usize::MAX;

/// Name, function, and the numbers of arguments it takes.
const FUNCTIONS: &[(&str, Function, RangeInclusive<usize>)] = &[
    ("all", Function::All, 2..=2),
    ("none", Function::None, 2..=2),
    ("any", Function::Any, 2..=2),
    ("one", Function::One, 2..=2),
    ("filter", Function::Filter, 2..=2),
    ("map", Function::Map, 2..=2),
    ("find", Function::Find, 2..=2),
    ("findIndex", Function::FindIndex, 2..=2),
    ("findLast", Function::FindLast, 2..=2),
    ("findLastIndex", Function::FindLastIndex, 2..=2),
    ("count", Function::Count, 1..=2),
    ("sum", Function::Sum, 1..=2),
    ("sortBy", Function::SortBy, 2..=3),
    ("reduce", Function::Reduce, 2..=3),
    ("len", Function::Len, 1..=1),
    ("abs", Function::Abs, 1..=1),
    ("ceil", Function::Ceil, 1..=1),
    ("floor", Function::Floor, 1..=1),
    ("round", Function::Round, 1..=1),
    ("int", Function::Int, 1..=1),
    ("float", Function::Float, 1..=1),
    ("max", Function::Max, 1..=MANY),
    ("min", Function::Min, 1..=MANY),
    ("mean", Function::Mean, 1..=MANY),
    ("median", Function::Median, 1..=MANY),
    ("first", Function::First, 1..=1),
    ("last", Function::Last, 1..=1),
    ("get", Function::Get, 2..=2),
    ("take", Function::Take, 2..=2),
    ("reverse", Function::Reverse, 1..=1),
    ("uniq", Function::Uniq, 1..=1),
    ("concat", Function::Concat, 1..=MANY),
    ("flatten", Function::Flatten, 1..=1),
    ("sort", Function::Sort, 1..=2),
    ("bitand", Function::Bit(Bit::And), 2..=2),
    ("bitor", Function::Bit(Bit::Or), 2..=2),
    ("bitxor", Function::Bit(Bit::Xor), 2..=2),
    ("bitnand", Function::Bit(Bit::AndNot), 2..=2),
    ("bitshl", Function::Bit(Bit::ShiftLeft), 2..=2),
    ("bitshr", Function::Bit(Bit::ShiftRight), 2..=2),
    ("bitushr", Function::Bit(Bit::ShiftRightUnsigned), 2..=2),
    ("bitnot", Function::BitNot, 1..=1),
    ("now", Function::Now, 0..=1),
    ("duration", Function::Duration, 1..=1),
    ("date", Function::Date, 1..=2),
    ("timezone", Function::Timezone, 1..=1),
];

/// Functions of expr-lang for texts, maps and encodings.
const REFUSED: &[&str] = &[
    "type",
    "string",
    "trim",
    "trimPrefix",
    "trimSuffix",
    "upper",
    "lower",
    "split",
    "splitAfter",
    "replace",
    "repeat",
    "join",
    "indexOf",
    "lastIndexOf",
    "hasPrefix",
    "hasSuffix",
    "toJSON",
    "fromJSON",
    "toBase64",
    "fromBase64",
    "keys",
    "values",
    "toPairs",
    "fromPairs",
    "groupBy",
];

impl Function {
    /// The function of a name, or why there is none.
    pub(super) fn of(name: &str) -> Result<Self, String> {
        if let Some((_, function, _)) = FUNCTIONS.iter().find(|(known, ..)| *known == name) {
            return Ok(*function);
        }
        if REFUSED.contains(&name) {
            return Err(format!("`{name}` is for texts and maps, and formulas here work on numbers"));
        }
        let known: Vec<&str> = FUNCTIONS.iter().map(|(name, ..)| *name).collect();
        Err(format!("unknown function `{name}`; there are {}", known.join(", ")))
    }

    pub(super) fn is_name(name: &str) -> bool {
        FUNCTIONS.iter().any(|(known, ..)| *known == name) || REFUSED.contains(&name)
    }

    /// What is wrong with so many arguments.
    pub(super) fn count_error(self, given: usize) -> Option<String> {
        let (name, _, takes) = FUNCTIONS.iter().find(|(_, function, _)| *function == self)?;
        if takes.contains(&given) {
            return None;
        }
        let wanted = match (*takes.start(), *takes.end()) {
            (1, MANY) => "at least one argument".to_owned(),
            (1, 1) => "one argument".to_owned(),
            (low, high) if low == high => format!("{low} arguments"),
            (low, high) => format!("{low} or {high} arguments"),
        };
        Some(format!("{name} takes {wanted}, and {given} were given"))
    }

    /// The second argument is a predicate over the elements of the first.
    pub(super) fn takes_predicate(self) -> bool {
        use Function::{
            All, Any, Count, Filter, Find, FindIndex, FindLast, FindLastIndex, Map, None, One, Reduce,
            SortBy, Sum,
        };
        matches!(
            self,
            All | None
                | Any
                | One
                | Filter
                | Map
                | Find
                | FindIndex
                | FindLast
                | FindLastIndex
                | Count
                | Sum
                | SortBy
                | Reduce
        )
    }
}

/// What can be asked of a time, a duration, a weekday or a month.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Method {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
    YearDay,
    Weekday,
    Unix,
    Utc,
    In,
    Add,
    Sub,
    After,
    Before,
    Equal,
    Hours,
    Minutes,
    Seconds,
    String,
}

const METHODS: &[(&str, Method)] = &[
    ("Year", Method::Year),
    ("Month", Method::Month),
    ("Day", Method::Day),
    ("Hour", Method::Hour),
    ("Minute", Method::Minute),
    ("Second", Method::Second),
    ("YearDay", Method::YearDay),
    ("Weekday", Method::Weekday),
    ("Unix", Method::Unix),
    ("UTC", Method::Utc),
    ("In", Method::In),
    ("Add", Method::Add),
    ("Sub", Method::Sub),
    ("After", Method::After),
    ("Before", Method::Before),
    ("Equal", Method::Equal),
    ("Hours", Method::Hours),
    ("Minutes", Method::Minutes),
    ("Seconds", Method::Seconds),
    ("String", Method::String),
];

impl Method {
    /// The method of a name, or why there is none.
    pub(super) fn of(name: &str) -> Result<Self, String> {
        METHODS.iter().find(|(known, _)| *known == name).map(|(_, method)| *method).ok_or_else(|| {
            let known: Vec<&str> = METHODS.iter().map(|(name, _)| *name).collect();
            format!("unknown method `{name}`; times and durations have {}", known.join(", "))
        })
    }

    pub(super) fn name(self) -> &'static str {
        METHODS.iter().find(|(_, method)| *method == self).map_or("", |(name, _)| name)
    }

    /// How many arguments it takes.
    pub(super) fn arguments(self) -> usize {
        usize::from(matches!(
            self,
            Self::In | Self::Add | Self::Sub | Self::After | Self::Before | Self::Equal
        ))
    }
}
