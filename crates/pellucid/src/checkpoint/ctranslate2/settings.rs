//! What `config.json` says, and single numbers among the variables.

use super::file::ModelFile;
use super::{IMPORT, fault};
use crate::checkpoint::names::Keys;
use crate::error::{Kind, Result};
use crate::files;
use std::path::Path;

/// Which tokens stand for what.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) unknown: String,
    pub(super) bos: String,
    pub(super) eos: String,
    /// With which the decoder starts; none: the caller must say.
    pub(super) start: Option<String>,
    /// Whether `bos` is put before a source.
    pub(super) begins: bool,
    /// Whether `eos` is put after it.
    pub(super) ends: bool,
    /// Of every norm; none: by its kind.
    pub(super) epsilon: Option<f32>,
}

impl Settings {
    /// From `config.json`; models from before version 6 have flags among the variables instead.
    pub(super) fn read(folder: &Path, file: &ModelFile<'_>) -> Result<Self> {
        let path = folder.join("config.json");
        let text = match path.exists() {
            true => files::read_text(IMPORT, &path)?,
            false => "{}".to_owned(),
        };
        let mut keys = Keys::parse(&text, &path.display().to_string(), IMPORT)?;
        let flag = |name: &str, default: bool| -> Result<bool> {
            Ok(file.number(name)?.map_or(default, |x| x != 0.0))
        };
        let (begins, ends) = (flag("with_source_bos", false)?, flag("with_source_eos", false)?);
        let (bos, eos) = (keys.text("bos_token", "<s>"), keys.text("eos_token", "</s>"));
        let usual = if flag("with_target_bos", true)? { &bos } else { &eos };
        let start = match keys.is_null("decoder_start_token") {
            true => None,
            false => Some(keys.text("decoder_start_token", usual)),
        };
        let epsilon = keys.float("layer_norm_epsilon", 0.0) as f32;
        let settings = Self {
            unknown: keys.text("unk_token", "<unk>"),
            begins: keys.flag("add_source_bos", begins),
            ends: keys.flag("add_source_eos", ends),
            epsilon: Some(epsilon).filter(|_| keys.has("layer_norm_epsilon")),
            start,
            bos,
            eos,
        };
        keys.finish(Kind::Format, "correct the file, or convert the model again")?;
        Ok(settings)
    }
}

/// `side/name`, or before revision 5 `name` of both sides.
pub(super) fn of_side(file: &ModelFile<'_>, side: &str, name: &str) -> Result<Option<f64>> {
    let (own, both) = (file.number(&format!("{side}/{name}"))?, file.number(name)?);
    Ok(own.or(both))
}

/// A number that must be whole and above 0.
pub(super) fn size(value: f64, name: &str) -> Result<usize> {
    if value >= 1.0 && value <= f64::from(u16::MAX) && value.fract() == 0.0 {
        return Ok(value as usize);
    }
    Err(fault(format!("{name} = {value}, but it is a whole number from 1 on")))
}
