//! The loop with a bowl instead of a Transformer: every path of stopping, failing and continuing.

use super::disk::Disk;
use super::evaluate::Batches;
use super::log::{self, Line};
use super::pretrain::{Control, Event, Job, Observer, Outcome, pretrain_on};
use super::resume::{self, Store};
use super::run::RunConfig;
use super::step::{Graph, IGNORE};
use crate::autograd::RunInfo;
use crate::backend::cpu::pool::Pool;
use crate::error::Result;
use crate::files;
use crate::model::batch::Batch;
use crate::model::config::Config;
use crate::model::weights::Weights;
use crate::tensor::random::Random;
use std::collections::BTreeMap;
use std::path::Path;

mod adapter_tests;
mod continue_tests;
mod end_to_end_tests;
mod loop_tests;
mod synthetic_tests;
mod tag_tests;

const B: usize = 2;
const T: usize = 4;

fn config() -> Config {
    Config {
        vocab: 7,
        context: T,
        layers: 1,
        width: 4,
        heads: 2,
        kv_heads: 2,
        head_width: 2,
        hidden: 6,
        ..Config::gpt2()
    }
}

/// Loss: half the squared distance of every weight to a noisy target that the ids choose.
#[derive(Default)]
struct Bowl {
    /// Leave this parameter's gradient unwritten.
    missing: Option<&'static str>,
    /// Give this parameter a zero gradient.
    zero: Option<&'static str>,
    /// Write NaN into this parameter's gradient at this micro-batch.
    poison: Option<(u64, &'static str)>,
    /// The loss itself is NaN at this micro-batch.
    nan_loss: Option<u64>,
    /// Added to every evaluation so that it rises.
    rising: f32,
    evaluations: u32,
}

impl Bowl {
    fn target(ids: &[i32], i: usize) -> f32 {
        ids[i % ids.len()] as f32 * 0.1 + (i % 5) as f32 * 0.3
    }
}

impl Graph for Bowl {
    fn step(
        &mut self,
        _: &Pool,
        weights: &Weights,
        grads: &mut [f32],
        first: bool,
        batch: &Batch,
        run: RunInfo,
    ) -> Result<f32> {
        let (ids, targets) = (&*batch.ids, &*batch.targets);
        assert!(run.training && ids.len() == B * T && targets[0] == ids[0] + 1);
        let mut loss = 0.0;
        // Dropout stands for everything that is random inside a model.
        let mut random = Random::new(run.seed, run.step);
        for spec in weights.specs() {
            if self.missing == Some(&spec.name) {
                continue;
            }
            for i in spec.range() {
                let keep = if random.uniform() < 0.1 { 0.0 } else { 1.0 };
                let d = (weights.data()[i] - Self::target(ids, i)) * keep;
                loss += 0.5 * d * d;
                let d = if self.zero == Some(&spec.name) { 0.0 } else { d * run.grad_scale };
                grads[i] = if first { d } else { grads[i] + d };
            }
            if self.poison == Some((run.step, &spec.name)) {
                grads[spec.range()][1] = f32::NAN;
            }
        }
        Ok(if self.nan_loss == Some(run.step) { f32::NAN } else { loss / weights.count() as f32 })
    }

    fn evaluate(&mut self, _: &Pool, weights: &Weights, batch: &Batch) -> Result<(f32, Vec<f32>)> {
        let (ids, targets) = (&*batch.ids, &*batch.targets);
        self.evaluations += 1;
        let rise = self.rising * self.evaluations as f32;
        let losses: Vec<f32> = (0..B * T)
            .map(|p| (weights.data()[p] - Self::target(ids, p)).abs() + rise)
            .enumerate()
            .map(|(p, l)| if targets[p] == IGNORE { 0.0 } else { l })
            .collect();
        Ok((losses.iter().sum::<f32>() / losses.len() as f32, losses))
    }

