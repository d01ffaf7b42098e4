//! Deliberately wrong kernels.

use super::{Lstm, LstmDims};
use crate::autograd::{Backward, Forward, Needs, Op};
use crate::error::Result;
use crate::ops::spoil::Spoil;

/// What is wrong with a wrong kernel.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// These two gates are exchanged.
    Exchanged(usize, usize),
    /// One padded position is read.
    OneTooLong,
    /// The last states are those after the padding.
    ReadsPadding,
    /// The gradient of this output is forgotten.
    Forgets(usize),
}

#[derive(Debug)]
struct Wrong {
    op: Lstm,
    fault: Fault,
}

impl Wrong {
    fn exchanged(&self, x: &[f32], part: usize) -> Vec<f32> {
        let mut x = x.to_vec();
        if let Fault::Exchanged(a, b) = self.fault {
            for row in x.chunks_exact_mut(4 * part) {
                (0..part).for_each(|j| row.swap(a * part + j, b * part + j));
            }
        }
        x
    }

    fn lengths(&self, lengths: &[i32]) -> Vec<i32> {
        let longest = self.op.dims.t as i32;
        let longer = i32::from(matches!(self.fault, Fault::OneTooLong));
        lengths.iter().map(|l| (l + longer).min(longest)).collect()
    }
}

impl Op for Wrong {
    fn name(&self) -> &'static str {
        "wrong lstm"
    }
    fn inputs(&self) -> Vec<usize> {
        self.op.inputs()
    }
    fn ints(&self) -> Vec<usize> {
        self.op.ints()
    }
    fn params(&self) -> Vec<usize> {
        self.op.params()
    }
    fn outputs(&self) -> Vec<usize> {
        self.op.outputs()
    }
    fn saved(&self) -> Vec<usize> {
        self.op.saved()
    }
    fn scratch(&self, threads: usize) -> usize {
        self.op.scratch(threads)
    }
    fn needs(&self) -> Needs {
        self.op.needs()
    }

    fn forward(&self, x: Forward<'_>) -> Result<()> {
        let LstmDims { c, .. } = self.op.dims;
        let (gates, w) = (self.exchanged(x.inputs[0], c), self.exchanged(x.params[0], c * c));
        let lengths: Vec<_> = x.ints.iter().map(|l| self.lengths(l)).collect();
        let whole: Vec<_> = lengths.iter().map(|l| vec![self.op.dims.t as i32; l.len()]).collect();
        let mut x: Forward<'_> = x; // may now borrow these
        x.inputs[0] = &gates;
        x.params[0] = &w;
        let run = |x: &mut Forward<'_>, lengths: &[Vec<i32>]| {
            self.op.forward(Forward {
                pool: x.pool,
                run: x.run,
                inputs: x.inputs.clone(),
                ints: lengths.iter().map(Vec::as_slice).collect(),
                params: x.params.clone(),
                outputs: x.outputs.iter_mut().map(|o| &mut **o).collect(),
                saved: x.saved.iter_mut().map(|o| &mut **o).collect(),
                scratch: &mut *x.scratch,
            })
        };
        if matches!(self.fault, Fault::ReadsPadding) {
            run(&mut x, &whole)?;
            let wrong = [x.outputs[1].to_vec(), x.outputs[2].to_vec()];
            run(&mut x, &lengths)?;
            x.outputs[1].copy_from_slice(&wrong[0]);
            x.outputs[2].copy_from_slice(&wrong[1]);
            return Ok(());
        }
        run(&mut x, &lengths)
    }

    fn backward(&self, x: Backward<'_>) -> Result<()> {
        let w = self.exchanged(x.params[0], self.op.dims.c.pow(2));
        let lengths: Vec<_> = x.ints.iter().map(|l| self.lengths(l)).collect();
        let zeros = vec![0.0; x.d_outputs[0].len()];
        let mut x: Backward<'_> = x; // may now borrow these
        x.params[0] = &w;
        x.ints = lengths.iter().map(Vec::as_slice).collect();
        if let Fault::Forgets(output) = self.fault {
            let n = x.d_outputs[output].len();
            x.d_outputs[output] = &zeros[..n];
        }
        self.op.backward(x)
    }
}

type Faults = Vec<(&'static str, Box<dyn Op>)>;

/// Everything that may be wrong with `op`. For cases with `T` above 1 and, with lengths, padding after one row at
/// least that is not empty.
pub(super) fn faults(op: Lstm) -> Faults {
    let wrong = |fault| Box::new(Wrong { op, fault }) as Box<dyn Op>;
    let mut faults: Faults = vec![
        ("NaN output", Spoil::nan_output(op)),
        ("sign of dx", Spoil::sign_of_d_input(op, 0)),
        ("ignores accumulate", Spoil::ignores_accumulate(op)),
        ("gradient of W dropped", Spoil::drops_d_param(op, 0)),
        ("forget and input gates exchanged", wrong(Fault::Exchanged(0, 1))),
        ("candidate and output gate exchanged", wrong(Fault::Exchanged(2, 3))),
        ("gradient of the outputs forgotten", wrong(Fault::Forgets(0))),
        ("gradient of the last h forgotten", wrong(Fault::Forgets(1))),
        ("gradient of the last c forgotten", wrong(Fault::Forgets(2))),
        ("other direction", Box::new(Lstm { reverse: !op.reverse, ..op })),
        ("cells not saved", Spoil::backward_begins(op, |x| x.saved[1].fill(0.0))),
        ("gradient of W from the h of the position itself", itself(op)),
    ];
    if op.initial {
        for (i, name) in [(1, "gradient of h dropped"), (2, "gradient of c dropped")] {
            let drop = move |x: &mut Backward<'_>| {
                x.d_inputs[i].as_mut().expect("a gradient").data.fill(0.0);
            };
            faults.push((name, Spoil::backward_done(op, drop)));
        }
    }
    if op.lengths {
        faults.push(("one position of padding read", wrong(Fault::OneTooLong)));
        faults.push(("last states after the padding", wrong(Fault::ReadsPadding)));
    }
    faults
}

fn itself(op: Lstm) -> Box<dyn Op> {
    let LstmDims { c, .. } = op.dims;
    Spoil::backward_done(op, move |x| {
        let d = x.d_params[0].as_mut().expect("a gradient");
        d.data.fill(0.0);
        // The backward pass left the gates' gradients where the gates were.
        for (gates, h) in x.saved[0].chunks_exact(4 * c).zip(x.outputs[0].chunks_exact(c)) {
            for (d, gate) in d.data.chunks_exact_mut(c).zip(gates) {
                d.iter_mut().zip(h).for_each(|(d, h)| *d += gate * h);
            }
        }
    })
}
