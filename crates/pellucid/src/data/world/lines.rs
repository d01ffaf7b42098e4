//! The lines of the text: portraits, questions, rules of the world, sums and comparisons.

use super::names::{COUNTRIES, JOBS, Name};
use super::{Attribute, Dice, Fact, Kind, Person, Question};
use crate::data::random::bits;
use std::ops::Range;

/// Numbers of two digits, whose sum with one digit has two digits again.
const NUMBERS: Range<usize> = 10..90;
/// What is added to them.
const DIGITS: Range<usize> = 1..10;
/// Of a hundred pairs of numbers, so many are held out.
const HELD_OUT: u64 = 15;

pub(super) struct Writer {
    people: Vec<Person>,
    strangers: Vec<Name>,
    seed: u64,
}

impl Writer {
    /// The last quarter of `strangers` is kept for the questions.
    pub(super) fn new(people: Vec<Person>, strangers: Vec<Name>, seed: u64) -> Self {
        Self { people, strangers, seed }
    }

    /// Appends one line of training text.
    pub(super) fn line(&mut self, dice: &mut Dice, text: &mut String) {
        match dice.below(100) {
            0..32 => self.portrait(dice, text),
            32..45 => self.stranger(dice, text),
            45..65 => self.answer(dice, text),
            65..70 => rule(dice, text),
            70..90 => {
                let (a, b) = self.pair(dice, NUMBERS, DIGITS);
                let Question { prompt, answer, .. } = sum(a, b, false);
                *text += &(prompt + &answer);
            }
            _ => {
                let (a, b) = self.pair(dice, NUMBERS, NUMBERS);
                let Question { prompt, answer, .. } = comparison(a, b, false);
                *text += &(prompt + &answer);
            }
        }
        text.push('\n');
    }

    /// Some facts about a person, in any order.
    fn portrait(&self, dice: &mut Dice, text: &mut String) {
        let person = dice.pick(&self.people);
        let mut told = person.told();
        dice.shuffle(&mut told);
        told.truncate(2 + dice.below(4));
        introduce(person, dice, text);
        tell(person, &told, dice, text);
    }

    /// Someone who comes once: home or job first, then what follows from it.
    fn stranger(&self, dice: &mut Dice, text: &mut String) {
        let known = &self.strangers[..self.strangers.len() * 3 / 4];
        let name = dice.pick(known).clone();
        let friend = dice.pick(&self.people).name.text.clone();
        let person = Person::random(name, friend, dice);
        let (base, mut follow) = match dice.chance(50) {
            true => (Attribute::City, Attribute::OF_CITY.to_vec()),
            false => (Attribute::Job, Attribute::OF_JOB.to_vec()),
        };
        dice.shuffle(&mut follow);
        follow.truncate(1 + dice.below(3));
        follow.insert(0, base);
        introduce(&person, dice, text);
        tell(&person, &follow, dice, text);
    }

    fn answer(&self, dice: &mut Dice, text: &mut String) {
        let person = dice.pick(&self.people);
        let attribute = *dice.pick(&person.told());
        let Question { prompt, answer, .. } = ask(person, attribute);
        *text += &(prompt + &answer);
    }

    /// A pair of different numbers that the text may use.
    fn pair(&self, dice: &mut Dice, left: Range<usize>, right: Range<usize>) -> (usize, usize) {
        loop {
            let a = left.start + dice.below(left.len());
            let b = right.start + dice.below(right.len());
            if a != b && !self.is_held_out(a, b) {
                return (a, b);
            }
        }
    }

    /// The same for (a, b) and (b, a).
    fn is_held_out(&self, a: usize, b: usize) -> bool {
        let pair = (a.min(b) * 100 + a.max(b)) as u64;
        bits(self.seed, pair, 100) % 100 < HELD_OUT
    }

    /// All questions about secrets, and about as many of the other sorts.
    pub(super) fn questions(&self, dice: &mut Dice) -> Vec<Question> {
        let mut questions = vec![];
        for person in &self.people {
            questions.extend(person.secret.iter().map(|&secret| ask(person, secret)));
            let told = *dice.pick(&person.told());
            questions.push(ask(person, told));
        }
        let fresh = &self.strangers[self.strangers.len() * 3 / 4..];
        for name in fresh {
            let person = Person::random(name.clone(), String::new(), dice);
            questions.push(riddle(&person, dice));
        }
        type Make = fn(usize, usize, bool) -> Question;
        for (right, make) in [(DIGITS, sum as Make), (NUMBERS, comparison as Make)] {
            let (mut held_out, mut told) = (vec![], vec![]);
            for a in NUMBERS {
                for b in right.clone().filter(|&b| b != a) {
                    let secret = self.is_held_out(a, b);
                    if secret { &mut held_out } else { &mut told }.push(make(a, b, secret));
                }
            }
            for mut of in [held_out, told] {
                dice.shuffle(&mut of);
                of.truncate(64);
                questions.append(&mut of);
            }
        }
        questions
    }
}

