//! Memory that is free goes back to the system.
//!
//! The allocator keeps what is freed for a moment, in case that it is wanted again, and looks at it only when somebody allocates: a
//! server that has flushed and then rests would hold for hours what the flush took.

use std::time::Duration;
use tokio::sync::watch;

const BEAT: Duration = Duration::from_secs(2);

pub(crate) async fn give_back(mut stopped: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(BEAT) => {}
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
        // What is left of it costs as many system calls as there are stretches of free memory.
        let _ = tokio::task::spawn_blocking(collect).await;
    }
}

#[allow(unsafe_code, reason = "the allocator has no other way to be told")]
fn collect() {
    // SAFETY: a function of the allocator itself that takes no pointer and may be called by any thread at any time.
    unsafe { libmimalloc_sys::mi_collect(false) }
}
