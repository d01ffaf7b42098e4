//! A sparse autoencoder: encode, decode, and its tensors by SAELens's names.

use super::config::{Normalize, SaeConfig, SaeKind};
use crate::backend::cpu::gemm::Mat;
use crate::backend::cpu::pool::Pool;
use crate::error::{Error, Kind, Result};
use crate::lens::solve::product;
use crate::tensor::random::Random;

/// A tensor's shape and elements.
pub type Tensor = (Vec<usize>, Vec<f32>);

/// Sizes and weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Sae {
    /// Sizes.
    pub config: SaeConfig,
    /// (d_in, d_sae).
    pub w_enc: Vec<f32>,
    /// (d_sae).
    pub b_enc: Vec<f32>,
    /// (d_sae, d_in): a direction in each row.
    pub w_dec: Vec<f32>,
    /// (d_in).
    pub b_dec: Vec<f32>,
    /// (d_sae) of [`SaeKind::JumpReLU`]; else empty.
    pub threshold: Vec<f32>,
}

/// Adds a vector to each row.
pub(super) fn add_rows(rows: &mut [f32], vector: &[f32], factor: f32) {
    for row in rows.chunks_exact_mut(vector.len()) {
        row.iter_mut().zip(vector).for_each(|(x, v)| *x += factor * v);
    }
}

/// Makes each row of `width` elements 1 long; rows of zeros stay.
pub(super) fn to_unit(rows: &mut [f32], width: usize) {
    for row in rows.chunks_exact_mut(width) {
        let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        if length > 0.0 {
            row.iter_mut().for_each(|x| *x /= length);
        }
    }
}

impl Sae {
    /// Random directions of length 1; the encoder is the decoder, transposed.
    ///
    /// # Errors
    /// Sizes that do not fit together.
    pub fn new(config: SaeConfig, seed: u64) -> Result<Self> {
        config.check()?;
        let (d, m) = (config.d_in, config.d_sae);
        let mut random = Random::new(seed, 0);
        let mut w_dec: Vec<f32> = (0..m * d).map(|_| random.normal()).collect();
        to_unit(&mut w_dec, d);
        let w_enc = (0..d * m).map(|i| w_dec[i % m * d + i / m]).collect();
        let jumps = config.architecture == SaeKind::JumpReLU;
        let threshold = if jumps { vec![0.0; m] } else { vec![] };
        Ok(Self { config, w_enc, b_enc: vec![0.0; m], w_dec, b_dec: vec![0.0; d], threshold })
    }

    /// From tensors by name, each with its shape.
    ///
    /// # Errors
    /// A tensor that is missing (whatever `get` gives) or has another shape; sizes that do not fit together.
    pub fn from_tensors(
        config: SaeConfig,
        get: &mut dyn FnMut(&str) -> Result<Tensor>,
    ) -> Result<Self> {
        config.check()?;
        let (d, m) = (config.d_in, config.d_sae);
        let mut read = |name: &str, want: &[usize]| {
            let (shape, values) = get(name)?;
            if shape == want && values.len() == want.iter().product::<usize>() {
                return Ok(values);
            }
            let message = format!("{name} has shape {shape:?}, but cfg.json says {want:?}");
            Err(Error::new(Kind::Shape, "sae", message))
        };
        let mut sae = Self {
            w_enc: read("W_enc", &[d, m])?,
            b_enc: read("b_enc", &[m])?,
            w_dec: read("W_dec", &[m, d])?,
            b_dec: read("b_dec", &[d])?,
            threshold: match config.architecture {
                SaeKind::JumpReLU => read("threshold", &[m])?,
                _ => vec![],
            },
            config,
        };
        if sae.config.rescale_acts_by_decoder_norm {
            sae.fold_lengths();
        }
        Ok(sae)
    }

    /// The same function with directions of length 1.
    fn fold_lengths(&mut self) {
        let (d, m) = (self.config.d_in, self.config.d_sae);
        for (i, row) in self.w_dec.chunks_exact_mut(d).enumerate() {
            let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            if length > 0.0 {
                row.iter_mut().for_each(|x| *x /= length);
                (0..d).for_each(|j| self.w_enc[j * m + i] *= length);
                self.b_enc[i] *= length;
                self.threshold.get_mut(i).into_iter().for_each(|t| *t *= length);
            }
        }
        self.config.rescale_acts_by_decoder_norm = false;
    }

    /// The tensors of `sae_weights.safetensors`: name, shape, elements.
    #[must_use]
    pub fn tensors(&self) -> Vec<(&'static str, Vec<usize>, &[f32])> {
        let (d, m) = (self.config.d_in, self.config.d_sae);
        let mut all: Vec<(&'static str, Vec<usize>, &[f32])> = vec![
            ("W_enc", vec![d, m], &self.w_enc),
            ("b_enc", vec![m], &self.b_enc),
            ("W_dec", vec![m, d], &self.w_dec),
            ("b_dec", vec![d], &self.b_dec),
        ];
        if !self.threshold.is_empty() {
            all.push(("threshold", vec![m], &self.threshold));
        }
        all
    }

