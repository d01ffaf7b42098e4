//! How to sample and where to stop, in the words of Hugging Face's `generation_config.json`.

use crate::error::{Error, Kind, Result};
use serde_json::{Map, Value, json};

/// Defaults for generation that travel with a model. Keys this library does not use are ignored on reading.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerationConfig {
    /// Logits are divided by it; 0 takes the most probable token (`do_sample: false`).
    pub temperature: f32,
    /// Only the `k` most probable tokens; 0 keeps all.
    pub top_k: usize,
    /// Only the smallest set of tokens whose probabilities reach `p`; 1 keeps all.
    pub top_p: f32,
    /// Only tokens at least this fraction as probable as the best; 0 keeps all.
    pub min_p: f32,
    /// Logits of tokens already there are divided by it if positive, multiplied if negative; 1 does nothing.
    pub repetition_penalty: f32,
    /// The most tokens to add.
    pub max_new_tokens: Option<usize>,
    /// The token that starts a text.
    pub bos: Option<u32>,
    /// The tokens that end a text.
    pub eos: Vec<u32>,
    /// The token that fills unused places.
    pub pad: Option<u32>,
    /// The token with which a decoder that has an encoder starts.
    pub decoder_start: Option<u32>,
    /// The first new token, whatever the model says.
    pub forced_first: Option<u32>,
    /// The last token of a text that is as long as it may be.
    pub forced_last: Option<u32>,
    /// Tokens that never come.
    pub banned: Vec<u32>,
    /// Continuations that a beam search runs together.
    pub beams: Option<usize>,
    /// Exponent of the length by which a beam search divides log-probabilities.
    pub length_penalty: f64,
}

impl Default for GenerationConfig {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            max_new_tokens: None,
            bos: None,
            eos: vec![],
            pad: None,
            decoder_start: None,
            forced_first: None,
            forced_last: None,
            banned: vec![],
            beams: None,
            length_penalty: 1.0,
        }
    }
}

impl GenerationConfig {
    /// The text of `generation_config.json`.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut map = Map::new();
        let mut put = |key: &str, value: Value| map.insert(key.into(), value);
        if let Some(bos) = self.bos {
            put("bos_token_id", json!(bos));
        }
        match self.eos[..] {
            [] => {}
            [eos] => drop(put("eos_token_id", json!(eos))),
            _ => drop(put("eos_token_id", json!(self.eos))),
        }
        if let Some(pad) = self.pad {
            put("pad_token_id", json!(pad));
        }
        if let Some(start) = self.decoder_start {
            put("decoder_start_token_id", json!(start));
        }
        if let Some(first) = self.forced_first {
            put("forced_bos_token_id", json!(first));
        }
        if let Some(last) = self.forced_last {
            put("forced_eos_token_id", json!(last));
        }
        if !self.banned.is_empty() {
            put("bad_words_ids", json!(self.banned.iter().map(|id| [id]).collect::<Vec<_>>()));
        }
        if let Some(beams) = self.beams {
            put("num_beams", json!(beams));
            put("length_penalty", json!(self.length_penalty));
        }
        if let Some(most) = self.max_new_tokens {
            put("max_new_tokens", json!(most));
        }
        put("do_sample", json!(self.temperature > 0.0));
        // transformers warns about sampling options next to do_sample: false.
        if self.temperature > 0.0 {
            put("temperature", decimal(self.temperature));
            put("top_k", json!(self.top_k));
            put("top_p", decimal(self.top_p));
            if self.min_p > 0.0 {
                put("min_p", decimal(self.min_p));
            }
        }
        put("repetition_penalty", decimal(self.repetition_penalty));
        format!("{:#}\n", Value::Object(map))
    }

    /// From the text of `generation_config.json`; `name` is for messages. A missing key keeps its default.
    ///
    /// # Errors
    /// Not a JSON object, or keys of the wrong type or range: all are listed.
    pub fn from_json(text: &str, name: &str) -> Result<Self> {
        let mut keys = super::names::Keys::parse(text, name, "load generation config")?;
        let fallback = Self::default();
        let mut config = Self {
            temperature: keys.float("temperature", f64::from(fallback.temperature)) as f32,
            // transformers' own default is 50 when sampling; a file that is silent is read as "all".
            top_k: keys.size_or("top_k", 0),
            top_p: keys.float("top_p", 1.0) as f32,
            min_p: keys.float("min_p", 0.0) as f32,
            repetition_penalty: keys.float("repetition_penalty", 1.0) as f32,
            max_new_tokens: keys.size_opt("max_new_tokens"),
            bos: keys.ids("bos_token_id").first().copied(),
            eos: keys.ids("eos_token_id"),
            pad: keys.ids("pad_token_id").first().copied(),
            decoder_start: keys.ids("decoder_start_token_id").first().copied(),
            forced_first: keys.ids("forced_bos_token_id").first().copied(),
            forced_last: keys.ids("forced_eos_token_id").first().copied(),
            banned: keys.single_words("bad_words_ids"),
            beams: keys.size_opt("num_beams"),
            length_penalty: keys.float("length_penalty", 1.0),
        };
        if !keys.flag("do_sample", true) {
            config.temperature = 0.0;
        }
        for (holds, rule) in [
            (config.temperature >= 0.0, "temperature must be at least 0"),
            (config.top_p > 0.0 && config.top_p <= 1.0, "top_p must be above 0 and at most 1"),
            ((0.0..=1.0).contains(&config.min_p), "min_p must be between 0 and 1"),
            (config.repetition_penalty > 0.0, "repetition_penalty must be above 0"),
        ] {
            if !holds {
                keys.fault(rule);
            }
        }
        keys.finish(Kind::Format, "correct or delete the file")?;
        Ok(config)
    }
}

/// `0.1_f32` as 0.1, not as 0.10000000149011612.
pub(crate) fn decimal(x: f32) -> Value {
    let wide = x.to_string().parse::<f64>().unwrap_or(f64::from(x));
    json!(wide)
}

/// An error of this room about a file's contents.
pub(crate) fn fault(operation: &'static str, message: String) -> Error {
    Error::new(Kind::Format, operation, message)
}
