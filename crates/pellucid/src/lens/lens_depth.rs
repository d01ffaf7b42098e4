//! How deep the model makes up its mind: the block after which the logit lens says what the model will say, and says
//! nothing else any more.
//!
//! ```text
//! best_d   = argmax of head(norm(stream after d blocks))     d = 0 .. L; best_L is the model's own best token
//! depth    = the smallest d with best_d = best_{d+1} = ... = best_L
//! ```
//!
//! 0: the embedding settles it; L: only the last block does. A guess that agrees early and is left again does not count.

use super::rows::{Mean, Runner, batches, demand_next_tokens, scores_site};
use super::subject::Subject;
use crate::error::{Error, Kind, Result};
use crate::model::config::{Core, NormPlacement};
use crate::model::readout::Readout;
use crate::model::site::{Part, Site};
use crate::model::watch::Watch;

/// How deep predictions settle.
#[derive(Clone, Debug, PartialEq)]
pub struct LensDepth {
    /// In blocks, 0 to L: mean over a text's positions, then over texts, with the error over texts.
    pub depth: Mean,
    /// Share of positions that settle after so many blocks, (L + 1); sums to 1.
    pub shares: Vec<f64>,
}

/// The first depth from which `best` is what it is at its end; (L + 1) guesses give 0 to L.
#[must_use]
pub fn settled(best: &[u32]) -> usize {
    let other = best.iter().rposition(|id| Some(id) != best.last());
    other.map_or(0, |d| d + 1)
}

/// The depth at which the next token is settled, over all positions of `rows`. Of equal scores the lower id is best.
///
/// # Errors
/// No rows, or one without tokens; ids outside the vocabulary; a model that predicts no next tokens or has no stream.
pub fn lens_depth(subject: Subject<'_>, rows: &[Vec<i32>]) -> Result<LensDepth> {
    let Subject { config, weights, pool } = subject;
    demand_next_tokens("lens depth", config)?;
    if config.core == Core::Lstm {
        let message = "an LSTM has no stream to read at each depth";
        return Err(Error::new(Kind::Config, "lens depth", message).hint("give a Transformer"));
    }
    let layers = config.layers;
    let before = |layer| match (layer, config.norm_placement) {
        (0, _) | (_, NormPlacement::Pre) => Site::block(layer, Part::ResidPre),
        (_, NormPlacement::Post) => Site::block(layer - 1, Part::NormalizedResidPost),
    };
    let mut sites: Vec<Site> = (0..layers).map(before).collect();
    sites.push(scores_site());
    let mut runner = Runner::new(subject, Watch::capture(&sites));
    let mut readout = Readout::new(config, false, pool.threads())?;
    let (mut means, mut counts) = (vec![], vec![0usize; layers + 1]);
    for range in batches("lens depth", rows)? {
        let rows = &rows[range];
        let seen = runner.run(rows, &mut |_| Ok(()))?;
        // By depth, then by position.
        let mut best = vec![];
        for &site in &sites[..layers] {
            let mut at = vec![];
            readout.each(pool, weights, seen.value(site)?, &mut |scores| {
                at.extend(scores.chunks_exact(config.vocab).map(argmax));
                Ok(())
            })?;
            best.push(at);
        }
        let own = seen.value(scores_site())?.chunks_exact(config.vocab);
        best.push(own.map(argmax).collect());
        let depth = |i: usize| settled(&best.iter().map(|at| at[i]).collect::<Vec<u32>>());
        let all: Vec<usize> = (0..best[layers].len()).map(depth).collect();
        all.iter().for_each(|&d| counts[d] += 1);
        let mean = |row: &[usize]| row.iter().sum::<usize>() as f64 / row.len() as f64;
        means.extend(all.chunks_exact(rows[0].len()).map(mean));
    }
    let total = counts.iter().sum::<usize>() as f64;
    let shares = counts.into_iter().map(|n| n as f64 / total).collect();
    Ok(LensDepth { depth: Mean::of(&means), shares })
}

