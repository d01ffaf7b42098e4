//! One harness for every operation: the f64 reference judges the fast path, finite differences judge the
//! reference, and named wrong kernels judge the harness.

use crate::autograd::{Backward, Forward, Grad, Op, Operands, RunInfo};
use crate::backend::cpu::pool::Pool;
use crate::tensor::random::Random;

/// Operands in f64 for a reference.
#[derive(Clone, Debug, Default)]
pub struct Values {
    /// Inputs.
    pub inputs: Vec<Vec<f64>>,
    /// Integer inputs.
    pub ints: Vec<Vec<i32>>,
    /// Parameters.
    pub params: Vec<Vec<f64>>,
}

impl Values {
    /// Without integers.
    #[must_use]
    pub fn of(inputs: &[Vec<f64>], params: &[Vec<f64>]) -> Self {
        Self { inputs: inputs.to_vec(), params: params.to_vec(), ints: vec![] }
    }
}

/// Gradients in f64.
#[derive(Clone, Debug, Default)]
pub struct Gradients {
    /// Of the inputs.
    pub inputs: Vec<Vec<f64>>,
    /// Of the parameters.
    pub params: Vec<Vec<f64>>,
}

type ReferenceForward = Box<dyn Fn(&Values) -> Vec<Vec<f64>>>;
type ReferenceBackward = Box<dyn Fn(&Values, &[Vec<f64>]) -> Gradients>;

/// One operation at one shape, with everything needed to judge it.
pub struct Case {
    /// Unique, such as `norm/layer/3x17`.
    pub name: String,
    /// The operation as shipped.
    pub op: Box<dyn Op>,
    /// Integer inputs.
    pub ints: Vec<Vec<i32>>,
    /// Scale of the random normal inputs.
    pub scale: f32,
    /// Outputs from operands, in plain loops (all outputs of the op).
    pub forward: ReferenceForward,
    /// Gradients from operands and gradients of the outputs.
    pub backward: ReferenceBackward,
    /// Largest allowed error, relative to the largest magnitude of the expected tensor (at least 1e-3).
    pub tolerance: f64,
    /// Deliberately wrong versions of the operation, each of which must be caught.
    pub wrong: Vec<(&'static str, Box<dyn Op>)>,
    /// Facts of the run (dropout).
    pub run: RunInfo,
}

/// What an operation produced on its own, without a tape.
#[derive(Clone, Debug, Default)]
pub struct Produced {
    /// Outputs.
    pub outputs: Vec<Vec<f32>>,
    /// Gradients of the inputs.
    pub d_inputs: Vec<Vec<f32>>,
    /// Gradients of the parameters.
    pub d_params: Vec<Vec<f32>>,
}

fn to_f32(x: &[Vec<f64>]) -> Vec<Vec<f32>> {
    x.iter().map(|v| v.iter().map(|&e| e as f32).collect()).collect()
}

fn mutable(x: &mut [Vec<f32>]) -> Operands<&mut [f32]> {
    x.iter_mut().map(Vec::as_mut_slice).collect()
}

fn shown(x: &[Vec<f32>], visible: impl Fn(usize) -> bool) -> Operands<&[f32]> {
    x.iter().enumerate().map(|(i, x)| if visible(i) { &x[..] } else { &[][..] }).collect()
}

/// An operation with memory of its own, as a tape would give it.
struct Rig<'a> {
    op: &'a dyn Op,
    pool: &'a Pool,
    run: RunInfo,
    ints: Operands<&'a [i32]>,
    inputs: Vec<Vec<f32>>,
    params: Vec<Vec<f32>>,
    outputs: Vec<Vec<f32>>,
    saved: Vec<Vec<f32>>,
    scratch: Vec<f32>,
}

