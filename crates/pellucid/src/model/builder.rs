//! What every layer needs to put its operations on the tape.

use super::config::{Architecture, Config, Positions};
use super::parameters::{Stack, stacks};
use super::stored_weights::StoredWeights;
use super::watch::{Seen, Watch};
use super::weights::parameters;
use crate::autograd::{InferenceOp, Ints, Op, Param, Tape, Value};
use crate::backend::cpu::gemm::Precision;
use crate::backend::cpu::stored::StoredMatrix;
use crate::error::{Error, Kind, Result};
use crate::ops::rotary;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the tape is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Forward and backward over whole sequences, with dropout.
    Train,
    /// Forward over whole sequences.
    Observe,
    /// Forward over new tokens after those in a KV cache of this many positions.
    Extend {
        /// Positions the cache holds.
        capacity: usize,
    },
}

/// Integer inputs of a stack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inputs {
    /// Token ids, (B, T).
    pub(super) ids: Ints,
    /// Positions before the first of these tokens, (B).
    pub(super) past: Ints,
    /// Tokens that are real, (B); the rest is padding on the right. Read when extending, and by stacks that look both
    /// ways.
    pub(super) new: Ints,
    /// Segments, (B, T), where the model has them.
    pub(super) segments: Option<Ints>,
}

/// Sizes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// B.
    pub(super) b: usize,
    /// T.
    pub(super) t: usize,
    /// S of the encoder, where there are two stacks.
    pub(super) s: usize,
}

/// What a decoder looks at beside itself.
#[derive(Clone, Copy, Debug)]
pub(super) enum Memory {
    /// What the encoder on this tape made, (B, S, C).
    Encoded {
        x: Value,
        s: usize,
        /// Positions that are real, (B).
        lengths: Ints,
    },
    /// Keys and values that were made from it before, in states of the tape: of `rows` texts, each read by B / rows
    /// rows that follow each other.
    Remembered {
        rows: usize,
        s: usize,
        /// Positions that are real, (rows).
        lengths: Ints,
    },
}

/// A tape under construction, with the model's sizes and parameters at hand.
pub(super) struct Builder<'c> {
    pub(super) tape: Tape,
    pub(super) config: &'c Config,
    pub(super) b: usize,
    /// Positions of the stack that is being recorded, T or S.
    pub(super) t: usize,
    /// The stack that is being recorded.
    pub(super) stack: Stack,
    pub(super) purpose: Purpose,
    pub(super) precision: Precision,
    /// Of the stack that is being recorded.
    pub(super) inputs: Inputs,
    pub(super) memory: Option<Memory>,
    /// Of an LSTM encoder: the last h and c of each layer.
    pub(super) last_states: Vec<[Value; 2]>,
    pub(super) rotary: Option<Arc<rotary::Table>>,
    /// Where the matrices are when they are not parameters of the tape.
    stored: Option<&'c StoredWeights>,
    params: BTreeMap<String, Param>,
    streams: u32,
    /// The first block that is recorded; what it reads is then given.
    pub(super) start: Option<usize>,
    /// Whether only each row's last position matters in the end: then the last feed-forward is of that alone.
    pub(super) ends_early: bool,
    /// What is wanted of the run's insides.
    pub(super) watch: Watch,
    /// Where that is.
    pub(super) seen: Seen,
}

impl<'c> Builder<'c> {
    /// A tape that starts with the first stack; where there are stored weights, only the rest are its parameters.
    pub(super) fn new(
        config: &'c Config,
        Shape { b, t, s }: Shape,
        purpose: Purpose,
        precision: Precision,
        stored: Option<&'c StoredWeights>,
    ) -> Result<Self> {
        let stack = stacks(config)[0];
        if config.has_source() {
            check_shape(config, b, t)?;
        }
        let t = if config.has_source() { s } else { t };
        Self::of_stack(config, stack, (b, t), (purpose, precision), stored)
    }

    /// A tape of the last stack alone; where there are two, it looks at what is remembered of `texts` sources of at
    /// most `s` tokens.
    pub(super) fn decoder(
        config: &'c Config,
        size: (usize, usize),
        (texts, s): (usize, usize),
        how: (Purpose, Precision),
        stored: Option<&'c StoredWeights>,
    ) -> Result<Self> {
        let stack = stacks(config)[usize::from(config.has_source())];
        let mut m = Self::of_stack(config, stack, size, how, stored)?;
        if config.has_source() {
            let lengths = m.tape.ints(texts);
            m.memory = Some(Memory::Remembered { rows: texts, s, lengths });
        }
        Ok(m)
    }

