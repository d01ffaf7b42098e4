//! Shapes and wrong kernels.

use super::reference::Sizes;
use super::{HeadResults, SumHeads};
use crate::autograd::{Op, RunInfo};
use crate::ops::harness::{Case, Gradients};
use crate::ops::spoil::Spoil;

type Wrong = Vec<(&'static str, Box<dyn Op>)>;

/// The shape at which wrong kernels are tried.
const TRIED: Sizes = Sizes { n: 17, h: 4, d: 8, c: 24 };

fn in_common(right: impl Op + Copy + 'static) -> Wrong {
    vec![
        ("NaN output", Spoil::nan_output(right)),
        ("sign of the input's gradient", Spoil::sign_of_d_input(right, 0)),
        ("overwrites instead of accumulating", Spoil::ignores_accumulate(right)),
        (
            "the row before",
            Spoil::forward_done(right, |x| {
                let by = x.outputs[0].len() / TRIED.n;
                x.outputs[0].rotate_right(by);
            }),
        ),
    ]
}

fn results_faults(right: HeadResults) -> Wrong {
    let Sizes { h, d, c, .. } = TRIED;
    let mut wrong = in_common(right);
    wrong.push(("W_O's gradient dropped", Spoil::drops_d_param(right, 0)));
    wrong.push((
        "heads in another order",
        Spoil::forward_done(right, move |x| {
            x.outputs[0].chunks_exact_mut(h * c).for_each(|row| row.rotate_left(c));
        }),
    ));
    wrong.push((
        "heads last",
        Spoil::forward_done(right, move |x| {
            for row in x.outputs[0].chunks_exact_mut(h * c) {
                let from = row.to_vec();
                from.iter().enumerate().for_each(|(i, x)| row[i % c * h + i / c] = *x);
            }
        }),
    ));
    wrong.push((
        "every head has the sum's gradient of z",
        Spoil::backward_done(right, move |x| {
            let grad = x.d_inputs[0].as_mut().expect("a gradient");
            grad.data.chunks_exact_mut(h * d).for_each(|row| row.rotate_left(d));
        }),
    ));
    wrong.push((
        "W_O's gradient the wrong way around",
        Spoil::backward_done(right, move |x| {
            let grad = x.d_params[0].as_mut().expect("a gradient");
            let from = grad.data.to_vec();
            let to = from.iter().enumerate();
            to.for_each(|(i, x)| grad.data[i % (h * d) * c + i / (h * d)] = *x);
        }),
    ));
    wrong
}

fn sum_faults(right: SumHeads) -> Wrong {
    let Sizes { n, h, c, .. } = TRIED;
    let mut wrong = in_common(right);
    wrong.push((
        "the mean of the heads",
        Spoil::forward_done(right, move |x| {
            x.outputs[0].iter_mut().for_each(|y| *y /= h as f32);
        }),
    ));
    wrong.push((
        "the last head left out",
        Spoil::forward_done(right, move |x| {
            for (row, y) in x.outputs[0].chunks_exact_mut(c).enumerate() {
                let last = &x.inputs[0][(row * h + h - 1) * c..];
                y.iter_mut().zip(last).for_each(|(y, r)| *y -= r);
            }
        }),
    ));
    wrong.push((
        "only the first head has a gradient",
        Spoil::backward_done(right, move |x| {
            let grad = x.d_inputs[0].as_mut().expect("a gradient");
            grad.data.chunks_exact_mut(h * c).for_each(|row| row[c..].fill(0.0));
        }),
    ));
    if right.bias {
        wrong.push(("bias's gradient dropped", Spoil::drops_d_param(right, 0)));
        wrong.push((
            "bias added once for each head",
            Spoil::forward_done(right, move |x| {
                for y in x.outputs[0].chunks_exact_mut(c) {
                    y.iter_mut().zip(x.params[0]).for_each(|(y, b)| *y += (h - 1) as f32 * b);
                }
            }),
        ));
        wrong.push((
            "bias's gradient a mean",
            Spoil::backward_done(right, move |x| {
                let grad = x.d_params[0].as_mut().expect("a gradient");
                grad.data.iter_mut().for_each(|d| *d /= n as f32);
            }),
        ));
    }
    wrong
}

/// A single element may be small beside what it is added to, and is then off by that sum's rounding.
fn tolerance(c: usize) -> f64 {
    if c == 1 { 1e-4 } else { 3e-6 }
}

fn results(sizes: Sizes) -> Case {
    let Sizes { n, h, d, c } = sizes;
    let op = HeadResults::new(n, h, d, c).expect("valid");
    Case {
        name: format!("head_results/results/{n}x{h}x{d}x{c}"),
        op: Box::new(op),
        ints: vec![],
        scale: 1.0,
        forward: Box::new(move |v| vec![sizes.results(&v.inputs[0], &v.params[0])]),
        backward: Box::new(move |v, d| {
            let (dz, dw) = sizes.d_results(&v.inputs[0], &v.params[0], &d[0]);
            Gradients { inputs: vec![dz], params: vec![dw] }
        }),
        tolerance: tolerance(c),
        wrong: if sizes == TRIED { results_faults(op) } else { vec![] },
        run: RunInfo::default(),
    }
}

fn sum(sizes: Sizes, bias: bool) -> Case {
    let Sizes { n, h, c, .. } = sizes;
    let op = SumHeads::new(n, h, c, bias).expect("valid");
    Case {
        name: format!("head_results/sum/{bias}/{n}x{h}x{c}"),
        op: Box::new(op),
        ints: vec![],
        scale: 1.0,
        forward: Box::new(move |v| {
            vec![sizes.sum(&v.inputs[0], v.params.first().map(Vec::as_slice))]
        }),
        backward: Box::new(move |_, d| {
            let (d_result, d_bias) = sizes.d_sum(&d[0]);
            let params = if bias { vec![d_bias] } else { vec![] };
            Gradients { inputs: vec![d_result], params }
        }),
        tolerance: tolerance(c),
        wrong: if sizes == TRIED { sum_faults(op) } else { vec![] },
        run: RunInfo::default(),
    }
}

/// All cases of this room: one of each, primes, tails, more than one block of rows.
#[must_use]
pub fn cases() -> Vec<Case> {
    let shapes = [(1, 1, 1, 1), (3, 1, 7, 5), (17, 4, 8, 24), (130, 3, 64, 33), (9, 5, 16, 80)];
    let sizes = shapes.map(|(n, h, d, c)| Sizes { n, h, d, c });
    let all = sizes.iter().flat_map(|&s| [results(s), sum(s, false), sum(s, true)]);
    all.collect()
}
