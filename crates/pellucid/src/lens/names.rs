//! Sites by name: exact, by glob, or as other tools call them.
//!
//! | written | means |
//! |---|---|
//! | `blocks.3.attn.hook_pattern` | itself |
//! | `blocks.*.hook_resid_post`, `blocks.0-3.hook_resid_post`, `blocks.1,5.attn.hook_?` | in each of these blocks; `*` and `?` stand for any letters, or one |
//! | `*hook_pattern`, `*.attn.hook_q` | a leading `*` stands for any beginning, dots and all |
//! | `pattern3`, `resid_post11`, `k6`, `pre5`, `scale4ln1` | TransformerLens's short names (`get_act_name`) |
//! | `blocks.3.attn.q.hook_out`, `blocks.3.hook_in`, `blocks.3.attn.o.hook_in`, `embed.hook_out` | its bridge names |

use crate::error::{Error, Kind, Result};
use crate::model::config::Config;
use crate::model::site::{Part, Side, Site};

/// The sites of a model that a name or glob means, in the order of the data flow.
///
/// # Errors
/// Nothing is called so: the nearest names; or the model lacks it, and why.
pub fn find(config: &Config, name: &str) -> Result<Vec<Site>> {
    let all = Site::all(config);
    let exact: Vec<Site> = all.iter().copied().filter(|s| s.to_string() == name).collect();
    if !exact.is_empty() {
        return Ok(exact);
    }
    let wanted = alias(config, name).unwrap_or_else(|| name.to_owned());
    let found: Vec<Site> = all.iter().copied().filter(|s| fits(&wanted, &s.to_string())).collect();
    if found.is_empty() { Err(unknown(config, &all, name, &wanted)) } else { Ok(found) }
}

/// The sites that several names mean, each once.
///
/// # Errors
/// As [`find`].
pub fn find_all<S: AsRef<str>>(config: &Config, names: &[S]) -> Result<Vec<Site>> {
    let mut all = vec![];
    for name in names {
        for site in find(config, name.as_ref())? {
            if !all.contains(&site) {
                all.push(site);
            }
        }
    }
    Ok(all)
}

/// One site by name.
///
/// # Errors
/// As [`find`]; a glob that means several.
pub fn find_one(config: &Config, name: &str) -> Result<Site> {
    let found = find(config, name)?;
    match found[..] {
        [site] => Ok(site),
        _ => {
            let message = format!("{name:?} means {} sites, from {} on", found.len(), found[0]);
            Err(Error::new(Kind::Input, "sites", message).hint("name one"))
        }
    }
}

/// A site that the model lacks though others have it, or a name that nothing has.
fn unknown(config: &Config, all: &[Site], name: &str, wanted: &str) -> Error {
    let layers = config.layers.max(config.decoder_layers).max(64);
    for side in [Side::Only, Side::Encoder, Side::Decoder] {
        for part in Part::ALL {
            let blocks = if part.in_block() { layers } else { 1 };
            let sites = (0..blocks).map(|layer| Site { side, layer, part: *part });
            for site in sites.filter(|site| fits(wanted, &site.to_string())) {
                if let Err(error) = site.demand(config, "sites") {
                    return error;
                }
            }
        }
    }
    let mut near: Vec<(usize, String)> =
        all.iter().map(|s| s.to_string()).map(|s| (strsim::levenshtein(name, &s), s)).collect();
    near.sort();
    let near: Vec<String> = near.into_iter().take(3).map(|(_, s)| s).collect();
    Error::new(Kind::Input, "sites", format!("no site is called {name:?}"))
        .hint(format!("nearest: {}", near.join(", ")))
}

/// Whether a glob means a name, part by part between dots.
fn fits(glob: &str, name: &str) -> bool {
    let (globs, names): (Vec<&str>, Vec<&str>) =
        (glob.split('.').collect(), name.split('.').collect());
    // A leading `*` stands for any beginning, dots and all.
    if globs[0].starts_with('*') && globs.len() <= names.len() {
        let (start, end) = names.split_at(names.len() + 1 - globs.len());
        return letters(globs[0].as_bytes(), start.join(".").as_bytes())
            && globs[1..].iter().zip(end).all(|(g, n)| part_fits(g, n));
    }
    globs.len() == names.len() && globs.iter().zip(names).all(|(g, n)| part_fits(g, n))
}

fn part_fits(glob: &str, name: &str) -> bool {
    if let Ok(n) = name.parse::<usize>() {
        let range = |piece: &str| match piece.split_once('-') {
            Some((a, b)) => {
                matches!((a.parse(), b.parse()), (Ok(a), Ok(b)) if (a..=b).contains(&n))
            }
            None => piece.parse() == Ok(n),
        };
        if glob.split(',').any(range) {
            return true;
        }
    }
    letters(glob.as_bytes(), name.as_bytes())
}

/// `*` is any letters, `?` is one.
fn letters(glob: &[u8], name: &[u8]) -> bool {
    match (glob.first(), name.first()) {
        (None, None) => true,
        (Some(b'*'), _) => {
            letters(&glob[1..], name) || !name.is_empty() && letters(glob, &name[1..])
        }
        (Some(b'?'), Some(_)) => letters(&glob[1..], &name[1..]),
        (Some(a), Some(b)) if a == b => letters(&glob[1..], &name[1..]),
        _ => false,
    }
}

