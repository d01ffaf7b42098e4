//! Every environment variable of the library, documented, read once.
//!
//! | variable | values | meaning |
//! |---|---|---|
//! | `PELLUCID_THREADS` | 1, 2, … | workers of the global pool; unset: all cores this process may use |
//! | `PELLUCID_ISA` | `portable`, `avx2`, `avx512`, `amx`, `neon` | the most capable instruction set kernels may use |
//! | `HF_HOME` | a folder | holds the cache of models; unset: `huggingface` in `XDG_CACHE_HOME`, else in `.cache` at home |
//! | `HF_ENDPOINT` | an address | the server that models come from; unset: the Hugging Face Hub |
//! | `HF_TOKEN` | a word | for models that are not open to everybody |
//! | `HF_HUB_OFFLINE` | `1` or `0` | 1: models come from the cache only |
//! | `HTTPS_PROXY`, `ALL_PROXY` | an address | a proxy on the way to that server |

use std::fmt;
use std::path::PathBuf;
use std::sync::OnceLock;

use super::cpu::features::Isa;
use crate::error::{Error, Kind, Result};

/// The environment as the library understood it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `PELLUCID_THREADS`; `None`: all cores.
    pub threads: Option<usize>,
    /// `PELLUCID_ISA`; `None`: the best that the machine has.
    pub isa: Option<Isa>,
    /// Where models are fetched from and to.
    pub hub: HubSettings,
    /// Values that were ignored, each with its rule.
    pub faults: Vec<String>,
}

/// What the environment says of the Hugging Face Hub.
#[derive(Clone, PartialEq, Eq)]
pub struct HubSettings {
    /// `HF_HOME`; `None`: unset, and no home folder is known.
    pub home: Option<PathBuf>,
    /// `HF_ENDPOINT`.
    pub endpoint: String,
    /// `HF_TOKEN`.
    pub token: Option<String>,
    /// `HF_HUB_OFFLINE`.
    pub offline: bool,
    /// `HTTPS_PROXY`, else `ALL_PROXY`.
    pub proxy: Option<String>,
}

impl Default for HubSettings {
    fn default() -> Self {
        let endpoint = "https://huggingface.co".to_owned();
        Self { home: None, endpoint, token: None, offline: false, proxy: None }
    }
}

impl fmt::Debug for HubSettings {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubSettings")
            .field("home", &self.home)
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

impl HubSettings {
    /// From variables by name, and the home folder.
    fn parse(
        read: &dyn Fn(&str) -> Option<String>,
        home: Option<PathBuf>,
        faults: &mut Vec<String>,
    ) -> Self {
        let read = |name: &str| read(name).filter(|text| !text.trim().is_empty());
        let default = Self::default();
        let folder = |name: &str| read(name).map(PathBuf::from);
        let cache = folder("XDG_CACHE_HOME").or_else(|| home.map(|home| home.join(".cache")));
        let offline = match read("HF_HUB_OFFLINE").map(|v| v.trim().to_ascii_lowercase()).as_deref()
        {
            None | Some("0" | "off" | "no" | "false") => false,
            Some("1" | "on" | "yes" | "true") => true,
            Some(other) => {
                faults.push(format!("HF_HUB_OFFLINE={other}: 1 or 0"));
                false
            }
        };
        let trimmed = |name: &str| read(name).map(|text| text.trim().to_owned());
        let either = |name: &str| trimmed(name).or_else(|| trimmed(&name.to_ascii_lowercase()));
        Self {
            home: folder("HF_HOME").or_else(|| cache.map(|cache| cache.join("huggingface"))),
            endpoint: trimmed("HF_ENDPOINT")
                .map_or(default.endpoint, |e| e.trim_end_matches('/').to_owned()),
            token: trimmed("HF_TOKEN"),
            offline,
            proxy: either("HTTPS_PROXY").or_else(|| either("ALL_PROXY")),
        }
    }
}

impl Settings {
    /// The settings of this process, read at the first call.
    pub fn get() -> &'static Self {
        static SETTINGS: OnceLock<Settings> = OnceLock::new();
        SETTINGS.get_or_init(|| {
            let read =
                |name: &str| std::env::var_os(name).map(|v| v.to_string_lossy().into_owned());
            let mut settings =
                Self::parse(read("PELLUCID_THREADS").as_deref(), read("PELLUCID_ISA").as_deref());
            settings.hub = HubSettings::parse(&read, std::env::home_dir(), &mut settings.faults);
            settings
        })
    }