impl Rig<'_> {
    fn forward(&mut self) {
        let in_place = self.op.in_place();
        if let Some((i, o)) = in_place {
            self.outputs[o].copy_from_slice(&self.inputs[i]);
        }
        let operands = Forward {
            pool: self.pool,
            run: self.run,
            inputs: shown(&self.inputs, |i| in_place.is_none_or(|p| p.0 != i)),
            ints: self.ints.clone(),
            params: shown(&self.params, |_| true),
            outputs: mutable(&mut self.outputs),
            saved: mutable(&mut self.saved),
            scratch: &mut self.scratch,
        };
        self.op.forward(operands).expect("forward");
        self.scratch.fill(f32::NAN);
    }

    /// Gradients of inputs and parameters.
    fn backward(
        &mut self,
        d_outputs: &[Vec<f32>],
        base: Option<f32>,
    ) -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
        let (op, needs, fill) = (self.op, self.op.needs(), base.unwrap_or(f32::NAN));
        let filled = |x: &Vec<f32>| vec![fill; x.len()];
        let mut d_inputs: Vec<_> = self.inputs.iter().map(filled).collect();
        let mut d_params: Vec<_> = self.params.iter().map(filled).collect();
        let (place, handed_on) = (op.in_place(), op.residual().filter(|_| op.in_place().is_none()));
        if let Some((i, o)) = place {
            d_inputs[i].copy_from_slice(&d_outputs[o]);
        }
        if let Some((i, o)) = handed_on {
            d_inputs[i] = d_outputs[o].iter().map(|d| d + base.unwrap_or(0.0)).collect();
        }
        let accumulate = base.is_some();
        let input_grad = |(i, data): (usize, _)| {
            let in_place = place.is_some_and(|p| p.0 == i);
            let ours = handed_on.is_none_or(|p| p.0 != i);
            ours.then_some(Grad { data, accumulate: accumulate && !in_place })
        };
        let visible = |(o, x)| {
            let read = needs.outputs >> o & 1 == 1 || op.is_loss();
            if read { x } else { &mut [][..] }
        };
        let hidden = |o| place.is_some_and(|p| p.1 == o) || op.is_loss();
        let operands = Backward {
            pool: self.pool,
            run: self.run,
            inputs: shown(&self.inputs, |i| needs.inputs >> i & 1 == 1),
            ints: self.ints.clone(),
            params: shown(&self.params, |_| true),
            outputs: mutable(&mut self.outputs).into_iter().enumerate().map(visible).collect(),
            saved: mutable(&mut self.saved),
            d_outputs: shown(d_outputs, |o| !hidden(o)),
            d_inputs: mutable(&mut d_inputs).into_iter().enumerate().map(input_grad).collect(),
            d_params: d_params.iter_mut().map(|data| Some(Grad { data, accumulate })).collect(),
            scratch: &mut self.scratch,
        };
        op.backward(operands).expect("backward");
        (d_inputs, d_params)
    }
}

/// Runs an operation forward and backward. `base` is what gradients hold before: with `Some`, every
/// gradient is accumulated onto that value; with `None`, it must be overwritten (memory holds NaN).
pub fn produce(
    op: &dyn Op,
    values: &Values,
    d_outputs: &[Vec<f64>],
    run: RunInfo,
    pool: &Pool,
    base: Option<f32>,
) -> Produced {
    let rubbish = |n: &usize| vec![f32::NAN; *n];
    let mut rig = Rig {
        op,
        pool,
        run,
        ints: values.ints.iter().map(Vec::as_slice).collect(),
        inputs: to_f32(&values.inputs),
        params: to_f32(&values.params),
        outputs: op.outputs().iter().map(rubbish).collect(),
        saved: op.saved().iter().map(rubbish).collect(),
        scratch: rubbish(&op.scratch(pool.threads())),
    };
    rig.forward();
    let mut outputs = rig.outputs.clone();
    let (d_inputs, d_params) = rig.backward(&to_f32(d_outputs), base);
    if op.is_loss() {
        // A loss's backward pass writes the outputs too; where they disagree, neither is to be believed.
        for (a, b) in outputs.iter_mut().flatten().zip(rig.outputs.iter().flatten()) {
            let agree = (*a - b).abs() <= 1e-5 * a.abs().max(1.0);
            *a = if agree { *a } else { f32::NAN };
        }
    }
    Produced { outputs, d_inputs, d_params }
}

/// Runs an operation once each way with threads of its own; gradients are overwritten.
#[must_use]
pub fn ran(op: &dyn Op, values: &Values, d: &[f64], threads: usize) -> Produced {
    produce(op, values, &[d.to_vec()], RunInfo::default(), &Pool::new(threads), None)
}

/// `n` random normal numbers.
#[must_use]
pub fn normal(key: u64, n: usize) -> Vec<f64> {
    let mut random = Random::new(key, 0);
    (0..n).map(|_| f64::from(random.normal())).collect()
}

/// The same numbers in f64.
#[must_use]
pub fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| x.into()).collect()
}

/// Two fast paths to one value: demands errors of at most `tolerance` of the largest magnitude (at least 1e-3).
#[cfg(test)]
pub(crate) fn close(what: &str, got: &[f32], want: &[f32], tolerance: f64) {
    let e = error(got, &wide(want), 0.0);
    assert!(e <= tolerance, "{what}: off by {e:.2e}");
}

/// Largest error of `got` against `want + base`, relative to the largest finite magnitude of `want`; NaN if any is.
/// Where infinity is wanted, nothing else will do.
fn error(got: &[f32], want: &[f64], base: f64) -> f64 {
    assert_eq!(got.len(), want.len());
    let finite = want.iter().filter(|x| x.is_finite());
    let largest = finite.fold(1e-3f64, |m, x| m.max(x.abs()));
    let mut worst = 0.0f64;
    for (g, w) in got.iter().zip(want) {
        if w.is_infinite() && f64::from(*g) == *w {
            continue;
        }
        let e = (f64::from(*g) - w - base).abs();
        if e.is_nan() {
            return f64::NAN;
        }
        worst = worst.max(e);
    }
    worst / largest
}

