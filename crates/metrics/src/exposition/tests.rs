//! Pages, whole and broken.

use proptest::prelude::*;

use super::*;

fn lines(page: &str, format: Format) -> Result<Vec<String>, String> {
    let parser = Parser::new(page.as_bytes(), format).map_err(|error| error.to_string())?;
    let mut kind = String::new();
    let mut lines = Vec::new();
    for entry in parser {
        match entry.map_err(|error| error.to_string())? {
            Entry::Series(line) => {
                let labels = line.labels(&kind).map_err(|(at, message)| format!("byte {at}: {message}"))?;
                lines.push(format!("{labels} {} {:?} {:?}", line.value, line.timestamp_ms, line.exemplar));
            }
            Entry::Type { kind: new, .. } => kind = new.to_owned(),
            Entry::Help { .. } | Entry::Unit { .. } => {}
        }
    }
    Ok(lines)
}

#[test]
fn text_pages_are_read() {
    let page = "# HELP x says \\\\ much\n# TYPE x histogram\n# a comment\n\nx_bucket{le=\"1\",a=\"q\\\"\\n\\\\\",} 3\n\
                x_bucket{le=\"+Inf\"} 4 1700000000123\n  plain\t1e3\nvllm:queue:size {a = \"}\" , b=\"\"} NaN\n\
                {\"a.b\",\"c.d\"=\"e\"} -Inf\n";
    let expected = [
        r#"{__name__="x_bucket", a="q\"\n\\", le="1.0"} 3 None None"#,
        r#"{__name__="x_bucket", le="+Inf"} 4 Some(1700000000123) None"#,
        r#"{__name__="plain"} 1000 None None"#,
        r#"{__name__="vllm:queue:size", a="}"} NaN None None"#,
        r#"{__name__="a.b", "c.d"="e"} -inf None None"#,
    ];
    assert_eq!(lines(page, Format::Text).expect("valid"), expected);
}

#[test]
fn open_metrics_pages_are_read() {
    let page = "# TYPE x counter\n# UNIT x seconds\n# HELP x y\nx_total{a=\"b\"} 1 1.5 # {trace_id=\"q\"} 0.5 1.2\n# EOF\n";
    let expected = [r#"{__name__="x_total", a="b"} 1 Some(1500) Some("{trace_id=\"q\"} 0.5 1.2")"#];
    assert_eq!(lines(page, Format::OpenMetrics).expect("valid"), expected);
    assert_eq!(
        lines("x 1\n", Format::OpenMetrics).expect_err("no end"),
        "line 2, column 1: data does not end with # EOF"
    );
}

#[test]
fn broken_pages_are_refused_with_line_and_column() {
    let rows = [
        ("a 1\nb\n", "line 2, column 2: expected value after metric, got \"\\n\""),
        ("a 1\nb two\n", "line 2, column 3: expected value after metric, got \"two\""),
        ("a 0x1p3\n", "line 1, column 3: expected value after metric, got \"0x1p3\""),
        ("a 1 2 3\n", "line 1, column 7: expected timestamp or new record, got \"3\""),
        ("a 1 1.5\n", "line 1, column 5: expected timestamp or new record, got \"1.5\""),
        ("a 1", "line 1, column 4: expected a line break, got end of page"),
        ("a{b=\"c\" 1\n", "line 1, column 9: expected comma or brace close, got \"1\""),
        ("a{b=\"c} 1\n", "line 1, column 6: unterminated label value"),
        ("{b=\"c\"} 1\n", "byte 0: metric name not set while parsing"),
        ("a{b=1} 1\n", "byte 4: expected label value, got \"1}\""),
        ("a{b=\"1\",b=\"2\"} 1\n", "byte 8: label name \"b\" is not unique"),
        ("1a 1\n", "byte 0: expected a valid metric name, got \"1a\""),
        ("# TYPE a nonsense\n", "line 1, column 1: invalid metric type \"nonsense\""),
        ("<html>\n", "line 1, column 7: expected value after metric, got \"\\n\""),
    ];
    for (page, message) in rows {
        assert_eq!(lines(page, Format::Text).expect_err(page), message, "{page:?}");
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
            if let Ok(parser) = Parser::new(&page, format) {
                for entry in parser.flatten() {
                    if let Entry::Series(line) = entry {
                        let _ = line.labels("histogram");
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
        let entries: Vec<Entry> = Parser::new(page.as_bytes(), Format::Text).expect("UTF-8").collect::<Result<_, _>>().expect("valid");
        let [Entry::Series(line)] = &entries[..] else { panic!("one line") };
        let labels = line.labels("").expect("valid");
        prop_assert_eq!(labels.get("b"), value);
        prop_assert!(line.value == number || number.is_nan());
    }
}
