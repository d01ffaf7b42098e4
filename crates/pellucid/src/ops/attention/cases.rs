//! Shapes, seeds and deliberately wrong kernels.

use super::cpu::{self, Call, Dropout};
use super::reference::Reference;
use super::{AttentionDims, CrossAttention, Mask, Rule, SelfAttention};
use crate::autograd::{Backward, Forward, Needs, Op, RunInfo};
use crate::error::Result;
use crate::ops::harness::{Case, Gradients, Values};

/// Facts of the run of all cases; dropout is on where the rule has any.
const RUN: RunInfo = RunInfo { training: true, seed: 11, step: 5_000_000_000, grad_scale: 1.0 };

type After = fn(AttentionDims, Rule, &[f32], &mut [f32]);

/// What is wrong with a wrong kernel.
#[derive(Clone, Copy)]
enum Fault {
    /// The backward pass forgets `delta`.
    NoDelta,
    /// The backward pass overwrites where it should add.
    IgnoresAccumulate,
    /// Every key counts as real.
    IgnoresLengths,
    /// The backward pass forgets what was dropped.
    NoDropoutBackward,
    /// The queries' gradients have the wrong sign.
    NegatedQ,
    /// The mask is shifted by one key.
    Peeks,
    /// The output is computed otherwise.
    After(After),
}

/// An operation with a fault.
struct Wrong<O> {
    op: O,
    dims: AttentionDims,
    rule: Rule,
    fault: Fault,
}

impl<O: Op> std::fmt::Debug for Wrong<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "wrong {:?}", self.op)
    }
}

impl<O: Op> Wrong<O> {
    fn peek(&self, qkv: &[f32], x: &mut Forward<'_>) {
        let past = vec![1; self.dims.b];
        let op = SelfAttention { dims: self.dims, rule: self.rule };
        let call = Call { past: &past, ..op.call(qkv, &[]) };
        cpu::forward(x.pool, &call, x.outputs[0], Some(&mut *x.saved[0]), x.scratch);
    }
}

impl<O: Op> Op for Wrong<O> {
    fn name(&self) -> &'static str {
        "wrong attention"
    }
    fn inputs(&self) -> Vec<usize> {
        self.op.inputs()
    }
    fn ints(&self) -> Vec<usize> {
        self.op.ints()
    }
    fn outputs(&self) -> Vec<usize> {
        self.op.outputs()
    }
    fn saved(&self) -> Vec<usize> {
        self.op.saved()
    }
    fn scratch(&self, threads: usize) -> usize {
        self.op.scratch(threads)
    }
    fn needs(&self) -> Needs {
        self.op.needs()
    }
    fn forward(&self, mut x: Forward<'_>) -> Result<()> {
        let all = vec![self.dims.s as i32; self.dims.b];
        let ints = match self.fault {
            Fault::IgnoresLengths => [&all[..]].into_iter().collect(),
            _ => x.ints.clone(),
        };
        self.op.forward(Forward {
            pool: x.pool,
            run: x.run,
            inputs: x.inputs.clone(),
            ints,
            params: x.params.clone(),
            outputs: x.outputs.iter_mut().map(|o| &mut **o).collect(),
            saved: x.saved.iter_mut().map(|o| &mut **o).collect(),
            scratch: &mut *x.scratch,
        })?;
        let qkv = x.inputs[0];
        match self.fault {
            Fault::Peeks => self.peek(qkv, &mut x),
            Fault::After(after) => after(self.dims, self.rule, qkv, x.outputs[0]),
            _ => {}
        }
        Ok(())
    }
    fn backward(&self, mut x: Backward<'_>) -> Result<()> {
        let negated = matches!(self.fault, Fault::NegatedQ);
        let grad = if negated { x.d_inputs[0].take() } else { None };
        let mut zeros = vec![0.0; x.outputs[0].len()];
        let mut clean = vec![0.0; self.op.inputs()[0]];
        let mut x: Backward<'_> = x; // may now borrow the two
        match self.fault {
            Fault::NoDelta => x.outputs[0] = &mut zeros[..],
            Fault::NoDropoutBackward => x.run.training = false,
            Fault::IgnoresAccumulate => {
                x.d_inputs.iter_mut().flatten().for_each(|g| g.accumulate = false)
            }
            Fault::NegatedQ => {
                let data = &mut clean[..];
                x.d_inputs[0] = Some(crate::autograd::Grad { data, accumulate: false });
            }
            _ => {}
        }
        self.op.backward(x)?;
        if let Some(grad) = grad {
            for (d, c) in grad.data.iter_mut().zip(clean) {
                *d = if grad.accumulate { *d - c } else { -c };
            }
        }
        Ok(())
    }
}

