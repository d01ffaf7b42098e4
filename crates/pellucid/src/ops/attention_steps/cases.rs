//! Shapes, seeds and deliberately wrong kernels.

use super::reference::{self, Reference};
use super::{Mix, Scores, Softmax};
use crate::autograd::{Backward, Op, RunInfo};
use crate::ops::attention::cases::{beside, columns};
use crate::ops::attention::{AttentionDims, Mask, RelativeBias, Rule};
use crate::ops::harness::{Case, Gradients, Values};
use crate::ops::spoil::Spoil;

type Wrong = Vec<(&'static str, Box<dyn Op>)>;

/// Widths of q, and of k or v, of one position.
fn widths(dims: &AttentionDims) -> (usize, usize) {
    (dims.h * dims.d, dims.kv * dims.d)
}

/// q and k of the inputs in either form.
fn q_and_k(dims: &AttentionDims, inputs: &[Vec<f64>]) -> (Vec<f64>, Vec<f64>) {
    let (q, k) = widths(dims);
    match inputs {
        [qkv] => (columns(qkv, q + 2 * k, 0, q), columns(qkv, q + 2 * k, q, k)),
        inputs => (inputs[0].clone(), columns(&inputs[1], 2 * k, 0, k)),
    }
}

fn of_rule<'a>(dims: AttentionDims, rule: Rule, values: &'a Values) -> Reference<'a> {
    let lengths = values.ints.first().map_or(&[][..], |l| &l[..]);
    let table = values.params.first().map_or(&[][..], |t| t);
    Reference { dims, rule, lengths, standing: None, table }
}

/// `[B, T, S, H, K, D]`
type Size = [usize; 6];

fn dims([b, t, s, h, kv, d]: Size) -> AttentionDims {
    AttentionDims { b, t, s, h, kv, d }
}

fn rule(size: Size, change: impl Fn(&mut Rule)) -> Rule {
    let mut rule = Rule::new(Mask::CAUSAL, size[5]);
    change(&mut rule);
    rule
}

fn op(size: Size, packed: bool, change: impl Fn(&mut Rule)) -> Scores {
    let make = if packed { Scores::packed } else { Scores::apart };
    make(dims(size), rule(size, change)).expect("a valid case")
}

fn scores(
    name: &str,
    (size, packed): (Size, bool),
    change: impl Fn(&mut Rule),
    lengths: &[i32],
    wrong: Wrong,
) -> Case {
    let (op, dims, rule) = (op(size, packed, &change), dims(size), rule(size, change));
    let (q_width, k_width) = widths(&dims);
    let form = if packed { "packed" } else { "apart" };
    Case {
        name: format!("attention_steps/scores/{form}/{name}/{size:?}"),
        op: Box::new(op),
        ints: if lengths.is_empty() { vec![] } else { vec![lengths.to_vec()] },
        scale: 1.0,
        forward: Box::new(move |values| {
            let (q, k) = q_and_k(&dims, &values.inputs);
            vec![of_rule(dims, rule, values).scores(&q, &k)]
        }),
        backward: Box::new(move |values, d| {
            let (q, k) = q_and_k(&dims, &values.inputs);
            let (dq, dk, d_table) = of_rule(dims, rule, values).d_scores(&q, &k, &d[0]);
            let none = vec![0.0; dk.len()];
            let (dk, none) = ((&dk[..], k_width), (&none[..], k_width));
            let inputs = if packed {
                vec![beside(&[(&dq, q_width), dk, none])]
            } else {
                vec![dq, beside(&[dk, none])]
            };
            let params = if rule.bias.is_some() { vec![d_table] } else { vec![] };
            Gradients { inputs, params }
        }),
        tolerance: 3e-6,
        wrong,
        run: RunInfo::default(),
    }
}

/// Adds to q's gradient what a kernel would that forgets that a forbidden score is a constant.
fn forbidden_pass(x: &mut Backward<'_>, dims: AttentionDims, rule: Rule) {
    let (q_width, k_width) = widths(&dims);
    let (width, AttentionDims { b, t, h, kv, d, .. }) = (q_width + 2 * k_width, dims);
    let grad = x.d_inputs[0].as_mut().expect("a gradient");
    for (row, ds) in x.d_outputs[0].chunks_exact(t).enumerate() {
        let (bh, query) = (row / t, row % t);
        debug_assert!(bh < b * h);
        let to = (bh / h * t + query) * width + bh % h * d;
        for (s, ds) in ds.iter().enumerate().filter(|(s, _)| !rule.mask.allows(query, *s, 0, t)) {
            let from = (bh / h * t + s) * width + q_width + bh % h / (h / kv) * d;
            for i in 0..d {
                grad.data[to + i] += rule.scale * ds * x.inputs[0][from + i];
            }
        }
    }
}

