//! The third step.

use super::Layout;
use super::cpu::{self, Heads, Place, Target};
use crate::autograd::{Backward, Forward, Needs, Op};
use crate::backend::cpu::pool::Ptr;
use crate::error::Result;
use crate::ops::attention::AttentionDims;

/// A pattern `(B, H, T, S)` and values to what each head reads, z `(B, T, H, D)`; see the room for its two forms.
///
/// The pattern may be anything, not only what [`Softmax`](super::Softmax) wrote.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    dims: AttentionDims,
    layout: Layout,
}

impl Mix {
    /// Values from qkv `(B, T, (H + 2K) D)`.
    ///
    /// # Errors
    /// A size of 0, `K` that does not divide `H`, or `S != T`.
    pub fn packed(dims: AttentionDims) -> Result<Self> {
        Layout::Packed.check(&dims)?;
        Ok(Self { dims, layout: Layout::Packed })
    }

    /// Values from kv `(B, S, 2 K D)`.
    ///
    /// # Errors
    /// A size of 0, or `K` that does not divide `H`.
    pub fn apart(dims: AttentionDims) -> Result<Self> {
        Layout::Apart.check(&dims)?;
        Ok(Self { dims, layout: Layout::Apart })
    }

    /// Where z and its gradient lie.
    fn z(&self) -> Place {
        let AttentionDims { t, h, d, .. } = self.dims;
        Place { offset: 0, row: h * d, positions: t, d }
    }

    fn values<'a>(&self, data: &'a [f32]) -> Heads<'a> {
        Heads { data, place: self.layout.v(&self.dims) }
    }
}

impl Op for Mix {
    fn name(&self) -> &'static str {
        "attention mix"
    }
    fn inputs(&self) -> Vec<usize> {
        let AttentionDims { b, t, s, h, .. } = self.dims;
        vec![b * h * t * s, b * s * self.layout.width(&self.dims)]
    }
    fn outputs(&self) -> Vec<usize> {
        let AttentionDims { b, t, h, d, .. } = self.dims;
        vec![b * t * h * d]
    }
    fn scratch(&self, threads: usize) -> usize {
        threads * cpu::memory(&self.dims)
    }
    fn needs(&self) -> Needs {
        Needs { inputs: 0b11, outputs: 0 }
    }
    fn flops(&self) -> (u64, u64) {
        let AttentionDims { b, t, s, h, d, .. } = self.dims;
        // All pairs: an edited pattern may look anywhere.
        let product = 2 * (b * h * t * d) as u64 * s as u64;
        (product, 2 * product)
    }

    fn forward(&self, mut x: Forward<'_>) -> Result<()> {
        let out = &mut *x.outputs[0];
        let (data, len) = (Ptr(out.as_mut_ptr()), out.len());
        let to = Target { data, len, place: self.z(), accumulate: false };
        cpu::mix(x.pool, &self.dims, x.inputs[0], self.values(x.inputs[1]), to, x.scratch);
        Ok(())
    }

    fn backward(&self, mut x: Backward<'_>) -> Result<()> {
        let dz = Heads { data: x.d_outputs[0], place: self.z() };
        let v = self.values(x.inputs[1]);
        if let Some(grad) = &mut x.d_inputs[0] {
            cpu::d_pattern(x.pool, &self.dims, dz, v, grad.data, grad.accumulate);
        }
        if let Some(grad) = &mut x.d_inputs[1] {
            let (data, len) = (Ptr(grad.data.as_mut_ptr()), grad.data.len());
            let to = Target { data, len, place: v.place, accumulate: grad.accumulate };
            cpu::d_values(x.pool, &self.dims, x.inputs[0], dz, to, x.scratch);
            if !grad.accumulate {
                let width = self.layout.width(&self.dims);
                cpu::clear(x.pool, grad.data, width, 0..v.place.offset);
            }
        }
        Ok(())
    }
}
