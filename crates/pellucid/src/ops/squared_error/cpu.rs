//! Loops over a few numbers; sums in f64.

fn number(bits: i32) -> Option<f32> {
    let number = f32::from_bits(bits as u32);
    (!number.is_nan()).then_some(number)
}

/// The mean; each row's own into `losses`.
pub(super) fn losses(r: usize, x: &[f32], targets: &[i32], losses: &mut [f32]) -> f32 {
    let (mut sum, mut count) = (0.0f64, 0usize);
    for ((x, targets), loss) in x.chunks_exact(r).zip(targets.chunks_exact(r)).zip(losses) {
        let far = x.iter().zip(targets).filter_map(|(x, &t)| Some(f64::from(x - number(t)?)));
        let (own, n) = far.fold((0.0, 0), |(sum, n), d| (sum + d * d, n + 1));
        *loss = (own / f64::from(n.max(1))) as f32;
        sum += own;
        count += n as usize;
    }
    (sum / count.max(1) as f64) as f32
}

/// dx (N, R).
pub(super) fn gradient(x: &[f32], targets: &[i32], scale: f32, dx: &mut [f32], accumulate: bool) {
    let count = targets.iter().filter(|&&t| number(t).is_some()).count().max(1);
    let factor = 2.0 * scale / count as f32;
    for ((dx, x), &target) in dx.iter_mut().zip(x).zip(targets) {
        let d = number(target).map_or(0.0, |target| factor * (x - target));
        *dx = if accumulate { *dx + d } else { d };
    }
}
