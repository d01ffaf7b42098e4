//! Who is who, and which facts the text keeps to itself.

use super::Dice;
use super::names::{COUNTRIES, JOBS, Name, PETS};

/// What can be told about a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attribute {
    City,
    Country,
    Language,
    Money,
    Job,
    Workplace,
    Tool,
    Product,
    Pet,
    Friend,
}

impl Attribute {
    pub(super) const ALL: [Self; 10] = [
        Self::City,
        Self::Country,
        Self::Language,
        Self::Money,
        Self::Job,
        Self::Workplace,
        Self::Tool,
        Self::Product,
        Self::Pet,
        Self::Friend,
    ];
    /// Follow from the city, so from each other.
    pub(super) const OF_CITY: [Self; 3] = [Self::Country, Self::Language, Self::Money];
    /// Follow from the job, so from each other.
    pub(super) const OF_JOB: [Self; 3] = [Self::Workplace, Self::Tool, Self::Product];

    /// `{S}` is the subject, `{P}` the possessive, `{a}` the value with its article.
    pub(super) fn statements(self) -> &'static [&'static str] {
        match self {
            Self::City => &["{S} lives in {v}.", "{P} home is {v}.", "{S} has a house in {v}."],
            Self::Country => {
                &["{S} comes from {v}.", "{P} country is {v}.", "{S} is at home in {v}."]
            }
            Self::Language => &["{S} speaks {v}.", "{P} language is {v}.", "{S} sings in {v}."],
            Self::Money => {
                &["{S} pays with the {v}.", "{P} money is the {v}.", "{S} saves every {v}."]
            }
            Self::Job => &["{S} is {a}.", "{S} works as {a}.", "{P} job is that of {a}."],
            Self::Workplace => {
                &["{S} works in the {v}.", "{S} goes to the {v}.", "{P} days pass in the {v}."]
            }
            Self::Tool => &["{S} uses the {v}.", "{P} tool is the {v}.", "{S} owns the {v}."],
            Self::Product => &["{S} makes {v}.", "{S} sells {v}.", "{P} trade is in {v}."],
            Self::Pet => &["{S} has {a}.", "{P} pet is {a}."],
            Self::Friend => &["{S} is a friend of {v}.", "{P} best friend is {v}."],
        }
    }

    pub(super) fn question(self) -> &'static str {
        match self {
            Self::City => "Where does {n} live?",
            Self::Country => "Which country does {n} come from?",
            Self::Language => "Which language does {n} speak?",
            Self::Money => "Which money does {n} pay with?",
            Self::Job => "Which job does {n} have?",
            Self::Workplace => "Where does {n} work?",
            Self::Tool => "Which tool does {n} use?",
            Self::Product => "What does {n} make?",
            Self::Pet => "Which pet does {n} have?",
            Self::Friend => "Who is a friend of {n}?",
        }
    }
}

/// Someone of whom the text tells.
pub(super) struct Person {
    pub(super) name: Name,
    pub(super) country: usize,
    pub(super) city: usize,
    pub(super) job: usize,
    pub(super) pet: usize,
    pub(super) friend: String,
    /// Never told; asked instead.
    pub(super) secret: Vec<Attribute>,
}

impl Person {
    /// Someone at random, without secrets.
    pub(super) fn random(name: Name, friend: String, dice: &mut Dice) -> Self {
        Self {
            name,
            country: dice.below(COUNTRIES.len()),
            city: dice.below(3),
            job: dice.below(JOBS.len()),
            pet: dice.below(PETS.len()),
            friend,
            secret: vec![],
        }
    }

    pub(super) fn value(&self, attribute: Attribute) -> &str {
        let (country, job) = (&COUNTRIES[self.country], &JOBS[self.job]);
        match attribute {
            Attribute::City => country.cities[self.city],
            Attribute::Country => country.name,
            Attribute::Language => country.language,
            Attribute::Money => country.money,
            Attribute::Job => job.name,
            Attribute::Workplace => job.workplace,
            Attribute::Tool => job.tool,
            Attribute::Product => job.product,
            Attribute::Pet => PETS[self.pet],
            Attribute::Friend => &self.friend,
        }
    }

    pub(super) fn told(&self) -> Vec<Attribute> {
        Attribute::ALL.into_iter().filter(|a| !self.secret.contains(a)).collect()
    }
}

/// The people, a third of them with a secret about their home and a third with one about their job.
pub(super) fn people(names: &[Name], dice: &mut Dice) -> Vec<Person> {
    let n = names.len();
    (0..n)
        .map(|i| {
            // Everybody is the friend of one other.
            let mut person =
                Person::random(names[i].clone(), names[(i + 1) % n].text.clone(), dice);
            for group in [Attribute::OF_CITY, Attribute::OF_JOB] {
                if dice.chance(33) {
                    person.secret.push(*dice.pick(&group));
                }
            }
            person
        })
        .collect()
}
