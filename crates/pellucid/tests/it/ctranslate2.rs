//! Models in CTranslate2's format against what ctranslate2 itself computes (`tests/golden/make_ct2.py`): the
//! log-probability of every token, and what beam search finds.

use crate::support::{golden, shared};
use pellucid::backend::cpu::gemm::Precision;
use pellucid::backend::cpu::pool::Pool;
use pellucid::checkpoint::{CTranslate2Model, Family, StoredType, import_ctranslate2, load, save};
use pellucid::generate::{BeamOptions, Choice, Translator};
use pellucid::model::config::{Config, NormKind, NormPlacement, Positions};
use pellucid::model::reader::{Reader, Wanted};
use pellucid::model::train_graph::Batch;
use pellucid::text::Tokenizer;
use serde_json::Value;
use std::path::Path;

/// Of a log-probability. All is computed in f32 on both sides.
const CLOSE: f64 = 5e-5;

fn texts(value: &Value) -> Vec<Vec<String>> {
    serde_json::from_value(value.clone()).expect("lists of tokens")
}

fn outcomes() -> Value {
    let text = std::fs::read_to_string(golden("ct2/golden.json")).expect("the golden file");
    serde_json::from_str(&text).expect("JSON")
}

/// With blanks between them.
fn joined(tokens: &[Vec<String>]) -> Vec<String> {
    tokens.iter().map(|tokens| tokens.join(" ")).collect()
}

struct Both<'a> {
    model: &'a CTranslate2Model,
    tokenizer: Tokenizer,
    pool: Pool,
}

impl<'a> Both<'a> {
    fn new(model: &'a CTranslate2Model) -> Self {
        let tokenizer = Tokenizer::from_json(model.tokenizer.clone()).expect("a tokenizer");
        Self { model, tokenizer, pool: Pool::new(1) }
    }

    fn translator(&self) -> Translator<'_> {
        Translator {
            config: &self.model.config,
            weights: &self.model.weights,
            pool: &self.pool,
            tokenizer: &self.tokenizer,
            start: self.model.generation.decoder_start.expect("a start"),
            end: self.model.generation.eos[0],
        }
    }

    /// Log-probabilities of a target's tokens and of the end.
    fn log_probs(&self, source: &str, target: &str) -> Vec<f64> {
        let translator = self.translator();
        let source = translator.source(source).expect("a source");
        let target = self.tokenizer.encode(target).expect("a target");
        let target = target.iter().map(|&id| id as i32).chain([translator.end as i32]);
        let target: Vec<i32> = target.collect();
        let start = translator.start as i32;
        let read: Vec<i32> = [start].iter().chain(&target[..target.len() - 1]).copied().collect();
        let batch = Batch::ragged(&[&read], &[&target]).expect("a batch");
        let batch = batch.with_source(&[&source]).expect("a source");
        let config = &self.model.config;
        let mut reader = Reader::new(config, Wanted::Scores, Precision::F32, 1).expect("a reader");
        let scores = reader.run(&self.pool, &self.model.weights, &batch).expect("scores");
        let one = |(row, &id): (&[f32], &i32)| {
            let most = row.iter().fold(f64::MIN, |m, &x| m.max(f64::from(x)));
            let sum: f64 = row.iter().map(|&x| (f64::from(x) - most).exp()).sum();
            f64::from(row[id as usize]) - most - sum.ln()
        };
        scores.chunks_exact(config.vocab).zip(&target).map(one).collect()
    }

    fn agrees(&self, name: &str, outcome: &Value) {
        let (sources, targets) = (texts(&outcome["sources"]), texts(&outcome["targets"]));
        let wanted: Vec<Vec<f64>> =
            serde_json::from_value(outcome["log_probs"].clone()).expect("numbers");
        let (sources, targets) = (joined(&sources), joined(&targets));
        for ((source, target), wanted) in sources.iter().zip(&targets).zip(&wanted) {
            let found = self.log_probs(source, target);
            assert_eq!(found.len(), wanted.len(), "{name}: {source} -> {target}");
            for (i, (x, y)) in found.iter().zip(wanted).enumerate() {
                let close = (x - y).abs() <= CLOSE;
                assert!(close, "{name}: {source} -> {target}, token {i}: {x}, ctranslate2 {y}");
            }
        }
        for search in outcome["beams"].as_array().expect("searches") {
            self.searches(name, &sources, search);
        }
    }

    fn searches(&self, name: &str, sources: &[String], search: &Value) {
        let beams = search["beams"].as_u64().expect("beams") as usize;
        let options = BeamOptions {
            beams,
            length_penalty: search["length_penalty"].as_f64().expect("a number"),
            max_new: 10,
            stop_ids: self.model.generation.eos.clone(),
            ..BeamOptions::default()
        };
        let choice = Choice::Beam(options);
        let found = self.translator().translate(sources, &choice, 2, &mut |_, _| Ok(()));
        let found = found.expect("translations");
        for (i, tokens) in texts(&search["tokens"]).iter().enumerate() {
            let best = &found[i][0];
            let spelled: Vec<&str> =
                best.tokens.iter().map(|&id| &*self.model.vocabulary[id as usize]).collect();
            assert_eq!(spelled, *tokens, "{name}, {beams} beams: {}", sources[i]);
            let (x, y) = (best.score.expect("a score"), search["scores"][i].as_f64().expect("one"));
            assert!((x - y).abs() <= CLOSE, "{name}, {beams} beams: {x}, ctranslate2 {y}");
        }
    }
}

