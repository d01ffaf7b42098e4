//! Which variable is which parameter.

use super::file::ModelFile;
use super::sizes::{self, Factors};
use super::vocabulary::Joined;
use super::{SIDES, fault, waves};
use crate::error::Result;
use crate::model::config::{Config, NormPlacement, Positions};
use crate::model::weights::Weights;

/// What stands for minus infinity in the bias of a token that the decoder never writes: its probability is 0 in f32,
/// and no sum becomes NaN.
const NEVER: f32 = -1e9;
/// How many faults are told at once.
const TOLD: usize = 12;

/// A variable and its place in our weights.
struct Piece {
    name: String,
    shape: Vec<usize>,
    /// Our parameter, and the first of its rows.
    place: (String, usize),
    /// A bias that is not there is zero.
    optional: bool,
}

/// | CTranslate2 | ours |
/// |---|---|
/// | `p/layer_i/self_attention/linear_0`, `_1` | `p.blocks.i.attn.qkv`, `.out` |
/// | `decoder/layer_i/attention/linear_0`, `_1`, `_2` | `decoder.blocks.i.cross.q`, `.kv`, `.out` |
/// | `p/layer_i/ffn/linear_0`, `linear_0_noact`, `linear_1` | `p.blocks.i.mlp.in` gate, up, `.out` |
/// | `layer_norm/gamma`, `beta` in each of these | `.norm.weight`, `.bias` |
/// | `p/layer_norm` | `p.norm` |
/// | `p/layernorm_embedding` | `p.embedding.norm` |
/// | `p/position_encodings/encodings` | `p.embedding.position`, unless it is sines |
struct Pieces<'a> {
    config: &'a Config,
    list: Vec<Piece>,
}

impl Pieces<'_> {
    fn push(&mut self, name: String, shape: &[usize], place: (String, usize), optional: bool) {
        self.list.push(Piece { name, shape: shape.to_vec(), place, optional });
    }

    fn linear(&mut self, name: &str, (rows, columns): (usize, usize), ours: &str, first: usize) {
        let of = |kind: &str| (format!("{ours}.{kind}"), first);
        self.push(format!("{name}/weight"), &[rows, columns], of("weight"), false);
        if self.config.bias {
            self.push(format!("{name}/bias"), &[rows], of("bias"), true);
        }
    }

    fn norm(&mut self, name: &str, ours: &str) {
        let c = self.config.width;
        self.push(format!("{name}/gamma"), &[c], (format!("{ours}.weight"), 0), false);
        if self.config.norm_bias {
            self.push(format!("{name}/beta"), &[c], (format!("{ours}.bias"), 0), false);
        }
    }

    fn block(&mut self, theirs: &str, ours: &str, crosses: bool) {
        let (c, f) = (self.config.width, self.config.hidden);
        let attention = format!("{theirs}/self_attention");
        self.norm(&format!("{attention}/layer_norm"), &format!("{ours}.attn.norm"));
        self.linear(&format!("{attention}/linear_0"), (3 * c, c), &format!("{ours}.attn.qkv"), 0);
        self.linear(&format!("{attention}/linear_1"), (c, c), &format!("{ours}.attn.out"), 0);
        if crosses {
            let attention = format!("{theirs}/attention");
            self.norm(&format!("{attention}/layer_norm"), &format!("{ours}.cross.norm"));
            for (i, rows, own) in [(0, c, "q"), (1, 2 * c, "kv"), (2, c, "out")] {
                let own = format!("{ours}.cross.{own}");
                self.linear(&format!("{attention}/linear_{i}"), (rows, c), &own, 0);
            }
        }
        let (theirs, ours) = (format!("{theirs}/ffn"), format!("{ours}.mlp"));
        self.norm(&format!("{theirs}/layer_norm"), &format!("{ours}.norm"));
        self.linear(&format!("{theirs}/linear_0"), (f, c), &format!("{ours}.in"), 0);
        if self.config.gated {
            self.linear(&format!("{theirs}/linear_0_noact"), (f, c), &format!("{ours}.in"), f);
        }
        self.linear(&format!("{theirs}/linear_1"), (c, f), &format!("{ours}.out"), 0);
    }

    fn all(mut self) -> Vec<Piece> {
        let config = self.config;
        for (side, layers) in [config.layers, config.decoder_layers].into_iter().enumerate() {
            let p = SIDES[side];
            if config.positions == Positions::Learned {
                let (shape, ours) = ([config.context, config.width], "embedding.position");
                self.push(waves::table_name(side), &shape, (format!("{p}.{ours}"), 0), false);
            }
            if config.embedding_norm {
                self.norm(&format!("{p}/layernorm_embedding"), &format!("{p}.embedding.norm"));
            }
            for i in 0..layers {
                self.block(&format!("{p}/layer_{i}"), &format!("{p}.blocks.{i}"), side == 1);
            }
            if config.norm_placement == NormPlacement::Pre {
                self.norm(&format!("{p}/layer_norm"), &format!("{p}.norm"));
            }
        }
        self.list
    }
}

