//! Attention that remembers keys and values: prefill and single steps of generation.

use super::cpu::{self, Biases, Call, Level, View};
use super::{AttentionDims, Rule, pattern, relative};
use crate::autograd::{Inference, InferenceOp};
use crate::error::{Error, Kind, Result};

/// Positions from which on a call is read as a prompt.
const PROMPT: usize = 32;

/// Appends this call's keys and values to the caches, then attends to everything cached.
///
/// Inputs: qkv `(B, T, (H + 2K) D)`. Ints: past `(B)`, positions already cached in each row; new `(B)`, how many
/// of the `T` positions are real (the rest is padding on the right: not cached, output 0). States: k and v
/// `(B, K, capacity, D)`. Output: `(B, T, H D)`.
///
/// A row's bits depend neither on the other rows, nor on `B`, nor, among calls of fewer than [`PROMPT`] positions, on
/// how its positions are cut into calls; those of longer calls are of [`SelfAttention`](super::SelfAttention)'s kernel.
/// In f32 both kernels are equally close to the exact result.
#[derive(Clone, Copy, Debug)]
pub struct CachedAttention {
    dims: AttentionDims,
    rule: Rule,
}

impl CachedAttention {
    /// `dims.s` is the capacity of the caches; dropout and padding in `rule` are ignored.
    ///
    /// # Errors
    /// A size of 0, `K` that does not divide `H`, or a rule out of range.
    pub fn new(dims: AttentionDims, rule: Rule) -> Result<Self> {
        dims.check()?;
        rule.check()?;
        let mut rule = rule;
        rule.mask.padding = false;
        Ok(Self { dims, rule })
    }

    fn width(&self) -> usize {
        (self.dims.h + 2 * self.dims.kv) * self.dims.d
    }

    /// Prompts use what whole sequences use; a few positions are not worth tiles.
    fn level(&self) -> Level {
        if self.dims.t < PROMPT || self.rule.bias.is_some() {
            return Level::vectors();
        }
        Level::best(&self.dims, self.rule.precision)
    }

    fn call<'a>(
        &self,
        qkv: &'a [f32],
        (k, v): (&'a [f32], &'a [f32]),
        (past, new): (&'a [i32], &'a [i32]),
    ) -> Call<'a> {
        let AttentionDims { t, s, kv, d, .. } = self.dims;
        let row = self.width();
        let cache = |data| View { data, offset: 0, batch: kv * s * d, head: s * d, row: d };
        Call {
            dims: self.dims,
            mask: self.rule.mask,
            alibi: self.rule.alibi,
            biases: None,
            scale: self.rule.scale,
            lengths: &[],
            past,
            new,
            dropout: None,
            q: View { data: qkv, offset: 0, batch: t * row, head: d, row },
            k: cache(k),
            v: cache(v),
            level: self.level(),
        }
    }

    fn check(&self, past: &[i32], new: &[i32]) -> Result<()> {
        check_standing(&self.dims, past, new)
    }

    /// Copies the new keys and values of every row behind the old ones.
    ///
    /// # Errors
    /// `past` and `new` that do not fit.
    pub(in crate::ops) fn append(&self, x: &mut Inference<'_>) -> Result<()> {
        self.check(x.ints[0], x.ints[1])?;
        let AttentionDims { b, t, s, h, kv, d } = self.dims;
        let (qkv, width) = (x.inputs[0], self.width());
        for which in 0..2 {
            let state = &mut *x.states[which];
            for row in 0..b {
                let (past, new) = (x.ints[0][row] as usize, x.ints[1][row] as usize);
                for head in 0..kv {
                    let to = ((row * kv + head) * s + past) * d;
                    for (i, to) in state[to..to + new * d].chunks_exact_mut(d).enumerate() {
                        let from = (row * t + i) * width + (h + which * kv + head) * d;
                        to.copy_from_slice(&qkv[from..from + d]);
                    }
                }
            }
        }
        Ok(())
    }

    /// The probabilities `(T, capacity)` of one head of one batch row, for looking inside; `k_cache` as the
    /// forward pass left it, `past` and `new` as it was given them.
    ///
    /// # Errors
    /// `b` or `head` out of range, or `past` and `new` that do not fit.
    pub fn pattern(
        &self,
        qkv: &[f32],
        k_cache: &[f32],
        (past, new): (&[i32], &[i32]),
        b: usize,
        head: usize,
    ) -> Result<Vec<f32>> {
        self.check(past, new)?;
        if self.rule.bias.is_some() {
            let message = "with a relative bias only whole sequences' patterns are shown";
            return Err(Error::new(Kind::Input, "attention pattern", message));
        }
        pattern::of(&self.call(qkv, (k_cache, k_cache), (past, new)), b, head)
    }
}

impl InferenceOp for CachedAttention {
    fn name(&self) -> &'static str {
        "cached attention"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![self.dims.b * self.dims.t * self.width()]
    }
    fn ints(&self) -> Vec<usize> {
        vec![self.dims.b; 2]
    }
    fn outputs(&self) -> Vec<usize> {
        let AttentionDims { b, t, h, d, .. } = self.dims;
        vec![b * t * h * d]
    }
    fn params(&self) -> Vec<usize> {
        self.rule.params(&self.dims)
    }
    fn states(&self) -> Vec<usize> {
        let AttentionDims { b, s, kv, d, .. } = self.dims;
        vec![b * kv * s * d; 2]
    }
    fn scratch(&self, threads: usize) -> usize {
        self.rule.bias_scratch(&self.dims, false)
            + threads * cpu::forward_scratch(&self.dims, self.level())
    }
    fn flops(&self) -> u64 {
        // As if the cache were full.
        let AttentionDims { b, t, s, h, d, .. } = self.dims;
        4 * (b * h * t * s * d) as u64
    }

    fn forward(&self, mut x: Inference<'_>) -> Result<()> {
        self.append(&mut x)?;
        let (own, scratch) = x.scratch.split_at_mut(self.rule.bias_scratch(&self.dims, false));
        let biases = self.rule.bias.map(|bias| {
            relative::expand(bias, &self.dims, x.params[0], own);
            Biases { values: own, gradient: None }
        });
        let call = self.call(x.inputs[0], (&*x.states[0], &*x.states[1]), (x.ints[0], x.ints[1]));
        let call = Call { biases, ..call };
        cpu::forward(x.pool, &call, x.outputs[0], None, scratch);
        Ok(())
    }
}

/// Queries stand behind what the cache holds, and it has room for them.
///
/// # Errors
/// The batch row, and what does not fit.
pub(in crate::ops) fn check_standing(
    dims: &AttentionDims,
    past: &[i32],
    new: &[i32],
) -> Result<()> {
    let AttentionDims { t, s, .. } = *dims;
    for (b, (&past, &new)) in past.iter().zip(new).enumerate() {
        let facts = |message: String, kind| {
            Error::new(kind, "attention", message)
                .fact(format!("batch row {b}: past {past}, new {new}, T {t}, capacity {s}"))
        };
        if past < 0 || new < 0 || new as usize > t {
            let message = "past must not be negative, and new must be in 0..=T";
            return Err(facts(message.into(), Kind::Input));
        }
        if past as usize + new as usize > s {
            let message = format!("the cache is full: {} positions", past as usize + new as usize);
            return Err(
                facts(message, Kind::Resource).hint("end the generation, or make the cache larger")
            );
        }
    }
    Ok(())
}
