//! Which sines a table of positions holds.

use super::file::ModelFile;
use super::{SIDES, fault};
use crate::error::Result;
use crate::model::config::{Config, Positions};

/// How far a table may be from its formula; rounding to f32 is 1e-7, and a wrong formula is 0.1.
const CLOSE: f64 = 1e-5;
/// Formulas that are known, and positions with which tables begin.
const KNOWN: [Positions; 3] =
    [Positions::Sinusoidal, Positions::SinusoidalHalved, Positions::SinusoidalTensor2tensor];
const OFFSETS: std::ops::Range<usize> = 0..3;

/// The name of a side's table.
pub(super) fn table_name(side: usize) -> String {
    format!("{}/position_encodings/encodings", SIDES[side])
}

/// Says how the model tells positions apart. Where there is no table CTranslate2 computes tensor2tensor's sines from
/// position 1 on. A table of sines that we compute as well is not kept; any other is taken for learned.
pub(super) fn recognise(file: &ModelFile<'_>, config: Config) -> Result<Config> {
    let names = [table_name(0), table_name(1)];
    let width = config.width;
    if names.iter().all(|name| file.find(name).is_none()) {
        let positions = Positions::SinusoidalTensor2tensor;
        return Ok(Config { positions, position_offset: 1, ..config });
    }
    let (mut rows, mut tables) = (usize::MAX, vec![]);
    for name in names {
        let values = file.values(&name)?;
        let shape = file.find(&name).map(|v| v.shape.clone()).unwrap_or_default();
        if shape.len() != 2 || shape[1] != width || shape[0] == 0 {
            let message = format!("{name} is of shape {shape:?}, but it has rows of C = {width}");
            return Err(fault(message));
        }
        rows = rows.min(shape[0]);
        tables.push(values);
    }
    let fits = |&(kind, offset): &(Positions, usize)| {
        tables.iter().all(|table| {
            table.chunks_exact(width).enumerate().all(|(row, values)| {
                let far = |(i, &x): (usize, &f32)| {
                    (f64::from(x) - wave(kind, row + offset, (i, width))).abs()
                };
                values.iter().enumerate().all(|value| far(value) <= CLOSE)
            })
        })
    };
    let pairs = OFFSETS.flat_map(|offset| KNOWN.map(|kind| (kind, offset)));
    let (positions, position_offset) = match pairs.into_iter().find(fits) {
        Some(found) if width.is_multiple_of(2) => found,
        _ => (Positions::Learned, 0),
    };
    Ok(Config { positions, position_offset, context: rows, ..config })
}

/// Column `i` of `c` at a position.
fn wave(kind: Positions, position: usize, (i, c): (usize, usize)) -> f64 {
    let half = c / 2;
    let (pair, cosine) = match kind {
        Positions::Sinusoidal => (i / 2, i % 2 == 1),
        _ => (i % half.max(1), i >= half),
    };
    let steps = match kind {
        Positions::SinusoidalTensor2tensor => (half as f64 - 1.0).max(1.0),
        _ => c as f64 / 2.0,
    };
    let angle = position as f64 / 10_000f64.powf(pair as f64 / steps);
    if cosine { angle.cos() } else { angle.sin() }
}
