//! Sums on their way to C.

use std::arch::x86_64::*;

use super::amx::PANEL;

/// A 32 × 32 block of sums on its way to C.
///
/// The next product of panels writes it while it computes: stores to C miss every cache, and a
/// burst of them would hold up the loads of tiles.
#[derive(Clone, Copy)]
pub(crate) struct Pending {
    /// Rows of 32 values, one after another.
    pub(crate) from: *const f32,
    pub(crate) to: *mut f32,
    /// Bytes between rows of C.
    pub(crate) stride: usize,
    /// Rows that are left.
    pub(crate) rows: usize,
    /// Which of the 16 + 16 columns exist.
    pub(crate) masks: [u16; 2],
    /// Add to C instead of replacing it.
    pub(crate) add: bool,
}

impl Pending {
    pub(crate) const NOTHING: Self = Self {
        from: std::ptr::null(),
        to: std::ptr::null_mut(),
        stride: 0,
        rows: 0,
        masks: [0; 2],
        add: false,
    };

    /// The masks, and `add` in bit 32.
    pub(crate) fn flags(&self) -> u64 {
        u64::from(self.masks[0]) | u64::from(self.masks[1]) << 16 | u64::from(self.add) << 32
    }

    /// Writes what is left.
    ///
    /// # Safety
    /// AVX-512 F exists; `from` is readable and `to` writable as described.
    #[target_feature(enable = "avx512f")]
    pub(crate) unsafe fn flush(&mut self) {
        for row in 0..self.rows {
            for (half, &mask) in self.masks.iter().enumerate() {
                let to = self.to.wrapping_byte_add(row * self.stride).wrapping_add(half * 16);
                // SAFETY: inside the block; columns outside C are masked off.
                unsafe {
                    let mut value = _mm512_loadu_ps(self.from.add(row * PANEL + half * 16));
                    if self.add {
                        value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(mask, to));
                    }
                    _mm512_mask_storeu_ps(to, mask, value);
                }
            }
        }
        self.rows = 0;
    }
}
