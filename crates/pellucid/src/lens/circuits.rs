//! What heads would do by their weights alone (Elhage et al., "A Mathematical Framework for Transformer Circuits",
//! 2021): no text is read.
//!
//! ```text
//! OV = O V            what a head writes for what it attends to, (C, C)
//! QK = Qᵀ K           whom it attends to, (C, C)
//! copying(h)          Re Σ λ / Σ |λ|,  λ the eigenvalues of U OV Eᵀ (V, V): 1, where every token raises its own score
//! q-composition(a, b) ‖QK_bᵀ OV_a‖ / ‖QK_b‖ ‖OV_a‖      head b of a later block asks with what head a wrote
//! k-composition(a, b) ‖QK_b OV_a‖ / ‖QK_b‖ ‖OV_a‖       is found by it
//! v-composition(a, b) ‖OV_b OV_a‖ / ‖OV_b‖ ‖OV_a‖       passes it on
//! ```
//!
//! Norms are Frobenius'. Gains of the norms before and after are folded in, their factors at each position are not;
//! biases, feed-forwards, the turning of rotary queries and keys and their own norms are left out.

use super::subject::Subject;
use crate::error::{Error, Kind, Result};
use crate::model::config::{Config, Core, NormKind, NormPlacement};
use crate::tensor::random::Random;
use nalgebra::{DMatrix, DVector, Schur};

/// Steps of the search for eigenvalues, for each.
const STEPS: usize = 1000;

/// How a later head uses what an earlier one wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Composition {
    /// In its query.
    Query,
    /// In its key.
    Key,
    /// In its value.
    Value,
}

impl Composition {
    /// All.
    pub const ALL: [Self; 3] = [Self::Query, Self::Key, Self::Value];

    /// For people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Query => "q-composition",
            Self::Key => "k-composition",
            Self::Value => "v-composition",
        }
    }
}

/// The circuits of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Circuits {
    /// H.
    pub heads: usize,
    /// Of each head (L, H), from -1 to 1; none where scores are not linear in what a head writes.
    pub copying: Option<Vec<f64>>,
    /// For [`Composition::ALL`]: earlier head by later head, (L H, L H); 0 where the second is not later.
    pub composition: [Vec<f64>; 3],
}

/// The matrices of one head, gains folded in.
struct Head {
    /// (D, C).
    q: DMatrix<f64>,
    k: DMatrix<f64>,
    v: DMatrix<f64>,
    /// (C, D).
    o: DMatrix<f64>,
}

