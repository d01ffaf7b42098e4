//! The benchmark's model in candle, from its public pieces: a training step, decoding one token at a time, a prompt.
//!
//! `pellucid-peer-candle train|decode|prompt [--recipe NAME] [--steps N] [--tokens N]` prints one line of JSON with the
//! keys that `pellucid bench` has. f32 on the processor. candle_nn offers no gradient clipping, so its step has none.

use candle_core::{D, DType, Device, Result, Tensor, Var};
use candle_nn::kv_cache::KvCache;
use candle_nn::ops::{layer_norm, layer_norm_slow, softmax, softmax_last_dim};
use candle_nn::optim::{AdamW, Optimizer, ParamsAdamW};
use candle_nn::{Init, LayerNorm, Linear, Module, VarBuilder, VarMap, loss::cross_entropy};
use std::time::Instant;

/// Sizes: layers, heads, width, vocabulary, T, B, biases.
#[derive(Clone, Copy)]
struct Recipe {
    layers: usize,
    heads: usize,
    width: usize,
    vocab: usize,
    time: usize,
    batch: usize,
    bias: bool,
}

fn recipe(name: &str) -> Option<Recipe> {
    let (layers, heads, width, vocab, time, batch, bias) = match name {
        "tiny" => (4, 4, 128, 65, 64, 12, false),
        "nano" => (6, 6, 384, 65, 256, 64, false),
        "gpt2" => (12, 12, 768, 50257, 1024, 1, true),
        _ => return None,
    };
    Some(Recipe { layers, heads, width, vocab, time, batch, bias })
}

/// LayerNorm; candle's fused kernel has no backward pass, so training takes the composed one.
struct Norm {
    weight: Tensor,
    bias: Option<Tensor>,
    training: bool,
}

impl Norm {
    fn new(vb: &VarBuilder, name: &str, r: Recipe, training: bool) -> Result<Self> {
        let vb = vb.pp(name);
        let weight = vb.get_with_hints(r.width, "weight", Init::Const(1.0))?;
        let bias =
            if r.bias { Some(vb.get_with_hints(r.width, "bias", Init::Const(0.0))?) } else { None };
        Ok(Self { weight, bias, training })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match &self.bias {
            Some(bias) if self.training => layer_norm_slow(x, &self.weight, bias, 1e-5),
            Some(bias) => layer_norm(&x.contiguous()?, &self.weight, bias, 1e-5),
            None => LayerNorm::new_no_bias(self.weight.clone(), 1e-5).forward(x),
        }
    }
}

fn linear(vb: &VarBuilder, name: &str, r: Recipe, (i, o): (usize, usize)) -> Result<Linear> {
    let vb = vb.pp(name);
    let weight = vb.get_with_hints((o, i), "weight", Init::Randn { mean: 0.0, stdev: 0.02 })?;
    let bias = if r.bias { Some(vb.get_with_hints(o, "bias", Init::Const(0.0))?) } else { None };
    Ok(Linear::new(weight, bias))
}

struct Block {
    recipe: Recipe,
    n1: Norm,
    qkv: Linear,
    out: Linear,
    n2: Norm,
    up: Linear,
    down: Linear,
}

impl Block {
    fn new(vb: &VarBuilder, r: Recipe, training: bool) -> Result<Self> {
        let c = r.width;
        Ok(Self {
            recipe: r,
            n1: Norm::new(vb, "n1", r, training)?,
            qkv: linear(vb, "qkv", r, (c, 3 * c))?,
            out: linear(vb, "out", r, (c, c))?,
            n2: Norm::new(vb, "n2", r, training)?,
            up: linear(vb, "up", r, (c, 4 * c))?,
            down: linear(vb, "down", r, (4 * c, c))?,
        })
    }

