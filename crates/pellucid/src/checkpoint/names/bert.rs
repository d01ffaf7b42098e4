//! BERT (Devlin et al. 2019) and RoBERTa (Liu et al. 2019), as `transformers` names them; MiniLM is a BERT.

use super::super::generation::decimal;
use super::table::Table;
use super::{Family, Keys, Piece, activation_name, read_activation};
use crate::model::config::{
    Architecture, Config, NormKind, NormPlacement, Output, Pooling, Positions,
};
use serde_json::{Map, Value, json};

/// Whether a BERT's keys can say all of `config`, or a RoBERTa's.
pub(super) fn fits(config: &Config, family: Family) -> bool {
    let roberta = family == Family::Roberta;
    let told = common(config);
    let tokens = config.output == Output::Tokens;
    let told = Config {
        output: config.output,
        labels: config.labels.clone(),
        pooler: config.pooler,
        pooling: Pooling::First,
        segments: config.segments,
        position_offset: if roberta { 2 } else { 0 },
        head_bias: tokens,
        head_transform: tokens,
        ..told
    };
    let pooled = match config.output {
        Output::Vectors => true,
        Output::Sequence => config.pooler,
        Output::Tokens | Output::Positions => !config.pooler,
    };
    told == *config && pooled && config.segments > 0 && (config.tied_head || !tokens)
}

/// What both families have in common, with the sizes of `config`.
fn common(config: &Config) -> Config {
    let Config { vocab, context, layers, width, heads, hidden, .. } = *config;
    let head_width = width / heads.max(1);
    let (norm_epsilon, activation, dropout) =
        (config.norm_epsilon, config.activation, config.dropout);
    Config {
        architecture: Architecture::Encoder,
        positions: Positions::Learned,
        norm: NormKind::LayerNorm,
        norm_placement: NormPlacement::Post,
        embedding_norm: true,
        tied_head: config.tied_head,
        vocab,
        context,
        layers,
        width,
        heads,
        kv_heads: heads,
        head_width,
        hidden,
        norm_epsilon,
        activation,
        dropout,
        rotary_base: config.rotary_base,
        ..Config::gpt2()
    }
}

/// | BERT | ours |
/// |---|---|
/// | `bert.embeddings.{word,position,token_type}_embeddings` | `embedding.{token,position,segment}` |
/// | `bert.embeddings.LayerNorm` | `embedding.norm` |
/// | `bert.encoder.layer.i.attention.self.{query,key,value}` | rows of `blocks.i.attn.qkv` |
/// | `…attention.output.dense`, `.LayerNorm` | `blocks.i.attn.out`, `.norm` |
/// | `…intermediate.dense`, `output.dense`, `output.LayerNorm` | `blocks.i.mlp.in`, `.out`, `.norm` |
/// | `bert.pooler.dense` (RoBERTa: `classifier.dense`) | `pooler` |
/// | `cls.predictions.transform.dense`, `.LayerNorm`, `cls.predictions.bias` (`lm_head.dense`, …) | `head.dense`, `.norm`, `.bias` |
/// | `classifier` (RoBERTa: `classifier.out_proj`) | `head` |
pub(super) fn pieces(config: &Config, family: Family) -> Vec<Piece> {
    let roberta = family == Family::Roberta;
    let p = if roberta { "roberta" } else { "bert" };
    let (c, f, v, n) = (config.width, config.hidden, config.vocab, config.labels.len());
    let mut t = Table::default();
    let e = format!("{p}.embeddings");
    let places = config.context + config.position_offset;
    t.whole(format!("{e}.word_embeddings.weight"), &[v, c], "embedding.token");
    t.whole(format!("{e}.position_embeddings.weight"), &[places, c], "embedding.position");
    let segments = [config.segments, c];
    t.whole(format!("{e}.token_type_embeddings.weight"), &segments, "embedding.segment");
    t.norm(&format!("{e}.LayerNorm"), c, "embedding.norm", true);
    for i in 0..config.layers {
        let (a, o) = (format!("{p}.encoder.layer.{i}"), format!("blocks.{i}"));
        let qkv = format!("{o}.attn.qkv");
        t.qkv(config, &format!("{a}.attention.self"), ["query", "key", "value"], &qkv, true);
        t.linear(&format!("{a}.attention.output.dense"), (c, c), &format!("{o}.attn.out"), true);
        t.norm(&format!("{a}.attention.output.LayerNorm"), c, &format!("{o}.attn.norm"), true);
        t.linear(&format!("{a}.intermediate.dense"), (f, c), &format!("{o}.mlp.in"), true);
        t.linear(&format!("{a}.output.dense"), (c, f), &format!("{o}.mlp.out"), true);
        t.norm(&format!("{a}.output.LayerNorm"), c, &format!("{o}.mlp.norm"), true);
    }
    let sequence = config.output == Output::Sequence;
    if config.pooler {
        let own = if roberta && sequence { "classifier".into() } else { format!("{p}.pooler") };
        t.linear(&format!("{own}.dense"), (c, c), "pooler", true);
    }
    match config.output {
        Output::Vectors => {}
        Output::Positions => t.linear("classifier", (n, c), "head", true),
        Output::Sequence => {
            let name = if roberta { "classifier.out_proj" } else { "classifier" };
            t.linear(name, (n, c), "head", true);
        }
        Output::Tokens => {
            let (h, dense, norm) = match roberta {
                true => ("lm_head", "lm_head.dense", "lm_head.layer_norm"),
                false => (
                    "cls.predictions",
                    "cls.predictions.transform.dense",
                    "cls.predictions.transform.LayerNorm",
                ),
            };
            t.linear(dense, (c, c), "head.dense", true);
            t.norm(norm, c, "head.norm", true);
            t.whole(format!("{h}.bias"), &[v], "head.bias");
            t.alias(format!("{h}.decoder.weight"), &[v, c], "embedding.token");
            t.alias(format!("{h}.decoder.bias"), &[v], "head.bias");
        }
    }
    t.0
}

