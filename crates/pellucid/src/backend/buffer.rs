//! Memory for numbers: aligned to cache lines, zeroed lazily by the operating system, on huge pages where offered.
#![allow(unsafe_code)] // The allocation itself; everything above it is slices.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};

/// One cache line, and one AVX-512 register.
pub const ALIGN: usize = 64;
const HUGE_PAGE: usize = 2 << 20;

/// A fixed number of `f32`, zero at first.
pub struct Buffer {
    start: *mut f32,
    len: usize,
}

// SAFETY: a Buffer owns its memory alone, as a Vec does.
unsafe impl Send for Buffer {}
// SAFETY: shared access only reads.
unsafe impl Sync for Buffer {}

impl Buffer {
    fn layout(len: usize) -> Layout {
        let bytes = len * size_of::<f32>();
        let align = if bytes >= HUGE_PAGE { HUGE_PAGE } else { ALIGN };
        Layout::from_size_align(bytes.max(ALIGN), align).expect("fewer than 2^63 bytes")
    }

    /// `len` zeros.
    #[must_use]
    pub fn zeros(len: usize) -> Self {
        let layout = Self::layout(len);
        // SAFETY: the layout's size is at least ALIGN, never zero.
        let start = unsafe { alloc_zeroed(layout) };
        if start.is_null() {
            handle_alloc_error(layout);
        }
        #[cfg(target_os = "linux")]
        if layout.size() >= HUGE_PAGE {
            // SAFETY: advice about memory this Buffer owns; a refusal changes nothing.
            unsafe { libc::madvise(start.cast(), layout.size(), libc::MADV_HUGEPAGE) };
        }
        Self { start: start.cast(), len }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated with this very layout.
        unsafe { dealloc(self.start.cast(), Self::layout(self.len)) }
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: `len` initialised floats are owned from `start` on.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and `&mut self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        let mut copy = Self::zeros(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} f32)", self.len)
    }
}

/// Cuts disjoint pieces out of `memory`: `reads` shared, `writes` exclusive, in the order given.
/// An empty range gives an empty slice.
///
/// # Panics
/// If a written piece overlaps another piece or a piece ends outside `memory`: a fault in the plan.
pub fn cut<'a, const N: usize>(
    memory: &'a mut [f32],
    reads: &[std::ops::Range<usize>],
    writes: &[std::ops::Range<usize>],
) -> (arrayvec::ArrayVec<&'a [f32], N>, arrayvec::ArrayVec<&'a mut [f32], N>) {
    let apart = |a: &std::ops::Range<usize>, b: &std::ops::Range<usize>| {
        a.is_empty() || b.is_empty() || a.end <= b.start || b.end <= a.start
    };
    for (i, w) in writes.iter().enumerate() {
        assert!(w.end <= memory.len(), "piece {w:?} of {}", memory.len());
        assert!(writes[..i].iter().all(|x| apart(w, x)), "written pieces overlap: {writes:?}");
        assert!(reads.iter().all(|x| apart(w, x)), "{w:?} is read and written: {reads:?}");
    }
    assert!(reads.iter().all(|r| r.end <= memory.len()));
    let start = memory.as_mut_ptr();
    // SAFETY: every piece lies inside `memory`, which stays borrowed for 'a; the written ones touch no other.
    unsafe {
        (
            reads.iter().map(|r| std::slice::from_raw_parts(start.add(r.start), r.len())).collect(),
            writes
                .iter()
                .map(|w| std::slice::from_raw_parts_mut(start.add(w.start), w.len()))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_where_they_should_be() {
        let mut b = Buffer::zeros(100);
        assert_eq!(b.as_ptr() as usize % ALIGN, 0);
        b[7] = 1.0;
        {
            let (r, mut w) = cut::<4>(&mut b, &[0..10, 5..10], &[10..20]);
            assert_eq!((r[0][7], r[1][2]), (1.0, 1.0));
            w[0][0] = 2.0;
        }
        assert_eq!(b[10], 2.0);
    }

    #[test]
    fn overlap_is_refused() {
        let overlap = || cut::<4>(&mut Buffer::zeros(100), &[0..11], &[10..20]).0.len();
        assert!(std::panic::catch_unwind(overlap).is_err());
    }
}
