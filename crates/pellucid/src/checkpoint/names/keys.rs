//! Reading keys of a JSON object, with every fault collected.

use crate::error::{Error, Kind, Result};
use crate::model::config::Config;
use serde_json::{Map, Value};

/// A JSON object and what was found wrong with it so far.
#[derive(Debug)]
pub(crate) struct Keys {
    map: Map<String, Value>,
    name: String,
    operation: &'static str,
    faults: Vec<String>,
}

impl Keys {
    pub(crate) fn parse(text: &str, name: &str, operation: &'static str) -> Result<Self> {
        match serde_json::from_str(text) {
            Ok(Value::Object(map)) => {
                Ok(Self { map, name: name.into(), operation, faults: vec![] })
            }
            Ok(_) => {
                let message = format!("{name}: JSON, but not an object");
                Err(Error::new(Kind::Format, operation, message))
            }
            Err(e) => {
                let message = format!("{name}: not JSON: {e}");
                Err(Error::new(Kind::Format, operation, message).source(e))
            }
        }
    }

    pub(crate) fn fault(&mut self, fault: impl Into<String>) {
        self.faults.push(fault.into());
    }

    /// All faults as one error.
    pub(crate) fn finish(&self, kind: Kind, hint: &str) -> Result<()> {
        if self.faults.is_empty() {
            return Ok(());
        }
        let count = self.faults.len();
        let message = format!("{}: {count} fault{}", self.name, if count == 1 { "" } else { "s" });
        let error = Error::new(kind, self.operation, message).hint(hint);
        Err(self.faults.iter().fold(error, |e, fault| e.fact(fault)))
    }

    /// Our own entry, if there.
    pub(crate) fn own(&self) -> Result<Option<Config>> {
        let Some(value) = self.get("pellucid") else { return Ok(None) };
        serde_json::from_value(value.clone()).map(Some).map_err(|e| {
            let message = format!("{}: the entry \"pellucid\" is wrong: {e}", self.name);
            Error::new(Kind::Format, self.operation, message)
                .hint("it was written by another version, or edited; compare with a fresh one")
                .source(e)
        })
    }

    /// A key's value; null is as good as none.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Whether a key is there and says that there is nothing.
    pub(crate) fn is_null(&self, key: &str) -> bool {
        self.map.get(key).is_some_and(Value::is_null)
    }

    pub(crate) fn size(&mut self, key: &str) -> usize {
        if !self.has(key) {
            self.fault(format!("{key} is missing"));
        }
        self.size_or(key, 1)
    }

    pub(crate) fn size_or(&mut self, key: &str, default: usize) -> usize {
        self.size_opt(key).unwrap_or(default)
    }

    pub(crate) fn size_opt(&mut self, key: &str) -> Option<usize> {
        let size = |v: &Value| v.as_u64().and_then(|n| usize::try_from(n).ok()).map(Some);
        self.take(key, None, "a whole number from 0 on", size)
    }

    pub(crate) fn float(&mut self, key: &str, default: f64) -> f64 {
        self.take(key, default, "a number", Value::as_f64)
    }

    pub(crate) fn flag(&mut self, key: &str, default: bool) -> bool {
        self.take(key, default, "true or false", Value::as_bool)
    }

    pub(crate) fn text(&mut self, key: &str, default: &str) -> String {
        self.take(key, default.into(), "text", |v| v.as_str().map(Into::into))
    }

    /// The first of `architectures`.
    pub(crate) fn architecture(&self, default: &str) -> String {
        let list = self.get("architectures").and_then(Value::as_array);
        let first = list.and_then(|list| list.first()).and_then(Value::as_str);
        first.unwrap_or(default).into()
    }

    /// Names of the labels, from `id2label`; without it there are two.
    pub(crate) fn labels(&mut self) -> Vec<String> {
        let Some(map) = self.get("id2label").and_then(Value::as_object) else {
            let count = self.size_or("num_labels", 2);
            return (0..count).map(|i| format!("LABEL_{i}")).collect();
        };
        let named = |i: usize| map.get(&i.to_string()).and_then(Value::as_str).map(str::to_owned);
        let names: Option<Vec<String>> = (0..map.len()).map(named).collect();
        names.unwrap_or_else(|| {
            self.fault("id2label does not name every id from 0 on");
            vec![]
        })
    }

    fn take<T>(
        &mut self,
        key: &str,
        default: T,
        rule: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> T {
        let Some(value) = self.get(key) else { return default };
        let Some(found) = read(value) else {
            let fault = format!("{key} = {}, but it must be {rule}", brief(value));
            self.fault(fault);
            return default;
        };
        found
    }

    /// One id or a list of them. A negative id means none, as older exporters wrote it.
    pub(crate) fn ids(&mut self, key: &str) -> Vec<u32> {
        let Some(value) = self.get(key) else { return vec![] };
        let one = std::slice::from_ref(value);
        let list = value.as_array().map_or(one, Vec::as_slice);
        let mut ids = Vec::with_capacity(list.len());
        for item in list {
            match item.as_i64() {
                Some(n) if n < 0 => {}
                Some(n) if u32::try_from(n).is_ok() => ids.push(n as u32),
                _ => {
                    let fault = format!("{key} = {}, but it must be token ids", brief(value));
                    self.fault(fault);
                    return vec![];
                }
            }
        }
        ids
    }

    /// The ids of a list of words that are one token each; longer ones are left out.
    pub(crate) fn single_words(&self, key: &str) -> Vec<u32> {
        let words = self.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let one = |word: &Value| match word.as_array().map(Vec::as_slice) {
            Some([id]) => id.as_u64().and_then(|id| u32::try_from(id).ok()),
            _ => None,
        };
        words.iter().filter_map(one).collect()
    }

    /// A switch that the library only knows in one position.
    pub(crate) fn only(&mut self, key: &str, default: bool, supported: bool) {
        if self.flag(key, default) != supported {
            self.fault(format!("{key} = {} is not supported", !supported));
        }
    }

    /// A key the library does not know at all.
    pub(crate) fn absent(&mut self, key: &str) {
        if let Some(value) = self.get(key) {
            self.fault(format!("{key} = {} is not supported", brief(value)));
        }
    }
}

fn brief(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() > 80 {
        text.chars().take(77).chain("...".chars()).collect()
    } else {
        text
    }
}