fn packed_faults(size: Size) -> Wrong {
    let keep = |_: &mut Rule| {};
    let (dims, causal) = (dims(size), rule(size, keep));
    let (q_width, k_width) = widths(&dims);
    let (width, t) = (q_width + 2 * k_width, dims.t);
    let right = op(size, true, keep);
    let columns_of = move |x: &mut Backward<'_>, from: usize, n: usize, f: fn(f32) -> f32| {
        let grad = x.d_inputs[0].as_mut().expect("a gradient");
        for row in grad.data.chunks_exact_mut(width) {
            row[from..from + n].iter_mut().for_each(|d| *d = f(*d));
        }
    };
    let last = k_width / dims.kv; // width of a head
    vec![
        ("NaN output", Spoil::nan_output(right)),
        ("sign of d_qkv", Spoil::sign_of_d_input(right, 0)),
        ("overwrites instead of accumulating", Spoil::ignores_accumulate(right)),
        ("no mask", Box::new(op(size, true, |rule| rule.mask = Mask::NONE))),
        ("1/D instead of 1/sqrt(D)", Box::new(op(size, true, |r| r.scale = 1.0 / size[5] as f32))),
        (
            "forbidden is a large negative number",
            Spoil::forward_done(right, |x| {
                let forbidden = x.outputs[0].iter_mut().filter(|x| x.is_infinite());
                forbidden.for_each(|x| *x = -1e9);
            }),
        ),
        (
            "the diagonal is forbidden",
            Spoil::forward_done(right, move |x| {
                let rows = x.outputs[0].chunks_exact_mut(t).enumerate();
                rows.for_each(|(row, x)| x[row % t] = f32::NEG_INFINITY);
            }),
        ),
        ("the heads before", Spoil::forward_done(right, move |x| x.outputs[0].rotate_right(t * t))),
        (
            "a forbidden score passes a gradient",
            Spoil::backward_done(right, move |x| forbidden_pass(x, dims, causal)),
        ),
        (
            "k's gradient not summed over its group",
            Spoil::backward_done(right, move |x| columns_of(x, q_width, k_width, |d| d / 2.0)),
        ),
        (
            "the last key/value head has no gradient",
            Spoil::backward_done(right, move |x| {
                columns_of(x, q_width + k_width - last, last, |_| 0.0);
            }),
        ),
        (
            "v's columns are left as they were",
            Spoil::backward_done(right, move |x| {
                columns_of(x, q_width + k_width, k_width, |_| f32::NAN);
            }),
        ),
    ]
}

