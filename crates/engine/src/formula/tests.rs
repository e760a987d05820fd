//! What formulas come to, and what is said about wrong ones. The results are those of expr-lang 1.17 for the same
//! formulas, except where a comment says so.

use super::*;
use proptest::prelude::*;

/// Wednesday, 4 March 2026, 13:30:15 UTC; summer time begins in Berlin on the 29th.
const NOW: &str = "2026-03-04T13:30:15Z";

fn compute(text: &str) -> Result<Option<f64>, FormulaError> {
    let value = |name: &Name| match name.as_str() {
        "a" => Some(3.0),
        "b" => Some(0.5),
        "trigger_1" => Some(2.5),
        _ => None,
    };
    Formula::new(text)?.compute(value, NOW.parse().expect("a good time"))
}

fn check(table: &[(&str, f64)]) {
    for (text, expected) in table {
        assert_eq!(compute(text), Ok(Some(*expected)), "{text}");
    }
}

#[test]
fn arithmetic_and_literals() {
    check(&[
        ("1 + 2 * 3", 7.0),
        ("(1 + 2) * 3", 9.0),
        ("2 ** 3 ** 2", 512.0),
        ("-2 ** 2", -4.0),
        ("2 ** -1", 0.5),
        ("10 - 4 - 3", 3.0),
        ("7 % 4", 3.0),
        ("-7 % 4", -3.0),
        ("5 * 2 % 3", 1.0),
        ("int(ceil(a / 3)) % 2", 1.0),
        ("2^10", 1024.0),
        ("5 / 2", 2.5),
        ("a * b", 1.5),
        ("--a + +a - -1", 7.0),
        (".5 + 1e3 + 1_000 + 2.5e-1 + 5.", 2005.75),
        ("0x10 + 0b11 + 0o17", 34.0),
        ("1 / 0", f64::INFINITY),
        ("-1 / 0", f64::NEG_INFINITY),
        ("a ** 0.5", 3_f64.sqrt()),
        // Whole numbers wrap around, as in Go.
        ("9223372036854775807 + 1", -9_223_372_036_854_775_808.0),
        ("float(a) / max(b, 1)", 3.0),
        ("int(2.7) + int(-2.7)", 0.0),
        ("round(2.5) + round(-2.5) + floor(-0.5) + ceil(0.2)", 0.0),
        ("abs(-5) + abs(-1.5) + int(\"5\") + float(\"5.5\") + len(\"abc\")", 20.0),
        ("bitand(5, 3) + bitor(4, 1) + bitxor(6, 3) + bitnand(7, 2) + bitnot(1)", 14.0),
        ("bitshl(1, 4) + bitshr(-8, 1) + bitushr(8, 2) + bitshl(1, 64)", 14.0),
    ]);
}

#[test]
fn comparison_and_logic() {
    check(&[
        ("not (a > 1) ? 1 : 2", 2.0),
        ("!(a > 1) ? 1 : 2", 2.0),
        ("a > 1 or b > 1 ? 1 : 0", 1.0),
        ("a > 1 and b < 2 ? a : b", 3.0),
        ("a > 1 && false || true ? 1 : 2", 1.0),
        ("true or (1 / 0 > 1) ? 1 : 2", 1.0),
        ("1 < a < 5 ? 1 : 0", 1.0),
        ("5 > a >= 3 > b ? 1 : 0", 1.0),
        ("a < 2 < 5 ? 1 : 0", 0.0),
        ("1 == 1.0 ? 1 : 0", 1.0),
        ("0 / 0 == 0 / 0 ? 1 : 0", 0.0),
        ("[1, 2] == [1.0, 2.0] ? 1 : 0", 1.0),
        ("\"a\" == 'a' && `a` != \"b\" ? a : b", 3.0),
        ("\"abc\" contains \"b\" and \"abc\" startsWith \"a\" and \"abc\" not endsWith \"b\" ? 1 : 0", 1.0),
        ("\"a\\t\\\"\" == `a\t\"` ? 1 : 0", 1.0),
        ("a in 1..5 ? 2 : 1", 2.0),
        ("b in 0..5 ? 2 : 1", 1.0),
        ("a in [1, 3] ? 1 : 0", 1.0),
        ("a not in [1, 3] ? 1 : 0", 0.0),
        ("not (a in [1]) ? 1 : 0", 1.0),
        ("gone in [nil] ? 1 : 0", 1.0),
        ("a == nil ? 1 : 2", 2.0),
    ]);
}