/// Many faults as one error.
fn told(faults: &[String]) -> Result<()> {
    if faults.is_empty() {
        return Ok(());
    }
    let count = faults.len();
    let error =
        fault(format!("{count} variable{} not fit", if count == 1 { " does" } else { "s do" }));
    let error = faults.iter().take(TOLD).fold(error, |error, fault| error.fact(fault));
    let hint = "the model is damaged, or of a kind that this library does not know";
    Err(if count > TOLD { error.fact("and more") } else { error }.hint(hint))
}

/// Nothing is allocated before every variable is there in the shape that the sizes ask for.
fn check(file: &ModelFile<'_>, pieces: &[Piece], wanted: [[usize; 2]; 3]) -> Result<()> {
    let mut faults = vec![];
    let mut one = |name: &str, shape: &[usize], optional: bool| match file.find(name) {
        None if optional => {}
        None => faults.push(format!("{name} is missing")),
        Some(found) if found.shape == shape => {}
        // A table of positions may be longer than the other side's.
        Some(found) if name.ends_with("/encodings") && found.shape > shape.to_vec() => {}
        Some(found) => faults.push(format!("{name} is {:?}, expected {shape:?}", found.shape)),
    };
    for piece in pieces {
        one(&piece.name, &piece.shape, piece.optional);
    }
    one(&sizes::table_name(file, 0), &wanted[0], false);
    one(&sizes::table_name(file, 1), &wanted[1], false);
    one("decoder/projection/weight", &wanted[2], false);
    one("decoder/projection/bias", &wanted[2][..1], true);
    faults.extend(file.unused().iter().map(|name| format!("{name} is not known")));
    told(&faults)
}

/// Rows of a table by our ids.
fn rows(values: &[f32], rows: &[Option<usize>], columns: usize, factor: f32) -> Vec<f32> {
    let mut table = vec![0.0; rows.len() * columns];
    for (to, from) in table.chunks_exact_mut(columns).zip(rows) {
        if let Some(row) = *from {
            let from = &values[row * columns..(row + 1) * columns];
            to.iter_mut().zip(from).for_each(|(to, from)| *to = from * factor);
        }
    }
    table
}

/// The weights, and the config with what only they tell: the vocabularies, and which tables are one.
pub(super) fn weights(
    file: &ModelFile<'_>,
    config: Config,
    joined: &Joined,
    (source, factors): (usize, Factors),
) -> Result<(Config, Weights)> {
    let (c, written) = (config.width, joined.written);
    let pieces = Pieces { config: &config, list: vec![] }.all();
    check(file, &pieces, [[source, c], [written, c], [written, c]])?;
    let table = |name: &str, places: &[Option<usize>], factor| -> Result<Vec<f32>> {
        Ok(rows(&file.values(name)?, places, c, factor))
    };
    let encoder = table(&sizes::table_name(file, 0), &joined.source, factors[0])?;
    let decoder = table(&sizes::table_name(file, 1), &joined.target, factors[1])?;
    let head = table("decoder/projection/weight", &joined.target, 1.0)?;
    let (name, all) = ("decoder/projection/bias", joined.tokens.len());
    let has_bias = file.find(name).is_some();
    let config = Config {
        vocab: all,
        source_vocab: if encoder == decoder { 0 } else { all },
        tied_head: head == decoder,
        head_bias: has_bias || all > written,
        ..config
    };
    config.validate()?;
    let mut weights = Weights::zeros(&config);
    weights.get_mut("embedding.token")?.copy_from_slice(&decoder);
    if config.source_vocab > 0 {
        weights.get_mut("encoder.embedding.token")?.copy_from_slice(&encoder);
    }
    if !config.tied_head {
        weights.get_mut("head.weight")?.copy_from_slice(&head);
    }
    if config.head_bias {
        let bias = weights.get_mut("head.bias")?;
        bias[written..].fill(NEVER);
        if has_bias {
            bias[..written].copy_from_slice(&file.values(name)?);
        }
    }
    for piece in pieces {
        if piece.optional && file.find(&piece.name).is_none() {
            continue;
        }
        let n: usize = piece.shape.iter().product();
        let first = piece.place.1 * (n / piece.shape[0].max(1));
        let values = file.values(&piece.name)?;
        weights.get_mut(&piece.place.0)?[first..first + n].copy_from_slice(&values[..n]);
    }
    Ok((config, weights))
}
