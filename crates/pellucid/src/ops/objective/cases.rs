//! Shapes and wrong kernels.

use super::{Objective, Of, Shared, Term, reference};
use crate::autograd::{Op, RunInfo};
use crate::ops::harness::{Case, Gradients};
use crate::ops::spoil::Spoil;

fn objective(n: usize, v: usize, terms: &[Term]) -> Objective {
    let slot = Shared::default();
    slot.lock().terms = terms.to_vec();
    Objective::new(n, v, slot).expect("valid")
}

fn wrong(n: usize, v: usize, terms: &[Term]) -> Vec<(&'static str, Box<dyn Op>)> {
    let with = |change: &dyn Fn(&mut Vec<Term>)| -> Box<dyn Op> {
        let mut terms = terms.to_vec();
        change(&mut terms);
        Box::new(objective(n, v, &terms))
    };
    let right = || objective(n, v, terms);
    vec![
        ("NaN output", Spoil::nan_output(right())),
        ("sign of dx", Spoil::sign_of_d_input(right(), 0)),
        ("ignores accumulate", Spoil::ignores_accumulate(right())),
        ("weights are one", with(&|t| t.iter_mut().for_each(|t| t.weight = 1.0))),
        ("scores for log-probabilities", with(&|t| t.iter_mut().for_each(|t| t.of = Of::Score))),
        (
            "log-probabilities for scores",
            with(&|t| t.iter_mut().for_each(|t| t.of = Of::LogProbability)),
        ),
        ("one row off", with(&|t| t[0].row -= 1)),
        ("a term is left out", with(&|t| t.truncate(3))),
    ]
}

/// All cases of this room.
#[must_use]
pub fn cases() -> Vec<Case> {
    let run = RunInfo { grad_scale: 0.5, ..RunInfo::default() };
    [(3, 7), (5, 300)]
        .into_iter()
        .map(|(n, v)| {
            let term = |row, id, of, weight| Term { row, id, of, weight };
            let terms = vec![
                term(n - 1, 2, Of::Score, 1.5),
                term(n - 1, v - 1, Of::Score, -0.5),
                term(n - 1, 2, Of::LogProbability, 0.7),
                term(0, 4, Of::LogProbability, -2.0),
            ];
            let (there, back) = (terms.clone(), terms.clone());
            Case {
                name: format!("objective/{n}x{v}"),
                op: Box::new(objective(n, v, &terms)),
                ints: vec![],
                scale: 2.0,
                forward: Box::new(move |x| vec![vec![reference::forward(v, &there, &x.inputs[0])]]),
                backward: Box::new(move |x, d| Gradients {
                    inputs: vec![reference::backward(v, &back, &x.inputs[0], d[0][0])],
                    params: vec![],
                }),
                tolerance: 2e-6,
                wrong: wrong(n, v, &terms),
                run,
            }
        })
        .collect()
}
