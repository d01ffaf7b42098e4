//! A model as the page of `pellucid look` sees it.

use crate::model::{self, Model};
use pellucid::backend::cpu::gemm::{GemmDims, Mat, Precision, gemm};
use pellucid::backend::cpu::pool::Pool;
use pellucid::error::{Error, Kind, Result};
use pellucid::lens::{attention_map, logit_lens};
use pellucid::model::config::{Architecture, Config, Core, NormKind, NormPlacement, Output};
use pellucid::model::observer::Observer;
use pellucid::model::site::Site;
use pellucid::model::weights::Weights;
use pellucid_server::inside::{
    Answer, Attribution, Card, Edit, Effect, Fault, Guess, HeadAt, Inside, Lens, Pattern, Prompt,
    Reason, Stack, Token, Tokens, Whose,
};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A text to begin with.
const TEXT: &str = "When Mary and John went to the store, John gave a drink to";

/// A model and what it computed for the last text.
pub(crate) struct Glass {
    model: Model,
    pool: Pool,
    folder: PathBuf,
    checkpoint: Option<String>,
    begin: Prompt,
    seen: Option<(Prompt, Seen)>,
}

/// One run, with every block's queries, keys and values, and the stream at each depth.
struct Seen {
    ids: Vec<u32>,
    observer: Observer,
}

/// An error of the library as an answer.
fn fault(error: &Error) -> Fault {
    let reason = match error.kind() {
        Kind::Input | Kind::Config | Kind::Shape => Reason::Input,
        _ => Reason::Broken,
    };
    Fault::new(reason, error.to_string())
}

fn not_yet(what: &str) -> Fault {
    Fault::missing(format!("Not yet: {what}."))
}

impl Glass {
    /// The model of a folder, or of a run's best checkpoint.
    pub(crate) fn open(folder: &Path, pool: Pool) -> Result<Self> {
        let found = model::find(folder)?;
        let name = found.file_name().and_then(|n| n.to_str()).filter(|_| found != folder);
        let checkpoint = name.map(str::to_owned);
        let model = load(folder)?;
        let begin = Prompt { text: TEXT.into(), source: TEXT.into() };
        Ok(Self { model, pool, folder: folder.into(), checkpoint, begin, seen: None })
    }

    /// Texts that stand on the page at first.
    pub(crate) fn begin_with(&mut self, text: Option<String>, source: Option<String>) {
        if let Some(text) = text {
            self.begin.text = text;
        }
        if let Some(source) = source {
            self.begin.source = source;
        }
    }

    fn ids(&self, text: &str) -> Answer<Vec<u32>> {
        let ids = match self.model.config.has_source() {
            true => {
                let start = self.model.translator(&self.pool).map_err(|e| fault(&e))?.start;
                let tokenizer = self.model.tokenizer().map_err(|e| fault(&e))?;
                let mut ids = tokenizer.encode(text).map_err(|e| fault(&e))?;
                ids.insert(0, start);
                ids
            }
            false => self.model.encode(text).map_err(|e| fault(&e))?,
        };
        let (n, most) = (ids.len(), self.model.config.context);
        if n == 0 || n > most {
            let message = format!("the text has {n} tokens, but this model reads 1 to {most}");
            return Err(Fault::input(message));
        }
        Ok(ids)
    }

    /// What the model computes for a text; computed once.
    fn seen(&mut self, prompt: &Prompt) -> Answer<&Seen> {
        let config = &self.model.config;
        if config.architecture != Architecture::Decoder {
            return Err(not_yet("looking into an encoder; decoder-only models can be looked into"));
        }
        if self.seen.as_ref().is_none_or(|(of, _)| of != prompt) {
            self.seen = None;
            let ids = self.ids(&prompt.text)?;
            let observer = self.observe(&ids).map_err(|e| fault(&e))?;
            self.seen = Some((prompt.clone(), Seen { ids, observer }));
        }
        match &self.seen {
            Some((_, seen)) => Ok(seen),
            None => Err(Fault::new(Reason::Broken, "nothing was computed")),
        }
    }

    fn observe(&self, ids: &[u32]) -> Result<Observer> {
        let config = &self.model.config;
        let blocks = (0..config.layers).flat_map(|i| [Site::Qkv(i), Site::Block(i)]);
        let sites: Vec<Site> = [Site::Embedding].into_iter().chain(blocks).collect();
        let mut observer = Observer::new(config, 1, ids.len(), &sites, self.pool.threads())?;
        let ids: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
        observer.run(&self.pool, &self.model.weights, &ids)?;
        Ok(observer)
    }

