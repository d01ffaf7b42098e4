//! What must hold whatever the shape: above all that three steps are the fused operation.

use super::*;
use crate::autograd::{Op, RunInfo};
use crate::backend::cpu::pool::Pool;
use crate::ops::attention::{CrossAttention, Mask, RelativeBias, Rule, SelfAttention};
use crate::ops::harness::{Values, close, normal, ran, wide};
use crate::ops::spoil::Spoil;

#[test]
fn every_case_against_reference_finite_differences_and_wrong_kernels() {
    cases::cases().iter().for_each(|case| case.check().unwrap());
}

/// A pair of forms of the same attention, and what they read.
struct Both {
    steps: (Box<dyn Op>, Softmax, Box<dyn Op>),
    fused: Box<dyn Op>,
    values: Values,
}

/// Of the three steps: the pattern, z, gradients of the inputs and of the table.
type Steps = (Vec<f32>, Vec<f32>, Vec<Vec<f32>>, Vec<Vec<f32>>);

impl Both {
    fn steps(&self, dz: &[f64], threads: usize) -> Steps {
        let (scores, softmax, mix) = &self.steps;
        let none = |op: &dyn Op| vec![0.0; op.outputs()[0]];
        let s = ran(scores.as_ref(), &self.values, &none(scores.as_ref()), threads);
        let of_softmax = Values { inputs: vec![wide(&s.outputs[0])], ..Values::default() };
        let p = ran(softmax, &of_softmax, &none(softmax), threads);
        let kv = self.values.inputs.last().unwrap().clone();
        let of_mix = Values { inputs: vec![wide(&p.outputs[0]), kv], ..Values::default() };
        let mut z = ran(mix.as_ref(), &of_mix, dz, threads);
        let d_p = wide(&z.d_inputs[0]);
        let d_s = wide(&ran(softmax, &of_softmax, &d_p, threads).d_inputs[0]);
        let mut back = ran(scores.as_ref(), &self.values, &d_s, threads);
        let last = back.d_inputs.last_mut().unwrap();
        last.iter_mut().zip(&z.d_inputs[1]).for_each(|(a, b)| *a += b);
        (p.outputs[0].clone(), z.outputs.remove(0), back.d_inputs, back.d_params)
    }
}

fn of_self(dims: AttentionDims, rule: Rule, lengths: &[i32]) -> (Both, SelfAttention) {
    let fused = SelfAttention::new(dims, rule).unwrap();
    let values = Values {
        inputs: vec![normal(1, fused.inputs()[0])],
        ints: if lengths.is_empty() { vec![] } else { vec![lengths.to_vec()] },
        params: fused.params().iter().map(|&n| normal(2, n)).collect(),
    };
    let steps = (
        Box::new(Scores::packed(dims, rule).unwrap()) as Box<dyn Op>,
        Softmax::new(dims.b * dims.h * dims.t, dims.s).unwrap(),
        Box::new(Mix::packed(dims).unwrap()) as Box<dyn Op>,
    );
    (Both { steps, fused: Box::new(fused), values }, fused)
}

fn agree(name: &str, both: &Both, pattern: impl Fn(&Values) -> Vec<f32>) {
    let dz = normal(4, both.fused.outputs()[0]);
    let fused = ran(both.fused.as_ref(), &both.values, &dz, 2);
    let (p, z, d_inputs, d_params) = both.steps(&dz, 2);
    close(&format!("{name}: pattern"), &p, &pattern(&both.values), 5e-6);
    close(&format!("{name}: z"), &z, &fused.outputs[0], 5e-6);
    for (got, want) in d_inputs.iter().zip(&fused.d_inputs) {
        close(&format!("{name}: d_inputs"), got, want, 5e-6);
    }
    assert_eq!(d_params.len(), fused.d_params.len());
    for (got, want) in d_params.iter().zip(&fused.d_params) {
        close(&format!("{name}: d_table"), got, want, 5e-6);
    }
}

fn narrow(x: &[f64]) -> Vec<f32> {
    x.iter().map(|&x| x as f32).collect()
}

