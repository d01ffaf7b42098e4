//! `pellucid demo`: a world, a Transformer that learns it, and what it learnt.

use crate::cmd::lens::Opened;
use crate::examine::{ask, look_inside, report};
use crate::fact::trace_and_rewrite;
use crate::model::Model;
use crate::out;
use crate::plan;
use crate::session::{curve, train};
use crate::signal;
use clap::Args;
use pellucid::data::world::{World, WorldOptions};
use pellucid::error::{Error, Kind, Result};
use pellucid::files;
use pellucid::train::pretrain::Reason;
use pellucid::train::run::RunConfig;
use std::path::{Path, PathBuf};

const SECONDS: f64 = 120.0;
/// Steps after which sums and comparisons were learned; after 1,232 they were not.
const ENOUGH: u64 = 2600;

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Folder for everything
    #[arg(long, short, default_value = "runs/demo", value_name = "FOLDER")]
    out: PathBuf,
    /// About how long to train; without it two minutes, or longer where this computer needs longer to learn sums
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,
    /// So many steps instead
    #[arg(long, value_name = "N", conflicts_with = "seconds")]
    steps: Option<u64>,
    /// A smaller world and model for a few seconds, to see that everything works
    #[arg(long)]
    quick: bool,
    /// Removes what an earlier demo wrote there, and begins anew
    #[arg(long)]
    fresh: bool,
    /// Another world, other weights
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Threads; 0 takes all cores
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,
}

impl Demo {
    pub(crate) fn run(self) -> Result<()> {
        if self.fresh {
            self.remove()?;
        }
        let world = World::generate(&self.options())?;
        let text = self.out.join("world.txt");
        let known = files::read_text("demo", &text).is_ok_and(|found| found == world.text);
        if !known {
            files::replace("demo", &text, |w| w.write_all(world.text.as_bytes()))?;
        }
        let lines = out::count(world.text.lines().count() as u64);
        out::line(format!("A small world: {lines} lines in {}. Some of them:\n", text.display()))?;
        for line in world.text.lines().take(5) {
            out::line(format!("    {line}"))?;
        }
        let questions = out::count(world.questions.len() as u64);
        let held = world.questions.iter().filter(|q| q.held_out).count();
        out::line(format!(
            "\n{questions} questions are asked at the end; the text answers none of {held} of them in any wording.\n"
        ))?;

        signal::listen("saving … (Ctrl-C again aborts without saving)")?;
        let run = self.settings(&text)?;
        let outcome = train(&run, false)?;
        out::line("")?;
        curve(&self.out)?;
        if outcome.reason == Reason::Asked {
            return out::line("\nStopped. The same command goes on from here.");
        }
        let model = Model::load(&self.out)?;
        let pool = plan::pool(self.threads);
        let answers = ask(&model, &pool, &world.questions)?;
        report(&answers)?;
        look_inside(&model, &pool, &answers, &self.out)?;
        let mut opened = Opened { model, pool };
        trace_and_rewrite(&mut opened, &world, &self.out)?;
        self.next(&opened.model)
    }

    fn options(&self) -> WorldOptions {
        let options = WorldOptions { seed: self.seed, ..WorldOptions::default() };
        if self.quick { WorldOptions { people: 8, lines: 2000, ..options } } else { options }
    }

    /// The settings of the run that is there, or new ones that fill the time.
    fn settings(&self, text: &Path) -> Result<RunConfig> {
        let path = self.out.join("run.toml");
        if path.is_file() {
            return RunConfig::load(&path);
        }
        let mut run = RunConfig::default();
        run.data.train = vec![text.display().to_string()];
        run.data.tokenizer = "bpe".into();
        run.data.vocab = if self.quick { 512 } else { 1024 };
        run.data.validation_fraction = 0.05;
        let (layers, width, heads) = if self.quick { (2, 64, 2) } else { (4, 128, 4) };
        run.model.preset = "llama".into();
        run.model.tied_head = Some(true);
        (run.model.layers, run.model.width) = (Some(layers), Some(width));
        (run.model.heads, run.model.kv_heads) = (Some(heads), Some(heads));
        (run.train.batch, run.train.time) = (Some(if self.quick { 16 } else { 32 }), Some(64));
        (run.train.seed, run.train.threads) = (self.seed, plan::threads(self.threads));
        run.optimizer.lr = Some(if self.quick { 5e-3 } else { 3e-3 });
        run.checkpoint.folder = self.out.display().to_string();
        run.checkpoint.every = 0;
        run.train.steps = match self.steps {
            Some(steps) => steps,
            None if self.quick => 150,
            None => match self.seconds {
                Some(seconds) => plan::steps_in(&run, seconds)?,
                None => plan::steps_in(&run, SECONDS)?.max(ENOUGH),
            },
        };
        run.schedule.warmup = Some((run.train.steps / 5).min(50));
        run.evaluate.every = (run.train.steps / 10).max(1);
        run.evaluate.batches = 8;
        Ok(run)
    }

    /// Only a folder that a demo wrote.
    fn remove(&self) -> Result<()> {
        if !self.out.exists() {
            return Ok(());
        }
        if !self.out.join("world.txt").is_file() {
            let message = format!("{}: no demo wrote this folder", self.out.display());
            return Err(Error::new(Kind::Input, "demo", message)
                .hint("remove it yourself, or give another one with --out"));
        }
        std::fs::remove_dir_all(&self.out).map_err(|e| Error::io("demo", &self.out, e))
    }

    fn next(&self, model: &Model) -> Result<()> {
        let folder = self.out.display();
        out::line(format!(
            "Everything is in {folder}: the world, its tokens, metrics.jsonl, curve.svg, attention.svg,\n\
             trace.svg, and the model in {}, which `transformers` reads too.\n\nNext:\n  \
             pellucid generate {folder} \"This is\" --samples 3\n  \
             pellucid generate {folder} \"Sum: 2 3 plus 4 is\" -t 0 -n 4\n  \
             pellucid look {folder}\n  \
             pellucid verify {folder}\n  \
             pellucid train --data YOUR.txt --out runs/mine",
            model.folder.display()
        ))
    }
}
