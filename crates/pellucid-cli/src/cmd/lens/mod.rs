//! `pellucid lens`: questions about the inside of a model, one each.

mod ablate;
mod attribute;
mod capture;
mod circuits;
mod context;
mod diff;
mod edit_fact;
mod fourier;
mod heads;
mod inputs;
mod looked;
mod patch;
mod paths;
mod probe;
mod sae;
mod sites;
mod superposition;
mod trace;
mod tuned;
mod two_texts;
mod view;

use clap::{Args, Subcommand};
use pellucid::error::Result;

pub(crate) use looked::{Looked, Opened};
pub(crate) use trace::{finding as trace_finding, subject_of};

#[derive(Debug, Args)]
pub(crate) struct Lens {
    #[command(subcommand)]
    question: Question,
}

#[derive(Debug, Subcommand)]
enum Question {
    /// What can be seen: every site of a model, its shape, and what it shows
    Sites(sites::Sites),
    /// The values at sites, to a file
    Capture(capture::Capture),
    /// Who looks at whom: a head's pattern
    Attention(view::Attention),
    /// What the stream would say at each depth and position
    Logit(view::Logit),
    /// What every head does on random tokens: looks back, copies, continues; and whether the context is used
    Heads(heads::Heads),
    /// What heads would do by their weights alone: copy, and use what earlier ones wrote
    Circuits(circuits::Circuits),
    /// Whether later tokens of a text are easier: the in-context-learning score
    Context(context::Context),
    /// Attention multiplied through the blocks
    Rollout(inputs::Rollout),
    /// Which input tokens an answer hangs on
    Inputs(inputs::Inputs),
    /// Neurons as memories: what wakes them, what they promote, which ones an answer hangs on
    Neurons(inputs::Neurons),
    /// Who wrote this score: by block, head or neuron
    Attribute(attribute::Attribute),
    /// What becomes of the loss without each head, attention and feed-forward
    Ablate(ablate::Ablate),
    /// What of a clean text's run brings the answer back into a corrupted one's
    Patch(patch::PatchCommand),
    /// The same along each direct path from one component to a later one
    Paths(paths::Paths),
    /// Where a fact's answer can be brought back: causal tracing
    Trace(trace::TraceCommand),
    /// Whether labels can be read from a site by a linear probe, beside a control that means nothing
    Probe(probe::Probe),
    /// Train a sparse autoencoder on a site's values, and judge it in the model
    Sae(sae::SaeCommand),
    /// Train affine translators of the stream, and compare them with the logit lens
    Tuned(tuned::Tuned),
    /// What two checkpoints of one architecture differ in, by site and head
    Diff(diff::Diff),
    /// Rewrite a fact by a change of rank one
    EditFact(edit_fact::EditFact),
    /// How a model adds modulo p: as rotations of a few frequencies
    Fourier(fourier::FourierCommand),
    /// More features than dimensions: a toy model, and how its features lie
    Superposition(superposition::Superposition),
}

impl Lens {
    pub(crate) fn run(self) -> Result<()> {
        match self.question {
            Question::Sites(q) => q.run(),
            Question::Capture(q) => q.run(),
            Question::Attention(q) => q.run(),
            Question::Logit(q) => q.run(),
            Question::Heads(q) => q.run(),
            Question::Circuits(q) => q.run(),
            Question::Context(q) => q.run(),
            Question::Rollout(q) => q.run(),
            Question::Inputs(q) => q.run(),
            Question::Neurons(q) => q.run(),
            Question::Attribute(q) => q.run(),
            Question::Ablate(q) => q.run(),
            Question::Probe(q) => q.run(),
            Question::Sae(q) => q.run(),
            Question::Tuned(q) => q.run(),
            Question::Diff(q) => q.run(),
            Question::Patch(q) => q.run(),
            Question::Paths(q) => q.run(),
            Question::Trace(q) => q.run(),
            Question::EditFact(q) => q.run(),
            Question::Fourier(q) => q.run(),
            Question::Superposition(q) => q.run(),
        }
    }
}
