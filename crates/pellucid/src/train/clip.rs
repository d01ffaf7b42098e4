//! The global gradient norm (Pascanu et al. 2013), and the tensor to blame when it is not a number.

use crate::backend::cpu::pool::Pool;
use crate::error::{Error, Kind, Result};
use crate::model::weights::ParamSpec;
use crate::ops::adamw::global_norm;
use std::ops::Range;

/// Root of the sum of squares over `ranges` of `values`; the bits do not depend on the thread count.
#[must_use]
pub fn norm(pool: &Pool, values: &[f32], ranges: &[Range<usize>]) -> f64 {
    let pieces: Vec<&[f32]> = ranges.iter().map(|r| &values[r.clone()]).collect();
    global_norm(pool, &pieces)
}

/// What gradients are multiplied by so that their norm is at most `max`; 1 when `max` is 0.
#[must_use]
pub fn scale(norm: f64, max: f64) -> f64 {
    // 1e-6 as in PyTorch's clip_grad_norm_, so that curves can be compared.
    if max > 0.0 { (max / (norm + 1e-6)).min(1.0) } else { 1.0 }
}

/// The first tensor with NaN or infinity, and where in it.
#[must_use]
pub fn first_not_finite<'a>(
    values: &[f32],
    specs: &'a [ParamSpec],
) -> Option<(&'a str, usize, f32)> {
    specs.iter().find_map(|spec| {
        let piece = &values[spec.range()];
        piece.iter().position(|x| !x.is_finite()).map(|i| (spec.name.as_str(), i, piece[i]))
    })
}

/// Refuses NaN and infinity; `what` is "gradient", "weight" or "moment".
pub fn demand_finite(what: &str, values: &[f32], specs: &[ParamSpec]) -> Result<()> {
    let Some((name, at, value)) = first_not_finite(values, specs) else { return Ok(()) };
    let count = values.iter().filter(|x| !x.is_finite()).count();
    Err(Error::new(Kind::Numeric, "train", format!("the {what} of {name} is {value}"))
        .fact(format!(
            "first at element {at} of {name}; {count} of {} elements in all",
            values.len()
        ))
        .hint("lower optimizer.lr, lengthen schedule.warmup, or set optimizer.clip"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::Config;
    use crate::model::weights::parameters;
    use crate::tensor::random::Random;

    #[test]
    fn norm_is_the_plain_sum_and_the_same_bits_with_any_threads() {
        let mut random = Random::new(5, 0);
        let values: Vec<f32> = (0..200_017).map(|_| random.normal()).collect();
        let ranges = [3..70_000, 70_016..values.len()];
        let plain: f64 =
            ranges.iter().flat_map(|r| &values[r.clone()]).map(|x| f64::from(*x).powi(2)).sum();
        let one = norm(&Pool::new(1), &values, &ranges);
        assert!((one - plain.sqrt()).abs() <= 1e-12 * plain.sqrt());
        for threads in [2, 3, 7] {
            assert_eq!(one.to_bits(), norm(&Pool::new(threads), &values, &ranges).to_bits());
        }
    }

    #[test]
    fn clipping_never_enlarges() {
        assert_eq!(scale(0.5, 1.0), 1.0);
        assert_eq!(scale(123.0, 0.0), 1.0);
        assert!((scale(4.0, 1.0) - 0.25).abs() < 1e-6);
    }

    #[test]
    fn the_first_bad_tensor_is_named() {
        let specs = parameters(&Config { layers: 1, width: 8, vocab: 5, ..Config::nano() });
        let mut values = vec![0.0; specs.last().unwrap().range().end];
        demand_finite("gradient", &values, &specs).unwrap();
        values[specs[3].offset + 2] = f32::NAN;
        values[specs[4].offset] = f32::INFINITY;
        let text = demand_finite("gradient", &values, &specs).unwrap_err().to_string();
        assert!(text.contains(&format!("the gradient of {} is NaN", specs[3].name)), "{text}");
        assert!(text.contains("element 2") && text.contains("2 of"), "{text}");
    }
}
