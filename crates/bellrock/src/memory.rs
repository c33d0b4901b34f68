//! How the server holds memory: what is free goes back to the system soon, and takes no huge pages with it.

use std::ffi::{c_int, c_long};

/// `mi_option_purge_delay`: milliseconds for which the allocator holds what was freed, in case that it is wanted again.
const PURGE_DELAY: c_int = 15;
/// By default it is a second: at full load that is as much as half a million series take. A page that is wanted again is a fault.
const PURGE_DELAY_MS: c_long = 10;

/// To be called as the server starts, before there are other threads. A `MIMALLOC_PURGE_DELAY` in the environment counts for more.
#[allow(unsafe_code, reason = "the allocator has no other way to be told")]
pub(crate) fn hold_little() {
    // SAFETY: a function of the allocator itself that takes no pointer and sets a number, before another thread could read it.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, PURGE_DELAY_MS) };
    // With huge pages a few bytes in use hold two megabytes. A kernel that has none has nothing to turn off.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(unsafe_code, reason = "as above")]
    fn the_number_is_that_of_the_delay() {
        // SAFETY: it takes no pointer.
        let before = unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        assert_eq!(before, 1000, "another version of the allocator: is the number still that of the delay?");
        hold_little();
        // SAFETY: it takes no pointer.
        assert_eq!(unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) }, PURGE_DELAY_MS);
    }
}
