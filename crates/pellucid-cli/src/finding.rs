//! What was found inside a model: said on the terminal, or written as JSON, SVG, tensors or a page that stands alone.

use crate::out;
use clap::Args;
use pellucid::checkpoint::save_tensors;
use pellucid::error::Result;
use pellucid::files;
use pellucid::lens::heat_map::HeatMap;
use pellucid_server::PICTURE;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Buttons under every picture that keep it as a file.
const SAVE: &str = r#"
for (const [at, figure] of document.querySelectorAll("figure").entries()) {
  const svg = () => new XMLSerializer().serializeToString(figure.querySelector("svg"));
  const blob = () => new Blob([svg()], { type: "image/svg+xml" });
  const bar = document.createElement("figcaption");
  for (const [kind, make] of [["svg", blob], ["png", () => pngOf(svg())]]) {
    const button = document.createElement("button");
    button.textContent = `Save as ${kind.toUpperCase()}`;
    button.onclick = async () => keep(`pellucid-${at + 1}.${kind}`, await make());
    bar.append(button, " ");
  }
  figure.append(bar);
}
"#;

/// Where a finding goes.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct FindingArgs {
    /// A JSON object in place of text and pictures
    #[arg(long)]
    json: bool,
    /// Writes the picture, or the first of several, as SVG
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Writes one page that stands alone: pictures, to be saved as SVG or PNG, numbers and the command that finds them
    /// again
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Writes the numbers as safetensors
    #[arg(long, value_name = "FILE")]
    tensors: Option<PathBuf>,
}

/// A finding.
#[derive(Debug, Default)]
pub(crate) struct Finding {
    pub(crate) title: String,
    /// Lines for people, before the pictures.
    pub(crate) text: Vec<String>,
    pub(crate) pictures: Vec<HeatMap>,
    /// Everything, for scripts.
    pub(crate) json: Value,
    /// Names, shapes and elements.
    pub(crate) tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
}

impl Finding {
    /// One that a picture shows, whose title it has.
    pub(crate) fn pictured(picture: HeatMap, text: Vec<String>, json: Value) -> Self {
        let title = picture.title.clone();
        Self { title, text, pictures: vec![picture], json, ..Self::default() }
    }
}

impl FindingArgs {
    /// Says it and writes what was asked for.
    pub(crate) fn show(&self, finding: &Finding) -> Result<()> {
        if let Some(path) = &self.svg
            && let Some(picture) = finding.pictures.first()
        {
            let svg = picture.svg()?;
            files::replace("lens", path, |w| w.write_all(svg.as_bytes()))?;
        }
        if let Some(path) = &self.html {
            let html = page(finding, &command())?;
            files::replace("lens", path, |w| w.write_all(html.as_bytes()))?;
        }
        if let Some(path) = &self.tensors {
            save(path, finding)?;
        }
        if self.json {
            return out::json(&finding.json);
        }
        for line in &finding.text {
            out::line(line)?;
        }
        for picture in &finding.pictures {
            out::line(format!("\n{}\n\n{}", picture.title, picture.ascii()?.trim_end()))?;
        }
        Ok(())
    }
}

fn save(path: &Path, finding: &Finding) -> Result<()> {
    let flat: Vec<(String, Vec<usize>, Vec<f32>)> = if finding.tensors.is_empty() {
        let of = |(i, p): (usize, &HeatMap)| {
            let values = p.values.iter().map(|&v| v as f32).collect();
            (format!("picture.{i}"), vec![p.rows.len(), p.columns.len()], values)
        };
        finding.pictures.iter().enumerate().map(of).collect()
    } else {
        finding.tensors.clone()
    };
    let list: Vec<(&str, &[usize], &[f32])> =
        flat.iter().map(|(n, s, v)| (n.as_str(), s.as_slice(), v.as_slice())).collect();
    let facts = BTreeMap::from([
        ("title".to_owned(), finding.title.clone()),
        ("command".to_owned(), command()),
    ]);
    save_tensors(path, &list, &facts)
}

/// The command line of this run, as a shell takes it.
fn command() -> String {
    let word = |arg: String| {
        let plain = |c: char| c.is_alphanumeric() || "-_./=,:+@".contains(c);
        if !arg.is_empty() && arg.chars().all(plain) {
            return arg;
        }
        format!("'{}'", arg.replace('\'', "'\\''"))
    };
    let rest = std::env::args().skip(1).map(word);
    std::iter::once("pellucid".to_owned()).chain(rest).collect::<Vec<_>>().join(" ")
}

/// One file: text, pictures, numbers, command; nothing is fetched.
fn page(finding: &Finding, command: &str) -> Result<String> {
    let mut body = String::new();
    if !finding.text.is_empty() {
        body += &format!("<pre>{}</pre>\n", escape(&finding.text.join("\n")));
    }
    for picture in &finding.pictures {
        body += &format!("<figure>{}</figure>\n", picture.svg()?);
    }
    let all = json!({ "title": finding.title, "command": command, "data": finding.json });
    // `<` could end the script element; in JSON it stands only inside strings.
    let data = all.to_string().replace('<', "\\u003c");
    let title = escape(&finding.title);
    let command = escape(command);
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src blob:\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:72rem;\
         margin:2rem auto;padding:0 1rem;color-scheme:light dark}}figure{{margin:1rem 0;\
         overflow-x:auto;background:#fff}}pre,code{{font:14px/1.4 ui-monospace,monospace;\
         overflow-x:auto}}</style>\n</head>\n<body>\n<h1>{title}</h1>\n{body}\
         <p>Found by <code>{command}</code></p>\n\
         <script type=\"application/json\" id=\"data\">{data}</script>\n\
         <script type=\"module\">\n{PICTURE}{SAVE}</script>\n</body>\n</html>\n"
    ))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_stands_alone_and_its_data_cannot_end_it() {
        let finding = Finding {
            title: "a <b>".into(),
            text: vec!["1 < 2".into()],
            json: json!({ "x": "</script>" }),
            ..Finding::default()
        };
        let html = page(&finding, "pellucid lens '<'").unwrap();
        assert_eq!(html.matches("</script>").count(), 2, "its data and its buttons");
        assert!(html.contains("1 &lt; 2") && html.contains("<title>a &lt;b&gt;</title>"));
        assert!(!html.contains("src=") && !html.contains("href="));
    }
}
