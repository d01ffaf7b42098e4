//! Tensors of files to the one flat buffer of the weights.

use super::folder::LOAD;
use super::generation::fault;
use super::names::{Family, Piece, Place};
use super::safetensors::{StoredType, TensorFile, shape_text};
use crate::backend::settings::Settings;
use crate::error::{Error, Result};
use crate::model::config::Config;
use crate::model::weights::Weights;
use std::collections::HashMap;
use std::panic::resume_unwind;
use std::sync::{Mutex, PoisonError};
use std::thread::ScopedJoinHandle;

/// Most faults printed.
const MOST_FAULTS: usize = 24;
/// Most elements that are read as one part.
const PART: usize = 1 << 20;
/// Fewest elements that are worth more threads.
const ENOUGH: usize = 1 << 20;

/// A piece of our weights, the file that holds it, and its name there.
pub(super) type Match<'f> = (Piece, &'f TensorFile, &'f str);

/// The weights of `config` from safetensors files that use `family`'s names.
pub(crate) fn assemble(
    config: &Config,
    family: Family,
    files: &[TensorFile],
) -> Result<(Weights, StoredType)> {
    let plan = matched(config, family, files)?;
    let mut weights = Weights::zeros(config);
    let stored = plan.first().map_or(Ok(StoredType::F32), |(_, file, name)| file.stored(name))?;
    read_all(&plan, &mut weights)?;
    plan.iter().try_for_each(|one| compare(one, &weights))?;
    Ok((weights, stored))
}

/// Every piece that the files hold; an error lists all that does not fit.
pub(super) fn matched<'f>(
    config: &Config,
    family: Family,
    files: &'f [TensorFile],
) -> Result<Vec<Match<'f>>> {
    plausible(config, files)?;
    let pieces = family.pieces(config);
    let mut found: HashMap<String, (&TensorFile, &str)> = HashMap::new();
    let mut faults = Vec::new();
    for file in files {
        for name in file.names() {
            if found.insert(family.canonical(name), (file, name)).is_some() {
                faults.push(format!("twice: {name}"));
            }
        }
    }
    let mut plan = Vec::with_capacity(pieces.len());
    for piece in pieces {
        match found.remove(&piece.name) {
            None if matches!(piece.place, Place::Alias(_)) => {}
            None => faults.push(format!("missing: {} {}", piece.name, shape_text(&piece.shape))),
            Some((file, name)) => match check(&piece, file, name) {
                Ok(()) => plan.push((piece, file, name)),
                Err(fault) => faults.push(fault),
            },
        }
    }
    let mut extra: Vec<_> = found.into_iter().filter(|(name, _)| !family.ignores(name)).collect();
    extra.sort_by(|a, b| a.0.cmp(&b.0));
    faults.extend(extra.into_iter().map(|(_, (_, name))| format!("unexpected: {name}")));
    if !faults.is_empty() {
        return Err(mismatch(files, &faults));
    }
    Ok(plan)
}

/// Reads one piece into `weights`, which have its parameter.
pub(super) fn read_piece(one: &Match<'_>, weights: &mut Weights) -> Result<()> {
    read_all(std::slice::from_ref(one), weights)?;
    compare(one, weights)
}

fn check(piece: &Piece, file: &TensorFile, name: &str) -> Result<(), String> {
    let shape = file.shape(name).map_err(|e| e.to_string())?;
    if shape != piece.shape {
        let (found, expected) = (shape_text(shape), shape_text(&piece.shape));
        return Err(format!("wrong shape: {name} is {found}, but config.json says {expected}"));
    }
    file.stored(name).map(drop).map_err(|e| format!("wrong type: {e}"))
}

pub(super) fn mismatch(files: &[TensorFile], faults: &[String]) -> Error {
    let count = faults.len();
    let path = files.first().map_or_else(String::new, |f| f.path().display().to_string());
    let plural = if count == 1 { " does" } else { "s do" };
    let mut error = fault(LOAD, format!("{path}: {count} tensor{plural} not fit config.json"));
    for fault in faults.iter().take(MOST_FAULTS) {
        error = error.fact(fault);
    }
    if count > MOST_FAULTS {
        error = error.fact(format!("and {} more", count - MOST_FAULTS));
    }
    let embedding = faults
        .iter()
        .any(|f| f.starts_with("wrong shape") && (f.contains("wte") || f.contains("embed_tokens")));
    error.hint(if embedding {
        "if tokens were added, set vocab_size to the embedding's rows"
    } else {
        "config.json and the weights must come from one model"
    })
}

/// Refuses a config that asks for far more than the files hold, before any memory is asked for.
pub(super) fn plausible(config: &Config, files: &[TensorFile]) -> Result<()> {
    let held: u128 = files.iter().map(TensorFile::elements).sum();
    let tensors: usize = files.iter().map(|f| f.names().count()).sum();
    let n = |size: usize| size as u128;
    let (c, f, v) = (n(config.width), n(config.hidden), n(config.vocab));
    let (queries, keys) =
        (n(config.heads) * n(config.head_width), n(config.kv_heads) * n(config.head_width));
    let up = if config.gated { 2 } else { 1 };
    // Every factor is below 2^31, so no product of three overflows.
    let block = (2 * queries + 2 * keys) * c + (up + 1) * f * c;
    let wanted = block.saturating_mul(n(config.layers)).saturating_add(v * c);
    if wanted > 4 * held + (1 << 20) || config.layers > tensors + 16 {
        let message = format!("config.json speaks of {wanted} weights in {} blocks", config.layers);
        return Err(fault(LOAD, message)
            .fact(format!("the files hold {held} in {tensors} tensors"))
            .hint("config.json and the weights must come from one model; or the file is damaged"));
    }
    Ok(())
}

