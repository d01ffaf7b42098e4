//! Weights in the first format of llama2.c (Karpathy 2023): `dim, hidden, layers, heads, kv_heads, vocab, seq` as
//! seven little-endian i32, then f32 tensors in a fixed order, the layers of each kind together. A negative `vocab`
//! says that the head has weights of its own.
//!
//! That format rotates neighbouring pairs of a head, `(2i, 2i + 1)`; our `rotary`, as `transformers`, pairs
//! `(i, i + D/2)`. Scores are sums over pairs, so moving rows `2i` and `2i + 1` of each query and key head to `i` and
//! `i + D/2` leaves the model the same.

use super::generation::fault;
use crate::error::{Error, Result};
use crate::model::config::Config;
use crate::model::weights::Weights;
use std::io::{BufReader, Read};
use std::path::Path;

const OPERATION: &str = "import llama2.c";
const HEADER: u64 = 28;

/// Reads a `.bin` file of version 0. Norm ε is 1e-5 and the rotary base 10000, as llama2.c has them fixed.
///
/// # Errors
/// A header whose sizes contradict each other or the file's length; the disk.
pub fn import_llama2c(path: &Path) -> Result<(Config, Weights)> {
    let file = crate::files::open(OPERATION, path)?;
    let len = file.metadata().map_err(|e| Error::io(OPERATION, path, e))?.len();
    read_llama2c(BufReader::with_capacity(1 << 20, file), len, path)
}

/// As [`import_llama2c`], from any reader of `len` bytes; `path` is for messages.
///
/// # Errors
/// As [`import_llama2c`].
pub fn read_llama2c(mut reader: impl Read, len: u64, path: &Path) -> Result<(Config, Weights)> {
    let io = |e| Error::io(OPERATION, path, e);
    let broken = |what: String| fault(OPERATION, format!("{}: {what}", path.display()));
    if len < HEADER {
        return Err(broken(format!("{len} bytes cannot hold the header of {HEADER}")));
    }
    let mut header = [0; HEADER as usize];
    reader.read_exact(&mut header).map_err(io)?;
    if header.starts_with(b"ak42") || header.starts_with(b"24ka") {
        return Err(broken("a later version of the format".into())
            .hint("export the model again with version 0"));
    }
    let config = read_header(&header).map_err(|e| e.fact(format!("in {}", path.display())))?;
    let wanted = file_length(&config);
    if u128::from(len) != wanted {
        let sizes: Vec<i32> = ints(&header).collect();
        return Err(broken(format!("{len} bytes, but the header {sizes:?} promises {wanted}"))
            .hint("it is truncated, or not in llama2.c's version 0"));
    }
    let mut weights = Weights::zeros(&config);
    fill(&mut reader, &config, &mut weights)?.map_err(io)?;
    Ok((config, weights))
}

fn ints(header: &[u8]) -> impl Iterator<Item = i32> {
    header.as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b))
}

fn read_header(header: &[u8]) -> Result<Config> {
    let mut sizes = ints(header).map(|n| i64::from(n).unsigned_abs() as usize);
    let mut next = || sizes.next().unwrap_or(0);
    let (width, hidden, layers, heads) = (next(), next(), next(), next());
    let (kv_heads, vocab, context) = (next(), next(), next());
    let negative = ints(header).enumerate().any(|(i, n)| n < 0 && i != 5);
    if negative || heads == 0 || !width.is_multiple_of(heads) {
        let sizes: Vec<i32> = ints(header).collect();
        return Err(fault(OPERATION, format!("the header {sizes:?} holds no model"))
            .fact("expected: dim, hidden, layers, heads, kv_heads, vocab, seq; heads divides dim")
            .hint("it may be in another format"));
    }
    let config = Config {
        vocab,
        context,
        layers,
        width,
        heads,
        kv_heads,
        head_width: width / heads,
        hidden,
        tied_head: ints(header).nth(5) > Some(0),
        ..Config::llama()
    };
    config.validate()?;
    Ok(config)
}

/// Bytes of a whole file.
fn file_length(config: &Config) -> u128 {
    let n = |size: usize| size as u128;
    let (c, f, v, l) = (n(config.width), n(config.hidden), n(config.vocab), n(config.layers));
    let keys = n(config.kv_heads) * n(config.head_width);
    let block = 2 * c + 2 * c * c + 2 * keys * c + 3 * f * c;
    let rotary = n(config.context) * n(config.head_width / 2) * 2;
    let heads = if config.tied_head { 1 } else { 2 };
    // Sizes below 2^31 each: at most 2^65 per block, 2^96 in all.
    u128::from(HEADER) + 4 * (heads * v * c + l * block + c + rotary)
}