/// The lowest id of the highest score.
fn argmax(scores: &[f32]) -> u32 {
    let mut best = 0;
    for (id, &score) in scores.iter().enumerate() {
        if score > scores[best] {
            best = id;
        }
    }
    best as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::pool::Pool;
    use crate::lens::fixtures::induction_head;
    use crate::lens::rows::losses;
    use crate::lens::{test_models, tests};
    use crate::model::config::Config;
    use crate::model::observer::Text;

    #[test]
    fn a_guess_that_is_left_again_does_not_count() {
        // The wrong one: where the lens first agrees.
        let first = |best: &[u32]| best.iter().position(|id| Some(id) == best.last()).unwrap();
        for (best, depth, wrong) in
            [(&[7, 3, 7, 7][..], 2, 0), (&[1, 2, 3], 2, 2), (&[5, 5, 5], 0, 0), (&[4, 9], 1, 1)]
        {
            assert_eq!((settled(best), first(best)), (depth, wrong), "{best:?}");
        }
        assert_eq!((settled(&[]), settled(&[3])), (0, 0));
    }

    /// In the induction model only block 1 writes where the head reads: before it all scores are equal, and token 0 is
    /// best.
    #[test]
    fn an_induction_head_settles_in_the_block_that_answers() {
        let pool = Pool::new(1);
        let (config, weights) = induction_head(12, 24, 40.0).unwrap();
        let subject = Subject { config: &config, weights: &weights, pool: &pool };
        // A token before all: the first has none before it, and takes itself for that.
        let twice = [&[11][..], &[3, 7, 0, 5, 9, 1].repeat(2)].concat();
        let rows = vec![twice.clone(), twice, vec![4, 4, 4]];
        let got = lens_depth(subject, &rows).unwrap();
        let mut want = vec![];
        for row in &rows {
            let seen = subject.observe(Text::of(row), 1, &[scores_site()]);
            let scores = seen.unwrap().read(scores_site()).unwrap();
            // The second copy is known, so its answers are what follows.
            assert!(row.len() < 12 || losses(&scores, row)[7..].iter().all(|l| *l < 1e-3));
            let says_0 = scores.chunks_exact(12).filter(|s| argmax(s) == 0).count();
            want.push(2.0 * (row.len() - says_0) as f64 / row.len() as f64);
        }
        // Of six answers in the second copy one is token 0.
        assert!(want[0] < 2.0);
        assert_eq!(got.depth, Mean::of(&want));
        assert!(got.shares[1] == 0.0 && (got.shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn it_is_what_the_lens_says_at_each_depth() {
        let pool = Pool::new(2);
        let row: Vec<i32> = (0..17).map(|i| i * 7 % 50).collect();
        for (norm_placement, after) in [
            (NormPlacement::Pre, Part::ResidPost),
            (NormPlacement::Post, Part::NormalizedResidPost),
        ] {
            let base = Config { norm_placement, tied_head: false, ..Config::gpt2() };
            let (config, weights) = test_models::random(base, 4);
            let subject = Subject { config: &config, weights: &weights, pool: &pool };
            let got = lens_depth(subject, std::slice::from_ref(&row)).unwrap();
            let mut sites = vec![Site::block(0, Part::ResidPre)];
            sites.extend((0..config.layers).map(|l| Site::block(l, after)));
            let seen = subject.observe(Text::of(&row), 1, &sites).unwrap();
            let best = |site: &Site, i: usize| {
                let stream = &seen.value(*site).unwrap()[i * config.width..][..config.width];
                argmax(&tests::read(&config, &weights, stream))
            };
            let depth = |i| settled(&sites.iter().map(|s| best(s, i)).collect::<Vec<u32>>());
            let sum: usize = (0..row.len()).map(depth).sum();
            assert_eq!(got.depth.value, sum as f64 / row.len() as f64);
            assert!(got.depth.value > 0.0 && got.shares.len() == config.layers + 1);
            assert!(lens_depth(subject, &[]).is_err());
            assert!(lens_depth(subject, &[vec![99_999]]).is_err());
        }
    }
}
