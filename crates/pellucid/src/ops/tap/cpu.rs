//! A few ranges of memory: copies and sums at its speed.

use super::{Change, Edit};

/// Changes `x (N)` in place.
pub(super) fn forward(edits: &[Edit], x: &mut [f32]) {
    for edit in edits {
        let x = &mut x[edit.range.clone()];
        match &edit.change {
            Change::Fill(value) => x.fill(*value),
            Change::Scale(factor) => x.iter_mut().for_each(|x| *x *= factor),
            Change::Set(v) => x.copy_from_slice(&v[edit.from..][..x.len()]),
            Change::Add(v) => x.iter_mut().zip(&v[edit.from..]).for_each(|(x, v)| *x += v),
        }
    }
}

/// `dx` from `dy (N)` in place: what acted last is undone first; a value that was set ends what came before it.
pub(super) fn backward(edits: &[Edit], d: &mut [f32]) {
    for edit in edits.iter().rev() {
        let d = &mut d[edit.range.clone()];
        match edit.change {
            Change::Fill(_) | Change::Set(_) => d.fill(0.0),
            Change::Scale(factor) => d.iter_mut().for_each(|d| *d *= factor),
            Change::Add(_) => {}
        }
    }
}
