//! Tensors' names and places.
//!
//! | here | Hugging Face | ours |
//! |---|---|---|
//! | `token_embd`, `position_embd` | `embed_tokens`, `wte`; `wpe` | `embedding.token`, `embedding.position` |
//! | `blk.i.attn_norm`, `ffn_norm` | `input_layernorm`, `ln_1`; `post_attention_layernorm`, `ln_2` | `blocks.i.attn.norm`, `mlp.norm` |
//! | `blk.i.attn_q`, `attn_k`, `attn_v` | `q_proj`, `k_proj`, `v_proj` | rows of `blocks.i.attn.qkv` |
//! | `blk.i.attn_qkv`, `attn_output` | `c_attn`; `o_proj`, `c_proj` | `blocks.i.attn.qkv`, `attn.out` |
//! | `blk.i.attn_q_norm`, `attn_k_norm` | `q_norm`, `k_norm` | `blocks.i.attn.q_norm`, `k_norm` |
//! | `blk.i.ffn_gate`, `ffn_up` | `gate_proj`, `up_proj`, `c_fc` | rows of `blocks.i.mlp.in` |
//! | `blk.i.ffn_down` | `down_proj`, `c_proj` | `blocks.i.mlp.out` |
//! | `output_norm`, `output` | `norm`, `ln_f`; `lm_head` | `norm`, `head` |
//!
//! Each with `.weight` or `.bias`. Hugging Face's tables say which rows of ours a tensor is.

use super::architecture::Architecture;
use crate::checkpoint::names::{Piece, Place};
use crate::model::config::Config;
use std::ops::Range;

/// A tensor of a file.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    /// Row-major.
    pub(super) shape: Vec<usize>,
    pub(super) source: Source,
}

#[derive(Debug)]
pub(super) enum Source {
    /// These rows of our parameter; `turned`: each head's are reordered.
    Rows { ours: String, rows: Range<usize>, turned: bool },
    /// A bias that our model has not.
    Zeros,
}

impl Entry {
    /// Whether our model has it.
    pub(super) fn is_ours(&self) -> bool {
        matches!(self.source, Source::Rows { .. })
    }

    /// Elements of a row.
    pub(super) fn columns(&self) -> usize {
        self.shape[1..].iter().product()
    }
}

/// Every tensor of `config`, in the order of the data flow.
pub(super) fn entries(architecture: Architecture, config: &Config) -> Vec<Entry> {
    let pieces = architecture.family().pieces(config);
    pieces.into_iter().filter_map(|piece| entry(architecture, piece)).collect()
}

fn entry(architecture: Architecture, piece: Piece) -> Option<Entry> {
    let (name, module) = renamed(&piece.name)?;
    let turned = architecture == Architecture::Llama && matches!(module, "attn_q" | "attn_k");
    let mut shape = piece.shape;
    let source = match piece.place {
        Place::Rows(ours, rows) => Source::Rows { ours, rows, turned },
        Place::Transposed(ours) => {
            shape.reverse();
            Source::Rows { ours, rows: 0..shape[0], turned }
        }
        Place::Zeros => Source::Zeros,
        Place::Alias(_) => return None,
    };
    Some(Entry { name, shape, source })
}

/// The name here of a tensor of Hugging Face, and what it is a part of.
fn renamed(foreign: &str) -> Option<(String, &'static str)> {
    let (path, kind) = foreign.rsplit_once('.')?;
    let path = path.strip_prefix("model.").or(path.strip_prefix("transformer.")).unwrap_or(path);
    let block = path.strip_prefix("layers.").or(path.strip_prefix("h."));
    let (index, module) = match block.and_then(|rest| rest.split_once('.')) {
        Some((index, module)) => (Some(index), module),
        None => (None, path),
    };
    let module = match module {
        "embed_tokens" | "wte" => "token_embd",
        "wpe" => "position_embd",
        "input_layernorm" | "ln_1" => "attn_norm",
        "post_attention_layernorm" | "ln_2" => "ffn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" | "attn.c_proj" => "attn_output",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "attn.c_attn" => "attn_qkv",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" | "mlp.c_fc" => "ffn_up",
        "mlp.down_proj" | "mlp.c_proj" => "ffn_down",
        "norm" | "ln_f" => "output_norm",
        "lm_head" => "output",
        _ => return None,
    };
    let name = match index {
        Some(index) => format!("blk.{index}.{module}.{kind}"),
        None => format!("{module}.{kind}"),
    };
    Some((name, module))
}
