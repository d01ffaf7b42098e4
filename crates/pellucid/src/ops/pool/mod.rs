//! One vector for a whole text: the mean over its real positions, the first, or the last real one.
//!
//! ```text
//! First: y[b] = x[b, 0]     Last: y[b] = x[b, n_b - 1]     Mean: y[b] = Σ_{t < n_b} x[b, t] / n_b
//! ```
//!
//! Input x (B, T, C), integers n (B) in 1..=T, output y (B, C). Saved: nothing (0 bytes); the backward pass reads
//! neither input nor output. Positions that are not pooled get gradient 0.
//!
//! `[CLS]`: Devlin et al. 2019 · mean: Reimers & Gurevych 2019.

mod cpu;
/// The definition, in f64.
pub mod reference;

/// Shapes and wrong kernels.
#[cfg(any(test, feature = "cases"))]
pub mod cases;

use crate::autograd::{Backward, Forward, Needs, Op};
use crate::error::{self, Error, Result};

/// Which positions count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The first.
    First,
    /// All real ones alike.
    Mean,
    /// The last real one.
    Last,
}

impl Kind {
    /// The positions of a text of `length`, all with weight `1 / their number`.
    fn positions(self, length: usize) -> std::ops::Range<usize> {
        match self {
            Self::First => 0..1,
            Self::Mean => 0..length,
            Self::Last => length - 1..length,
        }
    }
}

/// The operation. See the module for shapes.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    b: usize,
    t: usize,
    c: usize,
    kind: Kind,
}

impl Pool {
    /// (B, T, C) to (B, C).
    ///
    /// # Errors
    /// A size of 0.
    pub fn new(b: usize, t: usize, c: usize, kind: Kind) -> Result<Self> {
        if [b, t, c].contains(&0) {
            let message = format!("(B={b}, T={t}, C={c}); every size must be at least 1");
            return Err(Error::new(error::Kind::Shape, "pool", message));
        }
        Ok(Self { b, t, c, kind })
    }

    fn check(&self, lengths: &[i32]) -> Result<()> {
        let fits = |&n: &i32| usize::try_from(n).is_ok_and(|n| (1..=self.t).contains(&n));
        match lengths.iter().position(|n| !fits(n)) {
            None => Ok(()),
            Some(row) => {
                let message = format!("row {row} has length {}, not 1..={}", lengths[row], self.t);
                Err(Error::new(error::Kind::Input, "pool", message)
                    .hint("a text needs at least one token; leave empty ones out"))
            }
        }
    }
}

impl Op for Pool {
    fn name(&self) -> &'static str {
        "pool"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![self.b * self.t * self.c]
    }
    fn ints(&self) -> Vec<usize> {
        vec![self.b]
    }
    fn outputs(&self) -> Vec<usize> {
        vec![self.b * self.c]
    }
    fn needs(&self) -> Needs {
        Needs::default()
    }
    fn flops(&self) -> (u64, u64) {
        let n = (self.b * self.t * self.c) as u64;
        if self.kind == Kind::Mean { (n, n) } else { (0, 0) }
    }
    fn forward(&self, mut o: Forward<'_>) -> Result<()> {
        self.check(o.ints[0])?;
        cpu::forward(o.pool, self, o.ints[0], o.inputs[0], o.outputs[0]);
        Ok(())
    }
    fn backward(&self, mut o: Backward<'_>) -> Result<()> {
        self.check(o.ints[0])?;
        if let Some(dx) = &mut o.d_inputs[0] {
            cpu::backward(o.pool, self, o.ints[0], o.d_outputs[0], dx.data, dx.accumulate);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_hold() {
        cases::cases().iter().for_each(|case| case.check().unwrap());
    }

    #[test]
    fn a_text_without_a_token_is_refused() {
        let pool = Pool::new(2, 3, 4, Kind::Mean).unwrap();
        for bad in [[1, 0], [4, 1], [-1, 2]] {
            assert!(pool.check(&bad).unwrap_err().to_string().contains("1..=3"), "{bad:?}");
        }
        assert!(pool.check(&[1, 3]).is_ok() && Pool::new(1, 0, 1, Kind::Last).is_err());
    }
}

// This room does not know what the positions mean, or what is done with the vector.
