//! Every environment variable of the library, documented, read once.
//!
//! | variable | values | meaning |
//! |---|---|---|
//! | `PELLUCID_THREADS` | 1, 2, … | workers of the global pool; unset: all cores this process may use |
//! | `PELLUCID_ISA` | `portable`, `avx2`, `avx512`, `amx`, `neon` | the most capable instruction set kernels may use |

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
    /// Values that were ignored, each with its rule.
    pub faults: Vec<String>,
}

impl Settings {
    /// The settings of this process, read at the first call.
    pub fn get() -> &'static Self {
        static SETTINGS: OnceLock<Settings> = OnceLock::new();
        SETTINGS.get_or_init(|| {
            let read =
                |name: &str| std::env::var_os(name).map(|v| v.to_string_lossy().into_owned());
            Self::parse(read("PELLUCID_THREADS").as_deref(), read("PELLUCID_ISA").as_deref())
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
}
