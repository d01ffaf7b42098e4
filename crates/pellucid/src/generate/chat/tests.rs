//! Conversations with a model whose logits depend on every id before them: what was kept must change nothing.

use super::super::StopReason;
use super::*;
use crate::tensor::random::Random;
use crate::text::Specials;

const TEMPLATE: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
                        {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// Ids of letters and the end get random logits.
struct Table {
    text: Vec<u32>,
    logits: Vec<f32>,
    allowed: Vec<u32>,
    capacity: usize,
    /// How many ids each call gave.
    fed: Vec<usize>,
    forgets: bool,
}

impl Table {
    fn new(tokenizer: &Tokenizer, capacity: usize) -> Self {
        let mut allowed: Vec<u32> = tokenizer.encode("abcdefgh").unwrap();
        allowed.extend(tokenizer.special_ids().eos);
        let logits = vec![f32::NEG_INFINITY; tokenizer.vocab_size()];
        Self { text: vec![], logits, allowed, capacity, fed: vec![], forgets: true }
    }
}

impl NextLogits for Table {
    fn batch(&self) -> usize {
        1
    }
    fn capacity(&self) -> usize {
        self.capacity
    }
    fn vocab(&self) -> usize {
        self.logits.len()
    }
    fn reset(&mut self) {
        self.text.clear();
    }
    fn extend(&mut self, ids: &[i32], t: usize, new: &[usize]) -> Result<&[f32]> {
        assert!(new == [t] && ids.len() == t && t > 0, "{} {t} {new:?}", ids.len());
        self.fed.push(t);
        self.text.extend(ids.iter().map(|&id| id as u32));
        assert!(self.text.len() <= self.capacity, "fed beyond the context");
        let all = self.text.iter().fold(1u64, |h, &id| h.wrapping_mul(31).wrapping_add(id.into()));
        let mut random = Random::new(3, all);
        self.allowed.iter().for_each(|&id| self.logits[id as usize] = random.normal());
        // An answer has at least a letter.
        if let Some((&end, letters)) = self.allowed.split_last()
            && !letters.contains(&(ids[t - 1] as u32))
        {
            self.logits[end as usize] = f32::NEG_INFINITY;
        }
        Ok(&self.logits)
    }
}

impl VerifyLogits for Table {
    fn extend_all(&mut self, _: &[i32]) -> Result<&[f32]> {
        Err(Error::new(Kind::Input, "test", "nothing is verified here"))
    }
    fn truncate(&mut self, len: usize) -> Result<()> {
        assert!(len < self.text.len(), "called for nothing");
        if !self.forgets {
            return Err(Error::new(Kind::Input, "test", "it cannot forget"));
        }
        self.text.truncate(len);
        Ok(())
    }
}

fn tokenizer() -> Tokenizer {
    let name = |name: &str| Some(name.to_owned());
    let specials =
        Specials { bos: name("<|im_start|>"), eos: name("<|im_end|>"), ..Specials::default() };
    let letters: String = (' '..='~').chain(['\n']).collect();
    Tokenizer::characters([letters], &specials).unwrap()
}

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::new(source, []).unwrap()
}

fn options(max_new: usize) -> GenerateOptions {
    GenerateOptions { max_new, sampling: super::super::Sampling::greedy(), ..Default::default() }
}

fn quiet(_: Event<'_>) -> Result<Flow> {
    Ok(Flow::Continue)
}

/// What a model says that remembers nothing.
fn fresh(tokenizer: &Tokenizer, prompt: &[u32], max_new: usize) -> Generated {
    let mut options = options(max_new);
    options.stop_ids.extend(tokenizer.special_ids().eos);
    let mut table = Table::new(tokenizer, 1000);
    // As a whole, since this model demands it.
    options.prefill = 0;
    let prompts = [prompt.to_vec()];
    generate(&mut table, &prompts, &options, Some(tokenizer), &mut quiet).unwrap().remove(0)
}

/// Three turns and a change of the system's message; returns how many ids were reused and read.
fn three_turns(source: &str, forgets: bool) -> Vec<(usize, usize)> {
    let (tokenizer, template) = (tokenizer(), template(source));
    let mut table = Table { forgets, ..Table::new(&tokenizer, 1000) };
    let mut chat = Chat::new(&mut table, &tokenizer, &template, ChatOptions::default()).unwrap();
    let mut counts = vec![];
    for (turn, question) in ["hello", "and now?", "bye"].into_iter().enumerate() {
        if turn == 2 {
            chat.set_system("be brief");
        }
        let answer = chat.ask(question, &options(9), false, &mut quiet).unwrap();
        let said = &answer.generated;
        assert_eq!(*said, fresh(&tokenizer, &said.prompt, 9), "turn {turn}");
        assert!(answer.kept && !said.tokens.is_empty());
        counts.push((answer.reused, said.prompt.len() - answer.reused));
    }
    let roles: Vec<&str> = chat.messages().iter().map(|m| m.role.as_str()).collect();
    assert_eq!(roles.join(" "), "system user assistant user assistant user assistant");
    chat.reset();
    assert_eq!(chat.messages(), [ChatMessage::new("system", "be brief")]);
    counts
}

