//! What is asked of the server, and what its answers mean.

use super::cache::{Blob, Checksum, Repository, is_commit};
use super::{HUB, HubOptions, Progress};
use crate::error::{Error, Kind, Result};
use crate::files;
use ring::digest;
use serde_json::Value;
use std::io::{self, Read, Write};
use std::time::Duration;
use ureq::config::RedirectAuthHeaders;
use ureq::http::Response;
use ureq::{Agent, Body, Proxy};

/// Attempts to go on with a file when the connection breaks.
const ATTEMPTS: usize = 4;

/// A listing is at most so long.
const MOST_LISTING: u64 = 64 << 20;

/// A model at a commit.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) commit: String,
    pub(super) files: Vec<Listed>,
}

/// A file, as the server lists it.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) name: String,
    size: Option<u64>,
    checksum: Option<Checksum>,
}

impl Listing {
    fn parse(text: &str) -> Option<Self> {
        let json: Value = serde_json::from_str(text).ok()?;
        let files = json["siblings"].as_array()?.iter().map(Listed::parse);
        let commit = json["sha"].as_str().filter(|sha| is_commit(sha))?.to_owned();
        Some(Self { commit, files: files.collect::<Option<_>>()? })
    }

    /// What the bytes of a file must be.
    pub(super) fn blob(&self, name: &str) -> Result<Blob> {
        let fail = |what: &str| Error::new(Kind::Format, HUB, format!("{what} {name}"));
        let Some(file) = self.files.iter().find(|file| file.name == name) else {
            return Err(fail("the index names a file that the model lacks:")
                .hint("the model is damaged; tell its owner"));
        };
        match (file.size, file.checksum.clone()) {
            (Some(size), Some(checksum)) => Ok(Blob { name: name.to_owned(), size, checksum }),
            _ => Err(fail("the server does not say size and checksum of")
                .hint("is HF_ENDPOINT a hub? It must list files with blobs=true")),
        }
    }
}

impl Listed {
    fn parse(json: &Value) -> Option<Self> {
        let hex = |value: &Value, count: usize| {
            let digits = value.as_str()?;
            let right = digits.len() == count && digits.bytes().all(|b| b.is_ascii_hexdigit());
            right.then(|| digits.to_ascii_lowercase())
        };
        let checksum = match &json["lfs"] {
            Value::Null => hex(&json["blobId"], 40).map(Checksum::Git),
            large => hex(&large["sha256"], 64).map(Checksum::Sha256),
        };
        Some(Self {
            name: json["rfilename"].as_str()?.to_owned(),
            size: json["lfs"]["size"].as_u64().or_else(|| json["size"].as_u64()),
            checksum,
        })
    }
}

/// Asks one server.
#[derive(Debug)]
pub(super) struct Client {
    agent: Agent,
    endpoint: String,
    authorization: Option<String>,
}

/// Whether an error is that nobody answered.
pub(super) fn is_network(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<ureq::Error>())
}

