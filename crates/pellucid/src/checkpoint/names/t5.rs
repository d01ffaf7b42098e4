//! T5 (Raffel et al. 2020), as `transformers` names it: relative biases, RMSNorm, no linear biases, unscaled scores.

use super::super::generation::{GenerationConfig, decimal};
use super::table::Table;
use super::{Keys, Piece};
use crate::model::config::{
    ActivationKind, Architecture, Config, NormKind, NormPlacement, Positions,
};
use serde_json::{Value, json};

/// Whether T5's keys can say all of `config`.
pub(super) fn fits(config: &Config) -> bool {
    let known = match config.gated {
        true => config.activation == ActivationKind::GeluTanh,
        false => config.activation == ActivationKind::Relu,
    };
    known && common(config) == *config
}

fn common(config: &Config) -> Config {
    let Config { vocab, context, layers, decoder_layers, width, heads, head_width, hidden, .. } =
        *config;
    Config {
        architecture: Architecture::EncoderDecoder,
        positions: Positions::Relative,
        relative_buckets: config.relative_buckets,
        relative_distance: config.relative_distance,
        attention_scale: Some(1.0),
        scaled_head: config.scaled_head,
        tied_head: config.tied_head,
        norm: NormKind::RmsNorm,
        norm_bias: false,
        norm_placement: NormPlacement::Pre,
        norm_epsilon: config.norm_epsilon,
        bias: false,
        gated: config.gated,
        activation: config.activation,
        vocab,
        context,
        layers,
        decoder_layers,
        width,
        heads,
        kv_heads: heads,
        head_width,
        hidden,
        dropout: config.dropout,
        rotary_base: config.rotary_base,
        pooling: config.pooling,
        ..Config::gpt2()
    }
}

/// | T5 | ours |
/// |---|---|
/// | `shared.weight` | `embedding.token` |
/// | `encoder.block.0.layer.0.SelfAttention.relative_attention_bias` | `encoder.relative` |
/// | `encoder.block.i.layer.0.SelfAttention.{q,k,v}`, `.o` | rows of `encoder.blocks.i.attn.qkv`, `.out` |
/// | `decoder.block.i.layer.1.EncDecAttention.*` | `decoder.blocks.i.cross.*` |
/// | `….DenseReluDense.wi` (gated: `wi_0`, `wi_1`), `.wo` | `encoder.blocks.i.mlp.in`, `.out` |
/// | `….layer.j.layer_norm` | the norm of that part |
/// | `encoder.final_layer_norm` | `encoder.norm` |
/// | `lm_head.weight` | `head.weight`, or `embedding.token` again if tied |
pub(super) fn pieces(config: &Config) -> Vec<Piece> {
    let (c, f, v) = (config.width, config.hidden, config.vocab);
    let inner = config.heads * config.head_width;
    let mut t = Table::default();
    t.whole("shared.weight", &[v, c], "embedding.token");
    for (side, layers) in [("encoder", config.layers), ("decoder", config.decoder_layers)] {
        t.alias(format!("{side}.embed_tokens.weight"), &[v, c], "embedding.token");
        for i in 0..layers {
            let (a, o) = (format!("{side}.block.{i}.layer"), format!("{side}.blocks.{i}"));
            let attn = format!("{a}.0.SelfAttention");
            t.qkv(config, &attn, ["q", "k", "v"], &format!("{o}.attn.qkv"), false);
            t.linear(&format!("{attn}.o"), (c, inner), &format!("{o}.attn.out"), false);
            if i == 0 {
                let (name, shape) = (
                    format!("{attn}.relative_attention_bias.weight"),
                    [config.relative_buckets, config.heads],
                );
                t.whole(name, &shape, format!("{side}.relative"));
            }
            t.norm(&format!("{a}.0.layer_norm"), c, &format!("{o}.attn.norm"), false);
            let last = if side == "decoder" { 2 } else { 1 };
            if side == "decoder" {
                let (attn, own) = (format!("{a}.1.EncDecAttention"), format!("{o}.cross"));
                t.cross(config, &attn, ["q", "k", "v", "o"], &own, false);
                t.norm(&format!("{a}.1.layer_norm"), c, &format!("{own}.norm"), false);
            }
            let (ff, own) = (format!("{a}.{last}.DenseReluDense"), format!("{o}.mlp.in"));
            if config.gated {
                t.rows(&format!("{ff}.wi_0"), (f, c), (&own, 0), false);
                t.rows(&format!("{ff}.wi_1"), (f, c), (&own, f), false);
            } else {
                t.linear(&format!("{ff}.wi"), (f, c), &own, false);
            }
            t.linear(&format!("{ff}.wo"), (c, f), &format!("{o}.mlp.out"), false);
            t.norm(&format!("{a}.{last}.layer_norm"), c, &format!("{o}.mlp.norm"), false);
        }
        t.norm(&format!("{side}.final_layer_norm"), c, &format!("{side}.norm"), false);
    }
    match config.tied_head {
        true => t.alias("lm_head.weight", &[v, c], "embedding.token"),
        false => t.whole("lm_head.weight", &[v, c], "head.weight"),
    }
    t.0
}

