//! Llama (Touvron et al. 2023) and what is named like it: Mistral (sliding window), Qwen2 (biases of q, k, v) and Qwen3
//! (normalised q and k), as `transformers` names them: rotary turns the two halves of a head, as ours does.

use super::super::generation::decimal;
use super::{Family, Keys, Piece, Place, activation_name, is_plain, read_activation, whole};
use crate::model::config::{Config, NormKind, NormPlacement, Positions, RotaryScaling};
use serde_json::{Value, json};

/// Whether the keys of Llama, Mistral, Qwen2 or Qwen3 can say all of `config`. They differ in what they add to it.
pub(super) fn fits(config: &Config, family: Family) -> bool {
    let plain = Config {
        qkv_bias: None,
        qk_norm: false,
        window: None,
        rotary_scaling: RotaryScaling::None,
        ..config.clone()
    };
    let biased = config.has_qkv_bias();
    let own = match family {
        Family::Mistral => config.window.is_some() && !biased && !config.qk_norm,
        Family::Qwen2 => config.window.is_none() && biased && !config.qk_norm,
        Family::Qwen3 => config.window.is_none() && !biased && config.qk_norm,
        _ => config.window.is_none() && !biased && !config.qk_norm,
    };
    own && is_plain(&plain)
        && config.positions == Positions::Rotary
        && config.norm == NormKind::RmsNorm
        && config.norm_placement == NormPlacement::Pre
        && config.gated
        && !config.bias
        && !config.scaled_embedding
        // transformers insists on it even where head_dim is given.
        && (family == Family::Qwen3 || config.width.is_multiple_of(config.heads.max(1)))
}

/// | Llama | ours |
/// |---|---|
/// | `model.embed_tokens.weight` | `embedding.token` |
/// | `model.layers.i.input_layernorm`, `post_attention_layernorm` | `blocks.i.attn.norm`, `blocks.i.mlp.norm` |
/// | `model.layers.i.self_attn.{q,k,v}_proj` | rows of `blocks.i.attn.qkv`, in this order |
/// | `model.layers.i.self_attn.{q,k}_norm` (Qwen3) | `blocks.i.attn.q_norm`, `blocks.i.attn.k_norm` |
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
            let rows = start..start + shape[0];
            if own == "attn.qkv" && config.has_qkv_bias() {
                let place = Place::Rows(format!("{ours}.{own}.bias"), rows.clone());
                let name = format!("{theirs}.{foreign}.bias");
                list.push(Piece { name, shape: vec![shape[0]], place });
            }
            let place = Place::Rows(format!("{ours}.{own}.weight"), rows);
            list.push(Piece { name: format!("{theirs}.{foreign}.weight"), shape, place });
        }
        if config.qk_norm {
            for name in ["q_norm", "k_norm"] {
                let (foreign, own) = (
                    format!("{theirs}.self_attn.{name}.weight"),
                    format!("{ours}.attn.{name}.weight"),
                );
                list.push(whole(foreign, vec![config.head_width], own));
            }
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

pub(super) fn write_keys(config: &Config, family: Family) -> Value {
    let scaling = write_scaling(config);
    let mut rope = json!({"rope_type": "default", "rope_theta": config.rotary_base});
    if let (Some(rope), Value::Object(scaling)) = (rope.as_object_mut(), &scaling) {
        rope.extend(scaling.clone());
    }
    let mut keys = json!({
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
        "rope_scaling": scaling,
        "rope_parameters": rope,
        "attention_dropout": decimal(config.dropout),
        "tie_word_embeddings": config.tied_head,
    });
    match family {
        Family::Mistral => keys["sliding_window"] = json!(config.window),
        Family::Qwen2 => keys["use_sliding_window"] = json!(false),
        Family::Qwen3 => {
            keys["use_sliding_window"] = json!(false);
            keys["attention_bias"] = json!(false);
        }
        _ => {
            keys["attention_bias"] = json!(false);
            keys["mlp_bias"] = json!(false);
        }
    }
    keys
}

fn write_scaling(config: &Config) -> Value {
    match config.rotary_scaling {
        RotaryScaling::None => Value::Null,
        RotaryScaling::Linear { factor } => json!({"rope_type": "linear", "factor": factor}),
        RotaryScaling::Llama3 { factor, low_frequency, high_frequency, original } => json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low_frequency,
            "high_freq_factor": high_frequency,
            "original_max_position_embeddings": original,
        }),
    }
}

pub(super) fn read_keys(keys: &mut Keys, family: Family) -> Config {
    let (width, heads) = (keys.size("hidden_size"), keys.size("num_attention_heads"));
    if !keys.has("head_dim") && (heads == 0 || !width.is_multiple_of(heads)) {
        keys.fault(format!("num_attention_heads = {heads} does not divide hidden_size = {width}"));
    }
    keys.only("attention_bias", false, false);
    keys.only("mlp_bias", false, false);
    keys.only("use_sliding_window", false, false);
    keys.absent("quantization_config");
    let window = match family {
        Family::Mistral => keys.size_opt("sliding_window"),
        Family::Llama => {
            keys.absent("sliding_window");
            None
        }
        _ => None,
    };
    let (rotary_base, rotary_scaling) = read_rotary(keys);
    Config {
        vocab: keys.size("vocab_size"),
        context: keys.size("max_position_embeddings"),
        layers: keys.size("num_hidden_layers"),
        width,
        heads,
        kv_heads: keys.size_or("num_key_value_heads", heads),
        head_width: keys.size_or("head_dim", width / heads.max(1)),
        hidden: keys.size("intermediate_size"),
        window,
        qkv_bias: (family == Family::Qwen2).then_some(true),
        qk_norm: family == Family::Qwen3,
        rotary_base,
        rotary_scaling,
        norm_epsilon: keys.float("rms_norm_eps", 1e-6) as f32,
        activation: read_activation(keys, "hidden_act", "silu"),
        tied_head: keys.flag("tie_word_embeddings", false),
        dropout: keys.float("attention_dropout", 0.0) as f32,
        ..Config::llama()
    }
}

/// θ and the scaling: `rope_theta` and `rope_scaling` of transformers 4, `rope_parameters` of transformers 5.
fn read_rotary(keys: &mut Keys) -> (f64, RotaryScaling) {
    let mut base = keys.float("rope_theta", 10_000.0);
    let mut scaling = RotaryScaling::None;
    for key in ["rope_scaling", "rope_parameters"] {
        let Some(value) = keys.get(key).cloned() else { continue };
        let kind = value.get("rope_type").or_else(|| value.get("type")).and_then(Value::as_str);
        let number = |name: &str| value.get(name).and_then(Value::as_f64);
        let found = match kind {
            None | Some("default") => Some(RotaryScaling::None),
            Some("linear") => number("factor").map(|factor| RotaryScaling::Linear { factor }),
            Some("llama3") => (|| {
                Some(RotaryScaling::Llama3 {
                    factor: number("factor")?,
                    low_frequency: number("low_freq_factor")?,
                    high_frequency: number("high_freq_factor")?,
                    original: number("original_max_position_embeddings")? as usize,
                })
            })(),
            Some(_) => None,
        };
        match found.filter(|_| number("partial_rotary_factor").is_none_or(|part| part == 1.0)) {
            Some(found) if value.is_object() => scaling = found,
            _ => keys.absent(key),
        }
        base = number("rope_theta").unwrap_or(base);
    }
    if keys.float("partial_rotary_factor", 1.0) != 1.0 {
        keys.absent("partial_rotary_factor");
    }
    (base, scaling)
}
