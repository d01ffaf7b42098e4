//! Shapes, seeds and deliberately wrong kernels.

use super::cpu::Dropout;
use super::faults::{Fault, Wrong, nan_output, no_max_subtraction, wrong_kv_head};
use super::reference::Reference;
use super::{AttentionDims, CrossAttention, Mask, RelativeBias, Rule, SelfAttention};
use crate::autograd::{Op, RunInfo};
use crate::ops::harness::{Case, Gradients, Values};
use crate::ops::spoil::Spoil;

/// Facts of the run of all cases; dropout is on where the rule has any.
const RUN: RunInfo = RunInfo { training: true, seed: 11, step: 5_000_000_000, grad_scale: 1.0 };

/// Columns `first..first + n` of rows of `width`.
pub(in crate::ops) fn columns(x: &[f64], width: usize, first: usize, n: usize) -> Vec<f64> {
    x.chunks_exact(width).flat_map(|row| row[first..first + n].to_vec()).collect()
}

/// Rows of `a`, `b`, ... side by side.
pub(in crate::ops) fn beside(parts: &[(&[f64], usize)]) -> Vec<f64> {
    let rows = parts[0].0.len() / parts[0].1;
    (0..rows)
        .flat_map(|i| parts.iter().flat_map(move |(x, n)| x[i * n..(i + 1) * n].to_vec()))
        .collect()
}

fn reference<'a>(dims: AttentionDims, rule: Rule, values: &'a Values) -> Reference<'a> {
    let lengths = values.ints.first().map_or(&[][..], |l| &l[..]);
    let dropout =
        (rule.dropout > 0.0).then(|| Dropout::new(rule.dropout, RUN.seed, RUN.step, rule.stream));
    let table = values.params.first().map_or(&[][..], |t| t);
    Reference { dims, rule, past: 0, lengths, table, dropout }
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
            let (dq, dk, dv, table) = reference(dims, rule, values).backward(&q, &k, &v, &d_out[0]);
            let packed = beside(&[(&dq, q_width), (&dk, k_width), (&dv, k_width)]);
            let params = if rule.bias.is_some() { vec![table] } else { vec![] };
            Gradients { inputs: vec![packed], params }
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
            let (dq, dk, dv, _) = it.backward(&values.inputs[0], &k, &v, &d_out[0]);
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

fn relative_cases() -> Vec<Case> {
    fn rule(buckets: usize, max_distance: usize, bidirectional: bool) -> impl Fn(&mut Rule) {
        move |rule| {
            rule.mask = if bidirectional { Mask::PADDING } else { Mask::CAUSAL };
            rule.bias = Some(RelativeBias { buckets, max_distance, bidirectional });
            rule.scale = 1.0;
        }
    }
    fn op((b, t, h, kv, d): Size, change: impl Fn(&mut Rule)) -> SelfAttention {
        let mut rule = Rule::new(Mask::CAUSAL, d);
        change(&mut rule);
        SelfAttention::new(AttentionDims { b, t, s: t, h, kv, d }, rule).expect("valid")
    }
    let (six, long) = ((3, 37, 6, 3, 16), (1, 150, 2, 2, 8));
    let both = rule(8, 20, true);
    let turned = |rule: &mut Rule| {
        both(rule);
        rule.bias = rule.bias.map(|bias| RelativeBias { bidirectional: false, ..bias });
    };
    let nearer = |rule: &mut Rule| {
        both(rule);
        rule.bias = rule.bias.map(|bias| RelativeBias { max_distance: 16, ..bias });
    };
    let wrong: Vec<(&'static str, Box<dyn Op>)> = vec![
        ("both sides alike", Box::new(op(six, turned))),
        ("far distances in other buckets", Box::new(op(six, nearer))),
        ("the table's gradient dropped", Spoil::drops_d_param(op(six, &both), 0)),
        (
            "scaled all the same",
            Box::new(op(six, |rule| {
                both(rule);
                rule.scale = 0.25;
            })),
        ),
        (
            "one head's bias for all",
            Spoil::backward_done(op(six, &both), |x| {
                let grad = x.d_params[0].as_mut().expect("a gradient");
                grad.data.chunks_exact_mut(6).for_each(|row| row.swap(0, 1));
            }),
        ),
    ];
    vec![
        of_self("relative", six, &both, &[37, 5, 20], wrong),
        of_self("relative", long, rule(32, 128, true), &[150], vec![]),
        of_self("relative-causal", six, rule(8, 20, false), &[], vec![]),
        of_self("relative-causal", long, rule(32, 128, false), &[], vec![]),
    ]
}

/// Every case of this room.
#[must_use]
pub fn cases() -> Vec<Case> {
    [causal_cases(), masked_cases(), biased_and_dropped_cases(), relative_cases(), cross_cases()]
        .into_iter()
        .flatten()
        .collect()
}
