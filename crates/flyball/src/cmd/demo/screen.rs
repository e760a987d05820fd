//! Draws the picture in place on a terminal, or prints a line now and then without one.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::cmd::demo::picture::{Moment, Picture, milliseconds};
use crate::output;

/// How often a line is printed without a terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

pub(super) struct Screen {
    wanted: bool,
    terminal: bool,
    colour: bool,
    picture: Picture,
    drawn_lines: usize,
    last_line: Option<Instant>,
    last_replicas: Option<(i32, i32)>,
}

impl Screen {
    /// Creates a screen that shows nothing unless `wanted`.
    pub(super) fn new(wanted: bool) -> Screen {
        let stdout = std::io::stdout();
        Screen {
            wanted,
            terminal: stdout.is_terminal(),
            colour: output::colour_on(&stdout),
            picture: Picture::default(),
            drawn_lines: 0,
            last_line: None,
            last_replicas: None,
        }
    }

    /// Prints a message above the picture.
    pub(super) fn say(&mut self, text: &str) {
        if self.wanted {
            self.clear();
            output::line(&format!("· {text}"));
        }
    }

    /// Draws a moment, or prints it as a line.
    pub(super) fn draw(&mut self, moment: Moment) {
        if !self.wanted {
            return;
        }
        if !self.terminal {
            return self.say_moment(&moment);
        }
        self.picture.push(moment);
        self.clear();
        let lines = self.picture.lines(output::width().max(20), self.colour);
        self.drawn_lines = lines.len();
        let _ = std::io::stdout().write_all(format!("{}\n", lines.join("\n")).as_bytes());
    }

    /// Leaves the last picture where it is.
    pub(super) fn finish(&mut self) {
        self.drawn_lines = 0;
    }

    /// Moves to the first line of the picture and clears from there.
    fn clear(&mut self) {
        if self.drawn_lines > 0 {
            let _ = write!(std::io::stdout(), "\x1b[{}A\x1b[J", self.drawn_lines);
            self.drawn_lines = 0;
        }
    }

    fn say_moment(&mut self, moment: &Moment) {
        let replicas = (moment.replicas_desired, moment.replicas_ready);
        let due = self.last_line.is_none_or(|at| at.elapsed() >= LINE_EVERY);
        if !due && self.last_replicas == Some(replicas) {
            return;
        }
        self.last_line = Some(Instant::now());
        self.last_replicas = Some(replicas);
        let decision = moment.decision.as_deref().unwrap_or("no change yet");
        output::line(&format!(
            "{:>4.0} s  {:<20} {} ready, {} desired  {:>7.0} requests/s  p95 {:>10}  {decision}",
            moment.seconds_since_start,
            moment.phase,
            moment.replicas_ready,
            moment.replicas_desired,
            moment.requests_per_second,
            milliseconds(moment.p95_seconds),
        ));
    }
}
