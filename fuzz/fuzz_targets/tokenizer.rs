//! A `tokenizer.json`, then text and ids through it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pellucid::text::Tokenizer;

fuzz_target!(|text: &str| {
    let Ok(tokenizer) = Tokenizer::from_json(text) else { return };
    if let Ok(ids) = tokenizer.encode(" Hé llo\n") {
        let _ = tokenizer.decode(&ids);
    }
    let _ = tokenizer.decode(&[0, 1, u32::MAX]);
});