    fn forward(
        &self,
        x: &Tensor,
        mask: Option<&Tensor>,
        cache: Option<&mut KvCache>,
    ) -> Result<Tensor> {
        let (b, t, c) = x.dims3()?;
        let (h, d) = (self.recipe.heads, c / self.recipe.heads);
        let qkv = self.qkv.forward(&self.n1.forward(x)?)?;
        let part = |i: usize| -> Result<Tensor> {
            qkv.narrow(D::Minus1, i * c, c)?.reshape((b, t, h, d))?.transpose(1, 2)?.contiguous()
        };
        let (q, mut k, mut v) = (part(0)?, part(1)?, part(2)?);
        let caching = cache.is_some();
        if let Some(cache) = cache {
            (k, v) = cache.append(&k, &v)?;
        }
        let scores = (q.matmul(&k.transpose(2, 3)?.contiguous()?)? * (1.0 / (d as f64).sqrt()))?;
        let scores = mask.map_or(Ok(scores.clone()), |m| scores.broadcast_add(m))?;
        let weights =
            if caching { softmax_last_dim(&scores)? } else { softmax(&scores, D::Minus1)? };
        let y = weights.matmul(&v.contiguous()?)?.transpose(1, 2)?.reshape((b, t, c))?;
        let x = (x + self.out.forward(&y)?)?;
        let hidden = self.up.forward(&self.n2.forward(&x)?)?;
        let hidden = if self.recipe.bias { hidden.gelu()? } else { hidden.gelu_erf()? };
        &x + self.down.forward(&hidden)?
    }
}

struct Model {
    recipe: Recipe,
    wte: Tensor,
    wpe: Tensor,
    blocks: Vec<Block>,
    norm: Norm,
}

impl Model {
    fn new(vb: &VarBuilder, r: Recipe, training: bool) -> Result<Self> {
        let normal = Init::Randn { mean: 0.0, stdev: 0.02 };
        Ok(Self {
            recipe: r,
            wte: vb.get_with_hints((r.vocab, r.width), "wte", normal)?,
            wpe: vb.get_with_hints((r.time, r.width), "wpe", normal)?,
            blocks: (0..r.layers)
                .map(|i| Block::new(&vb.pp(i.to_string()), r, training))
                .collect::<Result<_>>()?,
            norm: Norm::new(vb, "norm", r, training)?,
        })
    }

    /// ids (B·T) at positions from `past` to states (B, T, C).
    fn states(
        &self,
        ids: &Tensor,
        (b, t, past): (usize, usize, usize),
        caches: Option<&mut Vec<KvCache>>,
    ) -> Result<Tensor> {
        let x = self.wte.index_select(ids, 0)?.reshape((b, t, self.recipe.width))?;
        let mut x = x.broadcast_add(&self.wpe.narrow(0, past, t)?)?;
        let mask = if t > 1 { Some(causal(t)?) } else { None };
        let mut caches = caches.map(|c| c.iter_mut());
        for block in &self.blocks {
            let cache = caches.as_mut().and_then(Iterator::next);
            x = block.forward(&x, mask.as_ref(), cache)?;
        }
        self.norm.forward(&x)
    }

    fn logits(&self, rows: &Tensor) -> Result<Tensor> {
        rows.matmul(&self.wte.t()?)
    }
}

fn causal(t: usize) -> Result<Tensor> {
    let mask: Vec<f32> =
        (0..t * t).map(|i| if i % t > i / t { f32::NEG_INFINITY } else { 0.0 }).collect();
    Tensor::from_vec(mask, (t, t), &Device::Cpu)
}

/// Numbers below `vocab`, the same every run.
struct Draw(u64);

impl Draw {
    fn ids(&mut self, n: usize, vocab: usize) -> Result<Tensor> {
        let mut next = || {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            ((self.0 >> 33) % vocab as u64) as u32
        };
        Tensor::from_vec((0..n).map(|_| next()).collect::<Vec<u32>>(), n, &Device::Cpu)
    }
}

