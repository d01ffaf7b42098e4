//! Speed and loss against length: an SVG of two panels, and bars for the terminal.

use serde_json::Value;
use std::fmt::Write as _;

const COLOURS: [&str; 3] = ["#3b6fb6", "#d1603d", "#5b8c5a"];
/// Of a panel.
const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 62.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 46.0;

/// Models in the order in which they ran.
fn models(runs: &[Value]) -> Vec<&str> {
    let mut all: Vec<&str> = vec![];
    for name in runs.iter().filter_map(|r| r["model"].as_str()) {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}

/// Of a model: (T, mean over the seeds), by length.
fn points(runs: &[Value], model: &str, key: &str) -> Vec<(f64, f64)> {
    let of: Vec<&Value> = runs.iter().filter(|r| r["model"] == model).collect();
    let mut times: Vec<u64> = of.iter().filter_map(|r| r["time"].as_u64()).collect();
    times.sort_unstable();
    times.dedup();
    let mean = |t: u64| {
        let values = of.iter().filter(|r| r["time"] == t).filter_map(|r| r[key].as_f64());
        let values: Vec<f64> = values.filter(|x| x.is_finite()).collect();
        (!values.is_empty()).then(|| (t as f64, values.iter().sum::<f64>() / values.len() as f64))
    };
    times.into_iter().filter_map(mean).collect()
}

/// A round step so that about five of them make `span`.
fn step(span: f64) -> f64 {
    let power = 10f64.powf((span / 5.0).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|m| m * power);
    steps.into_iter().find(|s| span / s <= 6.0).unwrap_or(10.0 * power)
}

fn label(x: f64) -> String {
    match x.abs() {
        a if a >= 1000.0 => format!("{:.0}k", x / 1000.0),
        a if a >= 10.0 || a == 0.0 => format!("{x:.0}"),
        _ => format!("{x:.2}"),
    }
}

type Curves<'a> = Vec<(&'a str, Vec<(f64, f64)>)>;

/// Where a panel's values are drawn.
struct Frame {
    /// Its left edge.
    left: f64,
    /// log2 of the lengths.
    times: (f64, f64),
    values: (f64, f64),
    /// Between two lines.
    gap: f64,
}

impl Frame {
    /// Around all points; the axis begins at 0 where `from_zero`. None without a point.
    fn new(left: f64, curves: &Curves<'_>, from_zero: bool) -> Option<Self> {
        let range = |values: Vec<f64>| {
            let low = values.iter().copied().fold(f64::INFINITY, f64::min);
            (low, values.iter().copied().fold(f64::NEG_INFINITY, f64::max))
        };
        let all = || curves.iter().flat_map(|(_, points)| points);
        all().next()?;
        let times = range(all().map(|p| p.0.log2()).collect());
        let (low, high) = range(all().map(|p| p.1).collect());
        let low = if from_zero { 0.0 } else { low };
        let gap = step((high - low).max(1e-3));
        let values = ((low / gap).floor() * gap, (high / gap).ceil() * gap);
        Some(Self { left, times, values, gap })
    }

    fn x(&self, t: f64) -> f64 {
        let (t0, t1) = self.times;
        self.left + LEFT + (t.log2() - t0) / (t1 - t0).max(1e-9) * (WIDTH - LEFT - 20.0)
    }

    fn y(&self, value: f64) -> f64 {
        let (low, high) = self.values;
        HEIGHT - BOTTOM - (value - low) / (high - low).max(1e-9) * (HEIGHT - TOP - BOTTOM)
    }

    fn lines(&self, out: &mut String) {
        let (low, high) = self.values;
        let (left, right) = (self.left + LEFT, self.left + WIDTH - 20.0);
        for i in 0..=((high - low) / self.gap).round() as usize {
            let value = low + i as f64 * self.gap;
            let (y, text) = (self.y(value), label(value));
            let _ = writeln!(
                out,
                "<line x1=\"{left:.1}\" x2=\"{right:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#e6e6e0\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#555\">{text}</text>",
                left - 8.0,
                y + 4.0
            );
        }
    }

    fn curve(&self, out: &mut String, number: usize, (name, points): &(&str, Vec<(f64, f64)>)) {
        let colour = COLOURS[number % COLOURS.len()];
        let at: Vec<(f64, f64)> = points.iter().map(|(t, v)| (self.x(*t), self.y(*v))).collect();
        let line: Vec<String> = at.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            out,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.8\" points=\"{}\"/>",
            line.join(" ")
        );
        for (x, y) in at {
            let _ =
                writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
        }
        let x = self.left + LEFT + 110.0 * number as f64;
        let _ = writeln!(
            out,
            "<rect x=\"{x:.1}\" y=\"33\" width=\"10\" height=\"4\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"39\" fill=\"#333\">{name}</text>",
            x + 15.0
        );
    }
}

