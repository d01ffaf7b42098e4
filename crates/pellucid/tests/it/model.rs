//! The whole stack: gradients, recomputation, accumulation, dropout.

use crate::support::{distance, ids, tiny, zoo};
use pellucid::autograd::{Recompute, RunInfo, Training};
use pellucid::backend::cpu::gemm::Precision;
use pellucid::backend::cpu::pool::Pool;
use pellucid::model::config::Config;
use pellucid::model::train_graph::{Batch, IGNORE, TrainGraph, TrainOptions};
use pellucid::model::weights::Weights;
use pellucid::tensor::random::Random;

const B: usize = 3;
const T: usize = 11;

fn options(recompute: Recompute) -> TrainOptions {
    let training = Training { recompute, accumulates: false };
    TrainOptions { training, ..TrainOptions::new(B, T) }
}

fn run_info() -> RunInfo {
    RunInfo { training: true, seed: 5, step: 3, grad_scale: 1.0 }
}

fn batch(config: &Config) -> (Vec<i32>, Vec<i32>) {
    let mut targets = ids(2, B * T, config.vocab);
    targets[4] = IGNORE;
    (ids(1, B * T, config.vocab), targets)
}

/// Weights away from their symmetric start, so that no gradient is small by accident.
fn stirred(config: &Config) -> Weights {
    let mut weights = Weights::init(config, 11);
    let mut random = Random::new(12, 0);
    for spec in weights.specs().to_vec() {
        for x in &mut weights.data_mut()[spec.range()] {
            *x += 0.08 * random.normal();
        }
    }
    weights
}

fn step(
    config: &Config,
    weights: &Weights,
    recompute: Recompute,
    threads: usize,
) -> (f32, Vec<f32>) {
    let (ids, targets) = batch(config);
    let mut graph = TrainGraph::new(config, options(recompute), threads).unwrap();
    let mut grads = vec![f32::NAN; weights.data().len()];
    let pool = Pool::new(threads);
    let loss = graph
        .step(&pool, weights, &mut grads, true, &Batch::of(B, &ids, &targets), run_info())
        .unwrap();
    for spec in weights.specs() {
        let piece = &grads[spec.range()];
        assert!(piece.iter().all(|g| g.is_finite()), "{} has no finite gradient", spec.name);
        assert!(piece.iter().any(|g| *g != 0.0), "{} has a zero gradient", spec.name);
    }
    (loss, grads)
}

/// The loss must change along a random direction as the gradients say, parameter by parameter.
#[test]
fn every_parameter_of_every_architecture_has_the_right_gradient() {
    let pool = Pool::new(1);
    for (name, config) in zoo() {
        let weights = stirred(&config);
        let (_, grads) = step(&config, &weights, Recompute::Nothing, 1);
        let (ids, targets) = batch(&config);
        let mut graph = TrainGraph::new(&config, options(Recompute::Nothing), 1).unwrap();
        for spec in weights.specs() {
            let g = &grads[spec.range()];
            // Along its own gradient the slope is largest beside rounding.
            let norm = g.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            let mut probe = |h: f64| {
                let mut moved = weights.clone();
                for (w, g) in moved.data_mut()[spec.range()].iter_mut().zip(g) {
                    *w += (h * f64::from(*g) / norm) as f32;
                }
                f64::from(graph.evaluate(&pool, &moved, &Batch::of(B, &ids, &targets)).unwrap().0)
            };
            let h = 2e-2;
            let slope =
                (8.0 * (probe(h) - probe(-h)) - (probe(2.0 * h) - probe(-2.0 * h))) / (12.0 * h);
            let error = (slope - norm).abs() / norm.max(1e-2);
            assert!(error <= 2e-2, "{name} {}: slope {slope}, gradient {norm}", spec.name);
        }
    }
}

#[test]
fn recomputation_changes_no_bit() {
    for (name, config) in zoo() {
        let config = Config { dropout: 0.1, ..config };
        let weights = stirred(&config);
        let (loss, grads) = step(&config, &weights, Recompute::Nothing, 2);
        let mut bytes = vec![];
        for level in [Recompute::Nothing, Recompute::Cheap, Recompute::Blocks] {
            let (l, g) = step(&config, &weights, level, 2);
            assert_eq!(l.to_bits(), loss.to_bits(), "{name} {level:?}");
            // What lies between parameters is rubbish.
            let bits = |g: &[f32]| g.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            let mut ranges = weights.specs().iter().map(|spec| spec.range());
            let same = ranges.all(|r| bits(&g[r.clone()]) == bits(&grads[r]));
            assert!(same, "{name} {level:?}");
            bytes.push(TrainGraph::new(&config, options(level), 2).unwrap().activation_bytes());
        }
        // What an LSTM saves is needed whole, whenever its layer goes back.
        assert!(bytes[2] < bytes[0] || name == "lstm", "{name}: {bytes:?}");
    }
}

#[test]
fn thread_counts_agree_closely() {
    let config = tiny("llama");
    let weights = stirred(&config);
    let (l1, g1) = step(&config, &weights, Recompute::Nothing, 1);
    let (l3, g3) = step(&config, &weights, Recompute::Nothing, 3);
    assert!((l1 - l3).abs() <= 1e-5);
    for spec in weights.specs() {
        assert!(distance(&g1[spec.range()], &g3[spec.range()]) <= 1e-5, "{}", spec.name);
    }
}

