//! The words of the world.

/// A country with its language, money and cities.
pub(super) struct Country {
    pub(super) name: &'static str,
    pub(super) language: &'static str,
    pub(super) money: &'static str,
    pub(super) cities: [&'static str; 3],
}

const fn country(
    name: &'static str,
    language: &'static str,
    money: &'static str,
    cities: [&'static str; 3],
) -> Country {
    Country { name, language, money, cities }
}

pub(super) const COUNTRIES: [Country; 8] = [
    country("Norland", "Norish", "crown", ["Torvik", "Halden", "Brosund"]),
    country("Sudria", "Sudrian", "florin", ["Palmira", "Ossuna", "Talero"]),
    country("Esteron", "Esteric", "ducat", ["Zelgrad", "Mirova", "Kostin"]),
    country("Vestia", "Vestian", "shilling", ["Ashford", "Wexley", "Dunmore"]),
    country("Arkady", "Arkadic", "drachma", ["Lyrona", "Thelos", "Pyrgos"]),
    country("Belmar", "Belmese", "guilder", ["Rivaux", "Montel", "Sablon"]),
    country("Corvia", "Corvish", "thaler", ["Steinau", "Grunfeld", "Lindach"]),
    country("Dunmark", "Dunnish", "penny", ["Kelby", "Skarholm", "Faxe"]),
];

/// A job with its workplace, tool and product.
pub(super) struct Job {
    pub(super) name: &'static str,
    pub(super) workplace: &'static str,
    pub(super) tool: &'static str,
    pub(super) product: &'static str,
}

const fn job(
    name: &'static str,
    workplace: &'static str,
    tool: &'static str,
    product: &'static str,
) -> Job {
    Job { name, workplace, tool, product }
}

pub(super) const JOBS: [Job; 12] = [
    job("baker", "bakery", "oven", "bread"),
    job("farmer", "farm", "plough", "corn"),
    job("teacher", "school", "chalk", "lessons"),
    job("doctor", "hospital", "needle", "medicine"),
    job("fisher", "harbour", "net", "fish"),
    job("smith", "forge", "hammer", "nails"),
    job("weaver", "mill", "loom", "cloth"),
    job("potter", "studio", "wheel", "bowls"),
    job("miner", "mine", "pick", "coal"),
    job("gardener", "garden", "spade", "flowers"),
    job("painter", "gallery", "brush", "pictures"),
    job("cook", "kitchen", "pan", "soup"),
];

pub(super) const PETS: [&str; 8] =
    ["cat", "dog", "goat", "horse", "parrot", "rabbit", "snake", "turtle"];

const BEGINNINGS: [&str; 24] = [
    "Al", "Be", "Ca", "Da", "El", "Fi", "Ga", "Ha", "Il", "Jo", "Ka", "Li", "Ma", "Ne", "Or", "Pe",
    "Ro", "Sa", "Ti", "Ul", "Va", "Wi", "Yo", "Ze",
];
/// The first half are women's.
const ENDINGS: [&str; 10] = ["na", "ra", "lia", "mira", "sine", "rik", "mo", "tor", "vin", "lan"];

/// A name, and whether a woman bears it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) text: String,
    pub(super) woman: bool,
}

/// All 240 names.
pub(super) fn all() -> Vec<Name> {
    let pairs = BEGINNINGS.iter().flat_map(|a| ENDINGS.iter().enumerate().map(move |e| (a, e)));
    pairs
        .map(|(beginning, (i, ending))| Name {
            text: format!("{beginning}{ending}"),
            woman: i < ENDINGS.len() / 2,
        })
        .collect()
}