/// A table of biases that old exports have and nothing reads.
pub(super) fn ignores(name: &str) -> bool {
    name == "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
}

pub(super) fn write_keys(config: &Config, generation: &GenerationConfig) -> Value {
    json!({
        "vocab_size": config.vocab,
        "d_model": config.width,
        "d_kv": config.head_width,
        "d_ff": config.hidden,
        "num_layers": config.layers,
        "num_decoder_layers": config.decoder_layers,
        "num_heads": config.heads,
        "n_positions": config.context,
        "relative_attention_num_buckets": config.relative_buckets,
        "relative_attention_max_distance": config.relative_distance,
        "dropout_rate": decimal(config.dropout),
        "layer_norm_epsilon": decimal(config.norm_epsilon),
        "feed_forward_proj": if config.gated { "gated-gelu" } else { "relu" },
        "is_encoder_decoder": true,
        "tie_word_embeddings": config.tied_head,
        "scale_decoder_outputs": config.scaled_head,
        "decoder_start_token_id": generation.decoder_start.or(generation.pad),
        "pad_token_id": generation.pad,
    })
}

pub(super) fn read_keys(keys: &mut Keys) -> Config {
    let (layers, tied_head) = (keys.size("num_layers"), keys.flag("tie_word_embeddings", true));
    let (gated, activation) = match keys.text("feed_forward_proj", "relu").as_str() {
        "relu" => (false, ActivationKind::Relu),
        "gated-gelu" => (true, ActivationKind::GeluTanh),
        other => {
            keys.fault(format!("feed_forward_proj = {other:?} is not supported"));
            (false, ActivationKind::Relu)
        }
    };
    let sizes = Config {
        vocab: keys.size("vocab_size"),
        // Its biases know every distance; this bounds memory alone.
        context: keys.size_or("n_positions", 512).max(512),
        layers,
        decoder_layers: keys.size_or("num_decoder_layers", layers),
        width: keys.size("d_model"),
        heads: keys.size("num_heads"),
        head_width: keys.size("d_kv"),
        hidden: keys.size("d_ff"),
        relative_buckets: keys.size_or("relative_attention_num_buckets", 32),
        relative_distance: keys.size_or("relative_attention_max_distance", 128),
        tied_head,
        // Where older files do not say it, tied heads are scaled.
        scaled_head: keys.flag("scale_decoder_outputs", tied_head),
        norm_epsilon: keys.float("layer_norm_epsilon", 1e-6) as f32,
        dropout: keys.float("dropout_rate", 0.1) as f32,
        gated,
        activation,
        ..Config::transformer_base()
    };
    common(&sizes)
}
