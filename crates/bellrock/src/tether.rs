//! Processes that end with us, however we end: nobody is left behind by a `kill -9`.

use rustix::io::Errno;
use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};
use tokio::process::Command;

/// Lets the kernel ask the process to end (SIGTERM) when this one has ended.
///
/// The kernel counts the thread that starts it as the parent: call it, and spawn, on the main thread or on one of the runtime's
/// workers, which live as long as we do, and not on a thread for blocking work.
#[allow(unsafe_code, reason = "there is no other way to run something between fork and exec")]
pub(crate) fn tether(command: &mut Command) -> &mut Command {
    let us = getpid();
    let in_child = move || {
        set_parent_process_death_signal(Some(Signal::TERM))?;
        // We may have ended before the kernel was told.
        if getppid() == Some(us) { Ok(()) } else { Err(Errno::SRCH.into()) }
    };
    // SAFETY: between fork and exec only what is async-signal-safe may run. These are two system calls without a library around
    // them, and an error made of a number; nothing allocates or takes a lock.
    unsafe { command.pre_exec(in_child) }
}
