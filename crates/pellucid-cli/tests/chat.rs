//! `pellucid chat` as scripts use it, with a small random model.

use pellucid::backend::cpu::pool::Pool;
use pellucid::checkpoint::{self, GenerationConfig, StoredType};
use pellucid::data::read_conversations;
use pellucid::error::Result;
use pellucid::generate::{Event, Flow, GenerateOptions, Sampling, WithModel, generate};
use pellucid::model::config::Config;
use pellucid::model::decoder::Decoder;
use pellucid::model::weights::Weights;
use pellucid::tensor::random::Random;
use pellucid::text::{ChatMessage, ChatOptions, ChatTemplate, Specials, Tokenizer};
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const TEMPLATE: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
                        {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// Pipes `lines` into `pellucid chat`.
fn chat(folder: &Path, flags: &[&str], lines: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pellucid"))
        .args(["chat", "model", "-t", "0", "-n", "12", "--threads", "1"])
        .args(flags)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that refuses at once does not read.
    let _ = child.stdin.take().unwrap().write_all(lines.as_bytes());
    child.wait_with_output().unwrap()
}

fn said(out: &Output) -> Vec<Value> {
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn refused(out: &Output) -> String {
    assert_eq!(out.status.code(), Some(1));
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// A folder with a model of random weights that knows ASCII, in `model`.
struct World {
    folder: tempfile::TempDir,
    config: Config,
    weights: Weights,
    tokenizer: Tokenizer,
}

impl World {
    fn new(template: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let specials = Specials {
            bos: Some("<|im_start|>".into()),
            eos: Some("<|im_end|>".into()),
            ..Specials::default()
        };
        let letters: String = (' '..='~').chain(['\n']).collect();
        let tokenizer = Tokenizer::characters([letters], &specials).unwrap();
        let config = Config {
            vocab: tokenizer.vocab_size(),
            context: 192,
            layers: 2,
            width: 32,
            heads: 4,
            kv_heads: 2,
            head_width: 8,
            hidden: 48,
            ..Config::llama()
        };
        let mut weights = Weights::init(&config, 5);
        let mut random = Random::new(6, 0);
        weights.data_mut().iter_mut().for_each(|x| *x += 0.2 * random.normal());
        let path = folder.path().join("model");
        let generation = GenerationConfig { eos: vec![], ..GenerationConfig::default() };
        let json = Some(tokenizer.to_json());
        checkpoint::save(&path, &config, &weights, json, &generation, StoredType::F32).unwrap();
        if let Some(template) = template {
            fs::write(path.join("chat_template.jinja"), template).unwrap();
        }
        Self { folder, config, weights, tokenizer }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Ids of the conversation up to the next answer.
    fn prompt(&self, messages: &[ChatMessage]) -> Vec<u32> {
        let options = ChatOptions { add_generation_prompt: true, ..ChatOptions::default() };
        let text = ChatTemplate::new(TEMPLATE, []).unwrap().render(messages, &options).unwrap();
        self.tokenizer.encode(&text).unwrap()
    }

    /// What a model says that read nothing before.
    fn reads_all(&self, prompt: Vec<u32>) -> Vec<u32> {
        let pool = Pool::new(1);
        let mut decoder = Decoder::new(&self.config, 1, self.config.context, 1).unwrap();
        let (weights, vocab) = (&self.weights, self.config.vocab);
        let mut model = WithModel { decoder: &mut decoder, pool: &pool, weights, vocab };
        let options = GenerateOptions {
            max_new: 12,
            sampling: Sampling::greedy(),
            stop_ids: self.tokenizer.piece_to_id("<|im_end|>").into_iter().collect(),
            ..GenerateOptions::default()
        };
        let mut quiet = |_: Event<'_>| -> Result<Flow> { Ok(Flow::Continue) };
        generate(&mut model, &[prompt], &options, None, &mut quiet).unwrap().remove(0).tokens
    }
}

#[test]
fn turns_are_answered_as_reads_all_and_saved() {
    let world = World::new(Some(TEMPLATE));
    let turns = ["hello there", "//slash", "and now?"];
    let lines =
        turns.map(|t| format!("{t}\n")).concat() + "/save said.jsonl\n\n/exit\nnever read\n";
    let out = chat(world.path(), &["--json", "--system", "be brief"], &lines);
    let answers = said(&out);
    assert_eq!(answers.len(), 3, "{answers:?}");
    let mut messages = vec![ChatMessage::new("system", "be brief")];
    let mut held: Vec<u32> = vec![];
    for (turn, answer) in turns.iter().zip(&answers) {
        messages.push(ChatMessage::new("user", turn.replace("//", "/")));
        let prompt = world.prompt(&messages);
        let same = held.iter().zip(&prompt).take_while(|(a, b)| a == b).count();
        let number = |key: &str| answer[key].as_u64().unwrap() as usize;
        assert_eq!((number("prompt_tokens"), number("reused_tokens")), (prompt.len(), same));
        let expected = world.reads_all(prompt.clone());
        assert_eq!(answer["ids"], serde_json::json!(expected));
        let ended = answer["stop"] == "end of text";
        assert!(ended || answer["stop"] == "max tokens" && expected.len() == 12, "{answer}");
        // The last token of an answer that was cut off is not read.
        held = [&prompt[..], &expected[..expected.len() - usize::from(!ended)]].concat();
        let content = answer["content"].as_str().unwrap();
        assert!(answer["kept"] == true && answer["role"] == "assistant", "{answer}");
        messages.push(ChatMessage::new("assistant", content));
    }
    assert!(answers[1]["reused_tokens"].as_u64() > answers[0]["prompt_tokens"].as_u64());
    let saved = read_conversations(&world.path().join("said.jsonl")).unwrap();
    assert_eq!(saved.len(), 1);
    assert_eq!(saved[0].messages, messages);
    // The same for people: the answers, a line each.
    let plain = chat(world.path(), &["--system", "be brief"], &lines);
    let contents = answers.iter().map(|a| format!("{}\n", a["content"].as_str().unwrap()));
    assert_eq!(String::from_utf8(plain.stdout).unwrap(), contents.collect::<String>());
}

#[test]
fn commands_change_what_the_model_is_told() {
    let world = World::new(Some(TEMPLATE));
    let ask = |lines: &str| said(&chat(world.path(), &["--json"], lines));
    let fresh = &ask("hello\n")[0]["ids"];
    let told = ask("one\n/reset\nhello\n/reset\n/system be brief\nhello\n/reset\n/system\nhello");
    assert_eq!(told.len(), 4);
    assert_eq!((&told[1]["ids"], &told[3]["ids"]), (fresh, fresh));
    let messages = [ChatMessage::new("system", "be brief"), ChatMessage::new("user", "hello")];
    let expected = world.reads_all(world.prompt(&messages));
    assert_eq!(told[2]["ids"], serde_json::json!(expected));
    assert_ne!(told[2]["ids"], *fresh);
}

#[test]
fn what_cannot_be_is_refused_with_what_to_do() {
    let world = World::new(Some(TEMPLATE));
    let path = world.path();
    let many = "a message of some length\n".repeat(4);
    let full = chat(path, &["--json"], &many);
    let said_before = full.stdout.split(|&b| b == b'\n').filter(|line| !line.is_empty()).count();
    assert!((1..4).contains(&said_before), "the turns before it are answered");
    let full = refused(&full);
    assert!(full.contains("context holds 192") && full.contains("--forget"), "{full}");
    let forgot = said(&chat(path, &["--json", "--forget"], &many));
    assert!(forgot.len() == 4 && forgot[3]["forgotten_messages"].as_u64() > Some(0), "{forgot:?}");
    let long = refused(&chat(path, &["--forget"], &format!("{}\n", "word ".repeat(60))));
    assert!(long.contains("this message alone"), "{long}");
    for (line, part) in [
        ("/sing\n", "/reset"),
        ("/save\n", "needs the name"),
        ("/save said.jsonl\n", "nothing to save"),
    ] {
        let said = refused(&chat(path, &[], line));
        assert!(said.contains(part), "{line}: {said}");
    }
    let wide = refused(&chat(path, &["--context", "500"], "hi\n"));
    assert!(wide.contains("192"), "{wide}");
    assert!(!path.join("said.jsonl").exists());
}

#[test]
fn a_model_without_a_template_is_given_one() {
    let world = World::new(None);
    let none = refused(&chat(world.path(), &[], "hello\n"));
    assert!(none.contains("no chat template") && none.contains("--template FILE"), "{none}");
    fs::write(world.path().join("chat.jinja"), TEMPLATE).unwrap();
    let answers = said(&chat(world.path(), &["--json", "--template", "chat.jinja"], "hello\n"));
    let prompt = world.prompt(&[ChatMessage::new("user", "hello")]);
    assert_eq!(answers[0]["ids"], serde_json::json!(world.reads_all(prompt)));
    fs::write(world.path().join("bad.jinja"), "{% for %}").unwrap();
    let bad = refused(&chat(world.path(), &["--template", "bad.jinja"], "hello\n"));
    assert!(bad.contains("bad.jinja") && bad.contains("not Jinja"), "{bad}");
    let nowhere = refused(&chat(world.path(), &["--template", "nowhere"], "hello\n"));
    assert!(nowhere.contains("nowhere"), "{nowhere}");
}