#[test]
fn conditions_and_variables() {
    check(&[
        ("trigger_1 > 2 ? a + b : 1", 3.5),
        ("a < 1 ? 10 : a < 5 ? 20 : 30", 20.0),
        ("a > 1 ? b > 1 ? 1 : 2 : 3", 2.0),
        ("if a > 1 { a } else { b }", 3.0),
        ("if a > 9 { a } else if b > 9 { b } else { 4 }", 4.0),
        ("(if a > 1 { a } else { b }) + 1", 4.0),
        ("if (max([a, b]) > 0) {\n  max([a, b])\n} else {\n  trigger_1\n}\n", 3.0),
        ("let x = a + b; x > 3 ? x : 0", 3.5),
        ("let x = 1; let y = x + 1; x + y", 3.0),
        ("(let x = a; x * 2) + (let x = b; x)", 6.5),
        ("if a > 1 { let x = 2; x * a } else { 0 }", 6.0),
        ("(1; 2) + 1", 3.0),
        ("max(a, b) /* note */ + 1", 4.0),
        // In KEDA a comment at the end swallows the bracket that it adds.
        ("a + 1 // note", 4.0),
        ("// first\na // second\n + 1", 4.0),
    ]);
}

#[test]
fn nil_has_a_default() {
    check(&[
        ("gone ?? 7", 7.0),
        ("a + gone ?? 7", 10.0),
        ("a ?? b ?? 3", 3.0),
        ("gone ?? other ?? a", 3.0),
        ("(gone ?? a) + 1", 4.0),
        ("gone == nil ? 1 : 2", 1.0),
        ("gone == other ? 1 : 2", 1.0),
        ("[a, gone] | filter(# != nil) | sum()", 3.0),
        ("[a, gone] | map(# ?? 0) | sum()", 3.0),
        ("get([1, 2], 5) ?? 9", 9.0),
    ]);
    assert_eq!(compute("gone"), Ok(None));
    assert_eq!(compute("gone ?? other"), Ok(None));
}

#[test]
fn arrays_and_functions_over_them() {
    check(&[
        ("max(1, a)", 3.0),
        ("max([1, [a, 5]])", 5.0),
        ("min([a, b, -1])", -1.0),
        ("min(a, b) | max(1)", 1.0),
        ("[a, b] | max()", 3.0),
        ("a * 2 | max(1)", 6.0),
        ("1..3 | map(# * 2) | sum()", 12.0),
        ("[a, b] | map({# * 2}) | sum() | abs()", 7.0),
        ("sum([a, b, 1,])", 4.5),
        ("sum([a, b], # * 2)", 7.0),
        ("sum([])", 0.0),
        ("sum(1..3)", 6.0),
        ("sum(int(a)..5)", 12.0),
        ("sum(5..1)", 0.0),
        ("sum(filter([a, b], {# > 1}))", 3.0),
        ("sum(map([a, b], # * 2))", 7.0),
        ("mean(1, 2, 6)", 3.0),
        ("mean(a, [b, 1])", 1.5),
        ("mean([])", 0.0),
        ("median([1, 9, 2, 4])", 3.0),
        ("count([a, b, trigger_1], {# > 1})", 2.0),
        ("count([a, b], {# > 1}) >= 2 ? 5 : 1", 1.0),
        ("count([true, false])", 1.0),
        ("any([a, b], {# > 2}) ? 1 : 0", 1.0),
        ("all([a, b], {# > 2}) && true ? 1 : 0", 0.0),
        ("all([], # > 1) ? 1 : 0", 1.0),
        ("none([a, b], {# > 4}) and not false ? 1 : 0", 1.0),
        ("one([a, b], # > 1) ? 1 : 0", 1.0),
        ("reduce([a, b], #acc + #, 0)", 3.5),
        ("reduce([a, b], #acc + #)", 3.5),
        ("reduce([], #acc + #, 5)", 5.0),
        ("reduce([a, b], #acc + # * #index, 0)", 0.5),
        ("map([a, b], #index) | sum()", 1.0),
        ("map([a, b], {let y = #; y * 2}) | sum()", 7.0),
        ("map([a, b], map([1, 2], # * 10) | sum()) | sum()", 60.0),
        ("let x = [a, b]; find(x, # < 1) ?? 9", 0.5),
        ("findIndex([a, b], # == b)", 1.0),
        ("findLast([a, b], # != nil)", 0.5),
        ("findLastIndex([a, b], # != nil)", 1.0),
        ("[a, b][0] + [a, b][-1]", 3.5),
        ("[a, b, 1][0:2] | sum()", 3.5),
        ("[a, b, 1][:2] | sum()", 3.5),
        ("[a, b, 1][1:] | sum()", 1.5),
        ("[a, b, 1][-2:-1] | sum()", 0.5),
        ("first([a, b]) + last([a, b])", 3.5),
        ("take([a, b], 1) | sum()", 3.0),
        ("reverse([a, b])[0]", 0.5),
        ("uniq([1, 1.0, 2]) | len()", 2.0),
        ("concat([1], [2, 3]) | sum()", 6.0),
        ("flatten([1, [2, [3]]]) | sum()", 6.0),
        ("sort([3, 1, 2])[0] + sort([3, 1, 2], \"desc\")[0]", 4.0),
        ("sortBy([a, b], -#)[0] + sortBy([a, b], #, \"desc\")[1]", 3.5),
        ("len(1..10) + len([1, 2])", 12.0),
    ]);
}

