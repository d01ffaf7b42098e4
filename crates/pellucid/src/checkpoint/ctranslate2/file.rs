//! `model.bin`: named arrays. All integers are little-endian.
//!
//! | what | type |
//! |---|---|
//! | version of the layout, 1 to 6 | u32 |
//! | from version 2 on: name and revision of the specification | text, u32 |
//! | number of variables, then each: | u32 |
//! | name; rank; sizes | text, u8, u32 each |
//! | up to version 3: bytes of an element, elements | u8, u32 |
//! | from version 4 on: type, bytes of all | u8, u32 |
//! | the elements, row-major | |
//! | from version 3 on: number of aliases, then each: | u32 |
//! | alias, and the variable it is another name of | text, text |
//!
//! A text is a u16 length that counts a final zero byte, and its bytes. Nothing is allocated by what a count says: the
//! arrays stay where the file's bytes are until they are asked for.

use super::fault;
use crate::error::Result;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// The last layout that is known.
const LAST_VERSION: u32 = 6;
/// What 16-bit integers of files without scales are divided by.
const OLD_SCALE: f32 = 1000.0;

/// How elements are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    F32,
    I8,
    I16,
    I32,
    F16,
    Bf16,
}

impl Type {
    /// By the numbers of version 4 and later.
    const ALL: [Self; 6] = [Self::F32, Self::I8, Self::I16, Self::I32, Self::F16, Self::Bf16];

    fn bytes(self) -> usize {
        match self {
            Self::I8 => 1,
            Self::I16 | Self::F16 | Self::Bf16 => 2,
            Self::F32 | Self::I32 => 4,
        }
    }

    fn decode(self, bytes: &[u8]) -> Vec<f32> {
        let (two, four) = (|| bytes.as_chunks::<2>().0.iter(), || bytes.as_chunks::<4>().0.iter());
        match self {
            Self::F32 => four().map(|b| f32::from_le_bytes(*b)).collect(),
            Self::I32 => four().map(|b| i32::from_le_bytes(*b) as f32).collect(),
            Self::I8 => bytes.iter().map(|b| f32::from(b.cast_signed())).collect(),
            Self::I16 => two().map(|b| f32::from(i16::from_le_bytes(*b))).collect(),
            Self::F16 => two().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect(),
            Self::Bf16 => two().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect(),
        }
    }
}

/// An array of the file.
#[derive(Clone, Debug)]
pub(super) struct Variable<'a> {
    pub(super) shape: Vec<usize>,
    kind: Type,
    bytes: &'a [u8],
}

/// A whole file, and which of its variables were asked for.
#[derive(Debug)]
pub(super) struct ModelFile<'a> {
    /// Empty in version 1.
    pub(super) spec: String,
    pub(super) revision: u32,
    variables: BTreeMap<String, Variable<'a>>,
    used: RefCell<BTreeSet<String>>,
}

impl<'a> ModelFile<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self> {
        let mut cursor = Cursor { bytes, at: 0 };
        let version = cursor.u32("the version")?;
        if !(1..=LAST_VERSION).contains(&version) {
            return Err(fault(format!(
                "layout version {version}, but 1 to {LAST_VERSION} are known"
            ))
            .hint("it may not be a CTranslate2 model at all"));
        }
        let (spec, revision) = match version {
            1 => (String::new(), 1),
            _ => (cursor.text("the specification")?, cursor.u32("the revision")?),
        };
        let mut variables = BTreeMap::new();
        for i in 0..cursor.u32("the number of variables")? {
            let (name, variable) = cursor.variable(version, i)?;
            let name = if revision == 1 { modern(&name) } else { name };
            if variables.insert(name.clone(), variable).is_some() {
                return Err(fault(format!("two variables are named {name}")));
            }
        }
        if version >= 3 {
            for _ in 0..cursor.u32("the number of aliases")? {
                cursor.alias(&mut variables)?;
            }
        }
        match bytes.len() - cursor.at {
            0 => Ok(Self { spec, revision, variables, used: RefCell::default() }),
            left => {
                Err(fault(format!("{left} bytes follow what should be the end, {}", cursor.at))
                    .hint("it is damaged, or of a later version"))
            }
        }
    }

    /// The variable `name`, which is then known to be of use, as is its scale.
    pub(super) fn find(&self, name: &str) -> Option<&Variable<'a>> {
        let found = self.variables.get(name)?;
        self.used.borrow_mut().extend([name.to_owned(), format!("{name}_scale")]);
        Some(found)
    }

    /// Whether some variable's name begins so.
    pub(super) fn has(&self, beginning: &str) -> bool {
        let from = self.variables.range(beginning.to_owned()..).next();
        from.is_some_and(|(name, _)| name.starts_with(beginning))
    }

    /// A single number, if there.
    pub(super) fn number(&self, name: &str) -> Result<Option<f64>> {
        let Some(v) = self.find(name) else { return Ok(None) };
        match v.kind.decode(v.bytes)[..] {
            [x] => Ok(Some(f64::from(x))),
            _ => Err(fault(format!("{name} is of shape {:?}, but it is one number", v.shape))),
        }
    }

    /// Whether it is a switch and not a number.
    pub(super) fn is_flag(&self, name: &str) -> bool {
        self.find(name).is_some_and(|v| v.kind == Type::I8)
    }

    /// All elements as f32; integers are divided by their scale, which is one number or one of each row.
    pub(super) fn values(&self, name: &str) -> Result<Vec<f32>> {
        let v = self.find(name).ok_or_else(|| fault(format!("{name} is missing")))?;
        let mut values = v.kind.decode(v.bytes);
        let by_name = format!("{name}_scale");
        let scales = match (v.kind, self.variables.get(&by_name)) {
            (Type::F32 | Type::F16 | Type::Bf16, _) => return Ok(values),
            (Type::I16, None) => vec![OLD_SCALE],
            (_, None) => return Err(fault(format!("{by_name} is missing")).fact("whole numbers")),
            (_, Some(scale)) => scale.kind.decode(scale.bytes),
        };
        let rows = v.shape.first().copied().unwrap_or(1);
        if scales.len() != 1 && scales.len() != rows {
            return Err(fault(format!("{by_name} has {} numbers", scales.len()))
                .fact(format!("expected: 1, or {rows}, one for each row of {name}")));
        }
        let columns = (values.len() / scales.len().max(1)).max(1);
        for (row, scale) in values.chunks_mut(columns).zip(scales) {
            row.iter_mut().for_each(|x| *x /= scale);
        }
        Ok(values)
    }

    /// Names of variables that nobody asked for.
    pub(super) fn unused(&self) -> Vec<String> {
        let used = self.used.borrow();
        self.variables.keys().filter(|name| !used.contains(*name)).cloned().collect()
    }
}

