//! The weighted sum of the values.

use super::{Heads, Target, Unit, memory, product, share};
use crate::backend::cpu::gemm::Mat;
use crate::backend::cpu::pool::{Pool, Ptr};
use crate::ops::attention::AttentionDims;

/// z `(B, T, H, D)` from the pattern and v.
pub(in crate::ops::attention_steps) fn mix(
    pool: &Pool,
    dims: &AttentionDims,
    pattern: &[f32],
    v: Heads<'_>,
    to: Target,
    scratch: &mut [f32],
) {
    let AttentionDims { b: batch, t, s, h, kv, d } = *dims;
    share(pool, Unit::count(batch, h, t), (scratch, memory(dims)), &|unit, memory| {
        let Unit { b, head, rows } = Unit::nth(unit, h, t);
        let z = &mut memory[..rows.len() * d];
        let p = Mat::rows(&pattern[((b * h + head) * t + rows.start) * s..], s);
        product((rows.len(), d, s), p, v.from(b, 0, head / (h / kv)), (z, d), false);
        // SAFETY: rows of a head belong to one unit.
        unsafe { to.put(b, rows.start, head, z) };
    });
}

/// Gradient of the pattern.
pub(in crate::ops::attention_steps) fn d_pattern(
    pool: &Pool,
    dims: &AttentionDims,
    dz: Heads<'_>,
    v: Heads<'_>,
    dp: &mut [f32],
    accumulate: bool,
) {
    let AttentionDims { b: batch, t, s, h, kv, d } = *dims;
    assert_eq!(dp.len(), batch * h * t * s);
    let out = Ptr(dp.as_mut_ptr());
    pool.split(Unit::count(batch, h, t), 1, &|units| {
        for unit in units {
            let Unit { b, head, rows } = Unit::nth(unit, h, t);
            // SAFETY: these rows belong to this unit alone; dp has B·H·T rows of S, checked above.
            let dp = unsafe { out.slice(((b * h + head) * t + rows.start) * s, rows.len() * s) };
            let (dz, v) = (dz.from(b, rows.start, head), v.from(b, 0, head / (h / kv)));
            product((rows.len(), s, d), dz, v.t(), (dp, s), accumulate);
        }
    });
}

/// Gradient of v: summed over the heads that share it, by the one worker that writes it.
pub(in crate::ops::attention_steps) fn d_values(
    pool: &Pool,
    dims: &AttentionDims,
    pattern: &[f32],
    dz: Heads<'_>,
    to: Target,
    scratch: &mut [f32],
) {
    let AttentionDims { b: batch, t, s, h, kv, d } = *dims;
    share(pool, Unit::count(batch, kv, s), (scratch, memory(dims)), &|unit, memory| {
        let Unit { b, head: shared, rows: keys } = Unit::nth(unit, kv, s);
        let (n, group) = (keys.len(), h / kv);
        let dv = &mut memory[..n * d];
        for head in shared * group..(shared + 1) * group {
            let p = Mat::rows(&pattern[(b * h + head) * t * s + keys.start..], s);
            let more = head > shared * group;
            product((n, d, t), p.t(), dz.from(b, 0, head), (dv, d), more);
        }
        // SAFETY: rows of a key/value head belong to one unit.
        unsafe { to.put(b, keys.start, shared, dv) };
    });
}
