//! Each head's query and key scaled to root mean square 1, so that no score grows without bound (Henry et al. 2020;
//! as in Qwen3).
//!
//! Of a packed row `(H + 2K) D`, for each of the first `H + K` heads `x (D)`, with `w` the queries' weights (D) or the
//! keys': `y = w · x̂`, `x̂ = x · rstd`, `rstd = 1 / √(mean(x²) + ε)`. Values stay as they are.
//!
//! In place. Parameters: queries' weights (D), keys' weights (D). Saved: x̂ and rstd of each head,
//! `4 · N (H + K) (D + 1)` bytes, as the row itself is overwritten. Backward:
//! `dx = rstd · (w·dy - x̂ · mean(w · dy · x̂))`, `dw = Σ over rows and heads of dy · x̂`.

mod cpu;
/// The definition, in f64.
pub mod reference;

/// Shapes and wrong kernels.
#[cfg(any(test, feature = "cases"))]
pub mod cases;

use crate::autograd::{Backward, Forward, Needs, Op};
use crate::error::{Error, Kind, Result};

/// Sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadNormDims {
    /// N: rows.
    pub n: usize,
    /// H: heads of queries.
    pub h: usize,
    /// K: heads of keys, and of values.
    pub kv: usize,
    /// D: width of a head.
    pub d: usize,
}

impl HeadNormDims {
    /// Heads that are normalised.
    fn heads(&self) -> usize {
        self.h + self.kv
    }
    /// Elements of a row.
    fn row(&self) -> usize {
        (self.h + 2 * self.kv) * self.d
    }
}

/// The operation. See the module for shapes.
#[derive(Clone, Copy, Debug)]
pub struct HeadNorm {
    dims: HeadNormDims,
    eps: f32,
}

impl HeadNorm {
    /// For packed rows; `eps` is added to the mean square.
    ///
    /// # Errors
    /// A size of 0; an `eps` that is not above 0.
    pub fn new(dims: HeadNormDims, eps: f32) -> Result<Self> {
        let HeadNormDims { n, h, kv, d } = dims;
        if [n, h, kv, d].contains(&0) || !(eps > 0.0) {
            let message =
                format!("(N={n}, H={h}, K={kv}, D={d}), eps = {eps}; all must be above 0");
            return Err(Error::new(Kind::Shape, "head norm", message));
        }
        Ok(Self { dims, eps })
    }
}

impl Op for HeadNorm {
    fn name(&self) -> &'static str {
        "head norm"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![self.dims.n * self.dims.row()]
    }
    fn params(&self) -> Vec<usize> {
        vec![self.dims.d; 2]
    }
    fn outputs(&self) -> Vec<usize> {
        self.inputs()
    }
    fn saved(&self) -> Vec<usize> {
        let heads = self.dims.n * self.dims.heads();
        vec![heads * self.dims.d, heads]
    }
    fn needs(&self) -> Needs {
        Needs::default()
    }
    fn in_place(&self) -> Option<(usize, usize)> {
        Some((0, 0))
    }
    fn flops(&self) -> (u64, u64) {
        let n = (self.dims.n * self.dims.heads() * self.dims.d) as u64;
        (4 * n, 9 * n)
    }
    fn forward(&self, mut o: Forward<'_>) -> Result<()> {
        let mut saved = o.saved.into_iter();
        let (Some(hat), Some(rstd)) = (saved.next(), saved.next()) else {
            unreachable!("the tape gives both")
        };
        let weights = [o.params[0], o.params[1]];
        cpu::forward(o.pool, self.dims, self.eps, weights, o.outputs[0], (hat, rstd));
        Ok(())
    }
    fn backward(&self, o: Backward<'_>) -> Result<()> {
        let saved = (&*o.saved[0], &*o.saved[1]);
        let weights = [o.params[0], o.params[1]];
        let mut d_inputs = o.d_inputs.into_iter();
        let Some(Some(d)) = d_inputs.next() else { return Ok(()) };
        // The weights' gradients read dy, which dx then overwrites.
        for (which, grad) in o.d_params.into_iter().enumerate() {
            if let Some(grad) = grad {
                cpu::weight(o.pool, self.dims, which, saved.0, d.data, grad);
            }
        }
        cpu::backward(o.pool, self.dims, weights, saved, d.data);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::pool::Pool;
    use crate::ops::harness::{Values, produce};
    use crate::tensor::random::Random;

    #[test]
    fn cases_hold() {
        cases::cases().iter().for_each(|case| case.check().unwrap());
    }

    #[test]
    fn no_bit_depends_on_the_thread_count() {
        let dims = HeadNormDims { n: 77, h: 3, kv: 2, d: 50 };
        let op = HeadNorm::new(dims, 1e-6).unwrap();
        let mut random = Random::new(3, 0);
        let mut normal = |n: usize| (0..n).map(|_| f64::from(random.normal())).collect::<Vec<_>>();
        let len = dims.n * dims.row();
        let values = Values {
            inputs: vec![normal(len)],
            params: vec![normal(dims.d), normal(dims.d)],
            ints: vec![],
        };
        let dy = [normal(len)];
        let run = |t| {
            let p = produce(&op, &values, &dy, Default::default(), &Pool::new(t), None);
            (p.outputs, p.d_inputs, p.d_params)
        };
        let one = run(1);
        for threads in [2, 3, 5] {
            assert_eq!(one, run(threads), "{threads} threads");
        }
    }

    #[test]
    fn sizes_and_epsilon_must_be_above_0() {
        let dims = HeadNormDims { n: 1, h: 1, kv: 1, d: 2 };
        assert!(HeadNorm::new(dims, 1e-6).is_ok() && HeadNorm::new(dims, f32::NAN).is_err());
        assert!(HeadNorm::new(HeadNormDims { kv: 0, ..dims }, 1e-6).is_err());
    }
}

// This room does not know positions, scores, or why heads are normalised.
