//! Feed-forward neurons as key-value memories (Geva et al., "Transformer Feed-Forward Layers Are Key-Value Memories",
//! 2021): what wakes a neuron (its key) and which tokens it then promotes (its value, a column of the second matrix);
//! and knowledge neurons (Dai et al., "Knowledge Neurons in Pretrained Transformers", 2022): which of them an answer
//! hangs on.

use super::integrate::{At, integrate};
use super::metric::Metric;
use super::rows::{Runner, batches};
use super::solve::product;
use super::subject::Subject;
use crate::backend::cpu::gemm::Mat;
use crate::error::{Error, Kind, Result};
use crate::model::config::{Config, NormKind};
use crate::model::site::{Part, Site};
use crate::model::watch::Watch;

/// Where a neuron was awake.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wake {
    /// Row of the texts.
    pub row: usize,
    /// Position in it.
    pub position: usize,
    /// The token there.
    pub token: i32,
    /// The neuron's value.
    pub value: f32,
}

/// What wakes a neuron.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// Which.
    pub neuron: usize,
    /// Where it was largest, largest first.
    pub top: Vec<Wake>,
    /// Share of positions at which it was above 0.
    pub active: f64,
    /// Its mean over all positions.
    pub mean: f64,
}

/// What a neuron promotes.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Which.
    pub neuron: usize,
    /// The tokens whose scores it raises most for each unit of its value: `(id, change)`, before the last norm
    /// divides.
    pub raised: Vec<(u32, f32)>,
    /// Those it lowers most.
    pub lowered: Vec<(u32, f32)>,
}

fn check(config: &Config, site: Site, neurons: &[usize]) -> Result<()> {
    site.demand(config, "neurons")?;
    match neurons.iter().find(|&&n| n >= config.hidden) {
        None => Ok(()),
        Some(n) => {
            let message = format!("neuron {n}, but they are numbered 0..{}", config.hidden);
            Err(Error::new(Kind::Input, "neurons", message))
        }
    }
}

