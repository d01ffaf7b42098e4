//! What is shown is what the model computed.

use super::fact_edit::{FactEdit, edit, moments};
use super::fixtures::{induction_head, repeated};
use super::metric::Metric;
use super::patching::{Grid, Pair, patch};
use super::subject::Subject;
use super::sweep::{Cell, Follower, Forecast, Patch, Sweep};
use super::test_models;
use super::tracing::{Fact, Restored, Tracing, trace};
use crate::backend::cpu::pool::Pool;
use crate::error::{Error, Kind, Result};
use crate::model::config::{Config, NormKind, NormPlacement};
use crate::model::edit::{Pick, Region};
use crate::model::observer::{End, Observer, Text};
use crate::model::readout::Readout;
use crate::model::site::{Part, Site, Sizes};
use crate::model::watch::Watch;
use crate::model::weights::Weights;
use crate::ops::tap::Change;
use std::collections::BTreeMap;

const T: usize = 11;
const SITES: [Site; 3] = [
    Site { side: crate::model::site::Side::Only, layer: 1, part: Part::ResidPost },
    Site { side: crate::model::site::Side::Only, layer: 0, part: Part::UnembedIn },
    Site { side: crate::model::site::Side::Only, layer: 0, part: Part::UnembedOut },
];

fn small(base: Config) -> Config {
    let kv_heads = if base.kv_heads == base.heads { 4 } else { 2 };
    let sizes = Config { layers: 2, width: 32, heads: 4, kv_heads, head_width: 8, ..base };
    Config { hidden: 64, context: 16, vocab: 50, ..sizes }
}

/// Observed values of one row of 11 tokens.
fn observe(config: &Config) -> (Observer, Weights) {
    let mut weights = Weights::init(config, 5);
    weights.data_mut().iter_mut().for_each(|w| *w *= 4.0);
    let mut observer = Observer::reading(config, Sizes { b: 1, t: T, s: 0 }, &SITES, 1).unwrap();
    let ids: Vec<i32> = (0..T as i32).map(|i| (i * 7) % 50).collect();
    observer.run(&Pool::new(1), &weights, Text::of(&ids)).unwrap();
    (observer, weights)
}

fn close(got: &[f32], want: &[f32], tolerance: f32) {
    assert_eq!(got.len(), want.len());
    for (a, b) in got.iter().zip(want) {
        assert!((a - b).abs() <= tolerance * b.abs().max(1.0), "{a} {b}");
    }
}

/// Logits (V) of one vector of the stream (C): the last normalisation, then the head, in f64 loops.
pub(super) fn read(config: &Config, weights: &Weights, stream: &[f32]) -> Vec<f32> {
    let mut x: Vec<f64> = stream.iter().map(|&v| f64::from(v)).collect();
    let n = x.len() as f64;
    if config.norm_placement == NormPlacement::Pre && config.norm != NormKind::None {
        let mean = match config.norm {
            NormKind::LayerNorm => x.iter().sum::<f64>() / n,
            NormKind::RmsNorm | NormKind::None => 0.0,
        };
        let square = x.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
        let scale = 1.0 / (square + f64::from(config.norm_epsilon)).sqrt();
        let weight = weights.get("norm.weight").unwrap();
        let bias = weights.get("norm.bias").ok();
        for (i, v) in x.iter_mut().enumerate() {
            let shift = bias.map_or(0.0, |b| f64::from(b[i]));
            *v = (*v - mean) * scale * f64::from(weight[i]) + shift;
        }
    }
    let head =
        weights.get(if config.tied_head { "embedding.token" } else { "head.weight" }).unwrap();
    let dot = |row: &[f32]| row.iter().zip(&x).map(|(w, v)| f64::from(*w) * v).sum::<f64>() as f32;
    head.chunks_exact(config.width).map(dot).collect()
}

#[test]
fn the_lens_after_the_last_block_reads_the_models_own_logits() {
    for base in [Config::gpt2(), Config::llama()] {
        let config = small(base);
        let (observer, weights) = observe(&config);
        let (stream, logits) =
            (observer.value(SITES[0]).unwrap(), observer.value(SITES[2]).unwrap());
        for t in [0, 10] {
            let row = &stream[t * config.width..][..config.width];
            let read = read(&config, &weights, row);
            close(&read, &logits[t * config.vocab..][..config.vocab], 1e-3);
        }
        let pool = Pool::new(2);
        let mut readout = Readout::new(&config, false, 2).unwrap();
        close(&readout.read(&pool, &weights, stream).unwrap(), logits, 1e-4);
        let normed = observer.value(SITES[1]).unwrap();
        let mut readout = Readout::new(&config, true, 2).unwrap();
        close(&readout.read(&pool, &weights, normed).unwrap(), logits, 1e-4);
        assert!(readout.read(&pool, &weights, &stream[..5]).is_err());
    }
}

