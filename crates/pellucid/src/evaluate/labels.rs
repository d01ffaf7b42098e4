//! Labels against labels: accuracy, F1 and Matthews' correlation, with the numbers of scikit-learn.

use crate::error::{Error, Kind, Result};

/// How often each label was given for each right one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// `table[right][given]`.
    table: Vec<Vec<u64>>,
}

impl Agreement {
    /// Counts; labels are below `labels`.
    ///
    /// # Errors
    /// None, other numbers of both, or a label that is not below `labels`.
    pub fn of(labels: usize, right: &[u32], given: &[u32]) -> Result<Self> {
        let error = |message: String| Err(Error::new(Kind::Input, "compare labels", message));
        if right.len() != given.len() || right.is_empty() {
            return error(format!("{} labels given, {} right ones", given.len(), right.len()));
        }
        let mut table = vec![vec![0; labels]; labels];
        for (&right, &given) in right.iter().zip(given) {
            match table.get_mut(right as usize).and_then(|row| row.get_mut(given as usize)) {
                Some(count) => *count += 1,
                None => return error(format!("label {right} or {given} is not below {labels}")),
            }
        }
        Ok(Self { table })
    }

    fn right(&self, label: usize) -> f64 {
        self.table[label].iter().sum::<u64>() as f64
    }

    fn given(&self, label: usize) -> f64 {
        self.table.iter().map(|row| row[label]).sum::<u64>() as f64
    }

    fn all(&self) -> f64 {
        self.table.iter().flatten().sum::<u64>() as f64
    }

    fn agreed(&self) -> f64 {
        (0..self.table.len()).map(|i| self.table[i][i]).sum::<u64>() as f64
    }

    /// Share of labels that are right.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        self.agreed() / self.all()
    }

    /// Harmonic mean of precision and recall of one label; 0 where it was neither right nor given.
    #[must_use]
    pub fn f1(&self, label: usize) -> f64 {
        let both = self.right(label) + self.given(label);
        if both == 0.0 { 0.0 } else { 2.0 * self.table[label][label] as f64 / both }
    }

    /// Mean of F1 over the labels that are right or given somewhere.
    #[must_use]
    pub fn macro_f1(&self) -> f64 {
        let there = (0..self.table.len()).filter(|&l| self.right(l) + self.given(l) > 0.0);
        let scores: Vec<f64> = there.map(|label| self.f1(label)).collect();
        scores.iter().sum::<f64>() / scores.len() as f64
    }

    /// Matthews' correlation, -1..=1; none where all labels given, or all right ones, are the same.
    #[must_use]
    pub fn matthews(&self) -> Option<f64> {
        let (all, agreed) = (self.all(), self.agreed());
        let sums = |f: &dyn Fn(usize) -> f64| (0..self.table.len()).map(f).sum::<f64>();
        let product = sums(&|l| self.right(l) * self.given(l));
        let given = all * all - sums(&|l| self.given(l).powi(2));
        let right = all * all - sums(&|l| self.right(l).powi(2));
        (given > 0.0 && right > 0.0).then(|| (agreed * all - product) / (given * right).sqrt())
    }
}
