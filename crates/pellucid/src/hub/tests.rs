//! A hub of one model on this machine: what is asked, what is answered, what the cache then holds.

use super::*;
use ring::digest;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the server does wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Fault {
    #[default]
    None,
    /// Closes the connection half-way, and never says more than that half.
    Truncates,
    /// Closes it half-way, but goes on from where it is asked to.
    Breaks,
    /// Changes a byte.
    Corrupts,
    /// Sends more than was promised.
    Lengthens,
    /// Files are for those with a token.
    Gated,
    /// Nothing is shown without a token.
    Private,
    /// Answers with a page for people.
    Portal,
    /// Large files lie on another server, at this port.
    Elsewhere(u16),
}

struct Server {
    address: String,
    /// Paths that were asked for.
    asked: Arc<Mutex<Vec<String>>>,
}

fn hex(algorithm: &'static digest::Algorithm, bytes: &[u8]) -> String {
    digest::digest(algorithm, bytes).as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// A file as the hub lists it; `.safetensors` are large files to it.
fn listed(name: &str, bytes: &[u8]) -> serde_json::Value {
    let git = |bytes: &[u8]| {
        let whole = [format!("blob {}\0", bytes.len()).as_bytes(), bytes].concat();
        hex(&digest::SHA1_FOR_LEGACY_USE_ONLY, &whole)
    };
    let (size, id) = (bytes.len(), git(bytes));
    match name.ends_with(".safetensors") {
        false => json!({"rfilename": name, "size": size, "blobId": id}),
        true => {
            let sha = hex(&digest::SHA256, bytes);
            let lfs = json!({"sha256": sha, "size": size, "pointerSize": 130});
            json!({"rfilename": name, "size": size, "blobId": git(b"a pointer"), "lfs": lfs})
        }
    }
}

impl Server {
    fn start(files: &[(&str, &[u8])], fault: Fault) -> Self {
        let files: BTreeMap<String, Vec<u8>> =
            files.iter().map(|(name, bytes)| ((*name).into(), bytes.to_vec())).collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(vec![]));
        let log = asked.clone();
        // It ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = answer(&mut stream.unwrap(), &files, fault, &log);
            }
        });
        Self { address, asked }
    }

    fn options(&self, cache: &Path) -> HubOptions {
        HubOptions {
            endpoint: self.address.clone(),
            cache: cache.into(),
            offline: false,
            token: None,
            proxy: None,
        }
    }

    /// Paths since this was last called.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

/// One request, one answer, one connection.
fn answer(
    stream: &mut TcpStream,
    files: &BTreeMap<String, Vec<u8>>,
    fault: Fault,
    log: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let path = lines.next().unwrap()?.split(' ').nth(1).unwrap().to_owned();
    let headers: Vec<String> =
        lines.map_while(|l| l.ok().filter(|l| !l.is_empty())).map(|l| l.to_lowercase()).collect();
    log.lock().unwrap().push(path.clone());
    let header = |name: &str| headers.iter().find_map(|h| h.strip_prefix(name));
    let from = header("range: bytes=").map_or(0, |r| r.trim_end_matches('-').parse().unwrap());
    let known = header("authorization: bearer ").is_some_and(|token| token == "secret");
    let mut say = |status: &str, code: &str, length: usize, body: &[u8]| {
        stream.write_all(&[&*head(status, code, length), body].concat())
    };
    // The code's place is the head's last: what follows it here is one more line.
    let go = |to: String| format!("\r\nlocation: {to}");
    if path.contains("old/name") {
        let there = go(path.replace("old/name", "someone/tiny"));
        return say("307 Temporary Redirect", &there, 0, b"");
    }
    if let Fault::Elsewhere(port) = fault
        && path.ends_with(".safetensors")
    {
        return say("302 Found", &go(format!("http://localhost:{port}/bytes")), 0, b"");
    }
    let mut no = |status: &str, code: &str| say(status, code, 2, b"no");
    if fault == Fault::Private && !known {
        return no("401 Unauthorized", "RepoNotFound");
    }
    if let Some(rest) = path.strip_prefix("/api/models/someone/tiny/revision/") {
        if fault == Fault::Portal {
            return say("200 OK", "", 9, b"<html>hi!");
        }
        if !["main", COMMIT, "refs%2Fpr%2F1"].contains(&rest.trim_end_matches("?blobs=true")) {
            return no("404 Not Found", "RevisionNotFound");
        }
        let all: Vec<_> = files.iter().map(|(name, bytes)| listed(name, bytes)).collect();
        let body = json!({"sha": COMMIT, "siblings": all}).to_string();
        return say("200 OK", "", body.len(), body.as_bytes());
    }
    let Some(name) = path.strip_prefix(&format!("/someone/tiny/resolve/{COMMIT}/")) else {
        return no("404 Not Found", "RepoNotFound");
    };
    if fault == Fault::Gated && !known {
        return no("403 Forbidden", "GatedRepo");
    }
    let body = &files[name];
    let status = ["200 OK", "206 Partial Content"][usize::from(from > 0)];
    match fault {
        _ if !name.ends_with(".safetensors") => say(status, "", body.len() - from, &body[from..]),
        Fault::Truncates => say("200 OK", "", body.len(), &body[..body.len() / 2]),
        Fault::Breaks if from == 0 => say("200 OK", "", body.len(), &body[..body.len() / 2]),
        _ => say(status, "", harmed(body, fault).len() - from, &harmed(body, fault)[from..]),
    }
}

