//! Steps over a cache: their definition, and that they are the fused operation.

use super::reference::Reference;
use super::*;
use crate::autograd::{Inference, InferenceOp, Op};
use crate::backend::cpu::pool::Pool;
use crate::ops::attention::{CachedAttention, Mask, RelativeBias, Rule};
use crate::ops::harness::{Values, close, normal, ran, wide};

/// Caches full of rubbish, and where each of three rows stands.
struct Memory {
    rule: Rule,
    states: [Vec<f32>; 2],
    past: Vec<i32>,
    table: Vec<f32>,
}

const SIZES: AttentionDims = AttentionDims { b: 3, t: 0, s: 90, h: 4, kv: 2, d: 16 };

impl Memory {
    fn new(rule: Rule) -> Self {
        let rubbish = vec![f32::NAN; 3 * 90 * 2 * 16];
        let table = normal(3, rule.params(&SIZES).first().copied().unwrap_or(0));
        Self { rule, states: [rubbish.clone(), rubbish], past: vec![0; 3], table: narrow(&table) }
    }

    fn run(&mut self, op: &dyn InferenceOp, inputs: &[&[f32]], new: &[i32]) -> Vec<Vec<f32>> {
        let mut outputs: Vec<Vec<f32>> =
            op.outputs().into_iter().map(|n| vec![f32::NAN; n]).collect();
        let mut scratch = vec![f32::NAN; op.scratch(2)];
        let states = self.states.iter_mut().map(|s| &mut s[..]).take(op.states().len());
        op.forward(Inference {
            pool: &Pool::new(2),
            inputs: inputs.iter().copied().collect(),
            ints: [&self.past[..], new].into_iter().collect(),
            params: op.params().iter().map(|_| &self.table[..]).collect(),
            outputs: outputs.iter_mut().map(|o| &mut o[..]).collect(),
            states: states.collect(),
            scratch: &mut scratch,
        })
        .unwrap();
        outputs
    }

    /// Fused, and in steps after it: z of both, and the scores with q and kv that they are made of.
    fn feed(&mut self, qkv: &[f32], new: &[i32]) -> ([Vec<f32>; 2], [Vec<f32>; 3]) {
        let dims = AttentionDims { t: qkv.len() / (3 * 8 * 16), ..SIZES };
        let fused = CachedAttention::new(dims, self.rule).unwrap();
        let want = self.run(&fused, &[qkv], new).remove(0);
        let [q, kv] =
            self.run(&Recall::new(dims, self.rule).unwrap(), &[qkv], new).try_into().unwrap();
        let scores = RecalledScores::new(dims, self.rule).unwrap();
        let x = self.run(&scores, &[&q, &kv], new).remove(0);
        let softmax = Softmax::new(3 * 4 * dims.t, 90).unwrap();
        let p = forward(&softmax, vec![wide(&x)]);
        let z = forward(&Mix::apart(dims).unwrap(), vec![wide(&p), wide(&kv)]);
        ([want, z], [x, q, kv])
    }
}

fn forward(op: &dyn Op, inputs: Vec<Vec<f64>>) -> Vec<f32> {
    let none = vec![0.0; op.outputs()[0]];
    ran(op, &Values { inputs, ..Values::default() }, &none, 2).outputs.remove(0)
}

fn narrow(x: &[f64]) -> Vec<f32> {
    x.iter().map(|&x| x as f32).collect()
}

fn rules() -> Vec<Rule> {
    let rule = Rule::new(Mask::CAUSAL, 16);
    let bias = RelativeBias { buckets: 8, max_distance: 20, bidirectional: false };
    vec![
        rule,
        Rule { alibi: true, ..rule },
        Rule { mask: Mask { window: Some(5), ..Mask::CAUSAL }, ..rule },
        Rule { bias: Some(bias), ..rule },
    ]
}

/// Tokens that each of three rows is given, call by call.
const CALLS: [[i32; 3]; 4] = [[7, 40, 0], [1, 1, 1], [0, 3, 9], [1, 1, 1]];

#[test]
fn steps_over_a_cache_are_the_fused_operation() {
    for rule in rules() {
        let mut memory = Memory::new(rule);
        for (seed, new) in (1..).zip(CALLS) {
            let t = *new.iter().max().unwrap() as usize;
            let ([want, got], _) = memory.feed(&narrow(&normal(seed, 3 * t * 8 * 16)), &new);
            close(&format!("{rule:?} {new:?}"), &got, &want, 5e-6);
            memory.past.iter_mut().zip(new).for_each(|(p, n)| *p += n);
        }
    }
}

#[test]
fn scores_over_a_cache_are_their_definition_and_no_other() {
    for rule in rules() {
        let mut memory = Memory::new(rule);
        for (seed, new) in (1..).zip(CALLS) {
            let t = *new.iter().max().unwrap() as usize;
            let (_, [x, q, kv]) = memory.feed(&narrow(&normal(seed, 3 * t * 8 * 16)), &new);
            let k: Vec<f64> = kv.chunks_exact(64).flat_map(|row| wide(&row[..32])).collect();
            let (dims, q, table) = (AttentionDims { t, ..SIZES }, wide(&q), wide(&memory.table));
            let scores = |past: &[i32], new: &[i32]| {
                let standing = Some((past, new));
                narrow(
                    &Reference { dims, rule, lengths: &[], standing, table: &table }.scores(&q, &k),
                )
            };
            close(&format!("{rule:?} {new:?}"), &x, &scores(&memory.past, &new), 5e-6);
            // Queries that stand a position further, and padding that looks, are something else.
            let further: Vec<i32> = memory.past.iter().map(|p| p + 1).collect();
            let all = vec![t as i32; 3];
            let same =
                |wrong: &[f32]| wrong.iter().zip(&x).all(|(w, x)| w == x || (w - x).abs() <= 1e-3);
            assert!(!same(&scores(&further, &new)));
            assert!(new == all[..] || !same(&scores(&memory.past, &all)));
            memory.past.iter_mut().zip(new).for_each(|(p, n)| *p += n);
        }
    }
}
