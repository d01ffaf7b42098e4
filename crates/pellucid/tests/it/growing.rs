//! Looking and changing inside while a text grows: what a run over the whole text shows and does.

use crate::support::{distance, families, ids, zoo};
use pellucid::backend::cpu::pool::Pool;
use pellucid::model::config::{Config, Core};
use pellucid::model::decoder::Decoder;
use pellucid::model::edit::{Pick, Region};
use pellucid::model::observer::{End, Observer, Text};
use pellucid::model::site::{Part, Side, Site, Sizes};
use pellucid::model::standing::Standing;
use pellucid::model::watch::Watch;
use pellucid::model::weights::Weights;
use pellucid::ops::tap::Change;

const T: usize = 14;
const S: usize = 6;

/// A decoder that has read a text: a prompt, then token by token.
struct Grown {
    decoder: Decoder,
    logits: Vec<f32>,
}

/// A text, about a source where there are two stacks.
struct Case {
    config: Config,
    weights: Weights,
    text: Vec<i32>,
    source: Vec<i32>,
    pool: Pool,
}

impl Case {
    fn new(config: Config) -> Self {
        let weights = Weights::init(&Config { initial_std: Some(0.2), ..config.clone() }, 3);
        let text = ids(1, T, config.vocab);
        let source = if config.has_source() { ids(2, S, config.source_vocab()) } else { vec![] };
        Self { config, weights, text, source, pool: Pool::new(2) }
    }

    fn grow(&self, tell: impl Fn(&mut Decoder)) -> Grown {
        let mut decoder = if self.config.has_source() {
            Decoder::about(&self.config, (1, S), 1, 20, 2).unwrap()
        } else {
            Decoder::new(&self.config, 1, 20, 2).unwrap()
        };
        tell(&mut decoder);
        if self.config.has_source() {
            decoder.read_sources(&self.pool, &self.weights, &[&self.source]).unwrap();
        }
        let mut feed = |ids: &[i32]| {
            let n = ids.len();
            decoder.extend(&self.pool, &self.weights, ids, n, &[n]).unwrap().to_vec()
        };
        feed(&self.text[..9]);
        let logits = self.text[9..].iter().map(|id| feed(&[*id])).last().unwrap();
        Grown { decoder, logits }
    }

    /// The whole text at once, with a change of part of a site.
    fn whole(&self, capture: &[Site], edit: Option<(Site, &[Pick], &Change)>) -> Observer {
        let sizes = Sizes { b: 1, t: T, s: self.source.len() };
        let edited = edit.iter().map(|(site, ..)| *site).collect();
        let watch = Watch { capture: capture.to_vec(), edit: edited, ..Watch::default() };
        let mut observer = Observer::new(&self.config, sizes, watch, End::Last, 2).unwrap();
        if let Some((site, picks, change)) = edit {
            observer.change(site, &Region(picks.to_vec()), change).unwrap();
        }
        let text = Text { ids: &self.text, source: &self.source, ..Text::default() };
        observer.run(&self.pool, &self.weights, text).unwrap();
        observer
    }

    fn site(&self, layer: usize, part: Part) -> Site {
        let side = if self.config.has_source() { Side::Decoder } else { Side::Only };
        Site { side, layer, part }
    }

    /// Every site of the stack that writes, but the scores of tokens.
    fn sites(&self) -> Vec<Site> {
        let mut all = Site::all(&self.config);
        all.retain(|site| site.fires_while_growing());
        all
    }
}

fn cases() -> Vec<(&'static str, Case)> {
    let seq = families().into_iter().filter(|(_, config)| config.has_source());
    let all = zoo().into_iter().chain(seq);
    let attends = all.filter(|(_, config)| config.core == Core::Transformer);
    attends.map(|(name, config)| (name, Case::new(Config { dropout: 0.0, ..config }))).collect()
}

/// Whether -inf is at the same places, and everything else is near.
fn near(a: &[f32], b: &[f32]) -> bool {
    let same = |(x, y): (&f32, &f32)| x == y || (x - y).abs() <= 2e-4 * (1.0 + y.abs());
    a.len() == b.len() && a.iter().zip(b).all(same)
}

