//! Crashes and full disks for tests.

use crate::error::{Error, Kind, Result};
use std::cell::Cell;
use std::io::{self, Write};

thread_local! {
    static STEPS: Cell<Option<u32>> = const { Cell::new(None) };
    static SPACE: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The `n`-th step from now on, and every one after it, fails and cleans nothing up, as if the process was gone.
pub(crate) fn crash_at(n: Option<u32>) {
    STEPS.set(n);
}

/// After `bytes` more bytes the disk is full.
pub(crate) fn full_after(bytes: Option<usize>) {
    SPACE.set(bytes);
}

pub(crate) fn crashed() -> bool {
    STEPS.get() == Some(0)
}

pub(crate) fn step() -> Result<()> {
    match STEPS.get() {
        Some(0) => Err(Error::new(Kind::Interrupted, "test", "crash")),
        Some(n) => {
            STEPS.set(Some(n - 1));
            if n == 1 {
                return Err(Error::new(Kind::Interrupted, "test", "crash"));
            }
            Ok(())
        }
        None => Ok(()),
    }
}

pub(crate) struct Writer<'a>(pub(crate) &'a mut dyn Write);

impl Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(left) = SPACE.get() {
            if left < bytes.len() {
                self.0.write_all(&bytes[..left])?;
                SPACE.set(Some(0));
                return Err(io::ErrorKind::StorageFull.into());
            }
            SPACE.set(Some(left - bytes.len()));
        }
        self.0.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
