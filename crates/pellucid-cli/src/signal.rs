//! Ctrl-C: the first asks to stop, the second aborts.

use pellucid::error::{Error, Kind, Result};
use std::sync::atomic::{AtomicBool, Ordering};

static STOP: AtomicBool = AtomicBool::new(false);

/// Listens for Ctrl-C from now on; `message` is shown at the first.
pub(crate) fn listen(message: &'static str) -> Result<()> {
    ctrlc::set_handler(move || {
        if STOP.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        crate::out::complain(message);
    })
    .map_err(|e| Error::new(Kind::Resource, "signals", format!("cannot listen for Ctrl-C: {e}")))
}

/// Whether a stop was asked for.
pub(crate) fn stopped() -> bool {
    STOP.load(Ordering::SeqCst)
}

/// As [`stopped`], and takes the wish as fulfilled.
pub(crate) fn take() -> bool {
    STOP.swap(false, Ordering::SeqCst)
}
