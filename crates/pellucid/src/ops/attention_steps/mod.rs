//! Attention in three steps, for who wants to see or edit what lies between them. The fused kernels of
//! [`attention`](super::attention) never write it down; these do, `(B, H, T, S)`.
//!
//! ```text
//! Scores:   score[t, s] = scale · Σ_i q[t, i] k[s, i] - slope_h |t - s| + table[bucket(s - t), h]
//!                         -inf where the mask forbids
//! Softmax:  P[t, s]     = exp(score[t, s]) / Σ_s' exp(score[t, s'])     a row of only -inf gives 0
//! Mix:      z[t, i]     = Σ_s P[t, s] v[s, i]
//! ```
//!
//! Head `h` uses key/value head `h / (H / K)`; slope and table are those of the fused rule; products are f32 whatever its
//! precision. There is no dropout: who looks at a pattern wants the pattern.
//!
//! | op | inputs | ints | params | output |
//! |---|---|---|---|---|
//! | [`Scores::packed`] | qkv `(B, T, (H + 2K) D)` | lengths `(B)` with padding | table `(buckets, H)` with a bias | `(B, H, T, S)` |
//! | [`Scores::apart`] | q `(B, T, H D)`; kv `(B, S, 2 K D)` | the same | | `(B, H, T, S)` |
//! | [`Softmax`] | rows `(N, S)` | | | `(N, S)` |
//! | [`Mix::packed`] | pattern `(B, H, T, S)`; qkv | | | `(B, T, H, D)` |
//! | [`Mix::apart`] | pattern `(B, H, T, S)`; kv | | | `(B, T, H, D)` |
//!
//! While a text grows [`Recall`] gives q and kv from the cache, and [`RecalledScores`] knows where its queries stand:
//! `t` above is then `past + t`.
//!
//! Saved: nothing. The backward passes of scores and mix read their inputs, that of softmax its output. A score that
//! the mask forbids is a constant, and so is a probability of 0: neither passes a gradient, not even NaN. Columns of
//! a packed input that a step does not read get the gradient 0.

mod cpu;
mod mix;
mod recall;
/// The definition, in f64 and plain loops.
pub mod reference;
mod scores;
mod softmax;

/// Shapes, seeds and deliberately wrong kernels.
#[cfg(any(test, feature = "cases"))]
pub mod cases;
#[cfg(test)]
mod recall_tests;
#[cfg(test)]
mod tests;

pub use mix::Mix;
pub use recall::{Recall, RecallSource, RecalledScores};
pub use scores::Scores;
pub use softmax::Softmax;

use crate::error::{Error, Kind, Result};
use crate::ops::attention::AttentionDims;
use cpu::Place;

/// How q, k and v come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// q, k and v of a position side by side.
    Packed,
    /// q on its own; k and v of a position side by side.
    Apart,
}

impl Layout {
    /// Sizes that this layout can have.
    fn check(self, dims: &AttentionDims) -> Result<()> {
        dims.check()?;
        let AttentionDims { b, t, s, h, kv, d } = *dims;
        let error = |message: &str| {
            Error::new(Kind::Shape, "attention in steps", message)
                .fact(format!("(B={b}, T={t}, S={s}, H={h}, K={kv}, D={d})"))
        };
        let fits = |sizes: &[usize]| {
            sizes.iter().try_fold(4usize, |product, &n| product.checked_mul(n)).is_some()
        };
        if !(fits(&[b, h, t, s]) && fits(&[3, b, t.max(s), h, d])) {
            return Err(error("the sizes' product is beyond the address space"));
        }
        if self == Self::Packed && s != t {
            let hint = "the form `apart` takes keys from another sequence";
            return Err(error("packed queries and keys are of one sequence, so S is T").hint(hint));
        }
        Ok(())
    }

    /// Elements of a position in the buffer that holds k and v.
    fn width(self, dims: &AttentionDims) -> usize {
        let AttentionDims { h, kv, d, .. } = *dims;
        match self {
            Self::Packed => (h + 2 * kv) * d,
            Self::Apart => 2 * kv * d,
        }
    }

    /// The first column of k in that buffer; v follows it.
    fn first_key(self, dims: &AttentionDims) -> usize {
        match self {
            Self::Packed => dims.h * dims.d,
            Self::Apart => 0,
        }
    }

    fn q(self, dims: &AttentionDims) -> Place {
        let row = match self {
            Self::Packed => self.width(dims),
            Self::Apart => dims.h * dims.d,
        };
        Place { offset: 0, row, positions: dims.t, d: dims.d }
    }

    fn k(self, dims: &AttentionDims) -> Place {
        let offset = self.first_key(dims);
        Place { offset, row: self.width(dims), positions: dims.s, d: dims.d }
    }

    fn v(self, dims: &AttentionDims) -> Place {
        let k = self.k(dims);
        Place { offset: k.offset + dims.kv * dims.d, ..k }
    }
}

// This room does not know layers, who looks at a pattern, or what somebody changed in it.
