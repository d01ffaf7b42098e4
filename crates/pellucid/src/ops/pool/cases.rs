//! Shapes and wrong kernels.

use super::{Kind, Pool, reference};
use crate::autograd::{Op, RunInfo};
use crate::ops::harness::{Case, Gradients};
use crate::ops::spoil::Spoil;

fn wrong(right: Pool) -> Vec<(&'static str, Box<dyn Op>)> {
    let other = match right.kind {
        Kind::First => Kind::Mean,
        Kind::Mean => Kind::Last,
        Kind::Last => Kind::First,
    };
    let mut wrong: Vec<(&'static str, Box<dyn Op>)> = vec![
        ("NaN output", Spoil::nan_output(right)),
        ("sign of dx", Spoil::sign_of_d_input(right, 0)),
        ("overwrites instead of accumulating", Spoil::ignores_accumulate(right)),
        ("other positions", Box::new(Pool { kind: other, ..right })),
    ];
    if right.kind != Kind::First {
        let t = right.t as i32;
        let whole = move |o: &mut crate::autograd::Forward<'_>| {
            // Padding counted as real.
            o.ints[0] = if t == 5 { &[5, 5, 5] } else { &[33, 33, 33] };
        };
        wrong.push(("padding counts", Spoil::forward_begins(right, whole)));
    }
    wrong
}

/// All cases of this room.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for kind in [Kind::First, Kind::Mean, Kind::Last] {
        for (b, t, c, lengths) in
            [(1, 1, 1, vec![1]), (3, 5, 7, vec![2, 5, 1]), (3, 33, 130, vec![33, 7, 20])]
        {
            let op = Pool::new(b, t, c, kind).expect("valid");
            let size = (b, t, c);
            cases.push(Case {
                name: format!("pool/{kind:?}/{b}x{t}x{c}"),
                op: Box::new(op),
                ints: vec![lengths],
                scale: 1.0,
                forward: Box::new(move |v| {
                    vec![reference::forward(kind, size, &v.ints[0], &v.inputs[0])]
                }),
                backward: Box::new(move |v, d| Gradients {
                    inputs: vec![reference::backward(kind, size, &v.ints[0], &d[0])],
                    params: vec![],
                }),
                tolerance: 1e-6,
                wrong: if b > 1 { wrong(op) } else { vec![] },
                run: RunInfo::default(),
            });
        }
    }
    cases
}
