//! Which parameters a model has: name, shape, how it starts.

use super::adapter;
use super::config::{Architecture, Config, Core, NormKind, NormPlacement, Output, Positions};
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
    /// Biases of an LSTM's gates: zero, but those that keep the cell one (Gers et al. 2000).
    Gates,
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
    /// Whether it may move: not where an adapter is trained beside it.
    pub trainable: bool,
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
            Init::Gates => {
                let c = values.len() / 4;
                values[c..2 * c].fill(1.0);
            }
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

/// A stack: what its parameters' names begin with, its blocks, and whether it looks at another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stack {
    /// Empty, `encoder.` or `decoder.`.
    pub(super) prefix: &'static str,
    /// L.
    pub(super) layers: usize,
    /// Whether it has cross-attention.
    pub(super) crosses: bool,
}

/// The stacks of a model, in the order of the data flow.
pub(super) fn stacks(config: &Config) -> Vec<Stack> {
    let (layers, crosses) = (config.layers, false);
    match config.architecture {
        Architecture::Decoder | Architecture::Encoder => {
            vec![Stack { prefix: "", layers, crosses }]
        }
        Architecture::EncoderDecoder => vec![
            Stack { prefix: "encoder.", layers, crosses },
            Stack { prefix: "decoder.", layers: config.decoder_layers, crosses: true },
        ],
    }
}

/// The parameters of `config`, in the order of the data flow. `p` is empty where there is one stack, else `encoder.`
/// and `decoder.`.
///
/// | name | shape |
/// |---|---|
/// | `embedding.token` | (V, C): of both stacks, unless the encoder has its own |
/// | `encoder.embedding.token` | (source_vocab, C), if above 0 |
/// | `p embedding.position` | (context + position_offset, C), if learned |
/// | `p embedding.segment` | (segments, C), if above 0 |
/// | `p embedding.norm.weight`, `.bias` | (C), with embedding_norm |
/// | `p relative` | (relative_buckets, H), if positions are relative |
/// | `p blocks.i.attn.norm.weight`, `.bias` | (C) |
/// | `p blocks.i.attn.qkv.weight`, `.bias` | ((H + 2K) D, C): queries, keys, values |
/// | `p blocks.i.attn.q_norm.weight`, `k_norm.weight` | (D), with qk_norm |
/// | `p blocks.i.attn.out.weight`, `.bias` | (C, H D) |
/// | `decoder.blocks.i.cross.norm.weight`, `.bias` | (C) |
/// | `decoder.blocks.i.cross.q.weight`, `.bias` | (H D, C) |
/// | `decoder.blocks.i.cross.kv.weight`, `.bias` | (2 K D, C): keys, values of what the encoder made |
/// | `decoder.blocks.i.cross.out.weight`, `.bias` | (C, H D) |
/// | `p blocks.i.lstm.input.weight`, `.bias`; `lstm.hidden.weight` | (4C, C), (4C); (4C, C): in place of a block |
/// | `decoder.attn.q`, `k`, `out`, each `.weight`, `.bias`; `decoder.attn.v` | (C, C), (C); (C): an LSTM's look at the source |
/// | `p blocks.i.mlp.norm.weight`, `.bias` | (C): like all of `mlp` only if F > 0, like all norms not with norm = none |
/// | `p blocks.i.mlp.in.weight`, `.bias` | (F, C), or (2F, C) gate then up |
/// | `p blocks.i.mlp.out.weight`, `.bias` | (C, F) |
/// | `p norm.weight`, `.bias` | (C), pre-norm only |
/// | `pooler.weight`, `.bias` | (C, C), with pooler |
/// | `head.dense.weight`, `.bias`; `head.norm.weight`, `.bias` | (C, C), (C), with head_transform |
/// | `head.weight` | (V, C), untied only; (labels, C) |
/// | `head.bias` | (V), with head_bias; (labels) |
/// | `….lora.a`, `….lora.b` | (R, I), (P, R): of each part that an adapter adds to ([`chosen`](adapter::chosen)) |
#[must_use]
pub fn parameters(config: &Config) -> Vec<ParamSpec> {
    let c = config.width;
    let norm_bias = config.norm_bias && config.norm == NormKind::LayerNorm;
    let mut list = List { specs: vec![], end: 0, config, norm_bias };
    list.table("embedding.token", config.vocab);
    if config.source_vocab > 0 {
        list.table("encoder.embedding.token", config.source_vocab);
    }
    for stack in stacks(config) {
        list.stack(stack);
    }
    if config.pooler {
        list.linear("pooler", c, c, true, false);
    }
    list.head();
    list.adapter();
    list.specs
}

