//! (stand-in until the real pool lands)
#![allow(missing_docs, unsafe_code)]
use std::ops::Range;
#[derive(Debug)]
pub struct Pool {
    threads: usize,
}
impl Pool {
    #[must_use]
    pub fn new(threads: usize) -> Self {
        Self { threads: threads.max(1) }
    }
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads
    }
    pub fn run(&self, f: &(dyn Fn(usize) + Sync)) {
        (0..self.threads).for_each(f);
    }
    pub fn split(&self, n: usize, grain: usize, f: &(dyn Fn(Range<usize>) + Sync)) {
        let chunk = n.div_ceil(grain).div_ceil(self.threads).max(1) * grain;
        for w in 0..self.threads {
            let (a, b) = ((w * chunk).min(n), ((w + 1) * chunk).min(n));
            if a < b {
                f(a..b);
            }
        }
    }
    pub fn each(&self, n: usize, f: &(dyn Fn(usize) + Sync)) {
        (0..n).for_each(f);
    }
}
#[derive(Debug)]
pub struct Ptr<T>(pub *mut T);
impl<T> Clone for Ptr<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Ptr<T> {}
// SAFETY: stand-in; users promise disjoint writes.
unsafe impl<T> Send for Ptr<T> {}
// SAFETY: stand-in; users promise disjoint writes.
unsafe impl<T> Sync for Ptr<T> {}
impl<T> Ptr<T> {
    /// # Safety
    /// Disjoint, in bounds.
    #[must_use]
    pub unsafe fn slice<'a>(self, start: usize, len: usize) -> &'a mut [T] {
        // SAFETY: promised by the caller.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), len) }
    }
}
