//! `pellucid lens fourier`

use super::looked::{Looked, Told};
use crate::finding::{Finding, FindingArgs};
use clap::Args;
use pellucid::error::Result;
use pellucid::lens::fourier::{Keys, fourier};
use pellucid::lens::heat_map::HeatMap;
use serde_json::json;

/// Frequencies that are named.
const NAMED: usize = 8;

#[derive(Debug, Args)]
pub(crate) struct FourierCommand {
    #[command(flatten)]
    looked: Looked,
    /// What sums are modulo; without it, the vocabulary but one, whose last id is then `=`
    #[arg(long, value_name = "P")]
    modulus: Option<usize>,
    /// Frequencies are key that together have this share of the embedding's power
    #[arg(long, default_value_t = 0.9, value_name = "SHARE")]
    share: f64,
    /// The key frequencies themselves, such as those of a later checkpoint
    #[arg(long, value_delimiter = ',', value_name = "K,K,..", conflicts_with = "share")]
    keys: Vec<usize>,
    #[command(flatten)]
    output: FindingArgs,
}

impl FourierCommand {
    pub(crate) fn run(self) -> Result<()> {
        let opened = self.looked.open()?;
        let p = self.modulus.unwrap_or(opened.model.config.vocab.saturating_sub(1));
        let keys = match self.keys.is_empty() {
            true => Keys::Share(self.share),
            false => Keys::These(self.keys),
        };
        let told = Told::of(2 * p);
        let found = fourier(opened.subject(), (p, p as i32), &keys, &mut told.each())?;
        drop(told);
        let more = found.keys.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        let keys: Vec<String> = found
            .keys
            .iter()
            .take(NAMED)
            .map(|&k| format!("{k} ({:.1} %)", 100.0 * found.power[k - 1]))
            .collect();
        let text = vec![
            format!(
                "sums modulo {p}: {:.1} % right, loss {:.4} nats",
                100.0 * found.accuracy,
                found.loss
            ),
            format!("key frequencies of the embedding: {}{more}", keys.join(", ")),
            format!("loss of the rotations alone     {:.4} nats", found.restricted),
            format!("loss without them               {:.4} nats", found.excluded),
            format!("any number                      {:.4} nats", (p as f64).ln()),
        ];
        let json = json!({ "modulus": p, "power": found.power, "keys": found.keys, "loss": found.loss,
            "accuracy": found.accuracy, "restricted": found.restricted, "excluded": found.excluded });
        let columns = (1..=found.power.len()).map(|k| k.to_string()).collect();
        let title = "Share of the embedding's power at each frequency";
        let picture = HeatMap::new(title, vec!["power".into()], columns, found.power);
        self.output.show(&Finding::pictured(picture, text, json))
    }
}
