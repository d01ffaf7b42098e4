//! `pellucid lens sae`: a sparse autoencoder of a site, in SAELens's files.

use super::looked::{Looked, Opened, Told};
use crate::finding::{Finding, FindingArgs};
use crate::out;
use clap::{Args, ValueEnum};
use pellucid::checkpoint::save_tensors;
use pellucid::error::{Error, Kind, Result};
use pellucid::files;
use pellucid::lens::names;
use pellucid::lens::sae::autoencoder::Sae;
use pellucid::lens::sae::config::{SaeConfig, SaeKind};
use pellucid::lens::sae::evaluate::evaluate;
use pellucid::lens::sae::train::{Recipe, Trainer};
use pellucid::model::observer::Text;
use pellucid::model::site::Site;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(crate) struct SaeCommand {
    #[command(flatten)]
    looked: Looked,
    /// The site whose vectors are taken apart
    #[arg(long, value_name = "SITE")]
    site: String,
    /// Text that gives the vectors, line by line; its last tenth judges
    #[arg(long, value_name = "FILE")]
    texts: PathBuf,
    /// Lines that are read
    #[arg(long, default_value_t = 5000, value_name = "N")]
    lines: usize,
    /// Directions, in widths of the vectors
    #[arg(long, default_value_t = 4, value_name = "N")]
    expansion: usize,
    /// Which activations remain
    #[arg(long, value_enum, default_value = "topk")]
    kind: Sort,
    /// Activations that remain of a vector (topk, batchtopk)
    #[arg(long, default_value_t = 16, value_name = "K")]
    k: usize,
    /// How much activations are held down (standard, jumprelu)
    #[arg(long, default_value_t = 1.0, value_name = "X")]
    sparsity: f32,
    /// Batches
    #[arg(long, default_value_t = 500, value_name = "N")]
    steps: usize,
    /// Vectors of a batch
    #[arg(long, default_value_t = 512, value_name = "N")]
    batch: usize,
    /// Adam's rate
    #[arg(long, default_value_t = 1e-3, value_name = "X")]
    rate: f32,
    /// Folder for cfg.json and sae_weights.safetensors
    #[arg(long, short, value_name = "FOLDER")]
    out: PathBuf,
    #[command(flatten)]
    output: FindingArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Sort {
    Standard,
    Topk,
    Batchtopk,
    Jumprelu,
}

impl SaeCommand {
    pub(crate) fn run(self) -> Result<()> {
        let opened = self.looked.open()?;
        let site = names::find_one(&opened.model.config, &self.site)?;
        let rows = opened.rows(&self.texts, self.lines)?;
        if rows.len() < 10 {
            let message = format!("{} lines, but 10 are needed to learn and to judge", rows.len());
            return Err(Error::new(Kind::Input, "sae", message));
        }
        let (learn, judge) = rows.split_at(rows.len() - rows.len() / 10);
        let (vectors, d) = vectors(&opened, site, learn)?;
        let sae = self.train(&opened, site, &vectors, d)?;
        save(&self.out, &sae)?;
        let found = evaluate(opened.subject(), &sae, site, judge, &mut |_| Ok(()))?;
        let title = format!("A sparse autoencoder of {site}");
        let text = vec![
            title.clone(),
            format!(
                "{} vectors of {d} to learn from, {} to judge",
                vectors.len() / d,
                found.vectors
            ),
            format!(
                "explained variance {:.3}, {:.1} activations of {}, {} never active",
                found.explained_variance, found.l0, sae.config.d_sae, found.dead
            ),
            format!(
                "loss {:.4} nats; with its vectors in place {:.4}, with zeros {:.4}: {:.1}% is kept",
                found.clean,
                found.spliced,
                found.zeroed,
                100.0 * found.loss_recovered()
            ),
            format!("files: {}", self.out.display()),
        ];
        let json = json!({ "site": site.to_string(), "explained_variance": found.explained_variance, "l0": found.l0,
            "dead": found.dead, "d_sae": sae.config.d_sae, "loss": found.clean, "spliced": found.spliced,
            "zeroed": found.zeroed, "loss_recovered": found.loss_recovered(), "density": found.density });
        self.output.show(&Finding { title, text, json, ..Finding::default() })
    }

    fn train(&self, opened: &Opened, site: Site, vectors: &[f32], d: usize) -> Result<Sae> {
        let kind = match self.kind {
            Sort::Standard => SaeKind::Standard,
            Sort::Topk => SaeKind::TopK,
            Sort::Batchtopk => SaeKind::BatchTopK,
            Sort::Jumprelu => SaeKind::JumpReLU,
        };
        let mut config = SaeConfig::new(kind, d, d * self.expansion, &site.to_string());
        if matches!(kind, SaeKind::TopK | SaeKind::BatchTopK) {
            config.k = Some(self.k);
        }
        let (steps, rate, sparsity) = (self.steps, self.rate, self.sparsity);
        let mut trainer =
            Trainer::new(config, Recipe { steps, rate, sparsity, ..Recipe::default() })?;
        let told = Told::of(self.steps);
        let n = vectors.len() / d;
        let mut random = pellucid::tensor::random::Random::new(1, 6);
        for step in 0..self.steps {
            let mut batch = Vec::with_capacity(self.batch * d);
            for _ in 0..self.batch {
                batch.extend_from_slice(&vectors[random.below(n) * d..][..d]);
            }
            let seen = trainer.step(&opened.pool, &batch)?;
            told.at(step + 1);
            if (step + 1).is_multiple_of(100) {
                out::note(&format!(
                    "step {}: error {:.4}, {:.1} active",
                    step + 1,
                    seen.reconstruction,
                    seen.l0
                ));
            }
        }
        Ok(trainer.finish())
    }
}

/// All vectors (N, D) of a site over texts.
fn vectors(opened: &Opened, site: Site, rows: &[Vec<i32>]) -> Result<(Vec<f32>, usize)> {
    let (mut all, mut d) = (vec![], 0);
    for ids in rows {
        let values = opened.subject().observe(Text::of(ids), 1, &[site])?.read(site)?;
        d = values.len() / ids.len();
        all.extend_from_slice(&values);
    }
    Ok((all, d))
}

fn save(folder: &Path, sae: &Sae) -> Result<()> {
    files::create_folder("sae", folder)?;
    let tensors = sae.tensors();
    let list: Vec<(&str, &[usize], &[f32])> =
        tensors.iter().map(|(n, s, v)| (*n, s.as_slice(), *v)).collect();
    save_tensors(&folder.join("sae_weights.safetensors"), &list, &BTreeMap::new())?;
    let json = sae.config.to_json();
    files::replace("sae", &folder.join("cfg.json"), |w| w.write_all(json.as_bytes()))
}
