//! A page that stands alone: one view, its data and the command that reproduces it, in one file that opens from disk.

use crate::page;
use serde_json::{Value, json};

/// What an exported page may do: run what is written in it. Nothing can be fetched.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
     img-src blob: data:; base-uri 'none'; form-action 'none'";

/// Names of the views that can be exported.
pub const NAMES: &[&str] = &["attention", "lens", "attribution", "effect", "gauges"];

/// An HTML page that shows `json_data` in a view (one of [`NAMES`]) and says which `command` reproduces it. It refers
/// to no other file and to no address.
#[must_use]
pub fn page(view_name: &str, title: &str, command: &str, json_data: &Value) -> String {
    let all = json!({ "view": view_name, "title": title, "command": command, "data": json_data });
    // `<` could end the script element; in JSON it stands only inside strings.
    let data = all.to_string().replace('<', "\\u003c");
    let title = escape(title);
    let (style, script) = (page::STYLE, script());
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>{title}</title>\n<style>\n{style}</style>\n\
         </head>\n<body class=\"still\">\n<main id=\"main\"></main>\n\
         <div id=\"status\" role=\"status\" aria-live=\"polite\" class=\"unseen\"></div>\n\
         <script type=\"application/json\" id=\"data\">{data}</script>\n\
         <script type=\"module\">\n{script}</script>\n</body>\n</html>\n"
    )
}

/// All views and what shows them, as one script: modules joined, so that a page from disk may run them.
pub(crate) fn script() -> String {
    let mut out = String::new();
    for text in page::VIEWS.iter().map(|v| v.1).chain([page::STILL]) {
        for line in text.lines().filter(|l| !l.starts_with("import ")) {
            out.push_str(line.strip_prefix("export ").unwrap_or(line));
            out.push('\n');
        }
    }
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Names that a joined script declares at its top.
    fn declared(script: &str) -> Vec<&str> {
        let kinds = ["const ", "let ", "function ", "async function ", "class "];
        script
            .lines()
            .filter_map(|line| kinds.iter().find_map(|k| line.strip_prefix(k)))
            .map(|l| l.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or(l))
            .collect()
    }

    #[test]
    fn an_exported_page_refers_to_nothing_outside() {
        let data = json!({ "text": "</script><img src=http://x.example/>" });
        let html = page("lens", "a <b> & \"c\"", "pellucid look m --text 'x'", &data);
        for word in ["src=\"", "@import", "url(", "import(", "fetch(", "XMLHttp", "\nimport "] {
            assert!(!html.contains(word), "{word}");
        }
        let known = ["http://www.w3.org/2000/svg", "http://x.example/"];
        for (at, _) in html.match_indices("http") {
            let found = known.iter().any(|k| html[at..].starts_with(k));
            assert!(found || html[at..].starts_with("http-equiv"), "{}", &html[at..][..40]);
        }
        let markup = &html[..html.find("<script").unwrap()];
        assert_eq!(markup.matches("href=").count(), 1, "the empty icon");
        assert_eq!(html.matches("</script>").count(), 2, "data cannot end its element");
        assert!(html.contains("<title>a &lt;b&gt; &amp; &quot;c&quot;</title>"));
        assert!(html.contains("pellucid look m --text 'x'"));
        assert!(html.len() < 200_000, "{}", html.len());
    }

    #[test]
    fn joined_scripts_do_not_meet() {
        let script = script();
        assert!(!script.contains("\nexport ") && !script.contains("\nimport "));
        assert!(!script.contains("</script"));
        let names = declared(&script);
        let once: BTreeSet<&str> = names.iter().copied().collect();
        let twice: Vec<&&str> =
            once.iter().filter(|n| names.iter().filter(|m| m == n).count() > 1).collect();
        assert!(names.len() > 30 && twice.is_empty(), "{twice:?}");
    }
}
