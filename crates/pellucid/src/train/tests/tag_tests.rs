//! Tags of words: which piece has them, and whether an encoder learns them from a word's neighbours.

use crate::autograd::Training;
use crate::backend::cpu::gemm::Precision;
use crate::backend::cpu::pool::Pool;
use crate::checkpoint;
use crate::data::{IGNORE, Ragged, Tagged, TaggedColumns, read_tagged};
use crate::evaluate::Tagging;
use crate::model::batch::{Batch, highest};
use crate::model::config::{Config, Output, Pooling};
use crate::model::reader::{Reader, Wanted};
use crate::model::train_graph::{TrainGraph, TrainOptions};
use crate::model::weights::Weights;
use crate::tensor::random::Random;
use crate::text::{Tokenizer, WordPieceOptions};
use crate::train::launch::{assemble, train};
use crate::train::log;
use crate::train::pretrain::{Control, Event};
use crate::train::run::RunConfig;
use crate::train::tasks::tags::{batch, best, columns, example};
use std::collections::BTreeMap;
use std::path::Path;

/// A sentence whose names are tagged by what stands before them: a person after `mr`, a place after `in`, a name after
/// that of the same entity, and nothing elsewhere. The words alone do not tell.
fn sentence(random: &mut Random) -> Vec<(String, &'static str)> {
    let letters = ["ka", "lo", "mi", "tu", "re", "sa"];
    let name = |random: &mut Random| {
        let mut half = || letters[random.below(6)];
        format!("{}{}", half(), half())
    };
    let mut all = vec![];
    for _ in 0..2 + random.below(3) {
        let filler = ["the", "dog", "went", "home", "with", "and"][random.below(6)];
        all.push((filler.to_owned(), "O"));
        let (before, begins, inside) =
            [("mr", "B-PER", "I-PER"), ("in", "B-LOC", "I-LOC"), ("so", "O", "O")][random.below(3)];
        all.push((before.to_owned(), "O"));
        all.push((name(random), begins));
        if random.below(2) == 0 {
            all.push((name(random), inside));
        }
    }
    all
}

/// Writes `count` sentences as CoNLL's files have them.
fn corpus(path: &Path, seed: u64, count: usize) {
    let mut random = Random::new(seed, 0);
    let mut text = String::from("-DOCSTART- O\n\n");
    for _ in 0..count {
        for (word, tag) in sentence(&mut random) {
            text += &format!("{word} {tag}\n");
        }
        text.push('\n');
    }
    std::fs::write(path, text).unwrap();
}

/// A run in `root` on texts and a tokenizer that are made there; names are several pieces each.
fn settings(root: &Path) -> RunConfig {
    let path = |name: &str| root.join(name).to_string_lossy().into_owned();
    corpus(Path::new(&path("train.txt")), 1, 2000);
    corpus(Path::new(&path("dev.txt")), 2, 100);
    let words = "the dog went home with and mr in so ka lo mi tu re sa ";
    let texts = (0..50).map(|_| Ok(words));
    let tokenizer = Tokenizer::train_word_piece(texts, 80, WordPieceOptions::default()).unwrap();
    tokenizer.save(Path::new(&path("tokenizer.json"))).unwrap();
    let mut run = RunConfig::default();
    for (key, value) in [
        ("data.task", "tags"),
        ("data.train", &*path("train.txt")),
        ("data.validation", &*path("dev.txt")),
        ("data.tokenizer", &*path("tokenizer.json")),
        ("preset", "bert-mini"),
        ("layers", "2"),
        ("width", "64"),
        ("heads", "2"),
        ("dropout", "0"),
        ("train.time", "48"),
        ("steps", "600"),
        ("batch", "16"),
        ("lr", "0.0015"),
        ("schedule.warmup", "10"),
        ("evaluate.every", "300"),
        ("evaluate.batches", "0"),
        ("log.plot", "false"),
        ("threads", "2"),
        ("checkpoint.folder", &*path("run")),
    ] {
        run.set(key, value).unwrap();
    }
    run
}

