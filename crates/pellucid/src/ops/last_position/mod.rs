//! Picks each row's last real position, so that the head computes one row of logits and not T.
//!
//! `y[b] = x[b, new[b] - 1]`; a row with `new[b] = 0` gives zeros.
//! Input x (B, T, C), integers new (B), output (B, C). For inference only.
//!
//! This room does not know what the vectors mean.

use crate::autograd::{Inference, InferenceOp};
use crate::error::{Error, Kind, Result};

/// The operation; see the module.
#[derive(Clone, Copy, Debug)]
pub struct LastPosition {
    b: usize,
    t: usize,
    c: usize,
}

impl LastPosition {
    /// For x (B, T, C).
    #[must_use]
    pub fn new(b: usize, t: usize, c: usize) -> Self {
        Self { b, t, c }
    }
}

impl InferenceOp for LastPosition {
    fn name(&self) -> &'static str {
        "last_position"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![self.b * self.t * self.c]
    }
    fn ints(&self) -> Vec<usize> {
        vec![self.b]
    }
    fn outputs(&self) -> Vec<usize> {
        vec![self.b * self.c]
    }
    fn forward(&self, mut operands: Inference<'_>) -> Result<()> {
        let (t, c) = (self.t, self.c);
        for (row, &new) in operands.ints[0].iter().enumerate() {
            let to = &mut operands.outputs[0][row * c..][..c];
            match usize::try_from(new) {
                Ok(0) => to.fill(0.0),
                Ok(n) if n <= t => {
                    to.copy_from_slice(&operands.inputs[0][(row * t + n - 1) * c..][..c]);
                }
                _ => {
                    let message = format!("row {row} has {new} new tokens, but T = {t}");
                    return Err(Error::new(Kind::Shape, "last_position", message));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::{Plan, RunInfo, Session, Tape};
    use crate::backend::cpu::pool::Pool;

    #[derive(Debug)]
    struct Count(usize);
    impl InferenceOp for Count {
        fn name(&self) -> &'static str {
            "count"
        }
        fn inputs(&self) -> Vec<usize> {
            vec![]
        }
        fn outputs(&self) -> Vec<usize> {
            vec![self.0]
        }
        fn forward(&self, mut o: Inference<'_>) -> Result<()> {
            o.outputs[0].iter_mut().enumerate().for_each(|(i, y)| *y = i as f32);
            Ok(())
        }
    }

    #[test]
    fn each_row_gives_its_own_last_position() {
        let mut tape = Tape::new();
        let new = tape.ints(3);
        let x = tape.push_inference(Count(24), &[], &[], &[], &[]).unwrap()[0];
        let y = tape.push_inference(LastPosition::new(3, 4, 2), &[x], &[new], &[], &[]).unwrap()[0];
        tape.keep(y);
        let mut session = Session::new(Plan::infer(tape, 1).unwrap());
        let mut run = |ints: [i32; 3]| {
            session.ints_mut(new).copy_from_slice(&ints);
            session.run(&Pool::new(1), &[], None, RunInfo::default())?;
            Ok::<_, Error>(session.value(y)?.to_vec())
        };
        assert_eq!(run([4, 0, 1]).unwrap(), [6.0, 7.0, 0.0, 0.0, 16.0, 17.0]);
        assert!(run([5, 0, 1]).unwrap_err().to_string().contains("5 new tokens"));
    }
}
