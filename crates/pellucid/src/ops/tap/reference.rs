//! Changes in f64, one element after another.

use super::{Change, Edit};

/// `y (N)` of `x (N)`.
#[must_use]
pub fn forward(edits: &[Edit], x: &[f64]) -> Vec<f64> {
    let mut y = x.to_vec();
    for edit in edits {
        for (i, at) in edit.range.clone().enumerate() {
            y[at] = match &edit.change {
                Change::Fill(value) => f64::from(*value),
                Change::Set(values) => f64::from(values[edit.from + i]),
                Change::Add(values) => y[at] + f64::from(values[edit.from + i]),
                Change::Scale(factor) => y[at] * f64::from(*factor),
            };
        }
    }
    y
}

/// `dx (N)` of `dy (N)`: the changes from the last to the first.
#[must_use]
pub fn backward(edits: &[Edit], dy: &[f64]) -> Vec<f64> {
    let mut dx = dy.to_vec();
    for edit in edits.iter().rev() {
        for at in edit.range.clone() {
            dx[at] = match &edit.change {
                // y = a constant
                Change::Fill(_) | Change::Set(_) => 0.0,
                // y = x + a constant
                Change::Add(_) => dx[at],
                // y = factor · x
                Change::Scale(factor) => dx[at] * f64::from(*factor),
            };
        }
    }
    dx
}
