//! The definition, in f64 loops.

/// Sizes.
#[derive(Clone, Copy, Debug)]
pub struct Dims {
    /// Rows.
    pub n: usize,
    /// Columns of `x`.
    pub i: usize,
    /// Columns of `y`.
    pub o: usize,
    /// The first column of `y` that is added to.
    pub first: usize,
    /// How many are.
    pub p: usize,
    /// The rank.
    pub r: usize,
    /// What the addition is multiplied by.
    pub scale: f64,
}

/// `y (N, O)` with the addition, from `x (N, I)`, `y (N, O)`, `a (R, I)` and `b (P, R)`.
#[must_use]
pub fn forward(dims: Dims, x: &[f64], y: &[f64], a: &[f64], b: &[f64]) -> Vec<f64> {
    let Dims { n, i, o, first, p, r, scale } = dims;
    let mut out = y.to_vec();
    for row in 0..n {
        for to in 0..p {
            let mut sum = 0.0;
            for k in 0..r {
                for from in 0..i {
                    sum += x[row * i + from] * a[k * i + from] * b[to * r + k];
                }
            }
            out[row * o + first + to] += scale * sum;
        }
    }
    out
}

/// `(dx (N, I), da (R, I), db (P, R))` from `dy (N, O)`. y's gradient is `dy` itself.
#[must_use]
pub fn backward(
    dims: Dims,
    x: &[f64],
    a: &[f64],
    b: &[f64],
    dy: &[f64],
) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let Dims { n, i, o, first, p, r, scale } = dims;
    let (mut dx, mut da, mut db) = (vec![0.0; x.len()], vec![0.0; a.len()], vec![0.0; b.len()]);
    for row in 0..n {
        for to in 0..p {
            let d = scale * dy[row * o + first + to];
            for k in 0..r {
                for from in 0..i {
                    let (x, a, b) = (x[row * i + from], a[k * i + from], b[to * r + k]);
                    dx[row * i + from] += d * a * b;
                    da[k * i + from] += d * x * b;
                    db[to * r + k] += d * x * a;
                }
            }
        }
    }
    (dx, da, db)
}
