//! Sizes and choices, from the shapes of the variables and the numbers among them.

use super::file::ModelFile;
use super::settings::{Settings, of_side, size};
use super::{SIDES, fault, waves};
use crate::error::Result;
use crate::model::config::{ActivationKind, Architecture, Config, NormKind, NormPlacement};

/// Contexts of computed positions have no end; CTranslate2 cuts sources off here.
const CONTEXT: usize = 1024;

/// What the tables of embeddings are multiplied by as they are read, source's and target's.
pub(super) type Factors = [f32; 2];

/// How many heads a model of the kind has that does not say it.
fn usual_heads(file: &ModelFile<'_>) -> Result<f64> {
    if file.revision > 7 {
        let message = format!("revision {} of the specification, but 7 is known", file.revision);
        return Err(fault(message).hint("it was written by a later CTranslate2"));
    }
    match file.spec.as_str() {
        "" | "TransformerBase" | "TransformerSpec" => Ok(8.0),
        "TransformerBig" => Ok(16.0),
        other => Err(fault(format!("the model is a {other:?}, not an encoder-decoder"))
            .hint("TransformerSpec, TransformerBase and TransformerBig are read")),
    }
}

/// A number that is one of both sides.
fn both(file: &ModelFile<'_>, name: &str, default: f64) -> Result<f64> {
    let [a, b] = SIDES.map(|side| of_side(file, side, name));
    let (a, b) = (a?.unwrap_or(default), b?.unwrap_or(default));
    if a == b {
        return Ok(a);
    }
    let message = format!("{name} = {a} in the encoder and {b} in the decoder");
    Err(fault(message).hint("this library has one for both"))
}

/// The sizes, all but the vocabularies, and the factors of the tables.
pub(super) fn read(file: &ModelFile<'_>, settings: &Settings) -> Result<(Config, Factors)> {
    let heads = usual_heads(file)?;
    let heads = size(both(file, "num_heads", heads)?, "num_heads")?;
    let pre = both(file, "pre_norm", 1.0)? != 0.0;
    let activation = activation(both(file, "activation", 0.0)?)?;
    if both(file, "multi_query_attention", 0.0)? != 0.0 {
        return Err(fault("multi_query_attention = 1 is not supported".into()));
    }
    for name in ["embeddings_merge", "alignment_layer", "alignment_heads"] {
        // Of several embeddings, or only of what is shown beside a translation.
        for side in SIDES {
            of_side(file, side, name)?;
        }
    }
    let width = table(file, 1)?[1];
    let hidden = columns(file, "encoder/layer_0/ffn/linear_1/weight")?;
    if !width.is_multiple_of(heads) {
        return Err(fault(format!("num_heads = {heads} does not divide the width {width}")));
    }
    let layers =
        SIDES.map(|side| (0..).take_while(|i| file.has(&format!("{side}/layer_{i}/"))).count());
    let norm = match file.has("encoder/layer_0/ffn/layer_norm/beta") {
        true => NormKind::LayerNorm,
        false => NormKind::RmsNorm,
    };
    let usual = if norm == NormKind::LayerNorm { 1e-5 } else { 1e-6 };
    let (scaled_embedding, factors) = scale(file, width)?;
    let config = Config {
        architecture: Architecture::EncoderDecoder,
        layers: layers[0],
        decoder_layers: layers[1],
        width,
        heads,
        kv_heads: heads,
        head_width: width / heads,
        hidden,
        context: CONTEXT,
        norm,
        norm_bias: norm == NormKind::LayerNorm,
        norm_epsilon: settings.epsilon.unwrap_or(usual),
        norm_placement: if pre { NormPlacement::Pre } else { NormPlacement::Post },
        activation,
        gated: file.has("encoder/layer_0/ffn/linear_0_noact/"),
        bias: file.has("encoder/layer_0/ffn/linear_0/bias"),
        embedding_norm: file.has("encoder/layernorm_embedding/"),
        scaled_head: scaled_head(file, width)?,
        scaled_embedding,
        attention_scale: attention_scale(file, layers, width / heads)?,
        dropout: 0.0,
        ..Config::transformer_base()
    };
    Ok((waves::recognise(file, config)?, factors))
}

