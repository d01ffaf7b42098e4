//! What must hold whatever the shape.

use super::faults::{Fault, Plain};
use super::*;
use crate::autograd::{Inference, InferenceOp, ParamGrads, Plan, RunInfo, Session, Tape, Training};
use crate::backend::cpu::pool::Pool;
use crate::ops::cross_entropy::LinearCrossEntropy;
use crate::ops::embedding::{Embedding, Positions};
use crate::ops::harness::{Produced, Values, produce};
use crate::ops::linear::Linear;
use crate::ops::lstm::{Lstm, LstmDims};
use crate::tensor::random::Random;
use std::ops::Range;

#[test]
fn cases_hold() {
    for case in cases::cases() {
        case.check().unwrap();
    }
}

/// What the faults are put into is right without them.
#[test]
fn cases_hold_for_the_plain_kernel() {
    for (size, lengths) in [((2, 5, 7, 33, 40), [7, 4]), ((2, 4, 6, 8, 3), [2, 6])] {
        let case = cases::case(size, &lengths, 0.5, false);
        let (b, t, s, c, e) = size;
        let op = AdditiveAttention::new(AdditiveDims { b, t, s, c, e }).unwrap();
        case.judge(&Plain { op, fault: Fault::None }, &Pool::new(1)).unwrap();
        assert!(case.judge(&Plain { op, fault: Fault::NoDelta }, &Pool::new(1)).is_err());
    }
}

fn normal(key: u64, n: usize) -> Vec<f32> {
    let mut random = Random::new(key, 3);
    (0..n).map(|_| random.normal()).collect()
}

fn draw(op: &AdditiveAttention, lengths: &[i32]) -> (Values, Vec<Vec<f64>>) {
    let list = |lens: Vec<usize>, key: u64| -> Vec<Vec<f64>> {
        let one = |(&n, key)| normal(key, n).into_iter().map(f64::from).collect();
        lens.iter().zip(key..).map(one).collect()
    };
    let ints = vec![lengths.to_vec()];
    let values = Values { inputs: list(op.inputs(), 10), params: list(op.params(), 20), ints };
    (values, list(op.outputs(), 30))
}

fn run(op: &AdditiveAttention, (values, d): &(Values, Vec<Vec<f64>>), threads: usize) -> Produced {
    produce(op, values, d, RunInfo::default(), &Pool::new(threads), None)
}

fn bits(p: &Produced) -> Vec<u32> {
    let all = [&p.outputs, &p.d_inputs, &p.d_params].into_iter().flatten().flatten();
    all.map(|x| x.to_bits()).collect()
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let op = AdditiveAttention::new(AdditiveDims { b: 9, t: 7, s: 11, c: 40, e: 24 }).unwrap();
    let operands = draw(&op, &[11, 3, 0, 7, 1, 11, 10, 2, 5]);
    let one = bits(&run(&op, &operands, 1));
    for threads in [2, 3, 7] {
        assert!(one == bits(&run(&op, &operands, threads)), "{threads} threads");
    }
}

#[test]
fn padding_is_never_read() {
    let (t, s, c, e) = (3, 6, 8, 5);
    let op = AdditiveAttention::new(AdditiveDims { b: 2, t, s, c, e }).unwrap();
    let (mut values, d) = draw(&op, &[4, 0]);
    let clean = run(&op, &(values.clone(), d.clone()), 2);
    for (x, width) in [(1, c), (2, e)] {
        values.inputs[x][4 * width..].fill(f64::NAN);
        assert!(clean.d_inputs[x][4 * width..].iter().all(|d| *d == 0.0));
    }
    assert_eq!(bits(&clean), bits(&run(&op, &(values, d), 2)));
    assert!(clean.outputs[0][t * e..].iter().all(|y| *y == 0.0), "an empty source gives 0");
    assert!(clean.d_inputs[0][t * c..].iter().all(|d| *d == 0.0));
}

#[test]
fn large_scores_do_not_overflow() {
    let op = AdditiveAttention::new(AdditiveDims { b: 1, t: 1, s: 3, c: 4, e: 1 }).unwrap();
    let values = Values {
        inputs: vec![vec![9.0; 4], vec![9.0; 12], vec![1.0, 2.0, 6.0]],
        params: vec![vec![100.0; 4]],
        ints: vec![vec![3]],
    };
    let p = run(&op, &(values, vec![vec![1.0]]), 1);
    assert!((p.outputs[0][0] - 3.0).abs() <= 1e-6, "{:?}", p.outputs);
    assert!(p.d_inputs.iter().flatten().all(|d| d.is_finite()));
}