fn train(r: Recipe, warmup: usize, steps: usize) -> Result<Vec<f64>> {
    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
    let model = Model::new(&vb, r, true)?;
    let rule = ParamsAdamW { lr: 1e-3, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.1 };
    // Matrices decay, vectors do not.
    let (matrices, vectors): (Vec<Var>, Vec<Var>) =
        vars.all_vars().into_iter().partition(|v| v.rank() >= 2);
    let mut optimizers = [
        AdamW::new(matrices, rule.clone())?,
        AdamW::new(vectors, ParamsAdamW { weight_decay: 0.0, ..rule })?,
    ];
    let (mut draw, mut seconds) = (Draw(1337), vec![]);
    for step in 0..warmup + steps {
        let n = r.batch * r.time;
        let (ids, targets) = (draw.ids(n, r.vocab)?, draw.ids(n, r.vocab)?);
        let start = Instant::now();
        let x = model.states(&ids, (r.batch, r.time, 0), None)?;
        let loss = cross_entropy(&model.logits(&x.flatten(0, 1)?)?, &targets)?;
        let grads = loss.backward()?;
        for optimizer in &mut optimizers {
            optimizer.step(&grads)?;
        }
        let loss = loss.to_scalar::<f32>()?;
        if step >= warmup {
            seconds.push(start.elapsed().as_secs_f64());
        }
        assert!(loss.is_finite(), "the loss is {loss}");
    }
    Ok(seconds)
}

/// Seconds of each token, or of each prompt.
fn infer(r: Recipe, decode: bool, warmup: usize, tokens: usize) -> Result<Vec<f64>> {
    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
    let model = Model::new(&vb, r, false)?;
    let caches = || (0..r.layers).map(|_| KvCache::new(2, r.time)).collect::<Vec<_>>();
    let (mut draw, mut seconds) = (Draw(1337), vec![]);
    let run = |ids: &Tensor, past: usize, caches: &mut Vec<KvCache>| -> Result<u32> {
        let t = ids.dim(0)?;
        let x = model.states(ids, (1, t, past), Some(caches))?;
        let last = x.narrow(1, t - 1, 1)?.flatten(0, 1)?;
        model.logits(&last)?.flatten_all()?.argmax(0)?.to_scalar::<u32>()
    };
    if decode {
        let mut kept = caches();
        let mut next = run(&draw.ids(16, r.vocab)?, 0, &mut kept)?;
        for i in 0..warmup + tokens {
            let start = Instant::now();
            next = run(&Tensor::new(&[next], &Device::Cpu)?, 16 + i, &mut kept)?;
            if i >= warmup {
                seconds.push(start.elapsed().as_secs_f64());
            }
        }
    } else {
        for i in 0..warmup + 5 {
            let ids = draw.ids(tokens, r.vocab)?;
            let (start, mut fresh) = (Instant::now(), caches());
            run(&ids, 0, &mut fresh)?;
            if i >= warmup {
                seconds.push(start.elapsed().as_secs_f64());
            }
        }
    }
    Ok(seconds)
}

fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|k| k * 1024)
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str, default: &str| {
        let at = arguments.iter().position(|a| a == name);
        at.and_then(|i| arguments.get(i + 1)).cloned().unwrap_or_else(|| default.into())
    };
    let what = arguments.first().map_or("", String::as_str);
    let name = option("--recipe", "gpt2");
    let r = recipe(&name).ok_or_else(|| format!("no recipe is named {name}: tiny, nano, gpt2"))?;
    let (steps, warmup): (usize, usize) =
        (option("--steps", "5").parse()?, option("--warmup", "2").parse()?);
    let tokens: usize = option("--tokens", "64").parse()?;
    let (mut seconds, per_run) = match what {
        "train" => (train(r, warmup, steps)?, r.batch * r.time),
        "decode" => (infer(r, true, warmup, tokens)?, 1),
        "prompt" => (infer(r, false, warmup, tokens)?, tokens),
        _ => return Err("usage: pellucid-peer-candle train|decode|prompt [--recipe NAME]".into()),
    };
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    println!(
        "{}",
        serde_json::json!({
            "engine": "candle", "recipe": name, "precision": "f32",
            "seconds_median": median, "seconds_min": seconds[0],
            "seconds_max": seconds[seconds.len() - 1],
            "tokens_per_second": per_run as f64 / median, "peak_bytes": peak_bytes(),
        })
    );
    Ok(())
}
