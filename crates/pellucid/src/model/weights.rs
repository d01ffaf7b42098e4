//! The weights: one flat buffer, a named and shaped piece of it for each parameter.

use super::config::Config;
pub use super::parameters::{Init, ParamSpec, parameters};
use crate::backend::buffer::Buffer;
use crate::error::{Error, Kind, Result};

/// All parameters of a model.
#[derive(Clone, Debug)]
pub struct Weights {
    specs: Vec<ParamSpec>,
    data: Buffer,
}

impl Weights {
    /// All zero.
    #[must_use]
    pub fn zeros(config: &Config) -> Self {
        Self::of(parameters(config))
    }

    /// Zeros for some parameters, whose offsets are set anew.
    #[must_use]
    pub(crate) fn of(mut specs: Vec<ParamSpec>) -> Self {
        let mut offset = 0;
        for spec in &mut specs {
            spec.offset = offset;
            offset = spec.range().end.next_multiple_of(16);
        }
        let len = specs.last().map_or(0, |s| s.range().end.next_multiple_of(16));
        Self { specs, data: Buffer::zeros(len) }
    }

    /// Drawn from `seed`; each parameter has a stream of its own.
    #[must_use]
    pub fn init(config: &Config, seed: u64) -> Self {
        let mut weights = Self::zeros(config);
        for (stream, spec) in weights.specs.iter().enumerate() {
            spec.draw((seed, stream as u64), &mut weights.data[spec.range()]);
        }
        weights
    }

    /// The parameters in order.
    #[must_use]
    pub fn specs(&self) -> &[ParamSpec] {
        &self.specs
    }

    /// The flat buffer; gaps between parameters are zero.
    #[must_use]
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// The flat buffer, to be changed.
    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    /// Number of parameters.
    #[must_use]
    pub fn count(&self) -> usize {
        self.specs.iter().map(ParamSpec::len).sum()
    }

    /// The index of a parameter.
    pub fn index(&self, name: &str) -> Result<usize> {
        self.specs.iter().position(|s| s.name == name).ok_or_else(|| {
            Error::new(Kind::Shape, "weights", format!("no parameter is named {name:?}"))
                .hint("`pellucid inspect` lists the names")
        })
    }

    /// One parameter's elements, row-major.
    pub fn get(&self, name: &str) -> Result<&[f32]> {
        let range = self.specs[self.index(name)?].range();
        Ok(&self.data[range])
    }

    /// One parameter's elements, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Result<&mut [f32]> {
        let range = self.specs[self.index(name)?].range();
        Ok(&mut self.data[range])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpt2_has_124_million_parameters() {
        assert_eq!(
            parameters(&Config::gpt2()).iter().map(ParamSpec::len).sum::<usize>(),
            124_439_808
        );
    }

    #[test]
    fn initial_weights_have_the_stated_spread() {
        for (initial_std, expected) in [(None, 0.02), (Some(0.1), 0.1)] {
            let weights = Weights::init(&Config { initial_std, ..Config::nano() }, 3);
            for name in ["blocks.0.mlp.in.weight", "embedding.token"] {
                let w = weights.get(name).unwrap();
                let variance = w.iter().map(|x| f64::from(x * x)).sum::<f64>() / w.len() as f64;
                assert!((variance.sqrt() / expected - 1.0).abs() < 0.02, "{name}");
            }
        }
    }
}
