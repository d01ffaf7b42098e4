//! Questions as HTTP requests: JSON in, JSON or little-endian numbers out.

use crate::export;
use crate::guard;
use crate::inside::{Answer, Edit, Fault, HeadAt, Inside, Prompt, Reason, Whose};
use crate::maps::{self, Piece};
use crate::page;
use crate::watch::{Watch, is_run};
use crate::worker::{Desk, Worker};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Most bytes of a question.
const QUESTION: usize = 256 << 10;
/// Most bytes of data to be exported.
const EXPORT: usize = 64 << 20;
/// Most positions of the lens at once, and most edits.
const POSITIONS: usize = 64;
/// Guesses in a cell of the lens.
const GUESSES: usize = 10;

/// What handlers share.
#[derive(Clone)]
struct Shared {
    worker: Worker,
    run: Option<Arc<Mutex<Watch>>>,
}

/// All routes. `port` is where they are served; `queue` questions may wait.
///
/// # Errors
/// The model's thread cannot be started.
pub(crate) fn router(
    inside: Box<dyn Inside>,
    run: Option<PathBuf>,
    port: u16,
    queue: usize,
) -> std::io::Result<Router> {
    let run = run.filter(|folder| is_run(folder)).map(|f| Arc::new(Mutex::new(Watch::new(f))));
    let shared = Shared { worker: Worker::start(inside, queue)?, run };
    Ok(Router::new()
        .route("/api/model", get(model))
        .route("/api/tokens", post(tokens))
        .route("/api/thumbs", post(thumbs))
        .route("/api/tile", post(tile))
        .route("/api/lens", post(lens))
        .route("/api/attribution", post(attribution))
        .route("/api/effect", post(effect))
        .route("/api/run", get(gauges))
        .route("/api/checkpoint", post(checkpoint))
        .route("/api/export", post(exported).layer(DefaultBodyLimit::max(EXPORT)))
        .fallback(get(file))
        .layer(DefaultBodyLimit::max(QUESTION))
        .layer(middleware::from_fn_with_state(port, guard::guard))
        .with_state(shared))
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let status = match self.reason {
            Reason::Input => StatusCode::BAD_REQUEST,
            Reason::Missing => StatusCode::NOT_IMPLEMENTED,
            Reason::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Reason::Broken => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let mut response = json(&self);
        *response.status_mut() = status;
        if self.reason == Reason::Busy {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

fn typed(body: impl Into<Body>, kind: &'static str) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn json<T: Serialize>(value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => typed(bytes, "application/json"),
        Err(e) => {
            let mut response = typed(e.to_string(), "text/plain; charset=utf-8");
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        }
    }
}

fn numbers(bytes: Vec<u8>) -> Response {
    typed(bytes, "application/octet-stream")
}

/// Parses a question.
fn parse<T: DeserializeOwned>(body: &Bytes) -> Answer<T> {
    serde_json::from_slice(body).map_err(|e| Fault::input(format!("the question is unclear: {e}")))
}

/// Parses a question, asks it, and sends the answer as JSON.
async fn answer<Q, A>(
    shared: &Shared,
    body: &Bytes,
    ask: impl FnOnce(&mut Desk, Q) -> Answer<A> + Send + 'static,
) -> Result<Response, Fault>
where
    Q: DeserializeOwned + Send + 'static,
    A: Serialize + Send + 'static,
{
    let question: Q = parse(body)?;
    let answer = shared.worker.ask(move |desk| ask(desk, question)).await?;
    Ok(json(&answer))
}

async fn file(uri: Uri) -> Response {
    match page::find(uri.path()) {
        Some((text, kind)) => typed(text, kind),
        None => (StatusCode::NOT_FOUND, "nothing is here\n").into_response(),
    }
}

async fn model(State(shared): State<Shared>) -> Result<Response, Fault> {
    Ok(json(&shared.worker.ask(|desk| Ok(desk.inside.card())).await?))
}

async fn tokens(State(shared): State<Shared>, body: Bytes) -> Result<Response, Fault> {
    answer(&shared, &body, |desk, prompt: Prompt| desk.inside.tokens(&prompt)).await
}

#[derive(Deserialize)]
struct Layer {
    prompt: Prompt,
    stack: String,
    layer: usize,
}

/// Thumbnails of a layer's heads: heads, rows, columns as u32, then a byte for each value.
async fn thumbs(State(shared): State<Shared>, body: Bytes) -> Result<Response, Fault> {
    let Layer { prompt, stack, layer } = parse(&body)?;
    let ask = move |desk: &mut Desk| {
        let card = desk.inside.card();
        let found = card.stacks.iter().find(|s| s.name == stack);
        let heads = found
            .map(|s| s.heads)
            .ok_or_else(|| Fault::input(format!("no stack is named {stack:?}")))?;
        let mut out = (heads as u32).to_le_bytes().to_vec();
        for head in 0..heads {
            let pattern = desk.fresh(&prompt, &HeadAt { stack: stack.clone(), layer, head })?;
            if head == 0 {
                let (rows, columns) = maps::thumb_size(&pattern);
                out.extend((rows as u32).to_le_bytes());
                out.extend((columns as u32).to_le_bytes());
            }
            out.extend(maps::thumb(&pattern));
        }
        Ok(out)
    };
    Ok(numbers(shared.worker.ask(ask).await?))
}

#[derive(Deserialize)]
struct Tile {
    prompt: Prompt,
    at: HeadAt,
    piece: Piece,
}

async fn tile(State(shared): State<Shared>, body: Bytes) -> Result<Response, Fault> {
    let Tile { prompt, at, piece } = parse(&body)?;
    let ask = move |desk: &mut Desk| maps::tile(&*desk.pattern(&prompt, &at)?, piece);
    Ok(numbers(shared.worker.ask(ask).await?))
}

#[derive(Deserialize)]
struct Window {
    prompt: Prompt,
    from: usize,
    count: usize,
}

async fn lens(State(shared): State<Shared>, body: Bytes) -> Result<Response, Fault> {
    answer(&shared, &body, |desk, window: Window| {
        let Window { prompt, from, count } = window;
        if count == 0 || count > POSITIONS {
            let message = format!("{count} positions: ask for 1 to {POSITIONS} at a time");
            return Err(Fault::input(message));
        }
        let to = from.checked_add(count).ok_or_else(|| Fault::input("positions overflow"))?;
        desk.inside.lens(&prompt, from..to, GUESSES)
    })
    .await
}

#[derive(Deserialize)]
struct Attributed {
    prompt: Prompt,
    whose: Whose,
}

async fn attribution(State(shared): State<Shared>, body: Bytes) -> Result<Response, Fault> {
    let ask = |desk: &mut Desk, q: Attributed| desk.inside.attribution(&q.prompt, &q.whose);
    answer(&shared, &body, ask).await
}

#[derive(Deserialize)]
struct Edited {
    prompt: Prompt,
    edits: Vec<Edit>,
    position: usize,
}

async fn effect(State(shared): State<Shared>, body: Bytes) -> Result<Response, Fault> {
    answer(&shared, &body, |desk, q: Edited| {
        if q.edits.len() > POSITIONS {
            let message = format!("{} edits: at most {POSITIONS} at once", q.edits.len());
            return Err(Fault::input(message));
        }
        desk.inside.effect(&q.prompt, &q.edits, q.position)
    })
    .await
}

/// Reads the run's files on another thread than the one that serves: a disk may be slow.
async fn look(shared: &Shared) -> Answer<crate::watch::Gauges> {
    let run = shared.run.clone().ok_or_else(|| Fault::missing("this is no training run"))?;
    let read = move || run.lock().unwrap_or_else(PoisonError::into_inner).look();
    let broken = |_| Fault::new(Reason::Broken, "the run's files could not be read");
    tokio::task::spawn_blocking(read).await.map_err(broken)
}

async fn gauges(State(shared): State<Shared>) -> Result<Response, Fault> {
    Ok(json(&look(&shared).await?))
}

#[derive(Deserialize)]
struct Checkpoint {
    name: String,
}

async fn checkpoint(State(shared): State<Shared>, body: Bytes) -> Result<Response, Fault> {
    let Checkpoint { name } = parse(&body)?;
    // A name from the list only: never a path from outside.
    if !look(&shared).await?.checkpoints.contains(&name) {
        return Err(Fault::input(format!("the run has no checkpoint {name:?} (any more)")));
    }
    let open = move |desk: &mut Desk| {
        let card = desk.inside.open(&name)?;
        desk.forget();
        Ok(card)
    };
    Ok(json(&shared.worker.ask(open).await?))
}

#[derive(Deserialize)]
struct Export {
    view: String,
    title: String,
    command: String,
    data: Value,
}

async fn exported(body: Bytes) -> Result<Response, Fault> {
    let Export { view, title, command, data } = parse(&body)?;
    if !export::NAMES.contains(&view.as_str()) {
        let message = format!("no view is named {view:?}: {}", export::NAMES.join(", "));
        return Err(Fault::input(message));
    }
    let mut response =
        typed(export::page(&view, &title, &command, &data), "text/html; charset=utf-8");
    // Saved, never shown: its policy is looser than the page's.
    let saved = HeaderValue::from_static("attachment; filename=\"pellucid.html\"");
    response.headers_mut().insert(header::CONTENT_DISPOSITION, saved);
    Ok(response)
}
