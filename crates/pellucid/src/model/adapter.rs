//! LoRA (Hu et al. 2021): beside frozen matrices, trainable additions of low rank.
//!
//! A projection `y = x·Wᵀ` becomes `y = x·Wᵀ + s·(x·Aᵀ)·Bᵀ`, with A (R, I) drawn and B (P, R) zero at first, so that
//! training starts from the model as it was; s is α/R, or α/√R (Kalajdzievski 2023). Only A, B and what stands on the
//! stack move. Merged, `W + s·B·A`, the model is as fast as before.

use super::builder::{Builder, Purpose};
use super::config::{Config, Core, Output};
use super::parameters::{Stack, stacks};
use super::weights::{Weights, parameters};
use crate::autograd::Value;
use crate::error::Result;
use crate::ops::dropout::Dropout;
use crate::ops::low_rank::LowRank;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Which projections are added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Queries.
    Q,
    /// Keys.
    K,
    /// Values.
    V,
    /// Queries, keys and values by one pair of factors (GPT-2).
    Qkv,
    /// What attention writes.
    Out,
    /// The gate of a gated feed-forward.
    Gate,
    /// The feed-forward's first matrix.
    Up,
    /// The feed-forward's second matrix.
    Down,
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Q, Self::K, Self::V, Self::Qkv, Self::Out, Self::Gate, Self::Up, Self::Down];

    /// Its name in settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Q => "q",
            Self::K => "k",
            Self::V => "v",
            Self::Qkv => "qkv",
            Self::Out => "out",
            Self::Gate => "gate",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// How a model is added to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adapter {
    /// R.
    pub rank: usize,
    /// α.
    pub alpha: f32,
    /// Whether α is divided by √R in place of R.
    pub root: bool,
    /// Probability of dropping an element of what A reads.
    pub dropout: f32,
    /// Where.
    pub targets: Vec<Target>,
}

impl Adapter {
    /// s.
    #[must_use]
    pub fn scale(&self) -> f32 {
        let rank = self.rank as f32;
        self.alpha / if self.root { rank.sqrt() } else { rank }
    }
}

/// Rows of a matrix that can be added to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Such as `blocks.3.attn.q`; its factors are `.lora.a` and `.lora.b` of it.
    pub name: String,
    /// Which.
    pub target: Target,
    /// The parameter, such as `blocks.3.attn.qkv.weight`.
    pub matrix: String,
    /// P rows of it.
    pub rows: Range<usize>,
    /// I.
    pub columns: usize,
}

/// Everything in `config` that can be added to, in the order of the data flow.
#[must_use]
pub fn parts(config: &Config) -> Vec<Part> {
    let mut all = vec![];
    if config.core == Core::Lstm {
        return all;
    }
    let (c, f) = (config.width, config.hidden);
    let (q, kv) = (config.heads * config.head_width, config.kv_heads * config.head_width);
    for Stack { prefix, layers, crosses } in stacks(config) {
        for i in 0..layers {
            let block = format!("{prefix}blocks.{i}");
            let mut add = |name: &str, target, matrix: &str, rows, columns| {
                let (name, matrix) =
                    (format!("{block}.{name}"), format!("{block}.{matrix}.weight"));
                all.push(Part { name, target, matrix, rows, columns });
            };
            add("attn.q", Target::Q, "attn.qkv", 0..q, c);
            add("attn.k", Target::K, "attn.qkv", q..q + kv, c);
            add("attn.v", Target::V, "attn.qkv", q + kv..q + 2 * kv, c);
            add("attn.qkv", Target::Qkv, "attn.qkv", 0..q + 2 * kv, c);
            add("attn.out", Target::Out, "attn.out", 0..c, q);
            if crosses {
                add("cross.q", Target::Q, "cross.q", 0..q, c);
                add("cross.k", Target::K, "cross.kv", 0..kv, c);
                add("cross.v", Target::V, "cross.kv", kv..2 * kv, c);
                add("cross.out", Target::Out, "cross.out", 0..c, q);
            }
            if !config.has_feed_forward() {
                continue;
            }
            if config.gated {
                add("mlp.gate", Target::Gate, "mlp.in", 0..f, c);
                add("mlp.up", Target::Up, "mlp.in", f..2 * f, c);
            } else {
                add("mlp.up", Target::Up, "mlp.in", 0..f, c);
            }
            add("mlp.down", Target::Down, "mlp.out", 0..c, f);
        }
    }
    all
}

/// The parts that `config` adds to.
#[must_use]
pub fn chosen(config: &Config) -> Vec<Part> {
    let Some(adapter) = &config.adapter else { return vec![] };
    parts(config).into_iter().filter(|part| adapter.targets.contains(&part.target)).collect()
}

