#![allow(unsafe_code)] // a borrowed closure crosses threads; see `Pool::run`
//! Persistent threads with a static partition: the same work always goes to the same worker.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How long an idle worker watches for work before it sleeps; about one sleep and wake-up.
const SPIN: Duration = Duration::from_micros(50);
/// How long it watches before it lets others on its core go first: one of them may be who it waits for.
const ALONE: Duration = Duration::from_micros(8);

thread_local! {
    /// This thread runs a pool's work now; a nested `run` must not wait for other workers.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// A `*mut T` that may cross threads; its user promises that no two threads touch one element.
#[derive(Debug)]
pub struct Ptr<T>(pub *mut T);

impl<T> Clone for Ptr<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Ptr<T> {}
// SAFETY: the pointer itself is a number; `slice` carries the promise about what it points to.
unsafe impl<T: Send> Send for Ptr<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Ptr<T> {}

impl<T> Ptr<T> {
    /// The address of element `i`; nothing is accessed.
    #[must_use]
    pub fn at(self, i: usize) -> *mut T {
        self.0.wrapping_add(i)
    }

    /// The `len` elements from `start`.
    ///
    /// # Safety
    /// They lie inside one live allocation, and nobody else touches them during `'a`.
    #[must_use]
    pub unsafe fn slice<'a>(self, start: usize, len: usize) -> &'a mut [T] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), len) }
    }
}

/// The closure of one `run`, its lifetime erased.
type Work = *const (dyn Fn(usize) + Sync);

struct Job {
    work: Work,
    caller: Thread,
}

struct Shared {
    /// Counts jobs; a change tells the workers that `job` is new. `usize::MAX` says: stop.
    generation: AtomicUsize,
    /// Written by the caller while `pending` is 0, read by workers while it is not.
    job: UnsafeCell<Option<Job>>,
    /// Workers that have not finished the current job.
    pending: AtomicUsize,
    /// The first panic of the current job.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` follows the protocol in its comment; the rest is Sync.
unsafe impl Sync for Shared {}
// SAFETY: the closure behind `job` is Sync, and outlives its use (see `Pool::run`).
unsafe impl Send for Shared {}

/// Persistent worker threads. The calling thread is worker 0.
///
/// Workers watch for work for a few microseconds, then sleep. Partitions are static: they depend
/// on sizes and the number of threads only, so a run repeats bit by bit.
///
/// ```
/// # use pellucid::backend::cpu::pool::Pool;
/// # use std::sync::atomic::{AtomicUsize, Ordering};
/// let pool = Pool::new(2);
/// let sum = AtomicUsize::new(0);
/// pool.split(100, 1, &|range| {
///     sum.fetch_add(range.sum(), Ordering::Relaxed);
/// });
/// assert_eq!(sum.into_inner(), 4950);
/// ```
pub struct Pool {
    shared: Arc<Shared>,
    /// Workers 1, 2, ….
    workers: Vec<JoinHandle<()>>,
    /// Held during a job, so that two callers take turns.
    turn: Mutex<()>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool of `threads` workers, of which the caller is one; 0: one per core.
    ///
    /// Where the system refuses a thread, the pool is smaller; ask [`Pool::threads`].
    #[must_use]
    pub fn new(threads: usize) -> Self {
        let threads = match threads {
            0 => thread::available_parallelism().map_or(1, std::num::NonZero::get),
            n => n,
        };
        let shared = Arc::new(Shared {
            generation: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            pending: AtomicUsize::new(0),
            panic: Mutex::new(None),
        });
        let spawn = |worker| {
            let shared = Arc::clone(&shared);
            let name = format!("pellucid-{worker}");
            thread::Builder::new().name(name).spawn(move || shared.serve(worker))
        };
        let workers = (1..threads).map_while(|worker| spawn(worker).ok()).collect();
        Self { shared, workers, turn: Mutex::new(()) }
    }

    /// Number of workers, the caller included.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `f(worker)` once for every worker in `0..threads` and waits.
    ///
    /// Inside another `run` the calls happen one after another on the calling thread, so `f` must
    /// not wait for another worker.
    ///
    /// # Panics
    /// Panics with the first panic of `f`, after all workers finished.
    pub fn run(&self, f: &(dyn Fn(usize) + Sync)) {
        if self.workers.is_empty() || INSIDE.get() {
            return (0..self.threads()).for_each(f);
        }
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes; this function returns after the last use of `f`.
        let work = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), Work>(f) };
        // SAFETY: `pending` is 0 and we hold `turn`: nobody reads `job` now.
        unsafe { *shared.job.get() = Some(Job { work, caller: thread::current() }) };
        shared.pending.store(self.workers.len(), Ordering::Relaxed);
        shared.generation.fetch_add(1, Ordering::Release);
        self.workers.iter().for_each(|worker| worker.thread().unpark());