#[test]
fn time_is_an_argument() {
    check(&[
        ("now().Hour()", 13.0),
        ("now().Minute() + now().Second()", 45.0),
        ("max(a, (now().Hour() >= 7 and now().Hour() < 23) ? 5 : 1)", 5.0),
        ("now().Hour() in 7..22 ? a : b", 3.0),
        ("now().Year() * 10000 + int(now().Month()) * 100 + now().Day()", 20_260_304.0),
        ("int(now().Weekday())", 3.0),
        ("now().Weekday().String() == \"Wednesday\" ? 1 : 2", 1.0),
        ("now().Weekday().String() in [\"Saturday\", \"Sunday\"] ? 1 : 2", 2.0),
        ("now().Month().String() == \"March\" ? 1 : 2", 1.0),
        ("now().YearDay()", 63.0),
        ("now().Unix()", 1_772_631_015.0),
        ("now(timezone(\"Europe/Berlin\")).Hour()", 14.0),
        ("now().In(timezone(\"America/New_York\")).Hour()", 8.0),
        ("now().In(timezone(\"Asia/Tokyo\")).UTC().Hour()", 13.0),
        ("now() > date(\"2026-03-01\") ? 1 : 0", 1.0),
        ("now() - date(\"2026-03-04\") > duration(\"13h30m\") ? 1 : 0", 1.0),
        ("(now() - date(\"2026-03-04 12:30:15\")).Hours()", 1.0),
        ("date(timezone(\"Europe/Berlin\"), \"2026-04-01 12:00:00\").UTC().Hour()", 10.0),
        ("date(\"2026-03-04T14:30:15+01:00\") == now() ? 1 : 0", 1.0),
        ("duration(\"1h30m\").Hours() + duration(\"90s\").Minutes() + duration(\"-1.5s\").Seconds()", 1.5),
        ("now().Add(duration(\"-24h\") * 3).Day()", 1.0),
        ("now().After(date(\"2026-01-01\")) and not now().Before(date(\"2026-01-01\")) ? 1 : 0", 1.0),
        ("now().Sub(now()).Seconds()", 0.0),
    ]);
}

