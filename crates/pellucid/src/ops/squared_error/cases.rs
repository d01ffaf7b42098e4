//! Shapes and wrong kernels.

use super::{SquaredError, reference};
use crate::autograd::{Backward, Op, RunInfo};
use crate::ops::harness::{Case, Gradients};
use crate::ops::spoil::Spoil;

fn wrong(right: SquaredError, holes: bool) -> Vec<(&'static str, Box<dyn Op>)> {
    let mut wrong: Vec<(&'static str, Box<dyn Op>)> = vec![
        ("NaN output", Spoil::nan_output(right)),
        ("sign of dx", Spoil::sign_of_d_input(right, 0)),
        ("overwrites instead of accumulating", Spoil::ignores_accumulate(right)),
        (
            "not doubled",
            Spoil::backward_done(right, |o| {
                let grad = o.d_inputs[0].as_mut().expect("a gradient");
                grad.data.iter_mut().for_each(|d| *d *= 0.5);
            }),
        ),
        (
            "the loss is a sum",
            Spoil::forward_done(right, |o| {
                o.outputs[0][0] = o.outputs[1].iter().sum::<f32>();
            }),
        ),
        ("grad_scale forgotten", Spoil::backward_begins(right, |o| o.run.grad_scale = 1.0)),
    ];
    if holes {
        // A larger count than there are targets that are numbers.
        let all = |o: &mut Backward<'_>| {
            let numbers = o.ints[0].iter().filter(|&&t| !f32::from_bits(t as u32).is_nan()).count();
            o.run.grad_scale *= numbers as f32 / o.ints[0].len() as f32;
        };
        wrong.push(("targets left out are counted", Spoil::backward_begins(right, all)));
        let moved = |o: &mut Backward<'_>| {
            let grad = o.d_inputs[0].as_mut().expect("a gradient");
            for (d, &t) in grad.data.iter_mut().zip(o.ints[0]) {
                if f32::from_bits(t as u32).is_nan() {
                    *d += 0.1;
                }
            }
        };
        wrong.push(("targets left out pull", Spoil::backward_done(right, moved)));
    }
    wrong
}

/// All cases of this room.
#[must_use]
pub fn cases() -> Vec<Case> {
    [(1, 1, false), (7, 1, true), (5, 3, true), (4, 2, false)]
        .into_iter()
        .map(|(n, r, holes)| {
            let op = SquaredError::new(n, r).expect("valid");
            let target = |i: usize| {
                if holes && i % 3 == 1 { -100 } else { (i as f32 * 0.7 - 1.0).to_bits() as i32 }
            };
            Case {
                name: format!("squared_error/{n}x{r}"),
                op: Box::new(op),
                ints: vec![(0..n * r).map(target).collect()],
                scale: 1.0,
                forward: Box::new(move |v| reference::forward(r, &v.inputs[0], &v.ints[0])),
                backward: Box::new(|v, d| Gradients {
                    inputs: vec![reference::backward(&v.inputs[0], &v.ints[0], d[0][0])],
                    params: vec![],
                }),
                tolerance: 1e-6,
                wrong: if n > 1 { wrong(op, holes) } else { vec![] },
                run: RunInfo { training: true, grad_scale: 0.25, ..RunInfo::default() },
            }
        })
        .collect()
}
