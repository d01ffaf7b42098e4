//! The mean of a run's last checkpoints (Vaswani et al. 2017, section 6.1): steadier than any one of them.

use super::resume::{Store, checkpoints};
use crate::error::{Error, Kind, Result};
use crate::model::weights::Weights;
use std::path::{Path, PathBuf};

/// Name of the folder inside the run's.
pub const FOLDER: &str = "average";

/// Writes the mean of the last `count` checkpoints of a run's folder into its folder `average`; `weights` lends the
/// memory and holds the mean afterwards.
///
/// # Errors
/// Fewer checkpoints; the disk.
pub fn average(
    run: &Path,
    count: usize,
    store: &dyn Store,
    weights: &mut Weights,
) -> Result<PathBuf> {
    let all = checkpoints(run)?;
    if count == 0 || all.len() < count {
        let message = format!("{} checkpoints to average, but {} are there", count, all.len());
        return Err(Error::new(Kind::Config, "average", message)
            .hint("lower checkpoint.average, or save more often: checkpoint.every"));
    }
    let mut sum = vec![0.0f64; weights.data().len()];
    for folder in &all[all.len() - count..] {
        store.load(folder, weights)?;
        sum.iter_mut().zip(weights.data()).for_each(|(sum, &x)| *sum += f64::from(x));
    }
    let mean = sum.iter().map(|sum| (sum / count as f64) as f32);
    weights.data_mut().iter_mut().zip(mean).for_each(|(to, x)| *to = x);
    let folder = run.join(FOLDER);
    store.save(&folder, weights)?;
    Ok(folder)
}
