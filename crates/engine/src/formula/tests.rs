//! What formulas come to, and what is said about wrong ones.

use super::*;
use proptest::prelude::*;

fn compute(text: &str) -> Result<Option<f64>, FormulaError> {
    Formula::new(text)?.compute(|name| match name.as_str() {
        "a" => Some(3.0),
        "b" => Some(0.5),
        "trigger_1" => Some(2.5),
        _ => None,
    })
}

#[test]
fn formulas_come_to_numbers() {
    let table = [
        ("1 + 2 * 3", 7.0),
        ("(1 + 2) * 3", 9.0),
        ("2 ** 3 ** 2", 512.0),
        ("-2 ** 2", -4.0),
        ("a + gone ?? 7", 10.0),
        ("not (a > 1) ? 1 : 2", 2.0),
        ("10 - 4 - 3", 3.0),
        ("7 % 4", 3.0),
        ("2^10", 1024.0),
        (".5 + 1e3 + 1_000 + 2.5e-1", 2000.75),
        ("a * b", 1.5),
        ("trigger_1 > 2 ? a + b : 1", 3.5),
        ("a < 1 ? 10 : a < 5 ? 20 : 30", 20.0),
        ("gone ?? 7", 7.0),
        ("gone ?? other ?? a", 3.0),
        ("gone == nil ? 1 : 2", 1.0),
        ("max(a, b)", 3.0),
        ("min([a, b, -1])", -1.0),
        ("sum([a, b, 1,])", 4.5),
        ("mean(1, 2, 6)", 3.0),
        ("median([1, 9, 2, 4])", 3.0),
        ("count([a, b, trigger_1], {# > 1})", 2.0),
        ("count([a, b], # > 1)", 1.0),
        ("any([a, b], {# > 2}) ? 1 : 0", 1.0),
        ("all([a, b], {# > 2}) && true ? 1 : 0", 0.0),
        ("none([a, b], {# > 4}) and not false ? 1 : 0", 1.0),
        ("a > 1 or b > 1 ? 1 : 0", 1.0),
        ("abs(-1.5) + ceil(0.2) + floor(0.8) + round(0.5) + len([1, 2]) + int(2.7) + float(1)", 8.5),
        ("1 / 0", f64::INFINITY),
    ];
    for (text, expected) in table {
        assert_eq!(compute(text), Ok(Some(expected)), "{text}");
    }
    assert_eq!(compute("gone"), Ok(None));
}

#[test]
fn wrong_formulas_are_refused_with_the_column() {
    let table = [
        ("", 1, "unexpected the end of the formula"),
        ("a +", 4, "unexpected the end of the formula"),
        ("a + * 2", 5, "unexpected `*`"),
        ("(a", 3, "expected `)`"),
        ("a b", 3, "unexpected `b`"),
        ("a ? 1", 6, "expected `:`"),
        ("a @ b", 3, "unrecognized character '@'"),
        ("1.2.3", 1, "`1.2.3` is not a number"),
        ("foo(a)", 1, "unknown function `foo`"),
        ("# > 1", 1, "unexpected `#`"),
        ("a > 1", 3, "the formula must come to a number"),
        ("[a]", 1, "the formula must come to a number"),
        ("a + true", 5, "expected a number, found true or false"),
        ("a ? 1 : 2", 1, "expected true or false, found a number"),
        ("max()", 1, "max needs at least one number"),
        ("abs(a, b)", 1, "abs takes one number, and 2 were given"),
        ("a.b", 2, "unexpected `.`"),
    ];
    for (text, column, message) in table {
        let error = Formula::new(text).expect_err(text);
        assert_eq!(error.column, column, "{text}: {error}");
        assert!(error.message.contains(message), "{text}: {error}");
    }
}

#[test]
fn nil_where_a_number_is_needed_is_an_error() {
    let error = compute("a + gone").expect_err("nil can't be added");
    assert_eq!(error.to_string(), "expected a number, found nil (column 5)");
}

#[test]
fn size_and_depth_are_bounded() {
    for text in [
        "(".repeat(1000),
        "-".repeat(1000),
        "a+".repeat(1000) + "a",
        "1?1:".repeat(900) + "1",
        " ".repeat(5000),
    ] {
        assert!(Formula::new(&text).is_err(), "{}", &text[..20]);
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "[a-z0-9 +*/%<>=!?:#(){}\\[\\],.&|^-]{0,60}") {
        let _ = Formula::new(&text);
    }

    #[test]
    fn no_value_panics(a: f64, b: f64) {
        let formula = Formula::new("max(a / b, a % b) ** (a > b ? a : b) + median([a, b])").expect("a good formula");
        let _ = formula.compute(|name| Some(if name.as_str() == "a" { a } else { b }));
    }

    #[test]
    fn a_formula_is_read_back(a in 0..1000_u32, b in 1..1000_u32) {
        let formula = Formula::new(&format!("{a} / {b}")).expect("a good formula");
        let json = serde_json::to_string(&formula).expect("a formula is text");
        prop_assert_eq!(serde_json::from_str::<Formula>(&json).expect("the same text"), formula);
    }
}
