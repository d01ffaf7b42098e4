//! Where each piece of working memory lies: pieces that never live at the same time share a place.

use std::cmp::Reverse;
use std::ops::Range;

/// A piece of memory and the steps during which it holds something.
#[derive(Clone, Debug)]
pub(super) struct Storage {
    pub(super) len: usize,
    pub(super) first: usize,
    pub(super) last: usize,
    pub(super) place: Place,
}

/// Where a piece may lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Anywhere.
    Free,
    /// Behind the gradients: read after the run.
    Behind,
    /// At this offset: a parameter's gradient.
    At(usize),
}

/// Pieces of lower rank are placed first.
type Rank = fn(&Storage) -> (usize, Reverse<usize>);

/// Elements per cache line: every piece starts on one.
const GRAIN: usize = 16;

/// A place for each storage, and the length of the whole memory, of which the first `edge` elements are the
/// parameters' gradients: activations lie there too until the gradient is written. No piece crosses the edge.
///
/// Each piece goes to the lowest gap among those alive at the same time. Which goes first decides how well it packs:
/// the largest, those that live to the latest, those that live longest, or the earliest. All are tried.
pub(super) fn place(storages: &[Storage], edge: usize) -> (Vec<Range<usize>>, usize) {
    let orders: [Rank; 4] = [
        |s| (0, Reverse(s.len)),
        |s| (usize::MAX - s.last, Reverse(s.len)),
        |s| (usize::MAX - (s.last - s.first), Reverse(s.len)),
        |s| (s.first, Reverse(s.len)),
    ];
    let tries = orders.map(|rank| place_by(storages, edge, rank));
    tries.into_iter().min_by_key(|(_, total)| *total).expect("there are orders")
}

fn place_by(storages: &[Storage], edge: usize, rank: Rank) -> (Vec<Range<usize>>, usize) {
    let mut order: Vec<usize> = (0..storages.len()).filter(|&i| storages[i].len > 0).collect();
    let fixed = |i: &usize| matches!(storages[*i].place, Place::At(_));
    order.sort_by_key(|i| (!fixed(i), rank(&storages[*i]), storages[*i].first, *i));
    let mut places: Vec<Range<usize>> = vec![0..0; storages.len()];
    let mut placed: Vec<usize> = Vec::new();
    let mut total = edge;
    for i in order {
        let s = &storages[i];
        let size = s.len.next_multiple_of(GRAIN);
        let mut busy: Vec<Range<usize>> = placed
            .iter()
            .filter(|&&j| storages[j].first <= s.last && s.first <= storages[j].last)
            .map(|&j| places[j].start..places[j].end.next_multiple_of(GRAIN))
            .collect();
        busy.sort_by_key(|r| r.start);
        let inside = |at: usize| if at < edge && at + size > edge { edge } else { at };
        let mut at = match s.place {
            Place::Free => inside(0),
            Place::Behind => edge,
            Place::At(at) => at,
        };
        for r in busy.into_iter().filter(|_| !fixed(&i)) {
            if r.start >= at + size {
                break;
            }
            at = inside(at.max(r.end));
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
                let place = if random.below(4) == 0 { Place::Behind } else { Place::Free };
                Storage { len: 1 + random.below(99), first, last: first + random.below(9), place }
            })
            .collect();
        let edge = 320;
        let gradients = (0..4).map(|i| Storage {
            len: 75,
            first: 20 + 7 * i,
            last: 60,
            place: Place::At(80 * i),
        });
        let storages: Vec<Storage> = storages.into_iter().chain(gradients).collect();
        let (places, total) = place(&storages, edge);
        let shared = |r: &&Range<usize>| r.end <= edge;
        assert!(places[..200].iter().filter(shared).count() > 20, "memory of gradients is used");
        for (s, r) in storages.iter().zip(&places) {
            assert!(r.end <= edge || r.start >= edge, "{r:?} crosses the edge");
            match s.place {
                Place::At(at) => assert_eq!(r.start, at),
                Place::Behind => assert!(r.start >= edge),
                Place::Free => {}
            }
        }
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
