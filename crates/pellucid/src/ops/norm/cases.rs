//! Shapes and wrong kernels.

use super::{LayerNorm, NormDims, RmsNorm, reference};
use crate::autograd::{Backward, Op, RunInfo};
use crate::ops::harness::{Case, Gradients};
use crate::ops::spoil::Spoil;

type Wrong = Vec<(&'static str, Box<dyn Op>)>;

/// Wrong in the same way for both norms.
fn wrong_in_common(right: impl Op + Copy + 'static, c: usize) -> Wrong {
    vec![
        ("sign of dx", Spoil::sign_of_d_input(right, 0)),
        ("NaN output", Spoil::nan_output(right)),
        ("overwrites instead of accumulating", Spoil::ignores_accumulate(right)),
        ("dropped weight gradient", Spoil::drops_d_param(right, 0)),
        (
            "size of the row taken as a constant in dx",
            Spoil::backward_done(right, move |o| constant_size(o, c)),
        ),
        (
            "rstd of the row before",
            Spoil::forward_done(right, |o| {
                let rstd = o.saved.last_mut().expect("rstd");
                rstd.rotate_right(1);
            }),
        ),
        (
            "last row missing in the weight gradient",
            Spoil::backward_done(right, move |o| {
                let last = o.saved[0].len() - 1;
                let mean = if o.saved.len() == 2 { o.saved[0][last] } else { 0.0 };
                let rstd = o.saved.last().expect("rstd")[last];
                let rows = o.inputs[0][last * c..].iter().zip(&o.d_outputs[0][last * c..]);
                let grad = o.d_params[0].as_mut().expect("a gradient");
                for (d, (x, dy)) in grad.data.iter_mut().zip(rows) {
                    *d -= dy * (x - mean) * rstd;
                }
            }),
        ),
    ]
}

/// `dx = dy · weight · rstd`, without the terms through mean and rstd.
fn constant_size(o: &mut Backward<'_>, c: usize) {
    let rstd = o.saved.last().expect("rstd");
    let grad = o.d_inputs[0].as_mut().expect("a gradient");
    for (i, d) in grad.data.iter_mut().enumerate() {
        *d = o.d_outputs[0][i] * o.params[0][i % c] * rstd[i / c];
    }
}

fn wrong_layer(right: LayerNorm) -> Wrong {
    let mut wrong = wrong_in_common(right, right.dims.c);
    wrong.push(("another eps", Box::new(LayerNorm { eps: 1e-5, ..right })));
    wrong.push(("dropped bias gradient", Spoil::drops_d_param(right, 1)));
    wrong.push((
        "mean of the row before",
        Spoil::forward_done(right, |o| o.saved[0].rotate_right(1)),
    ));
    wrong.push((
        "bias left out",
        Spoil::forward_done(right, move |o| {
            let rows = o.outputs[0].chunks_exact_mut(o.params[1].len());
            rows.for_each(|y| y.iter_mut().zip(o.params[1]).for_each(|(y, b)| *y -= b));
        }),
    ));
    wrong
}

/// With one column (nearly) all of dx cancels, and what is left is rounding.
fn tolerance(c: usize) -> f64 {
    if c == 1 { 1e-4 } else { 3e-6 }
}

fn layer(n: usize, c: usize, bias: bool, scale: f32) -> Case {
    let dims = NormDims { n, c };
    let eps = 1e-3;
    let op = LayerNorm::new(dims, eps, bias).expect("valid");
    let eps = f64::from(eps);
    Case {
        name: format!("norm/layer/{n}x{c}{}", if bias { "" } else { "/no bias" }),
        op: Box::new(op),
        ints: vec![],
        scale,
        forward: Box::new(move |v| {
            let bias = v.params.get(1).map(Vec::as_slice);
            vec![reference::layer_forward(dims, eps, &v.inputs[0], &v.params[0], bias)]
        }),
        backward: Box::new(move |v, d| {
            let (dx, d_weight, d_bias) =
                reference::layer_backward(dims, eps, &v.inputs[0], &v.params[0], &d[0]);
            let params = if bias { vec![d_weight, d_bias] } else { vec![d_weight] };
            Gradients { inputs: vec![dx], params }
        }),
        tolerance: tolerance(c),
        wrong: if bias && n == 37 { wrong_layer(op) } else { vec![] },
        run: RunInfo::default(),
    }
}

fn rms(n: usize, c: usize, scale: f32) -> Case {
    let dims = NormDims { n, c };
    let eps = 1e-3;
    let op = RmsNorm::new(dims, eps).expect("valid");
    let mut wrong = vec![];
    if n == 37 {
        wrong = wrong_in_common(op, c);
        wrong.push(("another eps", Box::new(RmsNorm { eps: 1e-5, ..op })));
        wrong.push((
            "LayerNorm instead",
            Spoil::forward_done(op, move |o| {
                for (y, x) in o.outputs[0].chunks_exact_mut(c).zip(o.inputs[0].chunks_exact(c)) {
                    let mean = x.iter().sum::<f32>() / c as f32;
                    let rows = y.iter_mut().zip(x).zip(o.params[0]);
                    rows.for_each(|((y, x), w)| *y = (x - mean) * w);
                }
            }),
        ));
    }
    let eps = f64::from(eps);
    Case {
        name: format!("norm/rms/{n}x{c}"),
        op: Box::new(op),
        ints: vec![],
        scale,
        forward: Box::new(move |v| {
            vec![reference::rms_forward(dims, eps, &v.inputs[0], &v.params[0])]
        }),
        backward: Box::new(move |v, d| {
            let (dx, d_weight) =
                reference::rms_backward(dims, eps, &v.inputs[0], &v.params[0], &d[0]);
            Gradients { inputs: vec![dx], params: vec![d_weight] }
        }),
        tolerance: tolerance(c),
        wrong,
        run: RunInfo::default(),
    }
}

/// All cases of this room: one row, one column, primes, tails, more than one block of rows.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (n, c, scale) in [
        (1, 1, 1.0),
        (1, 7, 1.0),
        (5, 1, 1.0),
        (3, 32, 2.0),
        (37, 67, 1.0),
        (16, 129, 0.3),
        (61, 31, 4.0),
    ] {
        cases.push(layer(n, c, true, scale));
        cases.push(layer(n, c, false, scale));
        cases.push(rms(n, c, scale));
    }
    cases
}
