//! Small models of every kind, and where shared data lies.

use pellucid::model::config::{ActivationKind, Config, NormKind, NormPlacement, Positions};
use pellucid::tensor::random::Random;
use std::path::{Path, PathBuf};

/// A tiny model of a preset.
pub(crate) fn tiny(preset: &str) -> Config {
    Config {
        vocab: 37,
        context: 24,
        layers: 2,
        width: 32,
        heads: 4,
        kv_heads: if preset == "llama" { 2 } else { 4 },
        head_width: 8,
        hidden: 48,
        ..Config::preset(preset).expect("a preset")
    }
}

/// One tiny model for each choice an architecture can make.
pub(crate) fn zoo() -> Vec<(&'static str, Config)> {
    let gpt2 = tiny("gpt2");
    let llama = tiny("llama");
    vec![
        ("gpt2", gpt2.clone()),
        ("llama", llama.clone()),
        ("nano", tiny("nano")),
        ("untied", Config { tied_head: false, ..gpt2.clone() }),
        ("post-norm", Config { norm_placement: NormPlacement::Post, ..gpt2.clone() }),
        (
            "original",
            Config {
                positions: Positions::Sinusoidal,
                norm_placement: NormPlacement::Post,
                activation: ActivationKind::Relu,
                scaled_embedding: true,
                ..gpt2.clone()
            },
        ),
        ("alibi", Config { positions: Positions::Alibi, ..gpt2.clone() }),
        ("nope", Config { positions: Positions::None, ..gpt2.clone() }),
        ("window", Config { window: Some(5), ..llama.clone() }),
        ("mqa", Config { kv_heads: 1, ..llama.clone() }),
        (
            "relu2-rms",
            Config {
                activation: ActivationKind::ReluSquared,
                norm: NormKind::RmsNorm,
                norm_bias: false,
                ..gpt2
            },
        ),
    ]
}

/// Random ids below `vocab`.
pub(crate) fn ids(seed: u64, n: usize, vocab: usize) -> Vec<i32> {
    let mut random = Random::new(seed, 77);
    (0..n).map(|_| random.below(vocab) as i32).collect()
}

/// The largest absolute difference; NaN if anything is.
pub(crate) fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0.0, |m, (x, y)| {
        let d = (x - y).abs();
        if d.is_nan() || d > m { d } else { m }
    })
}

/// A file of the data folder beside the checkout, or `None` with a visible note.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let full = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(path);
    if full.exists() {
        return Some(full);
    }
    // Past the test harness, which hides what passing tests print.
    let _ = std::io::Write::write_fmt(
        &mut std::io::stderr(),
        format_args!("SKIPPED: shared/data/{path} is absent\n"),
    );
    None
}

/// A file of `tests/golden`.
pub(crate) fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(path)
}
