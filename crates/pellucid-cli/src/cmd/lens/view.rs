//! `pellucid lens attention` and `pellucid lens logit`: what one run shows.

use super::Looked;
use crate::finding::{Finding, FindingArgs};
use clap::Args;
use pellucid::error::{Error, Kind, Result};
use pellucid::lens::heat_map::HeatMap;
use pellucid::lens::logit_lens;
use pellucid::model::config::NormPlacement;
use pellucid::model::observer::Text;
use pellucid::model::readout::Readout;
use pellucid::model::site::{Part, Site};
use serde_json::json;

#[derive(Debug, Args)]
pub(crate) struct Attention {
    #[command(flatten)]
    looked: Looked,
    /// What the model reads
    text: String,
    /// What its encoder reads, where it has two stacks
    #[arg(long, value_name = "TEXT")]
    source: Option<String>,
    /// Block
    #[arg(long, default_value_t = 0, value_name = "N")]
    layer: usize,
    /// Head
    #[arg(long, default_value_t = 0, value_name = "N")]
    head: usize,
    /// Of an encoder-decoder: what the decoder looks at in the source
    #[arg(long)]
    cross: bool,
    #[command(flatten)]
    output: FindingArgs,
}

impl Attention {
    pub(crate) fn run(self) -> Result<()> {
        let opened = self.looked.open()?;
        let config = &opened.model.config;
        let (ids, source) = (opened.ids(&self.text)?, opened.source(self.source.as_deref())?);
        let part = if self.cross { Part::CrossPattern } else { Part::Pattern };
        let site = Site { layer: self.layer, part, ..Site::logits(config) };
        if self.head >= config.heads {
            let message = format!("head {}, but heads are numbered 0..{}", self.head, config.heads);
            return Err(Error::new(Kind::Input, "lens", message));
        }
        let text = Text { ids: &ids, source: &source, ..Text::default() };
        let seen = opened.subject().observe(text, 1, &[site])?;
        let keys = if self.cross { &source } else { &ids };
        let n = ids.len() * keys.len();
        let values: Vec<f64> =
            seen.read(site)?[self.head * n..][..n].iter().map(|&p| f64::from(p)).collect();
        let title = format!("{site}, head {}: each row is a query, dark where it looks", self.head);
        let (rows, columns) = (opened.labels(&ids), opened.labels(keys));
        let json = json!({ "site": site.to_string(), "head": self.head, "queries": rows, "keys": columns,
            "pattern": values.chunks(keys.len()).collect::<Vec<_>>() });
        let picture = HeatMap::new(title, rows, columns, values);
        self.output.show(&Finding::pictured(picture, vec![], json))
    }
}

#[derive(Debug, Args)]
pub(crate) struct Logit {
    #[command(flatten)]
    looked: Looked,
    /// What the model reads
    text: String,
    /// What its encoder reads, where it has two stacks
    #[arg(long, value_name = "TEXT")]
    source: Option<String>,
    /// Follows this token instead of the one that the model would say
    #[arg(long, value_name = "TEXT")]
    follow: Option<String>,
    /// Tokens shown at each depth
    #[arg(long, default_value_t = 3, value_name = "K")]
    top: usize,
    #[command(flatten)]
    output: FindingArgs,
}

impl Logit {
    pub(crate) fn run(self) -> Result<()> {
        let opened = self.looked.open()?;
        let (config, subject) = (&opened.model.config, opened.subject());
        let (ids, source) = (opened.ids(&self.text)?, opened.source(self.source.as_deref())?);
        let end = Site::logits(config);
        let after = match config.norm_placement {
            NormPlacement::Pre => Part::ResidPost,
            NormPlacement::Post => Part::NormalizedResidPost,
        };
        let layers = config.blocks_that_generate();
        let mut sites = vec![Site::resid_pre(config, 0)];
        sites.extend((0..layers).map(|layer| Site { layer, part: after, ..end }));
        let text = Text { ids: &ids, source: &source, ..Text::default() };
        let all: Vec<Site> = sites.iter().copied().chain([end]).collect();
        let seen = subject.observe(text, 1, &all)?;
        let (t, v) = (ids.len(), config.vocab);
        let last = &seen.value(end)?[(t - 1) * v..];
        let follow = match &self.follow {
            Some(text) => opened.next(&self.text, text)?,
            None => logit_lens::top(last, 1)?[0].0,
        };
        let mut readout = Readout::new(config, false, opened.pool.threads())?;
        let label = |id: u32| opened.labels(&[id as i32]).remove(0);
        let (mut depths, mut values, mut rows) = (vec![], vec![], vec![]);
        for &site in &sites {
            let scores = readout.read(&opened.pool, subject.weights, &seen.read(site)?)?;
            let name = site.to_string();
            let row = &scores[(t - 1) * v..];
            depths.push(logit_lens::depth(&name, row, self.top, Some(follow), &label)?);
            for scores in scores.chunks_exact(v) {
                let p = pellucid::lens::metric::Metric::Probability(follow).of(scores)?;
                values.push(p);
            }
            rows.push(name);
        }
        let title = format!("Probability of {:?} at each depth and position", label(follow));
        let json = json!({ "tokens": opened.labels(&ids), "follow": label(follow), "sites": rows,
            "probability": values.chunks(t).collect::<Vec<_>>(),
            "last": depths.iter().map(|d| json!({ "site": d.name, "top": d.top })).collect::<Vec<_>>() });
        let text = vec![logit_lens::table(&depths, Some(&label(follow)))];
        let picture = HeatMap::new(title, rows, opened.labels(&ids), values);
        self.output.show(&Finding::pictured(picture, text, json))
    }
}
