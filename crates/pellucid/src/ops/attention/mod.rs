//! Each position asks (q), every position it may see answers (k) how much it matters, and what comes back is
//! the weighted mean of what those positions say (v).
//!
//! For batch row `b`, head `h`, query `t`, with `h' = h / (H / K)` its key/value head:
//!
//! ```text
//! score[t, s] = scale · Σ_i q[t, i] k[s, i]  -  slope_h |t - s|        (the slope only with ALiBi)
//!               + table[bucket(s - t), h]                              (only with a relative bias)
//! P[t, s]     = exp(score[t, s]) / Σ_{s' allowed} exp(score[t, s'])    0 where the mask forbids
//! out[t, i]   = Σ_s drop(P[t, s]) v[s, i]
//! ```
//!
//! Vaswani et al., "Attention Is All You Need", 2017 · shared key/value heads: Ainslie et al., "GQA", 2023 ·
//! linear biases: Press et al., "Train Short, Test Long", 2022 · relative bias: Raffel et al. 2020 · tiled: Milakov & Gimelshein 2018, Dao et al.
//! 2022 and 2023.
//!
//! | op | inputs | ints | output |
//! |---|---|---|---|
//! | [`SelfAttention`] | qkv `(B, T, (H + 2K) D)`: all q heads, all k heads, all v heads | lengths `(B)` with a padding mask | `(B, T, H D)` |
//! | [`CrossAttention`] | q `(B, T, H D)`; kv `(B, S, 2 K D)`: all k heads, all v heads | key lengths `(B)` with a padding mask | `(B, T, H D)` |
//! | [`RememberedAttention`] (inference) | q as above; state kv `(B, S, 2 K D)` | key lengths `(B)` | `(B, T, H D)` |
//! | [`CachedAttention`] (inference) | qkv as above; states k and v `(B, K, capacity, D)` | past `(B)`, new `(B)` | `(B, T, H D)` |
//!
//! Saved for the backward pass: log-sum-exp of each row of scores, `(B, H, T)`: `4 B H T` bytes. Nothing of size
//! `T x S` ever exists, except where somebody looks: [`SelfAttention::pattern`] computes the probabilities of
//! one head on their own, and tests hold them against the fused path.
//!
//! A query that may see nothing (a window or padding hides every key) gives 0 and passes no gradient.
//!
//! This room does not know layers, positions encoded into q and k, or who asks for the result.

mod cached;
mod cpu;
mod cross;
mod mask;
mod pattern;
/// The definition, in plain loops.
#[cfg(any(test, feature = "cases"))]
pub mod reference;
mod relative;
mod remembered;
mod self_attention;

/// Shapes, seeds and deliberately wrong kernels.
#[cfg(any(test, feature = "cases"))]
pub mod cases;
#[cfg(any(test, feature = "cases"))]
mod faults;
#[cfg(test)]
mod tests;

pub use cached::CachedAttention;
pub(super) use cached::check_standing;
pub use cross::CrossAttention;
pub use mask::Mask;
pub use relative::RelativeBias;
pub use remembered::RememberedAttention;
pub use self_attention::SelfAttention;

use crate::autograd::RunInfo;
use crate::backend::cpu::gemm::Precision;
use crate::error::{Error, Kind, Result};

/// Sizes of one attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionDims {
    /// Batch rows, `B`.
    pub b: usize,
    /// Query positions, `T`.
    pub t: usize,
    /// Key positions, `S`.
    pub s: usize,
    /// Query heads, `H`.
    pub h: usize,
    /// Key/value heads, `K`; divides `H`.
    pub kv: usize,
    /// Head width, `D`.
    pub d: usize,
}

impl AttentionDims {
    pub(super) fn check(&self) -> Result<()> {
        let Self { b, t, s, h, kv, d } = *self;
        let error = |message: &str| {
            Error::new(Kind::Shape, "attention", message)
                .fact(format!("(B={b}, T={t}, S={s}, H={h}, K={kv}, D={d})"))
        };
        if [b, t, s, h, kv, d].contains(&0) {
            return Err(error("a size is 0; every size must be at least 1"));
        }
        if !h.is_multiple_of(kv) {
            return Err(error(
                "K does not divide H; every kv head serves the same number of heads",
            )
            .hint("choose K among the divisors of H; K = H is plain multi-head attention"));
        }
        Ok(())
    }
}

