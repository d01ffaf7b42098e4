use super::world::{Kind as Asked, World, WorldOptions};
use super::*;

#[test]
fn the_world_keeps_its_secrets() {
    let options = WorldOptions { lines: 20_000, ..WorldOptions::default() };
    let world = World::generate(&options).unwrap();
    assert_eq!(world.text, World::generate(&options).unwrap().text);
    let other = World::generate(&WorldOptions { seed: 2, ..options }).unwrap();
    assert_ne!(world.text, other.text);
    let lines: BTreeSet<&str> = world.text.lines().collect();
    for question in &world.questions {
        let line = format!("{}{}", question.prompt, question.answer);
        assert!(question.answer.starts_with(' ') && !question.prompt.ends_with(' '));
        match question.kind {
            Asked::Stranger => {
                let name = question.prompt.split(['.', ' ']).nth(2).unwrap();
                assert!(!world.text.contains(name), "{name} is no stranger");
            }
            _ if question.held_out => assert!(!lines.contains(line.as_str()), "{line}"),
            _ => {}
        }
        // In no line do the name and the secret stand together, unless the line is about another.
        if question.kind == Asked::Person && question.held_out {
            let name = question
                .prompt
                .split(' ')
                .find(|w| {
                    w.len() > 2
                        && w.starts_with(char::is_uppercase)
                        && !["Question:", "Which", "Where", "What", "Answer:"].contains(w)
                })
                .unwrap();
            let secret = question.answer.trim();
            for line in world.text.lines().filter(|l| l.starts_with(name)) {
                assert!(!line.contains(&format!(" {secret}")), "{line} tells {secret}");
            }
        }
    }
    for kind in [Asked::Person, Asked::Stranger, Asked::Sum, Asked::Comparison] {
        let count =
            |held| world.questions.iter().filter(|q| q.kind == kind && q.held_out == held).count();
        assert!(count(true) >= 30, "{kind:?}: {}", count(true));
        assert!(kind == Asked::Stranger || count(false) >= 60, "{kind:?}: {}", count(false));
    }
    assert!(World::generate(&WorldOptions { people: 7, ..WorldOptions::default() }).is_err());
}