    fn of_stack(
        config: &'c Config,
        stack: Stack,
        (b, t): (usize, usize),
        (purpose, precision): (Purpose, Precision),
        stored: Option<&'c StoredWeights>,
    ) -> Result<Self> {
        config.validate()?;
        check_shape(config, b, t)?;
        let mut tape = Tape::new();
        let inputs = declare(&mut tape, config, b, t);
        let all = parameters(config);
        let specs = stored.map_or(&*all, |s| s.rest().specs());
        let params = specs
            .iter()
            .map(|spec| (spec.name.clone(), tape.param(&spec.name, spec.range(), spec.trainable)))
            .collect();
        let rotary = match config.positions {
            Positions::Rotary => Some(rotary::Table::new(
                config.head_width,
                config.rotary_base,
                config.rotary_scaling,
                config.context,
            )?),
            _ => None,
        };
        Ok(Self {
            tape,
            config,
            b,
            t,
            stack,
            purpose,
            precision,
            inputs,
            memory: None,
            last_states: vec![],
            rotary,
            stored,
            params,
            streams: 0,
            start: None,
            ends_early: false,
            watch: Watch::default(),
            seen: Seen::default(),
        })
    }

    /// Goes on with the decoder of two stacks, `t` positions long, which looks at `memory`.
    pub(super) fn enter_decoder(&mut self, b: usize, t: usize, memory: Memory) -> Result<()> {
        check_shape(self.config, b, t)?;
        self.stack = stacks(self.config)[1];
        self.inputs = declare(&mut self.tape, self.config, b, t);
        (self.b, self.t, self.memory) = (b, t, Some(memory));
        Ok(())
    }

    /// Whether positions see only those before them.
    pub(super) fn causal(&self) -> bool {
        self.config.architecture == Architecture::Decoder || self.stack.crosses
    }

    /// A parameter's whole name in the stack that is being recorded.
    pub(super) fn name(&self, name: &str) -> String {
        format!("{}{name}", self.stack.prefix)
    }

    /// Rows of a (B, T, ..) value.
    pub(super) fn n(&self) -> usize {
        self.b * self.t
    }

    pub(super) fn param(&self, name: &str) -> Result<Param> {
        self.params.get(name).copied().ok_or_else(|| {
            Error::new(Kind::Shape, "transformer", format!("no parameter is named {name:?}"))
        })
    }

    /// The stored matrix `name`, where matrices are stored.
    pub(super) fn matrix(&self, name: &str) -> Result<Option<Arc<StoredMatrix>>> {
        self.stored.map(|stored| stored.matrix(name)).transpose()
    }

    /// `name.bias`, where there is one.
    pub(super) fn bias(&self, name: &str) -> Vec<Param> {
        self.params.get(&format!("{name}.bias")).copied().into_iter().collect()
    }

    /// `name.weight`, and `name.bias` where there is one.
    pub(super) fn weight_and_bias(&self, name: &str) -> Result<Vec<Param>> {
        let weight = self.param(&format!("{name}.weight"))?;
        let bias = self.params.get(&format!("{name}.bias")).copied();
        Ok([Some(weight), bias].into_iter().flatten().collect())
    }

    /// A random stream of its own for each dropout.
    pub(super) fn stream(&mut self) -> u32 {
        self.streams += 1;
        self.streams
    }

    /// Whether elements are dropped on this tape.
    pub(super) fn drops(&self) -> bool {
        self.purpose == Purpose::Train && self.config.dropout > 0.0
    }

    /// Records an operation with one output.
    pub(super) fn push(
        &mut self,
        op: impl Op + 'static,
        inputs: &[Value],
        ints: &[Ints],
        params: &[Param],
    ) -> Result<Value> {
        Ok(self.tape.push(op, inputs, ints, params)?[0])
    }

    /// Records an operation with one output that exists only for inference.
    pub(super) fn push_inference(
        &mut self,
        op: impl InferenceOp + 'static,
        inputs: &[Value],
        ints: &[Ints],
        params: &[Param],
    ) -> Result<Value> {
        Ok(self.tape.push_inference(op, inputs, ints, params, &[])?[0])
    }
}

/// Integer inputs of a stack of (B, T).
fn declare(tape: &mut Tape, config: &Config, b: usize, t: usize) -> Inputs {
    let segments = (config.segments > 0).then(|| tape.ints(b * t));
    Inputs { ids: tape.ints(b * t), past: tape.ints(b), new: tape.ints(b), segments }
}

fn check_shape(config: &Config, b: usize, t: usize) -> Result<()> {
    if b > 0 && t > 0 && t <= config.context {
        return Ok(());
    }
    let message =
        format!("B = {b} rows of T = {t} tokens, but the context is 1..={}", config.context);
    Err(Error::new(Kind::Shape, "transformer", message)
        .hint("shorten the sequences, or build the model with a longer context"))
}