/// How scores become probabilities.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// Who may look at whom.
    pub mask: Mask,
    /// Whether a score falls linearly with distance ([`slope`]).
    pub alibi: bool,
    /// A trained bias for each bucket of distances, of attention to the own sequence; the op then has a parameter, the
    /// table `(buckets, H)`.
    pub bias: Option<RelativeBias>,
    /// What `q · k` is multiplied by.
    pub scale: f32,
    /// Probability with which an attention probability is dropped in training, in `0..1`.
    pub dropout: f32,
    /// Distinguishes this layer's dropout from that of others in the same run.
    pub stream: u32,
    /// Bf16 lets the products of training round their operands where that is faster (AMX); sums, softmax and
    /// what is saved stay f32.
    pub precision: Precision,
}

impl Rule {
    /// Scale `1 / sqrt(D)`, no ALiBi, no dropout.
    #[must_use]
    pub fn new(mask: Mask, d: usize) -> Self {
        let scale = (1.0 / (d as f64).sqrt()) as f32;
        let precision = Precision::F32;
        Self { mask, alibi: false, bias: None, scale, dropout: 0.0, stream: 0, precision }
    }

    pub(super) fn check(&self) -> Result<()> {
        let error = |message: String| Err(Error::new(Kind::Config, "attention", message));
        if self.mask.window == Some(0) {
            return error("window is 0; a query must see at least itself (window 1)".into());
        }
        if !(self.scale.is_finite()) {
            return error(format!("scale is {}; it must be finite", self.scale));
        }
        if let Some(bias) = self.bias {
            bias.check()?;
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return error(format!("dropout is {}; it must be in 0..1", self.dropout));
        }
        Ok(())
    }

    /// Biases are added by the vectors' kernel alone.
    fn level(&self, dims: &AttentionDims) -> cpu::Level {
        match self.bias {
            Some(_) => cpu::Level::vectors(),
            None => cpu::Level::best(dims, self.precision),
        }
    }

    /// Elements of the table of biases: none, or one parameter.
    pub(in crate::ops) fn params(&self, dims: &AttentionDims) -> Vec<usize> {
        self.bias.iter().map(|bias| bias.buckets * dims.h).collect()
    }

    /// Working memory for the biases of all distances, and with `gradients` theirs.
    fn bias_scratch(&self, dims: &AttentionDims, gradients: bool) -> usize {
        let rows = if gradients { dims.h * (1 + dims.b) } else { dims.h };
        self.bias.map_or(0, |_| rows * relative::span(dims))
    }

    fn dropout(&self, run: RunInfo) -> Option<cpu::Dropout> {
        (run.training && self.dropout > 0.0)
            .then(|| cpu::Dropout::new(self.dropout, run.seed, run.step, self.stream))
    }
}

/// ALiBi's slope of head `head` of `heads`: a geometric sequence from `2^(-8/H)` down to `2^-8`; when `heads` is
/// not a power of two, the rest is taken from the sequence of twice as many heads (Press et al. 2022).
#[must_use]
pub fn slope(head: usize, heads: usize) -> f32 {
    let power = 1usize << heads.max(1).ilog2();
    let exponent = if head < power {
        (head + 1) as f64 / power as f64
    } else {
        (2 * (head - power) + 1) as f64 / (2 * power) as f64
    };
    (-8.0 * exponent).exp2() as f32
}

/// Lengths must be in `0..=s`.
pub(super) fn check_lengths(lengths: &[i32], s: usize) -> Result<()> {
    match lengths.iter().position(|&l| usize::try_from(l).map_or(true, |l| l > s)) {
        None => Ok(()),
        Some(b) => Err(Error::new(
            Kind::Input,
            "attention",
            format!("length of batch row {b} is {}, but it must be in 0..={s}", lengths[b]),
        )),
    }
}

/// `2` or, for the backward pass, `5` products of two flops for each pair of positions that see each other.
pub(super) fn flops(dims: &AttentionDims, mask: Mask) -> (u64, u64) {
    let pairs: usize = (0..dims.t).map(|t| mask.range(t, 0, dims.s, dims.s).len()).sum();
    let product = 2 * (dims.b * dims.h * dims.d * pairs) as u64;
    (2 * product, 5 * product)
}

#[cfg(test)]
mod slope_tests {
    use super::slope;

    #[test]
    fn slopes_are_those_of_the_paper() {
        let of = |heads: usize| (0..heads).map(|h| slope(h, heads)).collect::<Vec<_>>();
        assert_eq!(of(8), (1..=8).map(|i| 0.5f32.powi(i)).collect::<Vec<_>>());
        // Six heads: four of the sequence for 4, then every other one of the sequence for 8.
        assert_eq!(of(6), [0.25, 0.0625, 0.015_625, 0.003_906_25, 0.5, 0.125]);
    }
}