/// The scores after the last position of a whole run with a patch.
fn whole(subject: Subject<'_>, ids: &[i32], patch: &Patch) -> Vec<f32> {
    let watch = Watch { edit: vec![patch.site], ..Watch::default() };
    let sizes = Sizes { b: 1, t: ids.len(), s: 0 };
    let mut observer = Observer::new(subject.config, sizes, watch, End::Last, 2).unwrap();
    observer.change(patch.site, &Region::behind(1, &patch.region), &patch.change).unwrap();
    observer.run(subject.pool, subject.weights, Text::of(ids)).unwrap();
    observer.last_scores().unwrap().to_vec()
}

#[test]
fn cut_runs_say_what_whole_runs_say() {
    for base in [Config::gpt2(), Config::llama()] {
        let config = Config { layers: 3, ..small(base) };
        let (_, weights) = observe(&config);
        let pool = Pool::new(2);
        let subject = Subject { config: &config, weights: &weights, pool: &pool };
        let rows: Vec<i32> = (0..2 * T as i32).map(|i| (i * 13 + 5) % 50).collect();
        let sweep = Sweep::new(subject, &rows, 2, vec![]).unwrap();
        let parts = [
            (Part::ResidPre, 32, vec![]),
            (Part::AttnOut, 32, vec![]),
            (Part::Z, 8, vec![Pick::one(2)]),
            (Part::K, 8, vec![Pick::one(1)]),
            (Part::MlpPost, 64, vec![]),
            (Part::ResidPost, 32, vec![]),
        ];
        let mut cells = vec![];
        for (i, (part, n, more)) in parts.iter().cycle().take(60).enumerate() {
            let position = (i * 7) % T;
            let values: Vec<f32> = (0..*n).map(|j| ((i * 31 + j) as f32).sin()).collect();
            let region = std::iter::once(Pick::one(position)).chain(more.clone()).collect();
            let site = Site::block(i % 3, *part);
            let patch = Patch { site, region, change: Change::Add(values.into()) };
            cells.push(Cell { base: i % 2, patches: vec![patch] });
        }
        let forecast = sweep.forecast(&cells);
        assert!(forecast.flops < 0.8 * forecast.flops_apart, "{forecast:?}");
        let mut seen = 0;
        sweep
            .run(&cells, &mut |i, scores| {
                let ids = &rows[cells[i].base * T..][..T];
                close(scores, &whole(subject, ids, &cells[i].patches[0]), 2e-4);
                seen += 1;
                Ok(())
            })
            .unwrap();
        assert_eq!(seen, cells.len());
        close(&sweep.scores()[50..], &last(subject, &rows[T..]), 1e-5);
    }
}

/// Keeps what it hears, knows what it is given, and stops when it has heard enough.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) cells: usize,
    pub(super) values: BTreeMap<usize, f64>,
    enough: Option<usize>,
}

impl Follower for Counted {
    fn begin(&mut self, forecast: &Forecast) -> Result<()> {
        self.cells = forecast.cells;
        Ok(())
    }

    fn known(&self, cell: usize) -> Option<f64> {
        self.values.get(&cell).copied()
    }

    fn found(&mut self, cell: usize, value: f64) -> Result<()> {
        assert_eq!(self.values.insert(cell, value), None, "{cell} was known");
        match self.enough {
            Some(enough) if self.values.len() >= enough => {
                Err(Error::new(Kind::Input, "test", "enough"))
            }
            _ => Ok(()),
        }
    }
}

#[test]
fn a_stopped_sweep_goes_on_where_it_was() {
    let config = small(Config::gpt2());
    let (_, weights) = observe(&config);
    let pool = Pool::new(2);
    let subject = Subject { config: &config, weights: &weights, pool: &pool };
    let (clean, corrupted): (Vec<i32>, Vec<i32>) =
        ((0..T as i32).collect(), (5..5 + T as i32).collect());
    let pair = Pair { clean: &clean, corrupted: &corrupted };
    let (metric, grid) = (Metric::Probability(3), Grid::Heads(Part::Z));
    let whole = patch(subject, pair, &metric, grid, &mut ()).unwrap();
    let mut follower = Counted { enough: Some(3), ..Counted::default() };
    assert!(patch(subject, pair, &metric, grid, &mut follower).is_err());
    assert_eq!((follower.cells, follower.values.len()), (whole.values.len(), 3));
    follower.enough = None;
    // What is known is taken as it is.
    let (&first, _) = follower.values.first_key_value().unwrap();
    follower.values.insert(first, 7.0);
    let again = patch(subject, pair, &metric, grid, &mut follower).unwrap();
    assert_eq!(follower.cells, whole.values.len() - 3);
    for (i, (a, b)) in again.values.iter().zip(&whole.values).enumerate() {
        assert!(if i == first { *a == 7.0 } else { (a - b).abs() < 1e-6 }, "{i}: {a} {b}");
    }
}

