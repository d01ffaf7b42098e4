//! The loss curve: an SVG for the browser, braille dots for the terminal.

use super::log::Line;
use std::fmt::Write as _;

/// A named curve.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Shown in the legend.
    pub name: String,
    /// Any CSS colour.
    pub colour: &'static str,
    /// `(step, value)`.
    pub points: Vec<(f64, f64)>,
}

/// Training and validation loss of a run.
#[must_use]
pub fn loss_series(lines: &[Line]) -> Vec<Series> {
    let pick = |value: fn(&Line) -> Option<f64>| {
        lines.iter().filter_map(|l| Some((l.step as f64, value(l)?))).collect()
    };
    let train = Series { name: "training".into(), colour: "#3b6fb6", points: pick(|l| l.loss) };
    let held = pick(|l| l.validation_loss);
    let validation = Series { name: "validation".into(), colour: "#d1603d", points: held };
    [train, validation].into_iter().filter(|s| !s.points.is_empty()).collect()
}

/// Points averaged in at most `most` runs of neighbours; NaN and infinity are left out.
fn thin(points: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    let finite: Vec<_> =
        points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
    let size = finite.len().div_ceil(most.max(1)).max(1);
    let mean = |c: &[(f64, f64)]| {
        let n = c.len() as f64;
        (c.iter().map(|p| p.0).sum::<f64>() / n, c.iter().map(|p| p.1).sum::<f64>() / n)
    };
    let mut out: Vec<_> = finite.chunks(size).map(mean).collect();
    // The ends keep their own place, so that the axis shows the true range.
    if let (Some(first), Some(last), true) = (finite.first(), finite.last(), size > 1) {
        out[0].0 = first.0;
        if let Some(end) = out.last_mut() {
            end.0 = last.0;
        }
    }
    out
}

/// Round numbers that cover `low..high`: steps of 1, 2 or 5 times a power of ten.
fn ticks(low: f64, high: f64, about: usize) -> Vec<f64> {
    let rough = (high - low) / about.max(1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= rough * 0.999);
    let step = step.unwrap_or(10.0 * power);
    let first = (low / step - 1e-9).ceil() as i64;
    (first..).map(|i| i as f64 * step).take_while(|t| *t <= high + 1e-9 * step).take(100).collect()
}

/// 1, 2 and 5 times powers of ten inside `low..high`.
fn log_ticks(low: f64, high: f64) -> Vec<f64> {
    let (from, to) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let all = (from..=to).flat_map(|p| [1.0, 2.0, 5.0].map(|m| m * 10f64.powi(p)));
    let inside: Vec<f64> = all.filter(|t| (low..=high).contains(t)).collect();
    if inside.len() >= 3 { inside } else { ticks(low, high, 5) }
}

fn label(value: f64) -> String {
    let size = value.abs();
    if size >= 1e6 {
        format!("{}M", trim(value / 1e6, 2))
    } else if size >= 1e4 {
        format!("{}k", trim(value / 1e3, 2))
    } else if size >= 1e-3 || size == 0.0 {
        trim(value, 4)
    } else {
        format!("{value:.0e}")
    }
}

fn trim(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').into() } else { text }
}

/// Least and greatest of x and y, widened where they coincide.
fn bounds<'a>(points: impl Iterator<Item = &'a (f64, f64)>) -> Option<[f64; 4]> {
    let mut b: Option<[f64; 4]> = None;
    for &(x, y) in points.filter(|(x, y)| x.is_finite() && y.is_finite()) {
        let [a, c, d, e] = b.unwrap_or([x, x, y, y]);
        b = Some([a.min(x), c.max(x), d.min(y), e.max(y)]);
    }
    b.map(|[x0, x1, y0, y1]| {
        let widen = |a: f64, b: f64| if a < b { (a, b) } else { (a - 0.5, b + 0.5) };
        let ((x0, x1), (y0, y1)) = (widen(x0, x1), widen(y0, y1));
        [x0, x1, y0, y1]
    })
}

const WIDTH: f64 = 840.0;
const HEIGHT: f64 = 460.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 48.0;
const BOTTOM: f64 = 52.0;

