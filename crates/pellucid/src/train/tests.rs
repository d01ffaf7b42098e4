//! The loop with a bowl instead of a Transformer: every path of stopping, failing and continuing.

use super::disk::Disk;
use super::evaluate::{Batches, evaluate};
use super::log::{self, Line};
use super::pretrain::{Control, Event, Job, Observer, Outcome, Reason, pretrain, pretrain_on};
use super::resume::{self, Store};
use super::run::RunConfig;
use super::step::{Graph, IGNORE};
use crate::autograd::RunInfo;
use crate::backend::cpu::pool::Pool;
use crate::error::{Kind, Result};
use crate::files;
use crate::model::config::Config;
use crate::model::weights::Weights;
use crate::tensor::random::Random;
use std::collections::BTreeMap;
use std::path::Path;

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
        ids: &[i32],
        targets: &[i32],
        run: RunInfo,
    ) -> Result<f32> {
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

    fn evaluate(
        &mut self,
        _: &Pool,
        weights: &Weights,
        ids: &[i32],
        targets: &[i32],
    ) -> Result<(f32, Vec<f32>)> {
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

struct Noise {
    name: &'static str,
}

impl Batches for Noise {
    fn train(&self, number: u64, ids: &mut [i32], targets: &mut [i32]) -> Result<()> {
        let mut random = Random::new(77, number);
        for (id, target) in ids.iter_mut().zip(targets) {
            *id = random.below(7) as i32;
            *target = *id + 1;
        }
        Ok(())
    }
    fn validation_batches(&self) -> usize {
        3
    }
    fn validation(&self, number: usize, ids: &mut [i32], targets: &mut [i32]) -> Result<()> {
        self.train(1 << 40 | number as u64, ids, targets)?;
        if number == 2 {
            targets[5..].fill(IGNORE);
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
    run.train.batch = B;
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

#[test]
fn a_stopped_run_continues_bit_for_bit() {
    let root = tempfile::tempdir().unwrap();
    let (a, b) = (root.path().join("a"), root.path().join("b"));
    let outcome = train(&settings(&a, 20)).unwrap();
    assert_eq!((outcome.reason, outcome.step), (Reason::Steps, 20));
    for stop in [10, 13] {
        let mut observer = |event: &Event<'_>| match event {
            Event::Step(report) if report.step == stop => Control::Stop,
            _ => Control::Continue,
        };
        let outcome =
            Trial::default().train(&settings(&b, 20), Disk::default(), &mut observer).unwrap();
        assert_eq!((outcome.reason, outcome.step), (Reason::Asked, stop));
    }
    let mut resumed = None;
    let mut observer = |event: &Event<'_>| {
        if let Event::Started { step, .. } = event {
            resumed = Some(*step);
        }
        Control::Continue
    };
    Trial::default().train(&settings(&b, 20), Disk::default(), &mut observer).unwrap();
    assert_eq!(resumed, Some(13));
    let (x, y) = (result(&a), result(&b));
    assert_eq!(x.0.keys().collect::<Vec<_>>(), ["optimizer.safetensors", "state.json", "weights"]);
    assert!(x == y);
    assert_eq!(x.1.len(), 25, "20 steps and evaluations after 4, 8, 12, 16, 20");
    // The training did something, and a finished run changes nothing when started again.
    assert!(x.1[0].loss.unwrap() > 2.0 * x.1[23].loss.unwrap(), "{:?}", x.1);
    assert_eq!(train(&settings(&b, 20)).unwrap().step, 20);
    assert!(result(&b) == y);
}

#[test]
fn the_plug_may_be_pulled_before_any_file_operation() {
    let root = tempfile::tempdir().unwrap();
    let straight = root.path().join("straight");
    train(&settings(&straight, 8)).unwrap();
    let expected = result(&straight);
    let mut crashes = 0;
    for plug in 0.. {
        let folder = root.path().join(format!("plug{plug}"));
        let run = settings(&folder, 8);
        let first = Trial::default().train(&run, Disk::with_plug(plug), &mut quiet);
        let Err(error) = first else { break };
        assert_eq!(error.kind(), Kind::Interrupted, "{error}");
        crashes += 1;
        // A second crash, soon after the restart.
        let _ = Trial::default().train(&run, Disk::with_plug(plug % 23), &mut quiet);
        train(&run).unwrap();
        assert!(result(&folder) == expected, "operation {plug}");
        let names = Disk::default().list(&folder).unwrap();
        assert!(!names.iter().any(|n| n.ends_with(".tmp")), "{names:?}");
        assert_eq!(resume::find(&folder, "best").unwrap().file_name().unwrap(), "step-00000008");
    }
    assert!(crashes > 60, "{crashes}");
}

#[test]
fn old_checkpoints_go_and_the_best_stays() {
    let root = tempfile::tempdir().unwrap();
    let mut run = settings(root.path(), 12);
    run.evaluate.every = 2;
    run.checkpoint.every = 1;
    let bowl = Bowl { rising: 1.0, ..Bowl::default() };
    let mut evaluations = Vec::new();
    let mut observer = |event: &Event<'_>| {
        if let Event::Evaluated { step, best, .. } = event {
            evaluations.push((*step, *best));
        }
        Control::Continue
    };
    let trial = Trial { bowl, ..Trial::default() };
    let outcome = trial.train(&run, Disk::default(), &mut observer).unwrap();
    assert_eq!(evaluations[..2], [(2, true), (4, false)]);
    assert_eq!(outcome.best.unwrap().1, 2);
    let names = Disk::default().list(root.path()).unwrap();
    let steps: Vec<_> = names.iter().filter(|n| n.starts_with("step-")).collect();
    assert_eq!(steps, ["step-00000002", "step-00000011", "step-00000012"]);
    assert!(names.contains(&"curve.svg".into()) && names.contains(&"run.toml".into()));
    assert_eq!(resume::find(root.path(), "best").unwrap(), root.path().join("step-00000002"));
}

#[test]
fn patience_ends_the_run_and_is_remembered() {
    let root = tempfile::tempdir().unwrap();
    let mut run = settings(root.path(), 100);
    run.evaluate.every = 1;
    run.evaluate.patience = 3;
    let rising = || Trial { bowl: Bowl { rising: 1.0, ..Bowl::default() }, ..Trial::default() };
    let outcome = rising().train(&run, Disk::default(), &mut quiet).unwrap();
    assert_eq!((outcome.reason, outcome.step), (Reason::NoImprovement, 4));
    let outcome = rising().train(&run, Disk::default(), &mut quiet).unwrap();
    assert_eq!((outcome.reason, outcome.step), (Reason::NoImprovement, 4));
}

#[test]
fn not_a_number_stops_with_names_and_leaves_the_good_checkpoint() {
    let root = tempfile::tempdir().unwrap();
    let run = settings(root.path(), 12);
    let name = "blocks.0.mlp.in.weight";
    for bowl in [
        Bowl { poison: Some((15, name)), ..Bowl::default() },
        Bowl { poison: Some((15, name)), nan_loss: Some(15), ..Bowl::default() },
    ] {
        let trial = Trial { bowl, ..Trial::default() };
        let error = trial.train(&run, Disk::default(), &mut quiet).unwrap_err();
        assert_eq!(error.kind(), Kind::Numeric);
        let text = error.to_string();
        for part in ["at step 8", name, "element 1 is NaN", "last good checkpoint: ", "step 6"] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
    train(&run).unwrap();
    let other = root.path().join("other");
    train(&settings(&other, 12)).unwrap();
    assert!(result(root.path()) == result(&other));
}

#[test]
fn a_missing_gradient_is_an_error_and_a_zero_one_a_warning() {
    let root = tempfile::tempdir().unwrap();
    let bowl = Bowl { missing: Some("blocks.0.attn.out.weight"), ..Bowl::default() };
    let trial = Trial { bowl, ..Trial::default() };
    let error = trial.train(&settings(root.path(), 3), Disk::default(), &mut quiet).unwrap_err();
    assert_eq!(error.kind(), Kind::Gradient);
    let text = error.to_string();
    assert!(text.contains("blocks.0.attn.out.weight: 16 of 16 elements"), "{text}");
    // The same parameter may be frozen.
    let mut run = settings(root.path(), 3);
    run.optimizer.frozen = vec!["blocks.0.attn.out.*".into()];
    let bowl = Bowl {
        missing: Some("blocks.0.attn.out.weight"),
        zero: Some("norm.bias"),
        ..Bowl::default()
    };
    let mut warnings = Vec::new();
    let mut observer = |event: &Event<'_>| {
        if let Event::Warning(text) = event {
            warnings.push((*text).to_owned());
        }
        Control::Continue
    };
    Trial { bowl, ..Trial::default() }.train(&run, Disk::default(), &mut observer).unwrap();
    assert_eq!(warnings, ["the gradient of norm.bias is all zero at the first step"]);
}

#[test]
fn a_different_run_is_refused_with_all_differences() {
    let root = tempfile::tempdir().unwrap();
    train(&settings(root.path(), 4)).unwrap();
    let mut run = settings(root.path(), 8);
    run.train.seed = 5;
    run.optimizer.lr = Some(0.01);
    let config = Config { dropout: 0.5, ..config() };
    let trial = Trial { data: Noise { name: "other" }, config, ..Trial::default() };
    let text = trial.train(&run, Disk::default(), &mut quiet).unwrap_err().to_string();
    for part in [
        "made by a different run",
        "model.dropout was 0.0, now 0.5",
        "fingerprint was noise, now other",
        "train.seed was 1337, now 5",
        "train.steps, optimizer.*",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    run.train.seed = 1337;
    let mut warnings = Vec::new();
    let mut observer = |event: &Event<'_>| {
        if let Event::Warning(text) = event {
            warnings.push((*text).to_owned());
        }
        Control::Continue
    };
    let outcome = Trial::default().train(&run, Disk::default(), &mut observer).unwrap();
    assert_eq!(outcome.step, 8);
    assert!(warnings.iter().any(|w| w.contains("optimizer.lr was 0.05, now 0.01")), "{warnings:?}");
    // Two processes in one folder.
    let folder = resume::RunFolder::open(root.path(), Disk::default()).unwrap();
    let text = train(&run).unwrap_err().to_string();
    assert!(text.contains("another process trains"), "{text}");
    drop(folder);
    // A newer program's state.
    let state = resume::find(root.path(), "last").unwrap().join("state.json");
    std::fs::write(&state, "{\"version\": 99}").unwrap();
    let text = train(&run).unwrap_err().to_string();
    assert!(text.contains("version 99; this program reads version 1"), "{text}");
}

#[test]
fn evaluation_is_the_mean_over_counted_targets() {
    let (mut bowl, data, weights) =
        (Bowl::default(), Noise { name: "" }, Weights::init(&config(), 1));
    let (mut ids, mut targets) = (vec![0; B * T], vec![0; B * T]);
    let (mut sum, mut count) = (0.0, 0);
    for number in 0..3 {
        data.validation(number, &mut ids, &mut targets).unwrap();
        for p in 0..B * T {
            if targets[p] != IGNORE {
                sum += f64::from((weights.data()[p] - Bowl::target(&ids, p)).abs());
                count += 1;
            }
        }
    }
    let pool = Pool::new(1);
    let found = evaluate(&mut bowl, &pool, &weights, &data, 0, (&mut ids, &mut targets)).unwrap();
    assert_eq!((found.tokens, count), (21, 21));
    assert!((found.loss - sum / 21.0).abs() < 1e-12);
    assert!((found.perplexity - found.loss.exp()).abs() < 1e-12);
    assert!((found.bits_per_byte.unwrap() - found.loss / 2f64.ln() / 2.0).abs() < 1e-12);
    let first = evaluate(&mut bowl, &pool, &weights, &data, 2, (&mut ids, &mut targets)).unwrap();
    assert_eq!(first.tokens, 16);
}

const CHILD: &str = "PELLUCID_TEST_KILLED_FOLDER";

/// Not a test of its own: the process that the next test kills.
#[test]
fn killed_child() {
    let Some(folder) = std::env::var_os(CHILD) else { return };
    let mut slow = |_: &Event<'_>| {
        std::thread::sleep(std::time::Duration::from_millis(1));
        Control::Continue
    };
    let mut run = settings(Path::new(&folder), 60);
    run.checkpoint.every = 1;
    run.log.tensorboard = true;
    Trial::default().train(&run, Disk::default(), &mut slow).unwrap();
}

#[test]
fn kill_minus_nine_at_any_moment_loses_nothing() {
    let root = tempfile::tempdir().unwrap();
    let (a, b) = (root.path().join("a"), root.path().join("b"));
    let mut run = settings(&a, 60);
    run.checkpoint.every = 1;
    train(&run).unwrap();
    let mut random = Random::new(3, 0);
    let mut kills = 0;
    for _ in 0..200 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "train::tests::killed_child"])
            .env(CHILD, &b)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let wait = std::time::Duration::from_millis(20 + random.below(120) as u64);
        std::thread::sleep(wait);
        if kills < 12 && child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            child.wait().unwrap();
            kills += 1;
            continue;
        }
        if child.wait().unwrap().success() {
            break;
        }
    }
    assert!(kills >= 3, "only {kills} kills");
    assert!(result(&a) == result(&b));
}

#[test]
fn public_entry_needs_no_disk() {
    let root = tempfile::tempdir().unwrap();
    let (run, config) = (settings(root.path(), 2), config());
    let job = Job {
        run: &run,
        config: &config,
        weights: &mut Weights::init(&config, 1),
        graph: &mut Bowl::default(),
        data: &Noise { name: "" },
        store: &Plain,
        pool: &Pool::new(1),
    };
    assert_eq!(pretrain(job, &mut quiet).unwrap().step, 2);
}
