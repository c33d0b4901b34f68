//! Signals go to the program; its end becomes our exit code.

use anyhow::Result;
use rustix::process::{Pid, Signal, kill_process};
use std::io::IsTerminal;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};

/// Waits for the program and passes on what is sent to us meanwhile.
pub(super) async fn wait_and_forward(child: &mut Child, pid: u32) -> Result<ExitStatus> {
    // At a terminal Ctrl-C and Ctrl-\ reach the whole group: passing them on would interrupt the program twice.
    let at_terminal = std::io::stdin().is_terminal();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut quit = signal(SignalKind::quit())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut user1 = signal(SignalKind::user_defined1())?;
    let mut user2 = signal(SignalKind::user_defined2())?;
    loop {
        let passed_on = tokio::select! {
            status = child.wait() => return Ok(status?),
            _ = interrupt.recv() => (!at_terminal).then_some(Signal::INT),
            _ = quit.recv() => (!at_terminal).then_some(Signal::QUIT),
            _ = terminate.recv() => Some(Signal::TERM),
            _ = hangup.recv() => Some(Signal::HUP),
            _ = user1.recv() => Some(Signal::USR1),
            _ = user2.recv() => Some(Signal::USR2),
        };
        let target = i32::try_from(pid).ok().and_then(Pid::from_raw);
        if let (Some(signal), Some(target)) = (passed_on, target) {
            // The program may have ended in this moment; the next turn sees it.
            let _ = kill_process(target, signal);
        }
    }
}

/// As a shell counts it: 128 and the signal's number for a program that a signal ended.
pub(super) fn exit_code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1)
}