fn import(folder: &Path) -> CTranslate2Model {
    import_ctranslate2(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
}

#[test]
fn random_models_score_and_search_as_in_ctranslate2() {
    let outcomes = outcomes();
    let models = outcomes["models"].as_object().expect("models");
    assert_eq!(models.len(), 7);
    for (name, outcome) in models {
        let model = import(&golden(&format!("ct2/{name}")));
        Both::new(&model).agrees(name, outcome);
    }
}

#[test]
fn what_a_model_is_was_understood() {
    let of = |name: &str| import(&golden(&format!("ct2/{name}"))).config;
    let marian = of("marian");
    assert_eq!(Family::of(&marian), Family::Marian);
    assert_eq!((marian.vocab, marian.context, marian.source_vocab), (11, 20, 0));
    assert!(marian.tied_head && marian.head_bias && marian.scaled_embedding);
    // Halves are not the sines that are computed, so their table is kept.
    assert_eq!(of("marian-float16").positions, Positions::Learned);
    let bart = of("bart");
    assert_eq!((bart.positions, bart.embedding_norm), (Positions::Learned, true));
    assert!(bart.tied_head && !bart.head_bias && !bart.scaled_embedding);
    let two = of("two");
    assert_eq!((two.norm, two.norm_placement), (NormKind::RmsNorm, NormPlacement::Pre));
    assert_eq!((two.positions, two.position_offset), (Positions::SinusoidalTensor2tensor, 1));
    // 13 of the target, of which 11 are the source's; one more is the source's alone.
    assert_eq!((two.vocab, two.source_vocab, two.gated), (14, 14, true));
    assert!((two.norm_epsilon - 1e-3).abs() < 1e-9 && !two.tied_head);
}

/// A folder of ours says all of it, the tokenizer too.
#[test]
fn a_model_that_was_read_can_be_saved() {
    let outcomes = outcomes();
    for name in ["marian", "bart", "two"] {
        let model = import(&golden(&format!("ct2/{name}")));
        let folder = tempfile::tempdir().expect("a folder");
        let CTranslate2Model { config, weights, tokenizer, generation, .. } = &model;
        save(folder.path(), config, weights, Some(tokenizer), generation, StoredType::F32)
            .expect("saved");
        let loaded = load(folder.path()).expect("loaded");
        assert_eq!(loaded.config, Config { ..config.clone() }, "{name}");
        let again = CTranslate2Model {
            config: loaded.config,
            weights: loaded.weights,
            tokenizer: loaded.tokenizer.expect("a tokenizer"),
            generation: loaded.generation,
            source_vocabulary: vec![],
            target_vocabulary: vec![],
            vocabulary: model.vocabulary.clone(),
        };
        assert_eq!(again.generation, model.generation);
        Both::new(&again).agrees(name, &outcomes["models"][name]);
    }
}

/// Arabic to English by characters, trained by OpenNMT; its translations are those of CTranslate2's own tests.
#[test]
fn the_real_transliteration_writes_what_was_published() {
    let Some(folder) = shared("ct2-aren-transliteration") else { return };
    let outcomes = outcomes();
    let real = outcomes["real"].as_object().expect("models");
    assert_eq!(real.len(), 5);
    for (name, outcome) in real {
        let model = import(&folder.join(name));
        assert_eq!((model.source_vocabulary.len(), model.target_vocabulary.len()), (51, 43));
        assert_eq!(model.generation.beams, Some(2));
        let both = Both::new(&model);
        let beams = model.generation.beams.expect("beams");
        let stop_ids = model.generation.eos.clone();
        let choice = Choice::Beam(BeamOptions { beams, stop_ids, ..BeamOptions::default() });
        let sources = ["آ ت ز م و ن", "آ ت ش ي س و ن"];
        let found = both.translator().translate(&sources, &choice, 2, &mut |_, _| Ok(()));
        let found: Vec<String> =
            found.expect("translations").iter().map(|all| all[0].text.clone()).collect();
        assert_eq!(found, ["a t z m o n", "a c h i s o n"], "{name}");
        both.agrees(name, outcome);
    }
}