#[test]
fn three_steps_are_fused_self_attention() {
    let relative = |bidirectional| RelativeBias { buckets: 8, max_distance: 20, bidirectional };
    let window = Mask { window: Some(7), ..Mask::CAUSAL };
    let hidden = Mask { window: Some(3), ..Mask::PADDING };
    type Kind<'a> = (&'a str, Mask, bool, Option<RelativeBias>, &'a [i32]);
    let rules: [Kind<'_>; 7] = [
        ("causal", Mask::CAUSAL, false, None, &[]),
        ("none", Mask::NONE, false, None, &[]),
        ("window", window, false, None, &[]),
        ("padding", Mask::PADDING, false, None, &[70, 9]),
        ("window and padding: some see nothing", hidden, false, None, &[5, 0]),
        ("alibi", Mask::CAUSAL, true, None, &[]),
        ("relative", Mask::PADDING, false, Some(relative(true)), &[70, 33]),
    ];
    for (name, mask, alibi, bias, lengths) in rules {
        let dims = AttentionDims { b: 2, t: 70, s: 70, h: 4, kv: 2, d: 16 };
        let rule = Rule { alibi, bias, ..Rule::new(mask, 16) };
        let (both, fused) = of_self(dims, rule, lengths);
        agree(name, &both, |values| {
            let qkv = narrow(&values.inputs[0]);
            let table = values.params.first().map_or(vec![], |t| narrow(t));
            let heads = (0..2).flat_map(|b| (0..4).map(move |h| (b, h)));
            heads.flat_map(|(b, h)| fused.pattern(&qkv, &table, lengths, b, h).unwrap()).collect()
        });
    }
}

#[test]
fn three_steps_are_fused_cross_attention() {
    for (mask, lengths) in [(Mask::NONE, &[][..]), (Mask::PADDING, &[130, 0][..])] {
        let dims = AttentionDims { b: 2, t: 9, s: 131, h: 4, kv: 2, d: 16 };
        let rule = Rule::new(mask, 16);
        let fused = CrossAttention::new(dims, rule).unwrap();
        let inputs = fused.inputs().iter().map(|&n| normal(n as u64, n)).collect();
        let ints = if lengths.is_empty() { vec![] } else { vec![lengths.to_vec()] };
        let steps = (
            Box::new(Scores::apart(dims, rule).unwrap()) as Box<dyn Op>,
            Softmax::new(2 * 4 * 9, 131).unwrap(),
            Box::new(Mix::apart(dims).unwrap()) as Box<dyn Op>,
        );
        let values = Values { inputs, ints, params: vec![] };
        let both = Both { steps, fused: Box::new(fused), values };
        agree("cross", &both, |values| {
            let (q, kv) = (narrow(&values.inputs[0]), narrow(&values.inputs[1]));
            let heads = (0..2).flat_map(|b| (0..4).map(move |h| (b, h)));
            heads.flat_map(|(b, h)| fused.pattern(&q, &kv, lengths, b, h).unwrap()).collect()
        });
    }
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let dims = AttentionDims { b: 1, t: 150, s: 150, h: 4, kv: 2, d: 24 };
    let bias = RelativeBias { buckets: 8, max_distance: 20, bidirectional: false };
    let rule = Rule { alibi: true, bias: Some(bias), ..Rule::new(Mask::CAUSAL, 24) };
    let (both, _) = of_self(dims, rule, &[]);
    let dz = normal(4, both.fused.outputs()[0]);
    let one = both.steps(&dz, 1);
    assert!([2, 3, 7].into_iter().all(|threads| both.steps(&dz, threads) == one));
}

/// Forbidden scores, and a row of nothing else, as an op handles them.
fn forbidden_is_a_constant(op: &dyn Op) -> Result<(), String> {
    let never = f64::NEG_INFINITY;
    let x = vec![1.0, never, 3.0, never, never, never, never, -2.0, never];
    let want = reference::softmax(3, &x);
    // What is not seen has a gradient that is no number.
    let dp = vec![0.5, f64::INFINITY, -1.0, f64::NAN, 1.0, 1.0, f64::NAN, 2.0, 1.0];
    let p = ran(op, &Values { inputs: vec![x], ..Values::default() }, &dp, 1);
    let (p, dx) = (&p.outputs[0], &p.d_inputs[0]);
    for (i, (p, want)) in p.iter().zip(&want).enumerate() {
        if !((f64::from(*p) - want).abs() <= 1e-6) {
            return Err(format!("p[{i}] is {p}"));
        }
    }
    let (a, b) = (p[0] * p[2] * 1.5, -p[0] * p[2] * 1.5);
    for (i, want) in [a, 0.0, b, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0].into_iter().enumerate() {
        if !((dx[i] - want).abs() <= 1e-6) {
            return Err(format!("dx[{i}] is {}", dx[i]));
        }
    }
    Ok(())
}