struct List<'a> {
    specs: Vec<ParamSpec>,
    end: usize,
    config: &'a Config,
    norm_bias: bool,
}

impl List<'_> {
    fn push(&mut self, name: String, shape: Vec<usize>, decay: bool, init: Init) {
        let trainable = adapter::moves(self.config, &name);
        let spec = ParamSpec { name, shape, decay, init, trainable, offset: self.end };
        // Each parameter starts on a cache line.
        self.end = spec.range().end.next_multiple_of(16);
        self.specs.push(spec);
    }

    /// Rows that are looked up.
    fn table(&mut self, name: &str, rows: usize) {
        // With two stacks vectors are multiplied by √C, so that they start with length 1 a channel.
        let std = if self.xavier() { 1.0 / (self.config.width as f32).sqrt() } else { self.std() };
        let shape = vec![rows, self.config.width];
        self.push(name.into(), shape, true, Init::Normal(std));
    }

    /// The original paper's reference code starts its matrices so (Glorot & Bengio 2010), and small post-norm models
    /// learn faster from there than from 0.02.
    fn xavier(&self) -> bool {
        self.config.has_source() && self.config.initial_std.is_none()
    }

    fn std(&self) -> f32 {
        self.config.initial_std.unwrap_or(STD)
    }

    /// A matrix whose product is added to the stream (`into`), or not.
    fn matrix(&mut self, name: &str, rows: usize, columns: usize, into: bool) {
        let std = if self.xavier() {
            (2.0 / (rows + columns) as f32).sqrt()
        } else if into {
            // GPT-2's: projections into the stream are smaller by √(2L) (Radford et al. 2019).
            self.std() / (2.0 * self.config.layers as f32).sqrt()
        } else {
            self.std()
        };
        self.push(name.into(), vec![rows, columns], true, Init::Normal(std));
    }

    fn linear(&mut self, name: &str, rows: usize, columns: usize, bias: bool, into: bool) {
        self.matrix(&format!("{name}.weight"), rows, columns, into);
        if bias {
            self.push(format!("{name}.bias"), vec![rows], false, Init::Zeros);
        }
    }

    fn norm(&mut self, name: &str) {
        if self.config.norm == NormKind::None {
            return;
        }
        let shape = vec![self.config.width];
        self.push(format!("{name}.weight"), shape.clone(), false, Init::Ones);
        if self.norm_bias {
            self.push(format!("{name}.bias"), shape, false, Init::Zeros);
        }
    }

    /// An LSTM's layers, each as wide as the stream, and a decoder's look at the source.
    fn recurrent(&mut self, Stack { prefix: p, layers, crosses }: Stack) {
        let c = self.config.width;
        let std = 1.0 / (3.0 * c as f32).sqrt(); // of PyTorch's uniform start
        for i in 0..layers {
            let name = format!("{p}blocks.{i}.lstm");
            self.push(format!("{name}.input.weight"), vec![4 * c, c], true, Init::Normal(std));
            self.push(format!("{name}.input.bias"), vec![4 * c], false, Init::Gates);
            self.push(format!("{name}.hidden.weight"), vec![4 * c, c], true, Init::Normal(std));
        }
        if crosses {
            self.linear("decoder.attn.q", c, c, true, false);
            self.linear("decoder.attn.k", c, c, true, false);
            self.push("decoder.attn.v".into(), vec![c], false, Init::Normal(std));
            self.linear("decoder.attn.out", c, c, true, true);
        }
    }

    fn stack(&mut self, stack: Stack) {
        let (config, Stack { prefix: p, layers, crosses }) = (self.config, stack);
        if config.core == Core::Lstm {
            return self.recurrent(stack);
        }
        if config.positions == Positions::Learned {
            self.table(&format!("{p}embedding.position"), config.context + config.position_offset);
        }
        if config.segments > 0 {
            self.table(&format!("{p}embedding.segment"), config.segments);
        }
        if config.embedding_norm {
            self.norm(&format!("{p}embedding.norm"));
        }
        if config.positions == Positions::Relative {
            let shape = vec![config.relative_buckets, config.heads];
            self.push(format!("{p}relative"), shape, false, Init::Normal(self.std()));
        }
        for i in 0..layers {
            self.block(&format!("{p}blocks.{i}"), crosses);
        }
        if config.norm_placement == NormPlacement::Pre {
            self.norm(&format!("{p}norm"));
        }
    }

    fn block(&mut self, block: &str, crosses: bool) {
        let config = self.config;
        let (c, joined) = (config.width, config.heads * config.head_width);
        let of_kv = 2 * config.kv_heads * config.head_width;
        let (bias, qkv_bias) = (config.bias, config.has_qkv_bias());
        self.norm(&format!("{block}.attn.norm"));
        self.linear(&format!("{block}.attn.qkv"), config.qkv_width(), c, qkv_bias, false);
        if config.qk_norm {
            for name in ["q_norm", "k_norm"] {
                let shape = vec![config.head_width];
                self.push(format!("{block}.attn.{name}.weight"), shape, false, Init::Ones);
            }
        }
        self.linear(&format!("{block}.attn.out"), c, joined, bias, true);
        if crosses {
            self.norm(&format!("{block}.cross.norm"));
            self.linear(&format!("{block}.cross.q"), joined, c, qkv_bias, false);
            self.linear(&format!("{block}.cross.kv"), of_kv, c, qkv_bias, false);
            self.linear(&format!("{block}.cross.out"), c, joined, bias, true);
        }
        if !config.has_feed_forward() {
            return;
        }
        self.norm(&format!("{block}.mlp.norm"));
        let rows = if config.gated { 2 * config.hidden } else { config.hidden };
        self.linear(&format!("{block}.mlp.in"), rows, c, bias, false);
        self.linear(&format!("{block}.mlp.out"), c, config.hidden, bias, true);
    }

    /// PyTorch's uniform start for the first factor, as PEFT draws it, by its spread; zero for the second.
    fn adapter(&mut self) {
        let rank = self.config.adapter.as_ref().map_or(0, |adapter| adapter.rank);
        for part in adapter::chosen(self.config) {
            let std = 1.0 / (3.0 * part.columns as f32).sqrt();
            let (a, b) = (format!("{}.lora.a", part.name), format!("{}.lora.b", part.name));
            self.push(a, vec![rank, part.columns], true, Init::Normal(std));
            self.push(b, vec![part.rows.len(), rank], true, Init::Zeros);
        }
    }

    fn head(&mut self) {
        let (config, c) = (self.config, self.config.width);
        if config.head_transform {
            self.linear("head.dense", c, c, true, false);
            self.norm("head.norm");
        }
        match config.output {
            Output::Vectors => {}
            Output::Tokens => {
                if !config.tied_head {
                    self.table("head.weight", config.vocab);
                }
                if config.head_bias {
                    self.push("head.bias".into(), vec![config.vocab], false, Init::Zeros);
                }
            }
            Output::Sequence | Output::Positions => {
                self.linear("head", config.labels.len(), c, true, false);
            }
        }
    }
}

/// Standard deviation of GPT-2's initial weights (Radford et al. 2019).
const STD: f32 = 0.02;
