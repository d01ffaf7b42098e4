//! A forward pass over whole sequences whose insides can be read.

use super::builder::{Builder, Purpose, Shape};
use super::config::Config;
use super::head;
use super::site::Site;
use super::transformer::transformer;
use super::weights::Weights;
use crate::autograd::{Ints, Plan, RunInfo, Session, Value};
use crate::backend::cpu::gemm::Precision;
use crate::backend::cpu::pool::Pool;
use crate::error::{Error, Kind, Result};

/// Runs a model and keeps the values at chosen sites.
#[derive(Debug)]
pub struct Observer {
    session: Session,
    ids: Ints,
    sites: Vec<(Site, Value)>,
}

impl Observer {
    /// For `b` rows of `t` tokens. The same operations run whether or not they are observed.
    pub fn new(
        config: &Config,
        b: usize,
        t: usize,
        sites: &[Site],
        threads: usize,
    ) -> Result<Self> {
        let shape = Shape { b, t, s: 0 };
        let mut m = Builder::new(config, shape, Purpose::Observe, Precision::F32, None)?;
        m.observe(sites);
        let x = transformer(&mut m, t)?;
        head::logits(&mut m, x)?;
        if let Some(site) = sites.iter().find(|s| !m.sites.iter().any(|(x, _)| x == *s)) {
            return Err(Error::new(Kind::Input, "observe", format!("no site is named {site}"))
                .hint(format!(
                    "blocks are numbered 0..{}, and hidden = {}",
                    config.layers, config.hidden
                )));
        }
        let (ids, sites) = (m.inputs.ids, m.sites);
        Ok(Self { session: Session::new(Plan::infer(m.tape, threads)?), ids, sites })
    }

    /// Runs token ids (B, T).
    pub fn run(&mut self, pool: &Pool, weights: &Weights, ids: &[i32]) -> Result<()> {
        let to = self.session.ints_mut(self.ids);
        if ids.len() != to.len() {
            let message = format!("{} ids, but B·T = {}", ids.len(), to.len());
            return Err(Error::new(Kind::Shape, "observe", message));
        }
        to.copy_from_slice(ids);
        self.session.run(pool, weights.data(), None, RunInfo::default())
    }

    /// The value at a site after a run; shapes are in [`Site`].
    pub fn value(&self, site: Site) -> Result<&[f32]> {
        let found = self.sites.iter().find(|(s, _)| *s == site);
        let (_, value) = found.ok_or_else(|| {
            Error::new(Kind::Input, "observe", format!("{site} was not chosen to be observed"))
        })?;
        self.session.value(*value)
    }
}
