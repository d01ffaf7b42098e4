//! Looking changes nothing, changing changes what it says, and what does not exist is refused.

use crate::examples::{Example, examples};
use crate::support::{ids, zoo};
use pellucid::backend::cpu::pool::Pool;
use pellucid::model::config::Config;
use pellucid::model::edit::{Pick, Region};
use pellucid::model::observer::{End, Observer};
use pellucid::model::site::{Part, Site};
use pellucid::model::watch::Watch;
use pellucid::ops::objective::{Of, Term};
use pellucid::ops::tap::Change;

/// Sites whose change takes fused operations apart, and so may change bits.
fn takes_apart(site: &Site) -> bool {
    let name = site.to_string();
    ["scale", "normalized", "attn_scores", "pattern", "result"].iter().any(|s| name.ends_with(s))
}

fn run(example: &Example, watch: Watch, end: End) -> Observer {
    let mut observer = Observer::new(&example.config, example.sizes, watch, end, 2).unwrap();
    observer.run(&Pool::new(2), &example.weights, example.text()).unwrap();
    observer
}

fn final_site(config: &Config) -> Site {
    let logits = Site::logits(config);
    if logits.missing(config).is_some() { logits.with(Part::UnembedIn) } else { logits }
}

fn largest_error(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    // NaN counts as the largest.
    a.iter().zip(b).fold(0.0, |m, (a, b)| {
        let e = (a - b).abs();
        if e <= m { m } else { e }
    })
}

#[test]
fn capturing_everything_changes_no_bit_and_every_site_fires_once() {
    for example in examples() {
        let name = &example.name;
        let end = final_site(&example.config);
        let plain = run(&example, Watch::capture(&[end]), End::Sites);
        let all = Site::all(&example.config);
        let seen = run(&example, Watch::capture(&all), End::Sites);
        assert_eq!(seen.value(end).unwrap(), plain.value(end).unwrap(), "{name}");
        for (receipt, site) in seen.receipts().unwrap().iter().zip({
            let mut sorted = all.clone();
            sorted.sort();
            sorted
        }) {
            assert_eq!(receipt.fired, 1, "{name} {site}");
            assert!(receipt.norm.unwrap().is_finite(), "{name} {site}");
            let shape = site.shape(&example.config, example.sizes);
            assert_eq!(seen.read(site).unwrap().len(), shape.iter().product::<usize>());
        }
    }
}

#[test]
fn a_change_that_changes_nothing_changes_no_bit_where_nothing_is_taken_apart() {
    for example in examples() {
        let end = final_site(&example.config);
        let plain = run(&example, Watch::capture(&[end]), End::Sites);
        for site in Site::all(&example.config) {
            let watch = Watch { capture: vec![end], edit: vec![site], ..Watch::default() };
            let mut observer =
                Observer::new(&example.config, example.sizes, watch, End::Sites, 2).unwrap();
            observer.change(site, &Region::all(), &Change::Scale(1.0)).unwrap();
            observer.run(&Pool::new(2), &example.weights, example.text()).unwrap();
            let error = largest_error(observer.value(end).unwrap(), plain.value(end).unwrap());
            let limit = if takes_apart(&site) { 2e-4 } else { 0.0 };
            assert!(error <= limit, "{} {site}: {error}", example.name);
        }
    }
}

#[test]
fn setting_a_site_to_what_it_was_changes_nothing_and_to_something_else_does() {
    for example in examples() {
        let end = final_site(&example.config);
        let all = Site::all(&example.config);
        let seen = run(&example, Watch::capture(&all), End::Sites);
        for site in all {
            let set = |values: Vec<f32>| {
                let watch = Watch { capture: vec![end], edit: vec![site], ..Watch::default() };
                let mut observer =
                    Observer::new(&example.config, example.sizes, watch, End::Sites, 2).unwrap();
                observer.change(site, &Region::all(), &Change::Set(values.into())).unwrap();
                observer.run(&Pool::new(2), &example.weights, example.text()).unwrap();
                largest_error(observer.value(end).unwrap(), seen.value(end).unwrap())
            };
            let values = seen.read(site).unwrap();
            let error = set(values.clone());
            assert!(error <= 2e-4, "{} {site}: {error}", example.name);
            let other = set(values
                .iter()
                .map(|x| if x.is_finite() { 1.5 * x + 0.25 * x.sin() } else { *x })
                .collect());
            let moved = other > 1e-7 && other > 3.0 * error;
            assert!(moved, "{} {site}: a change of everything moved {other}", example.name);
        }
    }
}

