//! Settings of the C library's allocator: one arena, whose free memory returns to the system.
//!
//! By default the allocator has an arena for each thread and keeps freed memory. A world lives for days and has its peak
//! in its first second, when the schemas are built; these settings save several MiB after that. They are read from the
//! environment when a program starts, and no safe call sets them, so the program re-executes itself.

use std::os::unix::process::CommandExt;
use std::process::Command;

const SETTINGS: [(&str, &str); 2] = [("MALLOC_ARENA_MAX", "1"), ("MALLOC_TRIM_THRESHOLD_", "131072")];

/// Re-executes the program with the settings, unless one is set. Continues without them if that fails.
pub(crate) fn reexec_with_settings() {
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
