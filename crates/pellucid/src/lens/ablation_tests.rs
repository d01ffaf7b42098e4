//! Taking out what does nothing changes nothing; taking out what does everything leaves chance.

use super::*;
use crate::backend::cpu::pool::Pool;
use crate::lens::fixtures::induction_head;
use crate::lens::head_scores::RandomTexts;
use crate::lens::test_models;
use crate::lens::tests::Counted;
use crate::model::weights::Weights;

const ALL: [Removal; 3] = [Removal::Zero, Removal::Mean, Removal::Resample];
const IDS: [i32; 6] = [3, 14, 15, 9, 2, 6];
const OTHER: [i32; 6] = [27, 18, 28, 18, 28, 45];

fn value(table: &Ablation, c: Component) -> f64 {
    table.without.iter().find(|(other, _)| *other == c).unwrap().1
}

fn metric_table(config: &Config, weights: &Weights, removal: Removal) -> Ablation {
    let pool = Pool::new(1);
    let subject = Subject { config, weights, pool: &pool };
    let metric = Metric::LogProbability(7);
    let mut follower = Counted::default();
    let table = metric_without(subject, (&IDS, &OTHER), &metric, removal, &mut follower).unwrap();
    assert_eq!(follower.cells, table.without.len());
    assert_eq!(follower.values.len(), table.without.len());
    table
}

#[test]
fn a_head_whose_output_is_not_read_can_go() {
    let (config, mut weights) = test_models::random(Config::gpt2(), 7);
    let (h, d) = (config.heads, config.head_width);
    for row in weights.get_mut("blocks.0.attn.out.weight").unwrap().chunks_exact_mut(h * d) {
        row[2 * d..3 * d].fill(0.0);
    }
    let pool = Pool::new(1);
    let rows = [IDS.to_vec(), OTHER.to_vec()];
    for removal in ALL {
        let table = metric_table(&config, &weights, removal);
        let unread = Component::Head(0, 2);
        assert!((value(&table, unread) - table.whole).abs() < 1e-5, "{removal:?} {table:?}");
        assert!((value(&table, Component::Head(0, 1)) - table.whole).abs() > 1e-4);
        assert_eq!(table.changes().last().unwrap().0, unread);
        let subject = Subject { config: &config, weights: &weights, pool: &pool };
        let loss = loss_without(subject, &rows, removal, &mut ()).unwrap();
        assert!((value(&loss, unread) - loss.whole).abs() < 1e-5, "{removal:?} {loss:?}");
        assert!((value(&loss, Component::FeedForward(1)) - loss.whole).abs() > 1e-4);
    }
}

#[test]
fn without_a_sublayer_is_as_with_its_matrix_zeroed() {
    for base in [Config::gpt2(), Config::llama()] {
        let (config, weights) = test_models::random(base, 7);
        let table = metric_table(&config, &weights, Removal::Zero);
        for (c, matrix) in [
            (Component::Attention(1), "blocks.1.attn.out"),
            (Component::FeedForward(0), "blocks.0.mlp.out"),
        ] {
            let mut weights = weights.clone();
            for name in ["weight", "bias"] {
                let _ = weights.get_mut(&format!("{matrix}.{name}")).map(|w| w.fill(0.0));
            }
            let zeroed = metric_table(&config, &weights, Removal::Zero).whole;
            assert!((value(&table, c) - zeroed).abs() < 1e-4, "{c}: {table:?} {zeroed}");
        }
    }
}

#[test]
fn another_text_that_is_the_same_changes_nothing_and_a_text_of_one_token_is_its_mean() {
    let (config, weights) = test_models::random(Config::llama(), 9);
    let pool = Pool::new(1);
    let subject = Subject { config: &config, weights: &weights, pool: &pool };
    let metric = Metric::LogProbability(7);
    let ask = |ids: &[i32], other: &[i32], removal| {
        metric_without(subject, (ids, other), &metric, removal, &mut ())
    };
    let same = ask(&IDS, &IDS, Removal::Resample).unwrap();
    assert!(same.changes().iter().all(|(_, change)| change.abs() < 1e-5), "{same:?}");
    let one = ask(&IDS[..1], &[], Removal::Mean).unwrap();
    assert!(one.changes().iter().all(|(_, change)| change.abs() < 1e-5), "{one:?}");
    assert!(ask(&IDS, &OTHER[..3], Removal::Resample).is_err());
    let rows = [IDS.to_vec(), IDS.to_vec()];
    let same = loss_without(subject, &rows, Removal::Resample, &mut ()).unwrap();
    assert!(same.changes().iter().all(|(_, change)| change.abs() < 1e-5), "{same:?}");
    assert!(loss_without(subject, &rows[..1], Removal::Resample, &mut ()).is_err());
    assert!(loss_without(subject, &[vec![1]], Removal::Zero, &mut ()).is_err());
}

#[test]
fn the_built_induction_head_needs_both_its_heads() {
    let (config, weights) = induction_head(12, 24, 30.0).unwrap();
    // With a feed-forward that says nothing.
    let (bare, of_bare) = (config.clone(), weights.clone());
    let (config, weights) = test_models::grown(&weights, Config { hidden: 4, ..config });
    let pool = Pool::new(1);
    let subject = Subject { config: &config, weights: &weights, pool: &pool };
    let rows = RandomTexts { tokens: 6, repeats: 3, samples: 3, ..RandomTexts::default() }
        .draw(&config)
        .unwrap();
    let mut follower = Counted::default();
    let got = loss_without(subject, &rows, Removal::Zero, &mut follower).unwrap();
    assert_eq!(follower.cells, got.without.len() + 1, "three texts are one batch");
    assert_eq!(follower.values.len(), follower.cells);
    // A known cell is not run again: it is believed.
    follower.values.insert(0, 300.0);
    follower.values.remove(&2);
    let again = loss_without(subject, &rows, Removal::Zero, &mut follower).unwrap();
    assert_eq!((follower.cells, &again.without), (1, &got.without));
    assert!((again.whole - 300.0 / 51.0).abs() < 1e-9, "{}", again.whole);
    let silent = value(&got, Component::Head(1, 0));
    assert!((silent - 12f64.ln()).abs() < 1e-4, "without an answer all tokens are alike: {silent}");
    for c in [Component::Head(0, 0), Component::Attention(0), Component::Attention(1)] {
        assert!((value(&got, c) - got.whole).abs() > 1.0, "{c} {got:?}");
    }
    assert!((value(&got, Component::FeedForward(0)) - got.whole).abs() < 1e-9);
    let subject = Subject { config: &bare, weights: &of_bare, ..subject };
    let alone = loss_without(subject, &rows[..1], Removal::Zero, &mut ()).unwrap();
    assert_eq!(alone.without.len(), 4, "there is no feed-forward to take out: {alone:?}");
}
