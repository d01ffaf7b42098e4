//! Cosines and sines by position, computed when first needed and shared by all layers.

use crate::error::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use std::f64::consts::TAU;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// Positions computed together.
const BLOCK: usize = 64;

/// How frequencies are changed for contexts longer than those trained on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scaling {
    /// Not at all.
    #[default]
    None,
    /// All frequencies divided by `factor` (Chen et al., "Position Interpolation", 2023).
    Linear {
        /// New context / old context.
        factor: f64,
    },
    /// Low frequencies divided, high ones kept, those between blended (Llama 3.1).
    Llama3 {
        /// New context / old context.
        factor: f64,
        /// Waves longer than `original / low_frequency` are divided by `factor`.
        low_frequency: f64,
        /// Waves shorter than `original / high_frequency` are kept.
        high_frequency: f64,
        /// Positions of the old context.
        original: usize,
    },
}

impl Scaling {
    /// The frequency used instead of `f` (radians per position).
    #[must_use]
    pub fn apply(&self, f: f64) -> f64 {
        match *self {
            Self::None => f,
            Self::Linear { factor } => f / factor,
            Self::Llama3 { factor, low_frequency, high_frequency, original } => {
                let turns = original as f64 * f / TAU; // in the old context
                let keep =
                    ((turns - low_frequency) / (high_frequency - low_frequency)).clamp(0.0, 1.0);
                keep * f + (1.0 - keep) * f / factor
            }
        }
    }

    fn is_valid(&self) -> bool {
        match *self {
            Self::None => true,
            Self::Linear { factor } => factor > 0.0 && factor.is_finite(),
            Self::Llama3 { factor, low_frequency, high_frequency, original } => {
                factor > 0.0 && factor.is_finite() && high_frequency > low_frequency && original > 0
            }
        }
    }
}

/// Cosines and sines, `R` numbers for each position: `R/2` cosines, then `R/2` sines.
pub struct Table {
    rotary: usize,
    theta: f64,
    scaling: Scaling,
    max: usize,
    blocks: Vec<OnceLock<Box<[f32]>>>,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rotary, theta, scaling, max, .. } = self;
        write!(f, "Table {{ rotary: {rotary}, theta: {theta}, scaling: {scaling:?}, max: {max} }}")
    }
}

impl Table {
    /// `rotary` columns of each head are turned (even), with base `theta`, at positions `0..max`.
    /// Costs `4·R` bytes for each position that is used. Errors (`Config`) on values without meaning.
    pub fn new(rotary: usize, theta: f64, scaling: Scaling, max: usize) -> Result<Arc<Self>> {
        let base_is_valid = theta > 0.0 && theta.is_finite();
        let valid = rotary.is_multiple_of(2) && base_is_valid && scaling.is_valid();
        if !valid {
            return Err(Error::new(
                Kind::Config,
                "rotary",
                format!(
                    "{rotary} columns, base {theta}, {scaling:?}; columns must be even, base and factors finite and above 0"
                ),
            ));
        }
        let blocks = (0..max.div_ceil(BLOCK)).map(|_| OnceLock::new()).collect();
        Ok(Arc::new(Self { rotary, theta, scaling, max, blocks }))
    }

    /// Columns of each head that are turned (`R`).
    #[must_use]
    pub fn rotary(&self) -> usize {
        self.rotary
    }

    /// Positions.
    #[must_use]
    pub fn max(&self) -> usize {
        self.max
    }

    /// Cosines and sines of one position below [`Table::max`].
    #[must_use]
    pub fn row(&self, position: usize) -> &[f32] {
        debug_assert!(position < self.max);
        let (block, at) = (position / BLOCK, position % BLOCK * self.rotary);
        &self.blocks[block].get_or_init(|| self.compute(block))[at..at + self.rotary]
    }

    fn compute(&self, block: usize) -> Box<[f32]> {
        let half = self.rotary / 2;
        let mut rows = vec![0.0; BLOCK * self.rotary].into_boxed_slice();
        for i in 0..half {
            let f = self.scaling.apply(self.theta.powf(-2.0 * i as f64 / self.rotary as f64));
            for p in 0..BLOCK {
                let (sin, cos) = ((block * BLOCK + p) as f64 * f).sin_cos();
                rows[p * self.rotary + i] = cos as f32;
                rows[p * self.rotary + half + i] = sin as f32;
            }
        }
        rows
    }
}
