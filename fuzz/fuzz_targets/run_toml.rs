//! A run's TOML.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pellucid::train::run::RunConfig;

fuzz_target!(|text: &str| {
    if let Ok(run) = RunConfig::from_toml(text, "fuzz") {
        let again = RunConfig::from_toml(&run.to_toml(), "fuzz").unwrap();
        assert_eq!(again.to_toml(), run.to_toml());
    }
});
