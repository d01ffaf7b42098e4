//! Which elements of a site, and what becomes of them.

use super::site::View;
use crate::error::{Error, Kind, Result};
use crate::ops::tap::{Change, Edit};
use std::ops::Range;

/// Indices along one axis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Pick {
    /// All of them.
    #[default]
    All,
    /// These, each once.
    These(Vec<usize>),
}

impl Pick {
    /// One index.
    #[must_use]
    pub fn one(index: usize) -> Self {
        Self::These(vec![index])
    }

    fn indices(&self, size: usize) -> Vec<usize> {
        match self {
            Self::All => (0..size).collect(),
            Self::These(some) => some.clone(),
        }
    }
}

/// A part of a site: what is picked along each of its axes; of those not named, all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Region(pub Vec<Pick>);

impl Region {
    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Picks along the first axes.
    #[must_use]
    pub fn of(picks: impl Into<Vec<Pick>>) -> Self {
        Self(picks.into())
    }

    /// All along the first `axes` axes, then these picks.
    #[must_use]
    pub fn behind(axes: usize, picks: &[Pick]) -> Self {
        Self(std::iter::repeat_n(Pick::All, axes).chain(picks.iter().cloned()).collect())
    }

    /// Where its elements lie in values of such a shape, in row-major order of the picks; neighbours are one range.
    ///
    /// # Errors
    /// More picks than axes; an index outside its axis, or twice.
    pub fn ranges(&self, shape: &[usize]) -> Result<Vec<Range<usize>>> {
        if shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size)).is_none() {
            let message = format!("a shape of {shape:?} is beyond the address space");
            return Err(Error::new(Kind::Shape, "edit", message));
        }
        let picks = self.indices("the shape", shape)?;
        let mut strides = vec![1; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis] * shape[axis];
        }
        let mut all: Vec<Range<usize>> = vec![];
        let view = View { offset: 0, shape: shape.to_vec(), strides };
        view.walk(&picks, &mut |range| match all.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => all.push(range),
        });
        Ok(all)
    }

    /// Its elements of values of such a shape, in row-major order of the picks.
    ///
    /// # Errors
    /// As [`Self::ranges`]; values of another number.
    pub fn take(&self, shape: &[usize], values: &[f32]) -> Result<Vec<f32>> {
        let ranges = self.ranges(shape)?;
        if shape.iter().product::<usize>() != values.len() {
            let message = format!("{} values of shape {shape:?}", values.len());
            return Err(Error::new(Kind::Shape, "edit", message));
        }
        Ok(ranges.into_iter().flat_map(|r| &values[r]).copied().collect())
    }

    /// Indices along each axis of a site.
    fn indices(&self, name: &str, shape: &[usize]) -> Result<Vec<Vec<usize>>> {
        let error = |message: String| Err(Error::new(Kind::Input, "edit", message));
        if self.0.len() > shape.len() {
            return error(format!("{name} has {} axes, {} are picked", shape.len(), self.0.len()));
        }
        let mut all = vec![];
        for (axis, &size) in shape.iter().enumerate() {
            let picked = self.0.get(axis).unwrap_or(&Pick::All).indices(size);
            if let Some(bad) = picked.iter().find(|&&i| i >= size) {
                return error(format!("axis {axis} of {name} has {size} indices, {bad} is none"));
            }
            let mut sorted = picked.clone();
            sorted.sort_unstable();
            if sorted.windows(2).any(|w| w[0] == w[1]) {
                return error(format!("an index of axis {axis} of {name} is picked twice"));
            }
            all.push(picked);
        }
        Ok(all)
    }
}

impl View {
    /// The elements in row-major order.
    pub(super) fn gather(&self, base: &[f32]) -> Vec<f32> {
        let all: Vec<Vec<usize>> = self.shape.iter().map(|&n| (0..n).collect()).collect();
        let mut out = Vec::with_capacity(self.shape.iter().product());
        self.walk(&all, &mut |range| out.extend_from_slice(&base[range]));
        out
    }

    /// Whether it is the whole of its base, in its order.
    pub(super) fn is_whole(&self) -> bool {
        let mut stride = 1;
        let dense = self.shape.iter().zip(&self.strides).rev().all(|(&n, &s)| {
            let fits = s == stride || n == 1;
            stride *= n;
            fits
        });
        dense && self.offset == 0
    }

    /// Neighbouring elements of the picked ones, in row-major order of the picks.
    fn walk(&self, picks: &[Vec<usize>], each: &mut dyn FnMut(Range<usize>)) {
        let Some((last, leading)) = picks.split_last() else { return };
        let mut at = vec![0usize; leading.len()];
        if picks.iter().any(Vec::is_empty) {
            return;
        }
        loop {
            let start: usize = self.offset
                + at.iter()
                    .enumerate()
                    .map(|(a, &i)| leading[a][i] * self.strides[a])
                    .sum::<usize>();
            let mut i = 0;
            while i < last.len() {
                let run = last[i..].windows(2).take_while(|w| w[1] == w[0] + 1).count() + 1;
                each(start + last[i]..start + last[i] + run);
                i += run;
            }
            let Some(axis) = (0..at.len()).rev().find(|&a| at[a] + 1 < leading[a].len()) else {
                return;
            };
            at[axis] += 1;
            at[axis + 1..].fill(0);
        }
    }

