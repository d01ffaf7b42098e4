//! The Transformer, one file per idea.

/// Every size, validated once.
pub mod config;
/// One flat buffer, named pieces.
pub mod weights;