    /// # Errors
    /// [`Kind::Config`] when a variable was set to something that was ignored.
    pub fn check(&self) -> Result<()> {
        if self.faults.is_empty() {
            return Ok(());
        }
        let error = Error::new(Kind::Config, "settings", "an environment variable has no meaning");
        let error = self.faults.iter().fold(error, |error, fault| error.fact(fault.as_str()));
        Err(error.hint("unset it or give one of the listed values"))
    }

    fn parse(threads: Option<&str>, isa: Option<&str>) -> Self {
        let mut settings = Self::default();
        match threads.map(str::trim).filter(|t| !t.is_empty()) {
            None => {}
            Some(text) => match text.parse() {
                Ok(n) if (1..=1024).contains(&n) => settings.threads = Some(n),
                _ => {
                    settings.faults.push(format!("PELLUCID_THREADS={text}: a count from 1 to 1024"))
                }
            },
        }
        match isa.map(str::trim).filter(|t| !t.is_empty()) {
            None => {}
            Some(text) => match Isa::from_name(text) {
                Some(isa) => settings.isa = Some(isa),
                None => settings
                    .faults
                    .push(format!("PELLUCID_ISA={text}: portable, avx2, avx512, amx or neon")),
            },
        }
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unset_and_empty_mean_default() {
        assert_eq!(Settings::parse(None, None), Settings::default());
        assert_eq!(Settings::parse(Some(""), Some(" ")), Settings::default());
    }

    #[test]
    fn values_are_read_and_nonsense_is_named() {
        let settings = Settings::parse(Some("3"), Some("AVX2"));
        assert_eq!((settings.threads, settings.isa), (Some(3), Some(Isa::Avx2)));
        assert!(settings.check().is_ok());
        let settings = Settings::parse(Some("0"), Some("mmx"));
        assert_eq!((settings.threads, settings.isa), (None, None));
        let text = settings.check().expect_err("two faults").to_string();
        assert!(text.contains("PELLUCID_THREADS=0") && text.contains("PELLUCID_ISA=mmx"), "{text}");
    }

    #[test]
    fn the_hub_is_where_the_environment_says() {
        let parse = |pairs: &[(&str, &str)], home: Option<&str>| {
            let mut faults = vec![];
            let find = |name: &str| pairs.iter().find(|p| p.0 == name).map(|p| p.1.to_owned());
            (HubSettings::parse(&find, home.map(PathBuf::from), &mut faults), faults)
        };
        let (unset, faults) = parse(&[("HF_HOME", ""), ("HF_HUB_OFFLINE", "0")], Some("/home/a"));
        let home = Some(PathBuf::from("/home/a/.cache/huggingface"));
        assert_eq!(unset, HubSettings { home, ..HubSettings::default() });
        assert!(faults.is_empty() && unset.endpoint.starts_with("https://"));
        assert_eq!(parse(&[], None).0.home, None);
        let xdg = parse(&[("XDG_CACHE_HOME", "/b")], Some("/home/a")).0;
        assert_eq!(xdg.home, Some("/b/huggingface".into()));
        let pairs = [
            ("HF_HOME", "/c"),
            ("HF_ENDPOINT", "http://localhost:1/"),
            ("HF_TOKEN", "secret"),
            ("HF_HUB_OFFLINE", "Yes"),
            ("all_proxy", "http://p:2"),
        ];
        let (set, _) = parse(&pairs, Some("/home/a"));
        assert_eq!((set.home.as_deref(), set.offline), (Some("/c".as_ref()), true));
        assert_eq!(
            (&*set.endpoint, set.proxy.as_deref()),
            ("http://localhost:1", Some("http://p:2"))
        );
        assert_eq!(set.token.as_deref(), Some("secret"));
        assert!(!format!("{set:?}").contains("secret"), "a token is not for logs");
        let (_, faults) = parse(&[("HF_HUB_OFFLINE", "perhaps")], None);
        assert_eq!(faults, ["HF_HUB_OFFLINE=perhaps: 1 or 0"]);
    }
}