#[test]
fn accumulated_gradients_are_the_sum() {
    let config = tiny("gpt2");
    let weights = stirred(&config);
    let (ids, targets) = batch(&config);
    let pool = Pool::new(1);
    let training = Training { accumulates: true, ..Training::default() };
    let options = TrainOptions { training, ..options(Recompute::Nothing) };
    let mut graph = TrainGraph::new(&config, options, 1).unwrap();
    let mut twice = vec![0.0; weights.data().len()];
    let half = RunInfo { grad_scale: 0.5, ..run_info() };
    for first in [true, false] {
        graph
            .step(&pool, &weights, &mut twice, first, &Batch::of(B, &ids, &targets), half)
            .unwrap();
    }
    let (_, once) = step(&config, &weights, Recompute::Nothing, 1);
    for spec in weights.specs() {
        assert!(distance(&twice[spec.range()], &once[spec.range()]) <= 1e-6, "{}", spec.name);
    }
}

#[test]
fn bf16_products_stay_near_f32() {
    let config = tiny("llama");
    let weights = stirred(&config);
    let (ids, targets) = batch(&config);
    let pool = Pool::new(2);
    let mut grads = vec![0.0; weights.data().len()];
    let o = TrainOptions { precision: Precision::Bf16, ..options(Recompute::Nothing) };
    let mut graph = TrainGraph::new(&config, o, 2).unwrap();
    let low = graph
        .step(&pool, &weights, &mut grads, true, &Batch::of(B, &ids, &targets), run_info())
        .unwrap();
    let (full, _) = step(&config, &weights, Recompute::Nothing, 2);
    assert!((low - full).abs() <= 0.03 * full, "{low} {full}");
    assert!(low.to_bits() != full.to_bits(), "bf16 is a precision of its own");
}

#[test]
fn passes_of_a_few_rows_change_neither_loss_nor_gradients() {
    let pool = Pool::new(2);
    for (name, config) in zoo() {
        let weights = stirred(&config);
        let (ids, mut targets) = batch(&config);
        // Passes of 2 and 1 rows, with few targets in the last: a mean of means would be wrong.
        targets[2 * T + 3..].fill(IGNORE);
        let run = |pass_rows| {
            let o = TrainOptions { pass_rows, ..options(Recompute::Cheap) };
            let mut graph = TrainGraph::new(&config, o, 2).unwrap();
            let mut grads = vec![f32::NAN; weights.data().len()];
            let loss = graph
                .step(&pool, &weights, &mut grads, true, &Batch::of(B, &ids, &targets), run_info())
                .unwrap();
            let (mean, each) =
                graph.evaluate(&pool, &weights, &Batch::of(B, &ids, &targets)).unwrap();
            (loss, grads, mean, each)
        };
        let whole = run(Some(B));
        for rows in [1, 2] {
            let parts = run(Some(rows));
            assert!((whole.0 - parts.0).abs() <= 1e-5, "{name}: {} {}", whole.0, parts.0);
            assert!((whole.2 - parts.2).abs() <= 1e-5, "{name}: {} {}", whole.2, parts.2);
            assert!(distance(&whole.3, &parts.3) <= 1e-5, "{name}");
            for spec in weights.specs() {
                let (a, b) = (&whole.1[spec.range()], &parts.1[spec.range()]);
                let size = a.iter().fold(1e-3f32, |m, x| m.max(x.abs()));
                assert!(distance(a, b) <= 1e-5 * size, "{name}: {}", spec.name);
            }
        }
        let cut = 2 * T;
        let mean = |from: &[f32], t: &[i32]| {
            let n = t.iter().filter(|&&t| t != IGNORE).count();
            from.iter().sum::<f32>() / n as f32
        };
        let halves =
            (mean(&whole.3[..cut], &targets[..cut]) + mean(&whole.3[cut..], &targets[cut..])) / 2.0;
        assert!((halves - whole.0).abs() > 1e-3, "{name}: a mean of means would pass");
    }
}

#[test]
fn dropout_depends_on_the_step_and_only_on_it() {
    let config = Config { dropout: 0.3, ..tiny("gpt2") };
    let weights = stirred(&config);
    let (ids, targets) = batch(&config);
    let pool = Pool::new(2);
    let mut grads = vec![0.0; weights.data().len()];
    let mut graph = TrainGraph::new(&config, options(Recompute::Nothing), 2).unwrap();
    let mut at = |step| {
        let run = RunInfo { step, ..run_info() };
        graph
            .step(&pool, &weights, &mut grads, true, &Batch::of(B, &ids, &targets), run)
            .unwrap()
            .to_bits()
    };
    let (a, b, again) = (at(1), at(2), at(1));
    assert_eq!(a, again);
    assert_ne!(a, b);
}

#[test]
fn bad_ids_and_targets_are_errors_that_name_them() {
    let config = tiny("gpt2");
    let weights = Weights::init(&config, 0);
    let pool = Pool::new(1);
    let mut graph = TrainGraph::new(&config, options(Recompute::Nothing), 1).unwrap();
    let (ids, targets) = batch(&config);
    let mut bad = ids.clone();
    bad[5] = 37;
    let error =
        graph.evaluate(&pool, &weights, &Batch::of(B, &bad, &targets)).unwrap_err().to_string();
    assert!(error.contains("37"), "{error}");
    let mut bad = targets.clone();
    bad[5] = -7;
    let error = graph.evaluate(&pool, &weights, &Batch::of(B, &ids, &bad)).unwrap_err().to_string();
    assert!(error.contains("-7"), "{error}");
    let error = graph
        .evaluate(&pool, &weights, &Batch::of(B, &ids[1..], &targets))
        .unwrap_err()
        .to_string();
    assert!(error.contains("32 ids"), "{error}");
    let long = TrainOptions { time: 25, ..options(Recompute::Nothing) };
    let error = TrainGraph::new(&config, long, 1).unwrap_err().to_string();
    assert!(error.contains("context"), "{error}");
}
