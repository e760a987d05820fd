//! Pages, whole and broken.

use proptest::prelude::*;

use super::*;

fn lines(page: &str, format: Format) -> Result<Vec<String>, String> {
    let mut parser = Parser::new(page.as_bytes(), format).map_err(|error| error.to_string())?;
    let mut lines = Vec::new();
    while let Some(entry) = parser.next() {
        if let Entry::Series(line) = entry.map_err(|error| error.to_string())? {
            let labels = parser.labels().map_err(|error| error.to_string())?;
            let exemplar = line.exemplar.map(|exemplar| {
                let labels = parser.exemplar_labels().expect("read");
                format!("{labels} {} {:?}", exemplar.value, exemplar.timestamp_ms)
            });
            lines.push(format!("{labels} {} {:?} {exemplar:?}", line.value, line.timestamp_ms));
        }
    }
    Ok(lines)
}

#[test]
fn text_pages_are_read() {
    let page = "# HELP x says \\\\ much\n# TYPE x histogram\n# a comment\n\nx_bucket{le=\"1\",a=\"q\\\"\\n\\\\\",} 3\n\
                x_bucket{le=\"+Inf\"} 4 1700000000123\n  plain\t1e3\nvllm:queue:size {a = \"}\" , b=\"\"} NaN\n\
                {\"a.b\",\"c.d\"=\"e\"} -Inf\na{b=\"1\"c=\"2\n3\"}4\n# HELP\n#TYPE a nonsense\nlast 1";
    let expected = [
        r#"{__name__="x_bucket", a="q\"\n\\", le="1.0"} 3 None None"#,
        r#"{__name__="x_bucket", le="+Inf"} 4 Some(1700000000123) None"#,
        r#"{__name__="plain"} 1000 None None"#,
        r#"{__name__="vllm:queue:size", a="}"} NaN None None"#,
        r#"{__name__="a.b", "c.d"="e"} -inf None None"#,
        r#"{__name__="a", b="1", c="2\n3"} 4 None None"#,
        r#"{__name__="last"} 1 None None"#,
    ];
    assert_eq!(lines(page, Format::Text).expect("valid"), expected);
}