#[test]
fn wrong_formulas_are_refused_with_the_column() {
    let table = [
        ("", 1, "unexpected the end of the formula"),
        ("a +", 4, "unexpected the end of the formula"),
        ("a + * 2", 5, "unexpected `*`"),
        ("(a", 3, "expected `)`"),
        ("a b", 3, "unexpected `b`"),
        ("a; b", 2, "unexpected `;`"),
        ("a ? 1", 6, "expected `:`"),
        ("a @ b", 3, "unrecognized character '@'"),
        ("1.2.3", 4, "unexpected `0.3`"),
        ("1e400", 1, "`1e400` is not a number, or too large"),
        ("9223372036854775808", 1, "is not a number, or too large"),
        ("0x", 1, "is not a number, or too large"),
        ("3apples", 1, "`3apples` is not a number"),
        ("a /* x", 2, "a comment begins with `/*` and does not end"),
        ("\"x", 1, "a text begins with \" and does not end"),
        ("\"\\q\"", 1, "a text may escape only"),
        ("foo(a)", 1, "unknown function `foo`"),
        ("upper(\"a\")", 1, "`upper` is for texts and maps"),
        ("groupBy([1], #)", 1, "`groupBy` is for texts and maps"),
        ("{x: 1}", 1, "no maps"),
        ("\"a\" matches \"b\"", 5, "`matches` is for texts"),
        ("[a]?.[0]", 4, "`?.` is for maps"),
        ("$env", 1, "unknown name `$env`"),
        ("# > 1", 1, "unexpected `#`"),
        ("filter([1], #index > 0)", 13, "there is no `#index`"),
        ("map([1], #acc)", 10, "there is no `#acc`"),
        ("min([a, b]...)", 13, "unexpected `.`"),
        ("a > 1", 3, "the formula must come to a number, and this is true or false"),
        ("[a]", 1, "the formula must come to a number, and this is an array"),
        ("\"5\"", 1, "and this is a text"),
        ("now()", 1, "and this is a time"),
        ("nil", 1, "and this is nil"),
        ("max([])", 1, "with every trigger at -1 this is nil"),
        ("a > 0 ? a : nil", 7, "with every trigger at -1 this is nil"),
        ("a + true", 3, "a number and true or false can't be combined here"),
        ("\"a\" + \"b\" == \"ab\" ? 1 : 0", 5, "a text and a text can't be combined here"),
        ("a ? 1 : 2", 1, "expected true or false, found a number"),
        ("not a ? 1 : 2", 5, "expected true or false, found a number"),
        ("a == true ? 1 : 0", 3, "a number and true or false can't be combined here"),
        ("a > \"x\" ? 1 : 0", 3, "a number and a text can't be compared"),
        // Wrong in a branch that is not taken when it is tried.
        ("a > 0 ? b % 2 : a", 11, "`%` works on whole numbers; write int(…)"),
        ("sum(a..3)", 6, "`..` works on whole numbers; write int(…)"),
        ("7 % 0", 3, "the remainder of a division by zero"),
        ("max()", 1, "max takes at least one argument, and 0 were given"),
        ("max(a, \"x\")", 8, "expected a number, found a text"),
        ("abs(a, b)", 1, "abs takes one argument, and 2 were given"),
        ("sum(1, 2)", 5, "expected an array, found a whole number"),
        ("any([a])", 1, "any takes 2 arguments, and 1 were given"),
        ("any([a], #) ? 1 : 0", 10, "expected true or false, found a number"),
        ("sortBy([a], #, 1)[0]", 16, "expected a text, found a whole number"),
        ("sort([2, 1], \"up\")[0]", 14, "the order is \"asc\" or \"desc\""),
        ("sort([1, \"x\"])[0]", 1, "a whole number and a text have no order"),
        ("reduce([], #acc + #)", 1, "needs a third argument"),
        ("[a, b][a]", 8, "expected a whole number, found a number"),
        ("[a, b][5]", 8, "there is no element 5 in an array of 2"),
        ("take([a], -1) | sum()", 11, "take takes no negative number"),
        ("bitshl(1, -1)", 1, "a shift takes no negative number"),
        ("a.b", 2, "unknown method `b`"),
        ("a.Hour()", 2, "a number has no method Hour"),
        ("now().Hours()", 6, "a time has no method Hours"),
        ("now().In()", 6, "In takes 1 arguments, and 0 were given"),
        (
            "now().Weekday() == 1 ? 1 : 0",
            17,
            "a weekday and a whole number can't be combined here; write int(…)",
        ),
        ("timezone(\"Mars\") == nil ? 1 : 0", 1, "unknown time zone \"Mars\""),
        ("now() > date(\"tomorrow\") ? 1 : 0", 9, "\"tomorrow\" is not a date"),
        ("date(\"02.01.2006\", \"x\").Day()", 1, "layouts are not there"),
        ("duration(\"1 week\").Hours()", 1, "\"1 week\" is not a duration"),
        ("let max = 4; max", 5, "`max` is taken"),
        ("let x = 1; let x = 2; x", 16, "the variable `x` is declared twice"),
        ("let x = 1;", 11, "unexpected the end of the formula"),
        ("let 5 = 1; 2", 5, "expected a name for the variable"),
        ("if a > 1 { a }", 15, "expected `else`"),
        ("1 + if a > 1 { a } else { b }", 5, "unexpected `if`"),
        ("[a, b] | max", 13, "expected `(`"),
        ("gone ?? 7 + 1", 11, "put brackets around `??` before `+`"),
        ("a not > 1 ? 1 : 0", 7, "expected `in`"),
        ("1 in nil ? 1 : 0", 3, "a whole number and nil can't be combined here"),
    ];
    let wrong = table.iter().filter_map(|(text, column, message)| match Formula::new(text) {
        Err(error) if error.column == *column && error.message.contains(message) => None,
        other => Some(format!("{text}: {:?}", other.map(|_| "accepted"))),
    });
    assert_eq!(wrong.collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn nil_where_a_number_is_needed_is_an_error() {
    let table = [
        ("a + gone", "a number and nil can't be combined here (column 3)"),
        ("gone > 1 ? 1 : 2", "nil and a whole number can't be compared (column 8)"),
        ("sum([a, gone])", "a number and nil can't be combined here (column 1)"),
        ("max([a, gone])", "expected a number, found nil (column 5)"),
        ("abs(gone)", "expected a number, found nil (column 5)"),
        ("[1, 2][int(a)]", "there is no element 3 in an array of 2 (column 8)"),
    ];
    for (text, message) in table {
        assert_eq!(compute(text).expect_err(text).to_string(), message, "{text}");
    }
}

#[test]
fn variables_are_told_apart_from_triggers() {
    let formula = Formula::new("let x = a; map([x], # + b) | sum()").expect("a good formula");
    let names = |names: &[Name]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(formula.names()), ["a", "b"]);
    assert_eq!(names(formula.variables()), ["x"]);
}

#[test]
fn size_depth_and_steps_are_bounded() {
    let nested =
        |open: &str, inner: &str, close: &str, times| open.repeat(times) + inner + &close.repeat(times);
    let doubled = (1..30).map(|n| format!("let x{n} = [x{}, x{}]; ", n - 1, n - 1)).collect::<String>();
    let table = [
        ("(".repeat(1000), "nested more than 64 deep"),
        ("-".repeat(1000), "nested more than 64 deep"),
        (nested("len([", "1", "])", 300), "nested more than 64 deep"),
        (nested("1<(", "a", "<2?1:0)", 300), "nested more than 64 deep"),
        ("a+".repeat(1000) + "a", "a long sum can be written sum([…])"),
        ("1?1:".repeat(900) + "1", "nested more than 64 deep"),
        ("if true {1} else ".repeat(200) + "{1}", "nested more than 64 deep"),
        (" ".repeat(5000), "longer than 4096 characters"),
        ("sum(1..1000000000000)".to_owned(), "more than 100000 steps"),
        ("sum(-9223372036854775807..9223372036854775807)".to_owned(), "more than 100000 steps"),
        ("sum(1..20000)".to_owned(), "more than 10080 elements"),
        ("sum(1..1000, sum(1..1000, sum(1..1000)))".to_owned(), "more than 100000 steps"),
        ("len(uniq(1..10000))".to_owned(), "more than 100000 steps"),
        ("len(reduce(1..1000, [#acc, #acc], 0))".to_owned(), "arrays nest more than 8 deep"),
        (format!("let x0 = [1, 1]; {doubled}len(flatten(x29))"), "arrays nest more than 8 deep"),
        ("let x = 1..10000; len(reduce(1..100, concat(#acc, x), []))".to_owned(), "more than 10080 elements"),
        ("let x = 1..9999; let y = [x, x, x, x, x, x, x, x, x]; y == y ? 1 : 0".to_owned(), "100000 steps"),
    ];
    let wrong = table.iter().filter_map(|(text, message)| match Formula::new(text) {
        Err(error) if error.message.contains(message) => None,
        other => Some(format!("{}: {:?}", &text[..text.len().min(60)], other.map(|_| "accepted"))),
    });
    assert_eq!(wrong.collect::<Vec<_>>(), Vec::<String>::new());
    assert_eq!(compute("sum(1..10080)"), Ok(Some(50_808_240.0)));
}

/// Pieces that make formulas that are mostly well-formed, so that evaluation is reached.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("a".to_owned()),
        Just("b".to_owned()),
        Just("gone".to_owned()),
        Just("#".to_owned()),
        Just("nil".to_owned()),
        Just("\"x\"".to_owned()),
        Just("now()".to_owned()),
        Just("1..9".to_owned()),
        (0..100_i32).prop_map(|number| number.to_string()),
        Just("9223372036854775807".to_owned()),
    ];
    leaf.prop_recursive(5, 40, 3, |inner| {
        let operator = prop::sample::select(vec![
            "+", "-", "*", "/", "%", "**", "..", "==", "<", ">=", "and", "or", "in", "??", "|", "not in",
        ]);
        let one = prop::sample::select(vec![
            "len", "abs", "int", "round", "max", "median", "first", "reverse", "uniq", "flatten", "sort",
            "not ", "-",
        ]);
        let over = prop::sample::select(vec![
            "filter", "map", "reduce", "sum", "sortBy", "any", "count", "findLast", "take", "get", "concat",
            "bitshl",
        ]);
        prop_oneof![
            (inner.clone(), operator, inner.clone()).prop_map(|(l, sign, r)| format!("({l} {sign} {r})")),
            (one, inner.clone()).prop_map(|(name, x)| format!("{name}({x})")),
            (over, inner.clone(), inner.clone()).prop_map(|(name, x, y)| format!("{name}({x}, {y})")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(c, x, y)| format!("({c} ? {x} : {y})")),
            (inner.clone(), inner.clone()).prop_map(|(x, y)| format!("(let v = {x}; {y})")),
            (inner.clone(), inner.clone()).prop_map(|(x, y)| format!("[{x}, {y}]")),
            (inner.clone(), inner).prop_map(|(x, y)| format!("{x}[{y}]")),
        ]
    })
}

