//! What a trained model does inside, for one prompt.

use crate::model::Model;
use pellucid::backend::cpu::pool::Pool;
use pellucid::error::Result;
use pellucid::lens::heat_map::HeatMap;
use pellucid::lens::logit_lens;
use pellucid::lens::subject::Subject;
use pellucid::model::observer::Text;
use pellucid::model::readout::Readout;
use pellucid::model::site::{Part, Site};

/// One prompt, seen from inside.
pub(crate) struct View {
    /// Which head is shown.
    pub(crate) block: usize,
    pub(crate) head: usize,
    /// Its pattern as text and as SVG.
    pub(crate) map: String,
    pub(crate) svg: String,
    /// What the stream says after each block at the last position.
    pub(crate) lens: String,
}

/// Runs `ids` and looks: the head whose last position looks hardest past its neighbours, and what the
/// stream would say at each depth, following `answer`.
pub(crate) fn look(model: &Model, pool: &Pool, ids: &[u32], answer: u32) -> Result<View> {
    let (config, t) = (&model.config, ids.len());
    let tokenizer = model.tokenizer()?;
    let of = |part| (0..config.layers).map(move |l| Site::block(l, part));
    let sites: Vec<Site> =
        of(Part::ResidPre).chain(of(Part::Pattern)).chain(of(Part::ResidPost)).collect();
    let ids32: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
    let subject = Subject { config, weights: &model.weights, pool };
    let observer = subject.observe(Text::of(&ids32), 1, &sites)?;

    let (mut best, mut chosen) = (-1.0, (0, 0, vec![]));
    for block in 0..config.layers {
        let patterns = observer.value(Site::block(block, Part::Pattern))?;
        for (head, pattern) in patterns.chunks_exact(t * t).enumerate() {
            let score = reach(pattern, t);
            if score > best {
                (best, chosen) = (score, (block, head, pattern.to_vec()));
            }
        }
    }
    let (block, head, pattern) = chosen;
    let labels: Vec<String> = ids.iter().map(|&id| tokenizer.label(id)).collect();
    let title = format!("block {block}, head {head}: who looks at whom");
    let values = pattern.iter().map(|&p| f64::from(p)).collect();
    let (rows, columns) = (labels.clone(), labels);
    let picture = HeatMap { title, rows, columns, values, full: Some(1.0) };
    let (map, svg) = (picture.ascii()?, picture.svg()?);

    let label = |id: u32| tokenizer.label(id);
    let names = std::iter::once(("embedding".to_owned(), Site::block(0, Part::ResidPre)))
        .chain(of(Part::ResidPost).map(|site| (format!("after block {}", site.layer), site)));
    let mut readout = Readout::new(config, false, pool.threads())?;
    let mut depths = vec![];
    for (name, site) in names {
        let stream = &observer.value(site)?[(t - 1) * config.width..];
        let logits = readout.read(pool, &model.weights, stream)?;
        depths.push(logit_lens::depth(name, &logits, 3, Some(answer), &label)?);
    }
    let lens = logit_lens::table(&depths, Some(&label(answer)));
    Ok(View { block, head, map, svg, lens })
}

/// The most attention that the last position gives to one position: not to the last four, which are
/// near anyway, and not to the first, where idle heads rest.
fn reach(pattern: &[f32], t: usize) -> f32 {
    let last = &pattern[(t - 1) * t..];
    last.iter().take(t.saturating_sub(4)).skip(1).copied().fold(0.0, f32::max)
}
