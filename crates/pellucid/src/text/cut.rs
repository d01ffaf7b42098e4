//! Where a long text may be cut before it is encoded.

use tokenizers::Tokenizer as Hub;
use tokenizers::pre_tokenizers::PreTokenizerWrapper as Wrapper;
use tokenizers::pre_tokenizers::split::SplitPattern;

/// Splitting patterns, besides GPT-2's, for which a cut between [`Segments`] changes nothing. None
/// looks behind; after a character that is not blank, each ends its match before a lone space, and
/// takes a lone line end either as the end of that match or as a match of its own.
pub(super) const KNOWN: [&str; 3] = [
    // cl100k, Llama 3
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    // Qwen 2
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    // GPT-2, written out
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
];

/// Whether encoding the [`Segments`] gives the ids of the whole: no normalizer, a splitting pattern
/// that is known, and no added token that could reach over white space.
pub(super) fn cuttable(hub: &Hub) -> bool {
    let plain = |level: &tokenizers::pre_tokenizers::byte_level::ByteLevel| !level.add_prefix_space;
    let known = match hub.get_pre_tokenizer() {
        Some(Wrapper::ByteLevel(level)) => plain(level) && level.use_regex,
        Some(Wrapper::Sequence(parts)) => match parts.as_ref() {
            [Wrapper::Split(split), Wrapper::ByteLevel(level)] => {
                let SplitPattern::Regex(pattern) = &split.pattern else { return false };
                let isolated = split.behavior == tokenizers::SplitDelimiterBehavior::Isolated;
                isolated
                    && !split.invert
                    && plain(level)
                    && !level.use_regex
                    && KNOWN.contains(&pattern.as_str())
            }
            _ => false,
        },
        _ => false,
    };
    known
        && hub.get_normalizer().is_none()
        && hub.get_added_vocabulary().get_added_tokens_decoder().values().all(|token| {
            let reaches = token.lstrip || token.rstrip || token.single_word;
            !(reaches || token.content.contains(char::is_whitespace))
        })
}

/// Cuts a text before each single space and after each single line end, if the characters on both
/// sides of it are not blank: "a b", "\n\nc" and "d" of "a b\n\nc\nd" with their white space.
pub(super) struct Segments<'a>(pub(super) &'a str);

impl<'a> Iterator for Segments<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.0;
        if text.is_empty() {
            return None;
        }
        let bytes = text.as_bytes();
        let mut cuts = (1..bytes.len()).filter_map(|at| match bytes[at] {
            b' ' if lone(text, at) => Some(at),
            b'\n' if lone(text, at) => Some(at + 1),
            _ => None,
        });
        let (segment, rest) = text.split_at(cuts.next().unwrap_or(text.len()));
        self.0 = rest;
        Some(segment)
    }
}

/// The last place up to `limit`, a boundary between two characters, right after a line end whose
/// neighbours on both sides are not blank.
fn before(text: &str, limit: usize) -> Option<usize> {
    let mut ends = text[..limit].rmatch_indices('\n').map(|(at, _)| at);
    ends.find(|&at| lone(text, at)).map(|at| at + 1)
}

/// Whether the white space of one byte at `at` stands between two characters that are not blank.
fn lone(text: &str, at: usize) -> bool {
    let bytes = text.as_bytes();
    let (Some(&before), Some(&after)) = (bytes[..at].last(), bytes.get(at + 1)) else {
        return false;
    };
    if before.is_ascii() && after.is_ascii() {
        return !blank(before) && !blank(after);
    }
    let white = |c: Option<char>| c.is_none_or(char::is_whitespace);
    !white(text[..at].chars().next_back()) && !white(text[at + 1..].chars().next())
}

/// Whether an ASCII byte has the Unicode property `White_Space`.
fn blank(byte: u8) -> bool {
    matches!(byte, 9..=13 | b' ')
}

/// Where to end a piece of at most `limit` bytes of a text that goes on: after the last line end
/// between two non-blank characters, where byte-level BPE gives the ids of the whole; failing that
/// after a line end, before a space, or between two characters. More than 0 if `limit` is 4 or more
/// and the text is not empty.
#[must_use]
pub fn piece_end(text: &str, limit: usize) -> usize {
    if text.len() <= limit {
        return text.len();
    }
    let limit = floor(text, limit);
    let head = &text[..limit];
    before(text, limit)
        .or_else(|| head.rfind('\n').map(|at| at + 1))
        .or_else(|| head.rfind(' ').filter(|&at| at > 0))
        .unwrap_or(limit)
}

/// The greatest boundary between two characters at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0)
}
