//! Where a long text may be cut before it is encoded.

use tokenizers::Tokenizer as Hub;
use tokenizers::pre_tokenizers::PreTokenizerWrapper as Wrapper;
use tokenizers::pre_tokenizers::split::SplitPattern;

/// Splitting patterns, besides GPT-2's, for which a cut at [`exact`] changes nothing: none looks
/// behind, each takes a lone line end either as the end of a match or as a match of its own, and
/// none starts a match of other characters with a line end.
pub(super) const KNOWN: [&str; 3] = [
    // cl100k, Llama 3
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    // Qwen 2
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    // GPT-2, written out
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
];

/// Whether encoding the two sides of every [`exact`] cut gives the ids of the whole: no normalizer,
/// a splitting pattern that is known, and no added token that could reach over a line end.
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
            let content = &token.content;
            !content.contains(char::is_whitespace)
                && !(token.lstrip || token.rstrip || token.single_word)
        })
}

/// The last place up to `limit` bytes right after a line end whose neighbours on both sides are no
/// white space, or the first such place after `limit`.
pub(super) fn exact(text: &str, limit: usize) -> Option<usize> {
    let limit = floor(text, limit);
    let after = || text[limit..].match_indices('\n').map(|(at, _)| at + limit);
    before(text, limit).or_else(|| after().find(|&at| lone(text, at)).map(|at| at + 1))
}

/// The last such place up to `limit`, a boundary between two characters.
fn before(text: &str, limit: usize) -> Option<usize> {
    let mut ends = text[..limit].rmatch_indices('\n').map(|(at, _)| at);
    ends.find(|&at| lone(text, at)).map(|at| at + 1)
}

/// Whether the line end at `at` stands between two characters that are no white space.
fn lone(text: &str, at: usize) -> bool {
    let blank = |c: Option<char>| c.is_none_or(char::is_whitespace);
    !blank(text[..at].chars().next_back()) && !blank(text[at + 1..].chars().next())
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