proptest! {
    #[test]
    fn no_text_panics(text in "[a-z0-9 +*/%<>=!?:#(){}\\[\\],.&|^\"'`;_-]{0,60}") {
        let _ = Formula::new(&text);
    }

    #[test]
    fn no_formula_panics(text in expression(), a: f64, b: f64) {
        if let Ok(formula) = Formula::new(&format!("{text} ?? 1")).or_else(|_| Formula::new(&text)) {
            let value = |name: &Name| match name.as_str() { "a" => Some(a), "b" => Some(b), _ => None };
            let _ = formula.compute(value, Time::from_seconds(1_772_631_015));
        }
    }

    #[test]
    fn no_value_panics(a: f64, b: f64) {
        let formula = Formula::new(
            "max(a / b, int(a) % max(int(b), 1)) ** (a > b ? a : b) + median([a, b]) + sort([a, b, 1])[0] \
             + sum(take(1..9, int(min(9, max(0, a)))))",
        ).expect("a good formula");
        let _ = formula.compute(|name| Some(if name.as_str() == "a" { a } else { b }), Time::default());
    }

    #[test]
    fn a_formula_is_read_back(a in 0..1000_u32, b in 1..1000_u32) {
        let formula = Formula::new(&format!("{a} / {b}")).expect("a good formula");
        let json = serde_json::to_string(&formula).expect("a formula is text");
        prop_assert_eq!(serde_json::from_str::<Formula>(&json).expect("the same text"), formula);
    }
}
