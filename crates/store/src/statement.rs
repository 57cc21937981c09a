//! Decides how SQL is kept: one named file each, included at compile time, prepared once per connection.

use std::borrow::Cow;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A statement and its name. Declared as a static through `statement!` or `sealed_statement!`.
#[derive(Debug)]
pub struct Statement {
    name: &'static str,
    text: &'static str,
    seal: Option<&'static str>,
    writes: bool,
    slot: OnceLock<usize>,
    for_sqlite: OnceLock<Cow<'static, str>>,
}

static NEXT_SLOT: AtomicUsize = AtomicUsize::new(0);

impl Statement {
    #[doc(hidden)]
    pub const fn new(name: &'static str, text: &'static str, seal: Option<&'static str>) -> Self {
        Statement {
            name,
            text,
            seal,
            writes: writes(text),
            slot: OnceLock::new(),
            for_sqlite: OnceLock::new(),
        }
    }

    /// The path under `queries/`, without `.sql`.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The text as it stands in the file, in the form PostgreSQL reads.
    pub const fn text(&self) -> &'static str {
        self.text
    }

    /// Whether the text changes rows. Told by its first word, and checked against SQLite's own opinion
    /// when it is prepared there.
    pub const fn writes(&self) -> bool {
        self.writes
    }

    /// The table whose rows this statement seals or checks.
    pub(crate) const fn seal(&self) -> Option<&'static str> {
        self.seal
    }

    /// Where each connection keeps this statement prepared.
    pub(crate) fn slot(&self) -> usize {
        *self.slot.get_or_init(|| NEXT_SLOT.fetch_add(1, Ordering::Relaxed))
    }

    /// The text with `?N` for `$N`: SQLite would number `$2` by its first appearance, not by its digits.
    pub(crate) fn for_sqlite(&self) -> &str {
        self.for_sqlite.get_or_init(|| number_by_digits(self.text))
    }
}

/// Whether the first word, after comments, is one that changes rows. A `WITH` counts as reading: the
/// common subset of both engines has no need to write under one.
const fn writes(text: &str) -> bool {
    let rest = skip_blank(text.as_bytes());
    starts(rest, b"INSERT") || starts(rest, b"UPDATE") || starts(rest, b"DELETE")
}

const fn skip_blank(mut rest: &[u8]) -> &[u8] {
    loop {
        match rest {
            [b' ' | b'\t' | b'\r' | b'\n', tail @ ..] => rest = tail,
            [b'-', b'-', tail @ ..] => rest = skip_line(tail),
            _ => return rest,
        }
    }
}

const fn skip_line(mut rest: &[u8]) -> &[u8] {
    loop {
        match rest {
            [] | [b'\n', ..] => return rest,
            [_, tail @ ..] => rest = tail,
        }
    }
}

const fn starts(text: &[u8], word: &[u8]) -> bool {
    if text.len() < word.len() {
        return false;
    }
    let mut at = 0;
    while at < word.len() {
        if text[at].to_ascii_uppercase() != word[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// Rewrites parameters outside of quoted texts and comments.
pub(crate) fn number_by_digits(text: &str) -> Cow<'_, str> {
    if !text.contains('$') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut quote: Option<char> = None;
    let mut comment = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' => comment = false,
            '-' if quote.is_none() && chars.peek() == Some(&'-') => comment = true,
            '\'' | '"' if !comment && quote.is_none() => quote = Some(c),
            '\'' | '"' if !comment && quote == Some(c) => quote = None,
            _ => {}
        }
        let parameter =
            c == '$' && quote.is_none() && !comment && chars.peek().is_some_and(char::is_ascii_digit);
        out.push(if parameter { '?' } else { c });
    }
    Cow::Owned(out)
}

/// A statement from `queries/<name>.sql`.
#[macro_export]
macro_rules! statement {
    ($name:literal) => {
        $crate::Statement::new(
            $name,
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/queries/", $name, ".sql")),
            None,
        )
    };
}

/// A statement from `queries/<name>.sql` whose rows carry a seal: writing adds the seal as one more
/// parameter after the given ones, reading checks the columns that stand before the column `seal`.
#[macro_export]
macro_rules! sealed_statement {
    ($name:literal, $table:literal) => {
        $crate::Statement::new(
            $name,
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/queries/", $name, ".sql")),
            Some($table),
        )
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_numbered_by_their_digits() {
        assert_eq!(number_by_digits("SELECT $2, $1"), "SELECT ?2, ?1");
    }

    #[test]
    fn quoted_texts_and_comments_stay_as_they_are() {
        let text = "-- costs $1, isn't it\nSELECT '$1', \"a$2\", $3 - 1 -- '$4\n, $10";
        assert_eq!(
            number_by_digits(text),
            "-- costs $1, isn't it\nSELECT '$1', \"a$2\", ?3 - 1 -- '$4\n, ?10"
        );
    }

    #[test]
    fn the_first_word_after_comments_tells_whether_a_statement_writes() {
        assert!(Statement::new("a", "-- why\n  insert INTO t VALUES ($1)", None).writes());
        assert!(!Statement::new("b", "SELECT 1 -- UPDATE", None).writes());
    }
}
