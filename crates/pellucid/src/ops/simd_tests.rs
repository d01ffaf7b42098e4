#![allow(clippy::print_stderr)] // measured errors are worth reading

use super::*;

multiversion! {
    fn fast<const FMA: bool>(which: usize, x: &[f32], y: &mut [f32]) {
        apply::<FMA>(which, x, y);
    }
}

#[inline(always)]
fn apply<const FMA: bool>(which: usize, x: &[f32], y: &mut [f32]) {
    let pairs = y.iter_mut().zip(x);
    match which {
        0 => pairs.for_each(|(y, &x)| *y = exp::<FMA>(x)),
        1 => pairs.for_each(|(y, &x)| *y = tanh::<FMA>(x)),
        2 => pairs.for_each(|(y, &x)| *y = sigmoid::<FMA>(x)),
        3 => pairs.for_each(|(y, &x)| *y = erf::<FMA>(x)),
        4 => pairs.for_each(|(y, &x)| *y = ln::<FMA>(x)),
        5 => pairs.for_each(|(y, &x)| *y = normal::<FMA>(x).0),
        _ => pairs.for_each(|(y, &x)| *y = normal::<FMA>(x).1),
    }
}

/// Both ways of multiplying and adding.
fn both(which: usize, x: &[f32]) -> [Vec<f32>; 2] {
    let (mut a, mut b) = (vec![0.0; x.len()], vec![0.0; x.len()]);
    fast(which, x, &mut a);
    apply::<false>(which, x, &mut b);
    [a, b]
}

/// f64 error function: Taylor series near 0, continued fraction of erfc far away.
pub(crate) fn erf_f64(x: f64) -> f64 {
    if x < 0.0 { -erf_f64(-x) } else { 1.0 - erfc_f64(x) }
}

fn erfc_f64(x: f64) -> f64 {
    if x < 0.0 {
        return 2.0 - erfc_f64(-x);
    }
    let root = std::f64::consts::PI.sqrt();
    if x < 2.5 {
        let (mut term, mut sum) = (x, x);
        for n in 1..120 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return 1.0 - 2.0 / root * sum;
    }
    let mut fraction = 0.0;
    for n in (1..200).rev() {
        fraction = f64::from(n) / 2.0 / (x + fraction);
    }
    (-x * x).exp() / root / (x + fraction)
}

fn grid(from: f32, to: f32, n: usize) -> Vec<f32> {
    (0..=n).map(|i| from + (to - from) * (i as f32 / n as f32)).collect()
}

fn ulp(y: f64) -> f64 {
    let y = (y.abs() as f32).max(f32::MIN_POSITIVE);
    f64::from(f32::from_bits(y.to_bits() + 1) - y)
}

/// Largest error in ulp over `x`, with and without fused multiply-adds.
fn worst(which: usize, x: &[f32], reference: impl Fn(f64) -> f64) -> f64 {
    let mut worst = 0.0f64;
    for y in both(which, x) {
        for (&x, &y) in x.iter().zip(&y) {
            let want = reference(f64::from(x));
            let e = (f64::from(y) - want).abs() / ulp(want);
            assert!(!e.is_nan(), "function {which} of {x} is {y}");
            worst = worst.max(e);
        }
    }
    worst
}

fn within(which: usize, x: &[f32], reference: impl Fn(f64) -> f64, limit: f64) {
    let e = worst(which, x, reference);
    eprintln!("function {which} on {}..{}: {e:.2} ulp", x[0], x[x.len() - 1]);
    assert!(e <= limit, "function {which}: {e} ulp > {limit}");
}

#[test]
fn functions_keep_their_stated_errors() {
    let sigmoid64 =
        |x: f64| if x < 0.0 { x.exp() / (1.0 + x.exp()) } else { 1.0 / (1.0 + (-x).exp()) };
    within(0, &grid(-86.9, 88.72, 2_000_003), f64::exp, 2.0);
    within(0, &grid(-1.0, 1.0, 500_001), f64::exp, 2.0);
    within(1, &grid(-12.0, 12.0, 1_000_003), f64::tanh, 4.0);
    within(1, &grid(-1e-3, 1e-3, 100_003), f64::tanh, 4.0);
    within(2, &grid(-86.0, 86.0, 1_000_003), sigmoid64, 4.0);
    within(3, &grid(-6.0, 6.0, 300_007), erf_f64, 4.0);
    within(3, &grid(-1e-3, 1e-3, 100_003), erf_f64, 4.0);
    within(4, &grid(1e-3, 3.0, 1_000_003), f64::ln, 2.0);
    within(4, &grid(1.0, 3e38, 1_000_003), f64::ln, 2.0);
    let subnormal: Vec<f32> = (1..100_000).map(|i| f32::from_bits(i * 83)).collect();
    within(4, &subnormal, f64::ln, 2.0);
}

