//! What chat templates expect of Python and of `transformers` around them.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter};
use std::fmt::Write as _;
use std::io;

/// Begins the message of an error that the template itself raised.
pub(super) const RAISED: &str = "raise_exception: ";

/// A day and a time, for `strftime_now`. The library reads no clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChatDate {
    /// Such as 2026.
    pub year: i64,
    /// From 1.
    pub month: u32,
    /// From 1.
    pub day: u32,
    /// Seconds since midnight.
    pub second: u32,
}

const DAY: i64 = 86_400;
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] =
    ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

impl ChatDate {
    /// From seconds since 1970 in UTC, or in another zone's time with its offset added.
    #[must_use]
    pub fn from_unix(seconds: i64) -> Self {
        let (days, second) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
        // Years that begin in March have their odd day last: 400 of them are 146,097 days.
        let days = days + 719_468;
        let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let shifted = (5 * day + 2) / 153;
        let month = (shifted + 2) % 12 + 1;
        Self {
            year: era * 400 + year + i64::from(month <= 2),
            month: month as u32,
            day: (day - (153 * shifted + 2) / 5 + 1) as u32,
            second: second as u32,
        }
    }

    /// Days since 1970.
    fn days(self) -> i64 {
        let year = self.year - i64::from(self.month <= 2);
        let shifted = (i64::from(self.month) + 9) % 12;
        let day = (153 * shifted + 2) / 5 + i64::from(self.day) - 1;
        let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
        era * 146_097 + year * 365 + year / 4 - year / 100 + day - 719_468
    }

    /// Python's `strftime`, as far as templates go.
    pub(super) fn strftime(self, form: &str) -> Result<String, Error> {
        let (hour, minute) = (self.second / 3600, self.second / 60 % 60);
        let month = MONTHS.get((self.month as usize).wrapping_sub(1)).copied().unwrap_or("?");
        let weekday = WEEKDAYS[self.days().rem_euclid(7) as usize];
        let mut text = String::new();
        let mut letters = form.chars();
        while let Some(c) = letters.next() {
            if c != '%' {
                text.push(c);
                continue;
            }
            let mut letter = letters.next();
            let bare = letter == Some('-');
            if bare {
                letter = letters.next();
            }
            let number = match letter {
                Some('d') => self.day,
                Some('m') => self.month,
                Some('y') => self.year.rem_euclid(100) as u32,
                Some('H') => hour,
                Some('I') => (hour + 11) % 12 + 1,
                Some('M') => minute,
                Some('S') => self.second % 60,
                other => {
                    text.push_str(&match other {
                        Some('Y') => self.year.to_string(),
                        Some('B') => month.to_owned(),
                        Some('b') => month.chars().take(3).collect(),
                        Some('A') => weekday.to_owned(),
                        Some('a') => weekday.chars().take(3).collect(),
                        Some('p') => if hour < 12 { "AM" } else { "PM" }.to_owned(),
                        Some('F') => self.strftime("%Y-%m-%d")?,
                        Some('T') => self.strftime("%H:%M:%S")?,
                        Some('%') => "%".to_owned(),
                        _ => return Err(fail(format!("strftime_now does not know {form:?}"))),
                    });
                    continue;
                }
            };
            let shown = if bare { write!(text, "{number}") } else { write!(text, "{number:02}") };
            shown.map_err(|_| fail("no room for the date".into()))?;
        }
        Ok(text)
    }
}

fn fail(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

/// Jinja as `transformers` sets it up.
pub(super) fn environment() -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_formatter(|out, _, value| {
        let shown = match value.kind() {
            ValueKind::Undefined => Ok(()),
            ValueKind::None => out.write_str("None"),
            ValueKind::Bool => out.write_str(if value.is_true() { "True" } else { "False" }),
            _ => write!(out, "{value}"),
        };
        shown.map_err(|_| Error::from(ErrorKind::WriteFailure))
    });
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(fail(format!("{RAISED}{message}")))
    });
    environment.add_filter("tojson", to_json);
    Ok(environment)
}

/// Python's `json.dumps` without escapes beyond ASCII, which is what templates were written with.
fn to_json(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let ascii: Option<bool> = options.get("ensure_ascii")?;
    if ascii == Some(true) {
        return Err(fail("tojson with ensure_ascii=true is not supported".into()));
    }
    options.assert_all_used()?;
    let mut text = vec![];
    let done = match indent {
        Some(indent) => {
            let blanks = " ".repeat(indent.min(64)).into_bytes();
            let form = PrettyFormatter::with_indent(&blanks);
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, form))
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, Spaced)),
    };
    done.map_err(|e| fail(e.to_string()))?;
    String::from_utf8(text).map_err(|e| fail(e.to_string()))
}

/// Python's separators: `, ` and `: `.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }
}

/// Writes the tags `generation` and `endgeneration`, which `transformers` adds to Jinja to mark
/// answers, as a condition that always holds: the blanks around them are treated alike.
pub(super) fn without_generation(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let tag = &rest[start..start + length];
        text.push_str(&rest[..start]);
        match tag[2..].trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+') {
            "generation" => text.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => text.push_str(&tag.replace("endgeneration", "endif")),
            _ => text.push_str(tag),
        }
        rest = &rest[start + length..];
    }
    text.push_str(rest);
    text
}
