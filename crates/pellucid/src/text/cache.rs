//! Remembers the ids of segments of text: words come again and again.

use std::collections::HashMap;

/// Ids of segments that were seen.
#[derive(Default)]
pub(super) struct Cache {
    places: HashMap<Box<str>, (u32, u32)>,
    ids: Vec<u32>,
}

/// Segments that are kept; what a large vocabulary of words needs, about 10 MB.
const MOST: usize = 1 << 17;
/// Longer segments are rare and not kept.
const LONGEST: usize = 48;

impl Cache {
    /// The ids of a segment that was kept.
    pub(super) fn get(&self, segment: &str) -> Option<&[u32]> {
        let &(start, end) = self.places.get(segment)?;
        self.ids.get(start as usize..end as usize)
    }

    /// Keeps the ids of a segment, if there is room.
    pub(super) fn put(&mut self, segment: &str, ids: &[u32]) {
        if segment.len() <= LONGEST && self.places.len() < MOST {
            let start = self.ids.len() as u32;
            self.ids.extend_from_slice(ids);
            self.places.insert(segment.into(), (start, self.ids.len() as u32));
        }
    }
}
