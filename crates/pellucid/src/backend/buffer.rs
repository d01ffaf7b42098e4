//! Memory for numbers: aligned to cache lines, zeroed lazily by the operating system, on huge pages where offered.
#![allow(unsafe_code)] // The allocation itself; everything above it is slices.

use std::ops::{Deref, DerefMut};

/// One cache line, and one AVX-512 register.
pub const ALIGN: usize = 64;

/// A fixed number of `f32`, zero at first.
pub struct Buffer {
    start: *mut f32,
    len: usize,
    memory: system::Memory,
}

// SAFETY: a Buffer owns its memory alone, as a Vec does.
unsafe impl Send for Buffer {}
// SAFETY: shared access only reads.
unsafe impl Sync for Buffer {}

impl Default for Buffer {
    /// No element.
    fn default() -> Self {
        Self::zeros(0)
    }
}

impl Buffer {
    /// `len` zeros. Pages are taken from the system when first touched.
    #[must_use]
    pub fn zeros(len: usize) -> Self {
        Self::try_zeros(len).unwrap_or_else(|| {
            let layout = std::alloc::Layout::from_size_align(len * size_of::<f32>(), ALIGN);
            std::alloc::handle_alloc_error(layout.expect("fewer than 2^63 bytes"))
        })
    }

    /// As [`Buffer::zeros`]; `None` if the system refuses.
    #[must_use]
    pub fn try_zeros(len: usize) -> Option<Self> {
        let memory = system::Memory::zeroed(len * size_of::<f32>())?;
        Some(Self { start: memory.start().cast(), len, memory })
    }
}

/// Zeroed memory from the system, page by page when touched: `alloc_zeroed` with a large alignment would write it all.
#[cfg(unix)]
mod system {
    use std::ptr::{NonNull, null_mut};

    const HUGE_PAGE: usize = 2 << 20;

    pub(super) struct Memory {
        base: *mut u8,
        bytes: usize,
    }

    impl Memory {
        pub(super) fn zeroed(bytes: usize) -> Option<Self> {
            if bytes == 0 {
                return Some(Self { base: null_mut(), bytes });
            }
            // Room to start on a huge page.
            let bytes = if bytes >= HUGE_PAGE { bytes + HUGE_PAGE } else { bytes };
            let (protection, flags) =
                (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            // SAFETY: a fresh anonymous mapping touches no memory in use.
            let base = unsafe { libc::mmap(null_mut(), bytes, protection, flags, -1, 0) };
            if base == libc::MAP_FAILED {
                return None;
            }
            let memory = Self { base: base.cast(), bytes };
            #[cfg(target_os = "linux")]
            if bytes >= HUGE_PAGE {
                // SAFETY: advice about memory this Memory owns; a refusal changes nothing.
                unsafe { libc::madvise(base, bytes, libc::MADV_HUGEPAGE) };
            }
            Some(memory)
        }

        pub(super) fn start(&self) -> *mut u8 {
            if self.bytes == 0 {
                return NonNull::<super::Line>::dangling().as_ptr().cast();
            }
            let grain = if self.bytes >= HUGE_PAGE { HUGE_PAGE } else { super::ALIGN };
            self.base.wrapping_add(self.base.align_offset(grain))
        }
    }

    impl Drop for Memory {
        fn drop(&mut self) {
            if self.bytes > 0 {
                // SAFETY: mapped with this very length, and nobody holds a piece any more.
                unsafe { libc::munmap(self.base.cast(), self.bytes) };
            }
        }
    }
}

/// Zeroed memory from the allocator.
#[cfg(not(unix))]
mod system {
    pub(super) struct Memory(Vec<super::Line>);

    impl Memory {
        pub(super) fn zeroed(bytes: usize) -> Option<Self> {
            Some(Self(vec![super::Line([0; super::ALIGN]); bytes.div_ceil(super::ALIGN)]))
        }

