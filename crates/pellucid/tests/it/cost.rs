//! FLOPs and bytes that the schedule counts, against the arithmetic done by hand.

use crate::support::{ids, tiny};
use pellucid::autograd::{Recompute, RunInfo, Timing, Training};
use pellucid::backend::cpu::pool::Pool;
use pellucid::model::config::Config;
use pellucid::model::train_graph::{Batch, TrainGraph, TrainOptions};
use pellucid::model::weights::Weights;

const B: usize = 3;
const T: usize = 11;

fn graph(config: &Config, recompute: Recompute) -> TrainGraph {
    let training = Training { recompute, accumulates: false };
    let options = TrainOptions { training, ..TrainOptions::new(B, T) };
    TrainGraph::new(config, options, 2).unwrap()
}

/// (forward, norms forward, the whole step) of GPT-2's shape.
fn by_hand(config: &Config) -> (usize, usize, usize) {
    let (n, c, f, v) = (B * T, config.width, config.hidden, config.vocab);
    let pairs = T * (T + 1) / 2;
    let product = 2 * B * c * pairs; // H·D = C
    let norms = 2 * n * c * 8;
    // Bias, activation (tanh GELU: 9) and residual follow the products.
    let products = 2 * n * c * (3 * c + c + 2 * f);
    let finish = n * 3 * c + 2 * n * c + n * f * (1 + 9) + 2 * n * c;
    let block = norms + products + finish + 2 * product;
    let back = 2 * n * c * 13
        + 2 * products
        + (n * 3 * c + n * c + n * f * (1 + 18) + n * c)
        + 5 * product;
    let ends = 2 * 2 * n * c + n * c * (8 + 13) + 3 * 2 * n * c * v;
    (block, norms, config.layers * (block + back) + ends)
}

#[test]
fn flops_are_those_of_the_formula_and_what_is_computed_again_is_in_the_timings_alone() {
    let config = tiny("gpt2");
    let (block, norms, step) = by_hand(&config);
    let (n, c, f, layers) = (B * T, config.width, config.hidden, config.layers);
    // Norms from their statistics, activations from what went into them.
    let cheap = layers * (norms / 2 + n * f * 9) + n * c * 4;
    // A block ends with a projection onto the stream, which nobody in it reads again.
    let last = n * c * (2 * f + 2);
    let blocks = layers * (block - last);
    for (recompute, again) in
        [(Recompute::Nothing, 0), (Recompute::Cheap, cheap), (Recompute::Blocks, blocks)]
    {
        let mut graph = graph(&config, recompute);
        assert_eq!(graph.flops_per_step() as usize, step, "{recompute:?}");
        let done: u64 = timings(&mut graph, &config).iter().map(|t| t.flops).sum();
        assert_eq!(done as usize, step + again, "{recompute:?}");
    }
}

fn timings(graph: &mut TrainGraph, config: &Config) -> Vec<Timing> {
    graph.measure(true);
    let (weights, pool) = (Weights::init(config, 1), Pool::new(2));
    let mut grads = vec![0.0; weights.data().len()];
    let batch = Batch::of(B, &ids(1, B * T, config.vocab), &ids(2, B * T, config.vocab));
    let run = RunInfo { training: true, seed: 1, step: 0, grad_scale: 1.0 };
    graph.step(&pool, &weights, &mut grads, true, &batch, run).unwrap();
    graph.timings().to_vec()
}

#[test]
fn bytes_are_those_of_the_operands() {
    let config = tiny("gpt2");
    let mut graph = graph(&config, Recompute::Nothing);
    let timings = timings(&mut graph, &config);
    let (n, c, f, v) = (B * T, config.width, config.hidden, config.vocab);
    let bytes = |label: &str, op: &str, action: &str| {
        let found: Vec<u64> = timings
            .iter()
            .filter(|t| t.label == label && t.op == op && t.action == action)
            .map(|t| t.bytes)
            .collect();
        assert_eq!(found.len(), 1, "{label} {op} {action}");
        found[0] as usize / 4
    };
    // x, w, bias; y and what went into the activation.
    let up = "blocks.1.mlp.in";
    assert_eq!(bytes(up, "linear", "forward"), n * c + f * c + f + 2 * n * f);
    // x, what went into the activation, dy, w, bias; dx, dw, dbias.
    assert_eq!(bytes(up, "linear", "backward"), 2 * n * c + 2 * n * f + 2 * (f * c + f));
    // The stream is an input too.
    let down = "blocks.1.mlp.out";
    assert_eq!(bytes(down, "linear", "forward"), n * f + f * c + c + 2 * n * c);
    // A lookup touches rows, not the table.
    let embedding = timings.iter().find(|t| t.op == "embedding" && t.action == "forward").unwrap();
    assert_eq!(embedding.bytes as usize / 4, n * c + (n + T) * c + n + B);
    let head = timings.iter().find(|t| t.op == "cross-entropy").unwrap();
    // x, w, targets; loss, losses, dx, dw.
    assert_eq!(head.bytes as usize / 4, 2 * n * c + 2 * v * c + 2 * n + 1);
}
