//! Llama (Touvron et al. 2023), as `transformers` names it: rotary turns the two halves of a head, as ours does.

use super::super::generation::decimal;
use super::{Keys, Piece, Place, activation_name, is_plain, read_activation, whole};
use crate::model::config::{Config, NormKind, NormPlacement, Positions};
use serde_json::{Value, json};

/// Whether Llama's keys can say all of `config`.
pub(super) fn fits(config: &Config) -> bool {
    is_plain(config)
        && config.positions == Positions::Rotary
        && config.norm == NormKind::RmsNorm
        && config.norm_placement == NormPlacement::Pre
        && config.gated
        && !config.bias
        && config.window.is_none()
        && !config.scaled_embedding
        // transformers insists on it even where head_dim is given.
        && config.width.is_multiple_of(config.heads.max(1))
}

/// | Llama | ours |
/// |---|---|
/// | `model.embed_tokens.weight` | `embedding.token` |
/// | `model.layers.i.input_layernorm`, `post_attention_layernorm` | `blocks.i.attn.norm`, `blocks.i.mlp.norm` |
/// | `model.layers.i.self_attn.{q,k,v}_proj` | rows of `blocks.i.attn.qkv`, in this order |
/// | `model.layers.i.self_attn.o_proj` | `blocks.i.attn.out` |
/// | `model.layers.i.mlp.{gate,up}_proj` | rows of `blocks.i.mlp.in`, in this order |
/// | `model.layers.i.mlp.down_proj` | `blocks.i.mlp.out` |
/// | `model.norm` | `norm` |
/// | `lm_head.weight` | `head.weight`, or `embedding.token` again if tied |
pub(super) fn pieces(config: &Config) -> Vec<Piece> {
    let (c, f, v) = (config.width, config.hidden, config.vocab);
    let (queries, keys) = (config.heads * config.head_width, config.kv_heads * config.head_width);
    let mut list =
        vec![whole("model.embed_tokens.weight".into(), vec![v, c], "embedding.token".into())];
    for i in 0..config.layers {
        let (theirs, ours) = (format!("model.layers.{i}"), format!("blocks.{i}"));
        for (foreign, own, start, shape) in [
            ("input_layernorm", "attn.norm", 0, vec![c]),
            ("self_attn.q_proj", "attn.qkv", 0, vec![queries, c]),
            ("self_attn.k_proj", "attn.qkv", queries, vec![keys, c]),
            ("self_attn.v_proj", "attn.qkv", queries + keys, vec![keys, c]),
            ("self_attn.o_proj", "attn.out", 0, vec![c, queries]),
            ("post_attention_layernorm", "mlp.norm", 0, vec![c]),
            ("mlp.gate_proj", "mlp.in", 0, vec![f, c]),
            ("mlp.up_proj", "mlp.in", f, vec![f, c]),
            ("mlp.down_proj", "mlp.out", 0, vec![c, f]),
        ] {
            let place = Place::Rows(format!("{ours}.{own}.weight"), start..start + shape[0]);
            list.push(Piece { name: format!("{theirs}.{foreign}.weight"), shape, place });
        }
    }
    list.push(whole("model.norm.weight".into(), vec![c], "norm.weight".into()));
    list.push(if config.tied_head {
        let place = Place::Alias("embedding.token".into());
        Piece { name: "lm_head.weight".into(), shape: vec![v, c], place }
    } else {
        whole("lm_head.weight".into(), vec![v, c], "head.weight".into())
    });
    list
}

/// The rotary frequencies, which old exports carry as a tensor.
pub(super) fn ignores(name: &str) -> bool {
    name.starts_with("model.") && name.ends_with("rotary_emb.inv_freq")
}

pub(super) fn write_keys(config: &Config) -> Value {
    json!({
        "vocab_size": config.vocab,
        "hidden_size": config.width,
        "intermediate_size": config.hidden,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_width,
        "hidden_act": activation_name(config.activation, false),
        "max_position_embeddings": config.context,
        "rms_norm_eps": decimal(config.norm_epsilon),
        // transformers 4 reads the first two, transformers 5 the third.
        "rope_theta": config.rotary_base,
        "rope_scaling": null,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rotary_base},
        "attention_bias": false,
        "attention_dropout": decimal(config.dropout),
        "mlp_bias": false,
        "tie_word_embeddings": config.tied_head,
    })
}

pub(super) fn read_keys(keys: &mut Keys) -> Config {
    let (width, heads) = (keys.size("hidden_size"), keys.size("num_attention_heads"));
    if !keys.has("head_dim") && (heads == 0 || !width.is_multiple_of(heads)) {
        keys.fault(format!("num_attention_heads = {heads} does not divide hidden_size = {width}"));
    }
    keys.only("attention_bias", false, false);
    keys.only("mlp_bias", false, false);
    for key in ["quantization_config", "sliding_window"] {
        keys.absent(key);
    }
    Config {
        vocab: keys.size("vocab_size"),
        context: keys.size("max_position_embeddings"),
        layers: keys.size("num_hidden_layers"),
        width,
        heads,
        kv_heads: keys.size_or("num_key_value_heads", heads),
        head_width: keys.size_or("head_dim", width / heads.max(1)),
        hidden: keys.size("intermediate_size"),
        rotary_base: read_rotary(keys),
        norm_epsilon: keys.float("rms_norm_eps", 1e-6) as f32,
        activation: read_activation(keys, "hidden_act", "silu"),
        tied_head: keys.flag("tie_word_embeddings", false),
        dropout: keys.float("attention_dropout", 0.0) as f32,
        ..Config::llama()
    }
}

/// θ: `rope_theta` of transformers 4, `rope_parameters.rope_theta` of transformers 5. Scaled angles are refused.
fn read_rotary(keys: &mut Keys) -> f64 {
    let mut base = keys.float("rope_theta", 10_000.0);
    for key in ["rope_scaling", "rope_parameters"] {
        let Some(value) = keys.get(key).cloned() else { continue };
        let kind = value.get("rope_type").or_else(|| value.get("type")).and_then(Value::as_str);
        let partial = value.get("partial_rotary_factor").and_then(Value::as_f64).unwrap_or(1.0);
        if !value.is_object() || kind.is_some_and(|k| k != "default") || partial != 1.0 {
            keys.absent(key);
        }
        base = value.get("rope_theta").and_then(Value::as_f64).unwrap_or(base);
    }
    if keys.float("partial_rotary_factor", 1.0) != 1.0 {
        keys.absent("partial_rotary_factor");
    }
    base
}
