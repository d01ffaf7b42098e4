//! Shapes and wrong kernels.

use super::{HeadNorm, HeadNormDims, reference};
use crate::autograd::{Op, RunInfo};
use crate::ops::harness::{Case, Gradients};
use crate::ops::spoil::Spoil;

fn wrong(right: HeadNorm) -> Vec<(&'static str, Box<dyn Op>)> {
    let d = right.dims.d;
    let row = right.dims.row();
    vec![
        ("NaN output", Spoil::nan_output(right)),
        ("queries' gradient dropped", Spoil::drops_d_param(right, 0)),
        ("keys' gradient dropped", Spoil::drops_d_param(right, 1)),
        ("epsilon far too large", Box::new(HeadNorm { eps: 1.0, ..right })),
        (
            "values are normalised too",
            Spoil::forward_done(right, move |o| {
                o.outputs[0].chunks_exact_mut(row).for_each(|r| r[row - d..].fill(1.0));
            }),
        ),
        ("weights exchanged", Spoil::forward_begins(right, |o| o.params.swap(0, 1))),
        ("as if rstd were constant", Spoil::backward_begins(right, |o| o.saved[0].fill(0.0))),
    ]
}

/// All cases of this room.
#[must_use]
pub fn cases() -> Vec<Case> {
    [(1, 1, 1, 2), (5, 4, 2, 6), (33, 3, 3, 64), (9, 8, 1, 17)]
        .into_iter()
        .map(|(n, h, kv, d)| {
            let dims = HeadNormDims { n, h, kv, d };
            let op = HeadNorm::new(dims, 1e-6).expect("valid");
            let eps = f64::from(1e-6f32);
            Case {
                name: format!("head_norm/{n}x{h}x{kv}x{d}"),
                op: Box::new(op),
                ints: vec![],
                scale: 1.0,
                forward: Box::new(move |v| {
                    vec![reference::forward(dims, eps, &v.inputs[0], &v.params)]
                }),
                backward: Box::new(move |v, d| {
                    let (dx, params) =
                        reference::backward(dims, eps, &v.inputs[0], &v.params, &d[0]);
                    Gradients { inputs: vec![dx], params }
                }),
                tolerance: 2e-6,
                wrong: if n > 1 { wrong(op) } else { vec![] },
                run: RunInfo::default(),
            }
        })
        .collect()
}
