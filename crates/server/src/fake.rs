//! A model that is made up: every number is a formula of its place, so that answers can be checked by hand.

use crate::inside::{
    Answer, Attribution, Card, Change, Edit, Effect, Fault, Guess, HeadAt, How, Inside, Lens, Part,
    Pattern, Prompt, Stack, Token, Tokens, Whose,
};
use std::ops::Range;

const WORDS: [&str; 12] = [
    " the",
    " a",
    " blue",
    " sky",
    " was",
    " never\u{1}",
    " quiet",
    " river",
    "\n",
    " of",
    " and",
    ".",
];

/// A decoder, or an encoder-decoder, that knows twelve words.
#[derive(Debug)]
pub struct Fake {
    /// L.
    pub layers: usize,
    /// H.
    pub heads: usize,
    /// Also an encoder, and attention to it.
    pub source: bool,
    /// Which checkpoint was opened.
    pub checkpoint: Option<String>,
}

impl Fake {
    /// With this many layers and heads.
    #[must_use]
    pub fn new(layers: usize, heads: usize) -> Self {
        Self { layers, heads, source: false, checkpoint: None }
    }

    fn count(&self, prompt: &Prompt, of_source: bool) -> Answer<usize> {
        let n = words(if of_source { &prompt.source } else { &prompt.text }).len();
        if n == 0 || n > 4096 {
            return Err(Fault::input(format!("{n} tokens, but the model reads 1 to 4096")));
        }
        Ok(n)
    }

    fn place(&self, prompt: &Prompt, position: usize) -> Answer<usize> {
        let t = self.count(prompt, false)?;
        if position >= t {
            return Err(Fault::input(format!("position {position}, but the text has {t} tokens")));
        }
        Ok(t)
    }

    /// Probabilities of the twelve words at a depth: surer the deeper.
    fn said(&self, depth: usize, position: usize, shift: f32) -> Vec<Guess> {
        let sharp = 0.4 + 3.2 * depth as f32 / self.layers.max(1) as f32;
        let logit = |i: usize| {
            let wave = (1.3 * i as f32 + 0.7 * position as f32).sin();
            sharp * wave + if i == position % 7 { shift } else { 0.0 }
        };
        let logits: Vec<f32> = (0..WORDS.len()).map(logit).collect();
        let sum: f32 = logits.iter().map(|l| l.exp()).sum();
        let guess = |(i, l): (usize, &f32)| Guess {
            id: i as u32,
            text: WORDS[i].into(),
            logit: *l,
            probability: l.exp() / sum,
        };
        let mut all: Vec<Guess> = logits.iter().enumerate().map(guess).collect();
        all.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        all
    }
}

/// A text cut before each space, so that joined words are the text.
fn words(text: &str) -> Vec<&str> {
    let mut out = vec![];
    let mut start = 0;
    for (at, c) in text.char_indices() {
        if at > start && (c == ' ' || c == '\n') {
            out.push(&text[start..at]);
            start = at;
        }
    }
    out.extend((start < text.len()).then(|| &text[start..]));
    out
}

/// A head's score of key `s` for query `t`, by its kind.
fn score(layer: usize, head: usize, t: usize, s: usize) -> f32 {
    let away = t.abs_diff(s) as f32;
    match (layer + head) % 5 {
        0 => {
            if away == 1.0 {
                5.0
            } else {
                -0.02 * away
            }
        }
        1 => {
            if s == 0 {
                4.0 + layer as f32 * 0.3
            } else {
                0.0
            }
        }
        2 => -away / (2.0 + head as f32),
        3 => {
            if away > 0.0 && (t % 17 + 1) % 17 == s % 17 {
                6.0
            } else {
                0.0
            }
        }
        _ => 2.0 * (0.11 * s as f32 + head as f32).sin(),
    }
}

impl Inside for Fake {
    fn card(&self) -> Card {
        let stack = |name: &str, title: &str, from_source: bool, to_source: bool| Stack {
            name: name.into(),
            title: title.into(),
            layers: self.layers,
            heads: self.heads,
            causal: !from_source && !to_source,
            from_source,
            to_source,
            prefix: if from_source { "encoder_blocks".into() } else { "blocks".into() },
            attention: if !from_source && to_source { "cross_attn".into() } else { "attn".into() },
        };
        let mut stacks = vec![stack("decoder", "The text looks at itself", false, false)];
        if self.source {
            stacks.push(stack("cross", "The text looks at the source", false, true));
            stacks.push(stack("encoder", "The source looks at itself", true, true));
        }
        Card {
            title: "a made-up model".into(),
            facts: format!("{} layers, {} heads, 12 words", self.layers, self.heads),
            command: "pellucid look made-up".into(),
            stacks,
            has_source: self.source,
            context: 4096,
            checkpoint: self.checkpoint.clone(),
            text: "The sky over the quiet river was blue and the river was".into(),
            source: "Der Himmel war blau".into(),
        }
    }

    fn tokens(&mut self, prompt: &Prompt) -> Answer<Tokens> {
        self.count(prompt, false)?;
        if self.source {
            self.count(prompt, true)?;
        }
        let cut = |text| {
            let word = |(i, w): (usize, &str)| Token { id: i as u32, text: w.into() };
            words(text).into_iter().enumerate().map(word).collect()
        };
        Ok(Tokens { text: cut(&prompt.text), source: cut(&prompt.source) })
    }

