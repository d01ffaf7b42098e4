//! Where each code lies: panels of 32 outputs, steps of 32 values of k, every line of memory read once and in order.
//!
//! A line is 64 bytes: sixteen outputs of four bytes each. Inside a step (i is k's place in it, 0..32):
//!
//! | format | a line holds, of each of 16 outputs | lines of a step | scales |
//! |---|---|---|---|
//! | bf16 | i and i + 16 | 2 halves × 16: the tiles of AMX as they are | none |
//! | int8 | i, i + 8, i + 16, i + 24 | 2 × 8 | one line per four steps |
//! | int4 | those of line i in the low nibbles, of line i + 4 in the high ones | 2 × 4 | one line per step |
//!
//! Outputs and k are padded to whole panels and steps; padded outputs have scale 0 and meet no reader.

use super::Format;

/// Outputs of a panel.
pub(super) const PANEL: usize = 32;
/// Values of k in a step.
pub(super) const STEP: usize = 32;
/// Bytes of a line.
pub(super) const LINE: usize = 64;

/// A row's codes, and a scale (bf16) for each group of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// bf16: the bits. Integers: the value plus [`Format::offset`].
    pub codes: Vec<u16>,
    /// Bits of a bf16 for each group of [`Format::group`] codes; empty for bf16.
    pub scales: Vec<u16>,
}

/// Sizes of a stored matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) format: Format,
    pub(super) n: usize,
    pub(super) k: usize,
}

impl Layout {
    pub(super) fn steps(&self) -> usize {
        self.k.div_ceil(STEP)
    }

    pub(super) fn panels(&self) -> usize {
        self.n.div_ceil(PANEL)
    }

    /// Steps that share a scale.
    pub(super) fn group_steps(&self) -> usize {
        self.format.group() / STEP
    }

    pub(super) fn groups(&self) -> usize {
        self.steps().div_ceil(self.group_steps())
    }

    /// Bytes of a step's codes.
    pub(super) fn step_bytes(&self) -> usize {
        PANEL * STEP * self.format.bits() / 8
    }

    fn scale_bytes(&self) -> usize {
        if self.format == Format::Bf16 { 0 } else { LINE }
    }

    pub(super) fn panel_bytes(&self) -> usize {
        self.steps() * self.step_bytes() + self.groups() * self.scale_bytes()
    }

    pub(super) fn bytes(&self) -> usize {
        self.panels() * self.panel_bytes()
    }

    /// Where a group begins in its panel, and how many steps it has.
    #[inline(always)]
    pub(super) fn group_at(&self, group: usize) -> (usize, usize) {
        let steps = self.group_steps();
        let start = group * (steps * self.step_bytes() + self.scale_bytes());
        (start, steps.min(self.steps() - group * steps))
    }

    /// Where the scales of a group lie in their panel: one of two bytes for each output.
    fn scales_at(&self, group: usize) -> usize {
        let (start, steps) = self.group_at(group);
        start + steps * self.step_bytes()
    }

    /// A code's byte in its panel, and the bits below it there.
    fn code_at(&self, lane: usize, k: usize) -> (usize, u32) {
        let (step, i) = (k / STEP, k % STEP);
        let (half, column) = (lane / 16, lane % 16 * 4);
        let (group, inside) = (step / self.group_steps(), step % self.group_steps());
        let (start, steps) = self.group_at(group);
        // Halves of a group follow each other, so that a reader of one half goes straight on.
        let start = start + (half * steps + inside) * (self.step_bytes() / 2);
        match self.format {
            Format::Bf16 => (start + i % 16 * LINE + column + i / 16 * 2, 0),
            Format::Int8 => (start + i % 8 * LINE + column + i / 8, 0),
            Format::Int4 => (start + i % 4 * LINE + column + i / 8, if i % 8 < 4 { 0 } else { 4 }),
        }
    }

    /// Writes a row into its panel, which was zero there.
    pub(super) fn pack(&self, panel: &mut [u8], lane: usize, row: &Row) {
        for (k, &code) in row.codes.iter().enumerate() {
            let (at, shift) = self.code_at(lane, k);
            match self.format {
                Format::Bf16 => panel[at..at + 2].copy_from_slice(&code.to_le_bytes()),
                Format::Int8 => panel[at] = code as u8,
                Format::Int4 => panel[at] |= (code as u8) << shift,
            }
        }
        for (group, scale) in row.scales.iter().enumerate() {
            let at = self.scales_at(group) + 2 * lane;
            panel[at..at + 2].copy_from_slice(&scale.to_le_bytes());
        }
    }

    /// The inverse of [`Self::pack`].
    pub(super) fn unpack(&self, panel: &[u8], lane: usize, row: &mut Row) {
        let two = |at: usize| u16::from_le_bytes([panel[at], panel[at + 1]]);
        row.codes.clear();
        row.codes.extend((0..self.k).map(|k| {
            let (at, shift) = self.code_at(lane, k);
            match self.format {
                Format::Bf16 => two(at),
                Format::Int8 => u16::from(panel[at]),
                Format::Int4 => u16::from(panel[at] >> shift & 15),
            }
        }));
        row.scales.clear();
        if self.format != Format::Bf16 {
            row.scales.extend((0..self.groups()).map(|g| two(self.scales_at(g) + 2 * lane)));
        }
    }
}
