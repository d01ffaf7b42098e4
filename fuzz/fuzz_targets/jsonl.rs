//! A corpus of JSON lines.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pellucid::data::{Corpus, CorpusOptions};

fuzz_target!(|data: &[u8]| {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fuzz.jsonl");
    std::fs::write(&path, data).unwrap();
    let Ok(corpus) = Corpus::open(&[&path], CorpusOptions::default()) else { return };
    // An iterator may go on after an error, but not for more items than there are bytes.
    let items = corpus.texts().take(data.len() + 2).count();
    assert!(items <= data.len() + 1);
    let _ = corpus.statistics();
});
