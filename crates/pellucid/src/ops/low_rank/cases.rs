//! Shapes and deliberately wrong kernels.

use super::LowRank;
use super::reference::{self, Dims};
use crate::autograd::{Op, RunInfo};
use crate::backend::cpu::gemm::Precision;
use crate::ops::harness::{Case, Gradients};
use crate::ops::spoil::Spoil;

fn wrong(op: &LowRank) -> Vec<(&'static str, Box<dyn Op>)> {
    let right = || op.clone();
    let (first, o) = (op.columns.start, op.c_out);
    let mut wrong = vec![
        ("NaN output", Spoil::nan_output(right())),
        ("sign of dx", Spoil::sign_of_d_input(right(), 0)),
        ("ignores accumulate", Spoil::ignores_accumulate(right())),
        ("first factor's gradient dropped", Spoil::drops_d_param(right(), 0)),
        ("second factor's gradient dropped", Spoil::drops_d_param(right(), 1)),
        ("scale forgotten", Box::new(LowRank { scale: 1.0, ..right() }) as Box<dyn Op>),
        (
            "scale forgotten in what is saved",
            Spoil::backward_begins(right(), |b| b.saved[0].iter_mut().for_each(|h| *h *= 3.0)),
        ),
        (
            "y's own gradient lost",
            Spoil::backward_done(right(), |b| {
                b.d_inputs[1].as_mut().expect("a gradient").data.fill(0.0);
            }),
        ),
        (
            "added twice at one place",
            Spoil::forward_done(right(), move |f| {
                let added = f.saved[0][0] * f.params[1][0];
                f.outputs[0][first] += added;
            }),
        ),
    ];
    if first > 0 {
        let shifted = first - 1..op.columns.end - 1;
        wrong.push(("one column to the left", Box::new(LowRank { columns: shifted, ..right() })));
    }
    if o > op.columns.end {
        let shifted = first + 1..op.columns.end + 1;
        wrong.push(("one column to the right", Box::new(LowRank { columns: shifted, ..right() })));
    }
    wrong
}

/// Every shape that the operation is judged on.
#[must_use]
pub fn cases() -> Vec<Case> {
    let shapes = [
        // n, i, o, columns, r, scale
        (1, 1, 1, 0..1, 1, 2.0f32),
        (3, 7, 9, 2..6, 2, 0.5),
        (67, 20, 33, 0..33, 4, 2.0),
        (130, 48, 96, 32..64, 8, 1.5),
        (9, 5, 700, 690..700, 3, -1.25),
    ];
    let case =
        |(n, i, o, columns, r, scale): (usize, usize, usize, std::ops::Range<usize>, _, f32)| {
            let dims = Dims {
                n,
                i,
                o,
                first: columns.start,
                p: columns.len(),
                r,
                scale: f64::from(scale),
            };
            let op = LowRank::new(n, (i, o), columns, (r, scale), Precision::F32).expect("valid");
            Case {
                name: format!("low_rank/{n}x{i}x{o}/{r}"),
                wrong: wrong(&op),
                op: Box::new(op),
                ints: vec![],
                scale: 1.0,
                forward: Box::new(move |v| {
                    let (x, y, p) = (&v.inputs[0], &v.inputs[1], &v.params);
                    vec![reference::forward(dims, x, y, &p[0], &p[1])]
                }),
                backward: Box::new(move |v, d| {
                    let p = &v.params;
                    let (dx, da, db) = reference::backward(dims, &v.inputs[0], &p[0], &p[1], &d[0]);
                    Gradients { inputs: vec![dx, d[0].clone()], params: vec![da, db] }
                }),
                tolerance: 5e-6,
                run: RunInfo::default(),
            }
        };
    shapes.into_iter().map(case).collect()
}