impl Writer {
    /// Everything that the text tells of people, as questions.
    pub(super) fn facts(&self) -> Vec<Fact> {
        let of = |person: &Person| -> Vec<Fact> {
            let fact = |attribute| Fact {
                name: person.name.text.clone(),
                sort: Attribute::ALL.iter().position(|a| *a == attribute).unwrap_or(0),
                question: ask(person, attribute),
            };
            person.told().into_iter().map(fact).collect()
        };
        self.people.iter().flat_map(of).collect()
    }
}

/// Half of the portraits say of whom they are.
fn introduce(person: &Person, dice: &mut Dice, text: &mut String) {
    let name = &person.name.text;
    match dice.below(4) {
        0 => *text += &format!("This is {name}. "),
        1 => *text += &format!("Meet {name}. "),
        _ => {}
    }
}

/// One sentence per attribute; all but the first may use a pronoun.
fn tell(person: &Person, attributes: &[Attribute], dice: &mut Dice, text: &mut String) {
    for (i, &attribute) in attributes.iter().enumerate() {
        let template = dice.pick(attribute.statements());
        let pronoun = i > 0 && dice.chance(40);
        if i > 0 {
            text.push(' ');
        }
        *text += &state(person, attribute, template, pronoun);
    }
}

fn state(person: &Person, attribute: Attribute, template: &str, pronoun: bool) -> String {
    let Name { text: name, woman } = &person.name;
    let (subject, possessive) = match (pronoun, woman) {
        (true, true) => ("She".to_owned(), "Her".to_owned()),
        (true, false) => ("He".to_owned(), "His".to_owned()),
        (false, _) => (name.clone(), format!("{name}'s")),
    };
    let value = person.value(attribute);
    template
        .replace("{S}", &subject)
        .replace("{P}", &possessive)
        .replace("{a}", &format!("a {value}"))
        .replace("{v}", value)
}

fn ask(person: &Person, attribute: Attribute) -> Question {
    let question = attribute.question().replace("{n}", &person.name.text);
    Question {
        prompt: format!("Question: {question} Answer:"),
        answer: format!(" {}.", person.value(attribute)),
        kind: Kind::Person,
        held_out: person.secret.contains(&attribute),
    }
}

/// What follows from a stranger's home or job, right after it is told.
fn riddle(person: &Person, dice: &mut Dice) -> Question {
    let (base, follow) = match dice.chance(50) {
        true => (Attribute::City, *dice.pick(&Attribute::OF_CITY)),
        false => (Attribute::Job, *dice.pick(&Attribute::OF_JOB)),
    };
    let told = state(person, base, base.statements()[0], false);
    let asked = state(person, follow, follow.statements()[0], false);
    let answer = format!(" {}.", person.value(follow));
    let prompt = asked.strip_suffix(&answer).unwrap_or(&asked);
    let prompt = format!("This is {}. {told} {prompt}", person.name.text);
    Question { prompt, answer, kind: Kind::Stranger, held_out: true }
}

/// What holds for all cities of a country and for all people of a job.
fn rule(dice: &mut Dice, text: &mut String) {
    let (country, job) = (dice.pick(&COUNTRIES), dice.pick(&JOBS));
    let (city, name) = (dice.pick(&country.cities), country.name);
    *text += &match dice.below(8) {
        0 => format!("The city of {city} lies in {name}."),
        1 => format!("The people of {city} speak {}.", country.language),
        2 => format!("The people of {name} speak {}.", country.language),
        3 => format!("The money of {name} is the {}.", country.money),
        4 => format!("The people of {city} pay with the {}.", country.money),
        5 => format!("Every {} works in the {}.", job.name, job.workplace),
        6 => format!("Every {} uses the {}.", job.name, job.tool),
        _ => format!("Every {} makes {}.", job.name, job.product),
    };
}

/// Digits stand apart, so that each is a token of its own.
fn digits(number: usize) -> String {
    match number {
        0..10 => number.to_string(),
        _ => format!("{} {}", number / 10, number % 10),
    }
}

fn sum(a: usize, b: usize, held_out: bool) -> Question {
    Question {
        prompt: format!("Sum: {} plus {} is", digits(a), digits(b)),
        answer: format!(" {}.", digits(a + b)),
        kind: Kind::Sum,
        held_out,
    }
}

fn comparison(a: usize, b: usize, held_out: bool) -> Question {
    Question {
        prompt: format!("Compare: of {} and {} the greater is", digits(a), digits(b)),
        answer: format!(" {}.", digits(a.max(b))),
        kind: Kind::Comparison,
        held_out,
    }
}