        INSIDE.set(true);
        let own = catch_unwind(AssertUnwindSafe(|| f(0)));
        INSIDE.set(false);
        wait(|| shared.pending.load(Ordering::Acquire) == 0);
        let theirs = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(turn);
        if let Some(panic) = own.err().or(theirs) {
            resume_unwind(panic);
        }
    }

    /// Static partition of `0..n` into at most [`Pool::threads`] contiguous ranges whose starts
    /// are multiples of `grain`; runs `f(range)` for each range that is not empty.
    pub fn split(&self, n: usize, grain: usize, f: &(dyn Fn(Range<usize>) + Sync)) {
        let grain = grain.max(1);
        let (grains, threads) = (n.div_ceil(grain), self.threads());
        if grains <= 1 {
            return if n > 0 {
                f(0..n)
            };
        }
        self.run(&|worker| {
            let at = |worker: usize| (grains * worker / threads * grain).min(n);
            let range = at(worker)..at(worker + 1);
            if !range.is_empty() {
                f(range);
            }
        });
    }

    /// Runs `f(i)` once for each of `0..n`; item `i` always goes to worker `i % threads`.
    pub fn each(&self, n: usize, f: &(dyn Fn(usize) + Sync)) {
        if n <= 1 {
            return (0..n).for_each(f);
        }
        let threads = self.threads();
        self.run(&|worker| (worker..n).step_by(threads).for_each(f));
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.generation.store(usize::MAX, Ordering::Release);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            let _ = worker.join(); // a worker catches every panic of its work
        }
    }
}

impl Shared {
    fn serve(&self, worker: usize) {
        INSIDE.set(true);
        let mut seen = 0;
        loop {
            wait(|| self.generation.load(Ordering::Acquire) != seen);
            seen = self.generation.load(Ordering::Acquire);
            if seen == usize::MAX {
                return;
            }
            // SAFETY: the new generation was published after `job`, and the caller changes `job`
            // only after `pending` reached 0, for which this worker is still missing.
            let (work, caller) = unsafe {
                let job = (*self.job.get()).as_ref();
                let Some(job) = job else { continue };
                (&*job.work, job.caller.clone())
            };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(worker))) {
                let mut first = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
                first.get_or_insert(panic);
            }
            if self.pending.fetch_sub(1, Ordering::Release) == 1 {
                caller.unpark();
            }
        }
    }
}

/// Spins, then sleeps until `done`; whoever makes it true unparks this thread.
fn wait(done: impl Fn() -> bool) {
    let mut start = None;
    loop {
        for _ in 0..32 {
            if done() {
                return;
            }
            std::hint::spin_loop();
        }
        let waited = start.get_or_insert_with(Instant::now).elapsed();
        if waited > SPIN {
            break;
        }
        if waited > ALONE {
            thread::yield_now();
        }
    }
    while !done() {
        thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    fn bump(count: &AtomicUsize) {
        count.fetch_add(1, Ordering::Relaxed);
    }

    #[test]
    fn every_worker_runs_once_also_after_sleeping() {
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads);
            assert_eq!(pool.threads(), threads);
            let counts: Vec<_> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
            for round in 0..2000 {
                pool.run(&|worker| {
                    counts[worker].fetch_add(1, Ordering::Relaxed);
                });
                if round % 500 == 0 {
                    thread::sleep(Duration::from_millis(2));
                }
            }
            assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 2000));
        }
    }

    #[test]
    fn split_and_each_cover_everything_once() {
        let pool = Pool::new(3);
        for n in [0, 1, 2, 3, 7, 64, 101] {
            for grain in [0, 1, 4, 16, 200] {
                let hits: Vec<_> = (0..n).map(|_| AtomicUsize::new(0)).collect();
                pool.split(n, grain, &|range| {
                    assert_eq!(range.start % grain.max(1), 0);
                    range.for_each(|i| bump(&hits[i]));
                });
                pool.each(n, &|i| bump(&hits[i]));
                assert!(hits.iter().all(|h| h.load(Ordering::Relaxed) == 2), "{n} {grain}");
            }
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_survives() {
        let pool = Pool::new(2);
        for guilty in [0, 1] {
            let finished = AtomicBool::new(false);
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(&|worker| {
                    if worker == guilty {
                        std::panic::panic_any("mine");
                    }
                    thread::sleep(Duration::from_millis(5));
                    finished.store(true, Ordering::Relaxed);
                });
            }));
            assert_eq!(result.expect_err("panicked").downcast_ref(), Some(&"mine"));
            assert!(finished.load(Ordering::Relaxed), "returned before the other worker");
            let count = AtomicUsize::new(0);
            pool.run(&|_| bump(&count));
            assert_eq!(count.into_inner(), 2);
        }
    }

    #[test]
    fn nested_and_concurrent_runs_finish() {
        let pool = Pool::new(2);
        let count = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        pool.run(&|_| pool.run(&|_| bump(&count)));
                    }
                });
            }
        });
        assert_eq!(count.into_inner(), 4 * 50 * 4);
    }

    #[test]
    fn threads_write_disjoint_parts() {
        let pool = Pool::new(2);
        let mut values = vec![0_usize; 1000];
        let out = Ptr(values.as_mut_ptr());
        pool.split(1000, 8, &|range| {
            // SAFETY: ranges are disjoint and inside `values`.
            let part = unsafe { out.slice(range.start, range.len()) };
            part.iter_mut().zip(range).for_each(|(v, i)| *v = i);
        });
        assert!(values.iter().enumerate().all(|(i, &v)| i == v));
    }
}
