//! The whole product, used as its users use it: the real binary, and the real kubectl where it is installed.
//!
//! Most of it is data: a transcript of `transcripts/` is a shell session with the output that it must have, run against
//! a world of its own. What a session cannot say (streams, kills, load while something changes) is written in Rust.
//!
//! A test is a function that is listed in [`tests`]: what it lacks shows while it runs, and then it is ignored. The
//! built-in harness cannot do that, so `#[test]` is not for this folder.
#![allow(clippy::disallowed_methods, reason = "these tests start programs, and read clocks and files")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod faults;
mod http;
mod kills;
mod load;
mod needs;
#[path = "../../../../tests/outside.rs"]
mod outside;
mod sessions;
mod sources;
mod streams;
mod transcript;
mod vertical;
mod world;
mod zero;

use std::path::Path;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// The tests of these names.
macro_rules! trials {
    ($($module:ident: $($name:ident),+ $(,)?;)+) => {
        vec![$($(needs::trial(concat!(stringify!($module), "::", stringify!($name)), $module::$name)),+),+]
    };
}

fn tests() -> Vec<Trial> {
    trials! {
        faults:
            a_killed_world_leaves_no_process_and_loses_nothing,
            a_stopped_world_leaves_no_process_and_comes_back,
            a_state_folder_has_one_world,
            a_damaged_data_file_is_told_and_repaired,
            a_taken_port_is_named,
            a_taken_node_port_is_named_and_the_rest_goes_on,
            clients_cannot_take_all_files,
            a_pod_that_wants_too_much_memory_is_killed_and_says_so,
            an_ephemeral_world_leaves_nothing;
        kills:
            no_pod_outlives_a_killed_world_and_no_acknowledged_write_is_lost,
            no_pod_outlives_a_killed_world_that_has_no_namespaces;
        load:
            no_request_is_lost_while_pods_come_and_go;
        sessions:
            command_line, page, vpa, out_of_memory, workloads, rollouts, reading, why, query, promtool,
            wrong_manifests, jobs, metrics_api, objective, check_files, check_live, failing_pods;
        sources:
            a_source_that_breaks_never_scales_in;
        streams:
            a_watch_shows_each_change,
            a_followed_log_shows_each_line;
        transcript:
            wildcards_match_what_they_should;
        vertical:
            a_load_goes_up_in_place_and_no_request_is_lost,
            memory_is_raised_before_the_restarted_container_can_die_again;
        zero:
            min_replica_count_zero,
            idle_replica_count_zero;
    }
}

fn main() -> ExitCode {
    if let Err(why) = every_test_is_listed() {
        eprintln!("{why}");
        return ExitCode::FAILURE;
    }
    libtest_mimic::run(&Arguments::from_args(), tests()).exit_code()
}

/// A test under the attribute of the built-in harness would never run.
fn every_test_is_listed() -> Result<(), String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let sources = std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for path in sources.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some()) {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        if let Some(line) = text.lines().position(|line| line.trim() == "#[test]") {
            let place = format!("{}:{}", path.display(), line + 1);
            return Err(format!(
                "{place}: `#[test]` never runs here: make it `pub(crate) fn`, and list it in main.rs"
            ));
        }
    }
    Ok(())
}
