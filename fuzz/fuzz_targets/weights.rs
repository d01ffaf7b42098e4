//! Weights in safetensors and in llama2.c's format.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pellucid::checkpoint::{TensorFile, import_llama2c::read_llama2c, load};
use std::path::Path;

const CONFIG: &str = r#"{"model_type":"llama","vocab_size":3,"max_position_embeddings":4,"hidden_size":4,
"num_attention_heads":2,"num_hidden_layers":1,"intermediate_size":3,"tie_word_embeddings":true}"#;

fuzz_target!(|data: &[u8]| {
    if let Ok(file) = TensorFile::from_bytes(data.to_vec(), "fuzz") {
        for name in file.names() {
            let _ = file.read(name);
        }
    }
    let _ = read_llama2c(data, data.len() as u64, Path::new("fuzz"));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), CONFIG).unwrap();
    std::fs::write(folder.path().join("model.safetensors"), data).unwrap();
    let _ = load(folder.path());
});
