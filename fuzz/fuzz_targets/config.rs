//! The two configuration files of a checkpoint.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pellucid::checkpoint::{GenerationConfig, names::parse_config};

fuzz_target!(|text: &str| {
    if let Ok((_, config)) = parse_config(text, "fuzz") {
        config.validate().expect("what is accepted is valid");
    }
    if let Ok(generation) = GenerationConfig::from_json(text, "fuzz") {
        let again = GenerationConfig::from_json(&generation.to_json(), "fuzz").unwrap();
        assert_eq!(again, generation);
    }
});