/// Draws curves over steps on a light background; `logarithmic` applies to the y axis.
#[must_use]
pub fn svg(title: &str, series: &[Series], logarithmic: bool) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" font-family=\"system-ui, sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fdfdfb\"/>\n\
         <text x=\"{LEFT}\" y=\"28\" font-size=\"15\" font-weight=\"600\" fill=\"#222\">{}</text>",
        escape(title)
    );
    let thinned: Vec<Vec<(f64, f64)>> = series
        .iter()
        .map(|s| thin(&s.points, 700))
        .map(|p| p.into_iter().filter(|(_, y)| !logarithmic || *y > 0.0).collect())
        .collect();
    let Some([x0, x1, y0, y1]) = bounds(thinned.iter().flatten()) else {
        let _ =
            writeln!(out, "<text x=\"{LEFT}\" y=\"80\" fill=\"#777\">nothing yet</text>\n</svg>");
        return out;
    };
    let (y0, y1) = if logarithmic {
        (y0.max(1e-12) / 1.05, y1 * 1.05)
    } else {
        let margin = 0.04 * (y1 - y0);
        (y0 - margin, y1 + margin)
    };
    let scale_y = |y: f64| {
        let r = if logarithmic { (y / y0).ln() / (y1 / y0).ln() } else { (y - y0) / (y1 - y0) };
        HEIGHT - BOTTOM - r * (HEIGHT - TOP - BOTTOM)
    };
    let scale_x = |x: f64| LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT);
    axes(&mut out, [x0, x1, y0, y1], logarithmic, &scale_x, &scale_y);
    for (s, points) in series.iter().zip(&thinned) {
        let _ = write!(
            out,
            "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"1.8\" stroke-linejoin=\"round\" points=\"",
            s.colour
        );
        for (x, y) in points {
            let _ = write!(out, "{:.1},{:.1} ", scale_x(*x), scale_y(*y));
        }
        out.push_str("\"/>\n");
        if points.len() <= 60 {
            for (x, y) in points {
                let _ = writeln!(
                    out,
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.4\" fill=\"{}\"/>",
                    scale_x(*x),
                    scale_y(*y),
                    s.colour
                );
            }
        }
    }
    legend(&mut out, series);
    out.push_str("</svg>\n");
    out
}

fn axes(
    out: &mut String,
    [x0, x1, y0, y1]: [f64; 4],
    logarithmic: bool,
    scale_x: &dyn Fn(f64) -> f64,
    scale_y: &dyn Fn(f64) -> f64,
) {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for t in if logarithmic { log_ticks(y0, y1) } else { ticks(y0, y1, 6) } {
        let (y, text) = (scale_y(t), label(t));
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#e6e6e0\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#555\">{text}</text>",
            LEFT - 8.0,
            y + 4.0
        );
    }
    for t in ticks(x0, x1, 7) {
        let (x, text) = (scale_x(t), label(t));
        let _ = writeln!(
            out,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom}\" y2=\"{}\" stroke=\"#888\"/>\
             <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#555\">{text}</text>",
            bottom + 5.0,
            bottom + 19.0
        );
    }
    let _ = writeln!(
        out,
        "<path d=\"M{LEFT} {TOP}V{bottom}H{right}\" fill=\"none\" stroke=\"#888\"/>\
         <text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#333\">step</text>\
         <text transform=\"translate(16 {:.1}) rotate(-90)\" text-anchor=\"middle\" fill=\"#333\">loss (nats per token{})</text>",
        0.5 * (LEFT + right),
        HEIGHT - 12.0,
        0.5 * (TOP + bottom),
        if logarithmic { ", log scale" } else { "" }
    );
}

