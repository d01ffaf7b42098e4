//! A token shard.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pellucid::data::Shard;

fuzz_target!(|data: &[u8]| {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fuzz.tokens");
    std::fs::write(&path, data).unwrap();
    let Ok(shard) = Shard::open(&path) else { return };
    let mut ids = [0; 7];
    for start in [0, 1, shard.len().saturating_sub(7), shard.len(), u64::MAX] {
        let _ = shard.read(start, &mut ids);
    }
    let _ = shard.verify();
});
