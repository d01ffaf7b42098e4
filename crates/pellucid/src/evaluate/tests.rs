//! Against sacrebleu, scikit-learn, seqeval and scipy.

use super::*;
use serde_json::Value;

fn golden() -> Value {
    serde_json::from_str(include_str!("../../tests/golden/scores.json")).unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn close(got: f64, wanted: &Value, what: &str) {
    let wanted = wanted.as_f64().unwrap();
    assert!((got - wanted).abs() <= 1e-9 * wanted.abs().max(1.0), "{what}: {got}, not {wanted}");
}

#[test]
fn translations_score_as_in_sacrebleu() {
    let golden = golden();
    for (number, case) in list(&golden["translations"]).iter().enumerate() {
        let text = |v: &Value| v.as_str().unwrap().to_owned();
        let hypotheses: Vec<String> = list(&case["hypotheses"]).iter().map(text).collect();
        let references: Vec<Vec<String>> =
            list(&case["references"]).iter().map(|r| list(r).iter().map(text).collect()).collect();
        for tokens in [Tokens::V13a, Tokens::None, Tokens::Characters] {
            let name = match tokens {
                Tokens::V13a => "13a",
                Tokens::None => "none",
                Tokens::Characters => "char",
            };
            let found = bleu::corpus(&hypotheses, &references, tokens).unwrap();
            let wanted = &case["bleu"][name];
            let what = format!("case {number}, {name}");
            assert_eq!(found.length as u64, wanted["sys"].as_u64().unwrap(), "{what}");
            assert_eq!(found.reference_length as u64, wanted["ref"].as_u64().unwrap(), "{what}");
            close(found.brevity_penalty, &wanted["bp"], &what);
            close(found.score, &wanted["score"], &what);
            if found.score > 0.0 {
                for (n, precision) in found.precisions.iter().enumerate() {
                    close(*precision, &wanted["precisions"][n], &what);
                }
            }
        }
        for (i, words) in [0, 2].into_iter().enumerate() {
            let found = Chrf { words }.corpus(&hypotheses, &references).unwrap();
            close(found, &case["chrf"][i], &format!("case {number}, {words} words"));
        }
    }
}

#[test]
fn labels_agree_as_in_scikit_learn() {
    let golden = golden();
    for case in list(&golden["labels"]) {
        let ids =
            |v: &Value| list(v).iter().map(|x| x.as_u64().unwrap() as u32).collect::<Vec<_>>();
        let (right, given) = (ids(&case["right"]), ids(&case["given"]));
        let labels = case["labels"].as_u64().unwrap() as usize;
        let found = Agreement::of(labels, &right, &given).unwrap();
        close(found.accuracy(), &case["accuracy"], "accuracy");
        close(found.macro_f1(), &case["macro_f1"], "macro F1");
        close(found.f1(1), &case["f1"], "F1");
        close(found.matthews().unwrap(), &case["matthews"], "Matthews");
    }
    let same = Agreement::of(2, &[1, 0], &[1, 1]).unwrap();
    assert_eq!((same.matthews(), same.accuracy()), (None, 0.5));
    assert!(Agreement::of(2, &[2], &[0]).is_err() && Agreement::of(2, &[], &[]).is_err());
}

#[test]
fn entities_are_found_and_scored_as_in_seqeval() {
    let golden: Value = serde_json::from_str(include_str!("../../tests/golden/tags.json")).unwrap();
    let mut malformed = 0;
    for (number, case) in list(&golden["cases"]).iter().enumerate() {
        let text = |v: &Value| v.as_str().unwrap().to_owned();
        let tags = |v: &Value| list(v).iter().map(text).collect::<Vec<String>>();
        let sentences = |v: &Value| list(v).iter().map(tags).collect::<Vec<_>>();
        let (right, given) = (sentences(&case["right"]), sentences(&case["given"]));
        for (tags, wanted) in right.iter().chain(&given).zip(list(&case["entities"])) {
            // seqeval counts the last word in.
            let found = tags::entities(tags).into_iter();
            let found: Vec<Value> =
                found.map(|e| serde_json::json!([e.kind, e.start, e.end - 1])).collect();
            assert_eq!(&found, list(wanted), "case {number}: {tags:?}");
            malformed +=
                usize::from(tags.windows(2).any(|w| w[0] == "O" && w[1].starts_with("I-")));
        }
        let found = Tagging::of(&right, &given).unwrap();
        let what = format!("case {number}");
        close(found.accuracy(), &case["accuracy"], &what);
        close(found.micro().precision(), &case["precision"], &what);
        close(found.micro().recall(), &case["recall"], &what);
        close(found.micro().f1(), &case["f1"], &what);
        close(found.macro_f1(), &case["macro_f1"], &what);
        let types = case["types"].as_object().unwrap();
        assert_eq!(found.types.keys().collect::<Vec<_>>(), types.keys().collect::<Vec<_>>());
        for (kind, counts) in &found.types {
            close(counts.precision(), &types[kind][0], &what);
            close(counts.recall(), &types[kind][1], &what);
            close(counts.f1(), &types[kind][2], &what);
            assert_eq!(counts.right, types[kind][3].as_u64().unwrap(), "{what}");
        }
    }
    assert!(malformed > 10, "{malformed} sentences in which I follows O");
}

#[test]
fn what_seqeval_does_not_know_is_read_too() {
    let found = |tags: &str| -> Vec<(String, usize, usize)> {
        let tags: Vec<&str> = tags.split(' ').collect();
        tags::entities(&tags).iter().map(|e| (e.kind.to_owned(), e.start, e.end)).collect()
    };
    let wanted = |all: &[(&str, usize, usize)]| -> Vec<(String, usize, usize)> {
        all.iter().map(|&(kind, start, end)| (kind.to_owned(), start, end)).collect()
    };
    // BILOU: neighbours of one type stay apart.
    assert_eq!(
        found("U-A U-A B-A L-A L-A"),
        wanted(&[("A", 0, 1), ("A", 1, 2), ("A", 2, 4), ("A", 4, 5)])
    );
    // Types alone.
    assert_eq!(found("LOC LOC O PER LOC"), wanted(&[("LOC", 0, 2), ("PER", 3, 4), ("LOC", 4, 5)]));
    assert_eq!(found("O-A B- I-é"), wanted(&[("_", 1, 2), ("é", 2, 3)]));
    assert!(tags::tell_entities(&["A", "O"]) && tags::tell_entities(&["B-x"]));
    assert!(!tags::tell_entities(&["NN", "VB", "."]));
    let tags = |n: usize| vec![vec!["O"; n]];
    assert!(Tagging::of(&tags(1), &tags(2)).is_err() && Tagging::of(&tags(0), &tags(0)).is_err());
    assert!(Tagging::of(&tags(1), &[]).is_err());
}

#[test]
fn numbers_correlate_as_in_scipy() {
    let golden = golden();
    for case in list(&golden["numbers"]) {
        let values = |v: &Value| list(v).iter().map(|x| x.as_f64().unwrap()).collect::<Vec<_>>();
        let (x, y) = (values(&case["x"]), values(&case["y"]));
        close(pearson(&x, &y).unwrap().unwrap(), &case["pearson"], "Pearson");
        close(spearman(&x, &y).unwrap().unwrap(), &case["spearman"], "Spearman");
    }
    assert_eq!(spearman(&[1.0, 1.0], &[1.0, 2.0]).unwrap(), None);
    assert!(pearson(&[1.0, f64::NAN], &[1.0, 2.0]).is_err() && pearson(&[1.0], &[1.0]).is_err());
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let reference = vec![vec!["a".to_owned()]];
    assert!(bleu::corpus(&["a", "b"], &reference, Tokens::V13a).is_err());
    assert!(bleu::corpus(&["a"], &[vec![]], Tokens::V13a).is_err());
    assert!(Chrf::default().corpus(&[] as &[&str], &[]).is_err());
}

#[test]
fn answers_are_measured_by_hand() {
    let answered = |log_probability, tokens, bytes| Answered {
        log_probability,
        greedy: log_probability > -1.0,
        tokens,
        bytes,
    };
    // The first is best by sum, the second per byte, the third per token.
    let three = vec![answered(-3.0, 1, 3), answered(-4.0, 2, 8), answered(-4.5, 3, 5)];
    // Equal ones: the first.
    let two = vec![answered(-0.5, 1, 1), answered(-0.5, 1, 1)];
    let found =
        Choices::of(&[(0, three.clone()), (1, three.clone()), (2, three), (0, two)]).unwrap();
    assert_eq!(found.sum, Share { right: 2, all: 4 });
    assert_eq!((found.per_byte.right, found.per_token.right), (2, 2));
    assert!((found.chance - 0.375).abs() < 1e-12);
    // √(0.5 · 0.5 / 3).
    assert!((found.sum.standard_error().unwrap() - 0.288_675_134_594_8).abs() < 1e-12);
    assert_eq!(Share { right: 1, all: 1 }.standard_error(), None);

    let words = [answered(-0.5, 1, 3), answered(-1.5, 2, 3), answered(-4.0, 1, 3)];
    let found = LastWords::of(&words).unwrap();
    assert_eq!(found.accuracy, Share { right: 1, all: 3 });
    assert!((found.perplexity - 2f64.exp()).abs() < 1e-12);
    // Squares 2.25, 0.25, 4: √(6.5 / 2 / 3) of the mean.
    let error = 2f64.exp() * (6.5f64 / 6.0).sqrt();
    assert!((found.perplexity_error.unwrap() - error).abs() < 1e-12);
}

#[test]
fn answers_that_cannot_be_measured_are_refused() {
    let answered = Answered { log_probability: -1.0, greedy: false, tokens: 1, bytes: 1 };
    let refused = |questions: &[(usize, Vec<Answered>)]| Choices::of(questions).unwrap_err();
    assert!(refused(&[]).to_string().contains("no questions"));
    assert!(refused(&[(0, vec![])]).to_string().contains("question 0: no answer"));
    assert!(refused(&[(1, vec![answered])]).to_string().contains("answer 1 of 1"));
    let nan = Answered { log_probability: f64::NAN, ..answered };
    assert!(refused(&[(0, vec![answered]), (0, vec![nan])]).to_string().contains("question 1"));
    assert!(
        refused(&[(0, vec![Answered { tokens: 0, ..answered }])]).to_string().contains("tokens")
    );
    assert!(LastWords::of(&[nan]).is_err() && LastWords::of(&[]).is_err());
}
