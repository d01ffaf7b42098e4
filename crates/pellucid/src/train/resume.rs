//! Stop at any moment, continue bit for bit.
//!
//! A run's folder:
//! ```text
//! run.toml  metrics.jsonl  curve.svg      for people and tools
//! step-00000500/                          one checkpoint: model files, optimizer.safetensors, state.json, run.toml
//! last  best                              each names a step folder
//! ```
//! A checkpoint is written into `step-….tmp`, renamed, and only then named by `last`: the one switch. Whatever stands
//! in the folder besides what `last` names is left over from a crash and harmless. Random numbers are functions of
//! (seed, step) and batches functions of the step, so `step` is the whole position.

use super::disk::Disk;
use super::optimizer::AdamW;
use super::run::RunConfig;
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::model::config::Config;
use crate::model::weights::Weights;
use serde::{Deserialize, Serialize};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

/// Version of state.json.
pub const VERSION: u32 = 1;

/// Writes and reads the model itself (sizes, weights, tokenizer); training state is not its business.
pub trait Store {
    /// Writes everything a user of the model needs into `folder`, flushed to disk.
    fn save(&self, folder: &Path, weights: &Weights) -> Result<()>;
    /// Reads the weights back.
    fn load(&self, folder: &Path, weights: &mut Weights) -> Result<()>;
}

/// Where a run stands; the rest is in the weights and moments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// [`VERSION`].
    pub version: u32,
    /// Updates done. Data position, random numbers and learning rate follow from it.
    pub step: u64,
    /// Tokens seen.
    pub tokens: u64,
    /// Lowest validation loss so far.
    pub best_loss: Option<f64>,
    /// Step of the lowest validation loss.
    pub best_step: Option<u64>,
    /// Evaluations since then.
    pub evaluations_without_improvement: u64,
    /// Length of metrics.jsonl; what stands beyond is from after this checkpoint.
    pub metrics_bytes: u64,
    /// Wall-clock seconds of training.
    pub seconds: f64,
    /// The model's sizes.
    pub model: Config,
    /// Of the tokens.
    pub data: String,
}

impl State {
    /// Before the first step.
    #[must_use]
    pub fn new(model: &Config, data: String) -> Self {
        Self {
            version: VERSION,
            step: 0,
            tokens: 0,
            best_loss: None,
            best_step: None,
            evaluations_without_improvement: 0,
            metrics_bytes: 0,
            seconds: 0.0,
            model: model.clone(),
            data,
        }
    }
}

/// A run's folder, locked for this process.
#[derive(Debug)]
pub struct RunFolder {
    root: PathBuf,
    /// The disk beneath.
    pub disk: Disk,
    _lock: File,
}

/// The name of a checkpoint's folder.
#[must_use]
pub fn step_name(step: u64) -> String {
    format!("step-{step:08}")
}

fn step_of(name: &str) -> Option<u64> {
    name.strip_prefix("step-")?.parse().ok()
}

/// The checkpoint that `pointer` ("last" or "best") names in a run's folder; a folder of model files is returned as it
/// is. This is how other commands find the model of a run.
pub fn find(folder: &Path, pointer: &str) -> Result<PathBuf> {
    if let Ok(text) = files::read_text("train", &folder.join(pointer)) {
        let path = folder.join(text.trim());
        if step_of(text.trim()).is_some() && path.is_dir() {
            return Ok(path);
        }
    }
    if ["config.json", "adapter_config.json"].iter().any(|name| folder.join(name).is_file()) {
        return Ok(folder.into());
    }
    let message = format!("{}: holds no checkpoint named by {pointer:?}", folder.display());
    Err(Error::new(Kind::Io, "train", message).hint("give the folder of a run or of a checkpoint"))
}

/// The checkpoints of a run's folder, oldest first.
///
/// # Errors
/// A folder that cannot be listed.
pub fn checkpoints(run: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(run).map_err(|e| Error::io("train", run, e))?;
    let mut all: Vec<(u64, PathBuf)> = entries
        .filter_map(|e| e.ok())
        .filter_map(|e| Some((step_of(e.file_name().to_str()?)?, e.path())))
        .filter(|(_, path)| path.is_dir())
        .collect();
    all.sort();
    Ok(all.into_iter().map(|(_, path)| path).collect())
}

impl RunFolder {
    /// Opens or creates the folder and takes its lock, which ends with the process.
    pub fn open(root: &Path, disk: Disk) -> Result<Self> {
        disk.create_folder(root)?;
        // The folder itself is locked where the system allows it, so that no stray file is left.
        let (path, lock) = match cfg!(unix) {
            true => (root.to_path_buf(), File::open(root)),
            false => (root.join(".lock"), File::create(root.join(".lock"))),
        };
        let lock = lock.map_err(|e| Error::io("train", &path, e))?;
        if let Err(TryLockError::WouldBlock) = lock.try_lock() {
            let message = format!("{}: another process trains in this folder", root.display());
            return Err(Error::new(Kind::Resource, "train", message)
                .hint("wait for it, or set checkpoint.folder to another folder"));
        }
        Ok(Self { root: root.into(), disk, _lock: lock })
    }

