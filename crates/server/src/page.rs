//! The page's files, inside the binary. Scripts stand in the order in which they may be joined into one.

/// Markup of the live page.
pub(crate) const INDEX: &str = include_str!("../page/index.html");
/// Looks, light and dark.
pub(crate) const STYLE: &str = include_str!("../page/style.css");
/// Pictures as files, SVG and PNG: a module that needs no other.
pub const PICTURE: &str = include_str!("../page/picture.js");
/// Views: each takes an element and data, and works without a server.
pub(crate) const VIEWS: &[(&str, &str)] = &[
    ("dom.js", include_str!("../page/dom.js")),
    ("colour.js", include_str!("../page/colour.js")),
    ("picture.js", PICTURE),
    ("tiles.js", include_str!("../page/tiles.js")),
    ("overview.js", include_str!("../page/overview.js")),
    ("map.js", include_str!("../page/map.js")),
    ("attention.js", include_str!("../page/attention.js")),
    ("lens.js", include_str!("../page/lens.js")),
    ("bars.js", include_str!("../page/bars.js")),
    ("attribution.js", include_str!("../page/attribution.js")),
    ("effect.js", include_str!("../page/effect.js")),
    ("gauges.js", include_str!("../page/gauges.js")),
];
/// What an exported page does with its data.
pub(crate) const STILL: &str = include_str!("../page/still.js");
/// What only the live page needs.
pub(crate) const LIVE: &[(&str, &str)] = &[
    ("api.js", include_str!("../page/api.js")),
    ("tokens.js", include_str!("../page/tokens.js")),
    ("save.js", include_str!("../page/save.js")),
    ("app.js", include_str!("../page/app.js")),
];

/// A file and its media type, by its path.
pub(crate) fn find(path: &str) -> Option<(&'static str, &'static str)> {
    match path {
        "/" => Some((INDEX, "text/html; charset=utf-8")),
        "/style.css" => Some((STYLE, "text/css; charset=utf-8")),
        _ => {
            let name = path.strip_prefix('/')?;
            let found = VIEWS.iter().chain(LIVE).find(|(n, _)| *n == name)?;
            Some((found.1, "text/javascript; charset=utf-8"))
        }
    }
}
