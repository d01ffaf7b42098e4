//! The page that looks inside a model, and the questions it asks over HTTP.
//!
//! This crate is alone with HTTP, JSON on the wire and async. It does not know the engine: whoever starts it hands in
//! an [`inside::Inside`], which answers with plain numbers and words.

// ── what is asked ──────────────────────────────────────────────────────
/// A model that is made up: for tests and for building the page.
pub mod fake;
/// The questions a page may ask, and the shape of the answers.
pub mod inside;

// ── who answers ────────────────────────────────────────────────────────
/// A head's pattern in thumbnails and tiles.
mod maps;
/// A training run's series and checkpoints, read while it trains.
mod watch;
/// One thread that owns the model, behind a short queue.
mod worker;

// ── how it travels ─────────────────────────────────────────────────────
/// Questions as HTTP requests.
mod api;
/// A page that stands alone, for a view and its data.
pub mod export;
/// Who may ask: this computer's own pages only.
mod guard;
/// The files of the page, inside the binary.
mod page;
pub use page::PICTURE;
/// Listening.
pub mod serve;
/// The data of a figure for such a page.
pub mod still;
#[cfg(test)]
mod tests;