/// Tensors in the file's order: outer errors are ours, inner ones the reader's.
fn fill(
    reader: &mut impl Read,
    config: &Config,
    weights: &mut Weights,
) -> Result<std::io::Result<()>> {
    let (c, f, d) = (config.width, config.hidden, config.head_width);
    let (queries, keys) = (config.heads * d, config.kv_heads * d);
    let mut run = |name: String, rows: std::ops::Range<usize>, columns: usize, turn: bool| {
        let values = &mut weights.get_mut(&name)?[rows.start * columns..rows.end * columns];
        if let Err(e) = read_floats(reader, values) {
            return Ok(Err(e));
        }
        if turn {
            values.chunks_exact_mut(d * columns).for_each(|head| halves(head, d, columns));
        }
        Result::Ok(Ok(()))
    };
    let mut plan = vec![("embedding.token", false, 0..config.vocab, c, false)];
    plan.extend([
        ("attn.norm.weight", true, 0..c, 1, false),
        ("attn.qkv.weight", true, 0..queries, c, true),
        ("attn.qkv.weight", true, queries..queries + keys, c, true),
        ("attn.qkv.weight", true, queries + keys..queries + 2 * keys, c, false),
        ("attn.out.weight", true, 0..c, queries, false),
        ("mlp.norm.weight", true, 0..c, 1, false),
        ("mlp.in.weight", true, 0..f, c, false),
        ("mlp.out.weight", true, 0..c, f, false),
        ("mlp.in.weight", true, f..2 * f, c, false),
        ("norm.weight", false, 0..c, 1, false),
    ]);
    for (name, in_block, rows, columns, turn) in plan {
        for i in 0..if in_block { config.layers } else { 1 } {
            let name = if in_block { format!("blocks.{i}.{name}") } else { name.to_owned() };
            if let Err(e) = run(name, rows.clone(), columns, turn)? {
                return Ok(Err(e));
            }
        }
    }
    if config.tied_head {
        return Ok(Ok(()));
    }
    // Between lie tables of cosines and sines.
    let tables = (config.context * (d / 2) * 8) as u64;
    if let Err(e) = std::io::copy(&mut reader.by_ref().take(tables), &mut std::io::sink()) {
        return Ok(Err(e));
    }
    Ok(read_floats(reader, weights.get_mut("head.weight")?))
}

fn read_floats(reader: &mut impl Read, values: &mut [f32]) -> std::io::Result<()> {
    let mut bytes = [0; 16 * 1024];
    for piece in values.chunks_mut(bytes.len() / 4) {
        let bytes = &mut bytes[..4 * piece.len()];
        reader.read_exact(bytes)?;
        for (x, b) in piece.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *x = f32::from_le_bytes(*b);
        }
    }
    Ok(())
}

/// Rows `2i`, `2i + 1` of a head (D, columns) become rows `i`, `i + D/2`.
pub(super) fn halves(head: &mut [f32], d: usize, columns: usize) {
    let old = head.to_vec();
    for (row, values) in old.chunks_exact(columns).enumerate() {
        let to = row / 2 + (row % 2) * (d / 2);
        head[to * columns..(to + 1) * columns].copy_from_slice(values);
    }
}

#[cfg(test)]
#[allow(clippy::print_stderr)] // A skipped test says so.
pub(crate) mod tests {
    use super::*;

    /// A file of version 0 whose n-th weight is n.
    pub(crate) fn file(config: &Config) -> Vec<u8> {
        let vocab = config.vocab as i32 * if config.tied_head { 1 } else { -1 };
        let n = |size: usize| size as i32;
        let sizes = [
            n(config.heads * config.head_width),
            n(config.hidden),
            n(config.layers),
            n(config.heads),
            n(config.kv_heads),
            vocab,
            n(config.context),
        ];
        let mut bytes: Vec<u8> = sizes.iter().flat_map(|n| n.to_le_bytes()).collect();
        let width = config.heads * config.head_width;
        let len = file_length(&Config { width, ..config.clone() }) as usize;
        let floats = (len - bytes.len()) / 4;
        bytes.extend((0..floats).flat_map(|i| (i as f32).to_le_bytes()));
        bytes
    }

    fn small(tied_head: bool) -> Config {
        Config {
            vocab: 5,
            context: 3,
            layers: 2,
            width: 8,
            heads: 2,
            kv_heads: 1,
            head_width: 4,
            hidden: 6,
            tied_head,
            ..Config::llama()
        }
    }

