//! Every setting of a training run, with its default: one TOML file, and one flag for each key.

pub use super::kinds::{GroupingKind, PrecisionKind, RecomputeKind, SamplingKind, TaskKind};
use super::schedule::ScheduleKind;
use crate::error::Result;
use crate::model::config::{ActivationKind, Config, Core, NormKind, NormPlacement, Positions};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A setting: where it stands, what it means and its default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Table of the TOML file.
    pub section: &'static str,
    /// Name in the table.
    pub name: &'static str,
    /// Rust type, such as `usize` or `Option<f64>`.
    pub kind: &'static str,
    /// One sentence.
    pub doc: &'static str,
}

macro_rules! sections {
    ($($(#[doc = $section_doc:literal])+ $section:ident: $name:ident {
        $($(#[doc = $doc:literal])+ $field:ident: $kind:ty = $default:expr,)+
    })+) => {
        $($(#[doc = $section_doc])+
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $($(#[doc = $doc])+ pub $field: $kind,)+
        }
        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        })+

        /// Every setting of a run.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct RunConfig {
            $($(#[doc = $section_doc])+ pub $section: $name,)+
        }

        /// Every key, in the order of the file.
        pub const KEYS: &[Key] = &[$($(Key {
            section: stringify!($section),
            name: stringify!($field),
            kind: stringify!($kind),
            doc: concat!($($doc),+),
        },)+)+];
    };
}

sections! {
    /// The model: a preset, one dial, and any size by name.
    model: ModelKeys {
        /// Where sizes come from: nano, gpt2, llama, transformer-tiny, -iwslt, -base, -big, bert-mini or bert.
        preset: String = "nano".into(),
        /// One dial: this many blocks, 64 channels wide for each.
        depth: Option<usize> = None,
        /// V; follows from the tokenizer.
        vocab: Option<usize> = None,
        /// Longest sequence; follows from train.time.
        context: Option<usize> = None,
        /// transformer or lstm.
        core: Option<Core> = None,
        /// L: blocks; of the encoder where there are two stacks.
        layers: Option<usize> = None,
        /// Blocks of the decoder where there are two stacks; follows from the layers.
        decoder_layers: Option<usize> = None,
        /// C: width of the residual stream.
        width: Option<usize> = None,
        /// H: query heads.
        heads: Option<usize> = None,
        /// K: key/value heads; follows from the heads.
        kv_heads: Option<usize> = None,
        /// D: width of a head; follows from width / heads.
        head_width: Option<usize> = None,
        /// F: hidden width of the feed-forward, 0 for none; follows from the width.
        hidden: Option<usize> = None,
        /// learned, sinusoidal, sinusoidal_halved, sinusoidal_tensor2tensor, rotary, alibi or none.
        positions: Option<Positions> = None,
        /// Base of the rotary angles.
        rotary_base: Option<f64> = None,
        /// layer_norm, rms_norm or none.
        norm: Option<NormKind> = None,
        /// Added to the variance or mean square.
        norm_epsilon: Option<f32> = None,
        /// pre or post.
        norm_placement: Option<NormPlacement> = None,
        /// gelu, gelu_tanh, relu, relu_squared or silu.
        activation: Option<ActivationKind> = None,
        /// Whether the feed-forward is gated.
        gated: Option<bool> = None,
        /// Whether linear layers have a bias.
        bias: Option<bool> = None,
        /// Whether LayerNorm has a bias.
        norm_bias: Option<bool> = None,
        /// Whether the head is the transposed token embedding.
        tied_head: Option<bool> = None,
        /// Whether embeddings are multiplied by the root of the width.
        scaled_embedding: Option<bool> = None,
        /// Sliding window in positions; 0 for none.
        window: Option<usize> = None,
        /// Probability of dropping an element.
        dropout: Option<f32> = None,
        /// Standard deviation of the initial tables and matrices; follows: 0.02, with two stacks from their sides.
        initial_std: Option<f32> = None,
    }
    /// LoRA: what is trained beside the frozen matrices of the model to start from.
    adapter: AdapterKeys {
        /// R: rank of the additions; 0 for none.
        rank: usize = 0,
        /// The additions are multiplied by alpha / rank.
        alpha: f32 = 16.0,
        /// Whether alpha is divided by the root of the rank in place of the rank.
        root: bool = false,
        /// Probability of dropping an element of what the additions read.
        input_dropout: f32 = 0.0,
        /// Projections that are added to: q, k, v or qkv, out, gate, up, down; or all.
        targets: Vec<String> = vec!["all".into()],
    }
    /// What is read.
    data: DataKeys {
        /// language, translation, masked, labels, numbers, tags or instructions; or, without files, markov, repeat, sort or modular.
        task: TaskKind = TaskKind::Language,
        /// Files, folders or patterns to train on.
        train: Vec<String> = vec![],
        /// Translation: files whose lines are the translations of train's; empty: train holds both, as TSV or JSON lines.
        target: Vec<String> = vec![],
        /// Files to evaluate on; when empty, a part of the training files is held out.
        validation: Vec<String> = vec![],
        /// Translation: files whose lines are the translations of validation's.
        validation_target: Vec<String> = vec![],
        /// Columns by name or number from 1: source and target; or text, second text where there is one, and label; or word and tag.
        columns: Vec<String> = vec![],
        /// Whether tables begin with a line of names; follows: where columns are named, they do.
        header: Option<bool> = None,
        /// Without files: states of a chain, letters, digits, or the number that sums are modulo.
        symbols: usize = 3,
        /// Masked: share of the tokens that are to be guessed.
        mask_rate: f64 = 0.15,
        /// Masked: whether all pieces of a word are hidden, or none.
        whole_words: bool = false,
        /// Examples with more tokens on a side are left out; 0: they are refused where the context is shorter.
        longest: usize = 0,
        /// random or bucketed: which examples come together in a batch of examples.
        grouping: GroupingKind = GroupingKind::Random,
        /// Part of the training tokens, or of the inputs of repeat, sort and modular, held out when no validation files are given.
        validation_fraction: f64 = 0.1,
        /// Field of a JSON line, or column of a Parquet file, that holds the text.
        field: String = "text".into(),
        /// What stands between two documents of a plain text file; empty: a file is one document.
        separator: String = String::new(),
        /// Folder of the prepared tokens; follows: data, inside checkpoint.folder.
        folder: Option<String> = None,
        /// characters, bytes, bpe, word_piece, or the path of a tokenizer file; a model to start from brings its own.
        tokenizer: String = "characters".into(),
        /// Vocabulary size when a bpe tokenizer is trained.
        vocab: usize = 4096,
        /// random or epochs.
        sampling: SamplingKind = SamplingKind::Random,
    }
    /// How long, how much at once.
    train: TrainKeys {
        /// Updates of the weights.
        steps: u64 = 5000,
        /// B: sequences per micro-batch; follows from the width: 32 tokens for each channel.
        batch: Option<usize> = None,
        /// Tokens per micro-batch of examples, on both sides; 0: as many examples as batch says.
        tokens: usize = 0,
        /// T: positions per sequence; follows from the model's context.
        time: Option<usize> = None,
        /// Micro-batches whose gradients are averaged for one update.
        accumulation: usize = 1,
        /// Fixes weights, batches and dropout.
        seed: u64 = 1337,
        /// Folder of a model to start from; the model's sizes are then its own.
        start: Option<String> = None,
        /// Probability that is taken from the target and given to all tokens alike.
        smoothing: f32 = 0.0,
        /// f32 or bf16.
        precision: PrecisionKind = PrecisionKind::F32,
        /// nothing, cheap or blocks: what is computed twice to save memory.
        recompute: RecomputeKind = RecomputeKind::Cheap,
        /// Threads; 0 takes all cores.
        threads: usize = 0,
    }
    /// AdamW.
    optimizer: OptimizerKeys {
        /// Peak learning rate; follows from the width.
        lr: Option<f64> = None,
        /// Learning rate at the end of the decay; follows: a tenth of lr.
        min_lr: Option<f64> = None,
        /// Decay of the first moment.
        beta1: f64 = 0.9,
        /// Decay of the second moment.
        beta2: f64 = 0.99,
        /// Added to the root of the second moment.
        eps: f64 = 1e-8,
        /// Decoupled weight decay of matrices.
        weight_decay: f64 = 0.1,
        /// Largest global gradient norm; 0 does not clip.
        clip: f64 = 1.0,
        /// Parameters that do not move: names, or beginnings of names that end in '*'.
        frozen: Vec<String> = vec![],
    }
    /// The learning rate over the steps.
    schedule: ScheduleKeys {
        /// cosine, linear, inverse_sqrt, constant or wsd (warm-up, stable, decay).
        kind: ScheduleKind = ScheduleKind::Cosine,
        /// Steps of linear warm-up; follows: 100, but at most a tenth of train.steps.
        warmup: Option<u64> = None,
        /// cosine, linear: the step at which min_lr is reached (follows: train.steps); wsd: length of the final decay (follows: a fifth of train.steps).
        decay_steps: Option<u64> = None,
    }
    /// Held-out loss.
    evaluate: EvaluateKeys {
        /// Steps between evaluations; 0 never evaluates.
        every: u64 = 250,
        /// Most validation batches read; 0 reads all.
        batches: usize = 50,
        /// Evaluations without improvement before the run stops; 0 never stops early.
        patience: u64 = 0,
        /// By how much the loss must fall to count as improvement.
        min_delta: f64 = 0.0,
    }
    /// Where the run lives.
    checkpoint: CheckpointKeys {
        /// Folder of the run.
        folder: String = "runs/default".into(),
        /// Steps between checkpoints; 0 saves only the best and the end.
        every: u64 = 500,
        /// Most recent checkpoints kept, beside the best.
        keep: usize = 2,
        /// At the end the last so many checkpoints are averaged into folder/average; 0 for none.
        average: usize = 0,
    }
    /// What is written down.
    log: LogKeys {
        /// Steps between lines of metrics.jsonl.
        every: u64 = 1,
        /// Whether TensorBoard events are written.
        tensorboard: bool = false,
        /// Whether the loss curve is drawn as curve.svg.
        plot: bool = true,
    }
}

impl RunConfig {
    /// The model's sizes: preset, then depth, then single keys; what was not named follows from what was.
    pub fn model_config(&self, vocab: usize) -> Result<Config> {
        let keys = &self.model;
        let mut config = Config::preset(&keys.preset)?;
        if let Some(depth) = keys.depth {
            config = config.with_depth(depth);
        }
        let (ratio, grouped) = (
            config.hidden as f64 / config.width.max(1) as f64,
            config.heads / config.kv_heads.max(1),
        );
        config.vocab = vocab;
        if let (None, Some(time)) = (keys.context, self.train.time) {
            config.context = time;
        }
        macro_rules! take {
            ($($field:ident)+) => {
                $(if let Some(value) = keys.$field { config.$field = value; })+
            };
        }
        if config.has_source()
            && let Some(layers) = keys.layers
        {
            config.decoder_layers = layers;
        }
        take!(core vocab context layers decoder_layers width heads positions rotary_base norm norm_epsilon norm_placement
            activation gated bias norm_bias tied_head scaled_embedding dropout);
        if keys.width.is_some() || keys.heads.is_some() {
            config.head_width = config.width / config.heads.max(1);
            let divides = grouped > 0 && config.heads.is_multiple_of(grouped);
            config.kv_heads = if divides { config.heads / grouped } else { config.heads };
        }
        if keys.width.is_some() {
            config.hidden = ((ratio * config.width as f64 / 8.0).round() as usize).max(1) * 8;
        }
        take!(kv_heads head_width hidden);
        if config.norm != NormKind::LayerNorm && keys.norm_bias.is_none() {
            config.norm_bias = false;
        }
        if let Some(window) = keys.window {
            config.window = (window > 0).then_some(window);
        }
        config.initial_std = keys.initial_std;
        Ok(config)
    }

    /// Fills in every value that was left to follow from others, as the run will use it.
    #[must_use]
    pub fn resolved(&self, config: &Config) -> Self {
        let mut run = self.clone();
        macro_rules! fill {
            ($($field:ident)+) => { $(run.model.$field = Some(config.$field);)+ };
        }
        fill!(core vocab context layers decoder_layers width heads kv_heads head_width hidden positions rotary_base norm
            norm_epsilon norm_placement activation gated bias norm_bias tied_head scaled_embedding dropout);
        run.model.window = Some(config.window.unwrap_or(0));
        run.train.time = Some(self.time(config));
        run.train.batch = Some(self.batch(config));
        run.data.folder = Some(self.data_folder().to_string_lossy().into());
        let lr = run.optimizer.lr.unwrap_or_else(|| config.suggested_learning_rate());
        run.optimizer.lr = Some(lr);
        run.optimizer.min_lr = Some(run.optimizer.min_lr.unwrap_or(lr / 10.0));
        run.schedule.warmup = Some(self.warmup());
        run.schedule.decay_steps = Some(run.schedule.decay_steps.unwrap_or({
            if run.schedule.kind == ScheduleKind::Wsd {
                run.train.steps / 5
            } else {
                run.train.steps
            }
        }));
        run
    }

    /// T.
    #[must_use]
    pub fn time(&self, config: &Config) -> usize {
        self.train.time.unwrap_or(config.context)
    }

    /// Folder of the prepared tokens.
    #[must_use]
    pub fn data_folder(&self) -> PathBuf {
        match &self.data.folder {
            Some(folder) => folder.into(),
            None => PathBuf::from(&self.checkpoint.folder).join("data"),
        }
    }

    /// Steps of linear warm-up.
    #[must_use]
    pub fn warmup(&self) -> u64 {
        self.schedule.warmup.unwrap_or((self.train.steps / 10).min(100))
    }

    /// B.
    #[must_use]
    pub fn batch(&self, config: &Config) -> usize {
        let tokens = 32 * config.width;
        self.train.batch.unwrap_or_else(|| (tokens / self.time(config).max(1)).max(1))
    }

    /// Tokens of one update.
    #[must_use]
    pub fn tokens_per_step(&self, config: &Config) -> u64 {
        (self.batch(config) * self.train.accumulation * self.time(config)) as u64
    }
}
