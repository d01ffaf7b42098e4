use std::sync::OnceLock;

use super::settings::Settings;

/// What the processor has, what is used, and why.
pub mod features;
/// The matrix product.
pub mod gemm;
/// What this machine can do at most, measured.
pub mod peak;
/// Persistent threads with a static partition.
pub mod pool;
/// Matrices in fewer bits, and their products.
pub mod stored;

use pool::Pool;

/// The pool of this process: `PELLUCID_THREADS` workers, else one per core.
pub fn global_pool() -> &'static Pool {
    static POOL: OnceLock<Pool> = OnceLock::new();
    POOL.get_or_init(|| Pool::new(Settings::get().threads.unwrap_or(0)))
}
