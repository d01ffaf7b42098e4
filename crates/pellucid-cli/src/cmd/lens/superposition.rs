//! `pellucid lens superposition`

use crate::finding::{Finding, FindingArgs};
use clap::Args;
use pellucid::error::Result;
use pellucid::lens::heat_map::HeatMap;
use pellucid::lens::superposition::Toy;
use serde_json::json;

/// Vectors on which the loss is taken.
const JUDGED: usize = 100_000;

#[derive(Debug, Args)]
pub(crate) struct Superposition {
    /// Features
    #[arg(long, default_value_t = 5, value_name = "N")]
    features: usize,
    /// Dimensions in which they must find room
    #[arg(long, default_value_t = 2, value_name = "N")]
    dimensions: usize,
    /// How often a feature is absent, from 0 to below 1
    #[arg(long, default_value_t = 0.95, value_name = "X")]
    sparsity: f64,
    /// How important each feature is, of the one before
    #[arg(long, default_value_t = 1.0, value_name = "X")]
    importance: f64,
    /// Steps of training
    #[arg(long, default_value_t = 4000, value_name = "N")]
    steps: u64,
    /// Of weights and vectors
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    #[command(flatten)]
    output: FindingArgs,
}

impl Superposition {
    pub(crate) fn run(self) -> Result<()> {
        let n = self.features;
        let importance = (0..n as i32).map(|i| self.importance.powi(i)).collect();
        let Self { dimensions, sparsity, steps, seed, .. } = self;
        let toy = Toy { dimensions, importance, sparsity, steps, lr: 0.01, seed };
        let learned = toy.train()?;
        let (loss, norms, room) =
            (learned.loss(&toy, JUDGED), learned.norms(), learned.dimensionality());
        let directions: Vec<Vec<f64>> = (0..n).map(|i| learned.direction(i)).collect();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let products: Vec<f64> =
            directions.iter().flat_map(|a| directions.iter().map(|b| dot(a, b))).collect();
        let mut text = vec![format!(
            "{n} features in {dimensions} dimensions, absent {:.0}% of the time: loss {loss:.4}",
            100.0 * sparsity
        )];
        for (i, (norm, room)) in norms.iter().zip(&room).enumerate() {
            text.push(format!("feature {i}: length {norm:.3}, {room:.3} of a dimension to itself"));
        }
        let names: Vec<String> = (0..n).map(|i| format!("feature {i}")).collect();
        let title = "Products of the features' directions";
        let json = json!({ "loss": loss, "lengths": norms, "dimensionality": room, "directions": directions,
            "products": products.chunks(n).collect::<Vec<_>>() });
        let (rows, columns, values) = (names.clone(), names, products);
        let picture = HeatMap::new(title, rows, columns, values);
        self.output.show(&Finding::pictured(picture, text, json))
    }
}
