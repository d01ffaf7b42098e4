//! Writes a folder with a preset's architecture (small, random weights) and its logits, for
//! `tests/golden/check_transformers.py`:
//!
//! ```text
//! cargo run --release --example logits -- gpt2 FOLDER        # or llama, nano, or an existing FOLDER to read
//! python crates/pellucid/tests/golden/check_transformers.py FOLDER
//! ```
#![allow(clippy::print_stdout)] // An example speaks.

use pellucid::backend::cpu::pool::Pool;
use pellucid::checkpoint::{self, GenerationConfig, StoredType};
use pellucid::error::{Error, Kind, Result};
use pellucid::model::config::Config;
use pellucid::model::observer::{Observer, Text};
use pellucid::model::site::{Site, Sizes};
use pellucid::model::weights::Weights;
use pellucid::tensor::random::Random;
use std::path::Path;

const B: usize = 2;
const T: usize = 48;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, folder] = &arguments[..] else {
        return Err(Error::new(Kind::Input, "logits", "give a preset (or `read`) and a folder"));
    };
    let folder = Path::new(folder);
    if what != "read" {
        let config = Config { vocab: 500, context: 64, ..Config::preset(what)?.with_depth(3) };
        let mut weights = Weights::init(&config, 7);
        let mut random = Random::new(8, 0);
        // Larger than at the start of training, so that logits differ and a mistake shows.
        let bias_free = config.norm_bias || what != "nano";
        for spec in weights.specs().to_vec() {
            if bias_free || !spec.name.ends_with(".bias") {
                weights.data_mut()[spec.range()]
                    .iter_mut()
                    .for_each(|x| *x += 0.05 * random.normal());
            }
        }
        let generation = GenerationConfig::default();
        checkpoint::save(folder, &config, &weights, None, &generation, StoredType::F32)?;
    }
    let model = checkpoint::load(folder)?;
    let t = T.min(model.config.context);
    let mut random = Random::new(9, 0);
    let ids: Vec<i32> = (0..B * t).map(|_| random.below(model.config.vocab) as i32).collect();
    let pool = Pool::new(0);
    let site = Site::logits(&model.config);
    let sizes = Sizes { b: B, t, s: 0 };
    let mut observer = Observer::reading(&model.config, sizes, &[site], pool.threads())?;
    observer.run(&pool, &model.weights, Text::of(&ids))?;
    let logits = observer.value(site)?;
    let v = model.config.vocab;
    let json = serde_json::json!({
        "ids": ids.chunks(t).collect::<Vec<_>>(),
        "logits": logits.chunks(t * v).map(|row| row.chunks(v).collect::<Vec<_>>()).collect::<Vec<_>>(),
    });
    let path = folder.join("logits.json");
    pellucid::files::replace("logits", &path, |w| w.write_all(json.to_string().as_bytes()))?;
    println!("{}", path.display());
    Ok(())
}
