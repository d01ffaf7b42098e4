//! Packing buffers: one per thread and purpose, kept from call to call.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::thread::LocalKey;

/// Large buffers start at, and ask for, huge pages: a packed panel is read through few TLB entries.
const HUGE: usize = 2 << 20;

/// Uninitialised memory that grows and never shrinks.
pub(super) struct Buffer {
    data: *mut u8,
    layout: Layout,
}

impl Default for Buffer {
    fn default() -> Self {
        Self { data: std::ptr::null_mut(), layout: Layout::new::<()>() }
    }
}

impl Buffer {
    /// At least `bytes` bytes at a cache line; contents are arbitrary.
    fn reserve(&mut self, bytes: usize) -> *mut u8 {
        if self.layout.size() < bytes {
            self.free();
            let align = if bytes < HUGE { 64 } else { HUGE };
            let size = bytes.next_multiple_of(align.max(4096));
            let Ok(layout) = Layout::from_size_align(size, align) else {
                handle_alloc_error(Layout::new::<u8>())
            };
            // SAFETY: the size is not zero.
            self.data = unsafe { alloc(layout) };
            if self.data.is_null() {
                handle_alloc_error(layout);
            }
            self.layout = layout;
            advise_huge(self.data, layout);
        }
        self.data
    }

    fn free(&mut self) {
        if !self.data.is_null() {
            // SAFETY: allocated above with this layout.
            unsafe { dealloc(self.data, self.layout) };
            self.data = std::ptr::null_mut();
            self.layout = Layout::new::<()>();
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.free();
    }
}

#[cfg(target_os = "linux")]
fn advise_huge(data: *mut u8, layout: Layout) {
    if layout.align() == HUGE {
        // SAFETY: advice about memory that we own; a refusal changes nothing.
        unsafe { libc::madvise(data.cast(), layout.size(), libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
fn advise_huge(_: *mut u8, _: Layout) {}

thread_local! {
    static SHARED: Cell<Buffer> = Cell::default();
    static STREAMED: Cell<Buffer> = Cell::default();
    static ROWS: Cell<Buffer> = Cell::default();
}

/// What a buffer is for.
#[derive(Clone, Copy)]
pub(in crate::backend::cpu) enum Purpose {
    /// The operand that all workers read.
    Shared,
    /// The block of the other operand that one worker reads.
    Streamed,
    /// Copies or rounded copies of plain rows.
    Rows,
}

impl Purpose {
    fn cell(self) -> &'static LocalKey<Cell<Buffer>> {
        match self {
            Self::Shared => &SHARED,
            Self::Streamed => &STREAMED,
            Self::Rows => &ROWS,
        }
    }

    /// Lends this thread's buffer of at least `bytes` bytes to `f`. A nested loan of the same
    /// purpose gets another buffer.
    pub(in crate::backend::cpu) fn lend<R>(self, bytes: usize, f: impl FnOnce(*mut u8) -> R) -> R {
        let mut buffer = self.cell().take();
        let result = f(buffer.reserve(bytes.max(1)));
        self.cell().set(buffer);
        result
    }
}