/// Whether a parameter moves when the model is added to: the factors, and what stands on the stack of a model that
/// labels.
#[must_use]
pub(super) fn moves(config: &Config, name: &str) -> bool {
    let labels = matches!(config.output, Output::Sequence | Output::Positions);
    config.adapter.is_none()
        || name.contains(".lora.")
        || labels && (name.starts_with("head.") || name.starts_with("pooler."))
}

/// The rules of `config.adapter`.
pub(super) fn faults(config: &Config, faults: &mut Vec<String>) {
    let Some(adapter) = &config.adapter else { return };
    let mut rule = |holds: bool, fault: String| {
        if !holds {
            faults.push(fault);
        }
    };
    rule(adapter.rank > 0, "adapter.rank = 0, but it must be at least 1".into());
    rule(
        adapter.alpha.is_finite() && adapter.alpha > 0.0,
        format!("adapter.alpha = {}, but it must be above 0", adapter.alpha),
    );
    rule(
        (0.0..1.0).contains(&adapter.dropout),
        format!("adapter.dropout = {}, but it must be at least 0 and below 1", adapter.dropout),
    );
    rule(!adapter.targets.is_empty(), "adapter.targets names no projection".into());
    let all = parts(config);
    for (i, target) in adapter.targets.iter().enumerate() {
        let name = target.name();
        rule(!adapter.targets[..i].contains(target), format!("adapter.targets names {name} twice"));
        rule(
            all.iter().any(|part| part.target == *target),
            format!("adapter.targets names {name}, which this model has not"),
        );
    }
    let has = |target| adapter.targets.contains(&target);
    rule(
        !(has(Target::Qkv) && (has(Target::Q) || has(Target::K) || has(Target::V))),
        "adapter.targets names qkv, and parts of it as well".into(),
    );
}

/// Adds what the adapter has for `matrix` to its product `y (rows, out)` with `x (rows, columns)`.
pub(super) fn add(
    m: &mut Builder<'_>,
    matrix: &str,
    (x, rows, columns): (Value, usize, usize),
    (mut y, out): (Value, usize),
) -> Result<Value> {
    let config = m.config;
    let Some(adapter) = &config.adapter else { return Ok(y) };
    for part in chosen(config).into_iter().filter(|part| part.matrix == matrix) {
        let factors = [
            m.param(&format!("{}.lora.a", part.name))?,
            m.param(&format!("{}.lora.b", part.name))?,
        ];
        let read = if m.purpose == Purpose::Train && adapter.dropout > 0.0 {
            let op = Dropout::new(rows * columns, adapter.dropout, m.stream())?;
            m.push(op, &[x], &[], &[])?
        } else {
            x
        };
        let factors_of = (adapter.rank, adapter.scale());
        let op = LowRank::new(rows, (columns, out), part.rows, factors_of, m.precision)?;
        y = m.push(op, &[read, y], &[], &factors)?;
    }
    Ok(y)
}

/// The model with the additions in its matrices: the same answers, without the factors.
///
/// # Errors
/// Weights of another config.
pub fn merge(config: &Config, weights: &Weights) -> Result<(Config, Weights)> {
    let plain = Config { adapter: None, ..config.clone() };
    let mut merged = Weights::zeros(&plain);
    for spec in parameters(&plain) {
        merged.get_mut(&spec.name)?.copy_from_slice(weights.get(&spec.name)?);
    }
    let Some(adapter) = &config.adapter else { return Ok((plain, merged)) };
    for part in chosen(config) {
        let a = weights.get(&format!("{}.lora.a", part.name))?;
        let b = weights.get(&format!("{}.lora.b", part.name))?;
        add_product(&mut merged, &part, (a, b), (adapter.rank, adapter.scale()))?;
    }
    Ok((plain, merged))
}

/// `W[rows] += s·B·A`, summed in f64.
///
/// # Errors
/// No such matrix.
pub fn add_product(
    weights: &mut Weights,
    part: &Part,
    (a, b): (&[f32], &[f32]),
    (rank, scale): (usize, f32),
) -> Result<()> {
    let columns = part.columns;
    let matrix = weights.get_mut(&part.matrix)?;
    let rows = matrix[part.rows.start * columns..part.rows.end * columns].chunks_exact_mut(columns);
    let mut sums = vec![0.0f64; columns];
    for (row, b) in rows.zip(b.chunks_exact(rank)) {
        sums.fill(0.0);
        for (&b, a) in b.iter().zip(a.chunks_exact(columns)) {
            sums.iter_mut().zip(a).for_each(|(sum, &a)| *sum += f64::from(b) * f64::from(a));
        }
        for (w, sum) in row.iter_mut().zip(&sums) {
            *w = (f64::from(*w) + f64::from(scale) * sum) as f32;
        }
    }
    Ok(())
}