    fn activation_bytes(&self) -> usize {
        1234
    }
}

#[derive(Debug)]
struct Noise {
    name: &'static str,
}

impl Batches for Noise {
    fn train(&self, number: u64, batch: &mut Batch) -> Result<()> {
        *batch = Batch::whole(B, T);
        let mut random = Random::new(77, number);
        for (id, target) in batch.ids.iter_mut().zip(&mut batch.targets) {
            *id = random.below(7) as i32;
            *target = *id + 1;
        }
        Ok(())
    }
    fn validation_batches(&self) -> usize {
        3
    }
    fn validation(&self, number: usize, batch: &mut Batch) -> Result<()> {
        self.train(1 << 40 | number as u64, batch)?;
        if number == 2 {
            batch.targets[5..].fill(IGNORE);
        }
        Ok(())
    }
    fn bytes_per_token(&self) -> Option<f64> {
        Some(2.0)
    }
    fn fingerprint(&self) -> String {
        self.name.into()
    }
}

struct Plain;

impl Store for Plain {
    fn save(&self, folder: &Path, weights: &Weights) -> Result<()> {
        let bytes = bytemuck::cast_slice::<f32, u8>(weights.data());
        files::replace("test", &folder.join("weights"), |w| w.write_all(bytes))
    }
    fn load(&self, folder: &Path, weights: &mut Weights) -> Result<()> {
        let bytes = files::read("test", &folder.join("weights"))?;
        bytemuck::cast_slice_mut::<f32, u8>(weights.data_mut()).copy_from_slice(&bytes);
        Ok(())
    }
}

fn settings(folder: &Path, steps: u64) -> RunConfig {
    let mut run = RunConfig::default();
    run.data.train = vec!["noise".into()];
    run.train.steps = steps;
    run.train.batch = Some(B);
    run.train.time = Some(T);
    run.train.accumulation = 2;
    run.optimizer.lr = Some(0.05);
    run.schedule.warmup = Some(2);
    run.evaluate.every = 4;
    run.evaluate.batches = 0;
    run.checkpoint.folder = folder.to_string_lossy().into();
    run.checkpoint.every = 3;
    run
}

struct Trial {
    bowl: Bowl,
    data: Noise,
    config: Config,
}

impl Default for Trial {
    fn default() -> Self {
        Self { bowl: Bowl::default(), data: Noise { name: "noise" }, config: config() }
    }
}

impl Trial {
    /// As a process would: nothing survives but the folder.
    fn train(
        mut self,
        run: &RunConfig,
        disk: Disk,
        observer: &mut dyn Observer,
    ) -> Result<Outcome> {
        let mut weights = Weights::init(&self.config, run.train.seed);
        let job = Job {
            run,
            config: &self.config,
            weights: &mut weights,
            graph: &mut self.bowl,
            data: &self.data,
            store: &Plain,
            pool: &Pool::new(1),
        };
        pretrain_on(job, disk, observer)
    }
}

fn quiet(_: &Event<'_>) -> Control {
    Control::Continue
}

fn train(run: &RunConfig) -> Result<Outcome> {
    Trial::default().train(run, Disk::default(), &mut quiet)
}

/// Bytes of the last checkpoint, and every metrics line without its speed.
fn result(folder: &Path) -> (BTreeMap<String, Vec<u8>>, Vec<Line>) {
    let last = resume::find(folder, "last").unwrap();
    let mut files: BTreeMap<String, Vec<u8>> = Disk::default()
        .list(&last)
        .unwrap()
        .into_iter()
        .map(|n| (n.clone(), std::fs::read(last.join(n)).unwrap()))
        .collect();
    files.remove("run.toml"); // names the folder
    let mut state: serde_json::Value = serde_json::from_slice(&files["state.json"]).unwrap();
    state["seconds"] = 0.into();
    state["metrics_bytes"] = 0.into(); // speeds have varying lengths
    files.insert("state.json".into(), state.to_string().into());
    let mut lines = log::read(&folder.join("metrics.jsonl")).unwrap();
    lines.iter_mut().for_each(|l| l.tokens_per_second = None);
    (files, lines)
}
