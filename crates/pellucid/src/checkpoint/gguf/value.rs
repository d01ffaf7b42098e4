//! Values of keys.

/// A type of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    /// Unsigned, of this many bytes.
    Unsigned(u8),
    /// Signed.
    Signed(u8),
    /// f32.
    Single,
    /// f64.
    Double,
    /// One byte, 0 or 1.
    Bool,
}

impl Number {
    /// By its number in a file.
    pub(super) fn of(kind: u32) -> Option<Self> {
        Some(match kind {
            0 => Self::Unsigned(1),
            1 => Self::Signed(1),
            2 => Self::Unsigned(2),
            3 => Self::Signed(2),
            4 => Self::Unsigned(4),
            5 => Self::Signed(4),
            6 => Self::Single,
            7 => Self::Bool,
            10 => Self::Unsigned(8),
            11 => Self::Signed(8),
            12 => Self::Double,
            _ => return None,
        })
    }

    pub(super) fn bytes(self) -> u64 {
        match self {
            Self::Unsigned(bytes) | Self::Signed(bytes) => bytes.into(),
            Self::Single => 4,
            Self::Double => 8,
            Self::Bool => 1,
        }
    }

    /// One number; none if it is no bool.
    pub(super) fn value(self, bytes: &[u8]) -> Option<Value> {
        let mut wide = [0; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        let raw = u64::from_le_bytes(wide);
        Some(match self {
            Self::Unsigned(_) => Value::Whole(raw.into()),
            Self::Signed(bytes) => {
                let unused = 64 - 8 * u32::from(bytes);
                Value::Whole(((raw << unused) as i64 >> unused).into())
            }
            Self::Single => {
                let single = f32::from_bits(raw as u32);
                // 0.1 for an f32 next to it, not 0.10000000149011612.
                Value::Real(single.to_string().parse().unwrap_or(f64::from(single)))
            }
            Self::Double => Value::Real(f64::from_bits(raw)),
            Self::Bool if raw < 2 => Value::Bool(raw == 1),
            Self::Bool => return None,
        })
    }
}

/// What a key says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Whole(i128),
    Real(f64),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    /// Many numbers, as they lie in the file.
    Numbers(Number, Vec<u8>),
    /// Arrays of arrays, which no key of ours has.
    Nested,
}

impl Value {
    /// Numbers of the other two types in a file.
    pub(super) const TEXT: u32 = 8;
    pub(super) const ARRAY: u32 = 9;

    /// The numbers of an array.
    pub(super) fn numbers(&self) -> Option<impl Iterator<Item = Self>> {
        let Self::Numbers(number, bytes) = self else { return None };
        let each = bytes.chunks_exact(number.bytes() as usize);
        Some(each.map(|bytes| number.value(bytes).unwrap_or(Self::Nested)))
    }

    /// For messages.
    pub(super) fn brief(&self) -> String {
        match self {
            Self::Whole(n) => n.to_string(),
            Self::Real(x) => x.to_string(),
            Self::Bool(b) => b.to_string(),
            Self::Text(text) => {
                let mut short: String = text.chars().take(60).collect();
                if short.len() < text.len() {
                    short.push_str("...");
                }
                format!("{short:?}")
            }
            Self::Texts(list) => format!("an array of {} texts", list.len()),
            Self::Numbers(number, bytes) => {
                format!("an array of {} numbers", bytes.len() as u64 / number.bytes())
            }
            Self::Nested => "an array of arrays".into(),
        }
    }
}
