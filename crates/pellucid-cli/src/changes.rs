//! Changes of a model's inside that hold while it writes.

use clap::Args;
use pellucid::checkpoint::load_tensors;
use pellucid::error::{Error, Kind, Result};
use pellucid::lens::names;
use pellucid::model::config::Config;
use pellucid::model::edit::Pick;
use pellucid::model::standing::Standing;
use pellucid::ops::tap::Change;
use std::path::PathBuf;

/// What is changed at every position.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Inside")]
pub(crate) struct ChangeArgs {
    /// Silences or scales a site, or one of its heads, at every position: blocks.2.attn.hook_z#3=zero,
    /// blocks.1.hook_mlp_out=x0.5
    #[arg(long, value_name = "SITE[#HEAD]=zero|xFACTOR")]
    change: Vec<String>,
    /// Adds vectors at every position: safetensors whose tensors are called like sites
    #[arg(long, value_name = "FILE")]
    steer: Vec<PathBuf>,
    /// What they are multiplied by
    #[arg(long, default_value_t = 1.0, value_name = "X", requires = "steer")]
    steer_scale: f32,
}

impl ChangeArgs {
    pub(crate) fn standing(&self, config: &Config) -> Result<Vec<Standing>> {
        let mut all = vec![];
        for text in &self.change {
            all.extend(parse(config, text)?);
        }
        for path in &self.steer {
            let file = load_tensors(path)?;
            for name in file.names() {
                let site = names::find_one(config, name)?;
                let values = file.read(name)?.iter().map(|x| x * self.steer_scale).collect();
                all.push(Standing { site, picks: vec![], change: Change::Add(values) });
            }
        }
        Ok(all)
    }
}

fn parse(config: &Config, text: &str) -> Result<Vec<Standing>> {
    let fault = || {
        Error::new(Kind::Input, "change", format!("{text:?} is no change"))
            .hint("write SITE=zero, SITE#HEAD=zero or SITE=x0.5")
    };
    let (place, what) = text.split_once('=').ok_or_else(fault)?;
    let (name, head) = match place.split_once('#') {
        Some((name, head)) => (name, Some(head.parse::<usize>().map_err(|_| fault())?)),
        None => (place, None),
    };
    let change = match what.strip_prefix('x') {
        Some(factor) => Change::Scale(factor.parse().map_err(|_| fault())?),
        None if what == "zero" => Change::Fill(0.0),
        None => return Err(fault()),
    };
    let picks: Vec<Pick> = head.map(Pick::one).into_iter().collect();
    let sites = names::find(config, name)?;
    let of = |site| Standing { site, picks: picks.clone(), change: change.clone() };
    Ok(sites.into_iter().map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_read_and_faults_named() {
        let config = Config { layers: 2, ..Config::gpt2() };
        let all = parse(&config, "blocks.*.attn.hook_z#3=zero").unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!((&all[1].picks[..], &all[1].change), (&[Pick::one(3)][..], &Change::Fill(0.0)));
        assert_eq!(parse(&config, "mlp_out1=x0.5").unwrap()[0].change, Change::Scale(0.5));
        for wrong in
            ["hook_z", "blocks.0.attn.hook_z=one", "blocks.9.attn.hook_z=zero", "z0#a=zero"]
        {
            assert!(parse(&config, wrong).is_err(), "{wrong}");
        }
    }
}
