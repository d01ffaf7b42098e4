//! `pellucid doctor`

use crate::out;
use crate::plan;
use clap::Args;
use pellucid::backend::cpu::features::Features;
use pellucid::backend::cpu::gemm::Precision;
use pellucid::backend::cpu::peak::{Peak, matrix_peak};
use pellucid::backend::settings::Settings;
use pellucid::error::Result;
use pellucid::train::budget;
use serde_json::json;

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// A JSON object
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(crate) fn run(self) -> Result<()> {
        let f = Features::get();
        let pool = plan::pool(0);
        let memory = budget::available_memory();
        let peak = Peak::measure(&pool)?;
        let [f32s, bf16s] = [Precision::F32, Precision::Bf16].map(|p| matrix_peak(&pool, p));
        if self.json {
            return out::json(&json!({
                "version": env!("CARGO_PKG_VERSION"),
                "cores": f.cores, "threads": pool.threads(),
                "features": { "avx2": f.avx2, "avx512": f.avx512, "avx512_bf16": f.avx512_bf16,
                    "amx": f.amx, "amx_permitted": f.amx_permitted, "neon": f.neon },
                "used": f.used.name(), "reason": f.reason, "memory_left": memory,
                "flops": { "f32": f32s, "bf16": bf16s, "f32_multiply_add": 1e9 * peak.fma_f32_gflops },
                "bytes_per_second": { "read": 1e9 * peak.read_gbps, "triad": 1e9 * peak.triad_gbps,
                    "update": 1e9 * peak.update_gbps },
            }));
        }
        let mark = |has: bool| if has { "✓" } else { "✗" };
        out::line(format!(
            "pellucid  {}\ncores     {} (threads used: {})\nhas       {} AVX2  {} AVX-512  {} AVX-512 bf16  {} AMX{}  {} NEON\nuses      {}: {}",
            env!("CARGO_PKG_VERSION"),
            f.cores,
            pool.threads(),
            mark(f.avx2),
            mark(f.avx512),
            mark(f.avx512_bf16),
            mark(f.amx),
            if f.amx && !f.amx_permitted { " (refused by the system)" } else { "" },
            mark(f.neon),
            f.used.name(),
            f.reason
        ))?;
        out::line(format!("memory    {} left", memory.map_or("unknown".into(), out::bytes)))?;
        let rate = |x: f64| format!("{}FLOP/s", out::short(x));
        out::line(format!(
            "measured  on registers: f32 matrix products {}, bf16 {}, plain f32 multiply-adds {}\n          \
             memory: {:.1} GB/s read, {:.1} GB/s read and written, {:.1} GB/s changed in place",
            rate(f32s),
            rate(bf16s),
            rate(1e9 * peak.fma_f32_gflops),
            peak.read_gbps,
            peak.triad_gbps,
            peak.update_gbps
        ))?;
        Settings::get().check()
    }
}