/// Copying and composition of all heads. `each` hears how many heads are done.
///
/// # Errors
/// A model whose heads do not read and write one stream: post-norm, two stacks, an LSTM; eigenvalues that are not
/// found; whatever `each` gives.
pub fn circuits(
    subject: Subject<'_>,
    each: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Circuits> {
    let config = subject.config;
    if config.norm_placement == NormPlacement::Post
        || config.has_source()
        || config.core == Core::Lstm
    {
        let message = "heads that read and write one stream are asked for: pre-norm, one stack";
        return Err(Error::new(Kind::Config, "circuits", message));
    }
    let all = heads(subject)?;
    let (n, h) = (all.len(), config.heads);
    let between = if subject.reads_linearly() { Some(read_again(subject)?) } else { None };
    let mut found = Circuits {
        heads: h,
        copying: between.as_ref().map(|_| vec![]),
        composition: [0; 3].map(|_| vec![0.0; n * n]),
    };
    let sizes: Vec<Sizes> = all.iter().map(Sizes::of).collect();
    for (a, head) in all.iter().enumerate() {
        if let (Some(between), Some(to)) = (&between, &mut found.copying) {
            to.push(copying(&head.v * between * &head.o)?);
        }
        for b in (a / h + 1) * h..n {
            let scores = composition((head, &sizes[a]), (&all[b], &sizes[b]));
            for (to, score) in found.composition.iter_mut().zip(scores) {
                to[a * n + b] = score;
            }
        }
        each(a + 1)?;
    }
    Ok(found)
}

/// Rows that read the stream through a norm with this gain.
fn reader(config: &Config, mut rows: DMatrix<f64>, gain: Option<&[f32]>) -> DMatrix<f64> {
    if let Some(gain) = gain {
        for (mut column, &g) in rows.column_iter_mut().zip(gain) {
            column *= f64::from(g);
        }
    }
    if config.norm == NormKind::LayerNorm {
        // Taking the mean from what is read is taking it from the reader.
        for mut row in rows.row_iter_mut() {
            let mean = row.mean();
            row.add_scalar_mut(-mean);
        }
    }
    rows
}

fn rows(of: &[f32], columns: usize) -> DMatrix<f64> {
    DMatrix::from_row_iterator(of.len() / columns, columns, of.iter().map(|&x| f64::from(x)))
}

fn heads(subject: Subject<'_>) -> Result<Vec<Head>> {
    let Subject { config, weights, .. } = subject;
    let (c, h, kv, d) = (config.width, config.heads, config.kv_heads, config.head_width);
    let mut all = vec![];
    for layer in 0..config.layers {
        let name = format!("blocks.{layer}.attn");
        let qkv = weights.get(&format!("{name}.qkv.weight"))?;
        let gain = weights.get(&format!("{name}.norm.weight")).ok();
        let out = rows(weights.get(&format!("{name}.out.weight"))?, h * d);
        let part = |first: usize| reader(config, rows(&qkv[first * d * c..][..d * c], c), gain);
        for head in 0..h {
            let group = head / (h / kv);
            let o = out.columns(head * d, d).into_owned();
            all.push(Head { q: part(head), k: part(h + group), v: part(h + kv + group), o });
        }
    }
    Ok(all)
}

/// `Eᵀ U` (C, C): from a token's embedding to what raises the same token's score.
fn read_again(subject: Subject<'_>) -> Result<DMatrix<f64>> {
    let config = subject.config;
    let embedding = rows(subject.weights.get("embedding.token")?, config.width);
    let head = reader(config, rows(subject.head()?, config.width), Some(&subject.last_norm()?));
    Ok(embedding.transpose() * head)
}

/// Of `V (Eᵀ U) O` (D, D), whose eigenvalues are those of `U O V Eᵀ` but for zeros.
fn copying(m: DMatrix<f64>) -> Result<f64> {
    let none = || Error::new(Kind::Numeric, "circuits", "the eigenvalues of a head are not found");
    if m.iter().any(|x| !x.is_finite()) {
        return Err(none().hint("the weights hold numbers that are not finite"));
    }
    let most = STEPS * m.nrows();
    let schur = Schur::try_new(turned(m), f64::EPSILON, most).ok_or_else(none)?;
    let all = schur.complex_eigenvalues();
    let length: f64 = all.iter().map(|z| z.norm()).sum();
    // A head that writes nothing copies nothing.
    Ok(if length == 0.0 { 0.0 } else { all.iter().map(|z| z.re).sum::<f64>() / length })
}

/// The same matrix seen from elsewhere: the search goes round in circles on exact permutations.
fn turned(m: DMatrix<f64>) -> DMatrix<f64> {
    let n = m.nrows();
    let mut random = Random::new(1, 0);
    let v = DVector::from_fn(n, |_, _| f64::from(random.normal())).normalize();
    let mirror = DMatrix::identity(n, n) - &v * v.transpose() * 2.0;
    &mirror * m * &mirror
}

/// What composition divides by and multiplies with, made once for each head.
struct Sizes {
    /// `Q Qᵀ`, `K Kᵀ`, `V Vᵀ`, `Oᵀ O`, (D, D).
    q: DMatrix<f64>,
    k: DMatrix<f64>,
    v: DMatrix<f64>,
    o: DMatrix<f64>,
    /// ‖QK‖ and ‖OV‖.
    qk: f64,
    ov: f64,
}

impl Sizes {
    fn of(head: &Head) -> Self {
        let gram = |m: &DMatrix<f64>| m * m.transpose();
        let (q, k, v) = (gram(&head.q), gram(&head.k), gram(&head.v));
        let o = head.o.transpose() * &head.o;
        // ‖A B‖² = tr(Aᵀ A · B Bᵀ).
        let (qk, ov) = (q.component_mul(&k).sum().sqrt(), o.component_mul(&v).sum().sqrt());
        Self { q, k, v, o, qk, ov }
    }
}

/// Scores of what an earlier head wrote in a later one.
fn composition((a, of_a): (&Head, &Sizes), (b, of_b): (&Head, &Sizes)) -> [f64; 3] {
    // ‖L M R‖² = tr(M (R Rᵀ) Mᵀ (Lᵀ L)).
    let length = |m: DMatrix<f64>, left: &DMatrix<f64>| {
        (&m * &of_a.v).component_mul(&(left * &m)).sum().max(0.0).sqrt()
    };
    let over = |length: f64, size: f64| if length == 0.0 { 0.0 } else { length / size / of_a.ov };
    [
        over(length(&b.q * &a.o, &of_b.k), of_b.qk),
        over(length(&b.k * &a.o, &of_b.q), of_b.qk),
        over(length(&b.v * &a.o, &of_b.o), of_b.ov),
    ]
}

#[cfg(test)]
#[path = "circuits_tests.rs"]
mod tests;
