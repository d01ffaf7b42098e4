//! One error for the whole library: the operation, what came, the rule, what to do next.

use std::fmt;
use std::path::Path;

/// A `Result` whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of thing went wrong, for programs that must choose what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A configuration that contradicts itself or the checkpoint.
    Config,
    /// Operands whose shapes or types do not fit together.
    Shape,
    /// A file or folder that could not be read or written.
    Io,
    /// Contents of a file that are not what the format promises.
    Format,
    /// Text or tokens that the model or the vocabulary cannot take.
    Input,
    /// NaN or infinity where a number was needed.
    Numeric,
    /// A gradient that is needed and that nothing computes.
    Gradient,
    /// The machine lacks memory, disk or a feature.
    Resource,
    /// Stopped on request.
    Interrupted,
}

/// An error that names the operation, the operands, the rule and the next action.
///
/// Printed as
/// ```text
/// attention: head width of k is 32, but q bound D = 64
///   q (B=2, H=8, T=16, D=64)
///   k (B=2, K=8, S=16, D=32)
/// hint: both come from config field "head_width"
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    operation: &'static str,
    message: String,
    facts: Vec<String>,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// `message` says what came and which rule it breaks, in one line.
    pub fn new(kind: Kind, operation: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self(Box::new(Inner { kind, operation, message, facts: vec![], hint: None, source: None }))
    }

    /// Adds a line about an operand or one more fault.
    #[must_use]
    pub fn fact(mut self, fact: impl Into<String>) -> Self {
        self.0.facts.push(fact.into());
        self
    }

    /// Says what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Keeps the error underneath.
    #[must_use]
    pub fn source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// An operating-system error about `path`.
    pub fn io(operation: &'static str, path: &Path, source: std::io::Error) -> Self {
        let message = format!("{}: {source}", path.display());
        let hint = match source.kind() {
            std::io::ErrorKind::NotFound => Some("check the path; nothing is there"),
            std::io::ErrorKind::PermissionDenied => Some("check the permissions of the path"),
            std::io::ErrorKind::StorageFull => Some("free some disk space; nothing was replaced"),
            std::io::ErrorKind::IsADirectory => Some("give a file, not a folder"),
            _ => None,
        };
        let error = Self::new(Kind::Io, operation, message).source(source);
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    /// What sort of error this is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// What came and which rule it breaks.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The room or operation that refused.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.operation, self.0.message)?;
        for fact in &self.0.facts {
            write!(f, "\n  {fact}")?;
        }
        if let Some(hint) = &self.0.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|s| s as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_names_operation_operands_rule_and_next_action() {
        let error =
            Error::new(Kind::Shape, "attention", "head width of k is 32, but q bound D = 64")
                .fact("q (B=2, H=8, T=16, D=64)")
                .hint("both come from config field \"head_width\"");
        assert_eq!(
            error.to_string(),
            "attention: head width of k is 32, but q bound D = 64\n  q (B=2, H=8, T=16, D=64)\nhint: both come from config field \"head_width\""
        );
    }
}
