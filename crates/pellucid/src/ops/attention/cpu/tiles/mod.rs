//! Attention on AMX tiles, in bf16 or, with three bf16 for each f32, as exact as fused multiply-adds.
//!
//! Everything is computed turned: scores are `K Qᵀ`, `(32 keys, 32 rows)` to a block, so that a register holds
//! sixteen queries. Their largest scores, sums and log-sum-exps then are plain registers, and the probabilities
//! go into tiles without being turned: as `P V = (Vᵀ Pᵀ)ᵀ` forward, as `dV = Pᵀ dO`, `dK = dSᵀ Q` and
//! `dQᵀ = Kᵀ dSᵀ` backward. Blocks that nobody looks at are skipped, and only blocks at an edge of the mask are
//! masked.
//!
//! Nothing depends on which worker computes what: panels of 32 rows and blocks of 32 keys are
//! counted from the start of a (batch row, kv head).
#![allow(unsafe_code)] // raw tiles, disjoint writes from several workers

mod backward;
mod block;
mod forward;
mod kernel;
mod lanes;
mod pack;
mod plan;
mod rows;
mod softmax;

pub(super) use backward::{backward, backward_scratch};
pub(super) use forward::{forward, forward_scratch};

use super::Carve;

/// Hands out memory, or only counts.
enum Take {
    Count(usize),
    Carve(Carve),
}

impl Take {
    fn floats(&mut self, n: usize) -> *mut f32 {
        match self {
            Self::Count(sum) => {
                *sum += n.next_multiple_of(16);
                std::ptr::null_mut()
            }
            Self::Carve(carve) => carve.take(n),
        }
    }

    fn bytes(&mut self, n: usize) -> *mut u8 {
        self.floats(n.div_ceil(size_of::<f32>())).cast()
    }

    /// What was counted, with room to align it.
    fn total(&self) -> usize {
        match self {
            Self::Count(sum) => sum + 16,
            Self::Carve(_) => 0,
        }
    }
}

/// Deals items out to `threads` workers, the largest first, each to whoever has least; the worker of each item.
fn deal(costs: &[usize], threads: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..costs.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(costs[i]));
    let mut loads = vec![0; threads];
    let mut worker = vec![0; costs.len()];
    for i in order {
        let w = (0..threads).min_by_key(|&w| loads[w]).unwrap_or(0);
        loads[w] += costs[i].max(1);
        worker[i] = w;
    }
    worker
}
