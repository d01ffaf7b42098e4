//! Shapes, seeds and deliberately wrong kernels.

use super::faults::{FAULTS, Plain};
use super::reference::{Operands, Reference};
use super::{AdditiveAttention, AdditiveDims};
use crate::autograd::{Op, RunInfo};
use crate::ops::harness::{Case, Gradients, Values};
use crate::ops::spoil::Spoil;

fn operands(values: &Values) -> Operands {
    let [q, k, said] = [0, 1, 2].map(|i| values.inputs[i].clone());
    Operands { q, k, values: said, v: values.params[0].clone() }
}

fn faults(op: AdditiveAttention) -> Vec<(&'static str, Box<dyn Op>)> {
    let mut faults = vec![
        ("NaN output", Spoil::nan_output(op)),
        ("sign of dq", Spoil::sign_of_d_input(op, 0)),
        ("sign of dk", Spoil::sign_of_d_input(op, 1)),
        ("sign of the values' gradient", Spoil::sign_of_d_input(op, 2)),
        ("ignores accumulate", Spoil::ignores_accumulate(op)),
        ("gradient of v dropped", Spoil::drops_d_param(op, 0)),
        (
            "probabilities of another query",
            Spoil::backward_begins(op, move |x| x.saved[0].rotate_left(op.dims.s)),
        ),
    ];
    for (name, fault) in FAULTS {
        faults.push((name, Box::new(Plain { op, fault })));
    }
    faults
}

/// `(B, T, S, C, E)`; `wrong` where there is padding, and more than one query and key.
pub(super) fn case(
    (b, t, s, c, e): (usize, usize, usize, usize, usize),
    lengths: &[i32],
    scale: f32,
    wrong: bool,
) -> Case {
    let dims = AdditiveDims { b, t, s, c, e };
    let op = AdditiveAttention::new(dims).expect("a valid case");
    Case {
        name: format!("additive/{b}x{t}x{s}x{c}x{e}"),
        op: Box::new(op),
        ints: vec![lengths.to_vec()],
        scale,
        forward: Box::new(move |x| {
            vec![Reference { dims, lengths: &x.ints[0] }.forward(&operands(x))]
        }),
        backward: Box::new(move |x, d| {
            let d = Reference { dims, lengths: &x.ints[0] }.backward(&operands(x), &d[0]);
            Gradients { inputs: vec![d.q, d.k, d.values], params: vec![d.v] }
        }),
        // With one key the gradients of q and k are exactly 0, and what f32 makes of them is judged against 1e-3.
        tolerance: if s == 1 { 1e-3 } else { 5e-6 },
        wrong: if wrong { faults(op) } else { vec![] },
        run: RunInfo::default(),
    }
}

/// Every shape that the operation is judged on.
#[must_use]
pub fn cases() -> Vec<Case> {
    vec![
        case((1, 1, 1, 1, 1), &[1], 1.0, false),
        case((2, 3, 1, 5, 2), &[1, 0], 1.0, false),
        case((3, 1, 9, 4, 6), &[9, 0, 2], 1.0, false),
        case((2, 5, 7, 33, 40), &[7, 4], 0.5, true),
        case((3, 4, 6, 8, 3), &[2, 6, 3], 1.0, true),
        case((1, 17, 70, 65, 31), &[66], 0.5, false),
    ]
}