#[test]
fn what_is_remembered_and_what_is_seen_agree_with_training_to_the_bit() {
    let dims = AdditiveDims { b: 2, t: 5, s: 7, c: 33, e: 12 };
    let op = AdditiveAttention::new(dims).unwrap();
    let lengths = [7, 3];
    let (values, d) = draw(&op, &lengths);
    let want = run(&op, &(values.clone(), d), 1).outputs.remove(0);
    let narrow = |x: &[f64]| -> Vec<f32> { x.iter().map(|&x| x as f32).collect() };
    let [q, mut k, mut said] = [0, 1, 2].map(|i| narrow(&values.inputs[i]));
    let v = narrow(&values.params[0]);
    let pool = Pool::new(2);

    let pattern = op.pattern(&pool, (&q, &k, &v), &lengths).unwrap();
    for (row, p) in pattern.chunks_exact(7).enumerate() {
        assert!((p.iter().sum::<f32>() - 1.0).abs() <= 1e-6);
        for j in 0..12 {
            let mean: f32 = (0..7).map(|s| p[s] * said[(row / 5 * 7 + s) * 12 + j]).sum();
            assert!((mean - want[row * 12 + j]).abs() <= 1e-6);
        }
    }
    assert!(op.pattern(&pool, (&q, &k, &v[1..]), &lengths).is_err());
    assert!(op.pattern(&pool, (&q, &k, &v), &[7, 8]).is_err());

    for i in 0..5 {
        // One query at a time.
        let step = RememberedAdditive::new(AdditiveDims { t: 1, ..dims }).unwrap();
        let q: Vec<f32> = q.chunks_exact(5 * 33).flat_map(|q| q[i * 33..][..33].to_vec()).collect();
        let mut out = vec![f32::NAN; 2 * 12];
        let mut scratch = vec![f32::NAN; step.scratch(2)];
        let mut forward = |lengths: &[i32]| {
            step.forward(Inference {
                pool: &pool,
                inputs: [&q[..]].into_iter().collect(),
                ints: [lengths].into_iter().collect(),
                params: [&v[..]].into_iter().collect(),
                outputs: [&mut out[..]].into_iter().collect(),
                states: [&mut k[..], &mut said[..]].into_iter().collect(),
                scratch: &mut scratch,
            })
        };
        assert!(forward(&[7, -1]).unwrap_err().to_string().contains("source 1 is -1"));
        forward(&lengths).unwrap();
        let want: Vec<f32> =
            want.chunks_exact(5 * 12).flat_map(|y| y[i * 12..][..12].to_vec()).collect();
        assert_eq!(out, want);
    }
}

#[test]
fn sizes_of_zero_are_refused() {
    let dims = AdditiveDims { b: 1, t: 1, s: 0, c: 1, e: 1 };
    assert!(AdditiveAttention::new(dims).unwrap_err().to_string().contains("S=0"));
    assert!(RememberedAdditive::new(dims).is_err());
}

const B: usize = 16;
const T: usize = 5;
const C: usize = 24;
const VOCAB: usize = 6;

/// An encoder and a decoder of one LSTM each with additive attention between them, and its weights.
struct Translator {
    session: Session,
    pool: Pool,
    ints: [crate::autograd::Ints; 4],
    loss: crate::autograd::Value,
    weights: Vec<f32>,
    /// Where each parameter lies.
    params: Vec<Range<usize>>,
}

impl Translator {
    fn read(&mut self, lines: [Vec<i32>; 4]) {
        for (ints, line) in self.ints.into_iter().zip(lines) {
            self.session.ints_mut(ints).copy_from_slice(&line);
        }
    }

    /// The loss; its gradients are written.
    fn run(&mut self, grads: &mut [f32]) -> Result<f32> {
        let run = RunInfo { training: true, seed: 1, step: 0, grad_scale: 1.0 };
        let wanted = ParamGrads { data: grads, first: true };
        self.session.run(&self.pool, &self.weights, Some(wanted), run)?;
        Ok(self.session.value(self.loss)?[0])
    }
}

