#![allow(unsafe_code)] // rows of one buffer go to several threads
//! Forward: query after query, each by one thread. Backward: batch row after batch row; the gradients of `v` are
//! added up in the order of the rows at last. So thread count changes no bit.

use super::AdditiveDims;
use crate::autograd::Grad;
use crate::backend::cpu::pool::{Pool, Ptr};
use crate::ops::simd::{self, exp, fma, multiversion, tanh};

/// Operands. Shapes in the module above.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) dims: AdditiveDims,
    pub(super) lengths: &'a [i32],
    pub(super) q: &'a [f32],
    pub(super) k: &'a [f32],
    pub(super) values: &'a [f32],
    pub(super) v: &'a [f32],
}

multiversion! {
    /// `p[s] = softmax Σ v tanh(q + k[s])`, over as many keys as `p` has elements.
    fn row<const FMA: bool>(q: &[f32], k: &[f32], v: &[f32], p: &mut [f32]) {
        for (p, k) in p.iter_mut().zip(k.chunks_exact(q.len())) {
            let mut lanes = [0.0; simd::LANES];
            for ((v, q), k) in v.chunks(simd::LANES).zip(q.chunks(simd::LANES)).zip(k.chunks(simd::LANES)) {
                for (((lane, &v), &q), &k) in lanes.iter_mut().zip(v).zip(q).zip(k) {
                    *lane = fma::<FMA>(v, tanh::<FMA>(q + k), *lane);
                }
            }
            *p = simd::sum(&lanes, |x| x);
        }
        let largest = simd::max(p);
        p.iter_mut().for_each(|p| *p = exp::<FMA>(*p - largest));
        let whole = 1.0 / simd::sum(p, |p| p);
        p.iter_mut().for_each(|p| *p *= whole);
    }
}

multiversion! {
    /// `to += a · from`.
    fn axpy<const FMA: bool>(a: f32, from: &[f32], to: &mut [f32]) {
        for (to, &from) in to.iter_mut().zip(from) {
            *to = fma::<FMA>(a, from, *to);
        }
    }
}

multiversion! {
    fn dot<const FMA: bool>(x: &[f32], y: &[f32]) -> f32 {
        simd::sum2(x, y, |x, y| x * y)
    }
}

multiversion! {
    /// Adds what `d`, the gradient of `Σ v tanh(q + k)`, makes of those of q, k and v.
    fn pull<const FMA: bool>(
        d: f32, q: &[f32], k: &[f32], v: &[f32], dq: &mut [f32], dk: &mut [f32], dv: &mut [f32]
    ) {
        let n = q.len();
        let (k, v, dq, dk, dv) = (&k[..n], &v[..n], &mut dq[..n], &mut dk[..n], &mut dv[..n]);
        for i in 0..n {
            let y = tanh::<FMA>(q[i] + k[i]);
            let du = d * v[i] * (1.0 - y * y);
            dq[i] += du;
            dk[i] += du;
            dv[i] = fma::<FMA>(d, y, dv[i]);
        }
    }
}

/// `P (B, T, S)`.
pub(super) fn probabilities(pool: &Pool, call: Call<'_>, p: &mut [f32]) {
    let AdditiveDims { b, t, s, c, .. } = call.dims;
    assert!(call.q.len() == b * t * c && call.k.len() == b * s * c && call.v.len() == c);
    assert!(p.len() == b * t * s && call.lengths.len() == b);
    let p = Ptr(p.as_mut_ptr());
    pool.split(b * t, 1, &|rows| {
        for i in rows {
            // SAFETY: each row belongs to one thread; p has b·t rows.
            let p = unsafe { p.slice(i * s, s) };
            let (real, padding) = p.split_at_mut(call.lengths[i / t] as usize);
            padding.fill(0.0);
            row(&call.q[i * c..][..c], &call.k[i / t * s * c..][..s * c], call.v, real);
        }
    });
}

/// `out (B, T, E)`, and `P (B, T, S)`.
pub(super) fn forward(pool: &Pool, call: Call<'_>, out: &mut [f32], p: &mut [f32]) {
    let AdditiveDims { b, t, s, e, .. } = call.dims;
    assert!(call.values.len() == b * s * e && out.len() == b * t * e);
    probabilities(pool, call, p);
    let (out, p) = (Ptr(out.as_mut_ptr()), &*p);
    pool.split(b * t, 1, &|rows| {
        for i in rows {
            // SAFETY: each row belongs to one thread; out has b·t rows.
            let out = unsafe { out.slice(i * e, e) };
            out.fill(0.0);
            let values = call.values[i / t * s * e..].chunks_exact(e);
            let real = &p[i * s..][..call.lengths[i / t] as usize];
            real.iter().zip(values).for_each(|(&p, values)| axpy(p, values, out));
        }
    });
}