    /// A change of a region as changes of neighbouring elements. Values are as many as the region's elements, or as
    /// those of its last axes: then they are used again for each of the first.
    pub(super) fn edits(&self, name: &str, region: &Region, change: &Change) -> Result<Vec<Edit>> {
        let picks = region.indices(name, &self.shape)?;
        let values = match change {
            Change::Set(values) | Change::Add(values) => Some(values.len()),
            Change::Fill(_) | Change::Scale(_) => None,
        };
        if let Some(values) = values {
            let mut sizes = vec![1];
            for pick in picks.iter().rev() {
                sizes.push(sizes[sizes.len() - 1] * pick.len());
            }
            if !sizes.contains(&values) {
                let message = format!("{values} values for {name}");
                sizes.reverse();
                return Err(Error::new(Kind::Shape, "edit", message)
                    .hint(format!("the picked part takes one of {sizes:?}")));
            }
        }
        let mut edits: Vec<Edit> = vec![];
        let mut seen = 0;
        self.walk(&picks, &mut |range| {
            let mut start = 0;
            while start < range.len() {
                let from = values.map_or(0, |n| (seen + start) % n);
                let most = values.map_or(usize::MAX, |n| n - from);
                let len = (range.len() - start).min(most);
                let range = range.start + start..range.start + start + len;
                match edits.last_mut() {
                    Some(last)
                        if last.range.end == range.start
                            && values.is_none_or(|_| last.from + last.range.len() == from) =>
                    {
                        last.range.end = range.end;
                    }
                    _ => edits.push(Edit { range, change: change.clone(), from }),
                }
                start += len;
            }
            seen += range.len();
        });
        Ok(edits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// (B, T, H, D) = (2, 3, 2, 2) of rows of 10 elements, from the fourth on.
    fn view() -> View {
        View { offset: 4, shape: vec![2, 3, 2, 2], strides: vec![30, 10, 2, 1] }
    }

    #[test]
    fn a_view_gathers_its_elements_in_order() {
        let base: Vec<f32> = (0..60).map(|i| i as f32).collect();
        let got = view().gather(&base);
        assert_eq!(got[..8], [4.0, 5.0, 6.0, 7.0, 14.0, 15.0, 16.0, 17.0]);
        assert_eq!(got[12..14], [34.0, 35.0]);
        assert_eq!(got.len(), 24);
        assert!(!view().is_whole());
        assert!(View { offset: 0, shape: vec![2, 3], strides: vec![3, 1] }.is_whole());
    }

    #[test]
    fn a_region_becomes_neighbouring_ranges() {
        let head = Region::of([Pick::one(1), Pick::These(vec![0, 2]), Pick::one(1)]);
        let edits = view().edits("z", &head, &Change::Fill(0.0)).unwrap();
        let ranges: Vec<_> = edits.iter().map(|e| e.range.clone()).collect();
        assert_eq!(ranges, [36..38, 56..58]);
        // Both heads of a position are neighbours.
        let edits = view().edits("z", &Region::of([Pick::one(0)]), &Change::Scale(2.0)).unwrap();
        assert_eq!(edits.len(), 3);
        assert_eq!(edits[1].range, 14..18);
    }

    #[test]
    fn a_region_of_a_shape_takes_its_elements() {
        let values: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let one = Region::of([Pick::All, Pick::one(1), Pick::one(0)]);
        assert!(one.ranges(&[1, 3, 2, 2]).unwrap().into_iter().eq(std::iter::once(4..6)));
        assert_eq!(one.take(&[1, 3, 2, 2], &values).unwrap(), [4.0, 5.0]);
        let head = Region::behind(2, &[Pick::one(1)]);
        assert_eq!(head.ranges(&[1, 3, 2, 2]).unwrap(), [2..4, 6..8, 10..12]);
        assert!(Region::all().ranges(&[3, 4]).unwrap().into_iter().eq(std::iter::once(0..12)));
        assert_eq!(Region::all().take(&[1, 12], &values).unwrap(), values);
        let turned = Region::of([Pick::These(vec![2, 0]), Pick::one(1)]);
        assert_eq!(turned.take(&[3, 4], &values).unwrap(), [9.0, 1.0]);
        assert!(Region::all().ranges(&[]).unwrap().is_empty());
        assert!(Region::all().ranges(&[3, 0]).unwrap().is_empty());
        assert!(Region::all().ranges(&[usize::MAX, 2]).is_err());
        assert!(one.ranges(&[1, 1, 2]).is_err() && one.take(&[3, 2, 3], &values).is_err());
    }

    #[test]
    fn values_are_used_again_for_the_first_axes() {
        let values: Arc<[f32]> = Arc::from([1.0, 2.0]);
        let region = Region::of([Pick::one(0), Pick::one(1)]);
        let edits = view().edits("z", &region, &Change::Add(values)).unwrap();
        let found: Vec<_> = edits.iter().map(|e| (e.range.clone(), e.from)).collect();
        assert_eq!(found, [(14..16, 0), (16..18, 0)]);
        let wrong: Arc<[f32]> = Arc::from([1.0, 2.0, 3.0]);
        let error = view().edits("z", &region, &Change::Set(wrong)).unwrap_err().to_string();
        assert!(error.contains("3 values") && error.contains("[4, 4, 4, 2, 1]"), "{error}");
    }

    #[test]
    fn picks_outside_or_twice_are_refused() {
        let bad = |picks: Vec<Pick>| view().edits("z", &Region(picks), &Change::Fill(0.0)).is_err();
        assert!(bad(vec![Pick::one(2)]));
        assert!(bad(vec![Pick::These(vec![0, 0])]));
        assert!(bad(vec![Pick::All; 5]));
    }
}
