//! What the algorithm asks of whoever multiplies tiles.
#![allow(unsafe_code)] // raw tiles

use super::simd::Isa;

/// Products of small matrices that are already in cache.
///
/// Strides are in floats. Every pointer must be valid for the sizes beside it; every function may only be called
/// where the machine has the engine's instructions.
pub(super) trait Engine {
    /// For the passes over rows between products.
    type I: Isa;
    /// Rows that are multiplied together.
    const STRIP: usize;
    /// Masked columns are skipped in multiples of this.
    const GRAIN: usize;
    /// A left operand `(m, k)`.
    type Left: Copy;
    /// A right operand `(k, n)`.
    type Right: Copy;

    /// Floats of the buffer for a left operand.
    fn left_floats(m: usize, k: usize) -> usize;
    /// Floats of the buffer for a right operand; `turned` and `copy` as in [`Engine::right`].
    fn right_floats(k: usize, n: usize, turned: bool, copy: bool) -> usize;

    unsafe fn new() -> Self;
    /// Prepares a left operand from rows `(m, k)`, or, if `turned`, `(k, m)`.
    unsafe fn left(
        &mut self,
        src: (*const f32, usize),
        size: (usize, usize),
        turned: bool,
        buffer: *mut f32,
    ) -> Self::Left;
    /// Prepares a right operand from rows `(k, n)`, or, if `turned`, `(n, k)` with `n` at most 128. With `copy`,
    /// `src` is far away and used often.
    unsafe fn right(
        &mut self,
        src: (*const f32, usize),
        size: (usize, usize),
        turned: bool,
        copy: bool,
        buffer: *mut f32,
    ) -> Self::Right;
    /// The rows of `left` from `i` on, a multiple of [`Engine::STRIP`] unless vectors do it.
    unsafe fn below(left: Self::Left, i: usize) -> Self::Left;
    /// The part of `right` from `(k, j)` on, multiples of [`Engine::GRAIN`].
    unsafe fn beyond(right: Self::Right, k: usize, j: usize) -> Self::Right;
    /// `c (m, n) = left (m, k) · right (k, n)`, `+ c` if `add`; it may be written as late as at `flush`. Columns
    /// up to the next multiple of 16 may be written too.
    unsafe fn product(
        &mut self,
        size: (usize, usize, usize),
        left: Self::Left,
        right: Self::Right,
        c: (*mut f32, usize),
        add: bool,
    );
    /// Finishes all products.
    unsafe fn flush(&mut self);
}