#[test]
fn gradients_at_every_site_are_what_small_changes_say() {
    for example in examples().into_iter().filter(|e| e.config.outputs() > 1) {
        let (config, name) = (&example.config, &example.name);
        let rows = example.rows();
        let terms = vec![
            Term { row: rows - 1, id: 1, of: Of::LogProbability, weight: 1.0 },
            Term { row: 0, id: 0, of: Of::Score, weight: -0.5 },
        ];
        let all = Site::all(config);
        let watch = Watch { capture: all.clone(), gradient: all.clone(), ..Watch::default() };
        let mut observer = Observer::new(config, example.sizes, watch, End::Objective, 2).unwrap();
        observer.ask(terms.clone());
        observer.run(&Pool::new(2), &example.weights, example.text()).unwrap();
        for site in all {
            let (gradient, values) =
                (observer.gradient(site).unwrap(), observer.read(site).unwrap());
            // Along a direction that the gradient itself gives, so that the change is not lost in rounding.
            let size = gradient.iter().map(|g| g * g).sum::<f32>().sqrt();
            let spread = values.iter().filter(|x| x.is_finite()).map(|x| x * x).sum::<f32>().sqrt();
            if !(size > 1e-6) {
                continue;
            }
            let moved = |step: f32| -> f64 {
                let direction = gradient.iter().map(|g| step * g / size).collect::<Vec<_>>();
                let watch = Watch { edit: vec![site], ..Watch::default() };
                let mut o = Observer::new(config, example.sizes, watch, End::Objective, 2).unwrap();
                o.ask(terms.clone());
                o.change(site, &Region::all(), &Change::Add(direction.into())).unwrap();
                o.run(&Pool::new(2), &example.weights, example.text()).unwrap();
                o.answers().iter().zip(&terms).map(|(a, t)| a * f64::from(t.weight)).sum()
            };
            // Curved ones need a small step, and small slopes a large one: rounding is that of f32.
            let holds = [2e-3f32, 2e-4].iter().any(|step| {
                let step = step * spread.max(1.0);
                let slope = (moved(step) - moved(-step)) / (2.0 * f64::from(step));
                let limit = 0.03 * f64::from(size) + 2e-6 / f64::from(step);
                (slope - f64::from(size)).abs() <= limit
            });
            assert!(
                holds,
                "{name} {site}: the gradient is {size} long, the slope along it another"
            );
        }
    }
}

#[test]
fn an_ablated_head_is_one_whose_output_is_not_read() {
    let (_, config) = zoo().remove(0);
    let example = Example::new("gpt2", config.clone(), 3);
    let logits = Site::logits(&config);
    let z = Site::block(1, Part::Z);
    let watch = Watch { capture: vec![logits], edit: vec![z], ..Watch::default() };
    let mut observer = Observer::new(&config, example.sizes, watch, End::Sites, 2).unwrap();
    let head = Region::of([Pick::All, Pick::All, Pick::one(2)]);
    observer.change(z, &head, &Change::Fill(0.0)).unwrap();
    observer.run(&Pool::new(2), &example.weights, example.text()).unwrap();
    let mut weights = example.weights.clone();
    let d = config.head_width;
    let out = weights.get_mut("blocks.1.attn.out.weight").unwrap();
    for row in out.chunks_exact_mut(config.heads * d) {
        row[2 * d..3 * d].fill(0.0);
    }
    let mut other = example.clone();
    other.weights = weights;
    let without = run(&other, Watch::capture(&[logits]), End::Sites);
    let error = largest_error(observer.value(logits).unwrap(), without.value(logits).unwrap());
    assert!(error <= 1e-5, "{error}");
}

#[test]
fn what_would_not_fire_is_refused_by_name_and_reason() {
    let (_, config) = zoo().remove(0);
    let sizes = Example::new("gpt2", config.clone(), 3).sizes;
    let error = |site: Site| {
        let made = Observer::new(&config, sizes, Watch::capture(&[site]), End::Sites, 1);
        made.unwrap_err().to_string()
    };
    let beyond = error(Site::block(7, Part::Pattern));
    assert!(beyond.contains("blocks.7.attn.hook_pattern would not fire"), "{beyond}");
    assert!(beyond.contains("blocks are numbered 0..2"), "{beyond}");
    let rotary = error(Site::block(0, Part::RotQ));
    assert!(rotary.contains("does not rotate"), "{rotary}");
    let mut observer = Observer::new(&config, sizes, Watch::default(), End::Sites, 1).unwrap();
    let z = Site::block(0, Part::Z);
    assert!(observer.change(z, &Region::all(), &Change::Fill(0.0)).is_err());
    let row = ids(1, 3, config.vocab);
    assert!(
        observer
            .run(
                &Pool::new(1),
                &Example::new("x", config, 1).weights,
                pellucid::model::observer::Text::of(&row)
            )
            .is_err()
    );
}
