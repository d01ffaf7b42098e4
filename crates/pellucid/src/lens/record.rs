//! Named, shaped values of one run.

use crate::error::{Error, Kind, Result};
use std::collections::BTreeMap;

/// What was kept of a run: site name → (shape, elements in row-major order).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recording {
    /// By site, such as `blocks.3.attn.pattern`.
    pub values: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl Recording {
    /// The shape and elements at `site`.
    ///
    /// # Errors
    /// Nothing was recorded there; the error lists what was.
    pub fn get(&self, site: &str) -> Result<(&[usize], &[f32])> {
        match self.values.get(site) {
            Some((shape, data)) => Ok((shape, data)),
            None => {
                let message = format!("nothing was recorded at {site:?}");
                let names: Vec<&str> = self.values.keys().map(String::as_str).collect();
                Err(Error::new(Kind::Input, "recording", message)
                    .hint(format!("recorded: {}", names.join(", "))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_site_lists_those_that_exist() {
        let mut recording = Recording::default();
        recording.values.insert("a.b".into(), (vec![1, 2], vec![3.0, 4.0]));
        assert_eq!(recording.get("a.b").unwrap(), (&[1, 2][..], &[3.0, 4.0][..]));
        assert!(recording.get("c").unwrap_err().to_string().contains("recorded: a.b"));
    }
}
