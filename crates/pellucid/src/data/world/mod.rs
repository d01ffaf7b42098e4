//! A small generated world, in simple English, that a tiny model can learn by heart in minutes, with
//! questions whose answers the text never states.
//!
//! People have a home and a job. The home decides country, language and money; the job decides
//! workplace, tool and product. For some people one of these six is left out of the text altogether,
//! and asked: the answer follows from the others. Sums and comparisons of numbers leave out pairs in
//! the same way, and strangers, whom no text mentions, are asked about right after their job
//! or home is told.

mod facts;
mod lines;
mod names;

use super::random::bits;
use crate::error::{Error, Kind as ErrorKind, Result};
use facts::{Attribute, Person};
use lines::Writer;

/// What sort of answer a [`Question`] wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind {
    /// A fact about a person: learned by heart, or, held out, inferred from the person's other facts.
    Person,
    /// About someone whom the text never mentions, from what the prompt says.
    Stranger,
    /// The sum of two numbers.
    Sum,
    /// The greater of two numbers.
    Comparison,
}

/// A prompt and what must follow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Ends without a space.
    pub prompt: String,
    /// Begins with the space that the prompt lacks, and ends with the full stop.
    pub answer: String,
    /// What sort of answer is wanted.
    pub kind: Kind,
    /// Whether the training text leaves this answer out in every wording.
    pub held_out: bool,
}

/// What the text tells about somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Whom it is about; stands in the prompt.
    pub name: String,
    /// Facts of one sort have answers that could stand for each other.
    pub sort: usize,
    /// The fact as a question.
    pub question: Question,
}

/// How large the world is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorldOptions {
    /// Another number, another world.
    pub seed: u64,
    /// People, 8 to 160.
    pub people: usize,
    /// Lines of training text; 40 000 are about 2.4 MB.
    pub lines: usize,
}

impl Default for WorldOptions {
    fn default() -> Self {
        Self { seed: 1, people: 64, lines: 40_000 }
    }
}

/// Training text and questions; the same options give the same bytes.
#[derive(Clone, Debug)]
pub struct World {
    /// One line per document.
    pub text: String,
    /// Held-out ones and, of each kind, about as many that the text answers.
    pub questions: Vec<Question>,
    /// All that the text tells of people.
    pub facts: Vec<Fact>,
}

impl World {
    /// Makes the world.
    ///
    /// # Errors
    /// Sizes out of range.
    pub fn generate(options: &WorldOptions) -> Result<Self> {
        let WorldOptions { seed, people, lines } = *options;
        if !(8..=160).contains(&people) || lines == 0 {
            let message =
                format!("{people} people and {lines} lines; 8 to 160 people, 1 line or more");
            return Err(Error::new(ErrorKind::Config, "world", message));
        }
        let mut dice = Dice::new(seed);
        let mut names = names::all();
        dice.shuffle(&mut names);
        let strangers = names.split_off(people);
        let people = facts::people(&names, &mut dice);
        let mut writer = Writer::new(people, strangers, seed);
        let mut text = String::with_capacity(lines * 90);
        for _ in 0..lines {
            writer.line(&mut dice, &mut text);
        }
        let questions = writer.questions(&mut dice);
        Ok(Self { text, questions, facts: writer.facts() })
    }
}

/// Random numbers in a row.
struct Dice {
    seed: u64,
    count: u64,
}

impl Dice {
    fn new(seed: u64) -> Self {
        Self { seed, count: 0 }
    }

    /// A number below `n`.
    fn below(&mut self, n: usize) -> usize {
        self.count += 1;
        ((u128::from(bits(self.seed, self.count, 7)) * n as u128) >> 64) as usize
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}
