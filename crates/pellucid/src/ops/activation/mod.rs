//! The one non-linear step of the feed-forward layer, element by element, alone or as a gate.
//!
//! ```text
//! Activate:  y[i] = act(x[i])                          x, y (N)
//! Gated:     y[n,f] = act(gate[n,f]) · up[n,f]         x = [gate | up] (N, 2F), y (N, F)
//! ```
//!
//! | [`Activation`] | act(x) | source |
//! |---|---|---|
//! | `Gelu` | x · Φ(x), Φ the normal distribution | Hendrycks & Gimpel 2016 |
//! | `GeluTanh` | x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³))) | the same, approximate form; GPT-2 |
//! | `Relu` | max(x, 0) | Nair & Hinton 2010 |
//! | `ReluSquared` | max(x, 0)² | So et al. 2021 (Primer) |
//! | `Silu` | x / (1 + e^-x) | Elfwing et al. 2017; gated: SwiGLU, Shazeer 2020 |
//! | `Tanh` | (e^x - e^-x) / (e^x + e^-x) | BERT's pooler, Devlin et al. 2019 |
//!
//! Saved: nothing (0 bytes); the backward pass reads the input. Outputs are cheap to recompute.
//! ReLU's slope at 0 is 0.

mod cpu;
/// The definition, in f64.
pub mod reference;

/// Shapes and wrong kernels.
#[cfg(any(test, feature = "cases"))]
pub mod cases;

#[allow(unused_imports)] // for rooms that fuse an activation into a finished row
pub(crate) use cpu::{apply, apply_and_keep, apply_in_place, derivative_in_place};

use crate::autograd::{Backward, Forward, Needs, Op};
use crate::error::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

/// Which function stands between the two projections of a feed-forward layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x · Φ(x)`.
    Gelu,
    /// GELU with Φ approximated by a hyperbolic tangent.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)²`.
    ReluSquared,
    /// `x / (1 + e^-x)`, also called swish.
    Silu,
    /// The hyperbolic tangent.
    Tanh,
}

impl Activation {
    /// All of them, for tables and tests.
    pub const ALL: [Self; 6] =
        [Self::Gelu, Self::GeluTanh, Self::Relu, Self::ReluSquared, Self::Silu, Self::Tanh];

    /// Operations of one element, `(act(x), dy · act'(x))`; erf, exp and tanh count as one.
    #[must_use]
    pub fn flops(self) -> (u64, u64) {
        match self {
            Self::Gelu => (5, 11),
            Self::GeluTanh => (9, 18),
            Self::Relu => (1, 1),
            Self::ReluSquared => (2, 3),
            Self::Silu => (4, 9),
            Self::Tanh => (1, 4),
        }
    }
}

/// `y = act(x)`; x and y (N).
#[derive(Clone, Copy, Debug)]
pub struct Activate {
    n: usize,
    activation: Activation,
}

impl Activate {
    /// `n` elements, in whatever shape. Errors if `n` is 0.
    pub fn new(n: usize, activation: Activation) -> Result<Self> {
        if n == 0 {
            return Err(Error::new(Kind::Shape, "activation", "N is 0; N must be at least 1"));
        }
        Ok(Self { n, activation })
    }
}

impl Op for Activate {
    fn name(&self) -> &'static str {
        "activation"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![self.n]
    }
    fn outputs(&self) -> Vec<usize> {
        vec![self.n]
    }
    fn needs(&self) -> Needs {
        Needs { inputs: 1, outputs: 0 }
    }
    fn cheap(&self) -> bool {
        true
    }
    fn flops(&self) -> (u64, u64) {
        let (forward, backward) = self.activation.flops();
        (forward * self.n as u64, backward * self.n as u64)
    }
    fn forward(&self, mut operands: Forward<'_>) -> Result<()> {
        let (x, y) = (operands.inputs[0], &mut *operands.outputs[0]);
        cpu::forward(operands.pool, self.activation, x, y);
        Ok(())
    }
    fn backward(&self, mut operands: Backward<'_>) -> Result<()> {
        if let Some(dx) = &mut operands.d_inputs[0] {
            let (x, dy) = (operands.inputs[0], operands.d_outputs[0]);
            cpu::backward(operands.pool, self.activation, x, dy, dx.data, dx.accumulate);
        }
        Ok(())
    }
}

/// Sizes of [`Gated`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatedDims {
    /// Rows N = B·T.
    pub n: usize,
    /// Hidden width F.
    pub f: usize,
}

/// `y = act(gate) · up`; input `[gate | up]` (N, 2F), output (N, F).
#[derive(Clone, Copy, Debug)]
pub struct Gated {
    dims: GatedDims,
    activation: Activation,
}

