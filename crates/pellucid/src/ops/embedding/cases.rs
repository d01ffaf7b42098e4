//! Shapes and deliberately wrong kernels.

use super::reference::{self, Dims};
use super::{Embedding, Positions};
use crate::autograd::{Backward, Forward, Op, RunInfo};
use crate::ops::harness::{Case, Gradients};
use crate::ops::spoil::Spoil;

fn wrong(dims: Dims, positions: Positions, scale: f32) -> Vec<(&'static str, Box<dyn Op>)> {
    let Dims { b, t, c, v, g, offset } = dims;
    let with = move |positions, scale| {
        Embedding::new(b, t, c, v, positions, scale).with_offset(offset).with_segments(g)
    };
    let right = move || with(positions, scale);
    let mut wrong: Vec<(&'static str, Box<dyn Op>)> = vec![
        ("scale off", Box::new(with(positions, scale * 0.5))),
        ("ignores accumulate", Spoil::ignores_accumulate(right())),
        (
            "does not clear the gradient",
            Spoil::backward_begins(right(), |b| b.d_params[0].as_mut().unwrap().accumulate = true),
        ),
        ("NaN output", Spoil::nan_output(right())),
        ("gradient dropped", Spoil::drops_d_param(right(), 0)),
    ];
    wrong.extend(wrong_positions(right, dims, positions));
    if g > 0 {
        let last = usize::from(positions.rows() > 0) + 1;
        wrong.push(("segments' gradient dropped", Spoil::drops_d_param(right(), last)));
        let first = |f: &mut Forward<'_>| f.ints[2] = &[0; 256][..f.ints[2].len()];
        wrong.push(("all in the first segment", Spoil::forward_begins(right(), first)));
    }
    if dims.b * dims.t > 2 {
        let keep_last = move |b: &mut Backward<'_>| {
            let (c, grad) = (dims.c, b.d_params[0].as_mut().unwrap());
            for (&id, dy) in b.ints[0].iter().zip(b.d_outputs[0].chunks_exact(c)) {
                for (w, d) in grad.data[id as usize * c..].iter_mut().zip(dy) {
                    *w = scale * d;
                }
            }
        };
        wrong.push((
            "a repeated id keeps only its last gradient",
            Spoil::backward_done(right(), keep_last),
        ));
    }
    wrong
}

/// Vectors that are right, but stand somewhere else.
fn wrong_positions(
    right: impl Fn() -> Embedding,
    dims: Dims,
    positions: Positions,
) -> Vec<(&'static str, Box<dyn Op>)> {
    let as_if = |positions| Embedding { positions, ..right() };
    let mut wrong: Vec<(&'static str, Box<dyn Op>)> = vec![];
    if positions != Positions::None {
        let past_ignored = |f: &mut Forward<'_>| f.ints[1] = &[0; 8][..f.ints[1].len()];
        wrong.push(("past ignored", Spoil::forward_begins(right(), past_ignored)));
    }
    match positions {
        Positions::None => {}
        Positions::Learned { .. } => {
            wrong.push(("positions' gradient dropped", Spoil::drops_d_param(right(), 1)));
        }
        _ => {
            wrong.push(("no positions", Box::new(as_if(Positions::None))));
            let other = match positions {
                Positions::Sinusoidal => Positions::SinusoidalHalved,
                Positions::SinusoidalHalved => Positions::SinusoidalTensor2tensor,
                _ => Positions::SinusoidalHalved,
            };
            if dims.c > 4 {
                wrong.push(("other waves", Box::new(as_if(other))));
            }
        }
    }
    if dims.offset > 0 && positions != Positions::None {
        let without = right().with_offset(dims.offset - 1);
        wrong.push(("offset one too small", Box::new(without)));
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
        let all = [
            (Positions::None, 0, 0),
            (Positions::Learned { max }, 0, 0),
            (Positions::Learned { max: max + 2 }, 2, 3),
            (Positions::Sinusoidal, 0, 0),
            (Positions::SinusoidalHalved, 0, 2),
            (Positions::SinusoidalTensor2tensor, 1, 0),
        ];
        for (positions, offset, g) in all {
            let dims = Dims { b, t, c, v, g, offset };
            let wide = f64::from(scale);
            let ids = (0..b * t).map(|i| (i * i + i / 3) as i32 % v as i32).collect();
            let mut ints = vec![ids, past.clone()];
            if g > 0 {
                // The last segment too, also where there is one token.
                ints.push((1..=b * t).map(|i| ((i * i + g - 2) % g) as i32).collect());
            }
            cases.push(Case {
                name: format!("embedding/{positions:?}/{b}x{t}x{c}/{offset}+{g}"),
                op: Box::new(
                    Embedding::new(b, t, c, v, positions, scale)
                        .with_offset(offset)
                        .with_segments(g),
                ),
                ints,
                scale: 1.0,
                forward: Box::new(move |x| {
                    vec![reference::forward(dims, positions, wide, &x.ints, &x.params)]
                }),
                backward: Box::new(move |x, d| {
                    let params = reference::backward(dims, positions, wide, &x.ints, &d[0]);
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
