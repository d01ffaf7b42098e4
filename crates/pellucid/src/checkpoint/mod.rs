//! Weights to files and back.
//!
//! A checkpoint is a folder in Hugging Face's layout, so that `transformers` can open what this library writes
//! whenever the architecture is one it knows, and this library can open what `transformers` writes:
//!
//! | file | holds |
//! |---|---|
//! | `config.json` | sizes and choices: the family's own keys, and ours whole under `"pellucid"` |
//! | `model.safetensors`, or its shards | the weights, F32, BF16 or F16, under the family's names |
//! | `generation_config.json` | how to sample, which tokens end a text |
//! | `tokenizer.json` | copied as text; the room `text` understands it |
//!
//! A folder of LoRA factors has `adapter_config.json` and `adapter_model.safetensors` ([`adapter`]) in place of weights.
//! A folder of int8 or int4 weights has the same files, its `config.json` a `quantization_config` ([`quantised`]).
//! One file of llama.cpp's holds all of it at once ([`gguf`]).
//!
//! [`save`] replaces a whole folder at once ([`transaction`] says how): a crash at any moment, even a power cut or a
//! full disk, leaves the old checkpoint or the new one, never a mix. [`safetensors`] stores any named tensors, such as
//! an optimizer's moments; inside a [`Transaction`] they become part of the same whole.
//!
//! This room does not know training, generation, tokenization or the arithmetic of a model: names, shapes and bytes.

/// LoRA factors, in and out.
pub mod adapter;
/// Tensors of files to weights.
mod assemble;
/// Models in CTranslate2's format.
pub mod ctranslate2;
/// Telling weights apart.
pub mod fingerprint;
/// One folder: `save` and `load`.
pub mod folder;
/// How to sample, as `generation_config.json` says it.
pub mod generation;
/// llama.cpp's files, in and out.
pub mod gguf;
/// Weights in llama2.c's format.
pub mod import_llama2c;
/// Foreign names and ours: one table per family.
pub mod names;
/// NumPy's files, row by row.
pub mod npy;
/// Weights in int8 and int4.
pub mod quantised;
/// The format, read and written.
pub mod safetensors;
/// Weights in one file or several.
pub mod shards;
/// Several files read as one.
pub mod snapshot;
/// Several files replaced as one.
pub mod transaction;

#[cfg(test)]
mod fault;
#[cfg(test)]
mod tests;

pub use adapter::{read_factors, save_adapter, text_folder};
pub use ctranslate2::{CTranslate2Model, import_ctranslate2};
pub use fingerprint::fingerprint;
pub use folder::{Loaded, load, load_config, save, write_into};
pub use generation::GenerationConfig;
pub use gguf::{GgufModel, GgufType, export_gguf, import_gguf};
pub use import_llama2c::import_llama2c;
pub use names::Family;
pub use npy::NpyWriter;
pub use quantised::{LoadedStored, load_stored, save_stored, stored_format};
pub use safetensors::{StoredType, TensorFile, load_tensors, save_tensors, write_tensors};
pub use shards::Layout;
pub use snapshot::Snapshot;
pub use transaction::{Transaction, recover};
