//! The Transformer, one file per idea.

/// Who may look at whom.
pub mod mask;
