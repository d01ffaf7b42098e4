//! Llama 3's frequencies: what each is divided by, as the tensor `rope_freqs.weight` (D/2).

use super::container::Container;
use super::meta::Meta;
use crate::model::config::RotaryScaling;

pub(super) const FACTORS: &str = "rope_freqs.weight";
/// `low_freq_factor` and `high_freq_factor` of every published model.
pub(super) const USUAL: (f64, f64) = (1.0, 4.0);
/// Contexts tried where a file does not say for which a model was trained first.
const CONTEXTS: std::ops::Range<u32> = 4..21;

/// What a scaling divides each frequency of base θ and heads of D by.
pub(super) fn factors(scaling: RotaryScaling, (base, d): (f64, usize)) -> Vec<f32> {
    let frequency = |i: usize| base.powf(-2.0 * i as f64 / d as f64);
    (0..d / 2).map(|i| (frequency(i) / scaling.apply(frequency(i))) as f32).collect()
}

/// The scaling that a file's keys or its factors tell.
pub(super) fn read(
    meta: &mut Meta<'_>,
    file: &Container,
    (base, d): (f64, usize),
) -> RotaryScaling {
    let factor = meta.real(".rope.scaling.factor").or_else(|| {
        let old = meta.real(".rope.scale_linear");
        old.filter(|&factor| factor != 1.0)
    });
    let told = match (meta.text(".rope.scaling.type"), factor) {
        (None | Some("none"), None) | (Some("none"), _) => RotaryScaling::None,
        (None | Some("linear"), Some(factor)) if factor > 0.0 && factor.is_finite() => {
            RotaryScaling::Linear { factor }
        }
        (kind, factor) => {
            meta.fault(format!(
                "the rotary scaling {} with the factor {factor:?} is not supported",
                kind.unwrap_or("linear")
            ));
            RotaryScaling::None
        }
    };
    let Some(tensor) = file.tensors.get(FACTORS) else { return told };
    let original = meta.size_opt(".rope.scaling.original_context_length");
    // Shapes are judged before anything is read.
    if tensor.shape != [d / 2] {
        meta.fault(format!("{FACTORS} has the shape {:?}, but heads are {d} wide", tensor.shape));
        return told;
    }
    let mut found = vec![0.0; d / 2];
    match file.read(tensor, &mut found) {
        Ok(()) => {}
        Err(e) => meta.fault(e.to_string()),
    }
    match guess(&found, (base, d), original) {
        Some(scaling) if told == RotaryScaling::None => scaling,
        _ => {
            meta.fault(format!("{FACTORS} follows no rule that this library knows"));
            told
        }
    }
}

/// The rule behind some factors.
fn guess(found: &[f32], place: (f64, usize), original: Option<usize>) -> Option<RotaryScaling> {
    let most = found.iter().fold(1.0f32, |most, &x| most.max(x));
    let factor = most.to_string().parse().ok()?;
    let contexts = CONTEXTS.map(|power| 1usize << power);
    let contexts = original.into_iter().filter(|&n| n > 0).chain(contexts);
    let scaling = |original| RotaryScaling::Llama3 {
        factor,
        low_frequency: USUAL.0,
        high_frequency: USUAL.1,
        original,
    };
    let same = |a: f32, b: f32| (a - b).abs() <= 1e-4 * b;
    let fits = |scaling: &RotaryScaling| {
        let wanted = factors(*scaling, place);
        found.iter().zip(wanted).all(|(&a, b)| same(a, b))
    };
    if most == 1.0 && fits(&RotaryScaling::None) {
        return Some(RotaryScaling::None);
    }
    contexts.map(scaling).find(fits)
}
