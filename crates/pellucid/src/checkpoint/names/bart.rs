//! Marian (Junczys-Dowmunt et al. 2018) and BART (Lewis et al. 2020), as `transformers` names them: the original
//! encoder-decoder, with sines or with learned positions and a norm after the embedding.

use super::super::generation::{GenerationConfig, decimal};
use super::table::Table;
use super::{Family, Keys, Piece, Place, activation_name, read_activation};
use crate::model::config::{Architecture, Config, NormKind, NormPlacement, Positions};
use serde_json::{Value, json};

/// BART's tables of positions begin with two rows that nothing uses.
const OFFSET: usize = 2;

/// Whether a Marian's keys can say all of `config`, or a BART's. A missing bias of the head is said by zeros.
pub(super) fn fits(config: &Config, family: Family) -> bool {
    let told = Config { head_bias: config.head_bias, ..common(config, family) };
    told == *config
}

fn common(config: &Config, family: Family) -> Config {
    let bart = family == Family::Bart;
    let Config { vocab, context, layers, decoder_layers, width, heads, hidden, .. } = *config;
    Config {
        architecture: Architecture::EncoderDecoder,
        norm: NormKind::LayerNorm,
        norm_placement: NormPlacement::Post,
        positions: if bart { Positions::Learned } else { Positions::SinusoidalHalved },
        position_offset: if bart { OFFSET } else { 0 },
        embedding_norm: bart,
        head_bias: true,
        tied_head: true,
        vocab,
        context,
        layers,
        decoder_layers,
        width,
        heads,
        kv_heads: heads,
        head_width: width / heads.max(1),
        hidden,
        scaled_embedding: config.scaled_embedding,
        activation: config.activation,
        norm_epsilon: 1e-5,
        dropout: config.dropout,
        rotary_base: config.rotary_base,
        pooling: config.pooling,
        ..Config::gpt2()
    }
}

/// | Marian, BART | ours |
/// |---|---|
/// | `model.shared.weight` | `embedding.token` |
/// | `model.encoder.embed_positions.weight` (BART) | `encoder.embedding.position` |
/// | `model.encoder.layernorm_embedding` (BART) | `encoder.embedding.norm` |
/// | `model.encoder.layers.i.self_attn.{q,k,v}_proj`, `out_proj` | rows of `encoder.blocks.i.attn.qkv`, `.out` |
/// | `…self_attn_layer_norm`, `final_layer_norm` | `encoder.blocks.i.attn.norm`, `mlp.norm` |
/// | `…fc1`, `fc2` | `encoder.blocks.i.mlp.in`, `.out` |
/// | `model.decoder.layers.i.encoder_attn.*`, `encoder_attn_layer_norm` | `decoder.blocks.i.cross.*`, `.norm` |
/// | `final_logits_bias` | `head.bias` |
pub(super) fn pieces(config: &Config, family: Family) -> Vec<Piece> {
    let (c, f, v) = (config.width, config.hidden, config.vocab);
    let mut t = Table::default();
    t.whole("model.shared.weight", &[v, c], "embedding.token");
    for (side, layers) in [("encoder", config.layers), ("decoder", config.decoder_layers)] {
        let theirs = format!("model.{side}");
        t.alias(format!("{theirs}.embed_tokens.weight"), &[v, c], "embedding.token");
        if family == Family::Bart {
            let (name, rows) =
                (format!("{theirs}.embed_positions.weight"), config.context + OFFSET);
            t.whole(name, &[rows, c], format!("{side}.embedding.position"));
            let own = format!("{side}.embedding.norm");
            t.norm(&format!("{theirs}.layernorm_embedding"), c, &own, config.norm_bias);
        }
        for i in 0..layers {
            let (a, o) = (format!("{theirs}.layers.{i}"), format!("{side}.blocks.{i}"));
            let bias = config.bias;
            let (attn, qkv) = (format!("{a}.self_attn"), format!("{o}.attn.qkv"));
            t.qkv(config, &attn, ["q_proj", "k_proj", "v_proj"], &qkv, bias);
            t.linear(&format!("{attn}.out_proj"), (c, c), &format!("{o}.attn.out"), bias);
            t.norm(&format!("{attn}_layer_norm"), c, &format!("{o}.attn.norm"), config.norm_bias);
            if side == "decoder" {
                let (attn, own) = (format!("{a}.encoder_attn"), format!("{o}.cross"));
                t.cross(config, &attn, ["q_proj", "k_proj", "v_proj", "out_proj"], &own, bias);
                t.norm(&format!("{attn}_layer_norm"), c, &format!("{own}.norm"), config.norm_bias);
            }
            t.linear(&format!("{a}.fc1"), (f, c), &format!("{o}.mlp.in"), bias);
            t.linear(&format!("{a}.fc2"), (c, f), &format!("{o}.mlp.out"), bias);
            let own = format!("{o}.mlp.norm");
            t.norm(&format!("{a}.final_layer_norm"), c, &own, config.norm_bias);
        }
    }
    let (name, shape) = ("final_logits_bias".into(), vec![1, v]);
    let place = match config.head_bias {
        true => Place::Rows("head.bias".into(), 0..1),
        false => Place::Zeros,
    };
    t.0.push(Piece { name, shape, place });
    t.alias("lm_head.weight", &[v, c], "embedding.token");
    t.0
}

