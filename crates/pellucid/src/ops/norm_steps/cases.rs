//! Shapes and wrong kernels.

use super::{Affine, NormDims, NormScale, Normalise, reference};
use crate::autograd::{Op, RunInfo};
use crate::ops::harness::{Case, Gradients};
use crate::ops::spoil::Spoil;

type Wrong = Vec<(&'static str, Box<dyn Op>)>;

/// The shape at which wrong kernels are tried.
const TRIED: NormDims = NormDims { n: 37, c: 67 };

fn in_common(right: impl Op + Copy + 'static) -> Wrong {
    vec![
        ("NaN output", Spoil::nan_output(right)),
        ("sign of dx", Spoil::sign_of_d_input(right, 0)),
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

fn form(centred: bool) -> &'static str {
    if centred { "centred" } else { "plain" }
}

/// A single element may be small beside what it is added to, and is then off by that sum's rounding.
fn tolerance(c: usize) -> f64 {
    if c == 1 { 1e-4 } else { 3e-6 }
}

fn scale(dims: NormDims, centred: bool) -> Case {
    let eps = 1e-3;
    let op = NormScale::new(dims, eps, centred).expect("valid");
    let c = dims.c as f32;
    let mut wrong = vec![];
    if dims == TRIED {
        wrong = in_common(op);
        wrong.push(("another eps", Box::new(NormScale { eps: 0.1, ..op })));
        wrong.push(("another mean", Box::new(NormScale { centred: !centred, ..op })));
        wrong.push((
            "the sum instead of the mean of squares",
            Spoil::forward_done(op, move |x| {
                x.outputs[0].iter_mut().for_each(|s| *s *= c.sqrt());
            }),
        ));
        wrong.push((
            "the gradient not divided by C",
            Spoil::backward_done(op, move |x| {
                let grad = x.d_inputs[0].as_mut().expect("a gradient");
                grad.data.iter_mut().for_each(|d| *d *= c);
            }),
        ));
    }
    let eps = f64::from(eps);
    Case {
        name: format!("norm_steps/scale/{}/{}x{}", form(centred), dims.n, dims.c),
        op: Box::new(op),
        ints: vec![],
        scale: 1.0,
        forward: Box::new(move |v| vec![reference::scale(dims, eps, centred, &v.inputs[0])]),
        backward: Box::new(move |v, d| {
            let scale = reference::scale(dims, eps, centred, &v.inputs[0]);
            let dx = reference::d_scale(dims, centred, &v.inputs[0], &scale, &d[0]);
            Gradients { inputs: vec![dx], params: vec![] }
        }),
        tolerance: tolerance(dims.c),
        wrong,
        run: RunInfo::default(),
    }
}

fn normalise(dims: NormDims, centred: bool) -> Case {
    let op = Normalise::new(dims, centred).expect("valid");
    let mut wrong = vec![];
    if dims == TRIED {
        wrong = in_common(op);
        wrong.push(("sign of d_scale", Spoil::sign_of_d_input(op, 1)));
        wrong.push(("another mean", Box::new(Normalise { centred: !centred, ..op })));
        wrong.push((
            "multiplies",
            Spoil::forward_done(op, move |x| {
                let rows = x.outputs[0].chunks_exact_mut(dims.c).zip(x.inputs[1]);
                rows.for_each(|(y, s)| y.iter_mut().for_each(|y| *y *= s * s));
            }),
        ));
        if centred {
            wrong.push((
                "the mean taken as a constant in dx",
                Spoil::backward_done(op, move |x| {
                    let grad = x.d_inputs[0].as_mut().expect("a gradient");
                    let rows = grad.data.chunks_exact_mut(dims.c).zip(x.inputs[1]);
                    for ((dx, s), dy) in rows.zip(x.d_outputs[0].chunks_exact(dims.c)) {
                        let mean = dy.iter().sum::<f32>() / dims.c as f32;
                        dx.iter_mut().for_each(|d| *d += mean / s);
                    }
                }),
            ));
        }
    }
    Case {
        name: format!("norm_steps/normalise/{}/{}x{}", form(centred), dims.n, dims.c),
        op: Box::new(op),
        ints: vec![],
        scale: 2.0,
        forward: Box::new(move |v| {
            vec![reference::normalise(dims, centred, &v.inputs[0], &v.inputs[1])]
        }),
        backward: Box::new(move |v, d| {
            let (x, scale) = (&v.inputs[0], &v.inputs[1]);
            let (dx, d_scale) = reference::d_normalise(dims, centred, x, scale, &d[0]);
            Gradients { inputs: vec![dx, d_scale], params: vec![] }
        }),
        tolerance: tolerance(dims.c),
        wrong,
        run: RunInfo::default(),
    }
}

fn affine(dims: NormDims, bias: bool) -> Case {
    let op = Affine::new(dims, bias).expect("valid");
    let mut wrong = vec![];
    if dims == TRIED {
        wrong = in_common(op);
        wrong.push(("weight's gradient dropped", Spoil::drops_d_param(op, 0)));
        wrong.push((
            "last row missing in the weight's gradient",
            Spoil::backward_done(op, move |x| {
                let last = (dims.n - 1) * dims.c;
                let rows = x.inputs[0][last..].iter().zip(&x.d_outputs[0][last..]);
                let grad = x.d_params[0].as_mut().expect("a gradient");
                grad.data.iter_mut().zip(rows).for_each(|(d, (x, dy))| *d -= x * dy);
            }),
        ));
        if bias {
            wrong.push(("bias's gradient dropped", Spoil::drops_d_param(op, 1)));
            wrong.push((
                "bias left out",
                Spoil::forward_done(op, move |x| {
                    let rows = x.outputs[0].chunks_exact_mut(dims.c);
                    rows.for_each(|y| y.iter_mut().zip(x.params[1]).for_each(|(y, b)| *y -= b));
                }),
            ));
        }
    }
    Case {
        name: format!("norm_steps/affine/{bias}/{}x{}", dims.n, dims.c),
        op: Box::new(op),
        ints: vec![],
        scale: 1.0,
        forward: Box::new(move |v| {
            let bias = v.params.get(1).map(Vec::as_slice);
            vec![reference::affine(dims, &v.inputs[0], &v.params[0], bias)]
        }),
        backward: Box::new(move |v, d| {
            let (dx, d_weight, d_bias) =
                reference::d_affine(dims, &v.inputs[0], &v.params[0], &d[0]);
            let params = if bias { vec![d_weight, d_bias] } else { vec![d_weight] };
            Gradients { inputs: vec![dx], params }
        }),
        tolerance: tolerance(dims.c),
        wrong,
        run: RunInfo::default(),
    }
}

/// All cases of this room: one row, one column, primes, tails, more than one block of rows.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (n, c) in [(1, 1), (1, 7), (5, 1), (3, 32), (37, 67), (130, 31)] {
        let dims = NormDims { n, c };
        for flag in [false, true] {
            cases.extend([scale(dims, flag), normalise(dims, flag), affine(dims, flag)]);
        }
    }
    cases
}
