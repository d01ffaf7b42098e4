//! Requests through the router, without a browser.

use crate::api::router;
use crate::fake::Fake;
use crate::inside::{
    Answer, Attribution, Card, Edit, Effect, HeadAt, Inside, Lens, Pattern, Prompt, Tokens, Whose,
};
use crate::page;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use serde_json::{Value, json};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Barrier};
use tower::ServiceExt;

const PORT: u16 = 4321;

struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn fault(&self) -> (u16, String) {
        let reason = self.json()["reason"].as_str().unwrap_or("none").to_owned();
        (self.status.as_u16(), reason)
    }
}

fn app(run: Option<PathBuf>) -> Router {
    router(Box::new(Fake::new(2, 3)), run, PORT, 4).unwrap()
}

async fn send(app: &Router, request: Request<Body>) -> Reply {
    let response = app.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, 64 << 20).await.unwrap().to_vec();
    Reply { status: parts.status, headers: parts.headers, body }
}

fn get(path: &str) -> Request<Body> {
    let host = format!("127.0.0.1:{PORT}");
    Request::get(path).header(header::HOST, host).body(Body::empty()).unwrap()
}

fn post(path: &str, body: &Value) -> Request<Body> {
    Request::post(path)
        .header(header::HOST, format!("localhost:{PORT}"))
        .header(header::ORIGIN, format!("http://localhost:{PORT}"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(body.to_string()))
        .unwrap()
}

fn wait<F: Future>(what: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(what)
}

fn prompt() -> Value {
    json!({ "text": "one two three four", "source": "" })
}

#[test]
fn the_page_and_all_its_files_are_served_and_small() {
    wait(async {
        let app = app(None);
        let mut total = 0;
        let mut paths = vec!["/".to_owned(), "/style.css".into()];
        paths.extend(page::VIEWS.iter().chain(page::LIVE).map(|(name, _)| format!("/{name}")));
        for path in paths {
            let reply = send(&app, get(&path)).await;
            assert_eq!(reply.status, StatusCode::OK, "{path}");
            total += reply.body.len();
            let policy = reply.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
            assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"));
            assert_eq!(reply.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
            let text = String::from_utf8(reply.body).unwrap();
            let outside = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!outside.contains("http://") && !outside.contains("https://"), "{path}");
            assert!(text.lines().count() < 400, "{path} is long");
        }
        assert!(total < 200_000, "the page is {total} bytes");
        assert_eq!(send(&app, get("/nothing.js")).await.status, StatusCode::NOT_FOUND);
        assert_eq!(send(&app, get("/../Cargo.toml")).await.status, StatusCode::NOT_FOUND);
    });
}

#[test]
fn other_hosts_and_other_origins_are_refused() {
    wait(async {
        let app = app(None);
        let with = |name, value: &str| {
            let mut request = get("/api/model");
            request.headers_mut().insert(name, value.parse().unwrap());
            request
        };
        for host in ["evil.example:4321", "127.0.0.1", "127.0.0.1:4322", "localhost.evil:4321", ""]
        {
            let reply = send(&app, with(header::HOST, host)).await;
            assert_eq!(reply.status, StatusCode::FORBIDDEN, "{host:?}");
            assert!(reply.headers.contains_key(header::CONTENT_SECURITY_POLICY));
        }
        for origin in
            ["http://evil.example", "null", "https://127.0.0.1:4321", "http://localhost:1"]
        {
            let reply = send(&app, with(header::ORIGIN, origin)).await;
            assert_eq!(reply.status, StatusCode::FORBIDDEN, "{origin}");
        }
        let mut bare = get("/");
        bare.headers_mut().remove(header::HOST);
        assert_eq!(send(&app, bare).await.status, StatusCode::FORBIDDEN);
        let own = with(header::ORIGIN, "http://127.0.0.1:4321");
        assert_eq!(send(&app, own).await.status, StatusCode::OK);
        let mut form = post("/api/tokens", &prompt());
        form.headers_mut().insert(header::CONTENT_TYPE, "text/plain".parse().unwrap());
        assert_eq!(send(&app, form).await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    });
}

#[test]
fn questions_are_answered() {
    wait(async {
        let app = app(None);
        let card = send(&app, get("/api/model")).await.json();
        assert_eq!(card["stacks"][0]["layers"], 2);
        let tokens = send(&app, post("/api/tokens", &prompt())).await.json();
        assert_eq!(tokens["text"].as_array().unwrap().len(), 4);
        assert_eq!(tokens["text"][1]["text"], " two");
        let ask = json!({ "prompt": prompt(), "from": 1, "count": 2 });
        let lens = send(&app, post("/api/lens", &ask)).await.json();
        assert_eq!(lens["depths"], json!(["embedding", "after block 0", "after block 1"]));
        assert_eq!(lens["cells"][2].as_array().unwrap().len(), 2);
        assert_eq!(lens["cells"][2][0].as_array().unwrap().len(), 10);
        let ask = json!({ "prompt": prompt(), "whose": { "position": 3, "layer": 1 } });
        let parts = send(&app, post("/api/attribution", &ask)).await.json();
        assert_eq!(parts["parts"].as_array().unwrap().len(), 5);
        assert_eq!(parts["heads"].as_array().unwrap().len(), 3);
        let edit = json!({ "site": "blocks.0.attn.hook_z", "head": 1, "how": "zero" });
        let ask = json!({ "prompt": prompt(), "edits": [edit], "position": 3 });
        let effect = send(&app, post("/api/effect", &ask)).await.json();
        assert!(effect["divergence"].as_f64().unwrap() > 0.0);
    });
}

#[test]
fn patterns_come_as_thumbnails_and_tiles() {
    wait(async {
        let app = app(None);
        let ask = json!({ "prompt": prompt(), "stack": "decoder", "layer": 1 });
        let reply = send(&app, post("/api/thumbs", &ask)).await;
        assert_eq!(reply.body.len(), 12 + 3 * 16);
        assert_eq!(reply.body[..12], [3, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0]);
        assert_eq!(reply.body[12], 255, "the first query sees only itself");
        assert_eq!(reply.body[13], 0, "and not the future");
        let at = json!({ "stack": "decoder", "layer": 0, "head": 2 });
        let piece = json!({ "level": 0, "row": 0, "column": 0 });
        let ask = json!({ "prompt": prompt(), "at": at, "piece": piece });
        let reply = send(&app, post("/api/tile", &ask)).await;
        assert_eq!(reply.body.len(), 8 + 4 * 16);
        let row: f32 = reply.body[8 + 4 * 12..]
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .sum();
        assert!((row - 1.0).abs() < 1e-5, "the last row shares out 1, not {row}");
    });
}

#[test]
fn bad_questions_get_reasons() {
    wait(async {
        let app = app(None);
        let p = prompt();
        let piece = |row| json!({ "level": 0, "row": row, "column": 0 });
        let at = |layer| json!({ "stack": "decoder", "layer": layer, "head": 0 });
        let bad = [
            ("/api/tokens", json!({})),
            ("/api/tokens", json!({ "text": "" })),
            ("/api/thumbs", json!({ "prompt": p, "stack": "x", "layer": 0 })),
            ("/api/thumbs", json!({ "prompt": p, "stack": "decoder", "layer": 9 })),
            ("/api/tile", json!({ "prompt": p, "at": at(0), "piece": piece(1) })),
            ("/api/tile", json!({ "prompt": p, "at": at(5), "piece": piece(0) })),
            ("/api/lens", json!({ "prompt": p, "from": 0, "count": 0 })),
            ("/api/lens", json!({ "prompt": p, "from": 3, "count": 9 })),
            ("/api/lens", json!({ "prompt": p, "from": usize::MAX, "count": 9 })),
            ("/api/attribution", json!({ "prompt": p, "whose": { "position": 4 } })),
            (
                "/api/effect",
                json!({ "prompt": p, "edits": [{ "site": "x", "how": "zero" }], "position": 0 }),
            ),
            ("/api/export", json!({ "view": "x", "title": "", "command": "", "data": 0 })),
        ];
        for (path, ask) in bad {
            let reply = send(&app, post(path, &ask)).await;
            assert_eq!(reply.fault(), (400, "input".into()), "{path} {ask}");
        }
        let reply = send(&app, get("/api/run")).await;
        assert_eq!(reply.fault(), (501, "missing".into()));
        let long = json!({ "text": "x ".repeat(200_000) });
        let reply = send(&app, post("/api/tokens", &long)).await;
        assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
    });
}

#[test]
fn an_export_is_saved_and_may_be_larger_than_a_question() {
    wait(async {
        let app = app(None);
        let data = json!({ "text": "y".repeat(1 << 20) });
        let ask = json!({ "view": "lens", "title": "t", "command": "c", "data": data });
        let reply = send(&app, post("/api/export", &ask)).await;
        assert_eq!(reply.status, StatusCode::OK);
        let how = reply.headers[header::CONTENT_DISPOSITION].to_str().unwrap();
        assert!(how.starts_with("attachment"));
        assert!(reply.body.len() > 1 << 20 && reply.body.starts_with(b"<!doctype html>"));
    });
}

#[test]
fn a_run_has_gauges_and_opens_only_its_own_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("metrics.jsonl"), "{\"step\":5,\"loss\":2.5}\n").unwrap();
    std::fs::create_dir(folder.path().join("step-00000005")).unwrap();
    wait(async {
        let app = app(Some(folder.path().into()));
        let run = send(&app, get("/api/run")).await.json();
        assert_eq!(run["series"][0]["points"], json!([[5.0, 2.5]]));
        let name = json!({ "name": "step-00000005" });
        let card = send(&app, post("/api/checkpoint", &name)).await.json();
        assert_eq!(card["checkpoint"], "step-00000005");
        for name in ["../step-00000005", "step-00000006", ""] {
            let reply = send(&app, post("/api/checkpoint", &json!({ "name": name }))).await;
            assert_eq!(reply.fault(), (400, "input".into()), "{name}");
        }
    });
}