/// Sines, which are computed.
pub(super) fn ignores(name: &str, family: Family) -> bool {
    family == Family::Marian && name.ends_with("embed_positions.weight")
}

pub(super) fn write_keys(config: &Config, generation: &GenerationConfig, family: Family) -> Value {
    let eos = generation.eos.first();
    let start = generation.decoder_start.or(generation.bos).or(generation.pad);
    let mut keys = json!({
        "vocab_size": config.vocab,
        "d_model": config.width,
        "encoder_layers": config.layers,
        "decoder_layers": config.decoder_layers,
        "encoder_attention_heads": config.heads,
        "decoder_attention_heads": config.heads,
        "encoder_ffn_dim": config.hidden,
        "decoder_ffn_dim": config.hidden,
        "activation_function": activation_name(config.activation, true),
        "dropout": decimal(config.dropout),
        "attention_dropout": decimal(config.dropout),
        "activation_dropout": 0.0,
        "max_position_embeddings": config.context,
        "scale_embedding": config.scaled_embedding,
        "is_encoder_decoder": true,
        "decoder_start_token_id": start,
        "pad_token_id": generation.pad.or(eos.copied()),
        "forced_eos_token_id": eos,
        "tie_word_embeddings": true,
    });
    if family == Family::Marian {
        keys["decoder_vocab_size"] = json!(config.vocab);
        keys["share_encoder_decoder_embeddings"] = json!(true);
        keys["static_position_embeddings"] = json!(true);
        keys["normalize_embedding"] = json!(false);
        keys["normalize_before"] = json!(false);
    }
    keys
}

pub(super) fn read_keys(keys: &mut Keys, family: Family) -> Config {
    let (width, heads) = (keys.size("d_model"), keys.size("encoder_attention_heads"));
    let hidden = keys.size("encoder_ffn_dim");
    if heads == 0 || !width.is_multiple_of(heads) {
        keys.fault(format!("encoder_attention_heads = {heads} does not divide d_model = {width}"));
    }
    for (key, same) in [("decoder_attention_heads", heads), ("decoder_ffn_dim", hidden)] {
        if keys.size_or(key, same) != same {
            keys.absent(key);
        }
    }
    let vocab = keys.size("vocab_size");
    if keys.size_or("decoder_vocab_size", vocab) != vocab {
        keys.absent("decoder_vocab_size");
    }
    keys.only("normalize_before", false, false);
    keys.only("share_encoder_decoder_embeddings", true, true);
    keys.only("tie_word_embeddings", true, true);
    let sizes = Config {
        vocab,
        context: keys.size("max_position_embeddings"),
        layers: keys.size("encoder_layers"),
        decoder_layers: keys.size("decoder_layers"),
        width,
        heads,
        hidden,
        activation: read_activation(keys, "activation_function", "gelu"),
        scaled_embedding: keys.flag("scale_embedding", false),
        dropout: keys.float("dropout", 0.1) as f32,
        ..Config::transformer_base()
    };
    common(&sizes, family)
}
