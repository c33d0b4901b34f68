//! Signals go to the program, each of them once; its end becomes our exit code.
//!
//! In front of a terminal the program shares our process group, so that it may read from the terminal and stop with us: what a key
//! sends (Ctrl-C, Ctrl-\) reaches it without us, and the kernel is then the sender. Anywhere else it has a group of its own, so that
//! nothing reaches it but what is passed on here, whether a signal was meant for us or for our group.

use anyhow::Result;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use signal_hook::iterator::{Handle, SignalsInfo, exfiltrator::WithOrigin};
use signal_hook::low_level::siginfo::{Cause, Origin};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use tokio::process::Child;
use tokio::sync::mpsc;

const PASSED_ON: [Signal; 6] = [Signal::INT, Signal::QUIT, Signal::TERM, Signal::HUP, Signal::USR1, Signal::USR2];
/// Signals that came and were not looked at yet. They are few; one that finds no place is like one that was pending already.
const WAITING_MAX: usize = 64;

/// Where the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    /// In ours, which has the terminal.
    Shared,
    Own,
}

impl Group {
    pub(super) fn choose() -> Self {
        #[allow(clippy::disallowed_methods, reason = "a terminal is no data")]
        let terminal = std::fs::File::open("/dev/tty");
        let foreground = terminal.ok().and_then(|terminal| rustix::termios::tcgetpgrp(&terminal).ok());
        if foreground == Some(rustix::process::getpgrp()) { Self::Shared } else { Self::Own }
    }
}

/// What becomes of a signal that we got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The program has it already.
    Nowhere,
    Program,
    /// What the terminal would have done, had the program been in our group.
    WholeGroup,
}

fn way(group: Group, is_from_terminal: bool) -> Way {
    match (group, is_from_terminal) {
        (Group::Shared, true) => Way::Nowhere,
        (_, false) => Way::Program,
        (Group::Own, true) => Way::WholeGroup,
    }
}

/// The signals that are sent to us.
pub(super) struct Signals {
    group: Group,
    arriving: mpsc::Receiver<(Signal, bool)>,
    handle: Handle,
}

impl Signals {
    /// From here on they do not end this process. After the program has started: what it ignores from the beginning (`nohup`) it
    /// has from us.
    pub(super) fn listen(group: Group) -> Result<Self> {
        let mut signals = SignalsInfo::<WithOrigin>::new(PASSED_ON.map(Signal::as_raw))?;
        let handle = signals.handle();
        let (sender, arriving) = mpsc::channel(WAITING_MAX);
        tokio::task::spawn_blocking(move || {
            for origin in signals.forever() {
                let signal = PASSED_ON.into_iter().find(|signal| signal.as_raw() == origin.signal);
                let _ = signal.map(|signal| sender.try_send((signal, is_from_terminal(&origin))));
            }
        });
        Ok(Self { group, arriving, handle })
    }

    /// Waits for the program and passes on what is sent to us meanwhile.
    pub(super) async fn wait_and_forward(&mut self, child: &mut Child, pid: u32) -> Result<ExitStatus> {
        let program = i32::try_from(pid).ok().and_then(Pid::from_raw);
        loop {
            let (signal, is_from_terminal) = tokio::select! {
                status = child.wait() => return Ok(status?),
                Some(arrived) = self.arriving.recv() => arrived,
            };
            let Some(program) = program else { continue };
            // The program may have ended in this moment; the next turn sees it.
            let _ = match way(self.group, is_from_terminal) {
                Way::Nowhere => Ok(()),
                Way::Program => kill_process(program, signal),
                Way::WholeGroup => kill_process_group(program, signal),
            };
        }
    }

    /// Somebody wants us to end, after the program has ended.
    pub(super) async fn interrupted(&mut self) {
        while let Some((signal, _)) = self.arriving.recv().await {
            if matches!(signal, Signal::INT | Signal::TERM | Signal::QUIT) {
                return;
            }
        }
        std::future::pending::<()>().await;
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // Ends the thread that waits for them: the runtime does not end before it.
        self.handle.close();
    }
}

fn is_from_terminal(origin: &Origin) -> bool {
    matches!(origin.cause, Cause::Kernel)
}

/// As a shell counts it: 128 and the signal's number for a program that a signal ended.
pub(super) fn exit_code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_signal_reaches_the_program_once() {
        assert_eq!(way(Group::Shared, true), Way::Nowhere, "Ctrl-C reaches the whole group");
        assert_eq!(way(Group::Shared, false), Way::Program, "`kill` names us alone");
        assert_eq!(way(Group::Own, true), Way::WholeGroup, "a job that `fg` brought to the front");
        assert_eq!(way(Group::Own, false), Way::Program);
    }
}