        pub(super) fn start(&self) -> *mut u8 {
            self.0.as_ptr().cast_mut().cast()
        }
    }
}

/// A cache line, for its alignment.
#[derive(Clone, Copy)]
#[repr(align(64))]
#[allow(dead_code)] // Which half of this file reads the bytes depends on the system.
struct Line([u8; ALIGN]);

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
        let _ = &self.memory;
        write!(f, "Buffer({} f32)", self.len)
    }
}

/// Cuts disjoint pieces out of two stretches of memory, numbered as if they followed each other: `reads` shared,
/// `writes` exclusive, in the order given. An empty range gives an empty slice.
///
/// # Panics
/// If a written piece overlaps another piece, or a piece ends outside or crosses from one stretch to the other:
/// a fault in the plan.
pub fn cut<'a, const N: usize>(
    (low, high): (&'a mut [f32], &'a mut [f32]),
    reads: &[std::ops::Range<usize>],
    writes: &[std::ops::Range<usize>],
) -> (arrayvec::ArrayVec<&'a [f32], N>, arrayvec::ArrayVec<&'a mut [f32], N>) {
    let apart = |a: &std::ops::Range<usize>, b: &std::ops::Range<usize>| {
        a.is_empty() || b.is_empty() || a.end <= b.start || b.end <= a.start
    };
    let edge = low.len();
    for r in reads.iter().chain(writes) {
        let inside = r.end <= edge || r.start >= edge && r.end <= edge + high.len();
        assert!(r.is_empty() || inside, "piece {r:?} of {edge} and {}", high.len());
    }
    for (i, w) in writes.iter().enumerate() {
        assert!(writes[..i].iter().all(|x| apart(w, x)), "written pieces overlap: {writes:?}");
        assert!(reads.iter().all(|x| apart(w, x)), "{w:?} is read and written: {reads:?}");
    }
    let (low, high) = (low.as_mut_ptr(), high.as_mut_ptr());
    let start = |r: &std::ops::Range<usize>| match r.start {
        _ if r.is_empty() => std::ptr::NonNull::dangling().as_ptr(),
        at if at < edge => low.wrapping_add(at),
        at => high.wrapping_add(at - edge),
    };
    // SAFETY: every piece lies inside one stretch, which stays borrowed for 'a; the written ones touch no other.
    unsafe {
        (
            reads.iter().map(|r| std::slice::from_raw_parts(start(r), r.len())).collect(),
            writes.iter().map(|w| std::slice::from_raw_parts_mut(start(w), w.len())).collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::single_range_in_vec_init)] // Lists of pieces that happen to have one.
    use super::*;

    #[test]
    fn pieces_are_where_they_should_be() {
        assert!(Buffer::zeros(0).is_empty());
        let large = Buffer::zeros(3 << 20);
        assert_eq!(large.as_ptr() as usize % (2 << 20), 0);
        assert!(large.iter().all(|x| *x == 0.0));
        let mut b = Buffer::zeros(100);
        assert_eq!(b.as_ptr() as usize % ALIGN, 0);
        b[7] = 1.0;
        {
            let (r, mut w) = cut::<4>((&mut [], &mut b), &[0..10, 5..10], &[10..20]);
            assert_eq!((r[0][7], r[1][2]), (1.0, 1.0));
            w[0][0] = 2.0;
        }
        assert_eq!(b[10], 2.0);
    }

    #[test]
    fn overlap_is_refused() {
        let refused = |reads: &[std::ops::Range<usize>], writes: &[std::ops::Range<usize>]| {
            let run = || {
                let (mut low, mut high) = (Buffer::zeros(50), Buffer::zeros(50));
                cut::<4>((&mut low, &mut high), reads, writes).0.len()
            };
            std::panic::catch_unwind(run).is_err()
        };
        assert!(refused(&[0..11], &[10..20]) && refused(&[], &[5..20, 19..30]));
        assert!(refused(&[40..60], &[]) && refused(&[], &[90..101]));
        assert!(!refused(&[0..50, 50..100], &[]) && !refused(&[0..10], &[10..20, 60..70]));
    }
}