fn head(status: &str, code: &str, length: usize) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nx-error-code: {code}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n")
        .into_bytes()
}

fn harmed(body: &[u8], fault: Fault) -> Vec<u8> {
    let mut body = body.to_vec();
    match fault {
        Fault::Corrupts => body[3] ^= 1,
        Fault::Lengthens => body.push(0),
        _ => {}
    }
    body
}

const PLAIN: [(&str, &[u8]); 5] = [
    ("config.json", b"{}"),
    ("tokenizer.json", b"{\"model\": {}}"),
    ("vocab.txt", b"not needed beside tokenizer.json"),
    ("README.md", b"not needed"),
    ("model.safetensors", b"0123456789 weights"),
];

fn no(server: &Server, name: &str, revision: &str, cache: &Path) -> String {
    fetch(name, revision, &server.options(cache)).unwrap_err().to_string()
}

#[test]
fn a_model_is_fetched_once_and_read_offline() {
    let (server, cache) = (Server::start(&PLAIN, Fault::None), tempfile::tempdir().unwrap());
    let mut options = server.options(cache.path());
    let mut heard = vec![];
    let folder = fetch_with("someone/tiny", "main", &options, &mut |p| {
        heard.push((p.file.to_owned(), p.done, p.size));
        Ok(())
    })
    .unwrap();
    assert_eq!(folder, cache.path().join("models--someone--tiny/snapshots").join(COMMIT));
    for (name, bytes) in PLAIN {
        let wanted = !["vocab.txt", "README.md"].contains(&name);
        assert_eq!(fs::read(folder.join(name)).ok(), wanted.then(|| bytes.to_vec()), "{name}");
    }
    assert_eq!(server.asked().len(), 4, "a listing and three files");
    assert!(heard.contains(&("model.safetensors".into(), 18, 18)), "{heard:?}");
    // The layout of others: the checksum names the bytes, the branch its commit.
    let model = cache.path().join("models--someone--tiny");
    let blob = model.join("blobs").join(hex(&digest::SHA256, PLAIN[4].1));
    assert_eq!(fs::read(&blob).unwrap(), PLAIN[4].1);
    assert_eq!(fs::read_to_string(model.join("refs/main")).unwrap(), COMMIT);
    #[cfg(unix)]
    {
        let link = fs::read_link(folder.join("model.safetensors")).unwrap();
        assert!(
            link.is_relative()
                && folder.join(link).canonicalize().unwrap() == blob.canonicalize().unwrap()
        );
    }
    assert_eq!(fetch("someone/tiny", "main", &options).unwrap(), folder);
    assert_eq!(server.asked().len(), 1, "the listing only");
    options.offline = true;
    for revision in ["main", COMMIT] {
        assert_eq!(fetch("someone/tiny", revision, &options).unwrap(), folder);
    }
    assert!(server.asked().is_empty());
    let unknown = fetch("someone/tiny", "refs/pr/1", &options).unwrap_err().to_string();
    assert!(
        unknown.contains("not whole in the cache") && unknown.contains("HF_HUB_OFFLINE"),
        "{unknown}"
    );
    options.offline = false;
    assert_eq!(fetch("someone/tiny", "refs/pr/1", &options).unwrap(), folder);
    options.offline = true;
    assert_eq!(fetch("someone/tiny", "refs/pr/1", &options).unwrap(), folder);
    // Bytes that went away are missed.
    fs::remove_file(&blob).unwrap();
    fetch("someone/tiny", "main", &options).unwrap_err();
    options.offline = false;
    server.asked();
    fetch("someone/tiny", "main", &options).unwrap();
    assert_eq!(server.asked().len(), 2, "the listing and what is missing");
}

