//! Shapes and wrong kernels.

use super::{Change, Edit, Shared, Tap, reference};
use crate::autograd::{Op, RunInfo};
use crate::ops::harness::{Case, Gradients};
use crate::ops::spoil::Spoil;
use std::sync::Arc;

fn tap(n: usize, edits: &[Edit]) -> Tap {
    let slot = Shared::default();
    slot.lock().edits = edits.to_vec();
    Tap::new(n, slot).expect("valid")
}

/// Every sort of change; some meet.
fn edits(n: usize) -> Vec<Edit> {
    let values: Arc<[f32]> = (0..n).map(|i| 0.3 * i as f32 - 1.0).collect();
    let edit = |range, change, from| Edit { range, change, from };
    vec![
        edit(0..n / 4, Change::Fill(0.5), 0),
        edit(n / 4..n / 2, Change::Set(values.clone()), n / 4),
        edit(n / 8..3 * n / 4, Change::Add(values), 3),
        edit(n / 3..n - 1, Change::Scale(-1.5), 0),
    ]
}

fn wrong(n: usize, all: &[Edit]) -> Vec<(&'static str, Box<dyn Op>)> {
    let without = |i: usize| -> Box<dyn Op> {
        let mut some = all.to_vec();
        some.remove(i);
        Box::new(tap(n, &some))
    };
    let reversed: Vec<Edit> = all.iter().rev().cloned().collect();
    let mut shifted = all.to_vec();
    shifted[2].from += 1;
    let (set, scaled) = (all[1].range.clone(), all[3].range.clone());
    vec![
        ("NaN output", Spoil::nan_output(tap(n, all))),
        ("sign of dx", Spoil::sign_of_d_input(tap(n, all), 0)),
        ("fills nothing", without(0)),
        ("sets nothing", without(1)),
        ("adds nothing", without(2)),
        ("scales nothing", without(3)),
        ("in another order", Box::new(tap(n, &reversed))),
        ("values off by one", Box::new(tap(n, &shifted))),
        (
            "the gradient goes on where a value was set",
            Spoil::backward_done(tap(n, all), move |o| {
                o.d_inputs[0].as_mut().expect("a gradient").data[set.start] = 1.0;
            }),
        ),
        (
            "gradient not scaled",
            Spoil::backward_done(tap(n, all), move |o| {
                o.d_inputs[0].as_mut().expect("a gradient").data[scaled.end - 1] /= -1.5;
            }),
        ),
    ]
}

/// All cases of this room.
#[must_use]
pub fn cases() -> Vec<Case> {
    [24, 1001]
        .into_iter()
        .map(|n| {
            let all = edits(n);
            let (there, back) = (all.clone(), all.clone());
            Case {
                name: format!("tap/{n}"),
                op: Box::new(tap(n, &all)),
                ints: vec![],
                scale: 2.0,
                forward: Box::new(move |v| vec![reference::forward(&there, &v.inputs[0])]),
                backward: Box::new(move |_, d| Gradients {
                    inputs: vec![reference::backward(&back, &d[0])],
                    params: vec![],
                }),
                tolerance: 3e-7,
                wrong: wrong(n, &all),
                run: RunInfo::default(),
            }
        })
        .collect()
}
