//! A training run's series and checkpoints, read while it trains. Any number in `metrics.jsonl` or `gauges.jsonl` is a
//! series.

use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Most points of a series that are sent.
const POINTS: usize = 600;
/// Most bytes that are read at once.
const CHUNK: u64 = 8 << 20;

/// A run's folder and how far its metrics were read.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    folder: PathBuf,
    feeds: [Feed; FILES.len()],
    series: BTreeMap<String, Vec<(f64, f64)>>,
}

/// Where series come from.
const FILES: [&str; 2] = ["metrics.jsonl", "gauges.jsonl"];

/// How far a file was read.
#[derive(Debug, Default)]
struct Feed {
    read: u64,
    torn: Vec<u8>,
}

/// What is sent.
#[derive(Debug, Serialize)]
pub(crate) struct Gauges {
    /// In the order of their names.
    pub(crate) series: Vec<Series>,
    /// Names of checkpoints, oldest first.
    pub(crate) checkpoints: Vec<String>,
    /// The last step that was written down.
    pub(crate) step: Option<f64>,
}

/// One number over the steps.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Series {
    /// As in the file.
    pub(crate) name: String,
    /// (step, value).
    pub(crate) points: Vec<(f64, f64)>,
    /// How many there are in the file.
    pub(crate) count: usize,
}

/// Whether a folder is that of a run.
pub(crate) fn is_run(folder: &Path) -> bool {
    folder.join("metrics.jsonl").is_file()
}

impl Watch {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, ..Self::default() }
    }

    /// What there is now. A file that cannot be read is as good as empty: the run may not have begun.
    pub(crate) fn look(&mut self) -> Gauges {
        for which in 0..FILES.len() {
            while self.more(which).unwrap_or(false) {}
        }
        let series = self.series.iter().map(|(name, points)| Series {
            name: name.clone(),
            points: thinned(points),
            count: points.len(),
        });
        let last = self.series.values().filter_map(|s| s.last()).map(|p| p.0);
        let step = last.fold(None, |a: Option<f64>, b| Some(a.map_or(b, |a| a.max(b))));
        Gauges { series: series.collect(), checkpoints: self.checkpoints(), step }
    }

    /// Reads on; whether there may be more.
    fn more(&mut self, which: usize) -> std::io::Result<bool> {
        let mut file = File::open(self.folder.join(FILES[which]))?;
        let length = file.metadata()?.len();
        if length < self.feeds[which].read {
            // Cut: the run went back to a checkpoint.
            *self = Self::new(std::mem::take(&mut self.folder));
        }
        let feed = &mut self.feeds[which];
        file.seek(SeekFrom::Start(feed.read))?;
        let mut bytes = std::mem::take(&mut feed.torn);
        let got = file.take(CHUNK).read_to_end(&mut bytes)?;
        feed.read += got as u64;
        let whole = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1);
        feed.torn = bytes.split_off(whole);
        for line in bytes.split(|&b| b == b'\n') {
            if let Ok(values) = serde_json::from_slice::<Map<String, Value>>(line) {
                self.line(&values);
            }
        }
        Ok(got as u64 == CHUNK)
    }

    fn line(&mut self, values: &Map<String, Value>) {
        let Some(step) = values.get("step").and_then(Value::as_f64) else { return };
        for (name, value) in values.iter().filter(|(name, _)| *name != "step") {
            // Names come from a file: not more of them than can be shown.
            if let Some(value) = value.as_f64().filter(|_| self.series.len() < 64) {
                let points = self.series.entry(name.clone()).or_default();
                // A run that went back writes its steps again.
                while points.last().is_some_and(|p| p.0 >= step) {
                    points.pop();
                }
                points.push((step, value));
            }
        }
    }

    fn checkpoints(&self) -> Vec<String> {
        let names = fs::read_dir(&self.folder).into_iter().flatten().filter_map(|e| e.ok());
        let steps = names.filter_map(|e| {
            let name = e.file_name().into_string().ok()?;
            let step: u64 = name.strip_prefix("step-")?.parse().ok()?;
            Some((step, name))
        });
        let mut all: Vec<(u64, String)> = steps.collect();
        all.sort();
        all.into_iter().map(|(_, name)| name).collect()
    }
}

/// Few enough points: the lowest and the highest of each stretch, so that no peak is lost.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= POINTS {
        return points.to_vec();
    }
    let stretch = points.len().div_ceil(POINTS / 2);
    let mut out = Vec::with_capacity(POINTS);
    for part in points.chunks(stretch) {
        let by = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let ends = [part.iter().min_by(by), part.iter().max_by(by)];
        let mut ends: Vec<(f64, f64)> = ends.into_iter().flatten().copied().collect();
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        ends.dedup();
        out.extend(ends);
    }
    // The newest point is what a person looks for.
    if out.last() != points.last() {
        out.extend(points.last());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn named<'g>(gauges: &'g Gauges, name: &str) -> &'g [(f64, f64)] {
        &gauges.series.iter().find(|s| s.name == name).unwrap().points
    }

    #[test]
    fn a_growing_file_is_read_on_and_a_torn_line_waits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut watch = Watch::new(folder.path().into());
        assert!(watch.look().series.is_empty() && !is_run(folder.path()));
        let mut file = File::create(&path).unwrap();
        file.write_all(b"{\"step\":1,\"loss\":4.5,\"name\":\"x\"}\nnot json\n{\"step\":2,\"lo")
            .unwrap();
        assert_eq!(named(&watch.look(), "loss"), [(1.0, 4.5)]);
        file.write_all(b"ss\":4.0}\n{\"step\":2,\"induction_score\":0.5}\n").unwrap();
        let gauges = watch.look();
        assert_eq!(named(&gauges, "loss"), [(1.0, 4.5), (2.0, 4.0)]);
        assert_eq!(named(&gauges, "induction_score"), [(2.0, 0.5)]);
        assert_eq!((gauges.step, gauges.series.len()), (Some(2.0), 2));
        fs::write(folder.path().join("gauges.jsonl"), "{\"step\":2,\"repeated_loss\":1.5}\n")
            .unwrap();
        assert_eq!(named(&watch.look(), "repeated_loss"), [(2.0, 1.5)]);
        file.write_all(b"{\"step\":3,\"loss\":3.0}\n{\"step\":2,\"loss\":3.5}\n").unwrap();
        assert_eq!(named(&watch.look(), "loss"), [(1.0, 4.5), (2.0, 3.5)], "steps done again");
        fs::write(&path, "{\"step\":1,\"loss\":9.0}\n").unwrap();
        assert_eq!(named(&watch.look(), "loss"), [(1.0, 9.0)]);
    }

    #[test]
    fn checkpoints_are_in_the_order_of_their_steps() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["step-00000100", "step-00000020", "step-00000300.tmp", "other"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let gauges = Watch::new(folder.path().into()).look();
        assert_eq!(gauges.checkpoints, ["step-00000020", "step-00000100"]);
    }

    #[test]
    fn thinning_keeps_peaks_and_the_end() {
        let mut points: Vec<(f64, f64)> = (0..100_000).map(|i| (f64::from(i), 1.0)).collect();
        points[54_321].1 = 7.0;
        let few = thinned(&points);
        assert!(few.len() <= POINTS + 1);
        assert!(few.contains(&(54_321.0, 7.0)));
        assert_eq!(few.last(), points.last());
        assert!(few.windows(2).all(|w| w[0].0 < w[1].0));
    }
}
