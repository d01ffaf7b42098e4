//! Small models of every kind, and where shared data lies.

use pellucid::model::config::{
    ActivationKind, Config, Core, NormKind, NormPlacement, Output, Pooling, Positions,
    RotaryScaling,
};
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
                ..gpt2.clone()
            },
        ),
    ]
    .into_iter()
    .chain(younger(&gpt2, llama))
    .collect()
}

/// What came after GPT-2 and Llama, or before.
fn younger(gpt2: &Config, llama: Config) -> Vec<(&'static str, Config)> {
    vec![
        (
            "qwen",
            Config {
                qkv_bias: Some(true),
                qk_norm: true,
                window: Some(5),
                window_from: 1,
                rotary_scaling: RotaryScaling::Linear { factor: 2.0 },
                ..llama
            },
        ),
        (
            "relative",
            Config {
                positions: Positions::Relative,
                relative_buckets: 8,
                relative_distance: 12,
                attention_scale: Some(1.0),
                scaled_head: true,
                ..gpt2.clone()
            },
        ),
        ("attention only", Config { hidden: 0, ..gpt2.clone() }),
        ("no norm", Config { norm: NormKind::None, norm_bias: false, ..gpt2.clone() }),
        (
            "bare",
            Config {
                hidden: 0,
                norm: NormKind::None,
                norm_bias: false,
                bias: false,
                ..tiny("nano")
            },
        ),
        ("lstm", Config { core: Core::Lstm, positions: Positions::None, ..gpt2.clone() }),
        (
            "dressed",
            Config {
                position_offset: 2,
                embedding_norm: true,
                head_bias: true,
                head_transform: true,
                ..gpt2.clone()
            },
        ),
    ]
}

/// Models that look both ways, or have two stacks, or give other things than tokens.
pub(crate) fn families() -> Vec<(&'static str, Config)> {
    let bert = tiny("bert");
    let seq = Config { decoder_layers: 2, dropout: 0.0, ..tiny("transformer-tiny") };
    let names = |n: usize| (0..n).map(|i| format!("label {i}")).collect::<Vec<_>>();
    let bare = Config { head_bias: false, head_transform: false, dropout: 0.0, ..bert.clone() };
    let sequence = Config { output: Output::Sequence, labels: names(3), ..bare.clone() };
    vec![
        ("masked", Config { dropout: 0.0, ..bert }),
        ("classifier", Config { pooler: true, ..sequence.clone() }),
        ("mean", Config { pooling: Pooling::Mean, ..sequence.clone() }),
        ("number", Config { labels: names(1), pooling: Pooling::Mean, ..sequence }),
        ("tagger", Config { output: Output::Positions, labels: names(5), ..bare }),
        (
            "last",
            Config {
                output: Output::Sequence,
                labels: names(2),
                pooling: Pooling::Last,
                ..tiny("llama")
            },
        ),
        ("transformer", seq.clone()),
        (
            "bart",
            Config {
                positions: Positions::Learned,
                position_offset: 2,
                embedding_norm: true,
                scaled_embedding: false,
                head_bias: true,
                ..seq.clone()
            },
        ),
        (
            "t5",
            Config {
                positions: Positions::Relative,
                relative_buckets: 8,
                relative_distance: 12,
                attention_scale: Some(1.0),
                scaled_head: true,
                scaled_embedding: false,
                norm: NormKind::RmsNorm,
                norm_bias: false,
                norm_placement: NormPlacement::Pre,
                bias: false,
                gated: true,
                ..seq.clone()
            },
        ),
        (
            "two vocabularies",
            Config { source_vocab: 29, decoder_layers: 1, tied_head: false, ..seq },
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
    // Beside the checkout, or above a worktree of it.
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().skip(3);
    let full = above.map(|folder| folder.join("shared/data").join(path)).find(|f| f.exists());
    if full.is_some() {
        return full;
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