/// The best tags of sentences by the model in `folder`.
fn given(folder: &Path, sentences: &[Tagged]) -> Vec<Vec<String>> {
    let model = checkpoint::load(folder).unwrap();
    let (labels, pool) = (&model.config.labels, Pool::new(2));
    let tokenizer = Tokenizer::from_folder(folder).unwrap();
    let mut reader = Reader::new(&model.config, Wanted::Scores, Precision::F32, 2).unwrap();
    let words: Vec<_> =
        sentences.iter().map(|s| tokenizer.encode_words(&s.words, None).unwrap()).collect();
    let texts: Vec<Ragged> = words.iter().map(|words| example(words.clone(), &[])).collect();
    let batch = batch(&texts.iter().collect::<Vec<_>>()).unwrap();
    let scores = reader.run(&pool, &model.weights, &batch).unwrap();
    let rows = scores.chunks_exact(batch.time * labels.len()).zip(&words);
    rows.map(|(scores, words)| {
        let tags = best(words, scores, labels.len()).into_iter();
        tags.map(|tag| labels[tag.unwrap() as usize].clone()).collect()
    })
    .collect()
}

fn tags(sentences: &[Tagged]) -> Vec<Vec<String>> {
    sentences.iter().map(|s| s.tags.clone()).collect()
}