fn translator() -> Result<Translator> {
    let mut tape = Tape::new();
    let (mut end, mut params) = (0, vec![]);
    let sizes = [
        VOCAB * C,
        4 * C * C,
        4 * C,
        4 * C * C,
        4 * C * C,
        4 * C,
        4 * C * C,
        C * C,
        C * C,
        C,
        C * C,
        VOCAB * C,
    ];
    let [token, e_ih, e_bias, e_hh, d_ih, d_bias, d_hh, q, k, v, out, head] = sizes.map(|n| {
        params.push(end..end + n);
        end += n.next_multiple_of(16);
        tape.param("p", params[params.len() - 1].clone(), true)
    });
    let ints = [B * T, B, B * T, B * T].map(|n| tape.ints(n));
    let [source, lengths, target, next] = ints;
    let begin = tape.ints(B);
    let embed = || Embedding::new(B, T, C, VOCAB, Positions::None, 1.0);
    let linear = |o| Linear::new(B * T, C, o);
    let lstm = Lstm { lengths: true, ..Lstm::new(LstmDims { b: B, t: T, c: C })? };

    let x = tape.push(embed(), &[], &[source, begin], &[token])?[0];
    let x = tape.push(Linear { bias: true, ..linear(4 * C) }, &[x], &[], &[e_ih, e_bias])?[0];
    let encoded = tape.push(lstm, &[x], &[lengths], &[e_hh])?;
    let keys = tape.push(linear(C), &[encoded[0]], &[], &[k])?[0];
    let x = tape.push(embed(), &[], &[target, begin], &[token])?[0];
    let x = tape.push(Linear { bias: true, ..linear(4 * C) }, &[x], &[], &[d_ih, d_bias])?[0];
    let decoder = Lstm { lengths: false, initial: true, ..lstm };
    let states = tape.push(decoder, &[x, encoded[1], encoded[2]], &[], &[d_hh])?[0];
    let asked = tape.push(linear(C), &[states], &[], &[q])?[0];
    let attention = AdditiveAttention::new(AdditiveDims { b: B, t: T, s: T, c: C, e: C })?;
    let context = tape.push(attention, &[asked, keys, encoded[0]], &[lengths], &[v])?[0];
    let joined = Linear { residual: true, ..linear(C) };
    let joined = tape.push(joined, &[context, states], &[], &[out])?[0];
    let loss = LinearCrossEntropy::new(B * T, C, VOCAB);
    let loss = tape.push(loss, &[joined], &[next], &[head])?[0];
    tape.keep(loss);
    let session = Session::new(Plan::train(tape, loss, Training::default(), 2)?);
    let weights = normal(5, end).iter().map(|w| 0.2 * w).collect();
    Ok(Translator { session, pool: Pool::new(2), ints, loss, weights, params })
}

/// Sources of different lengths, whose translation is the source read backwards and a 0.
fn lines(random: &mut Random) -> [Vec<i32>; 4] {
    let mut ints = [vec![0; B * T], vec![0; B], vec![0; B * T], vec![-100; B * T]];
    for b in 0..B {
        let length = 1 + random.below(T - 1);
        ints[1][b] = length as i32;
        for i in 0..length {
            let word = 1 + random.below(VOCAB - 1) as i32;
            ints[0][b * T + i] = word;
            ints[3][b * T + length - 1 - i] = word;
            ints[2][b * T + length - i] = word;
        }
        ints[3][b * T + length] = 0;
    }
    ints
}

/// The loss changes along each parameter's gradient as the gradient says.
#[test]
fn gradients_of_an_encoder_decoder_are_slopes() -> Result<()> {
    let mut it = translator()?;
    it.read(lines(&mut Random::new(4, 0)));
    let mut grads = vec![0.0; it.weights.len()];
    it.run(&mut grads)?;
    let (weights, mut others) = (it.weights.clone(), grads.clone());
    for (i, param) in it.params.clone().into_iter().enumerate() {
        let norm = grads[param.clone()].iter().map(|g| g * g).sum::<f32>().sqrt();
        let mut probe = |step: f32| {
            it.weights.copy_from_slice(&weights);
            let steps = it.weights[param.clone()].iter_mut().zip(&grads[param.clone()]);
            steps.for_each(|(w, g)| *w += step * g / norm);
            it.run(&mut others)
        };
        let step = 0.02;
        let slope = (probe(step)? - probe(-step)?) / (2.0 * step);
        let most = 0.01 * norm + 2e-5;
        assert!((slope - norm).abs() <= most, "parameter {i}: {norm}, but slope {slope}");
    }
    Ok(())
}

#[test]
fn an_encoder_decoder_learns_to_read_backwards() -> Result<()> {
    let (mut it, mut random) = (translator()?, Random::new(3, 0));
    let n = it.weights.len();
    let (mut grads, mut squares) = (vec![0.0; n], vec![0.0f32; n]);
    let mut losses = vec![];
    for _ in 0..800 {
        it.read(lines(&mut random));
        losses.push(it.run(&mut grads)?);
        // RMSProp.
        for ((w, g), s) in it.weights.iter_mut().zip(&grads).zip(&mut squares) {
            *s = 0.95 * *s + 0.05 * g * g;
            *w -= 0.005 * g / (s.sqrt() + 1e-4);
        }
    }
    let last = losses[780..].iter().sum::<f32>() / 20.0;
    assert!(losses[0] > 1.5 && last < 0.15, "{} .. {last}", losses[0]);
    Ok(())
}
