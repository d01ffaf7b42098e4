//! What a trained model does inside, for one prompt.

use crate::model::Model;
use pellucid::backend::cpu::pool::Pool;
use pellucid::error::Result;
use pellucid::lens::{attention_map, logit_lens};
use pellucid::model::observer::Observer;
use pellucid::model::site::Site;

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
    let mut sites = vec![Site::Embedding];
    sites.extend((0..config.layers).flat_map(|i| [Site::Qkv(i), Site::Block(i)]));
    let mut observer = Observer::new(config, 1, t, &sites, pool.threads())?;
    let ids32: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
    observer.run(pool, &model.weights, &ids32)?;

    let (mut best, mut chosen) = (-1.0, (0, 0, vec![]));
    for block in 0..config.layers {
        let qkv = observer.value(Site::Qkv(block))?;
        for head in 0..config.heads {
            let pattern = attention_map::pattern(config, qkv, head)?;
            let score = reach(&pattern, t);
            if score > best {
                (best, chosen) = (score, (block, head, pattern));
            }
        }
    }
    let (block, head, pattern) = chosen;
    let labels: Vec<String> = ids.iter().map(|&id| tokenizer.label(id)).collect();
    let title = format!("block {block}, head {head}: who looks at whom");
    let map = attention_map::ascii(&pattern, &labels, &labels)?;
    let svg = attention_map::svg(&pattern, &labels, &labels, &title)?;

    let label = |id: u32| tokenizer.label(id);
    let names = std::iter::once(("embedding".to_owned(), Site::Embedding))
        .chain((0..config.layers).map(|i| (format!("after block {i}"), Site::Block(i))));
    let mut depths = vec![];
    for (name, site) in names {
        let stream = &observer.value(site)?[(t - 1) * config.width..];
        let logits = logit_lens::read(config, &model.weights, stream)?;
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
