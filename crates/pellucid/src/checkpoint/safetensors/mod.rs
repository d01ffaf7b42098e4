//! The safetensors format: an 8-byte little-endian length, a JSON header of that length, then the tensors' bytes.
//!
//! Files are written in one pass, straight from the tensors' memory, and read in pieces straight into it: neither way
//! needs a second copy. Reading uses positioned reads and not a memory map, because a mapped file that another program
//! truncates ends the process, where a read returns an error; each tensor is still only read when asked for.
//! The crate `safetensors` judges a header.

mod read;
mod write;

pub use read::{TensorFile, load_tensors};
pub(crate) use write::write as write_entries;
pub(crate) use write::{Entry, Values};
pub use write::{save_tensors, write_tensors};

use serde::{Deserialize, Serialize};

/// How an element is stored. In memory it is always `f32`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoredType {
    /// 32 bits, exact.
    #[default]
    F32,
    /// 16 bits: the upper half of an `f32`, rounded to nearest even.
    Bf16,
    /// IEEE half precision: three bits more than [`Bf16`](Self::Bf16), and nothing above 65504.
    F16,
}

impl StoredType {
    /// Bytes of an element.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }

    /// The name in a safetensors header.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::Bf16 => "BF16",
            Self::F16 => "F16",
        }
    }

    /// The name in `config.json`.
    #[must_use]
    pub fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::Bf16 => "bfloat16",
            Self::F16 => "float16",
        }
    }
}

/// `(2, 3)`.
pub(crate) fn shape_text(shape: &[usize]) -> String {
    let sizes: Vec<String> = shape.iter().map(usize::to_string).collect();
    format!("({})", sizes.join(", "))
}
