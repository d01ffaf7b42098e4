//! The tape with toy operations: sharing, in-place, residuals and recomputation give the same gradients.

use super::*;
use crate::backend::cpu::pool::Pool;
use crate::error::{Kind, Result};

/// y = w · x elementwise.
#[derive(Clone, Debug)]
struct Scale(usize);
impl Op for Scale {
    fn name(&self) -> &'static str {
        "scale"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![self.0]
    }
    fn params(&self) -> Vec<usize> {
        vec![self.0]
    }
    fn outputs(&self) -> Vec<usize> {
        vec![self.0]
    }
    fn needs(&self) -> Needs {
        Needs { inputs: 1, outputs: 0 }
    }
    fn cheap(&self) -> bool {
        true
    }
    fn forward(&self, mut f: Forward<'_>) -> Result<()> {
        for (i, y) in f.outputs[0].iter_mut().enumerate() {
            *y = f.inputs[0][i] * f.params[0][i];
        }
        Ok(())
    }
    fn backward(&self, mut b: Backward<'_>) -> Result<()> {
        for i in 0..self.0 {
            if let Some(g) = &mut b.d_inputs[0] {
                let old = if g.accumulate { g.data[i] } else { 0.0 };
                g.data[i] = old + b.d_outputs[0][i] * b.params[0][i];
            }
            if let Some(g) = &mut b.d_params[0] {
                let old = if g.accumulate { g.data[i] } else { 0.0 };
                g.data[i] = old + b.d_outputs[0][i] * b.inputs[0][i];
            }
        }
        Ok(())
    }
}

/// y = -x, in place.
#[derive(Clone, Debug)]
struct Negate(usize);
impl Op for Negate {
    fn name(&self) -> &'static str {
        "negate"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![self.0]
    }
    fn outputs(&self) -> Vec<usize> {
        vec![self.0]
    }
    fn needs(&self) -> Needs {
        Needs::default()
    }
    fn in_place(&self) -> Option<(usize, usize)> {
        Some((0, 0))
    }
    fn forward(&self, mut f: Forward<'_>) -> Result<()> {
        assert!(f.inputs[0].is_empty());
        f.outputs[0].iter_mut().for_each(|y| *y = -*y);
        Ok(())
    }
    fn backward(&self, mut b: Backward<'_>) -> Result<()> {
        b.d_inputs[0].as_mut().unwrap().data.iter_mut().for_each(|y| *y = -*y);
        Ok(())
    }
}

/// y = x² + r; r is handed on.
#[derive(Clone, Debug)]
struct SquareAdd(usize);
impl Op for SquareAdd {
    fn name(&self) -> &'static str {
        "square_add"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![self.0; 2]
    }
    fn outputs(&self) -> Vec<usize> {
        vec![self.0]
    }
    fn needs(&self) -> Needs {
        Needs { inputs: 1, outputs: 0 }
    }
    fn residual(&self) -> Option<(usize, usize)> {
        Some((1, 0))
    }
    fn forward(&self, mut f: Forward<'_>) -> Result<()> {
        for (i, y) in f.outputs[0].iter_mut().enumerate() {
            *y = f.inputs[0][i] * f.inputs[0][i] + f.inputs[1][i];
        }
        Ok(())
    }
    fn backward(&self, mut b: Backward<'_>) -> Result<()> {
        if let Some(g) = &mut b.d_inputs[0] {
            for i in 0..self.0 {
                let old = if g.accumulate { g.data[i] } else { 0.0 };
                g.data[i] = old + 2.0 * b.inputs[0][i] * b.d_outputs[0][i];
            }
        }
        Ok(())
    }
}

/// Σ x².
#[derive(Clone, Debug)]
struct Energy(usize);
impl Op for Energy {
    fn name(&self) -> &'static str {
        "energy"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![self.0]
    }
    fn outputs(&self) -> Vec<usize> {
        vec![1]
    }
    fn needs(&self) -> Needs {
        Needs { inputs: 1, outputs: 0 }
    }
    fn is_loss(&self) -> bool {
        true
    }
    fn forward(&self, mut f: Forward<'_>) -> Result<()> {
        f.outputs[0][0] = f.inputs[0].iter().map(|x| x * x).sum();
        Ok(())
    }
    fn backward(&self, mut b: Backward<'_>) -> Result<()> {
        b.outputs[0][0] = b.inputs[0].iter().map(|x| x * x).sum();
        let g = b.d_inputs[0].as_mut().unwrap();
        assert!(!g.accumulate);
        g.data.iter_mut().zip(b.inputs[0]).for_each(|(d, x)| *d = 2.0 * x);
        Ok(())
    }
}