/// Stands still at a barrier when asked for tokens, and falls over when asked for the lens.
struct Slow(Arc<Barrier>, Fake);

impl Inside for Slow {
    fn card(&self) -> Card {
        self.1.card()
    }
    fn tokens(&mut self, prompt: &Prompt) -> Answer<Tokens> {
        self.0.wait();
        self.0.wait();
        self.1.tokens(prompt)
    }
    fn pattern(&mut self, _: &Prompt, _: &HeadAt) -> Answer<Pattern> {
        Ok(Pattern { queries: 2, keys: 2, weights: vec![1.0] })
    }
    fn lens(&mut self, _: &Prompt, _: Range<usize>, _: usize) -> Answer<Lens> {
        panic!("on purpose");
    }
    fn attribution(&mut self, prompt: &Prompt, whose: &Whose) -> Answer<Attribution> {
        self.1.attribution(prompt, whose)
    }
    fn effect(&mut self, prompt: &Prompt, edits: &[Edit], position: usize) -> Answer<Effect> {
        self.1.effect(prompt, edits, position)
    }
    fn open(&mut self, checkpoint: &str) -> Answer<Card> {
        self.1.open(checkpoint)
    }
}

#[test]
fn a_full_queue_says_busy_and_a_failing_model_says_so() {
    let gate = Arc::new(Barrier::new(2));
    let slow = Slow(gate.clone(), Fake::new(1, 1));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let app = router(Box::new(slow), None, PORT, 1).unwrap();
        let ask = |path: &str, body: &Value| {
            let (app, request) = (app.clone(), post(path, body));
            tokio::spawn(async move { send(&app, request).await })
        };
        let first = ask("/api/tokens", &prompt());
        // The first is sent and taken, so that the second waits and the third finds no place.
        tokio::task::yield_now().await;
        gate.wait();
        let second =
            ask("/api/attribution", &json!({ "prompt": prompt(), "whose": { "position": 0 } }));
        tokio::task::yield_now().await;
        let third =
            ask("/api/attribution", &json!({ "prompt": prompt(), "whose": { "position": 0 } }));
        let third = third.await.unwrap();
        assert_eq!(third.fault(), (503, "busy".into()));
        assert_eq!(third.headers[header::RETRY_AFTER], "1");
        gate.wait();
        assert_eq!(first.await.unwrap().status, StatusCode::OK);
        assert_eq!(second.await.unwrap().status, StatusCode::OK);
        let window = json!({ "prompt": prompt(), "from": 0, "count": 1 });
        assert_eq!(ask("/api/lens", &window).await.unwrap().fault(), (500, "broken".into()));
        let at = json!({ "stack": "decoder", "layer": 0, "head": 0 });
        let piece = json!({ "level": 0, "row": 0, "column": 0 });
        let tile = json!({ "prompt": prompt(), "at": at, "piece": piece });
        assert_eq!(ask("/api/tile", &tile).await.unwrap().fault(), (500, "broken".into()));
        let whose = json!({ "prompt": prompt(), "whose": { "position": 0 } });
        let after = ask("/api/attribution", &whose).await.unwrap();
        assert_eq!(after.status, StatusCode::OK, "the thread goes on");
    });
}