#[test]
fn open_metrics_pages_are_read() {
    let page = "# TYPE x_seconds counter\n# UNIT x_seconds seconds\n# HELP x_seconds y\nx_seconds_total{a=\"b\"} 1 1.5 # {trace_id=\"q\"} 0.5 1.2\n# EOF\n";
    let expected =
        [r#"{__name__="x_seconds_total", a="b"} 1 Some(1500) Some("{trace_id=\"q\"} 0.5 Some(1200)")"#];
    assert_eq!(lines(page, Format::OpenMetrics).expect("valid"), expected);
}

#[test]
fn broken_pages_are_refused_with_line_and_column() {
    let rows = [
        ("a 1\nb\n", "line 2, column 2: expected value after metric, got \"\\n\""),
        ("a 1\nb two\n", "line 2, column 3: expected value, got \"two\""),
        ("a 0x1p3\n", "line 1, column 3: expected value, got \"0x1p3\""),
        ("a 1e999\n", "line 1, column 3: value out of range \"1e999\""),
        ("a 1\r\n", "line 1, column 3: expected value, got \"1\\r\""),
        ("a 1 2 3\n", "line 1, column 7: expected next entry after timestamp, got \"3\""),
        ("a 1 1.5\n", "line 1, column 6: expected next entry after timestamp, got \".5\""),
        ("a 1 -5\n", "line 1, column 5: expected timestamp or new record, got \"-5\""),
        ("a{b=\"c\" 1\n", "line 1, column 9: expected label name, got \"1\""),
        ("a{b=\"c\",,} 1\n", "line 1, column 9: expected label name, got \",}\""),
        ("a{b=\"c} 1\n", "line 1, column 6: unterminated label value"),
        ("{b=\"c\"} 1\n", "line 1, column 1: metric name not set while parsing"),
        ("a{\"b\"} 1\n", "line 1, column 3: metric name already set while parsing"),
        ("a{b=1} 1\n", "line 1, column 5: expected label value, got \"1}\""),
        ("x 1\na{b=\"1\",b=\"2\"} 1\n", "line 2, column 1: label name \"b\" is not unique"),
        ("1a 1\n", "line 1, column 1: expected a valid start token, got \"1a\""),
        ("# TYPE a nonsense\n", "line 1, column 1: invalid metric type \"nonsense\""),
        ("# TYPE a counter \n", "line 1, column 1: invalid metric type \"counter \""),
        ("# TYPE 5 counter\n", "line 1, column 8: expected metric name after TYPE, got \"5\""),
        ("<html>\n", "line 1, column 1: expected a valid start token, got \"<html>\""),
    ];
    for (page, message) in rows {
        assert_eq!(lines(page, Format::Text).expect_err(page), message, "{page:?}");
    }
    // What follows is a table of Prometheus' own: everything that its parser for OpenMetrics refuses.
    let rows = [
        ("", "data does not end with # EOF"),
        ("\n", "expected a valid start token, got \"\\n\""),
        ("metric 1", "data does not end with # EOF"),
        ("metric 1\n", "data does not end with # EOF"),
        ("metric_total 1 # {aa=\"bb\"} 4", "data does not end with # EOF"),
        (" a 1\n# EOF\n", "expected a valid start token, got \" \""),
        ("# TYPE u untyped\n# EOF\n", "invalid metric type \"untyped\""),
        ("#  TYPE c counter\n# EOF\n", "expected a valid start token"),
        ("# TYPE m\n# EOF\n", "expected text in TYPE"),
        ("# UNIT metric suffix\n# EOF\n", "unit \"suffix\" not a suffix of metric \"metric\""),
        // the separator is one character, however many bytes it has
        ("# UNIT metric\u{351}ZNl\n# EOF\n", "unit \"ZNl\" not a suffix of metric \"metric\""),
        ("# UNIT metricsuffix suffix\n# EOF\n", "unit \"suffix\" not a suffix of metric \"metricsuffix\""),
        ("# HELP \n# EOF\n", "expected metric name after HELP, got end of page"),
        ("a\t1\n# EOF\n", "expected value after metric, got \"\\t\""),
        ("a 1\t2\n# EOF\n", "expected value, got \"1\\t2\""),
        ("a 1 2 \n# EOF\n", "expected next entry after timestamp, got \" \""),
        ("a 1 1z\n# EOF\n", "expected value, got \"1z\""),
        ("# EOF\na 1", "unexpected data after # EOF"),
        ("# EOF\n\n", "unexpected data after # EOF"),
        ("# comment\n# EOF\n", "expected a valid start token, got \"# comment\""),
        ("a{b='c'} 1\n# EOF\n", "expected label value, got \"'c'}\""),
        ("a{b=\"c\"d=\"e\"} 1\n# EOF\n", "expected comma or brace close, got \"d=\\\"e\\\"}\""),
        ("a{b=\"c\n\"} 1\n# EOF\n", "unterminated label value"),
        ("{A}0\n# EOF\n", "expected equal, got \"}0\""),
        ("a_total 1 # {bb}\n# EOF\n", "expected equal, got \"}\""),
        ("a_total 1 # {aa=\"bb\"}\n# EOF\n", "expected value after exemplar labels, got \"\\n\""),
        ("a_total 1 # {aa=\"bb\"} 1 NaN\n# EOF\n", "invalid exemplar timestamp NaN"),
        ("a 1 Inf\n# EOF\n", "invalid timestamp +Inf"),
        ("{b=\"c\",} 1\n# EOF\n", "metric name not set while parsing"),
    ];
    for (page, message) in rows {
        let error = lines(page, Format::OpenMetrics).expect_err(page);
        assert!(error.contains(message), "{page:?}: {error}");
    }
    let error = Parser::new(b"a 1\nb\xff 1\n", Format::Text).err().expect("not UTF-8");
    assert_eq!(error.to_string(), "line 2, column 2: invalid UTF-8");
}

#[test]
fn limits_are_told() {
    let long = "x".repeat(VALUE_BYTES_MAX + 1);
    let many: String = (0..=LABELS_MAX).map(|i| format!("l{i}=\"v\",")).collect();
    for (page, part) in [
        (format!("a{{b=\"{long}\"}} 1\n"), "label value has"),
        (format!("a{{{many}}} 1\n"), "more than 128 labels"),
    ] {
        let error = lines(&page, Format::Text).expect_err("over the limit");
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn the_content_type_decides() {
    let format = |header| Format::from_content_type(header, None);
    assert_eq!(format(Some("text/plain; version=0.0.4; charset=utf-8")), Ok(Format::Text));
    assert_eq!(format(Some("application/openmetrics-text; version=1.0.0")), Ok(Format::OpenMetrics));
    assert!(format(Some("text/html")).is_err() && format(None).is_err());
    assert_eq!(Format::from_content_type(None, Some(Format::Text)), Ok(Format::Text));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(page in prop::collection::vec(any::<u8>(), 0..200)) {
        for format in [Format::Text, Format::OpenMetrics] {
            if let Ok(mut parser) = Parser::new(&page, format) {
                while let Some(Ok(entry)) = parser.next() {
                    if let Entry::Series(_) = entry {
                        let _ = (parser.labels(), parser.exemplar_labels());
                    }
                }
            }
        }
    }

    #[test]
    fn near_pages_are_read_or_refused(page in "([a{}=\",\\\\ #0-9\n\téHELPTYE]|a\\{b=\"c\"\\} 1\n|# TYPE a counter\n){0,40}") {
        for format in [Format::Text, Format::OpenMetrics] {
            let _ = lines(&page, format);
        }
    }

    #[test]
    fn labels_survive_a_page(value in "\\PC{0,20}", number in any::<f64>()) {
        let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let page = format!("a{{b=\"{escaped}\",c=\"d\"}} {}\n", crate::text::format_value(number));
        let mut parser = Parser::new(page.as_bytes(), Format::Text).expect("UTF-8");
        let Some(Ok(Entry::Series(line))) = parser.next() else { panic!("a sample") };
        let labels = parser.labels().expect("valid");
        prop_assert_eq!(labels.get("b"), value);
        prop_assert!(line.value == number || number.is_nan());
    }
}