/// A materialising causal kernel in f32 that trusts its caller in two ways.
fn naive(
    dims: AttentionDims,
    rule: Rule,
    qkv: &[f32],
    out: &mut [f32],
    subtract: bool,
    kv_of: fn(usize, AttentionDims) -> usize,
) {
    let AttentionDims { b, t, h, kv, d, .. } = dims;
    let width = (h + 2 * kv) * d;
    for (row, out) in out.chunks_exact_mut(d).enumerate() {
        let (i, head) = (row / h, row % h);
        let q = &qkv[i * width + head * d..][..d];
        let first = i / t * t;
        let at = |j: usize, block: usize| &qkv[j * width + (block + kv_of(head, dims)) * d..][..d];
        let scores: Vec<f32> = (first..first + t)
            .map(|j| match rule.mask.allows(i % t, j - first, 0, t) {
                true => rule.scale * q.iter().zip(at(j, h)).map(|(a, b)| a * b).sum::<f32>(),
                false => f32::NEG_INFINITY,
            })
            .collect();
        let largest = if subtract { scores.iter().copied().fold(f32::MIN, f32::max) } else { 0.0 };
        let e: Vec<f32> = scores.iter().map(|x| (x - largest).exp()).collect();
        let sum: f32 = e.iter().sum();
        out.fill(0.0);
        for (j, e) in e.iter().enumerate() {
            out.iter_mut().zip(at(first + j, h + kv)).for_each(|(o, v)| *o += e / sum * v);
        }
    }
    debug_assert_eq!(out.len(), b * t * h * d);
}

fn no_max_subtraction(dims: AttentionDims, rule: Rule, qkv: &[f32], out: &mut [f32]) {
    naive(dims, rule, qkv, out, false, |head, dims| head / (dims.h / dims.kv));
}

fn wrong_kv_head(dims: AttentionDims, rule: Rule, qkv: &[f32], out: &mut [f32]) {
    naive(dims, rule, qkv, out, true, |head, dims| head % dims.kv);
}

fn nan_output(_: AttentionDims, _: Rule, _: &[f32], out: &mut [f32]) {
    out[0] = f32::NAN;
}

/// Columns `first..first + n` of rows of `width`.
fn columns(x: &[f64], width: usize, first: usize, n: usize) -> Vec<f64> {
    x.chunks_exact(width).flat_map(|row| row[first..first + n].to_vec()).collect()
}

/// Rows of `a`, `b`, ... side by side.
fn beside(parts: &[(&[f64], usize)]) -> Vec<f64> {
    let rows = parts[0].0.len() / parts[0].1;
    (0..rows)
        .flat_map(|i| parts.iter().flat_map(move |(x, n)| x[i * n..(i + 1) * n].to_vec()))
        .collect()
}

fn reference<'a>(dims: AttentionDims, rule: Rule, values: &'a Values) -> Reference<'a> {
    let lengths = values.ints.first().map_or(&[][..], |l| &l[..]);
    let dropout =
        (rule.dropout > 0.0).then(|| Dropout::new(rule.dropout, RUN.seed, RUN.step, rule.stream));
    Reference { dims, rule, past: 0, lengths, dropout }
}

