//! A place where somebody stands: what flows by may be changed, and its gradient may be written down.
//!
//! ```text
//! y[i] = x[i]                 untouched
//!      = v[i], v              set to given values, or all to one: the gradient ends here, dx[i] = 0
//!      = x[i] + v[i]          added to: dx[i] = dy[i]
//!      = factor · x[i]        scaled: dx[i] = factor · dy[i]
//! ```
//!
//! x and y (N), in place. Saved: nothing (0 bytes). Changes are listed in a [`Slot`] that the tape and whoever asked
//! share; they act in their order. A slot that listens copies `dy`, the gradient of what leaves here.
//!
//! This room does not know what flows by, or why it is changed.

use crate::autograd::{Backward, Forward, Needs, Op};
use crate::error::{Error, Kind, Result};
use std::ops::Range;
use std::sync::Arc;

mod cpu;
/// The definition, in f64.
pub mod reference;

/// Shapes and wrong kernels.
#[cfg(any(test, feature = "cases"))]
pub mod cases;

/// What becomes of elements.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// All become this.
    Fill(f32),
    /// They become these.
    Set(Arc<[f32]>),
    /// These are added.
    Add(Arc<[f32]>),
    /// All are multiplied by this.
    Scale(f32),
}

/// A change of neighbouring elements.
#[derive(Clone, Debug, PartialEq)]
pub struct Edit {
    /// Which.
    pub range: Range<usize>,
    /// What becomes of them; values are `range.len()` many, from `from` on.
    pub change: Change,
    /// Where the values of this range begin in those of the change.
    pub from: usize,
}

/// What is to happen at a place, and what was seen there.
#[derive(Debug, Default)]
pub struct Slot {
    /// In the order in which they act.
    pub edits: Vec<Edit>,
    /// Whether the gradient is written down.
    pub listens: bool,
    /// Gradient of what left here in the last run.
    pub gradient: Vec<f32>,
    /// Passes forward since the slot was made.
    pub fired: u64,
}

/// A slot that a tape and whoever asked share.
pub type Shared = super::slot::Shared<Slot>;

/// The operation; see the module.
#[derive(Clone, Debug)]
pub struct Tap {
    n: usize,
    slot: Shared,
}

impl Tap {
    /// `n` elements, in whatever shape.
    ///
    /// # Errors
    /// `n` is 0.
    pub fn new(n: usize, slot: Shared) -> Result<Self> {
        if n == 0 {
            return Err(Error::new(Kind::Shape, "tap", "N is 0; N must be at least 1"));
        }
        Ok(Self { n, slot })
    }
}

fn check(edits: &[Edit], n: usize) -> Result<()> {
    for edit in edits {
        let Range { start, end } = edit.range;
        let values = match &edit.change {
            Change::Set(values) | Change::Add(values) => values.len(),
            Change::Fill(_) | Change::Scale(_) => usize::MAX,
        };
        let needed = edit.from.checked_add(end.wrapping_sub(start));
        if start > end || end > n || needed.is_none_or(|needed| needed > values) {
            let message = format!("elements {start}..{end} of {n} from value {}", edit.from);
            return Err(Error::new(Kind::Shape, "tap", message)
                .fact(format!("{values} values"))
                .hint("a change was made for another shape"));
        }
    }
    Ok(())
}

impl Op for Tap {
    fn name(&self) -> &'static str {
        "tap"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![self.n]
    }
    fn outputs(&self) -> Vec<usize> {
        vec![self.n]
    }
    fn needs(&self) -> Needs {
        Needs::default()
    }
    fn in_place(&self) -> Option<(usize, usize)> {
        Some((0, 0))
    }
    fn forward(&self, mut o: Forward<'_>) -> Result<()> {
        let mut slot = self.slot.lock();
        check(&slot.edits, self.n)?;
        slot.fired += 1;
        cpu::forward(&slot.edits, o.outputs[0]);
        Ok(())
    }
    fn backward(&self, mut o: Backward<'_>) -> Result<()> {
        let Some(dx) = &mut o.d_inputs[0] else { return Ok(()) };
        let mut slot = self.slot.lock();
        if slot.listens {
            slot.gradient.clear();
            slot.gradient.extend_from_slice(dx.data);
        }
        cpu::backward(&slot.edits, dx.data);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::RunInfo;
    use crate::backend::cpu::pool::Pool;
    use crate::ops::harness::{Values, produce};

    #[test]
    fn cases_hold() {
        cases::cases().iter().for_each(|case| case.check().unwrap());
    }

    #[test]
    fn a_slot_that_listens_keeps_the_gradient_of_what_leaves() {
        let slot = Shared::default();
        let edits = vec![
            Edit { range: 0..2, change: Change::Fill(9.0), from: 0 },
            Edit { range: 1..3, change: Change::Scale(2.0), from: 0 },
        ];
        (slot.lock().edits, slot.lock().listens) = (edits, true);
        let op = Tap::new(4, slot.clone()).unwrap();
        let values = Values { inputs: vec![vec![1.0, 2.0, 3.0, 4.0]], ..Values::default() };
        let upstream = [vec![1.0, 10.0, 100.0, 1000.0]];
        let got = produce(&op, &values, &upstream, RunInfo::default(), &Pool::new(1), None);
        assert_eq!(got.outputs, [[9.0, 18.0, 6.0, 4.0]]);
        assert_eq!(got.d_inputs, [[0.0, 0.0, 200.0, 1000.0]]);
        assert_eq!(slot.lock().gradient, [1.0, 10.0, 100.0, 1000.0]);
        assert_eq!(slot.lock().fired, 1);
    }

    #[test]
    fn changes_of_another_shape_are_refused() {
        let short: Arc<[f32]> = Arc::from([1.0]);
        for (range, change) in [
            (3..5, Change::Fill(0.0)),
            (0..2, Change::Set(short.clone())),
            (0..2, Change::Add(short)),
        ] {
            assert!(check(&[Edit { range, change, from: 0 }], 4).is_err());
        }
        assert!(Tap::new(0, Shared::default()).is_err());
    }
}
