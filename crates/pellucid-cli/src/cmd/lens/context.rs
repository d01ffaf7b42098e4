//! `pellucid lens context`

use super::looked::Looked;
use crate::finding::{Finding, FindingArgs};
use clap::Args;
use pellucid::error::{Error, Kind, Result};
use pellucid::files;
use pellucid::lens::context_scores::in_context;
use pellucid::lens::heat_map::HeatMap;
use serde_json::json;
use std::path::PathBuf;

/// Columns of the picture.
const COLUMNS: usize = 64;

#[derive(Debug, Args)]
pub(crate) struct Context {
    #[command(flatten)]
    looked: Looked,
    /// A text, cut into windows
    texts: PathBuf,
    /// Tokens of a window; 0 takes the model's context
    #[arg(long, default_value_t = 0, value_name = "N")]
    tokens: usize,
    /// Windows that are read, at most
    #[arg(long, default_value_t = 64, value_name = "N")]
    windows: usize,
    #[command(flatten)]
    output: FindingArgs,
}

impl Context {
    pub(crate) fn run(self) -> Result<()> {
        let opened = self.looked.open()?;
        let context = opened.model.config.context;
        let t = if self.tokens == 0 { context } else { self.tokens.min(context) };
        let ids = opened.ids(&files::read_text("lens", &self.texts)?)?;
        let rows: Vec<Vec<i32>> =
            ids.chunks_exact(t.max(1)).take(self.windows).map(<[i32]>::to_vec).collect();
        if rows.is_empty() {
            let message = format!("{} has {} tokens", self.texts.display(), ids.len());
            return Err(Error::new(Kind::Input, "lens", message)
                .hint(format!("a window takes {t}; ask for shorter ones: --tokens N")));
        }
        let found = in_context(opened.subject(), &rows)?;
        let (early, late) = found.tokens;
        let text = vec![format!(
            "{} windows of {t} tokens: loss of token {late} less that of token {early}: {:+.3} ± {:.3} nats ({:.3} \
             and {:.3}); below 0 the context is used",
            found.samples,
            found.score.value,
            found.score.error,
            found.late.value,
            found.early.value
        )];
        let bin = found.curve.len().div_ceil(COLUMNS);
        let values: Vec<f64> =
            found.curve.chunks(bin).map(|c| c.iter().sum::<f64>() / c.len() as f64).collect();
        let columns = (0..values.len()).map(|i| (i * bin + 1).to_string()).collect();
        let title = "Loss by position, in nats";
        let json = json!({ "score": found.score.value, "error": found.score.error, "tokens": [early, late],
            "early": found.early.value, "late": found.late.value, "windows": found.samples, "curve": found.curve });
        let rows = vec!["loss".into()];
        let picture = HeatMap::new(title, rows, columns, values);
        self.output.show(&Finding::pictured(picture, text, json))
    }
}