#[test]
fn an_encoder_learns_tags_that_neighbours_decide() {
    let root = tempfile::tempdir().unwrap();
    let run = settings(root.path());
    let outcome = train(&run, &mut |_: &Event<'_>| Control::Continue).unwrap();
    let read =
        |name: &str| read_tagged(&root.path().join(name), &TaggedColumns::default(), None).unwrap();
    let (known, held_out) = (read("train.txt"), read("dev.txt"));
    // Knowing each word's most frequent tag is not enough.
    let mut counts: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for (word, tag) in known.iter().flat_map(|s| s.words.iter().zip(&s.tags)) {
        *counts.entry(word).or_default().entry(tag).or_default() += 1;
    }
    let usual = |word: &String| {
        let tags = counts.get(word.as_str()).and_then(|tags| tags.iter().max_by_key(|t| *t.1));
        tags.map_or("O", |(tag, _)| tag).to_owned()
    };
    let usual: Vec<Vec<String>> =
        held_out.iter().map(|s| s.words.iter().map(usual).collect()).collect();
    let right = tags(&held_out);
    let baseline = Tagging::of(&right, &usual).unwrap().micro().f1();
    assert!(baseline < 0.7, "the words alone tell: F1 {baseline}");
    let found = Tagging::of(&right, &given(&outcome.folder, &held_out)).unwrap();
    assert!(found.micro().f1() > 0.95, "F1 {}, {found:?}", found.micro().f1());
    assert_eq!(found.types.keys().collect::<Vec<_>>(), ["LOC", "PER"]);
    // What the run wrote down is the share of words that are right.
    let lines = log::read(&root.path().join("run/metrics.jsonl")).unwrap();
    let told = lines.iter().rev().find_map(|line| line.validation_accuracy).unwrap();
    assert!((told - found.accuracy()).abs() < 1e-9, "{told} is not {}", found.accuracy());
    // Others find the labels under the ids that the model learned.
    let config = std::fs::read_to_string(outcome.folder.join("config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let wanted = ["B-LOC", "B-PER", "I-LOC", "I-PER", "O"];
    for (id, name) in wanted.iter().enumerate() {
        assert_eq!(
            (&config["id2label"][id.to_string()], &config["label2id"][name]),
            (&(*name).into(), &id.into())
        );
    }
    assert_eq!(config["architectures"][0], "BertForTokenClassification");
    assert_eq!(checkpoint::load(&outcome.folder).unwrap().config.labels, wanted);
}

#[test]
fn a_tag_stands_at_the_first_piece_of_its_word() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/text");
    let tokenizer = Tokenizer::from_file(&folder.join("bert.json")).unwrap();
    // In pieces: [CLS] unplayable - n ##e … · the · (nothing) · fox · ' s [SEP].
    let words = ["unplayable-ness", "the", "\u{200d}", "fox", "'s"];
    let encoded = tokenizer.encode_words(&words, None).unwrap();
    let found = example(encoded.clone(), &[7, 0, 5, 3, 4]);
    let n = encoded.ids.len();
    let pieces = n - 6;
    assert!(pieces > 2, "the first word is one piece");
    let wanted: Vec<i32> =
        [vec![IGNORE, 7], vec![IGNORE; pieces - 1], vec![0, 3, 4, IGNORE, IGNORE]].concat();
    let marks: Vec<i32> = found.marks.iter().map(|&mark| mark as i32).collect();
    assert_eq!((marks.len(), &marks), (n, &wanted), "{encoded:?}");
    let batch =
        batch(&[&found, &example(tokenizer.encode_words(&["fox"], None).unwrap(), &[1])]).unwrap();
    assert_eq!(batch.targets[..n], wanted);
    assert_eq!(batch.targets[n..n + 4], [IGNORE, 1, IGNORE, IGNORE]);
    assert_eq!((batch.lengths[1], batch.segments.len()), (3, 0));
    // The scores of the first pieces, and of no other, decide.
    let mut scores = vec![0.0; n * 3];
    for (place, row) in scores.chunks_exact_mut(3).enumerate() {
        row[if encoded.first.contains(&Some(place)) { place % 2 + 1 } else { 0 }] = 1.0;
    }
    let tags = best(&encoded, &scores, 3);
    let at = |word: usize| encoded.first[word].map(|place| place as u32 % 2 + 1);
    assert_eq!(tags, (0..5).map(at).collect::<Vec<_>>());
    assert_eq!((tags[2], highest(&[1.0, f32::NAN]), highest(&[2.0, 2.0])), (None, None, Some(0)));
}

#[test]
fn what_is_right_is_counted() {
    for output in [Output::Sequence, Output::Positions] {
        let base = Config {
            vocab: 11,
            context: 16,
            layers: 1,
            width: 16,
            heads: 2,
            kv_heads: 2,
            head_width: 8,
            hidden: 16,
            ..Config::bert()
        };
        let config = Config {
            output,
            labels: ["a", "b", "c"].map(Into::into).to_vec(),
            pooler: output == Output::Sequence,
            pooling: Pooling::First,
            head_bias: false,
            head_transform: false,
            ..base
        };
        let (pool, mut weights) = (Pool::new(1), Weights::init(&config, 3));
        let mut random = Random::new(5, 0);
        weights.data_mut().iter_mut().for_each(|w| *w += 0.3 * random.normal());
        let rows: Vec<Vec<i32>> =
            (1..9).map(|n| (0..n).map(|_| random.below(11) as i32).collect()).collect();
        let targets: Vec<Vec<i32>> = rows
            .iter()
            .map(|row| match output {
                Output::Positions => {
                    row.iter().map(|id| if id % 4 == 0 { IGNORE } else { id % 3 }).collect()
                }
                _ => vec![row[0] % 3],
            })
            .collect();
        let slices = |rows: &[Vec<i32>]| -> Batch {
            let (ids, targets): (Vec<&[i32]>, Vec<&[i32]>) =
                rows.iter().zip(&targets).map(|(a, b)| (&**a, &**b)).unzip();
            Batch::ragged(&ids, &targets).unwrap()
        };
        let batch = slices(&rows);
        let options = TrainOptions {
            time: 8,
            ragged: true,
            training: Training::default(),
            ..TrainOptions::new(8, 8)
        };
        let mut graph = TrainGraph::new(&config, options, 1).unwrap();
        graph.evaluate(&pool, &weights, &batch).unwrap();
        let mut reader = Reader::new(&config, Wanted::Scores, Precision::F32, 1).unwrap();
        let scores = reader.run(&pool, &weights, &batch).unwrap();
        let wanted = scores.chunks_exact(3).zip(&batch.targets).filter(|(scores, target)| {
            **target != IGNORE && highest(scores) == Some(**target as usize)
        });
        let wanted = wanted.count() as u64;
        assert!(wanted > 0 && wanted < crate::model::batch::counted(&batch.targets) as u64);
        assert_eq!(graph.right(), Some(wanted), "{output:?}");
    }
}

#[test]
fn long_sentences_are_cut_and_a_person_is_told() {
    let root = tempfile::tempdir().unwrap();
    let mut run = settings(root.path());
    let assembled = assemble(&run, &mut |_, _| Ok(())).unwrap();
    assert!(assembled.task.notes().is_empty());
    let fingerprint = assembled.data.fingerprint();
    run.data.longest = 12;
    let assembled = assemble(&run, &mut |_, _| Ok(())).unwrap();
    let notes = assembled.task.notes();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[0].starts_with("training: ") && notes[1].starts_with("validation: "));
    assert!(notes[0].contains("of 2000 sentences are longer than data.longest = 12"), "{notes:?}");
    assert_eq!(assembled.task.longest().unwrap().time, 12);
    (run.train.steps, run.schedule.warmup) = (1, None);
    run.evaluate.every = 0;
    let mut warnings = 0;
    let mut observer = |event: &Event<'_>| {
        warnings += usize::from(matches!(event, Event::Warning(text) if text.contains("cut off")));
        Control::Continue
    };
    train(&run, &mut observer).unwrap();
    assert_eq!(warnings, 2);
    // Other tags of the same words are other data.
    run.data.longest = 0;
    let path = root.path().join("train.txt");
    let text = std::fs::read_to_string(&path).unwrap().replacen("mr O", "mr B-PER", 1);
    std::fs::write(&path, text).unwrap();
    let other = assemble(&run, &mut |_, _| Ok(())).unwrap().data.fingerprint();
    assert_ne!(fingerprint, other);
    // Without validation files a part of the sentences is held out.
    run.data.validation.clear();
    let held = assemble(&run, &mut |_, _| Ok(())).unwrap().task.facts();
    assert!(held.train > 7 * held.validation && held.validation > 100, "{held:?}");
}

