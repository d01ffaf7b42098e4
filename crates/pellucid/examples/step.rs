use pellucid::autograd::{Recompute, RunInfo};
use pellucid::backend::cpu::{gemm::Precision, pool::Pool};
use pellucid::model::{config::Config, train_graph::*, weights::Weights};
use std::collections::BTreeMap;
use std::time::Instant;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let (config, b, t) = match a[1].as_str() {
        "tiny" => (Config { layers: 4, heads: 4, kv_heads: 4, head_width: 32, width: 128, hidden: 512, context: 64, ..Config::nano() }, 12, 64),
        "nano" => (Config::nano(), 64, 256),
        _ => (Config::gpt2(), 1, 1024),
    };
    let precision = if a[2] == "bf16" { Precision::Bf16 } else { Precision::F32 };
    let recompute = match a.get(3).map(String::as_str) { Some("1") => Recompute::Cheap, Some("2") => Recompute::Blocks, _ => Recompute::Nothing };
    let steps: usize = a.get(4).map_or(5, |s| s.parse().unwrap());
    let pool = Pool::new(2);
    let mut w = Weights::init(&config, 1);
    let mut g = TrainGraph::new(&config, TrainOptions { batch: b, time: t, recompute, precision }, 2).unwrap();
    println!("arena {:.1} MB weights {:.1} MB", g.activation_bytes() as f64 / 1e6, w.data().len() as f64 * 4e-6);
    let n = w.data().len();
    let (mut gr, mut m, mut v) = (pellucid::backend::buffer::Buffer::zeros(n), pellucid::backend::buffer::Buffer::zeros(n), pellucid::backend::buffer::Buffer::zeros(n));
    let mut r = pellucid::tensor::random::Random::new(1, 2);
    let mut times = vec![]; let mut upd = vec![];
    let mut prof: BTreeMap<(String, &str), (f64, u64)> = BTreeMap::new();
    for s in 0..steps + 2 {
        let ids: Vec<i32> = (0..b * t).map(|_| r.below(config.vocab) as i32).collect();
        let tg: Vec<i32> = (0..b * t).map(|_| r.below(config.vocab) as i32).collect();
        g.measure(s == steps + 1);
        let st = Instant::now();
        let loss = g.step(&pool, &w, &mut gr, true, &ids, &tg, RunInfo { training: true, seed: 1, step: s as u64, grad_scale: 1.0 }).unwrap();
        let fb = st.elapsed().as_secs_f64();
        let norm = pellucid::ops::adamw::global_norm(&pool, &[&gr]);
        pellucid::ops::adamw::AdamW::default().update(&pool, pellucid::ops::adamw::Step { lr: 1e-3, weight_decay: 0.1, step: s as u64 + 1, multiplier: 1.0 }, w.data_mut(), &gr, &mut m, &mut v).unwrap();
        let all = st.elapsed().as_secs_f64();
        if s >= 2 { times.push(all); upd.push(all - fb); }
        if s < 3 || s == steps + 1 { println!("step {s} loss {loss} norm {norm:.3} {all:.4}s (update {:.4})", all - fb); }
    }
    times.sort_by(f64::total_cmp); upd.sort_by(f64::total_cmp);
    let med = times[times.len() / 2];
    println!("median {med:.4} min {:.4} tok/s {:.0} update {:.4} GFLOP/s {:.0}", times[0], (b * t) as f64 / med, upd[upd.len()/2], g.flops_per_step() as f64 / med / 1e9);
    let mut total = 0.0;
    for x in g.timings() {
        let label = x.label.split('.').filter(|p| p.parse::<usize>().is_err()).collect::<Vec<_>>().join(".");
        let e = prof.entry((format!("{label} {}", x.op), x.action)).or_default();
        e.0 += x.time.as_secs_f64(); e.1 += x.flops; total += x.time.as_secs_f64();
    }
    let mut l: Vec<_> = prof.into_iter().collect(); l.sort_by(|a, b| b.1.0.total_cmp(&a.1.0));
    for ((n, a), (t, f)) in l.iter().take(22) { println!("{:5.1}% {:8.2} ms {:7.0} GF/s  {n} {a}", t / total * 100.0, t * 1e3, *f as f64 / t / 1e9); }
    let rss = std::fs::read_to_string("/proc/self/status").unwrap(); println!("{}", rss.lines().find(|l| l.starts_with("VmHWM")).unwrap());
}
