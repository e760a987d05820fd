//! What Prometheus has behind `--enable-feature`, under its names: what a query may say, how it is evaluated, and what is
//! kept of a scrape.

use flyball_metrics::promql::{self, EngineOptions, Expr, ParseError, ParseOptions};

/// The features that are on; none by default, as in Prometheus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    parse: ParseOptions,
    delayed_name_removal: bool,
    use_start_timestamps: bool,
    /// Since when samples count is kept, where a scraped page says it. What is sent always keeps it.
    pub(crate) store_start_timestamps: bool,
}

/// A feature's name, and how it is turned on.
type FeatureFlag = (&'static str, fn(&mut Features));

/// Those that Prometheus still has a name for and that are always on here do nothing.
const KNOWN: [FeatureFlag; 9] = [
    ("exemplar-storage", |_| {}),
    ("native-histograms", |_| {}),
    ("promql-binop-fill-modifiers", |features| features.parse.fill_modifiers = true),
    ("promql-delayed-name-removal", |features| features.delayed_name_removal = true),
    ("promql-duration-expr", |_| {}),
    ("promql-experimental-functions", |features| features.parse.experimental_functions = true),
    ("promql-extended-range-selectors", |_| {}),
    ("st-storage", |features| features.store_start_timestamps = true),
    ("use-start-timestamps", |features| features.use_start_timestamps = true),
];

impl Features {
    /// The names that are known.
    pub fn names() -> impl Iterator<Item = &'static str> {
        KNOWN.iter().map(|(name, _)| *name)
    }

    /// The features with these names.
    ///
    /// # Errors
    /// A name that is not known, with those that are.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Features, String> {
        let mut features = Features::default();
        for name in names {
            let known = KNOWN.iter().find(|(known, _)| *known == name);
            let unknown = || {
                let all: Vec<&str> = Features::names().collect();
                format!("there is no feature {name:?}; there are {}", all.join(", "))
            };
            known.ok_or_else(unknown)?.1(&mut features);
        }
        Ok(features)
    }

    /// Reads a query that may use them.
    ///
    /// # Errors
    /// It is not PromQL, or uses a feature that is not on.
    pub fn parse(&self, query: &str) -> Result<Expr, ParseError> {
        promql::parse_with(query, self.parse)
    }

    /// How queries are evaluated.
    pub(crate) fn engine(&self) -> EngineOptions {
        EngineOptions {
            delayed_name_removal: self.delayed_name_removal,
            use_start_timestamps: self.use_start_timestamps,
            ..EngineOptions::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_known_by_the_names_of_prometheus() {
        let on = |names: &[&str]| Features::of(names.iter().copied()).expect("known");
        let always = [
            "exemplar-storage",
            "native-histograms",
            "promql-duration-expr",
            "promql-extended-range-selectors",
        ];
        assert_eq!(on(&always), Features::default());
        assert!(Features::default().parse("rate(x[1m] smoothed)").is_ok());
        assert_eq!(Features::of(Features::names()).map(|all| all.parse.fill_modifiers), Ok(true));
        for (query, feature) in
            [("info(up)", "promql-experimental-functions"), ("a + fill(0) b", "promql-binop-fill-modifiers")]
        {
            assert!(
                Features::default().parse(query).is_err() && on(&[feature]).parse(query).is_ok(),
                "{query}"
            );
        }
        assert!(on(&["use-start-timestamps"]).engine().use_start_timestamps);
        assert!(on(&["promql-delayed-name-removal"]).engine().delayed_name_removal);
        let unknown = Features::of(["st-storage", "magic"]).expect_err("unknown");
        assert!(
            unknown.starts_with("there is no feature \"magic\"; there are exemplar-storage, "),
            "{unknown}"
        );
    }
}
