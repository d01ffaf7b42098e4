//! Who may ask. A page of another site may reach a port of this computer, even under a name that it made point here
//! (DNS rebinding); it cannot make the browser lie about Host and Origin.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

/// Nothing from elsewhere: scripts, styles and answers come from this address only.
pub(crate) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     connect-src 'self'; img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

const ALWAYS: &[(&str, &str)] = &[
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cache-control", "no-store"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
];

/// Lets a request through if it was meant for this port of this computer and comes from our own page.
pub(crate) async fn guard(State(port): State<u16>, request: Request, next: Next) -> Response {
    let refused = refuse(request.method(), request.headers(), port);
    let mut response = match refused {
        None => next.run(request).await,
        Some((status, why)) => {
            let mut response = Response::new(Body::from(format!("{why}\n")));
            *response.status_mut() = status;
            response
        }
    };
    for (name, value) in ALWAYS {
        response.headers_mut().insert(*name, HeaderValue::from_static(value));
    }
    response
}

fn refuse(method: &Method, headers: &HeaderMap, port: u16) -> Option<(StatusCode, &'static str)> {
    let text = |name| headers.get(name).map(|v| v.to_str().unwrap_or("?"));
    let ours = |host: &str| {
        ["127.0.0.1", "localhost"]
            .iter()
            .any(|name| host == format!("{name}:{port}") || (port == 80 && host == *name))
    };
    if headers.get_all(header::HOST).iter().count() != 1 || !text(header::HOST).is_some_and(ours) {
        return Some((StatusCode::FORBIDDEN, "the Host header names another server than this one"));
    }
    let origin = text(header::ORIGIN);
    if origin.is_some_and(|o| !o.strip_prefix("http://").is_some_and(ours)) {
        return Some((StatusCode::FORBIDDEN, "only pages of this server may ask it"));
    }
    let json = |t: &str| t.split(';').next().is_some_and(|t| t.trim() == "application/json");
    if method == Method::POST && !text(header::CONTENT_TYPE).is_some_and(json) {
        return Some((StatusCode::UNSUPPORTED_MEDIA_TYPE, "questions are application/json"));
    }
    None
}
