//! Where each piece of working memory lies: pieces that never live at the same time share a place.

use std::ops::Range;

/// A piece of memory and the steps during which it holds something.
#[derive(Clone, Debug)]
pub(super) struct Storage {
    pub(super) len: usize,
    pub(super) first: usize,
    pub(super) last: usize,
}

/// Elements per cache line: every piece starts on one.
const GRAIN: usize = 16;

/// A place for each storage, and the length of the whole arena. The largest are placed first, each at the
/// lowest gap among those alive at the same time.
pub(super) fn place(storages: &[Storage]) -> (Vec<Range<usize>>, usize) {
    let mut order: Vec<usize> = (0..storages.len()).filter(|&i| storages[i].len > 0).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(storages[i].len), storages[i].first, i));
    let mut places: Vec<Range<usize>> = vec![0..0; storages.len()];
    let mut placed: Vec<usize> = Vec::new();
    let mut total = 0;
    for i in order {
        let s = &storages[i];
        let size = s.len.next_multiple_of(GRAIN);
        let mut busy: Vec<Range<usize>> = placed
            .iter()
            .filter(|&&j| storages[j].first <= s.last && s.first <= storages[j].last)
            .map(|&j| places[j].start..places[j].end.next_multiple_of(GRAIN))
            .collect();
        busy.sort_by_key(|r| r.start);
        let mut at = 0;
        for r in busy {
            if r.start >= at + size {
                break;
            }
            at = at.max(r.end);
        }
        places[i] = at..at + s.len;
        placed.push(i);
        total = total.max(at + size);
    }
    (places, total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_alive_together_never_overlap_and_others_share() {
        let mut random = crate::tensor::random::Random::new(5, 5);
        let storages: Vec<Storage> = (0..200)
            .map(|_| {
                let first = random.below(50);
                Storage { len: 1 + random.below(99), first, last: first + random.below(9) }
            })
            .collect();
        let (places, total) = place(&storages);
        for (i, a) in storages.iter().enumerate() {
            for (j, b) in storages.iter().enumerate().take(i) {
                if a.first <= b.last && b.first <= a.last {
                    let apart =
                        places[i].end <= places[j].start || places[j].end <= places[i].start;
                    assert!(apart, "{i} and {j} overlap");
                }
            }
        }
        let sum: usize = storages.iter().map(|s| s.len).sum();
        assert!(total * 3 < sum, "memory is shared: {total} of {sum}");
    }
}
