//! Factors from a folder, merged into their base or beside it.

use super::super::folder::{self, CONFIG, INDEX, LOAD, Loaded, WEIGHTS};
use super::super::names::{Family, Keys, Place, parse_config};
use super::super::safetensors::{TensorFile, load_tensors, shape_text};
use super::super::snapshot::Snapshot;
use super::{ADAPTER, BASE, FACTORS, Module, PREFIX, fingerprint, modules};
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::model::adapter::{Part, add_product};
use crate::model::config::Config;
use crate::model::weights::{Weights, parameters};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Most faults printed.
const MOST_FAULTS: usize = 16;

/// Whether `folder` holds an adapter and no weights.
pub(in super::super) fn is_one(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).is_file();
    has(ADAPTER) && !has(WEIGHTS) && !has(INDEX)
}

/// `adapter_config.json`.
struct Settings {
    base: String,
    alpha: f64,
    root: bool,
    alphas: BTreeMap<String, f64>,
}

impl Settings {
    fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(ADAPTER);
        let text = files::read_text(LOAD, &path)?;
        let mut keys = Keys::parse(&text, &path.display().to_string(), LOAD)?;
        if keys.text("peft_type", "LORA") != "LORA" {
            keys.fault("peft_type is not LORA");
        }
        if keys.text("bias", "none") != "none" {
            keys.fault("bias is not none: biases of an adapter are not read");
        }
        keys.only("use_dora", false, false);
        keys.only("lora_bias", false, false);
        let alphas = match keys.get("alpha_pattern") {
            Some(Value::Object(map)) => {
                map.iter().filter_map(|(k, v)| Some((k.clone(), v.as_f64()?))).collect()
            }
            _ => BTreeMap::new(),
        };
        let settings = Self {
            base: keys.text("base_model_name_or_path", ""),
            alpha: keys.float("lora_alpha", 8.0),
            root: keys.flag("use_rslora", false),
            alphas,
        };
        keys.finish(Kind::Format, "merge it in PEFT (merge_and_unload), and import what it saves")?;
        Ok(settings)
    }

    /// s of a module with factors of this rank.
    fn scale(&self, module: &str, rank: usize) -> f32 {
        let ends = |key: &&String| module == key.as_str() || module.ends_with(&format!(".{key}"));
        let alpha = self.alphas.keys().find(ends).map_or(self.alpha, |key| self.alphas[key]);
        let rank = rank as f64;
        (alpha / if self.root { rank.sqrt() } else { rank }) as f32
    }

    /// Where the base is: as told, or beside the adapter.
    fn base(&self, folder: &Path) -> Result<PathBuf> {
        let told = PathBuf::from(&self.base);
        let beside = folder.join(&self.base);
        let is_model = |path: &Path| path.join(CONFIG).is_file() && !is_one(path);
        for path in [told, beside] {
            if !self.base.is_empty() && is_model(&path) {
                return Ok(path);
            }
        }
        let message = format!(
            "{}: the model that the adapter belongs to, {:?}, is not a model's folder here",
            folder.join(ADAPTER).display(),
            self.base
        );
        Err(Error::new(Kind::Io, LOAD, message)
            .hint("write the folder of that model as base_model_name_or_path"))
    }
}

/// The folder whose tokenizer, chat template and other files about text belong to the model of `folder`: itself, or of
/// an adapter without a tokenizer, that of its base.
///
/// # Errors
/// An adapter without a tokenizer whose base is absent.
pub fn text_folder(folder: &Path) -> Result<PathBuf> {
    if !is_one(folder) || folder.join(folder::TOKENIZER).is_file() {
        return Ok(folder.to_path_buf());
    }
    text_folder(&Settings::read(folder)?.base(folder)?)
}

/// The config of the merged model: the folder's own, or that of its base.
pub(in super::super) fn load_config(folder: &Path) -> Result<(Family, Config)> {
    let path = folder.join(CONFIG);
    if path.is_file() {
        return parse_config(&files::read_text(LOAD, &path)?, &path.display().to_string());
    }
    folder::load_config(&Settings::read(folder)?.base(folder)?)
}

