//! Which commands make up each kind.

use super::candle;
use super::engine::{Engine, Output};
use super::options::{DECODERS, Options};
use super::turns::Job;
use crate::root;
use std::path::{Path, PathBuf};
use std::process::Command;

type Started = Result<(PathBuf, Vec<String>), String>;

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(Into::into).collect()
}

fn ours(o: &Options, line: &str) -> Engine {
    let command = Ok((o.binary(), words(line)));
    Engine { name: "pellucid", ours: true, command, output: Output::Json }
}

fn peer(name: &'static str, command: Started) -> Engine {
    Engine { name, ours: false, command, output: Output::Json }
}

/// A script of `lab/peers`.
fn script(o: &Options, file: &str, line: &str) -> Started {
    let python = o.python.clone().ok_or("no --python was given")?;
    let path = root().join("lab/peers").join(file);
    if !path.exists() {
        return Err(format!("lab/peers/{file} is not there"));
    }
    let mut arguments = vec![path.display().to_string()];
    arguments.extend(words(line));
    Ok((python.into(), arguments))
}

/// The same script eager and compiled.
fn torch(o: &Options, file: &str, line: &str) -> Vec<Engine> {
    if !o.wants("torch") {
        return vec![];
    }
    [("torch eager", "eager"), ("torch compiled", "compiled")]
        .map(|(name, mode)| peer(name, script(o, file, &format!("{line} --mode {mode}"))))
        .into()
}

fn candle(o: &Options, precision: &str, line: &str) -> Option<Engine> {
    if !o.wants("candle") || precision != "f32" {
        return None;
    }
    let command = o.no_candle.clone().map_or_else(|| Ok((candle::program(), words(line))), Err);
    Some(peer("candle", command))
}

/// A program on the PATH.
pub(super) fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|p| p.join(program)).find(|p| p.is_file())
}

/// llama.cpp where the file's name says that its weights are of this sort.
fn llama(o: &Options, weights: &str, line: &str) -> Option<Engine> {
    if !o.wants("llama.cpp") {
        return None;
    }
    let sort = o.gguf.as_ref().map(|file| {
        let name = Path::new(file).file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let sorts = [("bf16", "bf16"), ("f16", "bf16"), ("f32", "f32"), ("q8", "int8")];
        sorts.iter().find(|(mark, _)| name.contains(mark)).map_or("int4", |(_, sort)| *sort)
    });
    if sort.is_some_and(|s| s != weights) {
        return None;
    }
    let command = match (on_path("llama-bench"), &o.gguf) {
        (None, _) => Err("llama-bench is not on the PATH".into()),
        (_, None) => Err("no --gguf was given".into()),
        (Some(program), Some(file)) => {
            let mut arguments = words(line);
            arguments.extend(["-m".into(), file.clone(), "-o".into(), "json".into()]);
            Ok((program, arguments))
        }
    };
    Some(Engine { output: Output::LlamaBench, ..peer("llama.cpp", command) })
}

/// Everything of one kind.
pub(super) fn jobs(kind: &str, o: &Options) -> Result<Vec<Job>, String> {
    Ok(match kind {
        "train" => o
            .recipes
            .iter()
            .flat_map(|recipe| o.precisions.iter().map(move |p| train(o, recipe, p)))
            .collect(),
        "decode" => o.weights.iter().map(|w| decode(o, w)).collect(),
        "prompt" => o.precisions.iter().map(|p| prompt(o, p)).collect(),
        "attention" => o
            .lengths
            .iter()
            .flat_map(|t| o.precisions.iter().map(move |p| attention(o, *t, p)))
            .collect(),
        _ => vec![cold_start(o)?],
    })
}

fn train(o: &Options, recipe: &str, precision: &str) -> Job {
    let decoder = DECODERS.contains(&recipe);
    let usual = match recipe {
        "tiny" => 30,
        "transformer-tiny" => 15,
        "bert-mini" => 5,
        _ => 3,
    };
    let line = format!("--recipe {recipe} --steps {} --warmup 2", o.steps.unwrap_or(usual));
    let mut both = format!("{line} --precision {precision}");
    let mut case = recipe.to_string();
    if let Some(p) = o.dropout.as_ref().filter(|_| !decoder) {
        both += &format!(" --dropout {p}");
        case += &format!(" p={p}");
    }
    let mut engines = vec![ours(o, &format!("bench train --json {both}"))];
    if !decoder {
        engines.extend(torch(o, "torch_transformer.py", &both));
        if recipe == "bert-mini" && o.wants("torch") {
            // Of hidden tokens only a part has a target; PyTorch's user may score those alone.
            let line = format!("{both} --gather");
            engines.push(peer("torch gathered", script(o, "torch_transformer.py", &line)));
        }
        return Job { case, precision: precision.into(), engines };
    }
    engines.extend(torch(o, "torch_train.py", &both));
    // candle takes half a minute a step on two cores where others take two seconds.
    let steps = o.steps.unwrap_or(usual).div_ceil(3);
    let short = format!("train --recipe {recipe} --steps {steps} --warmup 1");
    engines.extend(candle(o, precision, &short));
    Job { case, precision: precision.into(), engines }
}

