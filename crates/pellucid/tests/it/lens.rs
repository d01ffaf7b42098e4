//! What TransformerLens sees inside the same weights: golden files by `tests/golden/make_lens.py`.

use crate::support::{golden, logits};
use pellucid::backend::cpu::pool::Pool;
use pellucid::checkpoint::{self, Loaded};
use pellucid::error::Result;
use pellucid::lens::attribution::{Grain, attribute};
use pellucid::lens::metric::Metric;
use pellucid::lens::names::find_one;
use pellucid::lens::patching::{Grid, Pair, estimate, patch};
use pellucid::lens::subject::Subject;
use pellucid::lens::sweep::{Follower, Forecast};
use pellucid::model::observer::{End, Observer, Text};
use pellucid::model::readout::Readout;
use pellucid::model::site::{Part, Site};
use pellucid::model::watch::Watch;
use serde_json::Value;

/// What the issue asks: below 1e-4, relative where numbers are large.
const TOLERANCE: f64 = 1e-4;

struct Golden {
    name: &'static str,
    loaded: Loaded,
    expected: Value,
    clean: Vec<i32>,
    corrupted: Vec<i32>,
    metric: Metric,
}

impl Golden {
    fn subject<'a>(&'a self, pool: &'a Pool) -> Subject<'a> {
        Subject { config: &self.loaded.config, weights: &self.loaded.weights, pool }
    }
}

fn goldens() -> Vec<Golden> {
    [("gpt2", "families/gpt2"), ("llama", "lens/llama")]
        .into_iter()
        .map(|(name, folder)| {
            let loaded = checkpoint::load(&golden(folder)).unwrap();
            let path = golden("lens").join(format!("{name}.json"));
            let expected: Value =
                serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
            let ids = |key: &str| -> Vec<i32> {
                let all = expected[key].as_array().unwrap();
                all.iter().map(|x| x.as_i64().unwrap() as i32).collect()
            };
            let id = |key: &str| expected[key].as_u64().unwrap() as u32;
            let (clean, corrupted) = (ids("clean"), ids("corrupted"));
            let metric = Metric::Difference { right: id("right"), wrong: id("wrong") };
            Golden { name, loaded, clean, corrupted, metric, expected }
        })
        .collect()
}

/// Numbers row by row; `null` is -inf.
fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(all) => all.iter().flat_map(numbers).collect(),
        Value::Null => vec![f64::NEG_INFINITY],
        number => vec![number.as_f64().unwrap()],
    }
}

fn compare(what: &str, got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len(), "{what}");
    let large = want.iter().filter(|w| w.is_finite()).fold(1.0f64, |m, w| m.max(w.abs()));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let equal = g == w || (g - w).abs() <= TOLERANCE * large;
        assert!(equal, "{what}[{i}]: {g}, TransformerLens has {w}");
    }
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

#[test]
fn every_site_and_its_gradient_is_as_transformer_lens_has_it() {
    let pool = Pool::new(2);
    for g in goldens() {
        let (config, subject) = (&g.loaded.config, g.subject(&pool));
        let cache = g.expected["cache"].as_object().unwrap();
        assert!(cache.len() > 35, "{}: {} sites", g.name, cache.len());
        let sites: Vec<Site> = cache.keys().map(|name| find_one(config, name).unwrap()).collect();
        let observer = subject.observe(Text::of(&g.clean), 1, &sites).unwrap();
        for (&site, (name, value)) in sites.iter().zip(cache) {
            let shape = site.shape(config, observer.sizes());
            assert_eq!(
                wide(&shape.iter().map(|&n| n as f32).collect::<Vec<_>>()),
                numbers(&value[0])
            );
            let what = format!("{} {name}", g.name);
            compare(&what, &wide(&observer.read(site).unwrap()), &numbers(&value[1]));
        }
        let gradients = g.expected["gradient"].as_object().unwrap();
        let sites: Vec<Site> =
            gradients.keys().map(|name| find_one(config, name).unwrap()).collect();
        let watch = Watch { gradient: sites.clone(), ..Watch::default() };
        let sizes = subject.sizes(&Text::of(&g.corrupted), 1);
        let mut run = Observer::new(config, sizes, watch, End::Objective, 2).unwrap();
        run.ask(g.metric.terms(g.corrupted.len() - 1));
        run.run(&pool, subject.weights, Text::of(&g.corrupted)).unwrap();
        for (&site, (name, value)) in sites.iter().zip(gradients) {
            let what = format!("{} gradient of {name}", g.name);
            compare(&what, &wide(&run.gradient(site).unwrap()), &numbers(&value[1]));
        }
        let ours = wide(&logits(config, subject.weights, 1, &g.clean));
        compare(g.name, &ours, &numbers(&g.expected["logits"][1]));
    }
}

