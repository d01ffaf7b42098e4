//! The optimizer's moments to a file and back.

use super::clip::demand_finite;
use super::optimizer::AdamW;
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::model::weights::ParamSpec;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::path::Path;

/// Writes `m.<parameter>` and `v.<parameter>` of every parameter that moves.
pub(super) fn save(path: &Path, specs: &[ParamSpec], optimizer: &AdamW) -> Result<()> {
    let (m, v) = optimizer.moments();
    demand_finite("first moment", m, specs)?;
    demand_finite("second moment", v, specs)?;
    let mut views = Vec::new();
    for index in optimizer.trainable() {
        let spec = &specs[index];
        for (letter, flat) in [("m", m), ("v", v)] {
            let bytes = bytemuck::cast_slice(&flat[spec.range()]);
            let view = TensorView::new(Dtype::F32, spec.shape.clone(), bytes);
            let view = view.map_err(|e| Error::new(Kind::Format, "train", e.to_string()))?;
            views.push((format!("{letter}.{}", spec.name), view));
        }
    }
    let bytes = safetensors::serialize(views, None)
        .map_err(|e| Error::new(Kind::Format, "train", e.to_string()))?;
    files::replace("train", path, |w| w.write_all(&bytes))
}

/// Reads them back. With `thawed`, parameters that were frozen before start from zero moments.
pub(super) fn load(
    path: &Path,
    specs: &[ParamSpec],
    optimizer: &mut AdamW,
    thawed: bool,
) -> Result<()> {
    let bytes = files::read("train", path)?;
    let bad = |why: String| Error::new(Kind::Format, "train", format!("{}: {why}", path.display()));
    let file = SafeTensors::deserialize(&bytes).map_err(|e| bad(e.to_string()))?;
    for index in optimizer.trainable() {
        let spec = &specs[index];
        let (m, v) = optimizer.moments_mut();
        for (letter, flat) in [("m", m), ("v", v)] {
            let name = format!("{letter}.{}", spec.name);
            let view = match file.tensor(&name) {
                Ok(view) => view,
                Err(_) if thawed => continue,
                Err(_) => return Err(bad(format!("{name} is missing"))),
            };
            if view.dtype() != Dtype::F32 || view.shape() != spec.shape {
                return Err(bad(format!("{name} is {:?} {:?}", view.shape(), view.dtype()))
                    .fact(format!("the parameter is {:?} in f32", spec.shape)));
            }
            bytemuck::cast_slice_mut(&mut flat[spec.range()]).copy_from_slice(view.data());
        }
    }
    Ok(())
}
