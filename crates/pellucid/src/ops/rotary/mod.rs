//! Rotary positions: each pair of a head's columns is turned by an angle proportional to its position, so that
//! the product of a query and a key depends only on how far apart they stand.
//!
//! `(a, b) -> (a cos φ - b sin φ, b cos φ + a sin φ)` with `φ = (past + t) · f_i`, `f_i = theta^(-2i/R)`
//! (Su et al., "RoFormer", 2021; frequencies may be scaled for longer contexts, see [`Scaling`]).
//!
//! Input and output, in place: rows `(B, T, row)`, each holding `heads` heads of width `D` from column `first`
//! (queries and keys of a packed `qkv` row; the other columns pass through). Integers: `past (B)`, positions
//! that come before `t = 0`. Saved: nothing (0 bytes); the backward pass turns the gradient by `-φ`.

#[cfg(any(test, feature = "cases"))]
mod cases;
mod cpu;
/// The definition.
pub mod reference;
mod table;

#[cfg(any(test, feature = "cases"))]
pub use cases::cases;
pub use cpu::Dims;
pub use table::{Scaling, Table};

use crate::autograd::{Backward, Forward, Needs, Op};
use crate::error::{Error, Kind, Result};
use std::sync::Arc;

/// Which columns form a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `(i, i + R/2)`: Llama and NeoX as Hugging Face stores them.
    Half,
    /// `(2i, 2i + 1)`: RoFormer, GPT-J.
    Interleaved,
}

/// The operation. See the module for shapes.
#[derive(Clone, Debug)]
pub struct Rotary {
    dims: Dims,
    style: Style,
    table: Arc<Table>,
}

impl Rotary {
    /// Errors (`Shape`) when the heads do not fit into a row or the rotated columns into a head.
    /// All layers share one `table`.
    pub fn new(dims: Dims, style: Style, table: Arc<Table>) -> Result<Self> {
        let end = dims.first + dims.heads * dims.width;
        if end > dims.row || table.rotary() > dims.width {
            return Err(Error::new(
                Kind::Shape,
                "rotary",
                format!(
                    "{} rotated columns of {} heads of width {} from column {} in rows of {}; heads must lie in the row and rotated columns in the head",
                    table.rotary(),
                    dims.heads,
                    dims.width,
                    dims.first,
                    dims.row
                ),
            ));
        }
        Ok(Self { dims, style, table })
    }

    fn check(&self, past: &[i32]) -> Result<()> {
        let (t, max) = (self.dims.t, self.table.max());
        for (row, &past) in past.iter().enumerate() {
            if past < 0 || past as usize + t > max {
                return Err(Error::new(
                    Kind::Input,
                    "rotary",
                    format!(
                        "positions {past}..{} of row {row}; the table ends at {max}",
                        i64::from(past) + t as i64
                    ),
                )
                .hint("shorten the text, or load the model with a longer context"));
            }
        }
        Ok(())
    }

    fn turn(
        &self,
        pool: &crate::backend::cpu::pool::Pool,
        past: &[i32],
        x: &mut [f32],
        back: bool,
    ) -> Result<()> {
        self.check(past)?;
        let table = &self.table;
        cpu::rotate(pool, self.dims, self.style, table.rotary(), past, x, back, &|p| table.row(p));
        Ok(())
    }
}

impl Op for Rotary {
    fn name(&self) -> &'static str {
        "rotary"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![self.dims.b * self.dims.t * self.dims.row]
    }
    fn ints(&self) -> Vec<usize> {
        vec![self.dims.b]
    }
    fn outputs(&self) -> Vec<usize> {
        self.inputs()
    }
    fn needs(&self) -> Needs {
        Needs::default()
    }
    fn in_place(&self) -> Option<(usize, usize)> {
        Some((0, 0))
    }
    fn flops(&self) -> (u64, u64) {
        let d = &self.dims;
        let one = 3 * (d.b * d.t * d.heads * self.table.rotary()) as u64;
        (one, one)
    }
    fn forward(&self, mut operands: Forward<'_>) -> Result<()> {
        self.turn(operands.pool, operands.ints[0], operands.outputs[0], false)
    }
    fn backward(&self, mut operands: Backward<'_>) -> Result<()> {
        match &mut operands.d_inputs[0] {
            Some(grad) => self.turn(operands.pool, operands.ints[0], grad.data, true),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::pool::Pool;

    #[test]
    fn cases_hold() {
        for case in cases() {
            case.check().unwrap();
        }
    }

    #[test]
    fn positions_beyond_the_table_are_refused() {
        let table = Table::new(4, 1e4, Scaling::None, 8).unwrap();
        let dims = Dims { b: 2, t: 3, row: 4, first: 0, heads: 1, width: 4 };
        let op = Rotary::new(dims, Style::Half, table.clone()).unwrap();
        let mut x = [0.5; 24];
        let error = op.turn(&Pool::new(1), &[5, 6], &mut x, false).unwrap_err();
        assert_eq!(
            error.to_string().lines().next().unwrap(),
            "rotary: positions 6..9 of row 1; the table ends at 8"
        );
        assert!(op.turn(&Pool::new(1), &[-1, 0], &mut x, false).is_err());
        assert!(op.turn(&Pool::new(1), &[i32::MAX, 0], &mut x, false).is_err());
        assert!(Rotary::new(Dims { first: 1, ..dims }, Style::Half, table).is_err());
        assert!(Table::new(5, 1e4, Scaling::None, 8).is_err());
        assert!(Table::new(4, f64::NAN, Scaling::None, 8).is_err());
        assert!(Table::new(4, 1e4, Scaling::Linear { factor: 0.0 }, 8).is_err());
    }

    #[test]
    fn products_depend_on_distance_only() {
        let table = Table::new(6, 1e4, Scaling::None, 4096).unwrap();
        let dims = Dims { b: 1, t: 1, row: 6, first: 0, heads: 1, width: 6 };
        for style in [Style::Half, Style::Interleaved] {
            let op = Rotary::new(dims, style, table.clone()).unwrap();
            let product = |at: i32, distance: i32| -> f32 {
                let mut q = [0.3, -1.0, 0.7, 0.2, 1.1, -0.4];
                let mut k = [1.0, 0.5, -0.6, 0.9, 0.1, 0.8];
                op.turn(&Pool::new(1), &[at + distance], &mut q, false).unwrap();
                op.turn(&Pool::new(1), &[at], &mut k, false).unwrap();
                q.iter().zip(&k).map(|(a, b)| a * b).sum()
            };
            assert!((product(0, 5) - product(3000, 5)).abs() < 1e-5);
            assert!((product(0, 5) - product(0, 6)).abs() > 1e-3);
        }
    }
}

// This room does not know attention, models, or where a row came from.
