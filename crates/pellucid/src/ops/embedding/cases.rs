//! Shapes and deliberately wrong kernels.

use super::reference::{self, Dims};
use super::{Embedding, Positions};
use crate::autograd::{Op, RunInfo};
use crate::ops::harness::{Case, Gradients};
use crate::ops::wrong::Wrong;

fn wrong(dims: Dims, positions: Positions, scale: f32) -> Vec<(&'static str, Box<dyn Op>)> {
    let op = move || Embedding::new(dims.b, dims.t, dims.c, dims.v, positions, scale);
    let mut wrong: Vec<(&'static str, Box<dyn Op>)> = vec![
        ("scale forgotten", {
            Box::new(Embedding::new(dims.b, dims.t, dims.c, dims.v, positions, scale * 0.5))
        }),
        ("ignores accumulate", Wrong::new(op()).ignores_accumulate().boxed()),
        (
            "does not clear the gradient",
            Wrong::new(op())
                .before_backward(|b| {
                    let grad = b.d_params[0].as_mut().expect("gradient");
                    grad.accumulate = true;
                })
                .boxed(),
        ),
        (
            "NaN output",
            Wrong::new(op())
                .after_forward(|f| *f.outputs[0].last_mut().unwrap() = f32::NAN)
                .boxed(),
        ),
    ];
    if positions != Positions::None {
        wrong.push((
            "past ignored",
            Wrong::new(op()).before_forward(|f| f.ints[1] = &[0; 8][..f.ints[1].len()]).boxed(),
        ));
        let none = Embedding::new(dims.b, dims.t, dims.c, dims.v, Positions::None, scale);
        if positions == Positions::Sinusoidal {
            wrong.push(("no positions", Box::new(none)));
        } else {
            wrong.push((
                "positions' gradient dropped",
                Wrong::new(op())
                    .after_backward(|b| b.d_params[1].as_mut().unwrap().data.fill(0.0))
                    .boxed(),
            ));
        }
    }
    if dims.b * dims.t > 2 {
        wrong.push((
            "a repeated id keeps only its last gradient",
            Wrong::new(op())
                .after_backward(move |b| {
                    let (c, grad) = (dims.c, b.d_params[0].as_mut().unwrap());
                    for (i, &id) in b.ints[0].iter().enumerate() {
                        let dy = &b.d_outputs[0][i * c..][..c];
                        for (w, d) in grad.data[id as usize * c..].iter_mut().zip(dy) {
                            *w = scale * d;
                        }
                    }
                })
                .boxed(),
        ));
    }
    wrong
}

/// Every shape that the operation is judged on.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    let shapes = [(1, 1, 1, 2, 1.0), (2, 5, 7, 3, 1.0), (3, 11, 130, 13, 4.5), (1, 33, 64, 5, 0.3)];
    for (b, t, c, v, scale) in shapes {
        let past: Vec<i32> = (0..b as i32).map(|i| 1 + 5 * i).collect();
        let max = t + 1 + 5 * b;
        for positions in [Positions::None, Positions::Learned { max }, Positions::Sinusoidal] {
            let dims = Dims { b, t, c, v };
            let wide = f64::from(scale);
            cases.push(Case {
                name: format!("embedding/{positions:?}/{b}x{t}x{c}"),
                op: Box::new(Embedding::new(b, t, c, v, positions, scale)),
                ints: vec![
                    (0..b * t).map(|i| (i * i + i / 3) as i32 % v as i32).collect(),
                    past.clone(),
                ],
                scale: 1.0,
                forward: Box::new(move |x| {
                    let wpe = x.params.get(1).map_or(&[][..], |w| w);
                    vec![reference::forward(
                        dims,
                        positions,
                        wide,
                        &x.ints[0],
                        &x.ints[1],
                        &x.params[0],
                        wpe,
                    )]
                }),
                backward: Box::new(move |x, d| {
                    let (wte, wpe) =
                        reference::backward(dims, positions, wide, &x.ints[0], &x.ints[1], &d[0]);
                    let mut params = vec![wte, wpe];
                    params.truncate(x.params.len());
                    Gradients { inputs: vec![], params }
                }),
                tolerance: 1e-6,
                wrong: wrong(dims, positions, scale),
                run: RunInfo::default(),
            });
        }
    }
    cases
}