/// Bridge names, by what follows the block.
const BRIDGE: &[(&str, &str)] = &[
    ("hook_in", "hook_resid_pre"),
    ("hook_out", "hook_resid_post"),
    ("attn.q.hook_out", "attn.hook_q"),
    ("attn.k.hook_out", "attn.hook_k"),
    ("attn.v.hook_out", "attn.hook_v"),
    ("attn.o.hook_in", "attn.hook_z"),
    ("attn.hook_out", "hook_attn_out"),
    ("mlp.in.hook_out", "mlp.hook_pre"),
    ("mlp.gate.hook_out", "mlp.hook_pre"),
    ("mlp.out.hook_in", "mlp.hook_post"),
    ("mlp.hook_out", "hook_mlp_out"),
];

/// Short names, by their letters, and what they mean after the block.
const SHORT: &[(&str, &str)] = &[
    ("q", "attn.hook_q"),
    ("k", "attn.hook_k"),
    ("v", "attn.hook_v"),
    ("rot_q", "attn.hook_rot_q"),
    ("rot_k", "attn.hook_rot_k"),
    ("z", "attn.hook_z"),
    ("result", "attn.hook_result"),
    ("pattern", "attn.hook_pattern"),
    ("attn", "attn.hook_pattern"),
    ("attn_scores", "attn.hook_attn_scores"),
    ("pre", "mlp.hook_pre"),
    ("post", "mlp.hook_post"),
    ("mlp_post", "mlp.hook_post"),
    ("resid_pre", "hook_resid_pre"),
    ("resid_mid", "hook_resid_mid"),
    ("resid_post", "hook_resid_post"),
    ("attn_out", "hook_attn_out"),
    ("mlp_out", "hook_mlp_out"),
];

/// The name that another one means, where it is one of those.
fn alias(config: &Config, name: &str) -> Option<String> {
    let stack = if config.has_source() { "decoder" } else { "blocks" };
    match name {
        "embed" | "embed.hook_out" => return Some("hook_embed".into()),
        "pos_embed" | "pos_embed.hook_out" => return Some("hook_pos_embed".into()),
        "ln_final.hook_out" => return Some("unembed.hook_in".into()),
        "scale" => return Some("ln_final.hook_scale".into()),
        "logits" => return Some("unembed.hook_out".into()),
        _ => {}
    }
    let parts: Vec<&str> = name.splitn(3, '.').collect();
    if let [stack @ ("blocks" | "encoder" | "decoder"), layer, rest] = parts[..]
        && let Some((_, ours)) = BRIDGE.iter().find(|(theirs, _)| *theirs == rest)
    {
        return Some(format!("{stack}.{layer}.{ours}"));
    }
    let at = name.find(|c: char| c.is_ascii_digit())?;
    let (letters, rest) = name.split_at(at);
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (layer, norm) = rest.split_at(digits);
    if let ("scale" | "normalized", "ln1" | "ln2" | "ln3") = (letters, norm) {
        return Some(format!("{stack}.{layer}.{norm}.hook_{letters}"));
    }
    let (_, ours) = SHORT.iter().find(|(short, _)| *short == letters && norm.is_empty())?;
    Some(format!("{stack}.{layer}.{ours}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(config: &Config, name: &str) -> Vec<String> {
        find(config, name).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn globs_ranges_and_aliases_mean_sites() {
        let config = Config { layers: 12, ..Config::gpt2() };
        assert_eq!(names(&config, "blocks.*.attn.hook_pattern").len(), 12);
        let some = names(&config, "blocks.0-1,7.attn.hook_?");
        assert_eq!(some.len(), 12, "q, k, v and z in three blocks: {some:?}");
        for (alias, name) in [
            ("k6", "blocks.6.attn.hook_k"),
            ("pre5", "blocks.5.mlp.hook_pre"),
            ("resid_post3", "blocks.3.hook_resid_post"),
            ("scale4ln1", "blocks.4.ln1.hook_scale"),
            ("blocks.2.attn.o.hook_in", "blocks.2.attn.hook_z"),
            ("embed.hook_out", "hook_embed"),
            ("blocks.10.hook_in", "blocks.10.hook_resid_pre"),
        ] {
            assert_eq!(names(&config, alias), [name], "{alias}");
        }
        assert_eq!(names(&config, "*hook_pattern").len(), 12);
        assert_eq!(names(&config, "*.1.attn.hook_q"), ["blocks.1.attn.hook_q"]);
        assert_eq!(names(&config, "*resid_p*").len(), 24);
        assert_eq!(names(&config, "*").len(), Site::all(&config).len());
    }

    #[test]
    fn what_is_unknown_or_missing_is_told_with_the_reason() {
        let config = Config { layers: 2, ..Config::gpt2() };
        let error = |name: &str| find(&config, name).unwrap_err().to_string();
        let typo = error("blocks.1.attn.hook_patern");
        assert!(typo.contains("nearest: blocks.1.attn.hook_pattern"), "{typo}");
        let rotated = error("blocks.0.attn.hook_rot_q");
        assert!(rotated.contains("does not rotate"), "{rotated}");
        let beyond = error("blocks.5.hook_resid_pre");
        assert!(beyond.contains("blocks are numbered 0..2"), "{beyond}");
        assert!(find_one(&config, "blocks.*.hook_resid_pre").is_err());
    }
}
