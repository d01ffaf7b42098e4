//! Encoders, encoder-decoders, labels and numbers: gradients, rows of different lengths, decoding about a source.

use crate::support::{distance, families, ids};
use pellucid::autograd::RunInfo;
use pellucid::backend::cpu::gemm::Precision;
use pellucid::backend::cpu::pool::Pool;
use pellucid::model::adapter::Target;
use pellucid::model::config::{Adapter, Config, Output};
use pellucid::model::decoder::Decoder;
use pellucid::model::reader::{Reader, Wanted};
use pellucid::model::train_graph::{Batch, IGNORE, TrainGraph, TrainOptions, counted};
use pellucid::model::weights::Weights;
use pellucid::tensor::random::Random;

const LENGTHS: [usize; 4] = [5, 11, 1, 9];
const SOURCES: [usize; 4] = [7, 3, 12, 2];

/// Weights away from their symmetric start.
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

/// Rows of different lengths, with targets as the model has them.
fn rows(config: &Config) -> Vec<Batch> {
    let one = |(row, (&n, &s)): (usize, (&usize, &usize))| {
        let text = ids(row as u64, n, config.vocab);
        let targets = match config.output {
            _ if config.is_regression() => vec![(row as f32 * 0.5 - 1.0).to_bits() as i32],
            Output::Sequence => ids(40 + row as u64, 1, config.labels.len()),
            _ => ids(40 + row as u64, n, config.outputs()),
        };
        let mut batch = Batch::ragged(&[&text], &[&targets]).unwrap();
        batch.segments = (0..n as i32).map(|i| i32::from(i > 2)).collect();
        if config.has_source() {
            let source = ids(80 + row as u64, s, config.source_vocab());
            batch = batch.with_source(&[&source]).unwrap();
        }
        batch
    };
    LENGTHS.iter().zip(&SOURCES).enumerate().map(one).collect()
}

/// The same rows as one batch.
fn together(rows: &[Batch]) -> Batch {
    let slices = |f: fn(&Batch) -> &[i32]| rows.iter().map(f).collect::<Vec<_>>();
    let mut batch = Batch::ragged(&slices(|b| &b.ids), &slices(|b| &b.targets)).unwrap();
    batch.segments = vec![0; batch.rows * batch.time];
    for (to, from) in batch.segments.chunks_exact_mut(batch.time).zip(rows) {
        to[..from.time].copy_from_slice(&from.segments);
    }
    match rows[0].source_time {
        0 => batch,
        _ => batch.with_source(&slices(|b| &b.source)).unwrap(),
    }
}

/// Models that are added to.
fn adapted() -> [(&'static str, Config); 3] {
    let with = |name: &'static str, targets: &[Target]| {
        let (_, config) = families().into_iter().find(|(n, _)| *n == name).unwrap();
        let (alpha, targets) = (3.0, targets.to_vec());
        let adapter = Some(Adapter { rank: 2, alpha, root: false, dropout: 0.0, targets });
        (name, Config { adapter, ..config })
    };
    use Target::{Down, Gate, K, Out, Q, Qkv, Up, V};
    [
        with("classifier", &[Q, K, V, Out]),
        with("bart", &[V, Out, Up]),
        with("t5", &[Qkv, Gate, Up, Down]),
    ]
}

fn graph(config: &Config, threads: usize) -> TrainGraph {
    let source_time = if config.has_source() { 12 } else { 0 };
    let options =
        TrainOptions { ragged: true, source_time, smoothing: 0.0, ..TrainOptions::new(4, 11) };
    TrainGraph::new(config, options, threads).unwrap()
}

fn run_info() -> RunInfo {
    RunInfo { training: true, seed: 5, step: 3, grad_scale: 1.0 }
}