/// The model with the adapter merged in.
///
/// # Errors
/// A base that is absent, or another than the adapter was made for; an adapter of another kind; tensors that do not
/// fit, all listed.
pub(in super::super) fn load(folder: &Path) -> Result<Loaded> {
    let settings = Settings::read(folder)?;
    let base = settings.base(folder)?;
    let (family, config) = load_config(folder)?;
    let from = folder::load(&base)?;
    let mut weights = Weights::zeros(&config);
    let mut missing = BTreeSet::new();
    for spec in parameters(&config) {
        let same =
            from.weights.specs().iter().any(|s| s.name == spec.name && s.shape == spec.shape);
        match same {
            true => weights.get_mut(&spec.name)?.copy_from_slice(from.weights.get(&spec.name)?),
            false => {
                missing.insert(spec.name);
            }
        }
    }
    let file = load_tensors(&folder.join(FACTORS))?;
    let found = sort(&config, &file)?;
    check_base(&file, (&config, &weights), &base)?;
    for (name, values) in &found.saved {
        weights.get_mut(name)?.copy_from_slice(values);
        missing.remove(name);
    }
    if !missing.is_empty() {
        let message =
            format!("{}: parameters are neither here nor in the base", file.path().display());
        let error =
            Error::new(Kind::Format, LOAD, message).fact(format!("base: {}", base.display()));
        return Err(missing.into_iter().fold(error, Error::fact));
    }
    for factors in &found.factors {
        let scale = settings.scale(&factors.name, factors.rank);
        let (a, b) = (&*factors.a, &*factors.b);
        add_product(&mut weights, &factors.part, (a, b), (factors.rank, scale))?;
    }
    let mut snapshot = Snapshot::open(folder, &[folder::GENERATION, folder::TOKENIZER])?;
    let generation = match snapshot.take_text(folder::GENERATION)? {
        Some(text) => super::super::GenerationConfig::from_json(&text, folder::GENERATION)?,
        None => from.generation,
    };
    let tokenizer = snapshot.take_text(folder::TOKENIZER)?.or(from.tokenizer);
    Ok(Loaded { config, weights, generation, tokenizer, family, stored: from.stored })
}

/// Reads the factors, and what stands on the stack, into `weights` of `config`, which has that adapter.
///
/// # Errors
/// As [`load`](super::super::load); another rank, scale or other projections than `config` has.
pub fn read_factors(folder: &Path, config: &Config, weights: &mut Weights) -> Result<()> {
    let settings = Settings::read(folder)?;
    let plain = Config { adapter: None, ..config.clone() };
    let (rank, scale) = config.adapter.as_ref().map_or((0, 0.0), |a| (a.rank, a.scale()));
    let file = load_tensors(&folder.join(FACTORS))?;
    let found = sort(&plain, &file)?;
    check_base(&file, (&plain, weights), Path::new(&settings.base))?;
    let mut missing: BTreeSet<String> =
        parameters(config).into_iter().filter_map(|s| s.trainable.then_some(s.name)).collect();
    let mut faults = vec![];
    for (name, values) in &found.saved {
        weights.get_mut(name)?.copy_from_slice(values);
        missing.remove(name);
    }
    for factors in &found.factors {
        let told = settings.scale(&factors.name, factors.rank);
        let names = ["a", "b"].map(|x| format!("{}.lora.{x}", factors.part.name));
        if factors.rank != rank || told.to_bits() != scale.to_bits() || !missing.contains(&names[0])
        {
            let what = format!("{}: rank {}, scale {told}", factors.name, factors.rank);
            faults.push(format!("{what}; the run has rank {rank}, scale {scale}, or none there"));
            continue;
        }
        for (name, values) in names.iter().zip([&factors.a, &factors.b]) {
            weights.get_mut(name)?.copy_from_slice(values);
            missing.remove(name);
        }
    }
    faults.extend(missing.into_iter().map(|name| format!("missing: {name}")));
    refuse(&file, faults)
}

/// Factors of one part.
struct Factors {
    /// The family's name of the module.
    name: String,
    part: Part,
    rank: usize,
    /// (R, I).
    a: Vec<f32>,
    /// (P, R).
    b: Vec<f32>,
}