    fn token(&self, id: u32) -> Answer<Token> {
        let tokenizer = self.model.tokenizer().map_err(|e| fault(&e))?;
        Ok(Token { id, text: tokenizer.label(id) })
    }
}

/// A model whose attention can be looked at.
fn load(folder: &Path) -> Result<Model> {
    let model = Model::load(folder)?;
    if model.config.core == Core::Lstm {
        let message = "an LSTM has no attention, no residual stream: nothing to look at";
        return Err(Error::new(Kind::Config, "look", message).hint("give a Transformer"));
    }
    model.tokenizer()?;
    Ok(model)
}

/// Logits (N, V) of `n` vectors of the stream (N, C): as [`logit_lens::read`], in one product.
fn read_rows(pool: &Pool, config: &Config, weights: &Weights, stream: &[f32]) -> Result<Vec<f32>> {
    let (c, v) = (config.width, config.vocab);
    let n = stream.len() / c;
    let mut x = stream.to_vec();
    if config.norm_placement == NormPlacement::Pre {
        let weight = weights.get("norm.weight")?;
        let bias = weights.get("norm.bias").ok();
        for row in x.chunks_exact_mut(c) {
            let mean = match config.norm {
                NormKind::LayerNorm => row.iter().map(|&v| f64::from(v)).sum::<f64>() / c as f64,
                NormKind::RmsNorm => 0.0,
            };
            let square = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>();
            let scale = 1.0 / (square / c as f64 + f64::from(config.norm_epsilon)).sqrt();
            for (i, v) in row.iter_mut().enumerate() {
                *v = ((f64::from(*v) - mean) * scale) as f32 * weight[i]
                    + bias.map_or(0.0, |b| b[i]);
            }
        }
    }
    let head = weights.get(if config.tied_head { "embedding.token" } else { "head.weight" })?;
    let mut logits = vec![0.0; n * v];
    let dims = GemmDims { m: n, n: v, k: c };
    let (a, b) = (Mat::rows(&x, c), Mat::rows(head, c).t());
    gemm(pool, Precision::F32, dims, a, b, &mut logits, v, false, None);
    Ok(logits)
}

impl Inside for Glass {
    fn card(&self) -> Card {
        let config = &self.model.config;
        let decodes = config.architecture != Architecture::Encoder;
        let stack = |name: &str, title: &str, layers| Stack {
            name: name.into(),
            title: title.into(),
            layers,
            heads: config.heads,
            causal: decodes,
            from_source: false,
            to_source: false,
            prefix: "blocks".into(),
            attention: "attn".into(),
        };
        let mut stacks =
            vec![stack("text", "The text looks at itself", config.blocks_that_generate())];
        if config.has_source() {
            let layers = config.decoder_layers;
            stacks[0].prefix = "decoder".into();
            let cross = stack("cross", "The text looks at the source", layers);
            let (prefix, attention) = ("decoder".into(), "cross_attn".into());
            stacks.push(Stack { to_source: true, causal: false, prefix, attention, ..cross });
            let encoder = stack("source", "The source looks at itself", config.layers);
            let prefix = "encoder".into();
            let both = Stack { from_source: true, to_source: true, prefix, ..encoder };
            stacks.push(Stack { causal: false, ..both });
        }
        let Config { layers, heads, width, vocab, context, .. } = config;
        let name = self.folder.file_name().map_or("model".into(), |n| n.to_string_lossy());
        let parameters = crate::out::short(self.model.parameters() as f64);
        Card {
            title: name.into_owned(),
            facts: format!(
                "{parameters} parameters · {layers} layers of {heads} heads · {width} wide · \
                 {vocab} tokens in its vocabulary · reads up to {context}"
            ),
            command: format!("pellucid look {}", self.folder.display()),
            stacks,
            has_source: config.has_source(),
            context: *context,
            checkpoint: self.checkpoint.clone(),
            text: self.begin.text.clone(),
            source: self.begin.source.clone(),
        }
    }

    fn tokens(&mut self, prompt: &Prompt) -> Answer<Tokens> {
        let named = |ids: Vec<u32>| -> Answer<Vec<Token>> {
            ids.into_iter().map(|id| self.token(id)).collect()
        };
        let text: Answer<Vec<Token>> = named(self.ids(&prompt.text)?);
        let source = match self.model.config.has_source() {
            true => {
                let translator = self.model.translator(&self.pool).map_err(|e| fault(&e))?;
                let ids = translator.source(&prompt.source).map_err(|e| fault(&e))?;
                named(ids.into_iter().map(|id| id as u32).collect())?
            }
            false => vec![],
        };
        Ok(Tokens { text: text?, source })
    }