#[test]
fn shards_are_fetched_as_the_index_says() {
    let index = br#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}}"#;
    let files: [(&str, &[u8]); 6] = [
        ("config.json", b"{}"),
        ("model.safetensors.index.json", index),
        ("model-1.safetensors", b"one"),
        ("model-2.safetensors", b"two"),
        ("model-3.safetensors", b"not in the index"),
        ("1_Pooling/config.json", b"{\"a\": 1}"),
    ];
    let (server, cache) = (Server::start(&files, Fault::None), tempfile::tempdir().unwrap());
    let mut options = server.options(cache.path());
    let folder = fetch("someone/tiny", "main", &options).unwrap();
    for (name, bytes) in files {
        let wanted = name != "model-3.safetensors";
        assert_eq!(fs::read(folder.join(name)).ok(), wanted.then(|| bytes.to_vec()), "{name}");
    }
    options.offline = true;
    assert_eq!(fetch("someone/tiny", "main", &options).unwrap(), folder);
    fs::remove_file(folder.join("model-2.safetensors")).unwrap();
    fetch("someone/tiny", "main", &options).unwrap_err();
    for (index, part) in [
        (&br#"{"weight_map": {"a": "../x.safetensors"}}"#[..], "beside it"),
        (br#"{"weight_map": {"a": "lost.safetensors"}}"#, "lost.safetensors"),
        (b"[]", "weight_map"),
    ] {
        let files: [(&str, &[u8]); 2] = [files[0], (files[1].0, index)];
        let (server, cache) = (Server::start(&files, Fault::None), tempfile::tempdir().unwrap());
        let said = no(&server, "someone/tiny", "main", cache.path());
        assert!(said.contains(part) && said.contains("damaged"), "{said}");
    }
}

#[test]
fn bytes_that_are_not_those_that_were_promised_never_reach_the_cache() {
    for (fault, part) in [
        (Fault::Truncates, "9 of 18 bytes"),
        (Fault::Corrupts, "wrong checksum"),
        (Fault::Lengthens, "longer than the 18 bytes"),
    ] {
        let (server, cache) = (Server::start(&PLAIN, fault), tempfile::tempdir().unwrap());
        let said = no(&server, "someone/tiny", "main", cache.path());
        assert!(said.contains(part) && said.contains("run it again"), "{fault:?}: {said}");
        let model = cache.path().join("models--someone--tiny");
        let blobs = fs::read_dir(model.join("blobs")).unwrap();
        let names: Vec<_> = blobs.map(|b| b.unwrap().file_name().into_string().unwrap()).collect();
        assert!(names.len() == 2 && names.iter().all(|n| n.len() == 40), "{fault:?}: {names:?}");
        assert!(!model.join("refs").exists());
        let offline = HubOptions { offline: true, ..server.options(cache.path()) };
        fetch("someone/tiny", "main", &offline).unwrap_err();
    }
}

#[test]
fn a_connection_that_breaks_is_taken_up_again() {
    let (server, cache) = (Server::start(&PLAIN, Fault::Breaks), tempfile::tempdir().unwrap());
    let folder = fetch("someone/tiny", "main", &server.options(cache.path())).unwrap();
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), PLAIN[4].1);
    assert_eq!(server.asked().len(), 5, "the weights in two parts");
}

