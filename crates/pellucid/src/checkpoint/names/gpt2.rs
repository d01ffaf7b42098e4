//! GPT-2 (Radford et al. 2019), as `transformers` names it. Its linear layers are `Conv1D`: weights are (in, out).

use super::super::generation::decimal;
use super::{Keys, Piece, Place, activation_name, is_plain, read_activation, whole};
use crate::model::config::{Config, NormKind, NormPlacement, Positions};
use serde_json::{Value, json};

/// Whether GPT-2's keys can say all of `config`. Missing biases are said by zeros.
pub(super) fn fits(config: &Config) -> bool {
    is_plain(config)
        && config.positions == Positions::Learned
        && config.norm == NormKind::LayerNorm
        && config.norm_placement == NormPlacement::Pre
        && !config.gated
        && config.kv_heads == config.heads
        && config.heads * config.head_width == config.width
        && config.window.is_none()
        && !config.scaled_embedding
}

/// | GPT-2 | ours |
/// |---|---|
/// | `transformer.wte.weight`, `transformer.wpe.weight` | `embedding.token`, `embedding.position` |
/// | `transformer.h.i.ln_1`, `ln_2` | `blocks.i.attn.norm`, `blocks.i.mlp.norm` |
/// | `transformer.h.i.attn.c_attn`, `attn.c_proj` (transposed) | `blocks.i.attn.qkv`, `blocks.i.attn.out` |
/// | `transformer.h.i.mlp.c_fc`, `mlp.c_proj` (transposed) | `blocks.i.mlp.in`, `blocks.i.mlp.out` |
/// | `transformer.ln_f` | `norm` |
/// | `lm_head.weight` | `head.weight`, or `embedding.token` again if tied |
pub(super) fn pieces(config: &Config) -> Vec<Piece> {
    let (c, f, v) = (config.width, config.hidden, config.vocab);
    let mut list = vec![
        whole("transformer.wte.weight".into(), vec![v, c], "embedding.token".into()),
        whole(
            "transformer.wpe.weight".into(),
            vec![config.context, c],
            "embedding.position".into(),
        ),
    ];
    for i in 0..config.layers {
        let (theirs, ours) = (format!("transformer.h.{i}"), format!("blocks.{i}"));
        for (foreign, own, rows, columns) in [
            ("ln_1", "attn.norm", c, 0),
            ("attn.c_attn", "attn.qkv", 3 * c, c),
            ("attn.c_proj", "attn.out", c, c),
            ("ln_2", "mlp.norm", c, 0),
            ("mlp.c_fc", "mlp.in", f, c),
            ("mlp.c_proj", "mlp.out", c, f),
        ] {
            let (foreign, own) = (format!("{theirs}.{foreign}"), format!("{ours}.{own}"));
            if columns == 0 {
                norm(&mut list, &foreign, &own, c, config.norm_bias);
            } else {
                list.push(Piece {
                    name: format!("{foreign}.weight"),
                    shape: vec![columns, rows],
                    place: Place::Transposed(format!("{own}.weight")),
                });
                bias(&mut list, &foreign, &own, rows, config.bias);
            }
        }
    }
    norm(&mut list, "transformer.ln_f", "norm", c, config.norm_bias);
    list.push(if config.tied_head {
        let place = Place::Alias("embedding.token".into());
        Piece { name: "lm_head.weight".into(), shape: vec![v, c], place }
    } else {
        whole("lm_head.weight".into(), vec![v, c], "head.weight".into())
    });
    list
}

fn norm(list: &mut Vec<Piece>, foreign: &str, own: &str, c: usize, has_bias: bool) {
    list.push(whole(format!("{foreign}.weight"), vec![c], format!("{own}.weight")));
    bias(list, foreign, own, c, has_bias);
}

fn bias(list: &mut Vec<Piece>, foreign: &str, own: &str, rows: usize, has: bool) {
    let name = format!("{foreign}.bias");
    list.push(if has {
        whole(name, vec![rows], format!("{own}.bias"))
    } else {
        Piece { name, shape: vec![rows], place: Place::Zeros }
    });
}

/// OpenAI's own export has no `transformer.` in front.
pub(super) fn canonical(name: &str) -> String {
    if name.starts_with("transformer.") || name.starts_with("lm_head.") {
        name.into()
    } else {
        format!("transformer.{name}")
    }
}

/// The causal mask, which old exports carry as a tensor.
pub(super) fn ignores(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("transformer.h.") else { return false };
    matches!(rest.split_once('.'), Some((_, "attn.bias" | "attn.masked_bias")))
}

pub(super) fn write_keys(config: &Config) -> Value {
    json!({
        "vocab_size": config.vocab,
        "n_positions": config.context,
        "n_embd": config.width,
        "n_layer": config.layers,
        "n_head": config.heads,
        "n_inner": config.hidden,
        "activation_function": activation_name(config.activation, true),
        "layer_norm_epsilon": decimal(config.norm_epsilon),
        "embd_pdrop": decimal(config.dropout),
        "resid_pdrop": decimal(config.dropout),
        "attn_pdrop": decimal(config.dropout),
        "scale_attn_weights": true,
        "scale_attn_by_inverse_layer_idx": false,
        "reorder_and_upcast_attn": false,
        "tie_word_embeddings": config.tied_head,
    })
}

/// Of the three dropout probabilities, which only matter in training, `resid_pdrop` stands for all.
pub(super) fn read_keys(keys: &mut Keys) -> Config {
    let (width, heads) = (keys.size("n_embd"), keys.size("n_head"));
    let context = if keys.has("n_positions") { "n_positions" } else { "n_ctx" };
    if heads == 0 || !width.is_multiple_of(heads) {
        keys.fault(format!("n_head = {heads} does not divide n_embd = {width}"));
    }
    keys.only("scale_attn_weights", true, true);
    keys.only("scale_attn_by_inverse_layer_idx", false, false);
    keys.only("add_cross_attention", false, false);
    keys.absent("quantization_config");
    Config {
        vocab: keys.size("vocab_size"),
        context: keys.size(context),
        layers: keys.size("n_layer"),
        width,
        heads,
        kv_heads: heads,
        head_width: width / heads.max(1),
        hidden: keys.size_or("n_inner", width.saturating_mul(4)),
        activation: read_activation(keys, "activation_function", "gelu_new"),
        norm_epsilon: keys.float("layer_norm_epsilon", 1e-5) as f32,
        tied_head: keys.flag("tie_word_embeddings", true),
        dropout: keys.float("resid_pdrop", 0.1) as f32,
        ..Config::gpt2()
    }
}
