//! Logits of known checkpoints.