fn gradients(config: &Config, weights: &Weights, batch: &Batch) -> (f32, Vec<f32>) {
    let mut grads = vec![f32::NAN; weights.data().len()];
    let pool = Pool::new(2);
    let loss = graph(config, 2).step(&pool, weights, &mut grads, true, batch, run_info()).unwrap();
    for spec in weights.specs().iter().filter(|spec| spec.trainable) {
        let piece = &grads[spec.range()];
        assert!(piece.iter().all(|g| g.is_finite()), "{} has no finite gradient", spec.name);
    }
    (loss, grads)
}

/// The loss must change along each parameter's gradient as its length says.
#[test]
fn every_parameter_has_the_right_gradient() {
    let pool = Pool::new(1);
    for (name, config) in families().into_iter().chain(adapted()) {
        let weights = stirred(&config);
        let batch = together(&rows(&config));
        let (_, grads) = gradients(&config, &weights, &batch);
        let mut graph = graph(&config, 1);
        for spec in weights.specs().iter().filter(|spec| spec.trainable) {
            let g = &grads[spec.range()];
            let norm = g.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            assert!(norm > 0.0, "{name} {}: no gradient", spec.name);
            let mut probe = |h: f64| {
                let mut moved = weights.clone();
                for (w, g) in moved.data_mut()[spec.range()].iter_mut().zip(g) {
                    *w += (h * f64::from(*g) / norm) as f32;
                }
                f64::from(graph.evaluate(&pool, &moved, &batch).unwrap().0)
            };
            let h = 5e-3;
            let slope =
                (8.0 * (probe(h) - probe(-h)) - (probe(2.0 * h) - probe(-2.0 * h))) / (12.0 * h);
            let error = (slope - norm).abs() / norm.max(5e-2);
            assert!(error <= 2e-2, "{name} {}: slope {slope}, gradient {norm}", spec.name);
        }
    }
}

/// A batch's loss and gradients are the means of its rows', weighted by their targets; each target's loss is its own.
#[test]
fn rows_of_different_lengths_are_as_alone() {
    let pool = Pool::new(2);
    for (name, config) in families() {
        let weights = stirred(&config);
        let rows = rows(&config);
        let batch = together(&rows);
        let (loss, grads) = gradients(&config, &weights, &batch);
        let all = counted(&batch.targets) as f32;
        let (mut mean, mut sum) = (0.0, vec![0.0; grads.len()]);
        let (_, each) = graph(&config, 2).evaluate(&pool, &weights, &batch).unwrap();
        for (row, own) in rows.iter().enumerate() {
            let share = counted(&own.targets) as f32 / all;
            let (loss, grads) = gradients(&config, &weights, own);
            mean += share * loss;
            sum.iter_mut().zip(&grads).for_each(|(s, g)| *s += share * g);
            let (_, alone) = graph(&config, 2).evaluate(&pool, &weights, own).unwrap();
            let width = each.len() / batch.rows;
            assert!(distance(&each[row * width..][..alone.len()], &alone) <= 2e-5, "{name} {row}");
        }
        assert!((loss - mean).abs() <= 2e-5, "{name}: {loss} {mean}");
        for spec in weights.specs() {
            let (a, b) = (&grads[spec.range()], &sum[spec.range()]);
            let size = a.iter().fold(1e-3f32, |m, x| m.max(x.abs()));
            assert!(distance(a, b) <= 2e-5 * size.max(1.0), "{name}: {}", spec.name);
        }
    }
}

/// Whatever stands in the padding changes nothing.
#[test]
fn padding_is_never_looked_at() {
    let pool = Pool::new(2);
    for (name, config) in families() {
        let weights = stirred(&config);
        let batch = together(&rows(&config));
        let mut other = batch.clone();
        for row in 0..batch.rows {
            let (n, s) = (batch.length(row), batch.source_length(row));
            other.ids[row * batch.time..][n..batch.time].fill(7);
            if batch.source_time > 0 {
                other.source[row * batch.source_time..][s..batch.source_time].fill(9);
            }
        }
        assert!(other.ids != batch.ids);
        let mut graph = graph(&config, 2);
        let (a, b) = (
            graph.evaluate(&pool, &weights, &batch).unwrap(),
            graph.evaluate(&pool, &weights, &other).unwrap(),
        );
        assert_eq!(a.1, b.1, "{name}");
    }
}

