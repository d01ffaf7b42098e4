//! Both operations in f64.

/// Sizes, as in the operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Rows, `N`.
    pub n: usize,
    /// Heads, `H`.
    pub h: usize,
    /// Width of a head, `D`.
    pub d: usize,
    /// Width of what is written, `C`.
    pub c: usize,
}

impl Sizes {
    /// Calls `f(of result, of z, of w)` with the indices of every product.
    fn products(self, mut f: impl FnMut(usize, usize, usize)) {
        let Self { n, h, d, c } = self;
        for row in 0..n {
            for head in 0..h {
                for o in 0..c {
                    for i in head * d..(head + 1) * d {
                        f((row * h + head) * c + o, row * h * d + i, o * h * d + i);
                    }
                }
            }
        }
    }

    /// result (N, H, C) from z (N, H·D) and w (C, H·D).
    #[must_use]
    pub fn results(self, z: &[f64], w: &[f64]) -> Vec<f64> {
        let mut result = vec![0.0; self.n * self.h * self.c];
        self.products(|r, i, j| result[r] += z[i] * w[j]);
        result
    }

    /// Gradients of z and w.
    #[must_use]
    pub fn d_results(self, z: &[f64], w: &[f64], d: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let (mut dz, mut dw) = (vec![0.0; z.len()], vec![0.0; w.len()]);
        self.products(|r, i, j| {
            dz[i] += d[r] * w[j];
            dw[j] += d[r] * z[i];
        });
        (dz, dw)
    }

    /// y (N, C) from result (N, H, C) and bias (C).
    #[must_use]
    pub fn sum(self, result: &[f64], bias: Option<&[f64]>) -> Vec<f64> {
        let c = self.c;
        let mut y = vec![0.0; self.n * c];
        for (at, r) in result.iter().enumerate() {
            y[at / c / self.h * c + at % c] += r;
        }
        if let Some(bias) = bias {
            y.iter_mut().enumerate().for_each(|(i, y)| *y += bias[i % c]);
        }
        y
    }

    /// Gradients of the results and of the bias.
    #[must_use]
    pub fn d_sum(self, dy: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let c = self.c;
        let at = |at: usize| dy[at / c / self.h * c + at % c];
        let mut d_bias = vec![0.0; c];
        dy.iter().enumerate().for_each(|(i, dy)| d_bias[i % c] += dy);
        ((0..self.n * self.h * c).map(at).collect(), d_bias)
    }
}
