//! Decides how a result is shown: sentences and tables for people, one JSON document per line for programs.

use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Value, json};

use crate::failure::Failure;

/// The form of everything that a command prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Text,
    Json,
}

impl Format {
    /// Prints a result on stdout: `text` for people, `value` for programs.
    pub fn show(self, text: &str, value: &impl Serialize) -> Result<(), Failure> {
        let line = match self {
            Format::Text => text.trim_end_matches('\n').to_owned(),
            Format::Json => to_json(value)?,
        };
        print_line(&line)
    }

    /// Prints a failure on stderr.
    pub fn complain(self, failure: &Failure) {
        let line = match self {
            Format::Text => format!("oa: {}", failure.sentence),
            Format::Json => json!({"error": failure.sentence, "exit_code": failure.code}).to_string(),
        };
        // When stderr is closed, the exit code still tells.
        let _ = writeln!(io::stderr(), "{line}");
    }

    /// Says something on stderr beside the result.
    pub fn note(self, sentence: &str) {
        let line = match self {
            Format::Text => format!("oa: {sentence}"),
            Format::Json => json!({"note": sentence}).to_string(),
        };
        let _ = writeln!(io::stderr(), "{line}");
    }
}

/// One line of JSON.
pub fn to_json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value)
        .map_err(|error| Failure::wrong(format!("the result cannot be written as JSON: {error}")))
}

/// Prints a line on stdout. A reader that has gone away (`| head`) is a reason to stop, not a fault.
pub fn print_line(line: &str) -> Result<(), Failure> {
    print_bytes(line.as_bytes())?;
    print_bytes(b"\n")
}

/// Prints bytes on stdout, now.
pub fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        // What the shell reports of a program that SIGPIPE ended.
        io::ErrorKind::BrokenPipe => Failure::new(141, "the reader of the output has gone"),
        _ => Failure::wrong(format!("the output cannot be written: {error}")),
    })
}

/// Columns padded to their widest cell, two spaces between them.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Text from elsewhere on one line of a terminal: control characters are spelled out, so that a name cannot
/// move the cursor.
pub fn plain(text: &str) -> String {
    text.chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect()
}

/// At most so many characters.
pub fn shortened(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// What a run is called: its name, or the command that it recorded.
pub fn title(metadata: &str) -> String {
    let metadata: Value = serde_json::from_str(metadata).unwrap_or_default();
    let argv = || {
        let words: Vec<&str> = metadata["argv"].as_array()?.iter().filter_map(Value::as_str).collect();
        Some(words.join(" "))
    };
    let title = metadata["name"].as_str().map(str::to_owned).or_else(argv).unwrap_or_default();
    shortened(&plain(&title), 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_do_not_end_in_spaces() {
        let rows = [vec!["a".to_owned(), "long".to_owned()], vec!["bbb".to_owned(), String::new()]];
        assert_eq!(table(&rows), "a    long\nbbb\n");
    }

    #[test]
    fn a_name_from_elsewhere_cannot_move_the_cursor() {
        assert_eq!(plain("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(shortened("äöü", 2), "äö…");
    }

    #[test]
    fn a_run_is_called_by_its_name_or_its_command() {
        assert_eq!(title(r#"{"argv":["cargo","test"]}"#), "cargo test");
        assert_eq!(title(r#"{"name":"build","argv":["make"]}"#), "build");
        assert_eq!(title("null"), "");
    }
}
