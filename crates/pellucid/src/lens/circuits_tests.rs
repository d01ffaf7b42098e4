//! Heads built to copy and to compose are found to; the short forms are the long ones.

use super::*;
use crate::backend::cpu::pool::Pool;
use crate::lens::fixtures::induction_head;
use crate::lens::test_models;
use crate::model::weights::Weights;

fn found(config: &Config, weights: &Weights) -> Circuits {
    let pool = Pool::new(1);
    let subject = Subject { config, weights, pool: &pool };
    let mut heard = 0;
    let found = circuits(subject, &mut |done| {
        heard = done;
        Ok(())
    });
    assert_eq!(heard, config.layers * config.heads);
    found.unwrap()
}

#[test]
fn the_built_induction_head_copies_and_is_keyed_by_the_first() {
    let n = 12;
    let (config, mut weights) = induction_head(n, 24, 30.0).unwrap();
    let got = found(&config, &weights);
    let copying = got.copying.unwrap();
    // The first head writes where the scores do not read.
    assert!(copying[0] == 0.0 && (copying[1] - 1.0).abs() < 1e-9, "{copying:?}");
    let [q, k, v] = got.composition.map(|all| all[1]);
    // beta · Σ t tᵀ over beta √V · √V.
    assert!((k - 1.0 / (n as f64).sqrt()).abs() < 1e-9, "{k}");
    assert_eq!((q, v), (0.0, 0.0));
    // Scores turned around by one token: it raises the next, and copies no more.
    let width = config.width;
    weights.get_mut("head.weight").unwrap().rotate_right(width);
    let copying = found(&config, &weights).copying.unwrap();
    assert!(copying[1].abs() < 1e-9, "{copying:?}");
}

#[test]
fn random_heads_copy_little_and_sums_are_the_definition() {
    for base in [Config::gpt2(), Config::llama()] {
        let (config, weights) = test_models::random(base, 3);
        let got = found(&config, &weights);
        let pool = Pool::new(1);
        let all = heads(Subject { config: &config, weights: &weights, pool: &pool }).unwrap();
        let n = all.len();
        for (a, b) in [(0, 4), (3, 5), (2, 7)] {
            let (ov, qk) = (&all[a].o * &all[a].v, all[b].q.transpose() * &all[b].k);
            let later = &all[b].o * &all[b].v;
            let want = [
                (qk.transpose() * &ov).norm() / qk.norm() / ov.norm(),
                (&qk * &ov).norm() / qk.norm() / ov.norm(),
                (&later * &ov).norm() / later.norm() / ov.norm(),
            ];
            for (got, want) in got.composition.iter().zip(want) {
                let got = got[a * n + b];
                assert!((got - want).abs() < 1e-12 && want > 0.05, "{a} {b}: {got} {want}");
            }
        }
        assert!(got.composition.iter().all(|all| (0..4).all(|b| all[5 * n + b] == 0.0)));
        let mean = got.copying.unwrap().iter().sum::<f64>() / n as f64;
        assert!(mean.abs() < 0.3, "{mean}");
    }
}

#[test]
fn a_rotation_has_no_real_direction() {
    // Turned by 60 degrees: eigenvalues 1/2 ± i √3/2.
    let m = DMatrix::from_row_slice(2, 2, &[0.5, -0.75f64.sqrt(), 0.75f64.sqrt(), 0.5]);
    assert!((copying(m).unwrap() - 0.5).abs() < 1e-12);
    assert!(copying(DMatrix::from_element(2, 2, f64::NAN)).is_err());
}

#[test]
fn streams_that_are_no_sums_are_refused() {
    let config = Config::bert();
    let weights = Weights::zeros(&Config { layers: 1, ..Config::nano() });
    let pool = Pool::new(1);
    let subject = Subject { config: &config, weights: &weights, pool: &pool };
    assert!(circuits(subject, &mut |_| Ok(())).is_err());
}
