//! Decides how the demonstration is told: to people chapter by chapter as it happens, with names instead of keys; to
//! programs everything at the end, with keys.

use oa_contract::wire::marketplace::Considered;
use serde_json::{Value, json};

use crate::{
    failure::Failure,
    job::show,
    output::{Format, plain, print_line},
};

/// Of a key or a hash, so much is enough to recognise it.
const SHORT: usize = 12;
/// Longer lines go on in the next.
const WIDEST: usize = 112;

pub struct Book {
    format: Format,
    chapters: u32,
    /// What is called how: keys are no names for people.
    names: Vec<(String, String)>,
    told: Vec<(&'static str, Value)>,
}

impl Book {
    pub fn new(format: Format) -> Self {
        Book { format, chapters: 0, names: Vec::new(), told: Vec::new() }
    }

    /// From now on a key is told by a name.
    pub fn name(&mut self, key: &str, name: &str) {
        self.names.push((key.to_owned(), name.to_owned()));
    }

    pub fn named(&self, text: &str) -> String {
        self.names.iter().fold(text.to_owned(), |text, (key, name)| text.replace(key, name))
    }

    pub fn line(&self, text: &str) -> Result<(), Failure> {
        match self.format {
            Format::Text => print_line(self.named(text).trim_end_matches('\n')),
            Format::Json => Ok(()),
        }
    }

    pub fn chapter(&mut self, title: &str) -> Result<(), Failure> {
        self.chapters += 1;
        self.line(&format!("\n{}. {title}\n", self.chapters))
    }

    /// Lines that belong to the chapter.
    pub fn indented(&self, text: &str) -> Result<(), Failure> {
        let named = self.named(text);
        named
            .lines()
            .flat_map(|line| wrapped(line, WIDEST))
            .try_for_each(|line| self.line(&format!("   {line}")))
    }

    /// What somebody else has said, line by line.
    pub fn quoted(&self, text: &str) -> Result<(), Failure> {
        text.trim_end().lines().try_for_each(|line| self.line(&format!("   > {}", plain(line))))
    }

    /// Who was looked at for a job.
    pub fn considered(&self, all: &[Considered]) -> Result<(), Failure> {
        let renamed =
            |one: &Considered| Considered { provider_id: self.named(&one.provider_id), ..one.clone() };
        self.indented(&show::considered(&all.iter().map(renamed).collect::<Vec<_>>()))
    }

    pub fn keep(&mut self, name: &'static str, value: Value) {
        self.told.push((name, value));
    }

    pub fn close(self) -> Result<(), Failure> {
        let names: Vec<Value> =
            self.names.iter().map(|(key, name)| json!({"key": key, "name": name})).collect();
        let mut all = serde_json::Map::from_iter([("names".to_owned(), Value::Array(names))]);
        all.extend(self.told.into_iter().map(|(name, value)| (name.to_owned(), value)));
        match self.format {
            Format::Text => Ok(()),
            Format::Json => self.format.show("", &all),
        }
    }
}

/// At blanks, and what goes on is set in.
fn wrapped(line: &str, widest: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut now = String::new();
    for (at, word) in line.split(' ').enumerate() {
        if now.chars().count() + word.chars().count() >= widest && !now.trim().is_empty() {
            lines.push(std::mem::replace(&mut now, "  ".to_owned()));
        }
        if at > 0 {
            now.push(' ');
        }
        now.push_str(word);
    }
    lines.push(now);
    lines
}

/// The beginning of a key, a hash or an invoice.
pub fn short(text: &str) -> String {
    crate::output::shortened(text, SHORT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_by_their_names() {
        let mut book = Book::new(Format::Json);
        book.name(&"a".repeat(64), "ada");
        assert_eq!(book.named(&format!("provider:{} did it", "a".repeat(64))), "provider:ada did it");
        assert_eq!(short("abcdefghijklmnop"), "abcdefghijkl…");
    }

    #[test]
    fn long_lines_go_on_in_the_next() {
        assert_eq!(wrapped("a table  of two", 20), ["a table  of two"]);
        assert_eq!(wrapped("   set in", 20), ["   set in"]);
        assert_eq!(wrapped("*  one two", 20), ["*  one two"]);
        assert_eq!(wrapped("", 20), [""]);
        assert_eq!(wrapped("one two three four", 9), ["one two", "   three", "   four"]);
    }
}