#[test]
fn what_is_unknown_or_closed_is_said_with_what_to_do() {
    let cache = tempfile::tempdir().unwrap();
    let open = Server::start(&PLAIN, Fault::None);
    let cases = [
        ("someone/else", "main", "no model someone/else"),
        ("someone/tiny", "v9", "no revision v9"),
        ("../etc", "main", "no name of a model"),
        ("a/b/c", "main", "no name of a model"),
        ("someone/tiny", "../../x", "no revision"),
    ];
    for (name, revision, part) in cases {
        let said = no(&open, name, revision, cache.path());
        assert!(said.contains(part) && said.contains("hint: "), "{name} {revision}: {said}");
    }
    for (fault, part) in [(Fault::Gated, "is gated"), (Fault::Private, "it is private")] {
        let server = Server::start(&PLAIN, fault);
        let said = no(&server, "someone/tiny", "main", cache.path());
        assert!(said.contains(part) && said.contains("HF_TOKEN"), "{fault:?}: {said}");
        let mut options = server.options(cache.path());
        options.token = Some("stale1".into());
        let said = fetch("someone/tiny", "main", &options).unwrap_err().to_string();
        assert!(said.contains("no longer valid") && !said.contains("stale1"), "{fault:?}: {said}");
        let own = tempfile::tempdir().unwrap();
        options = HubOptions { token: Some("secret".into()), cache: own.path().into(), ..options };
        fetch("someone/tiny", "main", &options).unwrap();
        assert!(!format!("{options:?}").contains("secret"));
    }
    let portal = no(&Server::start(&PLAIN, Fault::Portal), "someone/tiny", "main", cache.path());
    assert!(portal.contains("does not list") && portal.contains("log in"), "{portal}");
    for (files, part) in [
        (&[("config.json", &b"{}"[..]), ("pytorch_model.bin", b"\x80")][..], "pickled"),
        (&[("config.json", b"{}")], "no weights"),
        (&[("model.safetensors", b"x")], "no config.json"),
    ] {
        let said = no(&Server::start(files, Fault::None), "someone/tiny", "main", cache.path());
        assert!(said.contains(part) && said.contains("hint: "), "{said}");
    }
}

#[test]
fn without_a_network_the_cache_is_offered() {
    let (server, cache) = (Server::start(&PLAIN, Fault::None), tempfile::tempdir().unwrap());
    let mut options = server.options(cache.path());
    let folder = fetch("someone/tiny", "main", &options).unwrap();
    // A port that was free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    options.endpoint = format!("http://{free}");
    let said = fetch("someone/tiny", "main", &options).unwrap_err().to_string();
    assert!(said.contains("no answer") && said.contains("set HF_HUB_OFFLINE=1"), "{said}");
    let said = fetch("someone/other", "main", &options).unwrap_err().to_string();
    assert!(said.contains("check the network"), "{said}");
    options.offline = true;
    assert_eq!(fetch("someone/tiny", "main", &options).unwrap(), folder);
}

#[test]
fn a_receiver_that_has_had_enough_ends_it() {
    let (server, cache) = (Server::start(&PLAIN, Fault::None), tempfile::tempdir().unwrap());
    let mut stop = |_: Progress<'_>| Err(Error::new(Kind::Interrupted, "test", "enough"));
    let said = fetch_with("someone/tiny", "main", &server.options(cache.path()), &mut stop);
    assert_eq!(said.unwrap_err().kind(), Kind::Interrupted);
}

#[test]
fn a_token_goes_with_a_model_that_moved_but_not_to_another_server() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(&PLAIN, Fault::Private);
    let mut options = server.options(cache.path());
    options.token = Some("secret".into());
    let folder = fetch("old/name", "main", &options).unwrap();
    assert!(folder.join("model.safetensors").is_file());
    assert_eq!(server.asked().len(), 8, "each of four asked at the old name and at the new");
    let other = TcpListener::bind("localhost:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let told = std::thread::spawn(move || {
        let (mut stream, _) = other.accept().unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let lines: Vec<String> = lines.map_while(|l| l.ok().filter(|l| !l.is_empty())).collect();
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 18\r\nconnection: close\r\n\r\n";
        stream.write_all(&[head.as_bytes(), PLAIN[4].1].concat()).unwrap();
        lines
    });
    let server = Server::start(&PLAIN, Fault::Elsewhere(port));
    let options = HubOptions { endpoint: server.address.clone(), ..options };
    fetch("someone/tiny", "main", &options).unwrap();
    let told = told.join().unwrap();
    assert!(
        told[0].starts_with("GET /bytes") && told.iter().all(|l| !l.contains("secret")),
        "{told:?}"
    );
}