/// What a file of an adapter holds.
#[derive(Default)]
struct Found {
    factors: Vec<Factors>,
    /// Parameters of ours, whole.
    saved: Vec<(String, Vec<f32>)>,
}

/// Finds a place for every tensor; an error lists those that have none.
fn sort(config: &Config, file: &TensorFile) -> Result<Found> {
    let (family, modules) = (Family::of(config), modules(config));
    let pieces = family.pieces(config);
    let (mut found, mut faults) = (Found::default(), vec![]);
    for name in file.names() {
        let inner = name.strip_prefix(PREFIX).unwrap_or(name).replace(".default.", ".");
        let inner = inner.replace(".modules_to_save.", ".");
        if inner.ends_with(".lora_B.weight") {
            continue;
        }
        if let Some(module) = inner.strip_suffix(".lora_A.weight") {
            let canonical = family.canonical(&format!("{module}.weight"));
            let of = |m: &&Module| canonical.strip_suffix(".weight") == Some(&*m.name);
            match modules.iter().find(of) {
                None => faults.push(format!("the model has no {module}")),
                Some(module) => match pair(file, name, module) {
                    Ok(factors) => found.factors.push(factors),
                    Err(fault) => faults.push(fault),
                },
            }
            continue;
        }
        let canonical = family.canonical(&inner);
        let place = pieces.iter().find(|p| p.name == canonical).map(|p| (&p.place, &p.shape));
        match place {
            Some((Place::Rows(ours, rows), shape)) if rows.start == 0 => {
                if file.shape(name)? == shape.as_slice() {
                    found.saved.push((ours.clone(), file.read(name)?));
                } else {
                    let (is, must) = (shape_text(file.shape(name)?), shape_text(shape));
                    faults.push(format!("{name} is {is}, but the model has {must}"));
                }
            }
            _ => faults.push(format!("unexpected: {name}")),
        }
    }
    refuse(file, faults)?;
    Ok(found)
}

/// The two factors of a module, `name` being the first's.
fn pair(file: &TensorFile, name: &str, module: &Module) -> Result<Factors, String> {
    let second = name.replace(".lora_A.", ".lora_B.");
    let shape = |name: &str| file.shape(name).map_err(|_| format!("{name} is missing"));
    let (a, b) = (shape(name)?, shape(&second)?);
    let part = &module.part;
    let rank = a.first().copied().unwrap_or(0);
    if rank == 0 || a != [rank, part.columns] || b != [part.rows.len(), rank] {
        let (i, p) = (part.columns, part.rows.len());
        let (a, b) = (shape_text(a), shape_text(b));
        return Err(format!(
            "{}: factors {a} and {b}, but the model needs (R, {i}) and ({p}, R)",
            module.name
        ));
    }
    let read = |name: &str| file.read(name).map_err(|e| e.to_string());
    let (a, b) = (read(name)?, read(&second)?);
    Ok(Factors { name: module.name.clone(), part: part.clone(), rank, a, b })
}

fn refuse(file: &TensorFile, faults: Vec<String>) -> Result<()> {
    if faults.is_empty() {
        return Ok(());
    }
    let (count, path) = (faults.len(), file.path().display());
    let message =
        format!("{path}: {count} tensors do not fit the model: the adapter is for another");
    let error = Error::new(Kind::Format, LOAD, message).hint(
        "base_model_name_or_path in adapter_config.json must name the model it was trained on",
    );
    Err(faults.into_iter().take(MOST_FAULTS).fold(error, Error::fact))
}

fn check_base(
    file: &TensorFile,
    (config, weights): (&Config, &Weights),
    base: &Path,
) -> Result<()> {
    let Some(told) = file.metadata().get(BASE) else { return Ok(()) };
    if *told == fingerprint(config, weights)? {
        return Ok(());
    }
    let message = format!("{}: the adapter was trained on other weights", file.path().display());
    Err(Error::new(Kind::Format, LOAD, message)
        .fact(format!("base: {}", base.display()))
        .hint("the base was trained further or replaced: put the right one there"))
}
