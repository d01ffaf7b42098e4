//! Shapes and deliberately wrong kernels.

use super::reference::{self, Angles};
use super::{Dims, Rotary, Scaling, Style, Table};
use crate::autograd::{Op, RunInfo};
use crate::ops::harness::{Case, Gradients};
use crate::ops::spoil::Spoil;

const LLAMA3: Scaling =
    Scaling::Llama3 { factor: 8.0, low_frequency: 1.0, high_frequency: 4.0, original: 64 };

fn op(dims: Dims, style: Style, a: Angles) -> Rotary {
    let table = Table::new(a.rotary, a.theta, a.scaling, 4096).expect("table");
    Rotary::new(dims, style, table).expect("rotary")
}

fn wrong(dims: Dims, style: Style, a: Angles) -> Vec<(&'static str, Box<dyn Op>)> {
    let other = match style {
        Style::Half => Style::Interleaved,
        Style::Interleaved => Style::Half,
    };
    let right = || op(dims, style, a);
    let mut wrong: Vec<(&'static str, Box<dyn Op>)> = vec![
        (
            "position off by one",
            Spoil::forward_begins(right(), |f| f.ints[0] = &[1; 8][..f.ints[0].len()]),
        ),
        (
            "backward does not turn",
            Spoil::backward_begins(right(), |b| b.ints[0] = &[0; 8][..b.ints[0].len()]),
        ),
        ("NaN output", Spoil::nan_output(right())),
    ];
    if a.rotary > 2 {
        let base = Angles { theta: a.theta * 1.1, ..a };
        wrong.push(("base off", Box::new(op(dims, style, base))));
        wrong.push(("other pairs", Box::new(op(dims, other, a))));
        wrong.push((
            "frequencies not scaled",
            Box::new(op(dims, style, Angles { scaling: Scaling::Linear { factor: 3.0 }, ..a })),
        ));
    }
    if dims.heads > 1 {
        wrong.push((
            "last head left out",
            Box::new(op(Dims { heads: dims.heads - 1, ..dims }, style, a)),
        ));
    }
    wrong
}

/// Every shape that the operation is judged on.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    let shapes = [
        // b, t, row, first, heads, width, rotary, theta, scaling
        (1, 1, 2, 0, 1, 2, 2, 1e4, Scaling::None),
        (2, 5, 24, 0, 2, 8, 8, 1e4, Scaling::None),
        (3, 7, 41, 3, 3, 11, 6, 5e5, LLAMA3),
        (1, 67, 3 * 64, 0, 2, 64, 64, 5e5, LLAMA3),
        (2, 3, 40, 4, 2, 16, 16, 1e4, Scaling::Linear { factor: 2.5 }),
    ];
    for (b, t, row, first, heads, width, rotary, theta, scaling) in shapes {
        for style in [Style::Half, Style::Interleaved] {
            let dims = Dims { b, t, row, first, heads, width };
            let angles = Angles { rotary, theta, scaling };
            cases.push(Case {
                name: format!("rotary/{style:?}/{b}x{t}x{row}/{rotary}of{width}"),
                op: Box::new(op(dims, style, angles)),
                ints: vec![(0..b as i32).map(|i| 3 + 911 * i).collect()],
                scale: 1.0,
                forward: Box::new(move |v| {
                    vec![reference::forward(dims, style, angles, &v.ints[0], &v.inputs[0])]
                }),
                backward: Box::new(move |v, d| Gradients {
                    inputs: vec![reference::backward(dims, style, angles, &v.ints[0], &d[0])],
                    params: vec![],
                }),
                tolerance: 1e-6,
                wrong: wrong(dims, style, angles),
                run: RunInfo::default(),
            });
        }
    }
    cases
}
