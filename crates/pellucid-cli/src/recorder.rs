//! What a text's tokens leave at sites while it is written, to a file.

use crate::model::Model;
use crate::out;
use clap::Args;
use pellucid::backend::cpu::pool::Pool;
use pellucid::checkpoint::save_tensors;
use pellucid::error::{Error, Kind, Result};
use pellucid::generate::{Event, Flow, GenerateOptions, Generated};
use pellucid::lens::names;
use pellucid::model::site::Site;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What is kept.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Inside")]
pub(crate) struct RecordArgs {
    /// Keeps what every token leaves at these sites, of the prompt and of what is written: names or globs, one prompt
    #[arg(long, value_name = "GLOB", requires = "capture_to", conflicts_with = "speculate")]
    capture: Vec<String>,
    /// The safetensors file for it
    #[arg(long, value_name = "FILE", requires = "capture")]
    capture_to: Option<PathBuf>,
}

impl RecordArgs {
    /// Whether something is kept.
    pub(crate) fn any(&self) -> bool {
        !self.capture.is_empty()
    }

    /// Writes one text and keeps its inside.
    pub(crate) fn generate(
        &self,
        model: &Model,
        pool: &Pool,
        prompts: &[Vec<u32>],
        options: &GenerateOptions,
        sink: &mut dyn FnMut(Event<'_>) -> Result<Flow>,
    ) -> Result<Vec<Generated>> {
        let [prompt] = prompts else {
            let message =
                format!("the inside of one text is kept, but there are {}", prompts.len());
            return Err(
                Error::new(Kind::Input, "capture", message).hint("give one prompt, --samples 1")
            );
        };
        let sites = self.sites(model)?;
        let capacity = (prompt.len() + options.max_new).clamp(1, model.config.context);
        let mut decoder = model.decoder(pool, 1, capacity)?;
        decoder.record(&sites)?;
        let done = model.continue_with(&mut decoder, pool, prompts, options, sink)?;
        let mut kept = vec![];
        for site in sites {
            let seen = decoder.recorded(0, site)?;
            kept.push((site.to_string(), [&[1], &seen.shape[..]].concat(), seen.values));
        }
        let list: Vec<(&str, &[usize], &[f32])> =
            kept.iter().map(|(n, s, v)| (n.as_str(), s.as_slice(), v.as_slice())).collect();
        let ids: Vec<u32> = done.iter().flat_map(|g| [&g.prompt[..], &g.tokens].concat()).collect();
        // The last token is written, not read.
        let read = &ids[..decoder.past()[0].min(ids.len())];
        let read: Vec<String> = read.iter().map(ToString::to_string).collect();
        let facts = BTreeMap::from([("tokens".to_owned(), read.join(" "))]);
        if let Some(path) = &self.capture_to {
            save_tensors(path, &list, &facts)?;
            out::note(&format!(
                "{} sites of {} tokens: {}",
                list.len(),
                read.len(),
                path.display()
            ));
        }
        Ok(done)
    }

    /// The sites that are meant; of globs those that fire while a text grows.
    fn sites(&self, model: &Model) -> Result<Vec<Site>> {
        let mut sites = names::find_all(&model.config, &self.capture)?;
        let named = |site: &Site| self.capture.contains(&site.to_string());
        sites.retain(|site| named(site) || site.fires_while_growing());
        Ok(sites)
    }
}