fn last(subject: Subject<'_>, ids: &[i32]) -> Vec<f32> {
    let observer = subject.run(Text::of(ids), 1, Watch::default(), End::Last).unwrap();
    observer.last_scores().unwrap().to_vec()
}

#[test]
fn a_trace_finds_where_the_induction_head_reads_and_writes() {
    let n = 9;
    let (config, weights) = induction_head(n + 1, 2 * n + 1, 30.0).unwrap();
    let pool = Pool::new(2);
    let subject = Subject { config: &config, weights: &weights, pool: &pool };
    let ids = repeated(n, 3);
    let t = ids.len() - 1;
    // What follows the last token was said at position n: there head 1 reads it.
    let fact = Fact { ids: ids[..t].to_vec(), subject: n..n + 1, answer: ids[t] as u32 };
    assert_eq!(ids[n], ids[t]);
    let how = Tracing { noise: 7.0, samples: 12, ..Tracing::default() };
    let mut told = Counted::default();
    let found = trace(subject, &fact, &how, &mut told).unwrap();
    let told = told.cells;
    assert!(told > 0 && found.clean > 0.99 && found.corrupted < 0.6, "{found:?}");
    let stream = &found.maps[&Restored::Stream];
    assert!(stream[n] > found.corrupted + 0.3, "early, at the subject: {stream:?}");
    assert!(stream[2 * t - 1] > 0.99, "late, at the end: {stream:?}");
    for (at, p) in stream.iter().enumerate().filter(|(at, _)| *at != n && *at != 2 * t - 1) {
        assert!((p - found.corrupted).abs() < 0.2, "{at}: {p}");
    }
    assert!(!found.maps.contains_key(&Restored::FeedForward));
    let nothing = Fact { subject: 3..3, ..fact };
    assert!(trace(subject, &nothing, &how, &mut ()).is_err());
}

#[test]
fn what_is_put_back_where_it_stood_changes_nothing() {
    // Keys of fewer heads are narrower than the stream.
    let (config, weights) = test_models::random(Config::llama(), 3);
    let pool = Pool::new(2);
    let subject = Subject { config: &config, weights: &weights, pool: &pool };
    let ids = [3, 14, 15, 9, 2, 6];
    let pair = Pair { clean: &ids, corrupted: &ids };
    let metric = Metric::Difference { right: 5, wrong: 6 };
    for grid in [
        Grid::Positions(Part::K),
        Grid::Positions(Part::MlpPost),
        Grid::Heads(Part::V),
        Grid::Heads(Part::Pattern),
        Grid::HeadPositions(Part::Z),
    ] {
        let map = patch(subject, pair, &metric, grid, &mut ()).unwrap();
        for value in &map.values {
            assert!((value - map.corrupted).abs() < 1e-5, "{grid:?}: {map:?}");
        }
    }
}

#[test]
fn an_edit_of_rank_one_changes_what_follows() {
    let config = small(Config::gpt2());
    let (_, weights) = observe(&config);
    let pool = Pool::new(2);
    let subject = Subject { config: &config, weights: &weights, pool: &pool };
    let rows: Vec<Vec<i32>> =
        (0..40).map(|r| (0..T as i32).map(|i| (i * 17 + r * 11 + i * r) % 50).collect()).collect();
    let known = moments(subject, 0, &rows, false).unwrap();
    let prompts = vec![(vec![4, 9, 30, 2, 41], 3)];
    let how = FactEdit { layer: 0, prompts, answer: vec![7], steps: 60, rate: 0.2, decay: 0.01 };
    let (changed, done) = edit(subject, &how, &known).unwrap();
    let [before, with_value, after] = done.log_probability;
    assert!(with_value > before + 1.0, "{done:?}");
    assert!(after > before + 1.0, "{done:?}");
    let name = "blocks.0.mlp.out.weight";
    let (a, b) = (weights.get(name).unwrap(), changed.get(name).unwrap());
    let step: Vec<f64> = a.iter().zip(b).map(|(a, b)| f64::from(b - a)).collect();
    let f = config.hidden;
    let (i, largest) =
        step.iter().enumerate().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs())).unwrap();
    let (row, column) = (i / f, i % f);
    for r in 0..config.width {
        for c in 0..f {
            let of_rank_one = step[r * f + column] * step[row * f + c] / largest;
            assert!((step[r * f + c] - of_rank_one).abs() < 1e-4 * largest.abs(), "{r} {c}");
        }
    }
    for spec in weights.specs().iter().filter(|s| s.name != name) {
        assert_eq!(weights.get(&spec.name).unwrap(), changed.get(&spec.name).unwrap());
    }
    let wrong = FactEdit { answer: vec![], ..how };
    assert!(edit(subject, &wrong, &known).is_err());
}