#[test]
fn only_what_is_new_is_read_and_the_answers_are_the_same() {
    let counts = three_turns(TEMPLATE, true);
    assert_eq!(counts[0].0, 0);
    // Of the second turn: at most the answer's last token, its end and the question are read.
    let question = "<\nuser\nand now?<\n<assistant\n".len();
    assert!((question..=question + 2).contains(&counts[1].1), "{counts:?}");
    // The system's message comes first, and only `<|im_start|>` is before it.
    assert_eq!(counts[2].0, 1, "{counts:?}");
}

#[test]
fn a_template_that_rewrites_the_past_and_a_model_that_cannot_forget_start_anew() {
    // Answers are read back in capitals.
    let shouting = TEMPLATE.replace("{{ m.content }}", "{{ m.content | upper }}");
    let counts = three_turns(&shouting, true);
    assert_eq!(counts[1].0, counts[0].1, "up to the answer: {counts:?}");
    let counts = three_turns(&shouting, false);
    assert!(counts.iter().all(|c| c.0 == 0), "{counts:?}");
    // What is only gone on with needs no forgetting.
    let counts = three_turns(TEMPLATE, false);
    assert!(counts[1].0 > 0 && counts[2].0 == 0, "{counts:?}");
}

#[test]
fn what_does_not_fit_is_refused_or_forgotten() {
    let (tokenizer, template) = (tokenizer(), template(TEMPLATE));
    let mut table = Table::new(&tokenizer, 110);
    let mut chat = Chat::new(&mut table, &tokenizer, &template, ChatOptions::default()).unwrap();
    chat.set_system("be brief");
    for question in ["hello", "hello"] {
        chat.ask(question, &options(6), false, &mut quiet).unwrap();
    }
    let before = chat.messages().to_vec();
    let refused = chat.ask("what do you say?", &options(6), false, &mut quiet).unwrap_err();
    let said = refused.to_string();
    assert!(said.contains("context holds 110") && said.contains("--forget"), "{said}");
    assert_eq!(chat.messages(), before);
    let answer = chat.ask("what do you say?", &options(6), true, &mut quiet).unwrap();
    assert!(answer.forgotten >= 2 && answer.forgotten.is_multiple_of(2), "{}", answer.forgotten);
    assert_eq!(answer.generated, fresh(&tokenizer, &answer.generated.prompt, 6));
    assert_eq!(chat.messages().len(), before.len() + 2 - answer.forgotten);
    assert_eq!(chat.messages()[0], before[0]);
    assert_eq!(chat.messages()[1].role, "user");
    let refused = chat.ask(&"word ".repeat(30), &options(6), true, &mut quiet).unwrap_err();
    assert!(refused.to_string().contains("this message alone"), "{refused}");
    let refused = chat.ask(" ", &options(6), true, &mut quiet).unwrap_err();
    assert!(refused.to_string().contains("empty"), "{refused}");
}

#[test]
fn a_turn_that_fails_or_says_nothing_leaves_the_conversation() {
    let (tokenizer, template) = (tokenizer(), template(TEMPLATE));
    let mut table = Table::new(&tokenizer, 1000);
    let mut chat = Chat::new(&mut table, &tokenizer, &template, ChatOptions::default()).unwrap();
    let mut broken = |_: Event<'_>| Err(Error::new(Kind::Interrupted, "test", "closed"));
    chat.ask("hello", &options(6), false, &mut broken).unwrap_err();
    let silent = chat.ask("hello", &options(0), false, &mut quiet).unwrap();
    assert!(!silent.kept && silent.generated.stop == StopReason::MaxTokens);
    assert!(chat.messages().is_empty());
    // The cache is still what it says it is.
    let answer = chat.ask("hello", &options(6), false, &mut quiet).unwrap();
    assert_eq!(answer.generated, fresh(&tokenizer, &answer.generated.prompt, 6));
    assert_eq!(answer.reused, answer.generated.prompt.len() - 1);
}

#[test]
fn the_template_says_where_a_turn_ends() {
    let tokenizer = tokenizer();
    let end = |source: &str| template(source).turn_end(&tokenizer, &ChatOptions::default());
    let id = tokenizer.special_ids().eos;
    assert_eq!(end(TEMPLATE), TurnEnd { id, text: None });
    let text = |text: &str| TurnEnd { id: None, text: Some(text.into()) };
    assert_eq!(end(&TEMPLATE.replace("<|im_end|>", "</turn>")), text("</turn>"));
    let names = "{% for m in messages %}{{ m.role | upper }}: {{ m.content }}\n{% endfor %}";
    assert_eq!(end(names), text("USER:"));
    let shouting = TEMPLATE.replace("{{ m.content }}", "{{ m.content | trim | upper }}");
    assert_eq!(end(&shouting), TurnEnd { id, text: None });
    assert_eq!(end("{{ raise_exception('no') }}"), TurnEnd::default());
    // An answer ends there, and the mark is not part of it.
    let template = template(&TEMPLATE.replace("<|im_end|>", "a"));
    let mut table = Table::new(&tokenizer, 1000);
    let mut chat = Chat::new(&mut table, &tokenizer, &template, ChatOptions::default()).unwrap();
    let answer = chat.ask("hm", &options(200), false, &mut quiet).unwrap();
    assert_eq!(answer.generated.stop, StopReason::StopString);
    assert!(!answer.generated.text.contains('a'), "{}", answer.generated.text);
}
