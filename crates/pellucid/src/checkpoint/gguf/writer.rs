//! Keys and values to bytes.

use super::value::Value;

/// Keys written so far.
#[derive(Debug, Default)]
pub(super) struct Keys {
    pub(super) bytes: Vec<u8>,
    pub(super) count: u64,
}

/// A length, then the bytes.
pub(super) fn text(to: &mut Vec<u8>, text: &str) {
    to.extend((text.len() as u64).to_le_bytes());
    to.extend(text.as_bytes());
}

impl Keys {
    fn put(&mut self, key: &str, kind: u32, value: &[u8]) {
        text(&mut self.bytes, key);
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend(value);
        self.count += 1;
    }

    /// As 32 bits, which sizes of a valid config and token ids fit.
    pub(super) fn size(&mut self, key: &str, size: usize) {
        self.put(key, 4, &(size as u32).to_le_bytes());
    }

    pub(super) fn single(&mut self, key: &str, x: f32) {
        self.put(key, 6, &x.to_le_bytes());
    }

    pub(super) fn signed(&mut self, key: &str, n: i32) {
        self.put(key, 5, &n.to_le_bytes());
    }

    pub(super) fn flag(&mut self, key: &str, flag: bool) {
        self.put(key, 7, &[u8::from(flag)]);
    }

    pub(super) fn text(&mut self, key: &str, value: &str) {
        let mut bytes = vec![];
        text(&mut bytes, value);
        self.put(key, Value::TEXT, &bytes);
    }

    pub(super) fn texts<'t>(
        &mut self,
        key: &str,
        count: usize,
        list: impl Iterator<Item = &'t str>,
    ) {
        let mut bytes = array(Value::TEXT, count);
        list.for_each(|one| text(&mut bytes, one));
        self.put(key, Value::ARRAY, &bytes);
    }

    pub(super) fn signeds(&mut self, key: &str, list: &[i32]) {
        let mut bytes = array(5, list.len());
        bytes.extend(list.iter().flat_map(|n| n.to_le_bytes()));
        self.put(key, Value::ARRAY, &bytes);
    }

    pub(super) fn singles(&mut self, key: &str, list: &[f32]) {
        let mut bytes = array(6, list.len());
        bytes.extend(list.iter().flat_map(|x| x.to_le_bytes()));
        self.put(key, Value::ARRAY, &bytes);
    }
}

fn array(kind: u32, count: usize) -> Vec<u8> {
    let mut bytes = kind.to_le_bytes().to_vec();
    bytes.extend((count as u64).to_le_bytes());
    bytes
}
