//! AdamW (Loshchilov & Hutter 2019) over parameter groups; it owns the two moments of every weight.

use super::run::OptimizerKeys;
use crate::backend::buffer::Buffer;
use crate::backend::cpu::pool::Pool;
use crate::error::{Error, Kind, Result};
use crate::model::weights::{ParamSpec, Weights};
use crate::ops::adamw;
use std::collections::BTreeSet;
use std::ops::Range;

/// Parameters that are updated by the same rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// What it is called in reports.
    pub name: String,
    /// Indices into the model's parameters.
    pub params: Vec<usize>,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// What the schedule's learning rate is multiplied by.
    pub lr_scale: f64,
}

/// The optimizer: first and second moments, flat like the weights.
#[derive(Clone, Debug)]
pub struct AdamW {
    groups: Vec<Group>,
    rule: adamw::AdamW,
    m: Buffer,
    v: Buffer,
}

impl AdamW {
    /// Two groups: matrices decay, norms and biases do not; parameters that `keys.frozen` names are in neither.
    pub fn new(specs: &[ParamSpec], keys: &OptimizerKeys) -> Result<Self> {
        let unused: Vec<&String> =
            keys.frozen.iter().filter(|p| !specs.iter().any(|s| matches(p, &s.name))).collect();
        if !unused.is_empty() {
            let error =
                Error::new(Kind::Config, "optimizer", "optimizer.frozen names no parameter")
                    .hint("`pellucid inspect` lists the names; end with '*' to name a beginning");
            return Err(unused.into_iter().fold(error, |e, p| e.fact(format!("{p:?}"))));
        }
        let group = |name: &str, decay: bool, weight_decay: f64| Group {
            name: name.into(),
            params: (0..specs.len())
                .filter(|&i| specs[i].decay == decay && specs[i].trainable)
                .filter(|&i| !keys.frozen.iter().any(|p| matches(p, &specs[i].name)))
                .collect(),
            weight_decay,
            lr_scale: 1.0,
        };
        let groups = vec![group("decay", true, keys.weight_decay), group("no decay", false, 0.0)];
        if groups.iter().all(|g| g.params.is_empty()) {
            let message = "optimizer.frozen leaves nothing to train";
            return Err(Error::new(Kind::Config, "optimizer", message));
        }
        Ok(Self::with_groups(specs, groups, keys))
    }

    /// Any groups; parameters in none of them are frozen.
    #[must_use]
    pub fn with_groups(specs: &[ParamSpec], groups: Vec<Group>, keys: &OptimizerKeys) -> Self {
        let len = specs.last().map_or(0, |s| s.range().end.next_multiple_of(16));
        let rule = adamw::AdamW { beta1: keys.beta1, beta2: keys.beta2, eps: keys.eps };
        Self { groups, rule, m: Buffer::zeros(len), v: Buffer::zeros(len) }
    }

    /// The groups.
    #[must_use]
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The first and second moments, flat like the weights.
    #[must_use]
    pub fn moments(&self) -> (&[f32], &[f32]) {
        (&self.m, &self.v)
    }

    /// The moments, to be restored.
    pub fn moments_mut(&mut self) -> (&mut [f32], &mut [f32]) {
        (&mut self.m, &mut self.v)
    }

    /// Indices of the parameters that move, ascending.
    #[must_use]
    pub fn trainable(&self) -> Vec<usize> {
        let mut all: Vec<usize> = self.groups.iter().flat_map(|g| &g.params).copied().collect();
        all.sort_unstable();
        all
    }

    /// Names of the parameters that do not move.
    #[must_use]
    pub fn frozen(&self, specs: &[ParamSpec]) -> BTreeSet<String> {
        let moving = self.trainable();
        let still = (0..specs.len()).filter(|i| moving.binary_search(i).is_err());
        still.map(|i| specs[i].name.clone()).collect()
    }

    /// Where the parameters that move lie in the flat buffer.
    #[must_use]
    pub fn ranges(&self, specs: &[ParamSpec]) -> Vec<Range<usize>> {
        self.trainable().into_iter().map(|i| specs[i].range()).collect()
    }