/// One panel whose left edge is at `left`.
fn panel(out: &mut String, left: f64, runs: &[Value], (key, title): (&str, &str), from_zero: bool) {
    let _ = writeln!(
        out,
        "<text x=\"{:.1}\" y=\"26\" font-size=\"14\" font-weight=\"600\" fill=\"#222\">{title}</text>",
        left + LEFT
    );
    let curves: Curves<'_> = models(runs).into_iter().map(|m| (m, points(runs, m, key))).collect();
    let Some(frame) = Frame::new(left, &curves, from_zero) else { return };
    frame.lines(out);
    let mut times: Vec<u64> = curves.iter().flat_map(|(_, p)| p).map(|p| p.0 as u64).collect();
    times.sort_unstable();
    times.dedup();
    for t in times {
        let (x, y) = (frame.x(t as f64), HEIGHT - BOTTOM + 20.0);
        let _ = writeln!(
            out,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\" fill=\"#555\">{t}</text>"
        );
    }
    curves.iter().enumerate().for_each(|(i, curve)| frame.curve(out, i, curve));
}

/// Both panels.
pub(super) fn svg(runs: &[Value]) -> String {
    let width = 2.0 * WIDTH;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {HEIGHT}\" width=\"{width}\" height=\"{HEIGHT}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fdfdfb\"/>\n"
    );
    let speed = ("tokens_per_second", "training: tokens/s against T");
    panel(&mut out, 0.0, runs, speed, true);
    let loss = ("validation_loss", "validation loss (nats) against T");
    panel(&mut out, WIDTH, runs, loss, false);
    out + "</svg>\n"
}

/// Tokens/s as bars, longest for the fastest.
pub(super) fn bars(runs: &[Value]) -> String {
    let mut text = String::from("training, tokens/s\n");
    let names = models(runs);
    let curves: Vec<_> = names.iter().map(|m| points(runs, m, "tokens_per_second")).collect();
    let most = curves.iter().flatten().map(|p| p.1).fold(1.0, f64::max);
    for (i, (t, _)) in curves.iter().max_by_key(|c| c.len()).into_iter().flatten().enumerate() {
        for (name, curve) in names.iter().zip(&curves) {
            let Some((_, v)) = curve.iter().find(|p| p.0 == *t) else { continue };
            let bar = "█".repeat((40.0 * v / most).round() as usize);
            let _ = writeln!(text, "T={t:<5} {name:<12} {v:>9.0} {bar}");
        }
        if i + 1 < curves[0].len() {
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn runs() -> Vec<Value> {
        let run = |model: &str, t: u64, speed: f64, loss: f64| json!({ "model": model, "time": t, "tokens_per_second": speed, "validation_loss": loss });
        vec![
            run("transformer", 32, 40_000.0, 1.9),
            run("lstm", 32, 20_000.0, 1.8),
            run("transformer", 1024, 20_000.0, 1.6),
            run("lstm", 1024, 5_000.0, 1.7),
            run("lstm", 1024, 7_000.0, f64::NAN),
        ]
    }

    #[test]
    fn points_are_means_over_the_seeds() {
        assert_eq!(
            points(&runs(), "lstm", "tokens_per_second"),
            [(32.0, 20_000.0), (1024.0, 6_000.0)]
        );
        assert_eq!(points(&runs(), "lstm", "validation_loss"), [(32.0, 1.8), (1024.0, 1.7)]);
    }

    #[test]
    fn the_picture_has_both_curves_twice_and_no_nan() {
        let text = svg(&runs());
        assert_eq!((text.matches("<polyline").count(), text.matches("<circle").count()), (4, 8));
        assert!(!text.contains("NaN") && !text.contains("inf") && text.ends_with("</svg>\n"));
        let one = svg(&runs()[..1]);
        assert!(!one.contains("NaN") && !one.contains("inf"), "{one}");
        assert!(svg(&[]).ends_with("</svg>\n"));
    }

    #[test]
    fn the_longest_bar_is_the_fastest() {
        let text = bars(&runs());
        let bar = |start: &str| {
            let line = text.lines().find(|l| l.starts_with(start)).unwrap();
            line.chars().filter(|c| *c == '█').count()
        };
        assert_eq!((bar("T=32    transformer"), bar("T=1024  lstm")), (40, 6));
    }
}
