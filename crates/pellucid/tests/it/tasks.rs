//! Likelihoods of continuations against `transformers`, each text alone in plain loops.

use crate::support::golden;
use pellucid::backend::cpu::pool::Pool;
use pellucid::backend::cpu::stored::Format;
use pellucid::checkpoint;
use pellucid::model::continuations::{Continuations, Likelihood, Request};
use pellucid::model::stored_weights::StoredWeights;
use pellucid::text::Tokenizer;
use serde_json::Value;

fn expected() -> Value {
    serde_json::from_str(&std::fs::read_to_string(golden("tasks/expected.json")).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<i32> {
    value.as_array().unwrap().iter().map(|x| x.as_i64().unwrap() as i32).collect()
}

fn request(value: &Value) -> Request {
    Request {
        source: ids(&value["source"]),
        context: ids(&value["context"]),
        continuation: ids(&value["continuation"]),
    }
}

fn score(folder: &str, requests: &[Request]) -> Vec<Likelihood> {
    let loaded = checkpoint::load(&golden(folder)).unwrap();
    let pool = Pool::new(2);
    let mut scorer = Continuations::new(&loaded.config, None, pool.threads()).unwrap();
    let (mut done, mut calls) = (0, 0);
    let found = scorer
        .score(&pool, &loaded.weights, requests, &mut |now| {
            assert!(now > done);
            (done, calls) = (now, calls + 1);
            Ok(())
        })
        .unwrap();
    assert!(done == requests.len() && calls > 0);
    found
}

/// All in one ragged batch, texts that begin alike read once.
#[test]
fn continuations_are_as_probable_as_alone_in_transformers() {
    let expected = expected();
    for (folder, all) in expected["requests"].as_object().unwrap() {
        let all = all.as_array().unwrap();
        let requests: Vec<Request> = all.iter().map(request).collect();
        let (mut farthest, mut cuts, mut greedy) = (0.0f64, 0, 0);
        for (i, (found, wanted)) in score(folder, &requests).iter().zip(all).enumerate() {
            let far = (found.log_probability - wanted["log_probability"].as_f64().unwrap()).abs();
            assert!(far < 1e-4, "{folder} {i}: {found:?}, not {wanted}");
            assert_eq!(found.greedy, wanted["greedy"].as_bool().unwrap(), "{folder} {i}");
            assert_eq!(found.cut as u64, wanted["cut"].as_u64().unwrap(), "{folder} {i}");
            farthest = farthest.max(far);
            cuts += usize::from(found.cut > 0);
            greedy += usize::from(found.greedy);
        }
        println!("{folder}: {} continuations, farthest {farthest:.1e}", all.len());
        assert!(greedy > 0 && greedy < all.len() && (cuts > 0 || folder.ends_with("t5")));
    }
}

/// Several batches, several chunks of the head, and the same alone as together.
#[test]
fn many_requests_are_as_one() {
    let expected = expected();
    let few: Vec<Request> =
        expected["requests"]["tasks"].as_array().unwrap().iter().map(request).collect();
    let many: Vec<Request> = (0..1000)
        .map(|i| {
            // Different contexts, so that nothing is shared.
            let mut request = few[i % few.len()].clone();
            let at = request.context.len() - 1;
            request.context[at] = (i * 7 % 380) as i32;
            request
        })
        .collect();
    let found = score("tasks", &many);
    for i in [0, 1, 6, 500, 999] {
        let alone = score("tasks", &many[i..=i])[0];
        assert!((found[i].log_probability - alone.log_probability).abs() < 1e-4, "{i}");
        assert_eq!(found[i].greedy, alone.greedy);
    }
}

#[test]
fn stored_weights_say_nearly_the_same() {
    let expected = expected();
    let all: Vec<Request> =
        expected["requests"]["tasks"].as_array().unwrap().iter().map(request).collect();
    let plain = score("tasks", &all);
    let loaded = checkpoint::load(&golden("tasks")).unwrap();
    let pool = Pool::new(2);
    let stored =
        StoredWeights::from_weights(&pool, &loaded.config, loaded.weights, Format::Bf16).unwrap();
    let mut scorer = Continuations::new(&loaded.config, Some(&stored), pool.threads()).unwrap();
    let found = scorer.score(&pool, stored.rest(), &all, &mut |_| Ok(())).unwrap();
    for (i, (found, plain)) in found.iter().zip(&plain).enumerate() {
        let far = (found.log_probability - plain.log_probability).abs();
        assert!(far < 0.05 * (1.0 + plain.log_probability.abs()), "{i}: {found:?} {plain:?}");
    }
    assert!(found.iter().zip(&plain).any(|(f, p)| f.log_probability != p.log_probability));
}

#[test]
fn texts_are_cut_where_the_harness_cuts_them() {
    let tokenizer = Tokenizer::from_file(&golden("text/roberta.json")).unwrap();
    let unsigned = |v: &Value| ids(v).into_iter().map(|id| id as u32).collect::<Vec<u32>>();
    for case in expected()["texts"].as_array().unwrap() {
        let (context, text) = (case[0].as_str().unwrap(), case[1].as_str().unwrap());
        let found = tokenizer.encode_continuation(context, text, None).unwrap();
        assert_eq!(found.context, unsigned(&case[2]), "{context:?} {text:?}");
        assert_eq!(found.continuation, unsigned(&case[3]), "{context:?} {text:?}");
    }
    let none = tokenizer.encode_continuation("The dog", "", None).unwrap_err().to_string();
    assert!(none.contains("has no ids"), "{none}");
}

#[test]
fn what_cannot_be_scored_is_refused() {
    let loaded = checkpoint::load(&golden("tasks")).unwrap();
    let pool = Pool::new(1);
    let mut scorer = Continuations::new(&loaded.config, None, 1).unwrap();
    let good = Request { source: vec![], context: vec![1, 2], continuation: vec![3] };
    let mut refuse = |change: &dyn Fn(&mut Request), wanted: &str| {
        let mut bad = good.clone();
        change(&mut bad);
        let error = scorer
            .score(&pool, &loaded.weights, &[good.clone(), bad], &mut |_| Ok(()))
            .unwrap_err()
            .to_string();
        assert!(error.contains(wanted) && error.contains("request 1"), "{error}");
    };
    refuse(&|r| r.context.clear(), "at least one token");
    refuse(&|r| r.continuation.clear(), "at least one token");
    refuse(&|r| r.continuation = vec![3; 25], "25 tokens, but the context holds 24");
    refuse(&|r| r.continuation = vec![380], "id 380");
    refuse(&|r| r.context[0] = -1, "id -1");
    refuse(&|r| r.source = vec![1], "no encoder");
    let encoder = checkpoint::load(&golden("families/bert")).unwrap();
    let error = Continuations::new(&encoder.config, None, 1).unwrap_err().to_string();
    assert!(error.contains("token after token"), "{error}");
    let mut broken = loaded.weights.clone();
    broken.data_mut().fill(f32::NAN);
    let error = scorer.score(&pool, &broken, &[good], &mut |_| Ok(())).unwrap_err().to_string();
    assert!(error.contains("NaN"), "{error}");
}
