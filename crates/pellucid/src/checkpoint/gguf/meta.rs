//! Reading keys, with every fault collected.

use super::container::{Container, refused};
use super::listed;
use super::value::Value;
use crate::error::Result;

/// The keys of a file, and what was found wrong with them so far.
#[derive(Debug)]
pub(super) struct Meta<'a> {
    file: &'a Container,
    /// What stands for `{arch}`.
    arch: &'static str,
    faults: Vec<String>,
}

impl<'a> Meta<'a> {
    pub(super) fn new(file: &'a Container, arch: &'static str) -> Self {
        Self { file, arch, faults: vec![] }
    }

    pub(super) fn architecture(&self) -> &'static str {
        self.arch
    }

    /// `key` with the architecture before it if it begins with a dot.
    fn name(&self, key: &str) -> String {
        if key.starts_with('.') { format!("{}{key}", self.arch) } else { key.into() }
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.file.values.get(&self.name(key))
    }

    pub(super) fn fault(&mut self, fault: impl Into<String>) {
        self.faults.push(fault.into());
    }

    /// All faults as one error.
    pub(super) fn finish(self) -> Result<()> {
        if self.faults.is_empty() {
            return Ok(());
        }
        let (count, plural) = (self.faults.len(), if self.faults.len() == 1 { "" } else { "s" });
        let error = refused(&self.file.path, format!("{count} fault{plural} in the keys"));
        Err(listed(error, &self.faults).hint("only what is listed stands in the way"))
    }

    fn take<T>(
        &mut self,
        key: &str,
        rule: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.get(key)?;
        let found = read(value);
        if found.is_none() {
            self.fault(format!("{} = {}, but it must be {rule}", self.name(key), value.brief()));
        }
        found
    }

    /// A size; also from an array that says the same for each block.
    pub(super) fn size_opt(&mut self, key: &str) -> Option<usize> {
        let one = |value: &Value| match value {
            Value::Whole(n) => usize::try_from(*n).ok(),
            _ => None,
        };
        let all = |value: &Value| {
            let mut each = value.numbers()?;
            let first = one(&each.next()?)?;
            each.all(|next| one(&next) == Some(first)).then_some(first)
        };
        self.take(key, "a whole number from 0 on, the same in all blocks", |v| {
            one(v).or_else(|| all(v))
        })
    }

    pub(super) fn size(&mut self, key: &str) -> usize {
        if self.get(key).is_none() {
            self.fault(format!("{} is missing", self.name(key)));
        }
        self.size_opt(key).unwrap_or(1)
    }

    pub(super) fn id(&mut self, key: &str) -> Option<u32> {
        self.take(key, "a token id", |value| match value {
            // -1 means none to some exporters, as the greatest number does.
            Value::Whole(-1 | 0xffff_ffff) => Some(None),
            Value::Whole(n) => u32::try_from(*n).ok().map(Some),
            _ => None,
        })?
    }

    pub(super) fn real(&mut self, key: &str) -> Option<f64> {
        self.take(key, "a number", |value| match value {
            Value::Real(x) => Some(*x),
            Value::Whole(n) => Some(*n as f64),
            _ => None,
        })
    }

    pub(super) fn flag(&mut self, key: &str) -> Option<bool> {
        self.take(key, "true or false", |value| match value {
            Value::Bool(b) => Some(*b),
            _ => None,
        })
    }

    pub(super) fn text(&mut self, key: &str) -> Option<&'a str> {
        if let Some(Value::Text(text)) = self.get(key) {
            return Some(text);
        }
        self.take(key, "text", |_| None::<()>);
        None
    }

    pub(super) fn texts(&mut self, key: &str) -> Option<&'a [String]> {
        if let Some(Value::Texts(texts)) = self.get(key) {
            return Some(texts);
        }
        self.take(key, "an array of texts", |_| None::<()>);
        None
    }

    /// An array of numbers.
    pub(super) fn reals(&mut self, key: &str) -> Option<Vec<f64>> {
        self.take(key, "an array of numbers", |value| {
            let real = |value: Value| match value {
                Value::Whole(n) => Some(n as f64),
                Value::Real(x) => Some(x),
                _ => None,
            };
            value.numbers()?.map(real).collect()
        })
    }

    /// A key that changes what is computed in a way that this library does not know.
    pub(super) fn absent(&mut self, key: &str, harmless: f64) {
        if let Some(value) = self.get(key) {
            let same = match value {
                Value::Whole(n) => *n as f64 == harmless,
                Value::Real(x) => *x == harmless,
                Value::Bool(b) => f64::from(u8::from(*b)) == harmless,
                _ => false,
            };
            if !same {
                self.fault(format!("{} = {} is not supported", self.name(key), value.brief()));
            }
        }
    }
}