#[test]
fn every_site_is_recorded_as_a_run_over_the_whole_text_shows_it_and_no_bit_changes() {
    for (name, case) in cases() {
        let (sites, plain) = (case.sites(), case.grow(|_| {}));
        let grown = case.grow(|decoder| decoder.record(&sites).unwrap());
        assert!(grown.logits == plain.logits, "{name}: looking changed the logits");
        let whole = case.whole(&sites, None);
        for &site in &sites {
            let got = grown.decoder.recorded(0, site).unwrap();
            let want = whole.read(site).unwrap();
            let shape = site.shape(&case.config, whole.sizes());
            assert_eq!(got.shape, shape[1..], "{name}: {site}");
            assert!(near(&got.values, &want), "{name}: {site}");
        }
    }
}

#[test]
fn scores_and_patterns_are_changed_while_a_text_grows() {
    for (name, case) in cases() {
        let plain = case.grow(|_| {});
        // A head that reads nothing, one whose scores are flatter, and one that may not see two positions.
        let two = Pick::These(vec![2, T - 2]);
        let mut kinds = vec![
            (Part::Pattern, Pick::All, Change::Fill(0.0)),
            (Part::Scores, Pick::All, Change::Scale(0.3)),
            (Part::Scores, two.clone(), Change::Fill(f32::NEG_INFINITY)),
        ];
        if case.config.has_source() {
            kinds.push((Part::CrossPattern, Pick::All, Change::Fill(0.0)));
            kinds.push((Part::CrossScores, Pick::one(2), Change::Fill(f32::NEG_INFINITY)));
        }
        for (part, key, change) in kinds {
            let site = case.site(case.config.blocks_that_generate() - 1, part);
            let head = Pick::one(1);
            let picks = [Pick::All, head.clone(), Pick::All, key.clone()];
            let standing =
                Standing { site, picks: vec![head, key.clone()], change: change.clone() };
            let grown = case.grow(|decoder| decoder.hold(std::slice::from_ref(&standing)).unwrap());
            let whole = case.whole(&[], Some((site, &picks, &change)));
            let want = whole.last_scores().unwrap();
            assert!(distance(&grown.logits, want) < 2e-4, "{name}: {site}");
            // Where a head looks only elsewhere, to hide two positions does nothing.
            let does = distance(&plain.logits, want) > 1e-3;
            assert!(does || key != Pick::All, "{name}: {site} did nothing");
        }
    }
}

#[test]
fn a_record_follows_its_rows() {
    let (_, case) = cases().swap_remove(0);
    let site = case.site(1, Part::Pattern);
    let mut decoder = Decoder::new(&case.config, 2, 20, 2).unwrap();
    decoder.record(&[site]).unwrap();
    let two = [&case.text[..5], &case.text[5..10]].concat();
    decoder.extend(&case.pool, &case.weights, &two, 5, &[5, 3]).unwrap();
    let [first, second] = [0, 1].map(|row| decoder.recorded(row, site).unwrap());
    assert_eq!((first.shape[1], second.shape[1]), (5, 3));
    let alone = case.whole(&[site], None).read(site).unwrap();
    let head = |all: &[f32], t: usize| all[4 * t..5 * t].to_vec();
    assert!(near(&head(&first.values, 5)[..5], &alone[4 * T..4 * T + 5]));
    decoder.reorder(&[1, 0]).unwrap();
    assert_eq!(decoder.recorded(0, site).unwrap(), second);
    decoder.truncate(1, 4).unwrap();
    assert_eq!(decoder.recorded(1, site).unwrap().shape, [4, 4, 4]);
    decoder.reset();
    assert_eq!(decoder.recorded(1, site).unwrap().shape[1], 0);
    assert!(decoder.recorded(2, site).is_err());
    let scores = Site::logits(&case.config);
    let error = decoder.record(&[scores]).unwrap_err().to_string();
    assert!(error.contains("would not fire"), "{error}");
    assert!(decoder.recorded(0, site).is_ok(), "what was kept stays");
}