    /// A path inside.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The newest checkpoint that was completed, if any: what `last` names, or, if that is unreadable, the newest.
    pub fn last(&self) -> Result<Option<PathBuf>> {
        let pointer = self.path("last");
        if pointer.is_file() {
            let name = files::read_text("train", &pointer)?;
            let path = self.path(name.trim());
            if step_of(name.trim()).is_some() && path.is_dir() {
                return Ok(Some(path));
            }
        }
        let names = self.disk.list(&self.root)?;
        Ok(names.iter().filter(|n| step_of(n).is_some()).max().map(|n| self.path(n)))
    }

    /// Writes a whole checkpoint and switches to it.
    pub fn save(
        &self,
        state: &State,
        run: &RunConfig,
        weights: &Weights,
        optimizer: &AdamW,
        store: &dyn Store,
    ) -> Result<PathBuf> {
        let name = step_name(state.step);
        let (temporary, whole) = (self.path(&format!("{name}.tmp")), self.path(&name));
        self.disk.remove_folder(&temporary)?;
        self.disk.create_folder(&temporary)?;
        self.disk.tick()?;
        store.save(&temporary, weights)?;
        self.disk.tick()?;
        super::moments::save(&temporary.join("optimizer.safetensors"), weights.specs(), optimizer)?;
        self.disk.replace(&temporary.join("run.toml"), run.to_toml().as_bytes())?;
        let json = serde_json::to_vec_pretty(state)
            .map_err(|e| Error::new(Kind::Format, "train", "state.json").source(e))?;
        self.disk.replace(&temporary.join("state.json"), &json)?;
        self.disk.sync_folder(&temporary)?;
        if whole.exists() {
            // Left over from a crash between rename and switch; `last` does not name it.
            let old = self.path(&format!("{name}.old.tmp"));
            self.disk.remove_folder(&old)?;
            self.disk.rename(&whole, &old)?;
        }
        self.disk.rename(&temporary, &whole)?;
        self.disk.replace(&self.path("last"), format!("{name}\n").as_bytes())?;
        self.point_to_best(state)?;
        Ok(whole)
    }

    fn point_to_best(&self, state: &State) -> Result<()> {
        let Some(best) = state.best_step.map(step_name) else { return Ok(()) };
        if self.path(&best).is_dir() {
            self.disk.replace(&self.path("best"), format!("{best}\n").as_bytes())?;
        }
        Ok(())
    }

    /// Removes all checkpoints but the `keep` newest up to `last`'s, the best, and removes leftovers.
    pub fn prune(&self, state: &State, keep: usize) -> Result<()> {
        let names = self.disk.list(&self.root)?;
        let whole = names.iter().filter(|n| step_of(n).is_some_and(|s| s <= state.step));
        let kept: Vec<&String> = whole.rev().take(keep.max(1)).collect();
        let best = state.best_step.map(step_name);
        for name in &names {
            let leftover = name.starts_with("step-") && name.ends_with(".tmp");
            let old =
                step_of(name).is_some() && !kept.contains(&name) && best.as_ref() != Some(name);
            if leftover || old {
                self.disk.remove_folder(&self.path(name))?;
            }
        }
        Ok(())
    }

    /// Reads a checkpoint back into `weights` and `optimizer`, after checking that it continues this run.
    /// Returns the state, and warnings about settings that were changed on purpose.
    pub fn load(
        &self,
        folder: &Path,
        fresh: &State,
        run: &RunConfig,
        (weights, optimizer): (&mut Weights, &mut AdamW),
        store: &dyn Store,
    ) -> Result<(State, Vec<String>)> {
        let path = folder.join("state.json");
        let state = parse(&path, &files::read("train", &path)?)?;
        let saved = RunConfig::load(&folder.join("run.toml"))?;
        let changed = super::compatible::compare(folder, (&state, fresh), (&saved, run))?;
        store.load(folder, weights)?;
        let thawed = saved.optimizer.frozen != run.optimizer.frozen;
        let moments = folder.join("optimizer.safetensors");
        super::moments::load(&moments, weights.specs(), optimizer, thawed)?;
        self.point_to_best(&state)?;
        Ok((state, changed))
    }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<State> {
    let bad = |why: String| {
        Error::new(Kind::Format, "train", format!("{}: {why}", path.display()))
            .hint("continue from another step folder by writing its name into the file `last`")
    };
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|e| bad(e.to_string()))?;
    let version = value.get("version").and_then(serde_json::Value::as_u64);
    if version != Some(u64::from(VERSION)) {
        let version = version.map_or("none".into(), |v| v.to_string());
        return Err(bad(format!("version {version}; this program reads version {VERSION}")));
    }
    serde_json::from_value(value).map_err(|e| bad(e.to_string()))
}