#[test]
fn the_logit_lens_and_the_attribution_are_as_transformer_lens_has_them() {
    let pool = Pool::new(2);
    for g in goldens() {
        let (config, subject) = (&g.loaded.config, g.subject(&pool));
        let (t, c) = (g.clean.len(), config.width);
        let mut sites: Vec<Site> =
            (0..config.layers).map(|l| Site::block(l, Part::ResidPre)).collect();
        sites.push(Site::block(config.layers - 1, Part::ResidPost));
        let observer = subject.observe(Text::of(&g.clean), 1, &sites).unwrap();
        let mut readout = Readout::new(config, false, 2).unwrap();
        for (&site, want) in sites.iter().zip(g.expected["lens"].as_array().unwrap()) {
            let stream = &observer.value(site).unwrap()[(t - 1) * c..];
            let got = readout.read(&pool, subject.weights, stream).unwrap();
            compare(&format!("{} lens {site}", g.name), &wide(&got), &numbers(want));
        }
        let Metric::Difference { right, wrong } = g.metric else { unreachable!() };
        let direction = [(right, 1.0), (wrong, -1.0)];
        let text = Text::of(&g.clean);
        let found = attribute(subject, text, t - 1, &direction, Grain::Heads).unwrap();
        assert!((found.sum() - found.score).abs() <= 1e-4, "{} {}", found.sum(), found.score);
        let values = numbers(&g.expected["attribution"]["values"]);
        let labels = g.expected["attribution"]["labels"].as_array().unwrap();
        let named = labels.iter().map(|l| l.as_str().unwrap());
        let (mut heads, mut mlps) = (vec![], vec![]);
        for (label, value) in named.zip(&values) {
            if label.starts_with('L') {
                heads.push(*value);
            } else if label.ends_with("_mlp_out") {
                mlps.push(*value);
            }
        }
        let ours = |kind: &str| -> Vec<f64> {
            let of = found.shares.iter().filter(|s| s.component.contains(kind));
            of.map(|s| s.value).collect()
        };
        compare(&format!("{} heads", g.name), &ours("head"), &heads);
        compare(&format!("{} feed-forwards", g.name), &ours("mlp"), &mlps);
    }
}

/// Counts what it hears.
struct Heard(usize);

impl Follower for Heard {
    fn begin(&mut self, forecast: &Forecast) -> Result<()> {
        assert!(forecast.flops <= forecast.flops_apart && forecast.passes <= forecast.cells);
        Ok(())
    }

    fn found(&mut self, _: usize, _: f64) -> Result<()> {
        self.0 += 1;
        Ok(())
    }
}

#[test]
fn patching_is_as_transformer_lens_has_it() {
    let pool = Pool::new(2);
    for g in goldens() {
        let subject = g.subject(&pool);
        let pair = Pair { clean: &g.clean, corrupted: &g.corrupted };
        let grids = [
            ("resid_pre", Grid::Positions(Part::ResidPre)),
            ("resid_mid", Grid::Positions(Part::ResidMid)),
            ("attn_out", Grid::Positions(Part::AttnOut)),
            ("mlp_out", Grid::Positions(Part::MlpOut)),
            ("z_heads", Grid::Heads(Part::Z)),
            ("q_heads", Grid::Heads(Part::Q)),
            ("v_heads", Grid::Heads(Part::V)),
            ("pattern_heads", Grid::Heads(Part::Pattern)),
        ];
        for (name, grid) in grids {
            let want = &g.expected["patch"][name];
            if want.is_null() {
                continue;
            }
            let mut heard = Heard(0);
            let map = patch(subject, pair, &g.metric, grid, &mut heard).unwrap();
            assert_eq!(heard.0, map.values.len());
            compare(&format!("{} patch {name}", g.name), &map.values, &numbers(want));
            // An estimate of the same sign of effect overall; equality is tested where the rest is linear.
            let near = estimate(subject, pair, &g.metric, grid).unwrap();
            assert!((near.corrupted - map.corrupted).abs() <= 1e-4);
            assert!((near.clean - map.clean).abs() <= 1e-4);
            assert_eq!(near.values.len(), map.values.len());
        }
    }
}