#[test]
fn a_wrong_reference_is_caught() {
    let x = grid(-5.0, 5.0, 1001);
    assert!(worst(0, &x, |x| x.exp() * (1.0 + 1e-6)) > 2.0);
    assert!(worst(1, &x, |x| x.tanh() * (1.0 + 1e-6)) > 4.0);
    assert!(worst(3, &x, |x| erf_f64(x * (1.0 + 1e-6))) > 4.0);
}

#[test]
fn normal_keeps_its_stated_error() {
    let x = grid(-12.9, 12.9, 400_009);
    for (which, f) in [(5, true), (6, false)] {
        let (mut relative, mut absolute) = (0.0f64, 0.0f64);
        for y in both(which, &x) {
            for (&x, &y) in x.iter().zip(&y) {
                let x = f64::from(x);
                let want = if f {
                    0.5 * erfc_f64(-x / std::f64::consts::SQRT_2)
                } else {
                    (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt()
                };
                let e = (f64::from(y) - want).abs();
                absolute = absolute.max(e);
                // The rounding of x² costs x²/2 · 2^-24.
                relative = relative.max(e / want / (1.0 + 0.5 * x * x));
            }
        }
        eprintln!("normal {which}: relative / (1 + x²/2) {relative:.2e}, absolute {absolute:.2e}");
        assert!(relative <= 4e-7 && absolute <= 2e-7);
    }
}

#[test]
fn extremes_are_the_limits() {
    let inf = f32::INFINITY;
    let x = [f32::NAN, inf, -inf, 0.0, -0.0, f32::MAX, f32::MIN, 1e-40, -1e-40];
    let expected: [[f32; 9]; 7] = [
        [f32::NAN, inf, 0.0, 1.0, 1.0, inf, 0.0, 1.0, 1.0],
        [f32::NAN, 1.0, -1.0, 0.0, -0.0, 1.0, -1.0, 1e-40, -1e-40],
        [f32::NAN, 1.0, 0.0, 0.5, 0.5, 1.0, 0.0, 0.5, 0.5],
        [f32::NAN, 1.0, -1.0, 0.0, -0.0, 1.0, -1.0, 1.128_38e-40, -1.128_38e-40],
        [f32::NAN, inf, f32::NAN, -inf, -inf, 88.722_84, f32::NAN, -92.103_4, f32::NAN],
        [f32::NAN, 1.0, 0.0, 0.5, 0.5, 1.0, 0.0, 0.5, 0.5],
        [f32::NAN, 0.0, 0.0, 0.398_942_3, 0.398_942_3, 0.0, 0.0, 0.398_942_3, 0.398_942_3],
    ];
    for (which, expected) in expected.iter().enumerate() {
        for y in both(which, &x) {
            for i in 0..x.len() {
                let (got, want) = (y[i], expected[i]);
                let same = got == want
                    || got.is_nan() && want.is_nan()
                    || (got - want).abs() <= 1e-6 * want.abs() + 1e-43;
                assert!(same, "function {which} of {} is {got}, not {want}", x[i]);
            }
        }
    }
    assert!(both(0, &[88.73])[0][0].is_infinite() && both(0, &[-88.0])[0][0] == 0.0);
}

#[test]
fn reductions_do_not_depend_on_the_instruction_set() {
    multiversion! {
        fn dispatched<const FMA: bool>(x: &[f32], y: &[f32]) -> [f32; 3] {
            [sum(x, |v| v), sum2(x, y, |a, b| a * b), max(x)]
        }
    }
    for n in [0, 1, 31, 32, 33, 1000] {
        let x: Vec<f32> = (0..n).map(|i| ((i * 37 % 101) as f32 - 50.0) / 7.0).collect();
        let y: Vec<f32> = x.iter().rev().copied().collect();
        let plain = [sum(&x, |v| v), sum2(&x, &y, |a, b| a * b), max(&x)];
        let fast = dispatched(&x, &y);
        assert_eq!(plain.map(f32::to_bits), fast.map(f32::to_bits));
        let exact: f64 = x.iter().map(|&v| f64::from(v)).sum();
        assert!((f64::from(plain[0]) - exact).abs() <= 1e-3);
        assert_eq!(plain[2], x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    }
}

/// Not a test of speed, only a print of it: nanoseconds per element in cache.
#[test]
fn speed() {
    let x = grid(-3.0, 3.0, 4095);
    let mut y = vec![0.0; x.len()];
    for which in 0..7 {
        let start = std::time::Instant::now();
        let rounds = 300;
        for _ in 0..rounds {
            fast(which, std::hint::black_box(&x), &mut y);
        }
        let ns = start.elapsed().as_secs_f64() * 1e9 / f64::from(rounds) / x.len() as f64;
        eprintln!("function {which}: {ns:.3} ns per element at {:?}", level());
    }
}