/// Where gradients go.
pub(super) struct Gradients<'a> {
    pub(super) q: Option<Grad<'a>>,
    pub(super) k: Option<Grad<'a>>,
    pub(super) values: Option<Grad<'a>>,
    pub(super) v: Option<Grad<'a>>,
}

/// For each batch row: dP `(S)`, and three rows of `C`: its share of v's gradient, and where nobody wants those of
/// q and k, a place for them.
pub(super) fn backward_scratch(dims: &AdditiveDims) -> usize {
    dims.b * (dims.s + 3 * dims.c)
}

/// Part `i` of a gradient, `n` long, ready to be added to; `None` where nobody wants it.
///
/// # Safety
/// Nobody else uses this part.
unsafe fn part<'a>(grad: Option<(Ptr<f32>, bool)>, i: usize, n: usize) -> Option<&'a mut [f32]> {
    let (data, accumulate) = grad?;
    // SAFETY: the caller's promise.
    let part = unsafe { data.slice(i * n, n) };
    if !accumulate {
        part.fill(0.0);
    }
    Some(part)
}

/// From `P` and the gradient of the output.
pub(super) fn backward(
    pool: &Pool,
    call: Call<'_>,
    (p, d_out): (&[f32], &[f32]),
    grads: Gradients<'_>,
    scratch: &mut [f32],
) {
    let AdditiveDims { b, t, s, c, e } = call.dims;
    assert!(p.len() == b * t * s && d_out.len() == b * t * e);
    assert!(call.q.len() == b * t * c && call.k.len() == b * s * c && call.v.len() == c);
    assert!(call.values.len() == b * s * e && scratch.len() >= backward_scratch(&call.dims));
    let target = |grad: Option<Grad<'_>>, len: usize| {
        grad.map(|g| {
            assert_eq!(g.data.len(), len);
            (Ptr(g.data.as_mut_ptr()), g.accumulate)
        })
    };
    let (q, k) = (target(grads.q, b * t * c), target(grads.k, b * s * c));
    let values = target(grads.values, b * s * e);
    let own = s + 3 * c;
    let at = Ptr(scratch.as_mut_ptr());
    pool.split(b, 1, &|rows| {
        for row in rows {
            // SAFETY: each batch row's parts belong to one thread; lengths were checked above.
            let (dq, dk, d_values, scratch) = unsafe {
                (
                    part(q, row, t * c),
                    part(k, row, s * c),
                    part(values, row, s * e),
                    at.slice(row * own, own),
                )
            };
            scratch.fill(0.0);
            batch_row(call, row, (p, d_out), [dq, dk, d_values], scratch);
        }
    });
    if let Some(dv) = grads.v {
        if !dv.accumulate {
            dv.data.fill(0.0);
        }
        scratch.chunks_exact(own).take(b).for_each(|x| axpy(1.0, &x[..c], dv.data));
    }
}

/// Adds one batch row's gradients; the first row of `scratch` gets that of `v`.
fn batch_row(
    call: Call<'_>,
    row: usize,
    (p, d_out): (&[f32], &[f32]),
    [mut dq, mut dk, mut d_values]: [Option<&mut [f32]>; 3],
    scratch: &mut [f32],
) {
    let AdditiveDims { t, s, c, e, .. } = call.dims;
    let length = call.lengths[row] as usize;
    let (dv, rest) = scratch.split_at_mut(c);
    let (unwanted_q, rest) = rest.split_at_mut(c);
    let (unwanted_k, dp) = rest.split_at_mut(c);
    let (k, values) = (&call.k[row * s * c..][..s * c], &call.values[row * s * e..][..s * e]);
    for i in 0..t {
        let at = row * t + i;
        let (q, d_out, p) = (&call.q[at * c..][..c], &d_out[at * e..][..e], &p[at * s..][..length]);
        for (j, values) in values.chunks_exact(e).take(length).enumerate() {
            // inverts: out += p values
            dp[j] = dot(d_out, values);
            if let Some(d) = &mut d_values {
                axpy(p[j], d_out, &mut d[j * e..][..e]);
            }
        }
        // inverts: the softmax
        let mean = dot(p, &dp[..length]);
        let dq = dq.as_mut().map_or(&mut *unwanted_q, |d| &mut d[i * c..][..c]);
        for (j, k) in k.chunks_exact(c).take(length).enumerate() {
            let dk = dk.as_mut().map_or(&mut *unwanted_k, |d| &mut d[j * c..][..c]);
            pull(p[j] * (dp[j] - mean), q, k, call.v, dq, dk, dv);
        }
    }
}