fn scores_cases() -> Vec<Case> {
    let keep = |_: &mut Rule| {};
    let alibi = |rule: &mut Rule| rule.alibi = true;
    let alone = |rule: &mut Rule| rule.mask = Mask::NONE;
    let padding = |rule: &mut Rule| rule.mask = Mask::PADDING;
    let window = |rule: &mut Rule| rule.mask.window = Some(5);
    let both = |rule: &mut Rule| rule.mask = Mask { window: Some(3), ..Mask::PADDING };
    let (small, six) = ([2, 17, 17, 4, 2, 16], [1, 37, 37, 6, 3, 16]);
    let (padded, far) = ([3, 19, 19, 2, 1, 16], [3, 7, 130, 2, 1, 16]);
    let grouped = op(six, true, alibi);
    let bare: Wrong = vec![
        ("no slope", Box::new(op(six, true, keep))),
        (
            "the slopes of other heads",
            Spoil::forward_done(grouped, |x| x.outputs[0].rotate_left(37 * 37)),
        ),
    ];
    let everyone: Wrong = vec![(
        "ignores lengths",
        Spoil::forward_done(op(padded, true, padding), |x| {
            x.outputs[0].iter_mut().filter(|x| x.is_infinite()).for_each(|x| *x = 0.0);
        }),
    )];
    let cross: Wrong = vec![
        ("sign of d_q", Spoil::sign_of_d_input(op(far, false, padding), 0)),
        ("sign of d_kv", Spoil::sign_of_d_input(op(far, false, padding), 1)),
        ("overwrites instead of accumulating", Spoil::ignores_accumulate(op(far, false, padding))),
    ];
    vec![
        scores("causal", ([1, 1, 1, 1, 1, 8], true), keep, &[], vec![]),
        scores("causal", (small, true), keep, &[], packed_faults(small)),
        scores("causal", ([1, 130, 130, 2, 1, 64], true), keep, &[], vec![]),
        scores("none", ([1, 65, 65, 3, 1, 24], true), alone, &[], vec![]),
        scores("window", ([1, 130, 130, 2, 2, 8], true), window, &[], vec![]),
        scores("alibi", (six, true), alibi, &[], bare),
        scores("padding", (padded, true), padding, &[19, 7, 0], everyone),
        scores("window-padding", (padded, true), both, &[3, 19, 0], vec![]),
        scores("none", ([2, 5, 17, 2, 2, 16], false), alone, &[], vec![]),
        scores("none", ([1, 67, 3, 4, 2, 80], false), alone, &[], vec![]),
        scores(
            "alibi",
            ([1, 5, 66, 2, 1, 8], false),
            |r| (r.alibi, r.mask) = (true, Mask::NONE),
            &[],
            vec![],
        ),
        scores("padding", (far, false), padding, &[129, 0, 5], cross),
    ]
}

/// Swaps rows and columns of the table `(buckets, H)`.
fn turned(table: &mut [f32], heads: usize) {
    let from = table.to_vec();
    let buckets = from.len() / heads;
    for (i, x) in from.into_iter().enumerate() {
        table[i % heads * buckets + i / heads] = x;
    }
}

fn relative_cases() -> Vec<Case> {
    fn with(bidirectional: bool, max_distance: usize) -> impl Fn(&mut Rule) {
        move |rule| {
            rule.mask = if bidirectional { Mask::PADDING } else { Mask::CAUSAL };
            rule.bias = Some(RelativeBias { buckets: 8, max_distance, bidirectional });
            rule.scale = 1.0;
        }
    }
    let six = [3, 37, 37, 6, 3, 16];
    let right = op(six, true, with(true, 20));
    let wrong: Wrong = vec![
        ("table's gradient dropped", Spoil::drops_d_param(right, 0)),
        ("far distances in other buckets", Box::new(op(six, true, with(true, 16)))),
        (
            "table's gradient the wrong way around",
            Spoil::backward_done(right, |x| {
                turned(x.d_params[0].as_mut().expect("a gradient").data, 6);
            }),
        ),
        (
            "both sides alike",
            Box::new(op(six, true, |rule| {
                with(true, 20)(rule);
                rule.bias = rule.bias.map(|bias| RelativeBias { bidirectional: false, ..bias });
            })),
        ),
    ];
    let slopes = |rule: &mut Rule| {
        with(false, 20)(rule);
        rule.alibi = true;
    };
    vec![
        scores("relative", (six, true), with(true, 20), &[37, 5, 20], wrong),
        scores("relative-causal", (six, true), with(false, 20), &[], vec![]),
        scores("relative-alibi", (six, true), slopes, &[], vec![]),
    ]
}

fn softmax(rows: usize, s: usize, scale: f32) -> Case {
    let op = Softmax::new(rows, s).expect("a valid case");
    let mut wrong: Wrong = vec![];
    if (rows, s) == (33, 70) {
        wrong = vec![
            ("NaN output", Spoil::nan_output(op)),
            ("sign of dx", Spoil::sign_of_d_input(op, 0)),
            ("overwrites instead of accumulating", Spoil::ignores_accumulate(op)),
            (
                "no Σ p·dp",
                Spoil::backward_done(op, move |x| {
                    let grad = x.d_inputs[0].as_mut().expect("a gradient");
                    for (i, d) in grad.data.iter_mut().enumerate() {
                        *d += x.outputs[0][i] - x.outputs[0][i] * x.d_outputs[0][i];
                    }
                }),
            ),
            ("the rows before", Spoil::forward_done(op, move |x| x.outputs[0].rotate_right(s))),
            (
                "no max-subtraction",
                Spoil::forward_done(op, move |x| {
                    let rows = x.inputs[0].chunks_exact(s).zip(x.outputs[0].chunks_exact_mut(s));
                    for (x, p) in rows {
                        let sum: f32 = x.iter().map(|x| x.exp()).sum();
                        p.iter_mut().zip(x).for_each(|(p, x)| *p = x.exp() / sum);
                    }
                }),
            ),
        ];
    }
    Case {
        name: format!("attention_steps/softmax/{rows}x{s}"),
        op: Box::new(op),
        ints: vec![],
        scale,
        forward: Box::new(move |v| vec![reference::softmax(s, &v.inputs[0])]),
        backward: Box::new(move |v, d| {
            let p = reference::softmax(s, &v.inputs[0]);
            Gradients { inputs: vec![reference::d_softmax(s, &p, &d[0])], params: vec![] }
        }),
        tolerance: if scale > 4.0 { 2e-5 } else { 2e-6 },
        wrong,
        run: RunInfo::default(),
    }
}