    fn pattern(&mut self, prompt: &Prompt, at: &HeadAt) -> Answer<Pattern> {
        let (layers, heads) = (self.model.config.layers, self.model.config.heads);
        if at.stack != "text" || at.layer >= layers || at.head >= heads {
            let HeadAt { stack, layer, head } = at;
            let message =
                format!("no head {head} in layer {layer} of {stack:?}: {layers} × {heads}");
            return Err(Fault::input(message));
        }
        let queries = self.seen(prompt)?.ids.len();
        let seen = &self.seen(prompt)?.observer;
        let qkv = seen.value(Site::Qkv(at.layer)).map_err(|e| fault(&e))?.to_vec();
        let weights = attention_map::pattern(&self.model.config, &qkv, at.head);
        Ok(Pattern { queries, keys: queries, weights: weights.map_err(|e| fault(&e))? })
    }

    fn lens(&mut self, prompt: &Prompt, positions: Range<usize>, k: usize) -> Answer<Lens> {
        if self.model.config.output != Output::Tokens {
            return Err(not_yet("the stream of a model without scores for tokens"));
        }
        let t = self.seen(prompt)?.ids.len();
        if positions.is_empty() || positions.end > t {
            let message = format!("positions {positions:?}, but the text has {t} tokens");
            return Err(Fault::input(message));
        }
        let Range { start, end } = positions;
        let sites = (0..self.model.config.layers).map(Site::Block);
        let (mut depths, mut cells) = (vec![], vec![]);
        for site in [Site::Embedding].into_iter().chain(sites) {
            depths.push(match site {
                Site::Block(i) => format!("layer {i}"),
                _ => "embedding".into(),
            });
            let width = self.model.config.width;
            let seen = &self.seen(prompt)?.observer;
            let stream = &seen.value(site).map_err(|e| fault(&e))?[start * width..end * width];
            let stream = stream.to_vec();
            cells.push(self.guesses(&stream, k)?);
        }
        Ok(Lens { from: start, depths, cells })
    }

    fn attribution(&mut self, _: &Prompt, _: &Whose) -> Answer<Attribution> {
        Err(not_yet("a score taken apart into what each component wrote"))
    }

    fn effect(&mut self, _: &Prompt, _: &[Edit], _: usize) -> Answer<Effect> {
        Err(not_yet("switching components off, and patching them from another text"))
    }

    fn open(&mut self, checkpoint: &str) -> Answer<Card> {
        let model = load(&self.folder.join(checkpoint)).map_err(|e| fault(&e))?;
        self.model = model;
        self.checkpoint = Some(checkpoint.into());
        self.seen = None;
        Ok(self.card())
    }
}

impl Glass {
    /// The `k` best for each row of the stream (N, C).
    fn guesses(&self, stream: &[f32], k: usize) -> Answer<Vec<Vec<Guess>>> {
        let config = &self.model.config;
        let logits = read_rows(&self.pool, config, &self.model.weights, stream);
        let logits = logits.map_err(|e| fault(&e))?;
        let row = |row: &[f32]| -> Answer<Vec<Guess>> {
            let best = logit_lens::top(row, k).map_err(|e| fault(&e))?;
            let guess = |(id, probability): (u32, f32)| -> Answer<Guess> {
                let text = self.token(id)?.text;
                Ok(Guess { id, text, logit: row[id as usize], probability })
            };
            best.into_iter().map(guess).collect()
        };
        logits.chunks_exact(config.vocab).map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_rows_are_read_as_single_ones() {
        for base in [Config::gpt2(), Config::llama()] {
            let sizes =
                Config { layers: 1, width: 32, heads: 4, kv_heads: 4, head_width: 8, ..base };
            let config = Config { hidden: 64, context: 16, vocab: 50, ..sizes };
            let weights = Weights::init(&config, 3);
            let stream: Vec<f32> = (0..10 * 32).map(|i| (i as f32 * 0.37).sin() * 3.0).collect();
            let got = read_rows(&Pool::new(1), &config, &weights, &stream).unwrap();
            for (row, got) in stream.chunks(32).zip(got.chunks(50)) {
                let want = logit_lens::read(&config, &weights, row).unwrap();
                let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-4 * b.abs().max(1.0);
                assert!(got.iter().zip(&want).all(close));
            }
        }
    }
}