/// A source: copies a parameter to a value.
#[derive(Clone, Debug)]
struct Source(usize);
impl Op for Source {
    fn name(&self) -> &'static str {
        "source"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![]
    }
    fn params(&self) -> Vec<usize> {
        vec![self.0]
    }
    fn outputs(&self) -> Vec<usize> {
        vec![self.0]
    }
    fn needs(&self) -> Needs {
        Needs::default()
    }
    fn forward(&self, mut f: Forward<'_>) -> Result<()> {
        f.outputs[0].copy_from_slice(f.params[0]);
        Ok(())
    }
    fn backward(&self, mut b: Backward<'_>) -> Result<()> {
        let g = b.d_params[0].as_mut().unwrap();
        for i in 0..self.0 {
            let old = if g.accumulate { g.data[i] } else { 0.0 };
            g.data[i] = old + b.d_outputs[0][i];
        }
        Ok(())
    }
}

const N: usize = 3;

/// Shared values, a parameter used twice, an in-place op on a value others read (forces a copy), residuals.
fn tangle() -> (Tape, Value) {
    let mut tape = Tape::new();
    let a = tape.param("a", 0..N, true);
    let b = tape.param("b", 16..16 + N, true);
    let mut x = tape.push(Source(N), &[], &[], &[a]).unwrap()[0];
    for block in 0..3 {
        tape.label(format!("block {block}"));
        tape.begin_segment();
        let s = tape.push(Scale(N), &[x], &[], &[b]).unwrap()[0];
        let n = tape.push(Negate(N), &[s], &[], &[]).unwrap()[0];
        let t = tape.push(Scale(N), &[s], &[], &[a]).unwrap()[0];
        let m = tape.push(Negate(N), &[t], &[], &[]).unwrap()[0];
        let u = tape.push(SquareAdd(N), &[n, m], &[], &[]).unwrap()[0];
        x = tape.push(SquareAdd(N), &[u, x], &[], &[]).unwrap()[0];
        tape.end_segment();
    }
    let loss = tape.push(Energy(N), &[x], &[], &[]).unwrap()[0];
    tape.keep(loss);
    (tape, loss)
}

fn run(recompute: Recompute, weights: &[f32]) -> (f32, Vec<f32>, usize) {
    let (tape, loss) = tangle();
    let mut session = Session::new(
        Plan::train(tape, loss, Training { recompute, accumulates: false }, 1).unwrap(),
    );
    let mut grads = vec![f32::NAN; 32];
    let to = ParamGrads { data: &mut grads, first: true };
    session.run(&Pool::new(1), weights, Some(to), RunInfo::default()).unwrap();
    let value = session.value(loss).unwrap()[0];
    (value, grads, session.bytes())
}

fn weights() -> Vec<f32> {
    let mut w = vec![0.0; 16 + N];
    for i in 0..N {
        w[i] = 0.3 + 0.1 * i as f32;
        w[16 + i] = 0.5 - 0.2 * i as f32;
    }
    w
}

#[test]
fn gradients_agree_with_finite_differences_at_every_level() {
    let w = weights();
    let (tape, loss) = tangle();
    let mut forward = Session::new(Plan::infer(tape, 1).unwrap());
    let mut value = |w: &[f32]| {
        forward.run(&Pool::new(1), w, None, RunInfo::default()).unwrap();
        f64::from(forward.value(loss).unwrap()[0])
    };
    let (reference, grads, _) = run(Recompute::Nothing, &w);
    assert!((f64::from(reference) - value(&w)).abs() < 1e-6);
    for i in (0..N).chain(16..16 + N) {
        let h = 1e-2;
        let mut probe = |d: f32| {
            let mut w = w.clone();
            w[i] += d;
            value(&w)
        };
        // Fourth-order difference: f32 values leave little room for a small h.
        let slope = (8.0 * (probe(h) - probe(-h)) - (probe(2.0 * h) - probe(-2.0 * h)))
            / (12.0 * f64::from(h));
        assert!(
            (slope - f64::from(grads[i])).abs() <= 2e-3 * slope.abs().max(0.05),
            "{i}: {slope} {}",
            grads[i]
        );
    }
    for level in [Recompute::Cheap, Recompute::Blocks] {
        let (value, again, _) = run(level, &w);
        assert_eq!(value.to_bits(), reference.to_bits(), "{level:?}");
        for i in (0..N).chain(16..16 + N) {
            assert_eq!(again[i].to_bits(), grads[i].to_bits(), "{level:?} {i}");
        }
    }
}