    /// Vectors in, before the bias is taken from them: normalised, with each one's mean and factor back.
    fn normalised(&self, x: &[f32]) -> (Vec<f32>, Vec<(f32, f32)>) {
        let d = self.config.d_in;
        let mut out = x.to_vec();
        let mut back = vec![];
        for row in out.chunks_exact_mut(d) {
            let (mean, factor, divisor) = match self.config.normalize_activations {
                Normalize::None | Normalize::ExpectedAverageOnlyIn => continue,
                Normalize::ConstantNormRescale => {
                    let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
                    let factor = length.max(f32::MIN_POSITIVE) / (d as f32).sqrt();
                    (0.0, factor, factor)
                }
                Normalize::LayerNorm => {
                    let mean = row.iter().sum::<f32>() / d as f32;
                    let squares: f32 = row.iter().map(|x| (x - mean).powi(2)).sum();
                    let deviation = (squares / (d.max(2) - 1) as f32).sqrt();
                    (mean, deviation, deviation + 1e-5)
                }
            };
            row.iter_mut().for_each(|x| *x = (*x - mean) / divisor);
            back.push((mean, factor));
        }
        (out, back)
    }

    /// What is encoded of normalised vectors, and the activations before σ, (N, d_sae).
    pub(super) fn before(&self, pool: &Pool, mut x: Vec<f32>) -> (Vec<f32>, Vec<f32>) {
        let (d, m) = (self.config.d_in, self.config.d_sae);
        if self.config.apply_b_dec_to_input {
            add_rows(&mut x, &self.b_dec, -1.0);
        }
        let n = x.len() / d;
        let mut pre = vec![0.0; n * m];
        product(pool, (n, m, d), (Mat::rows(&x, d), Mat::rows(&self.w_enc, m)), &mut pre, false);
        add_rows(&mut pre, &self.b_enc, 1.0);
        (x, pre)
    }

    /// σ, in place: (N, d_sae).
    pub(super) fn activate(&self, pre: &mut [f32]) {
        let (m, k) = (self.config.d_sae, self.config.k.unwrap_or(0));
        pre.iter_mut().for_each(|x| *x = x.max(0.0));
        match self.config.architecture {
            SaeKind::Standard => {}
            SaeKind::TopK => pre.chunks_exact_mut(m).for_each(|row| keep_largest(row, k)),
            SaeKind::BatchTopK => keep_largest(pre, k * (pre.len() / m)),
            SaeKind::JumpReLU => {
                for row in pre.chunks_exact_mut(m) {
                    let closed = row.iter_mut().zip(&self.threshold).filter(|(x, t)| !(**x > **t));
                    closed.for_each(|(x, _)| *x = 0.0);
                }
            }
        }
    }

    fn demand(&self, len: usize, width: usize) -> Result<()> {
        if len > 0 && len.is_multiple_of(width) {
            return Ok(());
        }
        let message = format!("{len} elements, but vectors have {width}");
        Err(Error::new(Kind::Shape, "sae", message))
    }

    /// Activations (N, d_sae) of vectors (N, d_in).
    ///
    /// # Errors
    /// Vectors of another width, or none.
    pub fn encode(&self, pool: &Pool, x: &[f32]) -> Result<Vec<f32>> {
        self.demand(x.len(), self.config.d_in)?;
        let (x, _) = self.normalised(x);
        let (_, mut a) = self.before(pool, x);
        self.activate(&mut a);
        Ok(a)
    }

    /// Vectors (N, d_in) of activations (N, d_sae), as normalised ones where vectors are normalised.
    ///
    /// # Errors
    /// Activations of another width, or none.
    pub fn decode(&self, pool: &Pool, a: &[f32]) -> Result<Vec<f32>> {
        let (d, m) = (self.config.d_in, self.config.d_sae);
        self.demand(a.len(), m)?;
        let n = a.len() / m;
        let mut out = vec![0.0; n * d];
        product(pool, (n, d, m), (Mat::rows(a, m), Mat::rows(&self.w_dec, d)), &mut out, false);
        add_rows(&mut out, &self.b_dec, 1.0);
        Ok(out)
    }

    /// Activations (N, d_sae) of vectors (N, d_in), and what is made of them again, (N, d_in).
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn reconstruct(&self, pool: &Pool, x: &[f32]) -> Result<(Vec<f32>, Vec<f32>)> {
        self.demand(x.len(), self.config.d_in)?;
        let (normalised, back) = self.normalised(x);
        let (_, mut a) = self.before(pool, normalised);
        self.activate(&mut a);
        let mut out = self.decode(pool, &a)?;
        for (row, (mean, factor)) in out.chunks_exact_mut(self.config.d_in).zip(back) {
            row.iter_mut().for_each(|x| *x = *x * factor + mean);
        }
        Ok((a, out))
    }
}

/// Keeps the `k` largest, of equal ones the first; others become 0.
fn keep_largest(x: &mut [f32], k: usize) {
    if k >= x.len() {
        return;
    }
    let mut order: Vec<usize> = (0..x.len()).collect();
    order.select_nth_unstable_by(k, |&a, &b| x[b].total_cmp(&x[a]).then(a.cmp(&b)));
    order[k..].iter().for_each(|&i| x[i] = 0.0);
}
