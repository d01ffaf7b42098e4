use super::stored::StoredEmbedding;
use super::*;
use crate::autograd::{Inference, InferenceOp};
use crate::backend::cpu::pool::Pool;
use crate::backend::cpu::stored::{Format, StoredMatrix};
use crate::ops::harness::{Values, produce};
use crate::tensor::random::Random;
use std::sync::Arc;

#[test]
fn cases_hold() {
    for case in cases() {
        case.check().unwrap();
    }
}

#[test]
fn ids_and_positions_out_of_range_are_refused() {
    let op = Embedding::new(1, 2, 3, 5, Positions::Learned { max: 4 }, 1.0);
    let message = |ids: &[i32], past: &[i32]| op.check(ids, past).unwrap_err().to_string();
    assert!(
        message(&[0, 5], &[0])
            .starts_with("embedding: token id 5 at row 0, position 1; ids are 0..5")
    );
    assert!(message(&[-1, 0], &[0]).starts_with("embedding: token id -1"));
    assert!(
        message(&[0, 0], &[3])
            .starts_with("embedding: positions 3..5 of row 0; learned positions are 0..4")
    );
    assert!(op.check(&[0, 4], &[2]).is_ok());
    assert!(op.check(&[0, 4], &[-1]).is_err());
    assert!(op.check(&[0, 4], &[i32::MAX]).is_err());
    let endless = Embedding::new(1, 2, 3, 5, Positions::None, 1.0);
    assert!(endless.check(&[0, 4], &[i32::MAX]).is_ok());
}

#[test]
fn gradients_do_not_depend_on_the_thread_count() {
    let (b, t, c, v) = (3, 50, 200, 7);
    let op = Embedding::new(b, t, c, v, Positions::Learned { max: 63 }, 0.7)
        .with_offset(3)
        .with_segments(2);
    let mut random = Random::new(5, 0);
    let mut normal = |n: usize| (0..n).map(|_| f64::from(random.normal())).collect::<Vec<_>>();
    let values = Values {
        inputs: vec![],
        params: vec![normal(v * c), normal(63 * c), normal(2 * c)],
        ints: vec![
            (0..b * t).map(|i| (i * i % v) as i32).collect(),
            vec![0, 3, 10],
            (0..b * t).map(|i| (i / 9 % 2) as i32).collect(),
        ],
    };
    let dy = vec![normal(b * t * c)];
    let run = |threads| produce(&op, &values, &dy, Default::default(), &Pool::new(threads), None);
    let one = run(1);
    for threads in [2, 3, 5] {
        assert_eq!(one.d_params, run(threads).d_params);
    }
}

/// Position 1 or 5 of width 6, each rounded to 8 digits: of the paper's formula and tensor2tensor's
/// (`get_timing_signal_1d`) in Python's floats, of Marian's by transformers 5.24
/// (`MarianSinusoidalPositionalEmbedding(64, 6).create_weight()`).
#[test]
fn waves_are_those_of_others() {
    let known = [
        (
            Positions::Sinusoidal,
            [0.841_471, 0.540_302_3, 0.046_399_2, 0.998_923, 0.002_154_43, 0.999_997_7],
        ),
        (
            Positions::SinusoidalHalved,
            [0.841_471, 0.046_399_2, 0.002_154_43, 0.540_302_3, 0.998_923, 0.999_997_7],
        ),
        (
            Positions::SinusoidalTensor2tensor,
            [0.841_471, 0.009_999_83, 0.000_1, 0.540_302_3, 0.999_95, 1.0],
        ),
        (
            Positions::Sinusoidal,
            [-0.958_924_3, 0.283_662_2, 0.230_001_7, 0.973_190_2, 0.010_771_97, 0.999_942],
        ),
        (
            Positions::SinusoidalHalved,
            [-0.958_924_3, 0.230_001_7, 0.010_771_97, 0.283_662_2, 0.973_190_2, 0.999_942],
        ),
        (
            Positions::SinusoidalTensor2tensor,
            [-0.958_924_3, 0.049_979_17, 0.000_5, 0.283_662_2, 0.998_750_3, 0.999_999_9],
        ),
    ];
    for (i, (positions, want)) in known.into_iter().enumerate() {
        let p = if i < 3 { 1 } else { 5 };
        // The same position by the past, by the offset, and by both.
        for (past, offset) in [(p as i32, 0), (0, p), (1, p - 1)] {
            let op = Embedding::new(1, 1, 6, 2, positions, 1.0).with_offset(offset);
            let values = Values {
                params: vec![vec![0.0; 12]],
                ints: vec![vec![1], vec![past]],
                ..Values::default()
            };
            let dy = [vec![0.0; 6]];
            let got = produce(&op, &values, &dy, Default::default(), &Pool::new(1), None);
            for (got, want) in got.outputs[0].iter().zip(want) {
                let close = (got - want).abs() <= 1.5e-7;
                assert!(close, "{positions:?}, {p} as {past}+{offset}: {got} is not {want}");
            }
        }
    }
}

