//! The weights: one flat buffer, a named and shaped piece of it for each parameter.

use super::config::{Config, NormKind, Positions};
use crate::backend::buffer::Buffer;
use crate::error::{Error, Kind, Result};
use crate::tensor::random::Random;
use std::ops::Range;

/// How a parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Normal with mean 0 and this standard deviation.
    Normal(f32),
    /// All zero.
    Zeros,
    /// All one.
    Ones,
}

/// One parameter: its name, shape, place and rules.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamSpec {
    /// Unique, such as `blocks.3.attn.qkv.weight`.
    pub name: String,
    /// Row-major. Linear weights are (out, in).
    pub shape: Vec<usize>,
    /// Whether weight decay applies: matrices yes, norms and biases no.
    pub decay: bool,
    /// How it starts.
    pub init: Init,
    /// First element in the flat buffer.
    pub offset: usize,
}

impl ParamSpec {
    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no element (never true for a valid config).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes how it starts into zeros.
    pub(super) fn draw(&self, (seed, stream): (u64, u64), values: &mut [f32]) {
        match self.init {
            Init::Zeros => {}
            Init::Ones => values.fill(1.0),
            Init::Normal(std) => {
                let mut random = Random::new(seed, stream);
                values.iter_mut().for_each(|x| *x = std * random.normal());
            }
        }
    }

    /// Its place in the flat buffer.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.len()
    }
}

/// The parameters of `config`, in the order of the data flow.
///
/// | name | shape |
/// |---|---|
/// | `embedding.token` | (V, C) |
/// | `embedding.position` | (context, C), if learned |
/// | `blocks.i.attn.norm.weight`, `.bias` | (C) |
/// | `blocks.i.attn.qkv.weight`, `.bias` | ((H + 2K) D, C): queries, keys, values |
/// | `blocks.i.attn.out.weight`, `.bias` | (C, H D) |
/// | `blocks.i.mlp.norm.weight`, `.bias` | (C) |
/// | `blocks.i.mlp.in.weight`, `.bias` | (F, C), or (2F, C) gate then up |
/// | `blocks.i.mlp.out.weight`, `.bias` | (C, F) |
/// | `norm.weight`, `.bias` | (C), pre-norm only |
/// | `head.weight` | (V, C), untied only |
#[must_use]
pub fn parameters(config: &Config) -> Vec<ParamSpec> {
    let c = config.width;
    let mut list = List(Vec::new(), 0);
    // GPT-2's initialisation: 0.02, and projections into the stream smaller by √(2L) (Radford et al. 2019).
    let std = 0.02;
    let into_stream = std / (2.0 * config.layers as f32).sqrt();
    let norm_bias = config.norm_bias && config.norm == NormKind::LayerNorm;
    list.matrix("embedding.token", config.vocab, c, std);
    if config.positions == Positions::Learned {
        list.matrix("embedding.position", config.context, c, std);
    }
    for i in 0..config.layers {
        let block = format!("blocks.{i}");
        list.norm(&format!("{block}.attn.norm"), c, norm_bias);
        list.linear(&format!("{block}.attn.qkv"), config.qkv_width(), c, std, config.bias);
        let joined = config.heads * config.head_width;
        list.linear(&format!("{block}.attn.out"), c, joined, into_stream, config.bias);
        list.norm(&format!("{block}.mlp.norm"), c, norm_bias);
        let rows = if config.gated { 2 * config.hidden } else { config.hidden };
        list.linear(&format!("{block}.mlp.in"), rows, c, std, config.bias);
        list.linear(&format!("{block}.mlp.out"), c, config.hidden, into_stream, config.bias);
    }
    if config.norm_placement == super::config::NormPlacement::Pre {
        list.norm("norm", c, norm_bias);
    }
    if !config.tied_head {
        list.matrix("head.weight", config.vocab, c, std);
    }
    list.0
}

struct List(Vec<ParamSpec>, usize);

impl List {
    fn push(&mut self, name: String, shape: Vec<usize>, decay: bool, init: Init) {
        let spec = ParamSpec { name, shape, decay, init, offset: self.1 };
        // Each parameter starts on a cache line.
        self.1 = spec.range().end.next_multiple_of(16);
        self.0.push(spec);
    }
    fn matrix(&mut self, name: &str, rows: usize, columns: usize, std: f32) {
        self.push(name.into(), vec![rows, columns], true, Init::Normal(std));
    }
    fn linear(&mut self, name: &str, rows: usize, columns: usize, std: f32, bias: bool) {
        self.matrix(&format!("{name}.weight"), rows, columns, std);
        if bias {
            self.push(format!("{name}.bias"), vec![rows], false, Init::Zeros);
        }
    }
    fn norm(&mut self, name: &str, c: usize, bias: bool) {
        self.push(format!("{name}.weight"), vec![c], false, Init::Ones);
        if bias {
            self.push(format!("{name}.bias"), vec![c], false, Init::Zeros);
        }
    }
}

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
        let weights = Weights::init(&Config::nano(), 3);
        let w = weights.get("blocks.0.mlp.in.weight").unwrap();
        let variance = w.iter().map(|x| f64::from(x * x)).sum::<f64>() / w.len() as f64;
        assert!((variance.sqrt() - 0.02).abs() < 2e-4);
    }
}