    fn pattern(&mut self, prompt: &Prompt, at: &HeadAt) -> Answer<Pattern> {
        let card = self.card();
        let stack = card.stacks.iter().find(|s| s.name == at.stack);
        let stack = stack.filter(|s| at.layer < s.layers && at.head < s.heads);
        let stack = stack.ok_or_else(|| {
            Fault::input(format!("no head {} in layer {} of {:?}", at.head, at.layer, at.stack))
        })?;
        let queries = self.count(prompt, stack.from_source)?;
        let keys = self.count(prompt, stack.to_source)?;
        let mut weights = vec![0.0; queries * keys];
        for (t, row) in weights.chunks_exact_mut(keys).enumerate() {
            let seen = if stack.causal { t + 1 } else { keys };
            for (s, w) in row[..seen].iter_mut().enumerate() {
                *w = score(at.layer, at.head, t, s).exp();
            }
            let sum: f32 = row.iter().sum();
            row.iter_mut().for_each(|w| *w /= sum);
        }
        Ok(Pattern { queries, keys, weights })
    }

    fn lens(&mut self, prompt: &Prompt, positions: Range<usize>, k: usize) -> Answer<Lens> {
        self.place(prompt, positions.end.saturating_sub(1))?;
        let depth = |i| if i == 0 { "embedding".into() } else { format!("after block {}", i - 1) };
        let row = |i| {
            let cell = |p| self.said(i, p, 0.0).into_iter().take(k).collect();
            positions.clone().map(cell).collect()
        };
        Ok(Lens {
            from: positions.start,
            depths: (0..=self.layers).map(depth).collect(),
            cells: (0..=self.layers).map(row).collect(),
        })
    }

    fn attribution(&mut self, prompt: &Prompt, whose: &Whose) -> Answer<Attribution> {
        self.place(prompt, whose.position)?;
        let all = self.said(self.layers, whose.position, 0.0);
        let find = |id: u32| {
            let found = all.iter().find(|g| g.id == id).cloned();
            found.ok_or_else(|| Fault::input(format!("token {id}: the model knows 12")))
        };
        let token = whose.token.map_or_else(|| Ok(all[0].clone()), find)?;
        let against = whose.against.map(find).transpose()?;
        let value = |i: usize| 1.5 * (i as f32 * 1.7 + token.id as f32).sin();
        let part = |label: String, site: String, layer, head, i| Part {
            label,
            site,
            layer,
            head,
            value: value(i),
        };
        let mut parts = vec![part("embedding".into(), "hook_embed".into(), None, None, 0)];
        for i in 0..self.layers {
            for (j, (what, site)) in [("attention", "attn"), ("MLP", "mlp")].iter().enumerate() {
                let site = format!("blocks.{i}.hook_{site}_out");
                parts.push(part(format!("{what} {i}"), site, Some(i), None, 1 + 2 * i + j));
            }
        }
        let layer = whose.layer.filter(|&l| l < self.layers);
        let head = |l: usize| {
            let site = format!("blocks.{l}.attn.hook_z");
            let one = move |h| part(format!("head {l}.{h}"), site.clone(), Some(l), Some(h), 9 + h);
            (0..self.heads).map(one).collect()
        };
        let heads: Vec<Part> = layer.map(head).unwrap_or_default();
        let total = parts.iter().map(|p| p.value).sum();
        let note = "The last normalisation is held fixed.".into();
        Ok(Attribution {
            position: whose.position,
            token,
            against,
            total,
            parts,
            layer,
            heads,
            note,
        })
    }

    fn effect(&mut self, prompt: &Prompt, edits: &[Edit], position: usize) -> Answer<Effect> {
        let t = self.place(prompt, position)?;
        let mut shift = 0.0;
        for edit in edits {
            let known = edit.site.split('.').next().is_some_and(|s| s.ends_with("blocks"));
            if !known && edit.site != "hook_embed" {
                return Err(Fault::input(format!("no site is named {:?}", edit.site)));
            }
            if edit.how == How::Patch {
                let other = words(edit.text.as_deref().unwrap_or("")).len();
                if other != t {
                    let message = format!("the other text has {other} tokens, this one {t}");
                    return Err(Fault::input(message));
                }
            }
            shift -= 1.0 + edit.head.unwrap_or(3) as f32 / 4.0;
        }
        let before = self.said(self.layers, position, 0.0);
        let after = self.said(self.layers, position, shift);
        let now = |id| after.iter().find(|g| g.id == id).map_or(0.0, |g| g.probability);
        let change = |g: &Guess| Change {
            id: g.id,
            text: g.text.clone(),
            before: g.probability,
            after: now(g.id),
        };
        let rows: Vec<Change> = before.iter().take(10).map(change).collect();
        let loss = |g: &Guess| g.probability * (g.probability / now(g.id)).ln();
        Ok(Effect { position, rows, divergence: before.iter().map(loss).sum() })
    }

    fn open(&mut self, checkpoint: &str) -> Answer<Card> {
        self.checkpoint = Some(checkpoint.into());
        Ok(self.card())
    }
}