/// Whose number is whose in CTranslate2's list.
fn activation(number: f64) -> Result<ActivationKind> {
    let known = [
        ActivationKind::Relu,
        ActivationKind::GeluTanh,
        ActivationKind::Silu,
        ActivationKind::Gelu,
    ];
    let same = |&(i, _): &(usize, _)| i as f64 == number;
    known.into_iter().enumerate().find(same).map(|(_, kind)| kind).ok_or_else(|| {
        fault(format!("activation = {number} is not supported"))
            .hint("0 to 3 are: ReLU, GELU's approximation by tanh, SiLU, GELU")
    })
}

/// The shape of a side's table of embeddings, (V, C).
pub(super) fn table(file: &ModelFile<'_>, side: usize) -> Result<[usize; 2]> {
    let name = table_name(file, side);
    let found = file.find(&name).ok_or_else(|| fault(format!("{name} is missing")))?;
    match found.shape[..] {
        [rows, columns] => Ok([rows, columns]),
        _ => Err(fault(format!("{name} is of shape {:?}, but it is a matrix", found.shape))),
    }
}

/// A list of one has a number since revision 5.
pub(super) fn table_name(file: &ModelFile<'_>, side: usize) -> String {
    let of = |name: &str| format!("{}/{name}/weight", SIDES[side]);
    match file.find(&of("embeddings_0")) {
        Some(_) => of("embeddings_0"),
        None => of("embeddings"),
    }
}

fn columns(file: &ModelFile<'_>, name: &str) -> Result<usize> {
    let found = file.find(name).ok_or_else(|| fault(format!("{name} is missing")))?;
    found
        .shape
        .get(1)
        .copied()
        .ok_or_else(|| fault(format!("{name} is of shape {:?}, but it is a matrix", found.shape)))
}

fn near(x: f64, y: f64) -> bool {
    (x / y - 1.0).abs() <= 1e-6
}

/// Whether both tables are multiplied by √C; else the factors themselves.
fn scale(file: &ModelFile<'_>, width: usize) -> Result<(bool, Factors)> {
    let root = (width as f64).sqrt();
    let mut factors = [1.0; 2];
    for (side, factor) in SIDES.iter().zip(&mut factors) {
        let names = [
            format!("{side}/scale_embeddings"),
            format!("{side}/embeddings/multiply_by_sqrt_depth"),
        ];
        let told = names.iter().find(|name| file.find(name).is_some());
        *factor = match told {
            None => root,
            Some(name) => match (file.is_flag(name), file.number(name)?) {
                (true, flag) if flag != Some(0.0) => root,
                (true, _) => 1.0,
                (false, number) => number.unwrap_or(1.0),
            },
        };
        if !factor.is_finite() {
            return Err(fault(format!("{side}/scale_embeddings = {factor}")));
        }
    }
    match factors.iter().all(|&factor| near(factor, root)) {
        true => Ok((true, [1.0; 2])),
        false => Ok((false, factors.map(|factor| factor as f32))),
    }
}

/// Whether vectors are multiplied by 1/√C before the head.
fn scaled_head(file: &ModelFile<'_>, width: usize) -> Result<bool> {
    if file.number("decoder/alibi")?.is_some_and(|x| x != 0.0) {
        return Err(fault("decoder/alibi = 1 is not supported in an encoder-decoder".into()));
    }
    for name in ["decoder/alibi_use_positive_positions", "decoder/scale_alibi"] {
        file.number(name)?;
    }
    match file.number("decoder/scale_outputs")? {
        None => Ok(false),
        Some(x) if near(x, 1.0) => Ok(false),
        Some(x) if near(x, 1.0 / (width as f64).sqrt()) => Ok(true),
        Some(x) => Err(fault(format!("decoder/scale_outputs = {x}, but 1 and 1/√C are supported"))),
    }
}

/// What scores are multiplied by, if it is not 1/√D.
fn attention_scale(
    file: &ModelFile<'_>,
    layers: [usize; 2],
    head_width: usize,
) -> Result<Option<f32>> {
    let usual = 1.0 / (head_width as f64).sqrt();
    let mut all = vec![];
    for (side, layers) in SIDES.iter().zip(layers) {
        for layer in 0..layers {
            for part in ["self_attention", "attention"] {
                let name = format!("{side}/layer_{layer}/{part}");
                if file.has(&format!("{name}/")) {
                    all.push(file.number(&format!("{name}/queries_scale"))?.unwrap_or(usual));
                }
            }
        }
    }
    let first = all.first().copied().unwrap_or(usual);
    if all.iter().any(|&scale| !near(scale, first)) {
        return Err(fault("attentions have different queries_scale".into())
            .hint("this library has one for all"));
    }
    Ok(if near(first, usual) { None } else { Some(first as f32) })
}
