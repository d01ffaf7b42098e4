//! Shapes, seeds and deliberately wrong kernels.

use super::faults::faults;
use super::reference::{Operands, Reference};
use super::{Lstm, LstmDims};
use crate::autograd::RunInfo;
use crate::ops::harness::{Case, Gradients, Values};

fn operands(values: &Values) -> Operands<'_> {
    let input = |i: usize| values.inputs.get(i).map_or(&[][..], |x| &x[..]);
    Operands { x: input(0), w: &values.params[0], h: input(1), c: input(2) }
}

fn case(
    (b, t, c): (usize, usize, usize),
    (initial, reverse): (bool, bool),
    lengths: &[i32],
    scale: f32,
    wrong: bool,
) -> Case {
    let dims = LstmDims { b, t, c };
    let op = Lstm {
        initial,
        reverse,
        lengths: !lengths.is_empty(),
        ..Lstm::new(dims).expect("a valid case")
    };
    Case {
        name: format!("lstm/{b}x{t}x{c}/initial-{initial}/reverse-{reverse}/{lengths:?}"),
        op: Box::new(op),
        ints: if lengths.is_empty() { vec![] } else { vec![lengths.to_vec()] },
        scale,
        forward: Box::new(move |values| of(dims, reverse, values).forward(operands(values))),
        backward: Box::new(move |values, d| {
            let it = of(dims, reverse, values);
            let [d_x, d_h, d_c, d_w] = it.backward(operands(values), d);
            let mut inputs = vec![d_x, d_h, d_c];
            inputs.truncate(values.inputs.len());
            Gradients { inputs, params: vec![d_w] }
        }),
        tolerance: 5e-6,
        wrong: if wrong { faults(op) } else { vec![] },
        run: RunInfo::default(),
    }
}

fn of(dims: LstmDims, reverse: bool, values: &Values) -> Reference<'_> {
    let lengths = values.ints.first().map_or(&[][..], |l| &l[..]);
    Reference { dims, lengths, reverse }
}

/// Every shape that the operation is judged on.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        case((1, 1, 1), (false, false), &[], 1.0, false),
        case((1, 1, 3), (true, true), &[0], 1.0, false),
        case((1, 40, 8), (false, false), &[], 0.7, false),
        // More rows than the products' kernel for a few.
        case((19, 6, 33), (true, true), &[], 0.3, false),
        case((40, 3, 65), (true, false), &[], 0.2, false),
        case((3, 5, 16), (true, false), &[3, 0, 4], 0.7, false), // nobody is as long as T
        case((3, 5, 16), (true, true), &[3, 0, 4], 0.7, false),
        case((2, 4, 7), (false, true), &[0, 0], 1.0, false),
    ];
    for initial in [false, true] {
        for reverse in [false, true] {
            for lengths in [&[][..], &[7, 3, 0, 6]] {
                cases.push(case((4, 7, 5), (initial, reverse), lengths, 0.8, true));
            }
        }
    }
    cases
}
