//! Rules on labels, and what is refused.

use proptest::prelude::*;

use super::*;

/// A rule from `field=value` words; source labels are joined by commas, `_` stands for a blank.
fn written(words: &str) -> RuleText {
    let mut rule = RuleText::default();
    for word in words.split_whitespace() {
        let (field, value) = word.split_once('=').expect("field=value");
        let value = value.to_owned();
        match field {
            "source" => rule.source_labels = value.split(',').map(str::to_owned).collect(),
            "separator" => rule.separator = Some(value),
            "target" => rule.target_label = Some(value),
            "regex" => rule.regex = Some(value),
            "modulus" => rule.modulus = Some(value.parse().expect("a number")),
            "replacement" => rule.replacement = Some(value),
            "action" => rule.action = Some(value),
            _ => panic!("{field}"),
        }
    }
    rule
}

fn check(rules: &[&str], expected: Option<&str>) {
    let labels =
        Labels::new([("__name__", "m"), ("a", "foo"), ("b", "bar"), ("c", "baz"), ("__meta_x_app", "web")]);
    let compiled: Vec<Rule> =
        rules.iter().map(|rule| Rule::new(written(rule)).unwrap_or_else(|e| panic!("{rule}: {e}"))).collect();
    let result = apply(&compiled, &labels).map(|labels| {
        let shown = labels.iter().filter(|(name, _)| !name.starts_with("__"));
        shown.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    });
    assert_eq!(result.as_deref(), expected, "{rules:?}");
}

#[test]
fn rules_do_what_those_of_prometheus_do() {
    let table: &[(&[&str], Option<&str>)] = &[
        (&[], Some("a=foo b=bar c=baz")),
        (
            &["source=a regex=f(.*) target=d replacement=ch${1}-ch${1} separator=;"],
            Some("a=foo b=bar c=baz d=choo-choo"),
        ),
        (
            &["source=a,b regex=f(.*);(.*)r target=a replacement=b${1}${2}m separator=;"],
            Some("a=boobam b=bar c=baz"),
        ),
        (&["source=a regex=.*o.* action=drop"], None),
        (&["source=a regex=no-match action=drop"], Some("a=foo b=bar c=baz")),
        (&["source=a regex=f|o action=drop"], Some("a=foo b=bar c=baz")),
        (&["source=a regex=no-match action=keep"], None),
        (&["source=a regex=f.* action=keep"], Some("a=foo b=bar c=baz")),
        (&["source=a regex=no-match target=d replacement=x"], Some("a=foo b=bar c=baz")),
        (&["target=d replacement=x"], Some("a=foo b=bar c=baz d=x")),
        (&["source=a target=b replacement="], Some("a=foo c=baz")),
        (&["source=a regex=f(.*) target=${1}_x replacement=y"], Some("a=foo b=bar c=baz oo_x=y")),
        (&["source=a regex=(f)(z)? target=$2 replacement=y"], Some("a=foo b=bar c=baz")),
        (&["source=c target=d action=hashmod modulus=1000"], Some("a=foo b=bar c=baz d=976")),
        (&["regex=__meta_x_(.+) action=labelmap"], Some("a=foo app=web b=bar c=baz")),
        (&["regex=(b) action=labelmap replacement=${1}_copy"], Some("a=foo b=bar b_copy=bar c=baz")),
        (&["regex=(b.*|c) action=labeldrop"], Some("a=foo")),
        (&["regex=(b.*|__name__) action=labelkeep"], Some("b=bar")),
        (&["source=a,b separator=- target=d action=Uppercase"], Some("a=foo b=bar c=baz d=FOO-BAR")),
        (&["source=a target=d action=lowercase"], Some("a=foo b=bar c=baz d=foo")),
        (&["source=a target=b action=keepequal"], None),
        (&["source=a target=b action=dropequal"], Some("a=foo b=bar c=baz")),
        (&["source=a target=d", "source=a target=d action=dropequal"], None),
        (&["source=a target=__name__"], Some("a=foo b=bar c=baz")),
    ];
    for (rules, expected) in table {
        check(rules, *expected);
    }
}

#[test]
fn useless_rules_are_refused_in_the_words_of_prometheus() {
    let table = [
        ("action=explode", "unknown relabel action \"explode\""),
        ("action=hashmod target=a", "relabel configuration for hashmod requires non-zero modulus"),
        ("source=a", "relabel configuration for replace action requires 'target_label' value"),
        ("action=keepequal", "relabel configuration for keepequal action requires 'target_label' value"),
        ("action=lowercase target=a replacement=x", "'replacement' can not be set for lowercase action"),
        ("action=labelmap replacement=", "\"\" is invalid 'replacement' for labelmap action"),
        (
            "action=dropequal target=a regex=x",
            "dropequal action requires only 'source_labels' and `target_label`, and no other fields",
        ),
        ("action=labeldrop regex=x source=a", "labeldrop action requires only 'regex', and no other fields"),
    ];
    for (rule, message) in table {
        assert_eq!(Rule::new(written(rule)).expect_err(rule).to_string(), message, "{rule}");
    }
    let RuleError(problems) = Rule::new(written("action=hashmod regex=((")).expect_err("three problems");
    let fields: Vec<RuleField> = problems.iter().map(|problem| problem.field).collect();
    assert_eq!(fields, [RuleField::Modulus, RuleField::TargetLabel, RuleField::Regex]);
    let RuleError(problems) =
        Rule::new(written("action=labelkeep source=a separator=, target=b")).expect_err("three more");
    let fields: Vec<RuleField> = problems.iter().map(|problem| problem.field).collect();
    assert_eq!(fields, [RuleField::SourceLabels, RuleField::Separator, RuleField::TargetLabel]);
    let error = Rule::new(written("source=a target=b regex=((")).expect_err("unclosed").to_string();
    assert!(error.contains("unclosed group") && error.contains("(("), "{error}");
    let error = Rule::new(written("source=a target=b regex=((a{99}){99}){99}")).expect_err("too large");
    assert!(!error.to_string().is_empty());
}

proptest! {
    #[test]
    fn any_rule_is_refused_or_can_be_applied(
        action in prop::sample::select(ACTIONS.map(|(name, _)| name).to_vec()),
        source in prop::collection::vec("[ab]|\\PC{0,3}", 0..3),
        target in prop::option::of("a|\\$1|\\PC{0,4}"),
        regex in prop::option::of("\\(a\\)|[ab(.*)\\[\\]|?+]{0,8}|\\PC{0,6}"),
        replacement in prop::option::of("\\$1|\\$\\{x\\}|\\PC{0,6}"),
        modulus in prop::option::of(any::<u64>()),
        value in "\\PC{0,8}",
    ) {
        let text = RuleText {
            source_labels: source, separator: None, target_label: target, regex, modulus, replacement,
            action: Some(action.to_owned()),
        };
        if let Ok(rule) = Rule::new(text) {
            let rules = vec![rule; 12];
            let labels = Labels::new([("a", &*value), ("b", "x"), ("", "y")]);
            if let Some(labels) = apply(&rules, &labels) {
                prop_assert!(labels.len() <= LABELS_MAX);
            }
        }
    }
}