#[test]
fn a_forbidden_score_is_a_constant_and_a_row_of_them_is_nothing() {
    let op = Softmax::new(3, 3).unwrap();
    forbidden_is_a_constant(&op).unwrap();
    let plain = Spoil::forward_done(op, |x| {
        let e: Vec<f32> = x.inputs[0].iter().map(|x| x.exp()).collect();
        for (p, e) in x.outputs[0].chunks_exact_mut(3).zip(e.chunks_exact(3)) {
            p.iter_mut().zip(e).for_each(|(p, x)| *p = x / e.iter().sum::<f32>());
        }
    });
    let passes = Spoil::backward_done(op, |x| {
        let grad = x.d_inputs[0].as_mut().unwrap();
        let items = grad.data.iter_mut().zip(&*x.outputs[0]).zip(x.d_outputs[0]);
        items.for_each(|((d, p), dp)| *d += p * dp);
    });
    assert!(forbidden_is_a_constant(plain.as_ref()).unwrap_err().contains("p[3] is NaN"));
    assert!(forbidden_is_a_constant(passes.as_ref()).is_err());
}

/// NaN is not "nothing to see".
#[test]
fn a_row_with_nan_is_nan() {
    let op = Softmax::new(1, 2).unwrap();
    for x in [[f64::NAN, f64::NEG_INFINITY], [f64::NAN, 1.0]] {
        let values = Values { inputs: vec![x.to_vec()], ..Values::default() };
        let p = ran(&op, &values, &[1.0, 1.0], 1);
        assert!(p.outputs[0][0].is_nan(), "{:?}", p.outputs);
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let good = AttentionDims { b: 2, t: 3, s: 3, h: 4, kv: 2, d: 8 };
    let rule = Rule::new(Mask::CAUSAL, 8);
    let refused = |dims, rule, words: &str| {
        let error = Scores::packed(dims, rule).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    refused(AttentionDims { d: 0, ..good }, rule, "a size is 0");
    refused(AttentionDims { kv: 3, ..good }, rule, "K does not divide H");
    refused(AttentionDims { s: 4, ..good }, rule, "so S is T");
    refused(AttentionDims { b: usize::MAX / 4, ..good }, rule, "address space");
    refused(good, Rule { dropout: 0.1, ..rule }, "dropout is 0.1");
    refused(good, Rule { scale: f32::NAN, ..rule }, "must be finite");
    let bias = RelativeBias { buckets: 8, max_distance: 20, bidirectional: true };
    let error = Scores::apart(good, Rule { bias: Some(bias), ..rule }).unwrap_err();
    assert!(error.to_string().contains("no bias"), "{error}");
    assert!(Mix::packed(AttentionDims { s: 4, ..good }).is_err());
    assert!(Mix::apart(AttentionDims { h: 0, ..good }).is_err());
    assert!(Mix::apart(AttentionDims { kv: 3, ..good }).is_err());
    assert!(Softmax::new(0, 1).is_err() && Softmax::new(usize::MAX, 2).is_err());
}

#[test]
fn lengths_out_of_range_are_refused() {
    let dims = AttentionDims { b: 1, t: 2, s: 2, h: 1, kv: 1, d: 8 };
    let op = Scores::packed(dims, Rule::new(Mask::PADDING, 8)).unwrap();
    let (qkv, mut out) = ([0.0; 48], [0.0; 4]);
    for length in [3, -1] {
        let lengths = [length];
        let operands = crate::autograd::Forward {
            pool: &Pool::new(1),
            run: RunInfo::default(),
            inputs: [&qkv[..]].into_iter().collect(),
            ints: [&lengths[..]].into_iter().collect(),
            params: crate::autograd::Operands::new(),
            outputs: [&mut out[..]].into_iter().collect(),
            saved: crate::autograd::Operands::new(),
            scratch: &mut [],
        };
        let error = op.forward(operands).unwrap_err().to_string();
        assert!(error.contains("must be in 0..=2"), "{error}");
    }
}
