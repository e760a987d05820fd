//! Runs a transcript: a shell session as text, each command with the output and the exit code that it must have.
//!
//! | line | meaning |
//! |---|---|
//! | `# text` | what the next commands show |
//! | `$ command` | runs once, in a shell |
//! | `~ command` | runs again and again until the output is as wanted; for what takes a moment |
//! | `> more` | the command goes on |
//! | `? 1` | the exit code, where it is not 0 |
//! | anything else | a line of output; `[..]` stands for any text in it, a line `...` for any lines |
//!
//! Runs of blanks count as one and empty lines as none, because kubectl's columns are as wide as what is in them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::needs;
use crate::world::{self, World};

/// What a session waits for never takes longer, on a slow machine either.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at something that is waited for.
const LOOK: Duration = Duration::from_millis(200);
/// After as many wrong outputs, the rest says nothing new.
const WRONG_MAX: usize = 4;

/// One command of a session, and what it must print.
#[derive(Debug, Default)]
struct Step {
    line: usize,
    command: String,
    repeat: bool,
    output: Vec<String>,
    exit_code: i32,
}

/// Runs `transcripts/<name>.txt`, in `world` where there is one, and fails with all wrong steps.
pub(crate) fn check(name: &str, world: Option<&World>) {
    let file = tests_folder().join("transcripts").join(format!("{name}.txt"));
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut wrong = Vec::new();
    for step in parse(&text) {
        wrong.extend(run(&step, world).err().map(|why| format!("{name}.txt:{}: {why}", step.line)));
        if wrong.len() == WRONG_MAX {
            break;
        }
    }
    let log = world.map(World::said).unwrap_or_default();
    assert!(wrong.is_empty(), "{}\nflyball up said:\n{log}", wrong.join("\n\n"));
}

fn parse(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let command = line.strip_prefix("$ ").or_else(|| line.strip_prefix("~ "));
        if let Some(command) = command {
            let repeat = line.starts_with('~');
            steps.push(Step { line: index + 1, command: command.to_owned(), repeat, ..Step::default() });
            continue;
        }
        let Some(step) = steps.last_mut().filter(|_| !line.starts_with('#')) else { continue };
        if let Some(more) = line.strip_prefix("> ") {
            step.command = format!("{}\n{more}", step.command);
        } else if let Some(code) = line.strip_prefix("? ") {
            step.exit_code = code.parse().expect("an exit code");
        } else {
            step.output.extend(normal(line));
        }
    }
    steps
}

fn run(step: &Step, world: Option<&World>) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let output = shell(&step.command, world).output().expect("sh runs");
        let said = world::text(&output.stdout);
        let lines: Vec<String> = said.lines().filter_map(normal).collect();
        let code = output.status.code().unwrap_or(-1);
        if code == step.exit_code && matches(&step.output, &lines) {
            return Ok(());
        }
        if !step.repeat || Instant::now() > deadline {
            let (command, wanted) = (&step.command, step.output.join("\n"));
            let wanted_code = step.exit_code;
            return Err(format!(
                "$ {command}\n--- wanted, exit code {wanted_code}\n{wanted}\n--- got, exit code {code}\n{said}"
            ));
        }
        std::thread::sleep(LOOK);
    }
}

/// A shell among the test's manifests, with `flyball` and `kubectl` of the world, and both outputs in one.
fn shell(command: &str, world: Option<&World>) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("exec 2>&1\n{command}")).current_dir(tests_folder().join("manifests"));
    shell.env("PATH", path_with_flyball()).env("LC_ALL", "C").env("TZ", "UTC");
    if let Ok(seed) = needs::seed() {
        shell.env("SEED", seed);
    }
    if let Some(world) = world {
        world.environment(&mut shell);
    }
    shell
}

/// The program's folder before all others, so that `flyball` is the one under test.
fn path_with_flyball() -> String {
    let folder = Path::new(world::FLYBALL).parent().expect("a program is in a folder");
    format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default())
}

fn tests_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it")
}

/// The line with single blanks; nothing for an empty line.
fn normal(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// Whether the lines are as wanted, `...` standing for any number of lines.
fn matches(wanted: &[String], lines: &[String]) -> bool {
    match wanted.split_first() {
        None => lines.is_empty(),
        Some((any, rest)) if any == "..." => (0..=lines.len()).any(|skip| matches(rest, &lines[skip..])),
        Some((first, rest)) => lines
            .split_first()
            .is_some_and(|(line, others)| line_matches(first, line) && matches(rest, others)),
    }
}

/// Whether the line is as wanted, `[..]` standing for any text.
fn line_matches(wanted: &str, line: &str) -> bool {
    match wanted.split_once("[..]") {
        None => wanted == line,
        Some((head, rest)) => line.strip_prefix(head).is_some_and(|tail| {
            tail.char_indices()
                .map(|(at, _)| at)
                .chain([tail.len()])
                .any(|at| line_matches(rest, &tail[at..]))
        }),
    }
}

pub(crate) fn wildcards_match_what_they_should() {
    let lines = |text: &str| text.lines().filter_map(normal).collect::<Vec<_>>();
    for (wanted, line, expected) in [
        ("a b", "a   b", true),
        ("a b", "a c", false),
        ("a[..]c", "abbc", true),
        ("a[..]c", "abbd", false),
        ("[..]", "", false),
        ("a\n...\nd", "a\nb\nc\nd", true),
        ("a\n...", "a", true),
        ("...\nd", "a", false),
        ("", "a", false),
    ] {
        assert_eq!(matches(&lines(wanted), &lines(line)), expected, "{wanted:?} {line:?}");
    }
}
