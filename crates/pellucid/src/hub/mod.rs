//! Models from the Hugging Face Hub, or from a server that speaks as it does, into the cache that Python's
//! `huggingface_hub` uses: what one has fetched the other finds.
//!
//! ```text
//! name, revision ─→ GET api/models/NAME/revision/REVISION ─→ commit; names, sizes, checksums of its files
//!   wanted files ─→ GET NAME/resolve/COMMIT/FILE ─→ blobs/CHECKSUM, once its bytes have that checksum
//!                                                   snapshots/COMMIT/FILE links there
//!                                                   refs/REVISION says COMMIT, once all files are there
//! ```
//!
//! Only weights in safetensors are fetched: pickled ones are programs. This room does not know what a model is.

mod cache;
mod choose;
mod client;
#[cfg(test)]
mod tests;

use self::cache::{Blob, Repository};
use self::client::Client;
use crate::backend::settings::Settings;
use crate::error::{Error, Kind, Result};
use std::fmt;
use std::path::PathBuf;

const HUB: &str = "hub";

/// Where models come from and go to.
#[derive(Clone, PartialEq, Eq)]
pub struct HubOptions {
    /// Address of the server, without the slash at the end.
    pub endpoint: String,
    /// The folder that holds a folder for each model.
    pub cache: PathBuf,
    /// Only the cache is asked.
    pub offline: bool,
    /// Who asks; needed for models that are not open to everybody. It goes to the endpoint only.
    pub token: Option<String>,
    /// Address of a proxy.
    pub proxy: Option<String>,
}

impl fmt::Debug for HubOptions {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubOptions")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("offline", &self.offline)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .finish_non_exhaustive()
    }
}

impl HubOptions {
    /// As the environment says: `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_OFFLINE`, `HF_TOKEN`.
    ///
    /// # Errors
    /// No home folder and no `HF_HOME`.
    pub fn from_settings(settings: &Settings) -> Result<Self> {
        let hub = &settings.hub;
        let Some(home) = &hub.home else {
            return Err(Error::new(Kind::Config, HUB, "no folder for the cache: there is no home")
                .hint("set HF_HOME to a folder"));
        };
        Ok(Self {
            endpoint: hub.endpoint.clone(),
            cache: home.join("hub"),
            offline: hub.offline,
            token: hub.token.clone(),
            proxy: hub.proxy.clone(),
        })
    }
}

/// What was fetched so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The file that is being fetched.
    pub file: &'a str,
    /// Its bytes that are here.
    pub done: u64,
    /// All its bytes.
    pub size: u64,
}

/// Fetches what this library reads of a model — config, tokenizer, chat template, weights — unless it is in the cache,
/// and returns the folder that holds it. `revision` is a branch, a tag or a commit.
///
/// # Errors
/// A name or a revision that the hub does not know or does not show; no network; bytes that are not those that were
/// promised; a model without a config or without weights in safetensors; offline, a model that is not whole in the
/// cache; the disk. What was fetched before an error is kept and not fetched again.
pub fn fetch(name: &str, revision: &str, options: &HubOptions) -> Result<PathBuf> {
    fetch_with(name, revision, options, &mut |_| Ok(()))
}

/// As [`fetch`]; `progress` hears of each piece, and ends all by an error.
///
/// # Errors
/// As [`fetch`], and those of `progress`.
pub fn fetch_with(
    name: &str,
    revision: &str,
    options: &HubOptions,
    progress: &mut dyn FnMut(Progress<'_>) -> Result<()>,
) -> Result<PathBuf> {
    choose::check_name(name)?;
    choose::check_revision(revision)?;
    let repository = Repository::new(&options.cache, name);
    let cached = repository.find(revision)?;
    if options.offline {
        return cached.ok_or_else(|| {
            let folder = repository.folder().display();
            Error::new(Kind::Io, HUB, format!("{name} at {revision} is not whole in the cache"))
                .fact(format!("looked in {folder}"))
                .hint("offline nothing is fetched; fetch it once with a network (HF_HUB_OFFLINE unset)")
        });
    }
    let client = Client::new(options)?;
    let listing = client.listing(name, revision).map_err(|error| match &cached {
        // Not in silence: what is there may be older.
        Some(_) if client::is_network(&error) => error
            .fact(format!("the cache has {name} at {revision}"))
            .hint("to use it as it is, set HF_HUB_OFFLINE=1"),
        _ => error,
    })?;
    let (first, weights) = choose::files(name, &listing)?;
    let mut get = |file: &Blob| {
        if !repository.holds(file)? {
            client.download(name, &listing.commit, file, &repository, progress)?;
        }
        repository.link(&listing.commit, file)
    };
    first.iter().try_for_each(&mut get)?;
    let shards = match weights {
        choose::Weights::Whole => vec![],
        choose::Weights::Index => {
            let index = repository.snapshot(&listing.commit).join(choose::INDEX);
            choose::shards(&index, &listing)?
        }
    };
    shards.iter().try_for_each(&mut get)?;
    repository.name(revision, &listing.commit)?;
    Ok(repository.snapshot(&listing.commit))
}
