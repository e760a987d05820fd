//! The only file that prints: results to standard output, notes and errors to standard error, colour only on terminals.

use std::io::{IsTerminal, Write};

/// Prints a line of the result. A closed pipe (`flyball … | head`) ends the program quietly, as in other tools.
pub(crate) fn line(text: &str) {
    if writeln!(std::io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}

/// Prints a note to standard error.
pub(crate) fn note(text: &str) {
    let _ = writeln!(
        std::io::stderr(),
        "{} {text}",
        paint(Style::Yellow, "note:", colour_on(&std::io::stderr()))
    );
}

/// Prints an error with its causes to standard error.
pub(crate) fn error(error: &anyhow::Error) {
    let colour = colour_on(&std::io::stderr());
    let mut text = format!("{} {error}", paint(Style::Red, "error:", colour));
    for cause in error.chain().skip(1) {
        text.push_str(&format!("\n  caused by: {cause}"));
    }
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The colours in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
    Cyan,
}

/// Returns `text` in `style`, or unchanged without colour.
pub(crate) fn paint(style: Style, text: &str, colour: bool) -> String {
    let code = match style {
        Style::Bold => "1",
        Style::Dim => "2",
        Style::Red => "31",
        Style::Green => "32",
        Style::Yellow => "33",
        Style::Cyan => "36",
    };
    if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// Returns whether a stream gets colour: on a terminal, unless `NO_COLOR` is set (no-color.org).
pub(crate) fn colour_on(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Returns the columns of the terminal; 80 without one.
pub(crate) fn width() -> usize {
    rustix::termios::tcgetwinsize(std::io::stdout())
        .map(|size| usize::from(size.ws_col))
        .ok()
        .filter(|columns| *columns > 0)
        .unwrap_or(80)
}