fn legend(out: &mut String, series: &[Series]) {
    let x = WIDTH - RIGHT - 150.0;
    for (i, s) in series.iter().enumerate() {
        let y = TOP + 12.0 + 18.0 * i as f64;
        let last = s.points.last().map_or(String::new(), |p| format!(" {:.4}", p.1));
        let _ = writeln!(
            out,
            "<line x1=\"{x}\" x2=\"{}\" y1=\"{y}\" y2=\"{y}\" stroke=\"{}\" stroke-width=\"3\"/>\
             <text x=\"{}\" y=\"{}\" fill=\"#333\">{}{last}</text>",
            x + 20.0,
            s.colour,
            x + 28.0,
            y + 4.0,
            escape(&s.name)
        );
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A curve in braille dots, two by four to a character, `width` by `height` characters with labels; empty without points.
#[must_use]
pub fn ascii_curve(points: &[(f64, f64)], width: usize, height: usize) -> String {
    let points = thin(points, 2 * width.max(2));
    let Some([x0, x1, y0, y1]) = bounds(points.iter()) else { return String::new() };
    let margin = label(y0).len().max(label(y1).len()) + 2;
    let (columns, rows) = (width.saturating_sub(margin).max(2), height.saturating_sub(1).max(2));
    let (dots_x, dots_y) = (2 * columns, 4 * rows);
    let mut cells = vec![0u8; columns * rows];
    let mut previous: Option<(i64, i64)> = None;
    for (x, y) in points {
        let px = ((x - x0) / (x1 - x0) * (dots_x - 1) as f64).round() as i64;
        let py = ((y1 - y) / (y1 - y0) * (dots_y - 1) as f64).round() as i64;
        let (qx, qy) = previous.unwrap_or((px, py));
        let steps = (px - qx).abs().max((py - qy).abs()).max(1);
        for i in 0..=steps {
            let (x, y) =
                ((qx + (px - qx) * i / steps) as usize, (qy + (py - qy) * i / steps) as usize);
            // Unicode's order of the eight dots.
            let bit = [[0, 3], [1, 4], [2, 5], [6, 7]][y % 4][x % 2];
            cells[(y / 4) * columns + x / 2] |= 1 << bit;
        }
        previous = Some((px, py));
    }
    let mut out = String::new();
    for (row, line) in cells.chunks(columns).enumerate() {
        let text = match row {
            0 => label(y1),
            r if r + 1 == rows => label(y0),
            _ => String::new(),
        };
        let dots: String =
            line.iter().map(|c| char::from_u32(0x2800 + u32::from(*c)).unwrap_or(' ')).collect();
        let _ = writeln!(out, "{text:>w$} ┤{dots}", w = margin - 2);
    }
    let (from, to) = (label(x0), label(x1));
    let gap = columns.saturating_sub(from.len() + to.len());
    let _ = writeln!(out, "{:margin$}{from}{:gap$}{to}", "", "");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(n: usize) -> Vec<Series> {
        let lines: Vec<Line> = (1..=n as u64)
            .map(|step| Line {
                step,
                loss: Some(4.0 / (step as f64).sqrt()),
                validation_loss: step.is_multiple_of(10).then_some(4.2 / (step as f64).sqrt()),
                ..Line::default()
            })
            .collect();
        loss_series(&lines)
    }

    #[test]
    fn ticks_are_round_and_inside() {
        let near = |a: Vec<f64>, b: &[f64]| {
            assert!(
                a.len() == b.len() && a.iter().zip(b).all(|(x, y)| (x - y).abs() < 1e-9),
                "{a:?}"
            );
        };
        near(ticks(0.0, 10.0, 5), &[0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        near(ticks(0.13, 0.48, 4), &[0.2, 0.3, 0.4]);
        near(log_ticks(0.9, 11.0), &[1.0, 2.0, 5.0, 10.0]);
        assert_eq!(["0.25", "12k", "1.5M", "1e-5"], [0.25, 12e3, 1.5e6, 1e-5].map(label));
    }

    #[test]
    fn svg_holds_both_curves_axes_and_no_nan() {
        for (n, log) in [(1, false), (100, false), (5000, true)] {
            let mut curves = series(n);
            curves[0].points.push((n as f64 + 1.0, f64::NAN));
            let text = svg("a <b> & c", &curves, log);
            assert_eq!(text.matches("<polyline").count(), curves.len());
            assert!(text.contains("a &lt;b&gt; &amp; c") && text.ends_with("</svg>\n"));
            let body = text.replace("NaN</text>", "");
            assert!(!body.contains("NaN") && !body.contains("inf"), "{n} {log}");
            assert!(text.len() < 60_000, "{}", text.len());
        }
        assert!(svg("empty", &[], false).contains("nothing yet"));
    }

    #[test]
    fn the_terminal_curve_has_the_size_asked_for_and_falls() {
        let points = &series(500)[0].points;
        let text = ascii_curve(points, 40, 8);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 8);
        assert!(lines[..7].iter().all(|l| l.chars().count() == 40), "{text}");
        let used = |l: &str| l.chars().position(|c| c > '\u{2800}' && c < '\u{2900}').unwrap();
        assert!(used(lines[0]) < used(lines[6]), "{text}");
        assert_eq!(ascii_curve(&[(0.0, f64::NAN)], 40, 8), "");
        assert!(!ascii_curve(&[(3.0, 1.0)], 1, 1).is_empty());
    }
}