/// Decoding about sources, token by token, gives the scores of the whole pair at once; so do several rows about one
/// source, and rows that take each other's past.
#[test]
fn decoding_about_a_source_equals_all_at_once() {
    let pool = Pool::new(2);
    for (name, config) in families().into_iter().filter(|(_, c)| c.has_source()) {
        let weights = stirred(&config);
        let rows = rows(&config);
        let mut reader = Reader::new(&config, Wanted::Scores, Precision::F32, 2).unwrap();
        let whole: Vec<Vec<f32>> =
            rows.iter().map(|row| reader.run(&pool, &weights, row).unwrap()).collect();
        let (v, beams) = (config.vocab, 3);
        let mut decoder = Decoder::about(&config, (4, 13), beams, 12, 2).unwrap();
        let sources: Vec<&[i32]> = rows.iter().map(|r| &*r.source).collect();
        decoder.read_sources(&pool, &weights, &sources).unwrap();
        for t in 0..11 {
            // Beams 0 and 2 read the text; beam 1 reads something else, then takes the past of beam 2.
            let mut ids = vec![0; 4 * beams];
            for (row, text) in rows.iter().enumerate() {
                let id = text.ids.get(t).copied().unwrap_or(0);
                ids[row * beams..][..beams].copy_from_slice(&[id, (id + 1) % 7, id]);
            }
            let logits = decoder.extend(&pool, &weights, &ids, 1, &[1; 12]).unwrap().to_vec();
            for (row, whole) in whole.iter().enumerate().filter(|(row, _)| t < LENGTHS[*row]) {
                for beam in [0, 2] {
                    let got = &logits[(row * beams + beam) * v..][..v];
                    let far = distance(got, &whole[t * v..][..v]);
                    assert!(far <= 3e-5, "{name} source {row} beam {beam} position {t}: {far}");
                }
            }
            let parents: Vec<usize> = (0..4).flat_map(|r| [r * 3, r * 3 + 2, r * 3 + 2]).collect();
            decoder.reorder(&parents).unwrap();
        }
        let error = decoder.reorder(&[3; 12]).unwrap_err().to_string();
        assert!(error.contains("3 to a source"), "{error}");
    }
}

#[test]
fn models_that_do_not_generate_say_so() {
    for (name, config) in families() {
        let error = Decoder::new(&config, 1, 8, 1).unwrap_err().to_string();
        let wanted = match name {
            _ if config.has_source() => "encoder-decoder",
            "last" => "labels",
            _ => "looks both ways",
        };
        assert!(error.contains(wanted), "{name}: {error}");
    }
}

#[test]
fn batches_that_do_not_fit_are_refused() {
    let (_, config) = families().swap_remove(6);
    let weights = Weights::init(&config, 1);
    let mut graph = graph(&config, 1);
    let pool = Pool::new(1);
    let good = together(&rows(&config));
    let mut refuse = |change: fn(&mut Batch), wanted: &str| {
        let mut batch = good.clone();
        change(&mut batch);
        let error = graph.evaluate(&pool, &weights, &batch).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    };
    refuse(|b| b.lengths[0] = 0, "no token");
    refuse(|b| b.source_lengths[1] = 99, "more than S");
    refuse(|b| b.source.clear(), "source ids");
    refuse(|b| b.targets.truncate(3), "3 targets");
    refuse(|b| b.ids[0] = 999, "999");
    assert!(Batch::ragged(&[&[1], &[]], &[]).unwrap_err().to_string().contains("no token"));
    assert_eq!(counted(&[IGNORE, 3]), 1);
}
