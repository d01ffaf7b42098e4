//! Looking inside with random weights, timed: a plain run, one in which everything is captured, a patching sweep, and
//! causal traces.

use crate::measure::Times;
use crate::out;
use crate::plan;
use clap::Args;
use pellucid::backend::cpu::pool::Pool;
use pellucid::error::Result;
use pellucid::lens::metric::Metric;
use pellucid::lens::patching::{Grid, Pair, patch};
use pellucid::lens::subject::Subject;
use pellucid::lens::tracing::{Fact, Tracing, trace};
use pellucid::model::config::Config;
use pellucid::model::observer::{End, Observer, Text};
use pellucid::model::site::{Part, Site, Sizes};
use pellucid::model::watch::Watch;
use pellucid::model::weights::Weights;
use pellucid::tensor::random::Random;
use serde_json::json;
use std::time::Instant;

#[derive(Debug, Args)]
pub(crate) struct LensBench {
    /// A preset
    #[arg(long, default_value = "gpt2")]
    preset: String,
    /// T of the plain and the captured run
    #[arg(long, default_value_t = 128)]
    t: usize,
    /// T of the patching sweep over blocks and positions
    #[arg(long, default_value_t = 16)]
    patch_t: usize,
    /// T of a traced fact; its subject is tokens 1 to 3
    #[arg(long, default_value_t = 10)]
    fact_t: usize,
    /// Facts that are traced
    #[arg(long, default_value_t = 2)]
    facts: usize,
    /// Runs that are timed, after one that is not
    #[arg(long, default_value_t = 7)]
    repeats: usize,
    /// Threads; 0 takes all cores
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// A JSON object
    #[arg(long)]
    json: bool,
}

impl LensBench {
    pub(crate) fn run(self) -> Result<()> {
        let pool = plan::pool(self.threads);
        let config = Config::preset(&self.preset)?;
        let weights = Weights::init(&config, 1);
        let subject = Subject { config: &config, weights: &weights, pool: &pool };
        let end = Site::logits(&config);
        // What TransformerLens caches by default: all but what each head writes.
        let mut all = Site::all(&config);
        all.retain(|site| site.part != Part::Result);
        let (plain, cached) = self.runs(&pool, subject, &[end], &all)?;
        let patched = times(self.repeats.min(3), || self.patch(subject))?;
        let traced = times(1, || (0..self.facts).try_for_each(|i| self.trace(subject, i)))?;
        let (p, c) = (plain.median(), cached.median());
        if self.json {
            let spread =
                |t: &Times| json!({ "median": t.median(), "min": t.min(), "max": t.max() });
            return out::json(&json!({ "preset": self.preset, "t": self.t, "sites": all.len(),
                "plain": spread(&plain), "cached": spread(&cached), "cached_over_plain": c / p,
                "patch_t": self.patch_t, "patch_cells": config.layers * self.patch_t, "patch": spread(&patched),
                "fact_t": self.fact_t, "facts": self.facts, "trace_per_fact": traced.median() / self.facts as f64 }));
        }
        out::line(format!(
            "plain run, T={}: {:.1} ms ({:.1} to {:.1})",
            self.t,
            1e3 * p,
            1e3 * plain.min(),
            1e3 * plain.max()
        ))?;
        out::line(format!(
            "{} sites captured: {:.1} ms ({:.1} to {:.1}), {:.3} times the plain run",
            all.len(),
            1e3 * c,
            1e3 * cached.min(),
            1e3 * cached.max(),
            c / p
        ))?;
        out::line(format!(
            "patching {} cells, T={}: {:.2} s",
            config.layers * self.patch_t,
            self.patch_t,
            patched.median()
        ))?;
        out::line(format!(
            "tracing a fact, T={}: {:.2} s",
            self.fact_t,
            traced.median() / self.facts as f64
        ))
    }

    /// By turns, so that both see the same machine.
    fn runs(
        &self,
        pool: &Pool,
        subject: Subject<'_>,
        plain: &[Site],
        all: &[Site],
    ) -> Result<(Times, Times)> {
        let sizes = Sizes { b: 1, t: self.t, s: 0 };
        let ids = ids(1, self.t, subject.config.vocab);
        let made = |sites: &[Site]| {
            Observer::new(subject.config, sizes, Watch::capture(sites), End::Sites, pool.threads())
        };
        let (mut a, mut b) = (made(plain)?, made(all)?);
        let (mut first, mut second) = (vec![], vec![]);
        for turn in 0..=self.repeats {
            for (observer, to) in [(&mut a, &mut first), (&mut b, &mut second)] {
                let start = Instant::now();
                observer.run(pool, subject.weights, Text::of(&ids))?;
                if turn > 0 {
                    to.push(start.elapsed().as_secs_f64());
                }
            }
        }
        Ok((Times::from(first), Times::from(second)))
    }

    fn patch(&self, subject: Subject<'_>) -> Result<()> {
        let clean = ids(2, self.patch_t, subject.config.vocab);
        let mut corrupted = clean.clone();
        corrupted[0] = (corrupted[0] + 1) % subject.config.vocab as i32;
        let pair = Pair { clean: &clean, corrupted: &corrupted };
        let metric = Metric::Difference { right: 5, wrong: 6 };
        let grid = Grid::Positions(Part::ResidPre);
        patch(subject, pair, &metric, grid, &mut ()).map(|_| ())
    }

    fn trace(&self, subject: Subject<'_>, number: usize) -> Result<()> {
        let ids = ids(3 + number as u64, self.fact_t, subject.config.vocab);
        let fact = Fact { ids, subject: 1..4.min(self.fact_t), answer: 7 };
        trace(subject, &fact, &Tracing::default(), &mut ()).map(|_| ())
    }
}

fn ids(seed: u64, n: usize, vocab: usize) -> Vec<i32> {
    let mut random = Random::new(seed, 9);
    (0..n).map(|_| random.below(vocab) as i32).collect()
}

fn times(repeats: usize, mut work: impl FnMut() -> Result<()>) -> Result<Times> {
    let mut all = vec![];
    for _ in 0..repeats {
        let start = Instant::now();
        work()?;
        all.push(start.elapsed().as_secs_f64());
    }
    Ok(Times::from(all))
}