fn mix(size: Size, packed: bool, wrong: Wrong) -> Case {
    let dims = dims(size);
    let op = mix_op(size, packed);
    let (q_width, k_width) = widths(&dims);
    let before = if packed { q_width + k_width } else { k_width };
    let v = move |x: &[f64]| columns(x, before + k_width, before, k_width);
    Case {
        name: format!("attention_steps/mix/{}/{size:?}", if packed { "packed" } else { "apart" }),
        op: Box::new(op),
        ints: vec![],
        scale: 1.0,
        forward: Box::new(move |x| vec![reference::mix(&dims, &x.inputs[0], &v(&x.inputs[1]))]),
        backward: Box::new(move |x, d| {
            let (dp, dv) = reference::d_mix(&dims, &x.inputs[0], &v(&x.inputs[1]), &d[0]);
            let none = vec![0.0; dv.len() / k_width * before];
            let inputs = vec![dp, beside(&[(&none, before), (&dv, k_width)])];
            Gradients { inputs, params: vec![] }
        }),
        tolerance: 3e-6,
        wrong,
        run: RunInfo::default(),
    }
}

fn mix_op(size: Size, packed: bool) -> Mix {
    let make = if packed { Mix::packed } else { Mix::apart };
    make(dims(size)).expect("a valid case")
}

fn mix_faults(size: Size, packed: bool) -> Wrong {
    let (right, [.., h, _, d]) = (mix_op(size, packed), size);
    vec![
        ("NaN output", Spoil::nan_output(right)),
        ("sign of d_pattern", Spoil::sign_of_d_input(right, 0)),
        ("sign of d_v", Spoil::sign_of_d_input(right, 1)),
        ("overwrites instead of accumulating", Spoil::ignores_accumulate(right)),
        (
            "heads in another order",
            Spoil::forward_done(right, move |x| {
                x.outputs[0].chunks_exact_mut(h * d).for_each(|z| z.rotate_left(d));
            }),
        ),
        (
            "a head's values in another order",
            Spoil::forward_done(right, move |x| {
                x.outputs[0].chunks_exact_mut(d).for_each(<[f32]>::reverse);
            }),
        ),
        (
            "k gets a gradient",
            Spoil::backward_done(right, |x| {
                x.d_inputs[1].as_mut().expect("a gradient").data[0] += 1.0;
            }),
        ),
        (
            "v's gradient not summed over its group",
            Spoil::backward_done(right, |x| {
                let grad = x.d_inputs[1].as_mut().expect("a gradient");
                grad.data.iter_mut().for_each(|d| *d /= 2.0);
            }),
        ),
    ]
}

/// Every case of this room.
#[must_use]
pub fn cases() -> Vec<Case> {
    let (small, far) = ([2, 17, 17, 4, 2, 16], [2, 5, 131, 4, 2, 16]);
    let mut cases = scores_cases();
    cases.extend(relative_cases());
    cases.extend(
        [(1, 1, 1.0), (5, 1, 1.0), (33, 70, 60.0), (7, 257, 2.0)].map(|(r, s, x)| softmax(r, s, x)),
    );
    cases.extend([
        mix([1, 1, 1, 1, 1, 8], true, vec![]),
        mix(small, true, mix_faults(small, true)),
        mix([1, 130, 130, 2, 1, 64], true, vec![]),
        mix(far, false, mix_faults(far, false)),
        mix([1, 67, 3, 3, 3, 80], false, vec![]),
    ]);
    cases
}