impl Case {
    /// Random operands and upstream gradients, drawn from the case's name.
    fn draw(&self) -> (Values, Vec<Vec<f64>>) {
        let key = self.name.bytes().fold(17u64, |h, b| h.wrapping_mul(31).wrapping_add(b.into()));
        let mut random = Random::new(key, 0);
        let scale = self.scale;
        let mut normal = |n: &usize| -> Vec<f64> {
            (0..*n).map(|_| f64::from(random.normal() * scale)).collect()
        };
        let inputs = self.op.inputs().iter().map(&mut normal).collect();
        let params = self.op.params().iter().map(&mut normal).collect();
        let values = Values { inputs, params, ints: self.ints.clone() };
        let d_outputs = if self.op.is_loss() {
            // Output 0 is the loss; whatever it reports beside that carries no gradient.
            let scale = |i| if i == 0 { f64::from(self.run.grad_scale) } else { 0.0 };
            self.op.outputs().iter().enumerate().map(|(i, n)| vec![scale(i); *n]).collect()
        } else {
            self.op.outputs().iter().map(&mut normal).collect()
        };
        (values, d_outputs)
    }

    /// The fast path (or a wrong one) against the reference: the name of the first tensor that is off.
    pub fn judge(&self, op: &dyn Op, pool: &Pool) -> Result<(), String> {
        let (values, d_outputs) = self.draw();
        let outputs = (self.forward)(&values);
        let gradients = (self.backward)(&values, &d_outputs);
        for base in [None, Some(0.5f32)] {
            let produced = produce(op, &values, &d_outputs, self.run, pool, base);
            let b = f64::from(base.unwrap_or(0.0));
            let place = op.in_place().map(|p| p.0);
            let check = |what: String, got: &[f32], want: &[f64], base: f64| {
                let e = error(got, want, base);
                if e <= self.tolerance {
                    Ok(())
                } else {
                    Err(format!("{}: {what} is off by {e:.2e} (base {base})", self.name))
                }
            };
            for (i, (g, w)) in produced.outputs.iter().zip(&outputs).enumerate() {
                check(format!("output {i}"), g, w, 0.0)?;
            }
            for (i, (g, w)) in produced.d_inputs.iter().zip(&gradients.inputs).enumerate() {
                check(format!("d_input {i}"), g, w, if place == Some(i) { 0.0 } else { b })?;
            }
            for (i, (g, w)) in produced.d_params.iter().zip(&gradients.params).enumerate() {
                check(format!("d_param {i}"), g, w, b)?;
            }
        }
        Ok(())
    }

    /// The reference's backward pass against central differences of its forward pass, in f64.
    pub fn judge_reference(&self) -> Result<(), String> {
        let (values, d_outputs) = self.draw();
        let gradients = (self.backward)(&values, &d_outputs);
        let objective = |v: &Values| -> f64 {
            let outputs = (self.forward)(v);
            outputs
                .iter()
                .zip(&d_outputs)
                .flat_map(|(o, d)| o.iter().zip(d))
                .filter(|(o, _)| !o.is_infinite()) // a masked score is a constant
                .map(|(o, d)| o * d)
                .sum()
        };
        let mut random = Random::new(99, 1);
        for (which, list) in [("input", &gradients.inputs), ("param", &gradients.params)] {
            for (i, gradient) in list.iter().enumerate() {
                for _ in 0..gradient.len().min(24) {
                    let at = random.below(gradient.len());
                    let h = 1e-5;
                    let probe = |delta: f64| {
                        let mut v = values.clone();
                        let target = if which == "input" { &mut v.inputs } else { &mut v.params };
                        target[i][at] += delta;
                        objective(&v)
                    };
                    let slope = (probe(h) - probe(-h)) / (2.0 * h);
                    let e = (slope - gradient[at]).abs()
                        / slope.abs().max(gradient[at].abs()).max(1e-2);
                    if !(e <= 1e-5) {
                        return Err(format!(
                            "{}: reference d_{which} {i}[{at}] is {} but finite differences say {slope}",
                            self.name, gradient[at]
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// All three judgements: reference, fast path (with 1 thread and with 2; twice with 2, equal bits), and that each wrong
    /// kernel is caught.
    pub fn check(&self) -> Result<(), String> {
        self.judge_reference()?;
        let (values, d_outputs) = self.draw();
        let mut first: Option<Produced> = None;
        for threads in [2, 2] {
            let pool = Pool::new(threads);
            self.judge(self.op.as_ref(), &pool)?;
            let again = produce(self.op.as_ref(), &values, &d_outputs, self.run, &pool, None);
            let bits = |p: &Produced| -> Vec<u32> {
                [&p.outputs, &p.d_inputs, &p.d_params]
                    .into_iter()
                    .flat_map(|l| l.iter().flatten().map(|x| x.to_bits()))
                    .collect()
            };
            if first.as_ref().is_some_and(|f| bits(f) != bits(&again)) {
                return Err(format!("{}: two runs differ in bits", self.name));
            }
            first = Some(again);
        }
        self.judge(self.op.as_ref(), &Pool::new(1))?;
        for (name, wrong) in &self.wrong {
            if self.judge(wrong.as_ref(), &Pool::new(1)).is_ok() {
                return Err(format!("{}: the wrong kernel \"{name}\" was not caught", self.name));
            }
        }
        Ok(())
    }
}
