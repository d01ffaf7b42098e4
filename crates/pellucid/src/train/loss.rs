//! Conversions of a mean cross-entropy in nats.

/// `exp(loss)`: among how many equally likely tokens the model hesitates.
#[must_use]
pub fn perplexity(nats: f64) -> f64 {
    nats.exp()
}

/// Bits per token.
#[must_use]
pub fn bits(nats: f64) -> f64 {
    nats / std::f64::consts::LN_2
}

/// Bits per byte of text, comparable across tokenizers: a token stands for `bytes_per_token` bytes on average.
#[must_use]
pub fn bits_per_byte(nats: f64, bytes_per_token: f64) -> f64 {
    bits(nats) / bytes_per_token
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uniform_guess_over_256_bytes_costs_8_bits() {
        let nats = 256f64.ln();
        assert!((perplexity(nats) - 256.0).abs() < 1e-9);
        assert!((bits(nats) - 8.0).abs() < 1e-12);
        assert!((bits_per_byte(nats, 4.0) - 2.0).abs() < 1e-12);
    }
}