fn decode(o: &Options, weights: &str) -> Job {
    let tokens = o.tokens;
    let line = format!("bench decode --recipe gpt2 --weights {weights} --tokens {tokens} --json");
    let mut engines = vec![ours(o, &line)];
    let line = format!("--precision {weights} --tokens {tokens}");
    if weights == "int8" && o.wants("torch") {
        engines.push(peer("torch int8", script(o, "torch_decode.py", &line)));
    } else if weights != "int4" {
        engines.extend(torch(o, "torch_decode.py", &line));
    }
    engines.extend(candle(o, weights, &format!("decode --recipe gpt2 --tokens {tokens}")));
    engines.extend(llama(o, weights, &format!("-p 0 -n {tokens} -r 3")));
    Job { case: "124M".into(), precision: weights.into(), engines }
}

fn prompt(o: &Options, precision: &str) -> Job {
    let line = format!("bench prompt --recipe gpt2 --weights {precision} --tokens 512 --json");
    let mut engines = vec![ours(o, &line)];
    let line = format!("--precision {precision} --tokens 512 --repeats 5");
    engines.extend(torch(o, "torch_prompt.py", &line));
    engines.extend(candle(o, precision, "prompt --recipe gpt2 --tokens 512"));
    engines.extend(llama(o, precision, "-p 512 -n 0 -r 5"));
    Job { case: "512 tokens".into(), precision: precision.into(), engines }
}

fn attention(o: &Options, t: usize, precision: &str) -> Job {
    // Fewer heads and runs where one takes seconds; at least one head for each of two cores.
    let (heads, repeats) = match t {
        0..=4096 => (12, 3),
        4097..=16384 => (4, 2),
        _ => (2, 1),
    };
    let line = format!(
        "--t {t} --heads {heads} --d 64 --batch 1 --precision {precision} --repeats {repeats} --json"
    );
    let mut engines = vec![ours(o, &format!("bench attention {line}"))];
    if o.wants("torch") {
        engines.push(peer("torch sdpa", script(o, "torch_attention.py", &line)));
    }
    Job { case: format!("T={t} H={heads}"), precision: precision.into(), engines }
}

/// A folder to start from: the one given, or random weights made once.
fn model(o: &Options) -> Result<String, String> {
    if let Some(model) = &o.model {
        return Ok(model.clone());
    }
    let folder = root().join("target/bench/gpt2");
    if !folder.join("model.safetensors").exists() {
        let text = folder.display().to_string();
        let (python, arguments) = script(o, "make_gpt2.py", "")
            .map_err(|e| format!("`start` needs --model FOLDER, or --python to make one: {e}"))?;
        println!("making random weights of GPT-2's 124M shape");
        let output = Command::new(python).args(arguments).arg(&text).output();
        let output = output.map_err(|e| format!("make_gpt2.py: {e}"))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            return Err(format!("make_gpt2.py: {}", text.lines().last().unwrap_or("failed")));
        }
    }
    Ok(folder.display().to_string())
}

fn cold_start(o: &Options) -> Result<Job, String> {
    let folder = match model(o) {
        Ok(folder) => folder,
        Err(reason) if o.kinds.len() > 1 => {
            // The rest is not to be lost for it.
            let engine = Engine { command: Err(reason), ..ours(o, "") };
            let engines = vec![engine];
            return Ok(Job { case: "first token".into(), precision: "f32".into(), engines });
        }
        Err(reason) => return Err(reason),
    };
    // Greedy, one token, only new text is printed; as words, because folders may have blanks.
    let mut command = words("generate");
    command.extend([folder.clone(), "First".into()]);
    command.extend(words("-n 1 -t 0 --no-echo --ignore-end"));
    let own =
        Engine { command: Ok((o.binary(), command)), output: Output::FirstByte, ..ours(o, "") };
    let mut engines = vec![own];
    if o.wants("torch") {
        let started = script(o, "cold_start.py", "").map(|(python, mut arguments)| {
            arguments.extend([folder, "--transformers".into(), "--runs".into(), "1".into()]);
            (python, arguments)
        });
        engines.push(Engine { output: Output::ColdStart, ..peer("transformers", started) });
    }
    Ok(Job { case: "first token".into(), precision: "f32".into(), engines })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Options {
        let words: Vec<String> = line.split_whitespace().map(Into::into).collect();
        Options::parse(&words).unwrap()
    }

    /// All words after the program, of every engine that could start.
    fn lines(job: &Job) -> Vec<(&'static str, String)> {
        let started = job.engines.iter().filter_map(|e| Some((e.name, e.command.as_ref().ok()?)));
        started.map(|(name, (_, words))| (name, words.join(" "))).collect()
    }

    #[test]
    fn all_engines_of_a_step_get_the_same_sizes() {
        let o = options(
            "train --python python3 --recipes bert-mini,transformer-tiny --steps 7 --dropout 0.2",
        );
        let jobs = jobs("train", &o).unwrap();
        assert_eq!(jobs.len(), 4);
        for job in &jobs {
            let recipe = job.case.split(' ').next().unwrap();
            let same = format!(
                "--recipe {recipe} --steps 7 --warmup 2 --precision {} --dropout 0.2",
                job.precision
            );
            let lines = lines(job);
            assert!(lines.iter().all(|(_, line)| line.contains(&same)), "{lines:?}");
            assert_eq!(lines.len(), if recipe == "bert-mini" { 4 } else { 3 }, "{lines:?}");
        }
        let o = options("train --python python3 --recipes tiny --dropout 0.2");
        let decoder = &super::jobs("train", &o).unwrap()[0];
        assert!(lines(decoder).iter().all(|(_, line)| !line.contains("dropout")));
    }
}
