//! The optimizer's moments to a file and back.

use super::clip::demand_finite;
use super::optimizer::AdamW;
use crate::checkpoint::{load_tensors, save_tensors};
use crate::error::{Error, Kind, Result};
use crate::model::weights::ParamSpec;
use std::collections::BTreeMap;
use std::path::Path;

/// Writes `m.<parameter>` and `v.<parameter>` of every parameter that moves.
pub(super) fn save(path: &Path, specs: &[ParamSpec], optimizer: &AdamW) -> Result<()> {
    let (m, v) = optimizer.moments();
    demand_finite("first moment", m, specs)?;
    demand_finite("second moment", v, specs)?;
    let mut named = Vec::new();
    for index in optimizer.trainable() {
        let spec = &specs[index];
        for (letter, flat) in [("m", m), ("v", v)] {
            named.push((format!("{letter}.{}", spec.name), &spec.shape[..], &flat[spec.range()]));
        }
    }
    let tensors: Vec<_> =
        named.iter().map(|(name, shape, x)| (name.as_str(), *shape, *x)).collect();
    save_tensors(path, &tensors, &BTreeMap::new())
}

/// Reads them back. With `thawed`, parameters that were frozen before start from zero moments.
pub(super) fn load(
    path: &Path,
    specs: &[ParamSpec],
    optimizer: &mut AdamW,
    thawed: bool,
) -> Result<()> {
    let file = load_tensors(path)?;
    for index in optimizer.trainable() {
        let spec = &specs[index];
        let (m, v) = optimizer.moments_mut();
        for (letter, flat) in [("m", m), ("v", v)] {
            let name = format!("{letter}.{}", spec.name);
            if thawed && !file.names().any(|n| n == name) {
                continue;
            }
            let shape = file.shape(&name)?;
            if shape != spec.shape {
                let message = format!("{}: {name} is {shape:?}", path.display());
                return Err(Error::new(Kind::Format, "train", message)
                    .fact(format!("the parameter is {:?}", spec.shape)));
            }
            file.read_into(&name, &mut flat[spec.range()])?;
        }
    }
    Ok(())
}
