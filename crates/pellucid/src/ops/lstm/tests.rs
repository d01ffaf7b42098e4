//! What must hold whatever the shape.

use super::*;
use crate::autograd::{Inference, InferenceOp, RunInfo};
use crate::backend::cpu::pool::Pool;
use crate::ops::harness::{Produced, Values, produce};
use crate::tensor::random::Random;
use serde_json::Value;

#[test]
fn cases_hold() {
    for case in cases::cases() {
        case.check().unwrap();
    }
}

fn normal(key: u64, n: usize) -> Vec<f32> {
    let mut random = Random::new(key, 3);
    (0..n).map(|_| 0.3 * random.normal()).collect()
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| x.into()).collect()
}

fn draw(op: &Lstm, lengths: &[i32]) -> (Values, Vec<Vec<f64>>) {
    let list = |lens: Vec<usize>, key: u64| -> Vec<Vec<f64>> {
        lens.iter().zip(key..).map(|(&n, key)| wide(&normal(key, n))).collect()
    };
    let ints = if op.lengths { vec![lengths.to_vec()] } else { vec![] };
    let values = Values { inputs: list(op.inputs(), 10), params: list(op.params(), 20), ints };
    (values, list(op.outputs(), 30))
}

fn run(op: &Lstm, (values, d): &(Values, Vec<Vec<f64>>), threads: usize) -> Produced {
    produce(op, values, d, RunInfo::default(), &Pool::new(threads), None)
}

fn bits(p: &Produced) -> Vec<u32> {
    let all = [&p.outputs, &p.d_inputs, &p.d_params].into_iter().flatten().flatten();
    all.map(|x| x.to_bits()).collect()
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let dims = LstmDims { b: 67, t: 5, c: 96 };
    for reverse in [false, true] {
        let op = Lstm { initial: true, lengths: true, reverse, ..Lstm::new(dims).unwrap() };
        let lengths: Vec<i32> = (0..67).map(|b| b % 6).collect();
        let operands = draw(&op, &lengths);
        let one = bits(&run(&op, &operands, 1));
        for threads in [2, 3, 7] {
            assert!(one == bits(&run(&op, &operands, threads)), "{threads} threads");
        }
    }
}

#[test]
fn padding_is_never_read() {
    let (b, t, c) = (3, 6, 8);
    let lengths = [4, 0, 6];
    for reverse in [false, true] {
        let op = Lstm { lengths: true, reverse, ..Lstm::new(LstmDims { b, t, c }).unwrap() };
        let (mut values, mut d) = draw(&op, &lengths);
        let clean = run(&op, &(values.clone(), d.clone()), 2);
        for (row, &length) in lengths.iter().enumerate() {
            let padding = row * t + length as usize..(row + 1) * t;
            values.inputs[0][padding.start * 4 * c..padding.end * 4 * c].fill(f64::NAN);
            d[0][padding.start * c..padding.end * c].fill(f64::NAN);
            assert!(clean.outputs[0][padding.start * c..padding.end * c].iter().all(|y| *y == 0.0));
            assert!(
                clean.d_inputs[0][padding.start * 4 * c..padding.end * 4 * c]
                    .iter()
                    .all(|d| *d == 0.0)
            );
        }
        assert_eq!(bits(&clean), bits(&run(&op, &(values, d), 2)));
    }
}

/// The reversed operation is the other one on reversed rows.
#[test]
fn reversing_is_reading_reversed_rows() {
    let (b, t, c) = (3, 6, 8);
    let lengths = [4, 6, 1];
    let op = Lstm { lengths: true, ..Lstm::new(LstmDims { b, t, c }).unwrap() };
    let turn = |x: &mut [f64], width: usize| {
        for (row, &length) in x.chunks_exact_mut(t * width).zip(&lengths) {
            let rows: Vec<Vec<f64>> = row.chunks_exact(width).map(<[f64]>::to_vec).collect();
            for (to, from) in row.chunks_exact_mut(width).zip(rows[..length as usize].iter().rev())
            {
                to.copy_from_slice(from);
            }
        }
    };
    let (mut values, mut d) = draw(&op, &lengths);
    let want = run(&op, &(values.clone(), d.clone()), 1);
    turn(&mut values.inputs[0], 4 * c);
    turn(&mut d[0], c);
    let got = run(&Lstm { reverse: true, ..op }, &(values, d), 1);
    let mut turned = wide(&got.outputs[0]);
    turn(&mut turned, c);
    assert_eq!(turned, wide(&want.outputs[0]));
    assert_eq!((&got.outputs[1], &got.outputs[2]), (&want.outputs[1], &want.outputs[2]));
    let mut turned = wide(&got.d_inputs[0]);
    turn(&mut turned, 4 * c);
    assert_eq!(turned, wide(&want.d_inputs[0]));
}