/// A self-attention case and the faults that it must catch.
pub(super) fn of_self(
    name: &str,
    (b, t, h, kv, d): (usize, usize, usize, usize, usize),
    change: impl Fn(&mut Rule),
    lengths: &[i32],
    faults: Vec<(&'static str, Box<dyn Op>)>,
) -> Case {
    let dims = AttentionDims { b, t, s: t, h, kv, d };
    let mut rule = Rule::new(Mask::CAUSAL, d);
    change(&mut rule);
    let (q_width, k_width) = (h * d, kv * d);
    let width = q_width + 2 * k_width;
    let split = move |x: &[f64]| {
        let k = columns(x, width, q_width, k_width);
        (columns(x, width, 0, q_width), k, columns(x, width, q_width + k_width, k_width))
    };
    Case {
        name: format!("attention/self/{name}/{b}x{t}x{h}x{kv}x{d}"),
        op: Box::new(SelfAttention::new(dims, rule).expect("a valid case")),
        ints: if lengths.is_empty() { vec![] } else { vec![lengths.to_vec()] },
        scale: 1.0,
        forward: Box::new(move |values| {
            let (q, k, v) = split(&values.inputs[0]);
            vec![reference(dims, rule, values).forward(&q, &k, &v)]
        }),
        backward: Box::new(move |values, d_out| {
            let (q, k, v) = split(&values.inputs[0]);
            let (dq, dk, dv) = reference(dims, rule, values).backward(&q, &k, &v, &d_out[0]);
            let packed = beside(&[(&dq, q_width), (&dk, k_width), (&dv, k_width)]);
            Gradients { inputs: vec![packed], params: vec![] }
        }),
        // Scores of the overflow case are near 200, so f32 itself is off by 1e-5 in their exponentials.
        tolerance: if rule.scale > 4.0 { 2e-4 } else { 5e-6 },
        wrong: faults,
        run: RUN,
    }
}

fn of_cross(
    name: &str,
    (b, t, s, h, kv, d): (usize, usize, usize, usize, usize, usize),
    change: impl Fn(&mut Rule),
    lengths: &[i32],
    faults: &[(&'static str, Fault)],
) -> Case {
    let dims = AttentionDims { b, t, s, h, kv, d };
    let mut rule = Rule::new(Mask::NONE, d);
    change(&mut rule);
    let op = CrossAttention::new(dims, rule).expect("a valid case");
    let n = kv * d;
    let split = move |x: &[f64]| (columns(x, 2 * n, 0, n), columns(x, 2 * n, n, n));
    Case {
        name: format!("attention/cross/{name}/{b}x{t}x{s}x{h}x{kv}x{d}"),
        op: Box::new(op),
        ints: if lengths.is_empty() { vec![] } else { vec![lengths.to_vec()] },
        scale: 1.0,
        forward: Box::new(move |values| {
            let (k, v) = split(&values.inputs[1]);
            vec![reference(dims, rule, values).forward(&values.inputs[0], &k, &v)]
        }),
        backward: Box::new(move |values, d_out| {
            let (k, v) = split(&values.inputs[1]);
            let it = reference(dims, rule, values);
            let (dq, dk, dv) = it.backward(&values.inputs[0], &k, &v, &d_out[0]);
            Gradients { inputs: vec![dq, beside(&[(&dk, n), (&dv, n)])], params: vec![] }
        }),
        // With one key dq is exactly 0, and what f32 makes of it is judged against 1e-3.
        tolerance: if s == 1 { 5e-3 } else { 5e-6 },
        wrong: faults
            .iter()
            .map(|(name, fault)| {
                (*name, Box::new(Wrong { op, dims, rule, fault: *fault }) as Box<dyn Op>)
            })
            .collect(),
        run: RUN,
    }
}

type Size = (usize, usize, usize, usize, usize);

fn wrong(size: Size, change: impl Fn(&mut Rule), fault: Fault) -> Box<dyn Op> {
    let (b, t, h, kv, d) = size;
    let dims = AttentionDims { b, t, s: t, h, kv, d };
    let mut rule = Rule::new(Mask::CAUSAL, d);
    change(&mut rule);
    Box::new(Wrong { op: SelfAttention { dims, rule }, dims, rule, fault })
}

/// A kernel that is right for another rule.
fn other_rule((b, t, h, kv, d): Size, change: impl Fn(&mut Rule)) -> Box<dyn Op> {
    let mut rule = Rule::new(Mask::CAUSAL, d);
    change(&mut rule);
    Box::new(SelfAttention { dims: AttentionDims { b, t, s: t, h, kv, d }, rule })
}

fn causal_cases() -> Vec<Case> {
    let keep = |_: &mut Rule| {};
    let size = (2, 17, 4, 2, 16);
    let overflow = |rule: &mut Rule| rule.scale = 20.0;
    let large = (1, 9, 2, 1, 16);
    let mut cases: Vec<Case> = [
        (1, 1, 1, 1, 8),
        (3, 1, 4, 2, 32),
        (1, 17, 3, 3, 8),
        (1, 65, 2, 2, 32),
        (1, 130, 2, 1, 16),
        (1, 65, 2, 1, 80),
        (2, 33, 6, 2, 64),
        (1, 257, 1, 1, 8),
        (1, 23, 8, 1, 24),
    ]
    .into_iter()
    .map(|size| of_self("causal", size, keep, &[], vec![]))
    .collect();
    cases.push(of_self(
        "causal-faults",
        size,
        keep,
        &[],
        vec![
            ("mask off by one", wrong(size, keep, Fault::Peeks)),
            ("1/D instead of 1/sqrt(D)", other_rule(size, |rule| rule.scale = 1.0 / 16.0)),
            ("no delta", wrong(size, keep, Fault::NoDelta)),
            ("wrong kv head", wrong(size, keep, Fault::After(wrong_kv_head))),
            ("no mask", other_rule(size, |rule| rule.mask = Mask::NONE)),
            ("ignores accumulate", wrong(size, keep, Fault::IgnoresAccumulate)),
            ("dq has the wrong sign", wrong(size, keep, Fault::NegatedQ)),
            ("NaN in the output", wrong(size, keep, Fault::After(nan_output))),
        ],
    ));
    cases.push(of_self(
        "large-scores",
        large,
        overflow,
        &[],
        vec![("no max-subtraction", wrong(large, overflow, Fault::After(no_max_subtraction)))],
    ));
    cases
}

fn masked_cases() -> Vec<Case> {
    let window = |w: usize| move |rule: &mut Rule| rule.mask.window = Some(w);
    let padding = |rule: &mut Rule| rule.mask = Mask::PADDING;
    let (size, padded) = ((1, 130, 2, 1, 8), (4, 19, 2, 1, 16));
    let causal_padding = |rule: &mut Rule| rule.mask.padding = true;
    let both = |rule: &mut Rule| rule.mask = Mask { window: Some(3), ..Mask::PADDING };
    vec![
        of_self(
            "window",
            size,
            window(5),
            &[],
            vec![
                ("window one wider", other_rule(size, window(6))),
                ("window ignored", other_rule(size, |_| {})),
            ],
        ),
        of_self("window", (1, 300, 1, 1, 8), window(140), &[], vec![]),
        of_self(
            "window-both-sides",
            (1, 70, 2, 2, 16),
            |rule| rule.mask = Mask { window: Some(9), ..Mask::NONE },
            &[],
            vec![],
        ),
        of_self("none", (2, 65, 2, 2, 16), |rule| rule.mask = Mask::NONE, &[], vec![]),
        of_self("none", (1, 131, 3, 1, 32), |rule| rule.mask = Mask::NONE, &[], vec![]),
        of_self(
            "padding",
            padded,
            padding,
            &[19, 7, 0, 1],
            vec![("ignores lengths", wrong(padded, padding, Fault::IgnoresLengths))],
        ),
        of_self("causal-padding", padded, causal_padding, &[19, 16, 0, 17], vec![]),
        // Queries beyond length + window see nothing.
        of_self("window-padding", padded, both, &[3, 19, 0, 9], vec![]),
    ]
}

fn biased_and_dropped_cases() -> Vec<Case> {
    let alibi = |rule: &mut Rule| rule.alibi = true;
    let dropped = |rule: &mut Rule| (rule.dropout, rule.stream) = (0.3, 7);
    let (size, six) = ((2, 20, 4, 2, 16), (1, 37, 6, 3, 16));
    vec![
        of_self("alibi", six, alibi, &[], vec![("no bias", other_rule(six, |_| {}))]),
        of_self(
            "alibi-both-sides",
            (1, 150, 2, 2, 8),
            |rule| (rule.alibi, rule.mask) = (true, Mask::NONE),
            &[],
            vec![],
        ),
        of_self(
            "dropout",
            size,
            dropped,
            &[],
            vec![
                (
                    "forgets dropout in the backward pass",
                    wrong(size, dropped, Fault::NoDropoutBackward),
                ),
                (
                    "another layer's dropout",
                    other_rule(size, |rule| (rule.dropout, rule.stream) = (0.3, 8)),
                ),
                ("no dropout", other_rule(size, |_| {})),
            ],
        ),
        of_self("dropout", (1, 140, 3, 1, 8), dropped, &[], vec![]),
    ]
}

fn cross_cases() -> Vec<Case> {
    let keep = |_: &mut Rule| {};
    vec![
        of_cross("none", (2, 5, 17, 2, 2, 16), keep, &[], &[("no delta", Fault::NoDelta)]),
        of_cross("none", (1, 65, 1, 2, 1, 32), keep, &[], &[]),
        of_cross("none", (1, 1, 130, 4, 2, 80), keep, &[], &[]),
        of_cross("dropout", (1, 70, 131, 2, 1, 8), |rule| rule.dropout = 0.1, &[], &[]),
        of_cross(
            "padding",
            (3, 7, 130, 2, 1, 16),
            |rule| rule.mask = Mask::PADDING,
            &[129, 0, 5],
            &[
                ("ignores lengths", Fault::IgnoresLengths),
                ("ignores accumulate", Fault::IgnoresAccumulate),
            ],
        ),
    ]
}

/// Every case of this room.
#[must_use]
pub fn cases() -> Vec<Case> {
    [causal_cases(), masked_cases(), biased_and_dropped_cases(), cross_cases()]
        .into_iter()
        .flatten()
        .collect()
}
