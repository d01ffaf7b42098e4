//! Special tokens: their names when a tokenizer is built, their ids when it is used.

/// Names of special tokens, for building a tokenizer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Specials {
    /// Begins a text.
    pub bos: Option<String>,
    /// Ends a text.
    pub eos: Option<String>,
    /// Stands for whatever the vocabulary lacks.
    pub unk: Option<String>,
    /// Fills up a row; never learned.
    pub pad: Option<String>,
    /// Begins an encoder's text; its output stands for the whole.
    pub cls: Option<String>,
    /// Ends an encoder's text, and stands between two.
    pub sep: Option<String>,
    /// Hides a token that is to be guessed.
    pub mask: Option<String>,
}

impl Specials {
    /// Only `<|endoftext|>`, as GPT-2 has it.
    #[must_use]
    pub fn end_of_text() -> Self {
        Self { eos: Some("<|endoftext|>".into()), ..Self::default() }
    }

    /// `<unk>`, `<pad>`, `<s>` and `</s>`, as translation needs.
    #[must_use]
    pub fn translation() -> Self {
        let name = |name: &str| Some(name.to_owned());
        Self {
            bos: name("<s>"),
            eos: name("</s>"),
            unk: name("<unk>"),
            pad: name("<pad>"),
            ..Self::default()
        }
    }

    /// The names in a fixed order, each once.
    pub(super) fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = vec![];
        let Self { bos, eos, unk, pad, cls, sep, mask } = self;
        for name in [unk, pad, bos, eos, cls, sep, mask].into_iter().flatten() {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    }
}

/// Ids of the special tokens that a tokenizer has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpecialIds {
    /// Begins a text.
    pub bos: Option<u32>,
    /// Ends a text.
    pub eos: Option<u32>,
    /// Stands for whatever the vocabulary lacks.
    pub unk: Option<u32>,
    /// Fills up a row; never learned.
    pub pad: Option<u32>,
    /// Begins an encoder's text; its output stands for the whole.
    pub cls: Option<u32>,
    /// Ends an encoder's text, and stands between two.
    pub sep: Option<u32>,
    /// Hides a token that is to be guessed.
    pub mask: Option<u32>,
}

impl SpecialIds {
    /// Each with its name in `tokenizer_config.json`.
    pub(super) fn named(self) -> [(&'static str, Option<u32>); 7] {
        [
            ("bos_token", self.bos),
            ("eos_token", self.eos),
            ("unk_token", self.unk),
            ("pad_token", self.pad),
            ("cls_token", self.cls),
            ("sep_token", self.sep),
            ("mask_token", self.mask),
        ]
    }

    /// The ids that `find` gives for the names in `tokenizer_config.json`, else those of `self`.
    pub(super) fn renamed(self, find: impl Fn(&str) -> Option<u32>) -> Self {
        let [bos, eos, unk, pad, cls, sep, mask] =
            self.named().map(|(name, guess)| find(name).or(guess));
        Self { bos, eos, unk, pad, cls, sep, mask }
    }
}