impl Gated {
    /// Errors if a size is 0 or the input would be too long to address.
    pub fn new(dims: GatedDims, activation: Activation) -> Result<Self> {
        let GatedDims { n, f } = dims;
        let length = f.checked_mul(2).and_then(|w| w.checked_mul(n));
        if n == 0 || f == 0 || length.is_none() {
            return Err(Error::new(
                Kind::Shape,
                "gated activation",
                "N and F must be at least 1 and N·2F must fit the address space",
            )
            .fact(format!("N={n}, F={f}"))
            .hint("N is batch times positions; F comes from the hidden width"));
        }
        Ok(Self { dims, activation })
    }
}

impl Op for Gated {
    fn name(&self) -> &'static str {
        "gated activation"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![self.dims.n * 2 * self.dims.f]
    }
    fn outputs(&self) -> Vec<usize> {
        vec![self.dims.n * self.dims.f]
    }
    fn needs(&self) -> Needs {
        Needs { inputs: 1, outputs: 0 }
    }
    fn cheap(&self) -> bool {
        true
    }
    fn flops(&self) -> (u64, u64) {
        let (forward, backward) = self.activation.flops();
        let n = (self.dims.n * self.dims.f) as u64;
        (n * (forward + 1), n * (forward + backward + 2))
    }
    fn forward(&self, mut operands: Forward<'_>) -> Result<()> {
        let (x, y) = (operands.inputs[0], &mut *operands.outputs[0]);
        cpu::gated_forward(operands.pool, self.activation, self.dims, x, y);
        Ok(())
    }
    fn backward(&self, mut operands: Backward<'_>) -> Result<()> {
        if let Some(dx) = &mut operands.d_inputs[0] {
            let (x, dy) = (operands.inputs[0], operands.d_outputs[0]);
            let (pool, accumulate) = (operands.pool, dx.accumulate);
            cpu::gated_backward(pool, self.activation, self.dims, x, dy, dx.data, accumulate);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::cpu::apply_derivative;
    use super::*;

    #[test]
    fn cases_hold() {
        for case in cases::cases() {
            case.check().unwrap();
        }
    }

    #[test]
    fn sizes_of_zero_are_refused() {
        assert_eq!(Activate::new(0, Activation::Relu).unwrap_err().kind(), Kind::Shape);
        let error = Gated::new(GatedDims { n: 3, f: 0 }, Activation::Silu).unwrap_err();
        assert!(error.to_string().contains("N=3, F=0"), "{error}");
        assert!(Gated::new(GatedDims { n: usize::MAX, f: 2 }, Activation::Silu).is_err());
    }

    /// What other rooms call on rows agrees with the operation, to the bit.
    #[test]
    fn slices_agree_with_the_operation() {
        let x: Vec<f32> = (0..77).map(|i| (i as f32 - 38.0) / 9.0).collect();
        for activation in Activation::ALL {
            let mut y = vec![0.0; x.len()];
            apply(activation, &x, &mut y);
            let mut z = x.clone();
            apply_in_place(activation, &mut z);
            assert_eq!(y, z);
            let (mut z, mut before) = (x.clone(), vec![f32::NAN; x.len()]);
            apply_and_keep(activation, &mut z, &mut before);
            assert_eq!((&y, &x), (&z, &before));
            let (mut dx, mut d) = (vec![f32::NAN; x.len()], x.clone());
            apply_derivative(activation, &x, &y, &mut dx, false);
            derivative_in_place(activation, &mut d, &y);
            assert_eq!(dx, d);
            apply_derivative(activation, &x, &y, &mut dx, true);
            assert_eq!(dx, d.iter().map(|d| d + d).collect::<Vec<_>>());
        }
    }

    #[test]
    fn far_from_zero_nothing_overflows_and_nan_stays() {
        let x = [-1e30, -200.0, 200.0, 1e15, f32::NAN];
        for activation in Activation::ALL {
            let (mut y, mut dx) = ([0.0; 5], [0.0; 5]);
            apply(activation, &x, &mut y);
            apply_derivative(activation, &x, &[1.0; 5], &mut dx, false);
            assert!(
                y[..4].iter().chain(&dx[..4]).all(|v| v.is_finite()),
                "{activation:?} {y:?} {dx:?}"
            );
            let low = if activation == Activation::Tanh { -1.0 } else { 0.0 };
            assert!(y[0] == low && y[1] == low && dx[0] == 0.0 && dx[1] == 0.0);
            assert!(y[4].is_nan() && dx[4].is_nan(), "{activation:?} {y:?} {dx:?}");
        }
    }
}

// This room does not know layers, matrix products or which model uses which activation.
