//! How probable texts are after others. The stack reads every text once; the head computes logits only where a
//! token of a continuation is foretold, a few rows at a time, so that logits (B, T, V) never exist.

use super::batch::{Batch, highest};
use super::config::{Architecture, Config, Output};
use super::reader::{Reader, Wanted};
use super::readout::{self, Readout};
use super::stored_weights::StoredWeights;
use super::weights::Weights;
use crate::backend::cpu::gemm::Precision;
use crate::backend::cpu::pool::Pool;
use crate::error::{Error, Kind, Result};
use crate::ops::objective::log_sum_exp;
use std::sync::OnceLock;

/// Positions whose vectors are held at a time, about.
const POSITIONS: usize = 8192;

const SCORE: &str = "score continuations";

/// A text that may follow another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Token ids that an encoder reads; none where there is no encoder.
    pub source: Vec<i32>,
    /// Token ids before the continuation, at least one.
    pub context: Vec<i32>,
    /// Token ids of the continuation, at least one.
    pub continuation: Vec<i32>,
}

/// What a model says to a [`Request`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Likelihood {
    /// Sum over the tokens of the continuation of ln p(token | all before it), in nats.
    pub log_probability: f64,
    /// Whether each of its tokens is the most probable one where it stands.
    pub greedy: bool,
    /// Tokens that were left out on the left, of the context or the source, because all did not fit.
    pub cut: usize,
}

/// Scores continuations with one model.
#[derive(Debug)]
pub struct Continuations {
    config: Config,
    reader: Reader,
    head: Readout,
}

/// A request that fits: where its continuation is foretold.
struct Fitted<'r> {
    source: &'r [i32],
    /// All that the stack reads: context and continuation without its last token.
    ids: Vec<i32>,
    /// Position of the last token of the context.
    first: usize,
    cut: usize,
}

/// A token that is foretold by the vector at `position` of row `row` of a batch.
struct Asked {
    request: usize,
    row: usize,
    position: usize,
    token: i32,
}

impl Continuations {
    /// For a model that writes tokens one after another; `stored` are its matrices, if they are stored.
    ///
    /// # Errors
    /// An invalid config; a model that looks both ways or gives something else than tokens.
    pub fn new(config: &Config, stored: Option<&StoredWeights>, threads: usize) -> Result<Self> {
        if config.architecture == Architecture::Encoder || config.output != Output::Tokens {
            let message = "only a model that writes token after token gives texts a probability";
            return Err(Error::new(Kind::Config, SCORE, message)
                .hint("use a decoder or an encoder-decoder"));
        }
        let mut reader = Reader::new(config, Wanted::Vectors, Precision::F32, threads)?;
        if let Some(stored) = stored {
            reader = reader.with_stored(stored);
        }
        let head = Readout::build(config, true, stored, threads)?;
        Ok(Self { config: config.clone(), reader, head })
    }

    /// Scores all requests, in their order. Texts that begin alike are read once, texts of like length together;
    /// `weights` are those beside the stored ones, where there are such. `progress` gets how many are done; an error
    /// from it ends the work.
    ///
    /// # Errors
    /// An empty context or continuation, a continuation longer than the model's context, an id outside the vocabulary,
    /// a source where there is no encoder or none where there is one: with the number of the request, from 0.
    /// Probabilities that are no numbers.
    pub fn score(
        &mut self,
        pool: &Pool,
        weights: &Weights,
        requests: &[Request],
        progress: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<Vec<Likelihood>> {
        let fit = |(i, r)| fit(&self.config, r).map_err(|e| e.fact(format!("request {i}")));
        let fitted: Vec<Fitted<'_>> =
            requests.iter().enumerate().map(fit).collect::<Result<_>>()?;
        let rows = share(&fitted);
        let unknown =
            |f: &Fitted<'_>| Likelihood { log_probability: 0.0, greedy: true, cut: f.cut };
        let mut all: Vec<Likelihood> = fitted.iter().map(unknown).collect();
        let (mut start, mut done) = (0, 0);
        while start < rows.len() {
            let longest = fitted[rows[start][0]].ids.len();
            let end = rows.len().min(start + (POSITIONS / longest).max(1));
            let group = &rows[start..end];
            let asked = ask(group, &fitted, requests);
            let ids: Vec<&[i32]> = group.iter().map(|r| &*fitted[r[0]].ids).collect();
            let mut batch = Batch::ragged(&ids, &[])?;
            if self.config.has_source() {
                let sources: Vec<&[i32]> = group.iter().map(|r| fitted[r[0]].source).collect();
                batch = batch.with_source(&sources)?;
            }
            let vectors = self.reader.run(pool, weights, &batch)?;
            let head = (&mut self.head, self.config.width);
            answer(head, (pool, weights), (&vectors, batch.time), &asked, &mut all)?;
            start = end;
            done += group.iter().map(Vec::len).sum::<usize>();
            progress(done)?;
        }
        match all.iter().position(|found| !found.log_probability.is_finite()) {
            None => Ok(all),
            Some(i) => {
                let message =
                    format!("the log-probability of request {i} is {}", all[i].log_probability);
                Err(Error::new(Kind::Numeric, SCORE, message)
                    .hint("the weights have left the numbers; take an earlier checkpoint"))
            }
        }
    }
}

/// Cuts a request on the left to what the model can read.
fn fit<'r>(config: &Config, request: &'r Request) -> Result<Fitted<'r>> {
    let Request { source, context, continuation } = request;
    let refuse = |message: String| Err(Error::new(Kind::Input, SCORE, message));
    if context.is_empty() || continuation.is_empty() {
        return refuse("a context and a continuation have at least one token each".into());
    }
    if source.is_empty() == config.has_source() {
        return refuse(match source.is_empty() {
            true => "the model has an encoder, but there is no source".into(),
            false => "there is a source, but the model has no encoder".into(),
        });
    }
    let most = config.context;
    if continuation.len() > most {
        let n = continuation.len();
        return refuse(format!("the continuation has {n} tokens, but the context holds {most}"));
    }
    let outside = |&&id: &&i32| usize::try_from(id).map_or(true, |id| id >= config.vocab);
    if let Some(id) = context.iter().chain(continuation).find(outside) {
        return refuse(format!("id {id}, but ids are 0..{}", config.vocab));
    }
    let mut ids: Vec<i32> =
        context.iter().chain(&continuation[..continuation.len() - 1]).copied().collect();
    let cut = ids.len().saturating_sub(most);
    ids.drain(..cut);
    let cut_source = source.len().saturating_sub(most);
    let first = ids.len() - continuation.len();
    Ok(Fitted { source: &source[cut_source..], ids, first, cut: cut + cut_source })
}