impl Client {
    pub(super) fn new(options: &HubOptions) -> Result<Self> {
        let proxy = match &options.proxy {
            None => None,
            Some(address) => Some(Proxy::new(address).map_err(|e| {
                Error::new(Kind::Config, HUB, format!("{address:?} is no address of a proxy"))
                    .source(e)
                    .hint("correct HTTPS_PROXY, or unset it")
            })?),
        };
        let patience = Some(Duration::from_secs(60));
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // A file may lie on another server, which must not see the token.
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .proxy(proxy)
            .user_agent(concat!("pellucid/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(patience)
            .timeout_per_read(patience)
            .build();
        let endpoint = options.endpoint.trim_end_matches('/').to_owned();
        let authorization = options.token.as_ref().map(|token| format!("Bearer {token}"));
        Ok(Self { agent: config.new_agent(), endpoint, authorization })
    }

    /// An answer of any status; `from` is the first byte that is wanted.
    fn get(&self, path: &str, from: u64) -> Result<Response<Body>> {
        let url = format!("{}/{path}", self.endpoint);
        let mut request = self.agent.get(&url);
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        request.call().map_err(|e| {
            let hint = match &e {
                ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
                    "HF_ENDPOINT is an address such as https://example.org, HF_TOKEN a word"
                }
                _ => "check the network, HTTPS_PROXY and HF_ENDPOINT; what is in the cache is read offline: HF_HUB_OFFLINE=1",
            };
            Error::new(Kind::Io, HUB, format!("no answer from {}: {e}", self.endpoint))
                .source(e)
                .hint(hint)
        })
    }

    /// The files of a model at a revision.
    pub(super) fn listing(&self, name: &str, revision: &str) -> Result<Listing> {
        let escaped = revision.replace('/', "%2F").replace('+', "%2B");
        let path = format!("api/models/{name}/revision/{escaped}?blobs=true");
        let mut answer = self.get(&path, 0)?;
        self.check(&answer, name, &format!("revision {revision}"))?;
        let body = answer.body_mut().with_config().limit(MOST_LISTING).read_to_string();
        let text = body.map_err(|e| self.broken("the list of files", &e.to_string()))?;
        Listing::parse(&text).ok_or_else(|| {
            let message = format!("{} does not list the files of {name}", self.endpoint);
            Error::new(Kind::Format, HUB, message)
                .hint("is HF_ENDPOINT a hub, and no page that asks to log in?")
        })
    }

    /// Fetches a file's bytes into the cache, where they appear once they are the right ones.
    pub(super) fn download(
        &self,
        name: &str,
        commit: &str,
        file: &Blob,
        repository: &Repository,
        progress: &mut dyn FnMut(Progress<'_>) -> Result<()>,
    ) -> Result<()> {
        let path = format!("{name}/resolve/{commit}/{}", file.name);
        let mut sink = Sink::new(file);
        // The cause, beside what `replace` can say of it.
        let mut cause = None;
        let written = files::replace(HUB, &repository.blob(file), |w| {
            self.pour(name, &path, &mut sink, w, progress).map_err(|error| {
                cause = Some(error);
                io::Error::other("not fetched")
            })
        });
        cause.map_or(written, Err)
    }

    /// All bytes of a file into `to`; a connection that breaks is taken up again where it was.
    fn pour(
        &self,
        name: &str,
        path: &str,
        sink: &mut Sink<'_>,
        to: &mut dyn Write,
        progress: &mut dyn FnMut(Progress<'_>) -> Result<()>,
    ) -> Result<()> {
        let (file, mut left) = (sink.file, ATTEMPTS);
        loop {
            let answer = self.get(path, sink.done)?;
            self.check(&answer, name, &file.name)?;
            if sink.done > 0 && answer.status() != 206 {
                // It begins anew, but those bytes are written.
                return Err(self.broken(&file.name, &sink.count()));
            }
            let before = sink.done;
            let read = sink.read(answer.into_body().into_reader(), to, progress)?;
            if sink.done == file.size {
                return sink.judge();
            }
            left = if sink.done > before { left - 1 } else { 0 };
            if left == 0 {
                let why = read.map_or(sink.count(), |e| format!("{}: {e}", sink.count()));
                return Err(self.broken(&file.name, &why));
            }
        }
    }

    fn broken(&self, what: &str, why: &str) -> Error {
        Error::new(
            Kind::Io,
            HUB,
            format!("{what} did not come whole from {}: {why}", self.endpoint),
        )
        .hint("run it again; what came whole is kept")
    }

    /// Turns a status into an error.
    fn check(&self, answer: &Response<Body>, name: &str, what: &str) -> Result<()> {
        let status = answer.status().as_u16();
        if (200..300).contains(&status) {
            return Ok(());
        }
        let code = answer.headers().get("x-error-code").and_then(|c| c.to_str().ok()).unwrap_or("");
        let token = match self.authorization {
            None => "give a token of an account that may read it: HF_TOKEN",
            Some(_) => {
                "the token in HF_TOKEN is not of an account that may read it, or is no longer valid"
            }
        };
        let (message, hint) = match (status, code) {
            (_, "GatedRepo") => (
                format!("{name} is gated: its owner decides who may read it"),
                format!("ask for it on its page, then {token}"),
            ),
            (_, "RevisionNotFound") => (
                format!("{name} has no {what}"),
                "give a branch such as main, a tag, or a commit".into(),
            ),
            (401 | 403, _) => (
                format!("{name} is not shown: it is private, gated, or there is no such model"),
                format!("check the name, such as owner/name; {token}"),
            ),
            (404, "EntryNotFound") => (
                format!("{name} has no {what}, though it is listed"),
                "run it again: the model may be changing".into(),
            ),
            (404, _) => (
                format!("there is no model {name}, or no {what}"),
                "check the name, such as owner/name, and the revision".into(),
            ),
            (429, _) => (
                "the server was asked too often".to_owned(),
                "wait a while; with a token in HF_TOKEN more is allowed".into(),
            ),
            _ => (
                format!("{} cannot answer about {name}, {what}", self.endpoint),
                "try again later".into(),
            ),
        };
        let kind = if matches!(status, 401 | 403 | 404) { Kind::Input } else { Kind::Io };
        let error = Error::new(kind, HUB, message).hint(hint);
        Err(error.fact(format!("status {status} from {}", self.endpoint)))
    }
}

/// Takes the bytes of a file and judges them.
struct Sink<'f> {
    file: &'f Blob,
    done: u64,
    context: digest::Context,
}

impl<'f> Sink<'f> {
    fn new(file: &'f Blob) -> Self {
        let context = match file.checksum {
            Checksum::Sha256(_) => digest::Context::new(&digest::SHA256),
            Checksum::Git(_) => {
                let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
                context.update(format!("blob {}\0", file.size).as_bytes());
                context
            }
        };
        Self { file, done: 0, context }
    }

    fn count(&self) -> String {
        format!("{} of {} bytes came", self.done, self.file.size)
    }

    /// Reads to the end, but no more than is promised; an error in reading is returned as a value, since the rest may
    /// come by another connection.
    fn read(
        &mut self,
        mut from: impl Read,
        to: &mut dyn Write,
        progress: &mut dyn FnMut(Progress<'_>) -> Result<()>,
    ) -> Result<Option<io::Error>> {
        let Blob { name, size, .. } = self.file;
        let mut piece = vec![0; 256 << 10];
        loop {
            progress(Progress { file: name, done: self.done, size: *size })?;
            let count = match from.read(&mut piece) {
                Ok(0) => return Ok(None),
                Ok(count) => count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Ok(Some(e)),
            };
            if self.done + count as u64 > *size {
                let message = format!("{name} is longer than the {size} bytes that were promised");
                return Err(Error::new(Kind::Format, HUB, message).hint(WRONG));
            }
            self.context.update(&piece[..count]);
            self.done += count as u64;
            to.write_all(&piece[..count]).map_err(|e| {
                Error::new(Kind::Io, HUB, format!("{name} cannot be written to the cache: {e}"))
                    .source(e)
                    .hint("is the disk full? HF_HOME names another place")
            })?;
        }
    }

    fn judge(&self) -> Result<()> {
        let found = self.context.clone().finish();
        let found: String = found.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let promised = self.file.checksum.digits();
        if found == promised {
            return Ok(());
        }
        let message = format!("{} came with the wrong checksum", self.file.name);
        Err(Error::new(Kind::Format, HUB, message)
            .fact(format!("promised {promised}"))
            .fact(format!("came     {found}"))
            .hint(WRONG))
    }
}

const WRONG: &str =
    "run it again; if it stays so, something between here and the server changes files";
