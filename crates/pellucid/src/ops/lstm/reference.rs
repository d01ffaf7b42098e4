//! The definition, in f64 and plain loops.

use super::LstmDims;

/// Everything but numbers.
#[derive(Clone, Copy, Debug)]
pub struct Reference<'a> {
    /// Sizes.
    pub dims: LstmDims,
    /// Real positions of each row; empty: all.
    pub lengths: &'a [i32],
    /// From the last real position to the first.
    pub reverse: bool,
}

/// Operands; `h` and `c` are empty where rows begin with zeros.
#[derive(Clone, Copy, Debug)]
pub struct Operands<'a> {
    /// `(B, T, 4C)`.
    pub x: &'a [f64],
    /// `(4C, C)`.
    pub w: &'a [f64],
    /// `(B, C)`.
    pub h: &'a [f64],
    /// `(B, C)`.
    pub c: &'a [f64],
}

/// Gradients of x, h, c and W.
pub type Gradients = [Vec<f64>; 4];

/// What one cell did at one position.
#[derive(Clone, Debug, Default)]
struct Moment {
    t: usize,
    gates: Vec<f64>,
    h_before: Vec<f64>,
    c_before: Vec<f64>,
    h: Vec<f64>,
    c: Vec<f64>,
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

impl Reference<'_> {
    /// The real positions of row `b` in the order in which they are read.
    fn order(&self, b: usize) -> Vec<usize> {
        let length = self.lengths.get(b).map_or(self.dims.t, |&l| l as usize);
        if self.reverse { (0..length).rev().collect() } else { (0..length).collect() }
    }

    fn begin(&self, state: &[f64], b: usize) -> Vec<f64> {
        let n = self.dims.c;
        if state.is_empty() { vec![0.0; n] } else { state[b * n..(b + 1) * n].to_vec() }
    }

    /// Row `b`, position after position.
    fn row(&self, it: Operands<'_>, b: usize) -> Vec<Moment> {
        let n = self.dims.c;
        let (mut h, mut c) = (self.begin(it.h, b), self.begin(it.c, b));
        let mut moments = vec![];
        for t in self.order(b) {
            let (h_before, c_before) = (h.clone(), c.clone());
            let mut gates = vec![0.0; 4 * n];
            for j in 0..4 * n {
                let mut sum = it.x[(b * self.dims.t + t) * 4 * n + j];
                for l in 0..n {
                    sum += it.w[j * n + l] * h_before[l];
                }
                gates[j] = if j / n == 2 { sum.tanh() } else { sigmoid(sum) };
            }
            for j in 0..n {
                c[j] = gates[n + j] * c_before[j] + gates[j] * gates[2 * n + j];
                h[j] = gates[3 * n + j] * c[j].tanh();
            }
            moments.push(Moment { t, gates, h_before, c_before, h: h.clone(), c: c.clone() });
        }
        moments
    }

    /// h `(B, T, C)`, last h and last c `(B, C)`.
    #[must_use]
    pub fn forward(&self, it: Operands<'_>) -> Vec<Vec<f64>> {
        let LstmDims { b: batch, t: time, c: n } = self.dims;
        let mut y = vec![0.0; batch * time * n];
        let (mut last_h, mut last_c) = (vec![], vec![]);
        for b in 0..batch {
            let moments = self.row(it, b);
            for m in &moments {
                y[(b * time + m.t) * n..][..n].copy_from_slice(&m.h);
            }
            last_h.extend(moments.last().map_or(self.begin(it.h, b), |m| m.h.clone()));
            last_c.extend(moments.last().map_or(self.begin(it.c, b), |m| m.c.clone()));
        }
        vec![y, last_h, last_c]
    }

    /// From the gradients of the three outputs.
    #[must_use]
    pub fn backward(&self, it: Operands<'_>, d: &[Vec<f64>]) -> Gradients {
        let LstmDims { b: batch, t: time, c: n } = self.dims;
        let (mut d_x, mut d_w) = (vec![0.0; it.x.len()], vec![0.0; it.w.len()]);
        let (mut d_h0, mut d_c0) = (vec![], vec![]);
        for b in 0..batch {
            let (mut dh, mut dc) = (self.begin(&d[1], b), self.begin(&d[2], b));
            for m in self.row(it, b).iter().rev() {
                let at = b * time + m.t;
                let mut d_gates = vec![0.0; 4 * n];
                for j in 0..n {
                    let [i, f, g, o] = [0, 1, 2, 3].map(|part| m.gates[part * n + j]);
                    let d_out = dh[j] + d[0][at * n + j];
                    // inverts: h = o tanh(c)
                    let shown = m.c[j].tanh();
                    let d_cell = dc[j] + d_out * o * (1.0 - shown * shown);
                    d_gates[3 * n + j] = d_out * shown * o * (1.0 - o);
                    // inverts: c = f c_before + i g
                    d_gates[j] = d_cell * g * i * (1.0 - i);
                    d_gates[n + j] = d_cell * m.c_before[j] * f * (1.0 - f);
                    d_gates[2 * n + j] = d_cell * i * (1.0 - g * g);
                    dc[j] = d_cell * f;
                }
                // inverts: sum = x + W h_before
                dh = vec![0.0; n];
                for j in 0..4 * n {
                    d_x[at * 4 * n + j] = d_gates[j];
                    for l in 0..n {
                        dh[l] += d_gates[j] * it.w[j * n + l];
                        d_w[j * n + l] += d_gates[j] * m.h_before[l];
                    }
                }
            }
            d_h0.extend(dh);
            d_c0.extend(dc);
        }
        [d_x, d_h0, d_c0, d_w]
    }
}
