//! The activations in f64, and their derivatives.

use super::{Activation, GatedDims};
use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// `Φ(x)`: Taylor series of erf near 0, continued fraction of erfc far away.
fn normal_cumulative(x: f64) -> f64 {
    let z = x.abs() * FRAC_1_SQRT_2;
    let tail = if z < 2.5 {
        let (mut term, mut sum) = (z, z);
        for n in 1..120 {
            term *= -z * z / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        0.5 - sum / PI.sqrt()
    } else {
        let mut fraction = 0.0;
        for n in (1..200).rev() {
            fraction = 0.5 * f64::from(n) / (z + fraction);
        }
        0.5 * (-z * z).exp() / PI.sqrt() / (z + fraction)
    };
    if x < 0.0 { tail } else { 1.0 - tail }
}

/// `√(2/π)·(x + 0.044715·x³)` and its derivative.
fn gelu_argument(x: f64) -> (f64, f64) {
    let c = (2.0 / PI).sqrt();
    (c * (x + 0.044715 * x.powi(3)), c * (1.0 + 3.0 * 0.044715 * x * x))
}

/// `act(x)`.
#[must_use]
pub fn value(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Gelu => x * normal_cumulative(x),
        Activation::GeluTanh => 0.5 * x * (1.0 + gelu_argument(x).0.tanh()),
        Activation::Relu => x.max(0.0),
        Activation::ReluSquared => x.max(0.0).powi(2),
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Tanh => x.tanh(),
    }
}

/// `act'(x)`; each arm inverts the arm above that has its name.
#[must_use]
pub fn slope(activation: Activation, x: f64) -> f64 {
    match activation {
        // x · Φ(x)
        Activation::Gelu => normal_cumulative(x) + x * (-0.5 * x * x).exp() / (2.0 * PI).sqrt(),
        // 0.5 · x · (1 + tanh(u))
        Activation::GeluTanh => {
            let (u, du) = gelu_argument(x);
            0.5 * (1.0 + u.tanh()) + 0.5 * x * (1.0 - u.tanh().powi(2)) * du
        }
        // max(x, 0)
        Activation::Relu => f64::from(u8::from(x > 0.0)),
        // max(x, 0)²
        Activation::ReluSquared => 2.0 * x.max(0.0),
        // x / (1 + e^-x)
        Activation::Silu => {
            let s = 1.0 / (1.0 + (-x).exp());
            s + x * s * (1.0 - s)
        }
        // tanh(x)
        Activation::Tanh => 1.0 - x.tanh().powi(2),
    }
}

/// `y (N)` from `x (N)`.
#[must_use]
pub fn forward(activation: Activation, x: &[f64]) -> Vec<f64> {
    x.iter().map(|&x| value(activation, x)).collect()
}

/// `dx (N)`.
#[must_use]
pub fn backward(activation: Activation, x: &[f64], dy: &[f64]) -> Vec<f64> {
    // y[i] = act(x[i])
    x.iter().zip(dy).map(|(&x, dy)| dy * slope(activation, x)).collect()
}

/// `y (N, F)` from `x = [gate | up] (N, 2F)`.
#[must_use]
pub fn gated_forward(activation: Activation, dims: GatedDims, x: &[f64]) -> Vec<f64> {
    let GatedDims { n, f } = dims;
    let mut y = vec![0.0; n * f];
    for row in 0..n {
        for i in 0..f {
            let (gate, up) = (x[row * 2 * f + i], x[row * 2 * f + f + i]);
            y[row * f + i] = value(activation, gate) * up;
        }
    }
    y
}

/// `dx (N, 2F)`.
#[must_use]
pub fn gated_backward(activation: Activation, dims: GatedDims, x: &[f64], dy: &[f64]) -> Vec<f64> {
    let GatedDims { n, f } = dims;
    let mut dx = vec![0.0; n * 2 * f];
    for row in 0..n {
        for i in 0..f {
            let (gate, up) = (x[row * 2 * f + i], x[row * 2 * f + f + i]);
            // y[row, i] = act(gate) * up
            dx[row * 2 * f + i] = dy[row * f + i] * up * slope(activation, gate);
            dx[row * 2 * f + f + i] = dy[row * f + i] * value(activation, gate);
        }
    }
    dx
}