/// States of a [`CachedLstm`] and everything to run it.
struct Cache {
    c: usize,
    w: Vec<f32>,
    h: Vec<f32>,
    cells: Vec<f32>,
    past: Vec<i32>,
    starts_from_state: bool,
}

impl Cache {
    fn new(b: usize, c: usize, w: Vec<f32>) -> Self {
        let rubbish = vec![f32::NAN; b * c];
        Self {
            c,
            w,
            h: rubbish.clone(),
            cells: rubbish,
            past: vec![0; b],
            starts_from_state: false,
        }
    }

    fn feed(&mut self, x: &[f32], new: &[i32]) -> Result<Vec<f32>> {
        let (b, c) = (self.past.len(), self.c);
        let dims = LstmDims { b, t: x.len() / (b * 4 * c), c };
        let op = CachedLstm::new(dims, self.starts_from_state, Precision::F32)?;
        let mut out = vec![f32::NAN; op.outputs()[0]];
        let mut scratch = vec![f32::NAN; op.scratch(2)];
        op.forward(Inference {
            pool: &Pool::new(2),
            inputs: [x].into_iter().collect(),
            ints: [&self.past[..], new].into_iter().collect(),
            params: [&self.w[..]].into_iter().collect(),
            outputs: [&mut out[..]].into_iter().collect(),
            states: [&mut self.h[..], &mut self.cells[..]].into_iter().collect(),
            scratch: &mut scratch,
        })?;
        self.past.iter_mut().zip(new).for_each(|(p, n)| *p += n);
        Ok(out)
    }
}

/// Positions `from..from + n` of rows of `t`.
fn slice(x: &[f32], (t, width): (usize, usize), from: usize, n: usize) -> Vec<f32> {
    x.chunks_exact(t * width)
        .flat_map(|row| row[from * width..(from + n) * width].to_vec())
        .collect()
}

/// To the bit with few rows; with more, a single step may add up in another order than a prompt.
fn same(b: usize, x: &[f32], y: &[f32]) -> bool {
    let most = if b > 8 { 1e-6 } else { 0.0 };
    x.len() == y.len() && x.iter().zip(y).all(|(x, y)| (x - y).abs() <= most)
}

#[test]
fn steps_equal_training_however_positions_are_cut() {
    let (t, c) = (11, 24);
    // Products of many rows have another kernel.
    for (b, starts_from_state) in [(3, false), (3, true), (13, true)] {
        let op = Lstm { initial: starts_from_state, ..Lstm::new(LstmDims { b, t, c }).unwrap() };
        let operands = draw(&op, &[]);
        let want = run(&op, &operands, 1);
        let narrow = |x: &[f64]| -> Vec<f32> { x.iter().map(|&x| x as f32).collect() };
        let x = narrow(&operands.0.inputs[0]);
        for cuts in [vec![t], vec![1; t], vec![4, 1, 6], vec![10, 1]] {
            let mut cache = Cache::new(b, c, narrow(&operands.0.params[0]));
            cache.starts_from_state = starts_from_state;
            if starts_from_state {
                cache.h = narrow(&operands.0.inputs[1]);
                cache.cells = narrow(&operands.0.inputs[2]);
            }
            let mut at = 0;
            for n in cuts {
                let y = cache.feed(&slice(&x, (t, 4 * c), at, n), &vec![n as i32; b]).unwrap();
                assert!(same(b, &y, &slice(&want.outputs[0], (t, c), at, n)));
                at += n;
            }
            assert!(same(b, &cache.h, &want.outputs[1]) && same(b, &cache.cells, &want.outputs[2]));
        }
    }
}

#[test]
fn rows_with_fewer_new_positions_wait() {
    let (b, c) = (3, 8);
    let w = normal(1, 4 * c * c);
    let mut together = Cache::new(b, c, w.clone());
    let mut alone: Vec<_> = (0..b).map(|_| Cache::new(1, c, w.clone())).collect();
    for (round, new) in [[5, 1, 0], [1, 1, 9], [0, 3, 1], [2, 0, 2]].into_iter().enumerate() {
        let t = *new.iter().max().unwrap() as usize;
        let mut x = normal(40 + round as u64, b * t * 4 * c);
        for (row, &new) in x.chunks_exact_mut(t * 4 * c).zip(&new) {
            row[new as usize * 4 * c..].fill(f32::NAN);
        }
        let y = together.feed(&x, &new).unwrap();
        for (row, cache) in alone.iter_mut().enumerate() {
            let n = new[row] as usize;
            let mine = &y[row * t * c..(row + 1) * t * c];
            assert!(mine[n * c..].iter().all(|y| *y == 0.0), "padding is 0");
            if n > 0 {
                let x = &x[row * t * 4 * c..][..n * 4 * c];
                assert_eq!(cache.feed(x, &[n as i32]).unwrap(), mine[..n * c]);
            }
        }
    }
}

