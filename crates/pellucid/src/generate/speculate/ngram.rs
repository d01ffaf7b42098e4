//! What followed the last time: the text's own past as a drafter (Saxena 2023, "Prompt Lookup Decoding").

use super::pace::{Costs, Pace};
use super::{Drafter, Proposal};
use crate::error::Result;

/// Tokens compared at most.
const LONGEST: usize = 16;
/// Lengths of a repeated suffix that are learned apart: 1, 2, 3 to 4, 5 to 8, more.
const CLASSES: usize = 5;

/// Finds the longest suffix of the text that occurred before, the latest place of several, and proposes what followed
/// there. How far that is trusted is learned for short and long suffixes apart.
#[derive(Clone, Debug)]
pub struct NGram {
    paces: [Pace; CLASSES],
    class: usize,
}

impl NGram {
    /// Copying costs nothing, so `costs` says what it takes to verify.
    #[must_use]
    pub fn new(costs: Costs) -> Self {
        Self { paces: std::array::from_fn(|_| Pace::new(costs)), class: 0 }
    }
}

/// `(length, end)` of the longest suffix that also ends at `end`, before the text's end.
fn repeated(text: &[u32]) -> Option<(usize, usize)> {
    let (&last, before) = text.split_last()?;
    let mut best: Option<(usize, usize)> = None;
    for (at, _) in before.iter().enumerate().rev().filter(|(_, id)| **id == last) {
        let pairs = before.iter().rev().zip(before[..at].iter().rev());
        let length = 1 + pairs.take(LONGEST - 1).take_while(|(a, b)| a == b).count();
        if best.is_none_or(|(longest, _)| length > longest) {
            best = Some((length, at + 1));
        }
        if length == LONGEST {
            break;
        }
    }
    best
}

impl Drafter for NGram {
    fn propose(
        &mut self,
        history: &[u32],
        most: usize,
        _row: u64,
        into: &mut Proposal,
    ) -> Result<()> {
        let Some((length, end)) = repeated(history) else { return Ok(()) };
        self.class = (length.next_power_of_two().trailing_zeros() as usize).min(CLASSES - 1);
        for i in end..end + self.paces[self.class].tokens(most) {
            // Past the text's end a period goes on.
            let id = history.get(i).copied().unwrap_or_else(|| into.tokens[i - history.len()]);
            into.tokens.push(id);
        }
        Ok(())
    }

    fn learn(&mut self, proposed: usize, accepted: usize) {
        self.paces[self.class].learn(proposed, accepted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_suffix_then_the_latest_place() {
        assert_eq!(repeated(&[]), None);
        assert_eq!(repeated(&[7]), None);
        assert_eq!(repeated(&[1, 2, 3]), None);
        assert_eq!(repeated(&[5, 1, 5]), Some((1, 1)));
        // 1 2 3 is longer than the later 3.
        assert_eq!(repeated(&[1, 2, 3, 9, 3, 8, 1, 2, 3]), Some((3, 3)));
        assert_eq!(repeated(&[3, 7, 3, 8, 3]), Some((1, 3)));
        assert_eq!(repeated(&[4; 40]), Some((LONGEST, 39)));
    }

    #[test]
    fn a_period_goes_on() {
        let mut drafter = NGram::new(Costs::of(0, 0.0));
        let mut proposal = Proposal::default();
        // Believes in long matches after some success.
        (0..9).for_each(|_| drafter.paces.iter_mut().for_each(|p| p.learn(7, 7)));
        drafter.propose(&[1, 2, 3, 1, 2, 3, 1], 7, 0, &mut proposal).unwrap();
        assert_eq!(proposal.tokens, [2, 3, 1, 2, 3, 1, 2]);
    }
}