/// The `k` positions at which each of `neurons` of block `layer` is largest, over texts of ids; of positions alike the
/// earlier. `each` hears how many rows are done.
///
/// # Errors
/// No texts; neurons or a block that do not exist; a model with two stacks; whatever `each` gives.
pub fn keys(
    subject: Subject<'_>,
    rows: &[Vec<i32>],
    (layer, neurons): (usize, &[usize]),
    k: usize,
    each: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Vec<Key>> {
    let f = subject.config.hidden;
    let site = Site::block(layer, Part::MlpPost);
    check(subject.config, site, neurons)?;
    let new = |&neuron: &usize| Key { neuron, top: vec![], active: 0.0, mean: 0.0 };
    let mut keys: Vec<Key> = neurons.iter().map(new).collect();
    let mut runner = Runner::new(subject, Watch::capture(&[site]));
    let mut n = 0usize;
    for range in batches("neurons", rows)? {
        let (some, t) = (&rows[range.clone()], rows[range.start].len());
        let seen = runner.run(some, &mut |_| Ok(()))?;
        for (i, values) in seen.value(site)?.chunks_exact(f).enumerate() {
            let (row, position) = (i / t, i % t);
            let token = some[row][position];
            n += 1;
            for key in &mut keys {
                let value = values[key.neuron];
                key.active += f64::from(u8::from(value > 0.0));
                key.mean += f64::from(value);
                insert(&mut key.top, Wake { row: range.start + row, position, token, value }, k);
            }
        }
        each(range.end)?;
    }
    for key in &mut keys {
        key.active /= n as f64;
        key.mean /= n as f64;
    }
    Ok(keys)
}

/// Keeps the `k` largest, largest first.
fn insert(top: &mut Vec<Wake>, new: Wake, k: usize) {
    let at = top.partition_point(|w| w.value >= new.value);
    if at < k {
        top.insert(at, new);
        top.truncate(k);
    }
}

/// The `k` tokens whose scores each of `neurons` of block `layer` raises and lowers most: its column of the second
/// matrix, through the last norm's weights (not its division) and the head's matrix.
///
/// # Errors
/// Neurons or a block that do not exist; scores that are not linear in the stream.
pub fn values(
    subject: Subject<'_>,
    (layer, neurons): (usize, &[usize]),
    k: usize,
) -> Result<Vec<Value>> {
    let Subject { config, weights, pool } = subject;
    check(config, Site::block(layer, Part::MlpPost), neurons)?;
    if !subject.reads_linearly() {
        let message = "scores are not linear in what a neuron writes";
        return Err(Error::new(Kind::Config, "neurons", message)
            .hint("knowledge neurons say what an answer hangs on, of any model"));
    }
    let (f, c, v) = (config.hidden, config.width, config.vocab);
    let out = weights.get(&format!("blocks.{layer}.mlp.out.weight"))?;
    let norm = subject.last_norm()?;
    let scale = if config.scaled_head { 1.0 / (c as f32).sqrt() } else { 1.0 };
    let mut columns = vec![0.0f32; neurons.len() * c];
    for (column, &neuron) in columns.chunks_exact_mut(c).zip(neurons) {
        column.iter_mut().enumerate().for_each(|(i, x)| *x = out[i * f + neuron]);
        if config.norm == NormKind::LayerNorm {
            let mean = column.iter().sum::<f32>() / c as f32;
            column.iter_mut().for_each(|x| *x -= mean);
        }
        column.iter_mut().zip(norm.iter()).for_each(|(x, n)| *x *= n * scale);
    }
    let head = subject.head()?;
    let mut scores = vec![0.0f32; neurons.len() * v];
    let parts = (Mat::rows(&columns, c), Mat::rows(head, c).t());
    product(pool, (neurons.len(), v, c), parts, &mut scores, false);
    let value = |(scores, &neuron): (&[f32], &usize)| {
        let mut order: Vec<u32> = (0..v as u32).collect();
        let score = |id: u32| scores[id as usize];
        order.sort_by(|&a, &b| score(b).total_cmp(&score(a)).then(a.cmp(&b)));
        let named = |id: &u32| (*id, score(*id));
        let raised = order.iter().take(k).map(named).collect();
        Value { neuron, raised, lowered: order.iter().rev().take(k).map(named).collect() }
    };
    Ok(scores.chunks_exact(v).zip(neurons).map(value).collect())
}

/// A metric shared out among a block's neurons at one position.
#[derive(Clone, Debug, PartialEq)]
pub struct KnowledgeNeurons {
    /// Of each neuron, (F).
    pub shares: Vec<f64>,
    /// The metric.
    pub value: f64,
    /// The metric with all these neurons at 0.
    pub without: f64,
}

impl KnowledgeNeurons {
    /// How far the shares' sum is from the metric's change.
    #[must_use]
    pub fn completeness_error(&self) -> f64 {
        (self.shares.iter().sum::<f64>() - (self.value - self.without)).abs()
    }
}

/// Integrated gradients of a metric of the last scores as the neurons of block `layer` at `position` (none: the last)
/// grow together from 0 to their values in `steps` steps.
///
/// # Errors
/// No ids, a position or block that does not exist, no steps; a model with two stacks.
pub fn knowledge(
    subject: Subject<'_>,
    ids: &[i32],
    metric: &Metric,
    (layer, position): (usize, Option<usize>),
    steps: usize,
) -> Result<KnowledgeNeurons> {
    let site = Site::block(layer, Part::MlpPost);
    check(subject.config, site, &[])?;
    let position = Some(position.unwrap_or(ids.len().saturating_sub(1)));
    let at = At { operation: "knowledge neurons", ids, metric, site, position };
    let path = integrate(subject, at, None, steps)?;
    Ok(KnowledgeNeurons { shares: path.shares, value: path.value, without: path.baseline })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::pool::Pool;
    use crate::lens::fixtures::induction_head;
    use crate::lens::test_models;
    use crate::model::config::ActivationKind;
    use crate::model::observer::Text;
    use crate::model::weights::Weights;

    /// A model whose neuron 1 in block 0 wakes at token 3 alone and promotes token 5.
    fn planted(norm: NormKind) -> (Config, Weights) {
        let (config, weights) = induction_head(8, 8, 0.0).unwrap();
        let more = Config { hidden: 4, activation: ActivationKind::Relu, norm, ..config };
        let (config, mut weights) = test_models::grown(&weights, more);
        let c = config.width;
        weights.get_mut("blocks.0.mlp.in.weight").unwrap()[c + 3] = 2.0;
        let answer = 2 * 8 + 8 + 5;
        weights.get_mut("blocks.0.mlp.out.weight").unwrap()[answer * config.hidden + 1] = 3.0;
        for i in 0..8 {
            weights.get_mut("head.weight").unwrap()[i * c + 2 * 8 + 8 + i] = 1.0;
        }
        (config, weights)
    }

    #[test]
    fn a_planted_neuron_is_woken_by_its_token_and_promotes_its_answer() {
        let (config, weights) = planted(NormKind::RmsNorm);
        let pool = Pool::new(1);
        let subject = Subject { config: &config, weights: &weights, pool: &pool };
        let rows = vec![vec![0, 3, 1], vec![2, 4, 3], vec![3, 3]];
        let mut heard = vec![];
        let found = keys(subject, &rows, (0, &[1, 2]), 3, &mut |n| {
            heard.push(n);
            Ok(())
        })
        .unwrap();
        let places: Vec<_> = found[0].top.iter().map(|w| (w.row, w.position, w.token)).collect();
        // The longer the text before, the less of it is in the stream that the norm divides.
        assert_eq!(places, [(1, 2, 3), (0, 1, 3), (2, 0, 3)]);
        assert_eq!((found[0].active, heard), (0.5, vec![2, 3]));
        assert!(found[0].top[0].value > 0.0 && found[0].mean > 0.0);
        assert_eq!((found[1].active, found[1].mean), (0.0, 0.0));
        let promoted = values(subject, (0, &[1]), 2).unwrap();
        assert_eq!(promoted[0].raised[0], (5, 3.0));
        assert_eq!(promoted[0].raised[1].1, 0.0);
        let (config, weights) = planted(NormKind::None);
        let bare = Subject { config: &config, weights: &weights, pool: &pool };
        assert_eq!(values(bare, (0, &[1]), 2).unwrap(), promoted);
        // All of the answer's change is that neuron's.
        let metric = Metric::Difference { right: 5, wrong: 6 };
        let got = knowledge(subject, &[0, 3], &metric, (0, None), 200).unwrap();
        assert!(got.shares[1] > 1.0 && got.completeness_error() < 1e-2, "{got:?}");
        assert!(got.shares.iter().enumerate().all(|(i, s)| i == 1 || *s == 0.0), "{got:?}");
        // Nothing wakes at another position.
        let elsewhere = knowledge(subject, &[0, 3], &metric, (0, Some(0)), 4).unwrap();
        assert!(elsewhere.shares.iter().all(|s| *s == 0.0));
    }

    #[test]
    fn knowledge_is_complete_in_random_models() {
        let pool = Pool::new(1);
        for base in [Config::gpt2(), Config::llama()] {
            let (config, weights) = test_models::random(base, 12);
            let subject = Subject { config: &config, weights: &weights, pool: &pool };
            let metric = Metric::Probability(4);
            let got = knowledge(subject, &[1, 2, 30, 9], &metric, (1, None), 64).unwrap();
            let change = (got.value - got.without).abs();
            assert!(got.completeness_error() <= 0.01 * change + 1e-5, "{got:?}");
            assert!(change > 1e-4);
        }
    }

    #[test]
    fn values_are_what_the_stream_gains_read_by_the_model() {
        let (config, weights) = test_models::random(Config::gpt2(), 5);
        let pool = Pool::new(1);
        let subject = Subject { config: &config, weights: &weights, pool: &pool };
        let got = values(subject, (1, &[7]), config.vocab).unwrap().remove(0);
        // The score of a token by direct attribution's rule: the neuron's share is value · change / divisor.
        let site = [Site::block(1, Part::MlpPost), Site::once(Part::LnFinalScale)];
        let ids = [4, 5, 6];
        let seen = subject.observe(Text::of(&ids), 1, &site).unwrap();
        let value = seen.read(site[0]).unwrap()[2 * config.hidden + 7];
        let divisor = seen.read(site[1]).unwrap()[2];
        use crate::lens::attribution::{Grain, attribute};
        let shares = attribute(subject, Text::of(&ids), 2, &[(9, 1.0)], Grain::Neurons(1)).unwrap();
        let want = shares.shares.iter().find(|s| s.component == "blocks.1.mlp neuron 7").unwrap();
        let change = got.raised.iter().find(|(id, _)| *id == 9).unwrap().1;
        let error = (f64::from(value * change / divisor) - want.value).abs();
        assert!(error <= 1e-4 * want.value.abs().max(1e-2), "{error} {want:?}");
        assert_eq!(got.lowered[0], got.raised[config.vocab - 1]);
    }

    #[test]
    fn neurons_that_do_not_exist_are_refused() {
        let (config, weights) = planted(NormKind::RmsNorm);
        let pool = Pool::new(1);
        let subject = Subject { config: &config, weights: &weights, pool: &pool };
        assert!(values(subject, (0, &[4]), 1).is_err() && values(subject, (2, &[0]), 1).is_err());
        assert!(keys(subject, &[], (0, &[0]), 1, &mut |_| Ok(())).is_err());
        let metric = Metric::Probability(0);
        assert!(knowledge(subject, &[0], &metric, (0, Some(1)), 4).is_err());
        assert!(knowledge(subject, &[], &metric, (0, None), 4).is_err());
    }
}