#[test]
fn a_past_of_zero_begins_again() {
    let c = 4;
    let mut cache = Cache::new(1, c, normal(1, 4 * c * c));
    let x = normal(2, 3 * 4 * c);
    let first = cache.feed(&x, &[3]).unwrap();
    assert!(cache.feed(&x, &[3]).unwrap() != first);
    cache.past = vec![0];
    assert_eq!(cache.feed(&x, &[3]).unwrap(), first);
}

#[test]
fn what_does_not_fit_is_refused() {
    assert!(Lstm::new(LstmDims { b: 1, t: 0, c: 1 }).unwrap_err().to_string().contains("T=0"));
    let op = Lstm { lengths: true, ..Lstm::new(LstmDims { b: 2, t: 3, c: 1 }).unwrap() };
    for lengths in [[3, 4], [-1, 0]] {
        let (mut y, mut h, mut c) = (vec![0.0; 6], vec![0.0; 2], vec![0.0; 2]);
        let (mut gates, mut cells) = (vec![0.0; 24], vec![0.0; 6]);
        let error = op.forward(Forward {
            pool: &Pool::new(1),
            run: RunInfo::default(),
            inputs: [&[0.0; 24][..]].into_iter().collect(),
            ints: [&lengths[..]].into_iter().collect(),
            params: [&[0.0; 4][..]].into_iter().collect(),
            outputs: [&mut y[..], &mut h[..], &mut c[..]].into_iter().collect(),
            saved: [&mut gates[..], &mut cells[..]].into_iter().collect(),
            scratch: &mut [0.0; 9],
        });
        assert!(error.unwrap_err().to_string().contains("must be in 0..=3"));
    }
    let mut cache = Cache::new(2, 1, vec![0.0; 4]);
    assert!(cache.feed(&[0.0; 16], &[3, 0]).unwrap_err().to_string().contains("new 3, T 2"));
    assert!(cache.feed(&[0.0; 16], &[0, -1]).is_err());
    cache.past[0] = -1;
    assert!(cache.feed(&[0.0; 16], &[1, 1]).is_err());
}

fn lists(v: &Value) -> Vec<Vec<f64>> {
    let numbers = |v: &Value| v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
    v.as_array().unwrap().iter().map(numbers).collect()
}

fn judge(case: &Value, got: &Produced) -> Result<(), String> {
    let groups =
        [("outputs", &got.outputs), ("d_inputs", &got.d_inputs), ("d_params", &got.d_params)];
    for (group, got) in groups {
        let want = lists(&case[group]);
        assert_eq!(got.len(), want.len(), "{}: {group}", case["name"]);
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            let largest = want.iter().fold(1e-3f64, |m, w| m.max(w.abs()));
            let close = |(g, w): (&f32, &f64)| (f64::from(*g) - w).abs() <= 4e-6 * largest;
            if got.len() != want.len() || !got.iter().zip(want).all(close) {
                return Err(format!(
                    "{}: {group} {i} is {got:?}, PyTorch says {want:?}",
                    case["name"]
                ));
            }
        }
    }
    Ok(())
}

/// `tests/golden/lstm.json`, written by `make_lstm.py`: `torch.nn.LSTM`, with packed sequences where there are lengths.
#[test]
fn agrees_with_pytorch() {
    let golden: Value =
        serde_json::from_str(include_str!("../../../tests/golden/lstm.json")).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() >= 4);
    for case in cases {
        let [b, t, c] = ["b", "t", "c"].map(|name| case[name].as_u64().unwrap() as usize);
        let lengths: Vec<i32> = lists(&case["ints"]).concat().iter().map(|&l| l as i32).collect();
        let op = Lstm {
            initial: case["initial"].as_bool().unwrap(),
            reverse: case["reverse"].as_bool().unwrap(),
            lengths: !lengths.is_empty(),
            ..Lstm::new(LstmDims { b, t, c }).unwrap()
        };
        let ints = if op.lengths { vec![lengths] } else { vec![] };
        let (inputs, params) = (lists(&case["inputs"]), lists(&case["params"]));
        let got = run(&op, &(Values { inputs, params, ints }, lists(&case["d_outputs"])), 2);
        judge(case, &got).unwrap();
        let tensors = got.outputs.len() + got.d_inputs.len() + got.d_params.len();
        for (i, spoil) in (0..tensors).flat_map(|i| [(i, 1.001f32), (i, f32::NAN)]) {
            let mut wrong = got.clone();
            let all = [&mut wrong.outputs, &mut wrong.d_inputs, &mut wrong.d_params];
            all.into_iter().flatten().nth(i).unwrap().iter_mut().for_each(|x| *x *= spoil);
            assert!(judge(case, &wrong).is_err(), "{}: spoiled tensor {i} passed", case["name"]);
        }
    }
}
