//! Sparse autoencoders (Bricken et al., "Towards Monosemanticity", 2023; Cunningham et al. 2023): a site's vectors as
//! sums of a few of many directions, so that each direction may mean something.
//!
//! ```text
//! pre = (x - b_dec) W_enc + b_enc          W_enc (d_in, d_sae)
//! a   = σ(pre)                             few are not 0
//! x̂   = a W_dec + b_dec                    W_dec (d_sae, d_in), rows of length 1 while it learns
//!
//! standard   σ = relu; loss ‖x̂ - x‖² + λ Σ a                            (L1)
//! topk       the k largest of each vector (Gao et al. 2024)
//! batchtopk  the k N largest of N vectors (Bussmann et al. 2024); used as jumprelu with the mean smallest of them
//! jumprelu   a = pre where pre > θ (Rajamanoharan et al. 2024); loss + λ Σ [pre > θ], θ learnt through a window
//! ```
//!
//! Files are SAELens's: `cfg.json` ([`config`]) and `sae_weights.safetensors` ([`autoencoder::Sae::tensors`]).

/// Encode, decode, tensors by name.
pub mod autoencoder;
/// Sizes, and SAELens's `cfg.json`.
pub mod config;
/// How good it is, alone and spliced into its model.
pub mod evaluate;
mod gradient;
#[cfg(test)]
mod tests;
/// From vectors, batch by batch.
pub mod train;