#[test]
fn data_that_cannot_be_learned_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let run = settings(root.path());
    let says = |run: &RunConfig, parts: &[&str]| {
        let error = assemble(run, &mut |_, _| Ok(())).unwrap_err().to_string();
        parts.iter().for_each(|part| assert!(error.contains(part), "{part}\n{error}"));
    };
    let write = |name: &str, text: &str| -> Vec<String> {
        std::fs::write(root.path().join(name), text).unwrap();
        vec![root.path().join(name).to_string_lossy().into()]
    };
    let mut other = run.clone();
    other.data.validation = write("new.txt", "mr O\nkalo B-X\n");
    says(&other, &["new.txt:2: unknown label \"B-X\"", "\"B-LOC\", \"B-PER\""]);
    let mut other = run.clone();
    other.data.train = write("one.txt", "mr O\nkalo O\n");
    says(&other, &["all tags are \"O\"", "data.columns"]);
    let mut other = run.clone();
    other.data.columns = ["a", "b", "c"].map(Into::into).to_vec();
    says(&other, &["more than two", "the column of the tag"]);
    let mut other = run.clone();
    other.model.preset = "transformer-tiny".into();
    says(&other, &["tags are learned by an encoder"]);
    let mut other = run.clone();
    other.data.tokenizer = "characters".into();
    says(&other, &["train.start"]);
    assert_eq!(columns(&["ner".into()], None).unwrap().words, crate::data::Column::Number(1));
}
