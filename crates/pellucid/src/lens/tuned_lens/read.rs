//! The last norm and the head, forward and back, in loops and products.

use crate::backend::cpu::gemm::Mat;
use crate::backend::cpu::pool::Pool;
use crate::error::Result;
use crate::lens::solve::product;
use crate::lens::subject::Subject;
use crate::model::config::NormKind;
use crate::ops::objective::log_sum_exp;

/// What reads the stream's end.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    /// (V, C).
    head: &'a [f32],
    /// (V), or empty.
    head_bias: &'a [f32],
    /// (C).
    weight: &'a [f32],
    /// (C), or empty.
    bias: &'a [f32],
    centred: bool,
    epsilon: f32,
    /// What vectors are multiplied by before the head.
    scale: f32,
}

impl<'a> Reader<'a> {
    pub(super) fn new(subject: Subject<'a>) -> Result<Self> {
        let Subject { config, weights, .. } = subject;
        Ok(Self {
            head: subject.head()?,
            head_bias: weights.get("head.bias").unwrap_or_default(),
            weight: weights.get("norm.weight")?,
            bias: weights.get("norm.bias").unwrap_or_default(),
            centred: config.norm == NormKind::LayerNorm,
            epsilon: config.norm_epsilon,
            scale: if config.scaled_head { 1.0 / (config.width as f32).sqrt() } else { 1.0 },
        })
    }

    /// Mean and reciprocal deviation of a vector.
    fn factor(&self, x: &[f32]) -> (f32, f32) {
        let c = x.len() as f64;
        let mean =
            if self.centred { x.iter().map(|&x| f64::from(x)).sum::<f64>() / c } else { 0.0 };
        let square = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / c;
        (mean as f32, (1.0 / (square + f64::from(self.epsilon)).sqrt()) as f32)
    }

    /// The norm of vectors (N, C), and each one's mean and reciprocal deviation.
    pub(super) fn normalised(&self, x: &[f32]) -> (Vec<f32>, Vec<(f32, f32)>) {
        let c = self.weight.len();
        let factors: Vec<(f32, f32)> = x.chunks_exact(c).map(|row| self.factor(row)).collect();
        let mut y = x.to_vec();
        for (row, (mean, r)) in y.chunks_exact_mut(c).zip(&factors) {
            for (i, y) in row.iter_mut().enumerate() {
                let shift = self.bias.get(i).copied().unwrap_or(0.0);
                *y = self.scale * ((*y - mean) * r * self.weight[i] + shift);
            }
        }
        (y, factors)
    }

    /// Scores (N, V) of normalised vectors.
    pub(super) fn scores(&self, pool: &Pool, y: &[f32]) -> Vec<f32> {
        let c = self.weight.len();
        let (n, v) = (y.len() / c, self.head.len() / c);
        let mut scores = vec![0.0; n * v];
        let parts = (Mat::rows(y, c), Mat::rows(self.head, c).t());
        product(pool, (n, v, c), parts, &mut scores, false);
        if !self.head_bias.is_empty() {
            for row in scores.chunks_exact_mut(v) {
                row.iter_mut().zip(self.head_bias).for_each(|(s, b)| *s += b);
            }
        }
        scores
    }

    /// The gradient at the vectors before the norm, (N, C), from that at the scores.
    pub(super) fn back(
        &self,
        pool: &Pool,
        d_scores: &[f32],
        (x, factors): (&[f32], &[(f32, f32)]),
    ) -> Vec<f32> {
        let c = self.weight.len();
        let (n, v) = (x.len() / c, self.head.len() / c);
        // scores = y · headᵀ
        let mut d = vec![0.0; n * c];
        let parts = (Mat::rows(d_scores, v), Mat::rows(self.head, c));
        product(pool, (n, c, v), parts, &mut d, false);
        for ((d, x), (mean, r)) in d.chunks_exact_mut(c).zip(x.chunks_exact(c)).zip(factors) {
            // y = scale · (weight · u + bias), u = (x - mean) · r
            d.iter_mut().zip(self.weight).for_each(|(d, w)| *d *= self.scale * w);
            let along: f32 =
                d.iter().zip(x).map(|(d, x)| d * (x - mean) * r).sum::<f32>() / c as f32;
            let level = if self.centred { d.iter().sum::<f32>() / c as f32 } else { 0.0 };
            for (d, x) in d.iter_mut().zip(x) {
                *d = r * (*d - level - (x - mean) * r * along);
            }
        }
        d
    }
}

/// Sum over rows of KL(last ‖ scores), both (N, V) before softmax; in place of `scores` the sum's gradient.
pub(super) fn divergence_and_slope(last: &[f32], scores: &mut [f32], v: usize) -> f64 {
    let mut sum = 0.0;
    for (p, q) in last.chunks_exact(v).zip(scores.chunks_exact_mut(v)) {
        let (a, b) = (log_sum_exp(p), log_sum_exp(q));
        for (&p, q) in p.iter().zip(q) {
            let (log_p, log_q) = (f64::from(p) - a, f64::from(*q) - b);
            let (p, probability) = (log_p.exp(), log_q.exp());
            sum += p * (log_p - log_q);
            *q = (probability - p) as f32;
        }
    }
    sum
}
