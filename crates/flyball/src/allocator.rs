//! How the C library's allocator keeps memory: in one arena, given back when it is free.
//!
//! By default it makes an arena for each thread and keeps what was freed in it. A world lives for days and has its peak
//! in its first second, when the schemas are made; with these settings it is several MiB smaller after that. They are
//! read from the environment when a program starts and there is no safe call for them, so the program starts itself
//! again, in place.

use std::os::unix::process::CommandExt;
use std::process::Command;

const SETTINGS: [(&str, &str); 2] = [("MALLOC_ARENA_MAX", "1"), ("MALLOC_TRIM_THRESHOLD_", "131072")];

/// Starts the program again with the settings, unless they are there. Goes on without them where that fails.
pub(crate) fn settle() {
    if SETTINGS.iter().any(|(name, _)| std::env::var_os(name).is_some()) {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut arguments = std::env::args_os();
    let mut again = Command::new(program);
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    // Returns only if it fails.
    let _ = again.args(arguments).envs(SETTINGS).exec();
}