/// Rows to read, the longest first: of each the request whose ids it has, then those whose ids it begins with.
/// Positions see only what is before them, so these need no row of their own.
fn share(fitted: &[Fitted<'_>]) -> Vec<Vec<usize>> {
    let key = |i: &usize| (fitted[*i].source, &*fitted[*i].ids);
    let mut order: Vec<usize> = (0..fitted.len()).collect();
    // What is a beginning of another stands right before one of those that begin so.
    order.sort_by(|a, b| key(a).cmp(&key(b)));
    let mut rows: Vec<Vec<usize>> = vec![];
    for i in order.into_iter().rev() {
        match rows.last_mut() {
            Some(row)
                if fitted[row[0]].source == fitted[i].source
                    && fitted[row[0]].ids.starts_with(&fitted[i].ids) =>
            {
                row.push(i);
            }
            _ => rows.push(vec![i]),
        }
    }
    rows.sort_by_key(|row| (std::cmp::Reverse(fitted[row[0]].ids.len()), row[0]));
    rows
}

/// Every token that the rows of a batch foretell.
fn ask(group: &[Vec<usize>], fitted: &[Fitted<'_>], requests: &[Request]) -> Vec<Asked> {
    let mut asked = vec![];
    for (row, sharing) in group.iter().enumerate() {
        for &request in sharing {
            let tokens = requests[request].continuation.iter().enumerate();
            asked.extend(tokens.map(|(i, &token)| {
                let position = fitted[request].first + i;
                Asked { request, row, position, token }
            }));
        }
    }
    asked
}

/// Adds what is asked to the answers; `vectors` are (B, T, C).
fn answer(
    (head, c): (&mut Readout, usize),
    (pool, weights): (&Pool, &Weights),
    (vectors, time): (&[f32], usize),
    asked: &[Asked],
    answers: &mut [Likelihood],
) -> Result<()> {
    let mut given = vec![];
    for asked in asked.chunks(readout::ROWS) {
        given.clear();
        for a in asked {
            given.extend_from_slice(&vectors[(a.row * time + a.position) * c..][..c]);
        }
        head.each(pool, weights, &given, &mut |logits| {
            let vocab = logits.len() / asked.len();
            let found = vec![OnceLock::new(); asked.len()];
            pool.each(asked.len(), &|i| {
                let _ = found[i].set(token(&logits[i * vocab..][..vocab], asked[i].token));
            });
            for (asked, found) in asked.iter().zip(found) {
                let (log_probability, best) = found.into_inner().unwrap_or((f64::NAN, false));
                let answer = &mut answers[asked.request];
                answer.log_probability += log_probability;
                answer.greedy &= best;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// ln p of a token, and whether it is the most probable, the first of several.
fn token(logits: &[f32], token: i32) -> (f64, bool) {
    let chosen = token as usize;
    (f64::from(logits[chosen]) - log_sum_exp(logits), highest(logits) == Some(chosen))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitted(ids: &[i32]) -> Fitted<'static> {
        Fitted { source: &[], ids: ids.to_vec(), first: 0, cut: 0 }
    }

    #[test]
    fn texts_that_begin_another_are_read_with_it() {
        let all = [&[1, 2][..], &[3], &[1, 2, 3, 4], &[1, 2], &[1, 3], &[1, 2, 3, 5], &[1]];
        let fitted: Vec<_> = all.iter().map(|ids| fitted(ids)).collect();
        assert_eq!(share(&fitted), [vec![2, 3, 0, 6], vec![5], vec![4], vec![1]]);
    }
}