/// A place in the file.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize, what: &str) -> Result<&'a [u8]> {
        let left = self.bytes.len() - self.at;
        if n > left {
            let message =
                format!("{what} needs {n} bytes at byte {}, but {left} are left", self.at);
            return Err(fault(message).hint("the file is truncated or damaged"));
        }
        self.at += n;
        Ok(&self.bytes[self.at - n..self.at])
    }

    fn u8(&mut self, what: &str) -> Result<u8> {
        Ok(self.take(1, what)?[0])
    }

    fn u32(&mut self, what: &str) -> Result<u32> {
        let b = self.take(4, what)?;
        Ok(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }

    fn text(&mut self, what: &str) -> Result<String> {
        let at = self.at;
        let b = self.take(2, what)?;
        let bytes = self.take(usize::from(u16::from_le_bytes([b[0], b[1]])), what)?;
        match bytes.split_last() {
            Some((0, text)) if !text.contains(&0) => std::str::from_utf8(text).ok(),
            _ => None,
        }
        .map(str::to_owned)
        .ok_or_else(|| {
            fault(format!("{what} at byte {at} is not UTF-8 with one zero byte at its end"))
                .hint("the file is damaged")
        })
    }

    fn variable(&mut self, version: u32, index: u32) -> Result<(String, Variable<'a>)> {
        let name = self.text(&format!("the name of variable {index}"))?;
        let rank = self.u8(&name)?;
        let mut shape = Vec::with_capacity(usize::from(rank));
        for _ in 0..rank {
            shape.push(self.u32(&name)? as usize);
        }
        let number = self.u8(&name)?;
        let count = self.u32(&name)? as usize;
        let kind = match (version, number) {
            (4.., _) => Type::ALL.get(usize::from(number)).copied(),
            (_, 4) => Some(Type::F32),
            (_, 2) => Some(Type::I16),
            (_, 1) => Some(Type::I8),
            _ => None,
        };
        let Some(kind) = kind else {
            let what = if version >= 4 { "type" } else { "elements of bytes:" };
            return Err(fault(format!("{name} has {what} {number}, which is not known")));
        };
        let size = shape.iter().try_fold(kind.bytes(), |n, &size| n.checked_mul(size));
        let told = if version >= 4 { Some(count) } else { count.checked_mul(kind.bytes()) };
        if size != told {
            let told = told.unwrap_or(usize::MAX);
            return Err(fault(format!("{name}: {told} bytes, but the shape is {shape:?}"))
                .fact(format!("of {} bytes an element", kind.bytes())));
        }
        let bytes = self.take(told.unwrap_or(usize::MAX), &name)?;
        Ok((name, Variable { shape, kind, bytes }))
    }

    fn alias(&mut self, variables: &mut BTreeMap<String, Variable<'a>>) -> Result<()> {
        let (alias, name) = (self.text("an alias")?, self.text("the name that an alias is of")?);
        let Some(found) = variables.get(&name).cloned() else {
            return Err(fault(format!("{alias} is an alias of {name}, which is missing")));
        };
        if let Some(scale) = variables.get(&format!("{name}_scale")).cloned() {
            variables.insert(format!("{alias}_scale"), scale);
        }
        match variables.insert(alias.clone(), found) {
            None => Ok(()),
            Some(_) => Err(fault(format!("two variables are named {alias}"))),
        }
    }
}

/// A name of the first revision, which took them from OpenNMT-tf, as later ones have it.
fn modern(name: &str) -> String {
    let own = if name.contains("encoder") { "multi_head" } else { "masked_multi_head" };
    [
        ("transformer/", ""),
        (":0", ""),
        ("w_embs", "embeddings/weight"),
        ("kernel", "weight"),
        ("LayerNorm", "layer_norm"),
        ("dense", "projection"),
        ("conv1d_", "linear_"),
        ("conv1d/", "linear_0/"),
        (own, "self_attention"),
        ("multi_head", "attention"),
    ]
    .iter()
    .fold(name.to_owned(), |name, (old, new)| name.replacen(old, new, 1))
}