#[test]
fn an_offset_takes_rows_of_the_table_away() {
    let op = Embedding::new(1, 2, 3, 5, Positions::Learned { max: 6 }, 1.0).with_offset(2);
    assert!(op.check(&[0, 4], &[2]).is_ok());
    let error = op.check(&[0, 4], &[3]).unwrap_err().to_string();
    assert!(
        error.starts_with("embedding: positions 3..5 of row 0; learned positions are 0..4"),
        "{error}"
    );
    assert!(op.clone().with_offset(7).check(&[0, 4], &[0]).is_err());
}

#[test]
fn segments_out_of_range_are_refused() {
    let op = Embedding::new(1, 2, 1, 5, Positions::None, 1.0).with_segments(2);
    let (table, message) = ([0.5; 2], |segments: &[i32]| {
        let ints = [&[0, 1][..], &[0], segments];
        op.segments(&ints, &[&[0.0; 5], &[0.5; 2]]).map(|s| s.map(|s| s.1.to_vec()))
    });
    assert_eq!(message(&[1, 0]).unwrap(), Some(table.to_vec()));
    for bad in [[0, 2], [-1, 0]] {
        let error = message(&bad).unwrap_err().to_string();
        assert!(error.contains("segments are 0..2"), "{error}");
    }
}

/// What a stored table adds is what a plain one of the same numbers does, to the bit.
#[test]
fn a_stored_table_changes_nothing_else() {
    let (b, t, c, v, g, scale) = (2, 7, 34, 11, 3, 1.5);
    let pool = Pool::new(2);
    let mut random = Random::new(11, 0);
    let mut normal = |n: usize| (0..n).map(|_| random.normal()).collect::<Vec<f32>>();
    let stored = Arc::new(
        StoredMatrix::quantise(&pool, Format::Int8, (v, c), &normal(v * c)).expect("finite"),
    );
    let mut wte = vec![0.0; v * c];
    wte.chunks_exact_mut(c).enumerate().for_each(|(i, row)| stored.dequantise(i, row));
    let (wpe, seg) = (normal(20 * c), normal(g * c));
    let ids: Vec<i32> = (0..b * t).map(|i| (i * 5 % v) as i32).collect();
    let segments: Vec<i32> = (0..b * t).map(|i| (i % g) as i32).collect();
    let all = [
        Positions::None,
        Positions::Learned { max: 20 },
        Positions::Sinusoidal,
        Positions::SinusoidalHalved,
        Positions::SinusoidalTensor2tensor,
    ];
    for positions in all {
        for (offset, g) in [(0, 0), (2, 0), (0, g), (2, g)] {
            let op =
                Embedding::new(b, t, c, v, positions, scale).with_offset(offset).with_segments(g);
            let mut rest: Vec<&[f32]> = vec![];
            rest.extend((positions.rows() > 0).then_some(&wpe[..]));
            rest.extend((g > 0).then_some(&seg[..]));
            let ints = [&ids[..], &[0, 9], &segments];
            let ints = || ints.into_iter().take(if g > 0 { 3 } else { 2 }).collect();
            let (mut plain, mut other) = (vec![f32::NAN; b * t * c], vec![f32::NAN; b * t * c]);
            let forward = Forward {
                pool: &pool,
                run: Default::default(),
                inputs: Default::default(),
                ints: ints(),
                params: std::iter::once(&wte[..]).chain(rest.iter().copied()).collect(),
                outputs: [&mut plain[..]].into_iter().collect(),
                saved: Default::default(),
                scratch: &mut [],
            };
            op.forward(forward).unwrap();
            let op = StoredEmbedding::new(op, stored.clone());
            assert_eq!(op.params(), rest.iter().map(|p| p.len()).collect::<Vec<_>>());
            let inference = Inference {
                pool: &pool,
                inputs: Default::default(),
                ints: ints(),
                params: rest.iter().copied().collect(),
                outputs: [&mut other[..]].into_iter().collect(),
                states: Default::default(),
                scratch: &mut [],
            };
            op.forward(inference).unwrap();
            assert!(plain.iter().all(|y| y.is_finite()));
            assert_eq!(plain, other, "{positions:?}, offset {offset}, {g} segments");
        }
    }
}
