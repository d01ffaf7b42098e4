//! What a tape and whoever asked share: the operation on the tape holds one end, who changes or reads it the other.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A value with two owners.
#[derive(Debug, Default)]
pub struct Shared<T>(Arc<Mutex<T>>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Shared<T> {
    /// The value. Nobody holds it while a tape runs.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
