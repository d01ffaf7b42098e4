//! Attention to another sequence whose keys and values were computed before: a decoder's look at its source, step by
//! step.

use super::cpu::{self, Call, Level};
use super::{AttentionDims, CrossAttention, Rule, check_lengths};
use crate::autograd::{Inference, InferenceOp};
use crate::error::Result;

/// What [`CrossAttention`] computes, with kv as a state that somebody else writes before the run.
///
/// Input: q `(B, T, H D)`. Ints: key lengths `(B)`. State: kv `(B, S, 2 K D)`: all k heads, all v heads. Output:
/// `(B, T, H D)`. A query's bits depend neither on the other rows nor on the other queries of its row, so that
/// several continuations of one source can be queries of one row.
#[derive(Clone, Copy, Debug)]
pub struct RememberedAttention {
    cross: CrossAttention,
}

impl RememberedAttention {
    /// Any `T` and `S`; the rule needs a padding mask, its dropout is ignored.
    ///
    /// # Errors
    /// As [`CrossAttention::new`].
    pub fn new(dims: AttentionDims, rule: Rule) -> Result<Self> {
        Ok(Self { cross: CrossAttention::new(dims, Rule { dropout: 0.0, ..rule })? })
    }

    fn call<'a>(&self, q: &'a [f32], kv: &'a [f32], lengths: &'a [i32]) -> Call<'a> {
        // A few queries are not worth tiles.
        Call { level: Level::vectors(), ..self.cross.call(q, kv, lengths) }
    }
}

impl InferenceOp for RememberedAttention {
    fn name(&self) -> &'static str {
        "remembered attention"
    }
    fn inputs(&self) -> Vec<usize> {
        let AttentionDims { b, t, h, d, .. } = self.cross.dims;
        vec![b * t * h * d]
    }
    fn ints(&self) -> Vec<usize> {
        vec![self.cross.dims.b]
    }
    fn outputs(&self) -> Vec<usize> {
        self.inputs()
    }
    fn states(&self) -> Vec<usize> {
        let AttentionDims { b, s, kv, d, .. } = self.cross.dims;
        vec![b * s * 2 * kv * d]
    }
    fn scratch(&self, threads: usize) -> usize {
        threads * cpu::forward_scratch(&self.cross.dims, Level::vectors())
    }
    fn flops(&self) -> u64 {
        let AttentionDims { b, t, s, h, d, .. } = self.cross.dims;
        4 * (b * h * t * s * d) as u64
    }
    fn forward(&self, mut x: Inference<'_>) -> Result<()> {
        check_lengths(x.ints[0], self.cross.dims.s)?;
        let call = self.call(x.inputs[0], &*x.states[0], x.ints[0]);
        cpu::forward(x.pool, &call, x.outputs[0], None, x.scratch);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Mask;
    use super::*;
    use crate::backend::cpu::pool::Pool;
    use crate::tensor::random::Random;

    fn normal(stream: u64, n: usize) -> Vec<f32> {
        let mut random = Random::new(3, stream);
        (0..n).map(|_| random.normal()).collect()
    }

    fn run(dims: AttentionDims, q: &[f32], kv: &[f32], lengths: &[i32]) -> Result<Vec<f32>> {
        let op = RememberedAttention::new(dims, Rule::new(Mask::PADDING, dims.d))?;
        let pool = Pool::new(2);
        let (mut out, mut state) = (vec![f32::NAN; q.len()], kv.to_vec());
        let mut scratch = vec![f32::NAN; op.scratch(2)];
        op.forward(Inference {
            pool: &pool,
            inputs: [q].into_iter().collect(),
            ints: [lengths].into_iter().collect(),
            params: Default::default(),
            outputs: [&mut out[..]].into_iter().collect(),
            states: [&mut state[..]].into_iter().collect(),
            scratch: &mut scratch,
        })?;
        Ok(out)
    }

    const DIMS: AttentionDims = AttentionDims { b: 2, t: 3, s: 11, h: 4, kv: 2, d: 6 };

    #[test]
    fn it_is_cross_attention() {
        let AttentionDims { b, t, s, h, kv, d } = DIMS;
        let (q, all) = (normal(1, b * t * h * d), normal(2, b * s * 2 * kv * d));
        let lengths = [11, 4];
        let got = run(DIMS, &q, &all, &lengths).unwrap();
        let op = CrossAttention::new(DIMS, Rule::new(Mask::PADDING, d)).unwrap();
        for row in 0..b {
            for head in 0..h {
                let p = op.pattern(&q, &all, &lengths, row, head).unwrap();
                for i in 0..t {
                    for x in 0..d {
                        let v = |j| all[((row * s + j) * 2 + 1) * kv * d + head / 2 * d + x];
                        let want: f32 = (0..s).map(|j| p[i * s + j] * v(j)).sum();
                        let got = got[((row * t + i) * h + head) * d + x];
                        assert!((got - want).abs() <= 1e-5, "{row} {head} {i} {x}: {got} {want}");
                    }
                }
            }
        }
    }

    #[test]
    fn bits_depend_neither_on_other_rows_nor_on_other_queries() {
        let AttentionDims { b, t, s, h, kv, d } = DIMS;
        let (q, all) = (normal(1, b * t * h * d), normal(2, b * s * 2 * kv * d));
        let together = run(DIMS, &q, &all, &[9, 4]).unwrap();
        for row in 0..b {
            for i in 0..t {
                let at = (row * t + i) * h * d;
                let kv = &all[row * s * 2 * kv * d..][..s * 2 * kv * d];
                let one = AttentionDims { b: 1, t: 1, ..DIMS };
                let alone = run(one, &q[at..at + h * d], kv, &[[9, 4][row]]).unwrap();
                assert_eq!(alone, together[at..at + h * d], "{row} {i}");
            }
        }
    }

    #[test]
    fn nothing_to_look_at_gives_0_and_wrong_lengths_are_refused() {
        let AttentionDims { b, t, s, h, kv, d } = DIMS;
        let (q, all) = (normal(1, b * t * h * d), normal(2, b * s * 2 * kv * d));
        let out = run(DIMS, &q, &all, &[0, 11]).unwrap();
        assert!(out[..t * h * d].iter().all(|&x| x == 0.0) && out[t * h * d] != 0.0);
        assert!(run(DIMS, &q, &all, &[12, 1]).unwrap_err().to_string().contains("12"));
        assert!(run(DIMS, &q, &all, &[-1, 1]).is_err());
    }
}