/// Reads every piece into its place, large ones by several threads: each reads and transposes parts of its own.
fn read_all(plan: &[Match<'_>], weights: &mut Weights) -> Result<()> {
    let mut places = Vec::with_capacity(plan.len());
    for planned in plan {
        let (ours, rows) = match &planned.0.place {
            Place::Rows(ours, rows) => (ours, Some(rows)),
            Place::Transposed(ours) => (ours, None),
            Place::Zeros | Place::Alias(_) => continue,
        };
        let range = weights.specs()[weights.index(ours)?].range();
        let columns: usize = planned.0.shape[1..].iter().product();
        let range = match rows {
            None => range,
            Some(r) => range.start + r.start * columns..range.start + r.end * columns,
        };
        places.push((range, planned, rows.is_none()));
    }
    places.sort_by_key(|(range, ..)| range.start);
    let (mut rest, mut at, mut parts) = (weights.data_mut(), 0, Vec::new());
    for (range, (piece, file, name), transposed) in places {
        if range.start < at || range.end - at > rest.len() {
            return Err(fault(LOAD, format!("{name}: its place is taken twice")));
        }
        let (_, from) = std::mem::take(&mut rest).split_at_mut(range.start - at);
        let (own, after) = from.split_at_mut(range.len());
        (rest, at) = (after, range.end);
        if transposed {
            let shape = (piece.shape[0], piece.shape[1..].iter().product());
            parts.push(Part { file, name, start: 0, transposed: Some(shape), to: own });
            continue;
        }
        for (i, to) in own.chunks_mut(PART).enumerate() {
            parts.push(Part { file, name, start: i * PART, transposed: None, to });
        }
    }
    // The largest first, so that the threads end together.
    parts.sort_by_key(|part| std::cmp::Reverse(part.to.len()));
    let elements: usize = parts.iter().map(|part| part.to.len()).sum();
    let threads = if elements < ENOUGH { 1 } else { threads().min(parts.len()) };
    let queue = Mutex::new(parts.into_iter());
    let work = || {
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        while let Some(part) = next() {
            part.read()?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let own = work();
        let join = |thread: ScopedJoinHandle<'_, Result<()>>| {
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        };
        // Every thread is waited for; the first error is told.
        others.into_iter().map(join).fold(own, Result::and)
    })
}

/// `PELLUCID_THREADS`, or all cores; more than a few only wait for memory.
fn threads() -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Settings::get().threads.unwrap_or_else(cores).min(8)
}

/// Some elements of a tensor and where they go.
struct Part<'a> {
    file: &'a TensorFile,
    name: &'a str,
    /// The first element.
    start: usize,
    /// Rows and columns in the file, if they are to be exchanged.
    transposed: Option<(usize, usize)>,
    to: &'a mut [f32],
}

impl Part<'_> {
    fn read(self) -> Result<()> {
        let Self { file, name, start, transposed, to } = self;
        let Some((wide, columns)) = transposed else { return file.read_part(name, start, to) };
        // (c, r) in the file becomes (r, c): sixteen of its rows fill one cache line of ours.
        const ROWS: usize = 16;
        file.for_pieces(name, ROWS * columns, |start, elements| {
            for (i, block) in elements.chunks(ROWS * columns).enumerate() {
                let first = start / columns + i * ROWS;
                let rows = block.len() / columns;
                for r in 0..columns {
                    let to = &mut to[r * wide + first..][..rows];
                    for (j, to) in to.iter_mut().enumerate() {
                        *to = block[j * columns + r];
                    }
                }
            }
            Ok(())
        })
    }
}

/// Whether a tensor that has no place of its own says what it must.
fn compare((piece, file, name): &Match<'_>, weights: &Weights) -> Result<()> {
    match &piece.place {
        Place::Rows(..) | Place::Transposed(_) => Ok(()),
        Place::Zeros => file.for_pieces(name, 1, |start, elements| {
            match elements.iter().position(|&x| x != 0.0) {
                None => Ok(()),
                Some(i) => Err(fault(
                    LOAD,
                    format!("{name}[{}] = {}, but config.json says there is no bias", start + i, elements[i]),
                )
                .hint("the model was trained elsewhere: set bias and norm_bias under \"pellucid\" to true")),
            }
        }),
        Place::Alias(ours) => {
            let values = weights.get(ours)?;
            file.for_pieces(name, 1, |start, elements| {
                let own = &values[start..start + elements.len()];
                if own.iter().zip(elements).all(|(a, b)| a.to_bits() == b.to_bits()) {
                    return Ok(());
                }
                Err(fault(LOAD, format!("{name} differs from the token embedding it is tied to"))
                    .hint("set tie_word_embeddings to false, in \"pellucid\" tied_head as well"))
            })
        }
    }
}