    #[test]
    fn every_weight_finds_its_place() {
        for tied in [true, false] {
            let config = small(tied);
            let bytes = file(&config);
            let (found, weights) =
                read_llama2c(&bytes[..], bytes.len() as u64, Path::new("x")).unwrap();
            assert_eq!(found, config);
            let at = |name: &str, i: usize| weights.get(name).unwrap()[i] as usize;
            assert_eq!(at("embedding.token", 39), 39);
            assert_eq!(at("blocks.0.attn.norm.weight", 0), 40);
            assert_eq!(at("blocks.1.attn.norm.weight", 7), 55);
            // Queries of block 0 start at 56: rows 0, 2, 1, 3 of head 0, then of head 1.
            for (row, from) in [0, 2, 1, 3, 4, 6, 5, 7].into_iter().enumerate() {
                assert_eq!(at("blocks.0.attn.qkv.weight", row * 8 + 3), 56 + from * 8 + 3);
            }
            // Keys of both blocks follow the queries of both; values are not turned.
            let keys = 56 + 2 * 64;
            for (row, from) in [0, 2, 1, 3].into_iter().enumerate() {
                assert_eq!(at("blocks.1.attn.qkv.weight", (8 + row) * 8), keys + 32 + from * 8);
                assert_eq!(at("blocks.1.attn.qkv.weight", (12 + row) * 8), keys + 96 + row * 8);
            }
            let out = keys + 128;
            assert_eq!(at("blocks.0.attn.out.weight", 0), out);
            let gate = out + 128 + 16;
            assert_eq!(at("blocks.1.mlp.in.weight", 0), gate + 48);
            assert_eq!(at("blocks.0.mlp.out.weight", 0), gate + 96);
            assert_eq!(at("blocks.0.mlp.in.weight", 48), gate + 192);
            assert_eq!(at("norm.weight", 7), gate + 288 + 7);
            if !tied {
                assert_eq!(at("head.weight", 0), gate + 288 + 8 + 3 * 4);
                assert_eq!(at("head.weight", 39), bytes.len() / 4 - 7 - 1);
            }
        }
    }

    #[test]
    fn wrong_files_are_refused() {
        let bytes = file(&small(true));
        let read =
            |b: &[u8]| read_llama2c(b, b.len() as u64, Path::new("x.bin")).unwrap_err().to_string();
        assert!(read(&bytes[..20]).contains("x.bin: 20 bytes cannot hold the header"));
        assert!(read(&bytes[..bytes.len() - 4]).contains("promises"));
        assert!(read(&[&b"ak42"[..], &bytes].concat()).contains("later version"));
        let with = |i: usize, n: i32| {
            let mut b = bytes.clone();
            b[4 * i..4 * i + 4].copy_from_slice(&n.to_le_bytes());
            read(&b)
        };
        assert!(with(3, 0).contains("holds no model"));
        assert!(with(2, -1).contains("holds no model"));
        assert!(with(4, 3).contains("does not divide"));
        assert!(with(0, 1 << 30).contains("promises"));
        assert!(with(5, i32::MIN).contains("vocab"));
    }

    /// Writes the folder that `tests/golden/check_transformers.py` compares with the reference logits.
    #[test]
    fn stories260k_becomes_a_llama() {
        let file = "shared/data/stories260K/stories260K.repaired.bin";
        let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|p| p.join(file));
        let Some(path) = above.into_iter().find(|p| p.exists()) else {
            // Past the test harness, which hides what passing tests print.
            let _ = std::io::Write::write_fmt(
                &mut std::io::stderr(),
                format_args!("SKIPPED: no {file} beside the repository\n"),
            );
            return;
        };
        let (config, weights) = import_llama2c(&path).unwrap();
        assert_eq!((config.layers, config.kv_heads, config.vocab), (5, 4, 512));
        assert_eq!(super::super::Family::of(&config), super::super::Family::Llama);
        let temporary = tempfile::tempdir().unwrap();
        let folder = match std::env::var_os("PELLUCID_TEST_KEEP") {
            Some(folder) => folder.into(),
            None => temporary.path().to_path_buf(),
        };
        let generation = super::super::GenerationConfig { bos: Some(1), ..Default::default() };
        let stored = super::super::StoredType::F32;
        super::super::save(&folder, &config, &weights, None, &generation, stored).unwrap();
        let back = super::super::load(&folder).unwrap();
        assert_eq!((back.config, back.weights.data()), (config, weights.data()));
    }
}