#[test]
fn accumulation_adds_to_what_stands_there() {
    let w = weights();
    let (tape, loss) = tangle();
    let training = Training { accumulates: true, ..Training::default() };
    let mut session = Session::new(Plan::train(tape, loss, training, 1).unwrap());
    let mut grads = vec![0.0; 32];
    for first in [true, false] {
        let to = ParamGrads { data: &mut grads, first };
        session.run(&Pool::new(1), &w, Some(to), RunInfo::default()).unwrap();
    }
    let once = run(Recompute::Nothing, &w).1;
    for i in 0..N {
        assert!((grads[i] - 2.0 * once[i]).abs() <= 1e-5 * once[i].abs());
    }
}

#[test]
fn a_parameter_without_gradient_is_an_error_that_names_it() {
    let (mut tape, loss) = tangle();
    tape.param("forgotten.weight", 0..4, true);
    tape.param("frozen.weight", 0..4, false);
    let error = Plan::train(tape, loss, Training::default(), 1).unwrap_err();
    assert_eq!(error.kind(), Kind::Gradient);
    assert!(error.to_string().contains("forgotten.weight"));
    assert!(!error.to_string().contains("frozen.weight"));
}

#[derive(Debug)]
struct Peek;
impl InferenceOp for Peek {
    fn name(&self) -> &'static str {
        "peek"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![N]
    }
    fn outputs(&self) -> Vec<usize> {
        vec![N]
    }
    fn forward(&self, _: Inference<'_>) -> Result<()> {
        Ok(())
    }
}

#[test]
fn an_operation_without_backward_is_refused_in_training() {
    let mut tape = Tape::new();
    let a = tape.param("a", 0..N, true);
    let x = tape.push(Source(N), &[], &[], &[a]).unwrap()[0];
    let y = tape.push_inference(Peek, &[x], &[], &[], &[]).unwrap()[0];
    let loss = tape.push(Energy(N), &[y], &[], &[]).unwrap()[0];
    let error = Plan::train(tape, loss, Training::default(), 1).unwrap_err();
    assert!(error.to_string().contains("peek: has no backward pass"), "{error}");
}

#[test]
fn operands_of_another_size_are_refused_with_both_sizes() {
    let mut tape = Tape::new();
    let a = tape.param("a", 0..N, true);
    let x = tape.push(Source(N), &[], &[], &[a]).unwrap()[0];
    let error = tape.push(Scale(7), &[x], &[], &[a]).unwrap_err().to_string();
    assert!(error.contains("[3]") && error.contains("[7]"), "{error}");
}

#[test]
fn activations_share_the_memory_of_gradients_unless_these_accumulate() {
    let plan = |accumulates| {
        let (tape, loss) = tangle();
        Plan::train(tape, loss, Training { accumulates, ..Training::default() }, 1).unwrap()
    };
    assert!(plan(false).arena_bytes() < plan(true).arena_bytes());
    let mut session = Session::new(plan(false));
    let mut grads = vec![0.0; 32];
    let to = ParamGrads { data: &mut grads, first: false };
    let error = session.run(&Pool::new(1), &weights(), Some(to), RunInfo::default()).unwrap_err();
    assert!(error.to_string().contains("accumulates: true"), "{error}");
}

#[derive(Debug)]
struct TwoStates;
impl InferenceOp for TwoStates {
    fn name(&self) -> &'static str {
        "two_states"
    }
    fn inputs(&self) -> Vec<usize> {
        vec![]
    }
    fn outputs(&self) -> Vec<usize> {
        vec![N]
    }
    fn states(&self) -> Vec<usize> {
        vec![N; 2]
    }
    fn forward(&self, _: Inference<'_>) -> Result<()> {
        Ok(())
    }
}

#[test]
fn states_in_another_order_are_refused() {
    let mut tape = Tape::new();
    let (a, b) = (tape.state(N), tape.state(N));
    let mut push = |states: [State; 2]| tape.push_inference(TwoStates, &[], &[], &[], &states);
    assert!(push([a, b]).is_ok());
    for wrong in [[b, a], [a, a]] {
        assert!(push(wrong).unwrap_err().to_string().contains("order declared"));
    }
}