/// A model without a head is saved without its family's name in front.
pub(super) fn canonical(name: &str, family: Family) -> String {
    let p = if family == Family::Roberta { "roberta" } else { "bert" };
    match ["embeddings.", "encoder.", "pooler."].iter().any(|part| name.starts_with(part)) {
        true => format!("{p}.{name}"),
        false => name.into(),
    }
}

/// Numbers of positions, and the head for the next sentence, which nothing uses.
pub(super) fn ignores(name: &str) -> bool {
    name.ends_with("embeddings.position_ids")
        || name.ends_with("embeddings.token_type_ids")
        || name.starts_with("cls.seq_relationship.")
}

pub(super) fn architecture(config: &Config, family: Family) -> &'static str {
    match (config.output, family == Family::Roberta) {
        (Output::Tokens, false) => "BertForMaskedLM",
        (Output::Tokens, true) => "RobertaForMaskedLM",
        (Output::Sequence, false) => "BertForSequenceClassification",
        (Output::Sequence, true) => "RobertaForSequenceClassification",
        (Output::Positions, false) => "BertForTokenClassification",
        (Output::Positions, true) => "RobertaForTokenClassification",
        (Output::Vectors, false) => "BertModel",
        (Output::Vectors, true) => "RobertaModel",
    }
}

pub(super) fn write_keys(config: &Config) -> Value {
    let mut keys = json!({
        "vocab_size": config.vocab,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.hidden,
        "hidden_act": activation_name(config.activation, true),
        "hidden_dropout_prob": decimal(config.dropout),
        "attention_probs_dropout_prob": decimal(config.dropout),
        "max_position_embeddings": config.context + config.position_offset,
        "type_vocab_size": config.segments,
        "layer_norm_eps": decimal(config.norm_epsilon),
        "tie_word_embeddings": config.tied_head,
    });
    if config.position_offset > 0 {
        keys["pad_token_id"] = json!(config.position_offset - 1);
    }
    if !config.labels.is_empty() {
        let names = config.labels.iter().enumerate();
        let ids: Map<String, Value> =
            names.clone().map(|(i, name)| (i.to_string(), json!(name))).collect();
        keys["id2label"] = Value::Object(ids);
        keys["label2id"] = Value::Object(names.map(|(i, name)| (name.clone(), json!(i))).collect());
        if config.is_regression() {
            keys["problem_type"] = json!("regression");
        }
    }
    keys
}

pub(super) fn read_keys(keys: &mut Keys, family: Family) -> Config {
    let (width, heads) = (keys.size("hidden_size"), keys.size("num_attention_heads"));
    if heads == 0 || !width.is_multiple_of(heads) {
        keys.fault(format!("num_attention_heads = {heads} does not divide hidden_size = {width}"));
    }
    keys.only("is_decoder", false, false);
    keys.only("add_cross_attention", false, false);
    if keys.text("position_embedding_type", "absolute") != "absolute" {
        keys.absent("position_embedding_type");
    }
    let roberta = family == Family::Roberta;
    // RoBERTa's positions begin after that of padding.
    let position_offset = if roberta { keys.size_or("pad_token_id", 1) + 1 } else { 0 };
    let (output, pooler) = match keys.architecture("BertModel").as_str() {
        name if name.ends_with("ForMaskedLM") || name.ends_with("ForPreTraining") => {
            (Output::Tokens, false)
        }
        name if name.ends_with("ForSequenceClassification") => (Output::Sequence, true),
        name if name.ends_with("ForTokenClassification") => (Output::Positions, false),
        name if name.ends_with("Model") => (Output::Vectors, true),
        name => {
            keys.fault(format!("architectures = {name:?} is not supported"));
            (Output::Vectors, false)
        }
    };
    let (tokens, places) = (output == Output::Tokens, keys.size("max_position_embeddings"));
    let labels = matches!(output, Output::Sequence | Output::Positions);
    Config {
        output,
        labels: if labels { keys.labels() } else { vec![] },
        pooler,
        pooling: Pooling::First,
        position_offset,
        head_bias: tokens,
        head_transform: tokens,
        tied_head: keys.flag("tie_word_embeddings", true),
        segments: keys.size_or("type_vocab_size", 2),
        vocab: keys.size("vocab_size"),
        context: places.saturating_sub(position_offset),
        layers: keys.size("num_hidden_layers"),
        width,
        heads,
        kv_heads: heads,
        head_width: width / heads.max(1),
        hidden: keys.size("intermediate_size"),
        norm_epsilon: keys.float("layer_norm_eps", 1e-12) as f32,
        activation: read_activation(keys, "hidden_act", "gelu"),
        dropout: keys.float("hidden_dropout_prob", 0.1) as f32,
        ..Config::bert()
    }
}
