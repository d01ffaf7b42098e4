//! Who guesses tokens ahead, from what the command line says.

use crate::model::Model;
use pellucid::backend::cpu::pool::Pool;
use pellucid::error::{Error, Kind, Result};
use pellucid::generate::{
    Costs, DraftModel, Event, Flow, GenerateOptions, NGram, Speculated, WithModel, speculate,
};
use std::path::Path;

/// Continues prompts one after another; `which` is `ngram` or the folder of a smaller model, `most` the most tokens
/// guessed at a time.
pub(crate) fn run(
    model: &Model,
    (which, most): (&str, usize),
    pool: &Pool,
    prompts: &[Vec<u32>],
    options: &GenerateOptions,
    sink: &mut dyn FnMut(Event<'_>) -> Result<Flow>,
) -> Result<Vec<Speculated>> {
    let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
    let capacity = (longest + options.max_new).clamp(1, model.config.context);
    let mut decoder = model.decoder(pool, 1, capacity)?;
    let (weights, vocab) = (&model.weights, model.config.vocab);
    let mut target = WithModel { decoder: &mut decoder, pool, weights, vocab };
    let tokenizer = model.tokenizer.as_ref();
    if which == "ngram" {
        let mut drafter = NGram::new(Costs::of(model.parameters(), 0.0));
        return speculate(&mut target, &mut drafter, most, prompts, options, tokenizer, sink);
    }
    let draft = Model::load_as(pool, Path::new(which), None)?;
    same_ids(model, &draft, which)?;
    let capacity = capacity.min(draft.config.context);
    let mut decoder = draft.decoder(pool, 1, capacity)?;
    let mut small = WithModel { decoder: &mut decoder, pool, weights: &draft.weights, vocab };
    // Either reads all of its weights for a token.
    let cost = draft.parameters() as f64 / model.parameters() as f64;
    let costs = Costs::of(model.parameters(), cost);
    let mut drafter = DraftModel::new(&mut small, options.sampling, costs)?;
    speculate(&mut target, &mut drafter, most, prompts, options, tokenizer, sink)
}

/// A proposal is an id: it must mean the same to both.
fn same_ids(model: &Model, draft: &Model, which: &str) -> Result<()> {
    let refuse = |message: String| {
        Err(Error::new(Kind::Input, "speculate", message)
            .hint("a draft model must have the model's tokenizer; or try --speculate ngram"))
    };
    let (ours, theirs) = (model.config.vocab, draft.config.vocab);
    if ours != theirs {
        return refuse(format!("{which} has {theirs} ids, but the model {ours}"));
    }
    let (Some(a), Some(b)) = (&model.tokenizer, &draft.tokenizer) else { return Ok(()) };
    if a.fingerprint() == b.fingerprint() {
        return Ok(());
    }
    match (0..ours as u32).find(|&id| a.id_to_piece(id) != b.id_to_piece(id)) {
        None => Ok(()),
        Some(id) => refuse(format!("id {id} is another token in {which} than in the model")),
    }
}
