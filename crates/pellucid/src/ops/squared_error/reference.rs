//! The definition, in f64 loops.

fn target(bits: i32) -> f64 {
    f64::from(f32::from_bits(bits as u32))
}

/// `(loss (1), losses (N))` from x (N, R) and targets (N R).
#[must_use]
pub fn forward(r: usize, x: &[f64], targets: &[i32]) -> Vec<Vec<f64>> {
    let (mut sum, mut count, mut losses) = (0.0, 0.0, vec![]);
    for row in 0..x.len() / r {
        let (mut own, mut n) = (0.0, 0.0);
        for i in row * r..(row + 1) * r {
            if !target(targets[i]).is_nan() {
                own += (x[i] - target(targets[i])).powi(2);
                n += 1.0;
            }
        }
        losses.push(if n > 0.0 { own / n } else { 0.0 });
        sum += own;
        count += n;
    }
    vec![vec![if count > 0.0 { sum / count } else { 0.0 }], losses]
}

/// dx (N, R), of the loss times `d`.
#[must_use]
pub fn backward(x: &[f64], targets: &[i32], d: f64) -> Vec<f64> {
    let count = targets.iter().filter(|&&t| !target(t).is_nan()).count();
    let mut dx = vec![0.0; x.len()];
    for i in 0..x.len() {
        if !target(targets[i]).is_nan() {
            // loss += (x - y)² / count
            dx[i] = d * 2.0 * (x[i] - target(targets[i])) / count as f64;
        }
    }
    dx
}
