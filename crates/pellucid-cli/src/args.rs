//! The command line as a whole; each command's own arguments stand with the command.

use crate::cmd;
use clap::{Args, Parser, Subcommand};
use pellucid::generate::Sampling;
use std::ffi::OsString;

/// A glass-box Transformer engine: train, run and look inside, on this computer.
#[derive(Debug, Parser)]
#[command(name = "pellucid", version, max_term_width = 100)]
#[command(after_help = "First time here? `pellucid demo` needs no data and no network.")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a small world, train a Transformer on it, see what it learnt. Two minutes, no network
    Demo(cmd::demo::Demo),
    /// Train on text, from a TOML file or flags; continues where it was stopped
    Train(cmd::train::Train),
    /// Continue a text
    Generate(cmd::generate::Generate),
    /// Talk with a model that was trained to answer
    Chat(cmd::chat::Chat),
    /// Translate texts with an encoder-decoder, and score translations
    Translate(cmd::translate::Translate),
    /// Vectors of texts, and how well their cosines follow numbers given by people
    Embed(cmd::embed::Embed),
    /// Loss, perplexity and bits per byte of a model on text, or how often it is right in a task
    Eval(cmd::eval::Eval),
    /// Train a tokenizer, or turn text into ids and back
    Tokenize(cmd::tokenize::Tokenize),
    /// Parameters, memory and FLOPs of a model folder, a run, a preset or a config file
    Inspect(cmd::inspect::Inspect),
    /// Look inside: attention, the logit lens, who wrote a score, patching, causal tracing, an edited fact
    Lens(cmd::lens::Lens),
    /// Try the exact laws of a glass box on a model, and say by how much each holds
    Verify(cmd::verify::Verify),
    /// Look inside a model in a browser: tokens, attention, the stream at each depth, a run while it trains
    Look(cmd::look::Look),
    /// Bring a model from elsewhere: `transformers`, LoRA factors, GGUF, CTranslate2, llama2.c, the Hugging Face Hub
    Import(cmd::import::Import),
    /// Write a model for `transformers` or, as GGUF, for llama.cpp; LoRA factors are merged
    Export(cmd::export::Export),
    /// Write a model's weights in bf16, int8 or int4, for `generate` and `eval`
    #[command(visible_alias = "quantize")]
    Quantise(cmd::quantise::Quantise),
    /// What this computer has and what is used of it
    Doctor(cmd::doctor::Doctor),
    /// Measure: matrix products, single operations, a training step, decoding, prompts
    Bench(cmd::bench::Bench),
    /// Completions for a shell: `pellucid completions bash > …`
    Completions(cmd::completions::Completions),
}

/// How the next token is chosen.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct SamplingArgs {
    /// Below 1 bolder, above 1 wilder, 0 the most probable token always
    #[arg(long, short = 't', value_name = "X")]
    pub(crate) temperature: Option<f32>,
    /// Only the K most probable tokens; 0 keeps all
    #[arg(long, value_name = "K")]
    pub(crate) top_k: Option<usize>,
    /// Only the smallest set of tokens whose probabilities reach P
    #[arg(long, value_name = "P")]
    pub(crate) top_p: Option<f32>,
    /// Only tokens at least this fraction as probable as the best
    #[arg(long, value_name = "P")]
    pub(crate) min_p: Option<f32>,
    /// Above 1: tokens already there become less probable
    #[arg(long, value_name = "X")]
    pub(crate) repetition_penalty: Option<f32>,
    /// Same seed, same text
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) seed: u64,
}

impl SamplingArgs {
    /// These flags over the model's own defaults.
    pub(crate) fn over(&self, base: Sampling) -> Sampling {
        Sampling {
            temperature: self.temperature.unwrap_or(base.temperature),
            top_k: self.top_k.unwrap_or(base.top_k),
            top_p: self.top_p.unwrap_or(base.top_p),
            min_p: self.min_p.unwrap_or(base.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(base.repetition_penalty),
            seed: self.seed,
        }
    }
}

/// Several tokens for one look at the weights.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Speculation")]
pub(crate) struct SpeculateArgs {
    /// Guesses tokens that the model then verifies together: ngram looks in the text itself for what
    /// followed before, a folder holds a smaller model with the same tokenizer. Faster where guesses are
    /// right; the same text at temperature 0 or with ngram, else text of the same distribution
    #[arg(long, value_name = "ngram|FOLDER")]
    pub(crate) speculate: Option<String>,
    /// The most tokens guessed at a time, up to 7; how many it is follows from how many were right
    #[arg(long, default_value_t = 7, value_name = "K")]
    pub(crate) speculate_tokens: usize,
}

/// Every key of a run is a flag: `--train.steps 100` and `--train.steps=100` become `--set train.steps=100`.
pub(crate) fn dotted(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut out = Vec::new();
    let mut args = args.into_iter().peekable();
    let mut plain = false;
    while let Some(arg) = args.next() {
        plain |= arg == "--";
        let text = arg.to_str().unwrap_or("");
        let flag = text.strip_prefix("--").filter(|_| !plain).unwrap_or("");
        let name = flag.split('=').next().unwrap_or("");
        let key = |s: &str| s.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
        if name.is_empty() || !name.contains('.') || !key(name) {
            out.push(arg);
            continue;
        }
        let mut pair = flag.replacen(name, &name.replace('-', "_"), 1);
        if !flag.contains('=') {
            // A switch such as --model.gated stands for itself.
            let value = args.next_if(|v| v.to_str().is_none_or(|v| !v.starts_with("--")));
            pair.push('=');
            pair.push_str(&value.map_or("true".into(), |v| v.to_string_lossy().into_owned()));
        }
        out.extend(["--set".into(), pair.into()]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn keys_with_dots_become_settings() {
        let args = ["pellucid", "train", "run.toml", "--train.steps", "100", "--optimizer.lr=1e-3"];
        let more = ["--model.gated", "--model.norm-placement", "post", "--", "--a.b"];
        let got = dotted(args.iter().chain(&more).map(OsString::from));
        let want = "pellucid train run.toml --set train.steps=100 --set optimizer.lr=1e-3 \
                    --set model.gated=true --set model.norm_placement=post -- --a.b";
        let got: Vec<&str> = got.iter().filter_map(|a| a.to_str()).collect();
        assert_eq!(got.join(" "), want);
    }

    #[test]
    fn help_pages_are_as_they_were_reviewed() {
        let mut command = Cli::command().term_width(100);
        insta::assert_snapshot!("help", command.render_help().to_string());
        for page in command.get_subcommands_mut() {
            let name = format!("help-{}", page.get_name());
            let mut page = page.clone().term_width(100);
            insta::assert_snapshot!(name, page.render_long_help().to_string());
        }
    }
}