    /// One update with the gradients `grads * multiplier`; `step` counts from 0.
    pub fn update(
        &mut self,
        pool: &Pool,
        weights: &mut Weights,
        grads: &[f32],
        step: u64,
        (lr, multiplier): (f64, f64),
    ) -> Result<()> {
        for group in &self.groups {
            let (lr, weight_decay) = (lr * group.lr_scale, group.weight_decay);
            let rule = adamw::Step { lr, weight_decay, step: step + 1, multiplier };
            for &index in &group.params {
                let range = weights.specs()[index].range();
                let (m, v) = (&mut self.m[range.clone()], &mut self.v[range.clone()]);
                let piece = &mut weights.data_mut()[range.clone()];
                self.rule.update(pool, rule, piece, &grads[range], m, v)?;
            }
        }
        Ok(())
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::Config;
    use crate::tensor::random::Random;

    fn tiny() -> Config {
        Config {
            layers: 1,
            width: 8,
            heads: 2,
            kv_heads: 2,
            head_width: 4,
            hidden: 12,
            vocab: 5,
            ..Config::gpt2()
        }
    }

    /// Plain f64 loops, written from the paper's algorithm 2 with a constant schedule multiplier.
    #[test]
    fn three_updates_agree_with_the_paper() {
        let mut weights = Weights::init(&Config { context: 3, ..tiny() }, 1);
        let keys = OptimizerKeys {
            weight_decay: 0.3,
            frozen: vec!["blocks.0.mlp.*".into()],
            ..Default::default()
        };
        let specs = weights.specs().to_vec();
        let mut optimizer = AdamW::new(&specs, &keys).unwrap();
        let n = weights.data().len();
        let start = weights.data().to_vec();
        let (mut w, mut m, mut v) =
            (start.iter().map(|x| f64::from(*x)).collect::<Vec<_>>(), vec![0.0; n], vec![0.0; n]);
        let pool = Pool::new(1);
        let mut random = Random::new(9, 0);
        for t in 1..=3 {
            let mut grads = vec![0.0f32; n];
            specs.iter().for_each(|s| grads[s.range()].fill_with(|| random.normal()));
            let lr = 0.01 * t as f64;
            optimizer.update(&pool, &mut weights, &grads, t - 1, (lr, 0.5)).unwrap();
            for spec in &specs {
                if spec.name.starts_with("blocks.0.mlp.") {
                    continue;
                }
                let decay = if spec.shape.len() == 2 { 0.3 } else { 0.0 };
                for i in spec.range() {
                    let g = 0.5 * f64::from(grads[i]);
                    m[i] = 0.9 * m[i] + 0.1 * g;
                    v[i] = 0.99 * v[i] + 0.01 * g * g;
                    let (mh, vh) = (
                        m[i] / (1.0 - 0.9f64.powi(t as i32)),
                        v[i] / (1.0 - 0.99f64.powi(t as i32)),
                    );
                    w[i] -= lr * (mh / (vh.sqrt() + 1e-8) + decay * w[i]);
                }
            }
        }
        for i in 0..n {
            assert!((f64::from(weights.data()[i]) - w[i]).abs() <= 1e-6, "{i}");
        }
        let frozen = weights.index("blocks.0.mlp.in.weight").unwrap();
        let range = specs[frozen].range();
        assert_eq!(weights.data()[range.clone()], start[range], "frozen weights do not move");
    }

    #[test]
    fn groups_follow_the_specs_and_bad_patterns_are_named() {
        let specs = crate::model::weights::parameters(&tiny());
        let optimizer = AdamW::new(&specs, &OptimizerKeys::default()).unwrap();
        assert_eq!(optimizer.trainable().len(), specs.len());
        assert!(optimizer.groups()[1].params.iter().all(|&i| specs[i].shape.len() == 1));
        let keys = OptimizerKeys { frozen: vec!["nothing".into()], ..Default::default() };
        assert!(AdamW::new(&specs, &keys).unwrap_err().to_string().contains("\"nothing\""));
        let keys = OptimizerKeys { frozen: vec!["*".into()], ..Default::default() };
        assert!(AdamW::new(&specs, &keys).unwrap_err().to_string().contains("nothing to train"));
    }
}
