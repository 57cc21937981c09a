//! Decides what the front matter of a `SKILL.md` says. Read is the part of YAML that skills are written in: texts
//! (plain, quoted, folded or literal), one level of members, and lists of texts. Anything else is refused with its
//! line, so that nothing is understood differently here than elsewhere.

use std::collections::BTreeMap;

/// What a member holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Text(String),
    Members(BTreeMap<String, String>),
    List(Vec<String>),
}

/// The members between the two `---` lines.
pub fn read(text: &str) -> Result<BTreeMap<String, Entry>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut all = text.lines().map(|line| line.strip_suffix('\r').unwrap_or(line)).enumerate();
    if all.next().map(|(_, line)| line.trim_end()) != Some("---") {
        return Err("SKILL.md must begin with a line `---`".to_owned());
    }
    let mut lines = Vec::new();
    let closed = all.find_map(|(at, line)| {
        let ends = line.trim_end() == "---";
        if !ends {
            lines.push(Line { number: at + 1, text: line });
        }
        ends.then_some(())
    });
    closed.ok_or("the front matter of SKILL.md is not closed by a line `---`")?;
    members(&lines)
}

#[derive(Clone, Copy, Debug)]
struct Line<'a> {
    number: usize,
    text: &'a str,
}

impl Line<'_> {
    fn indent(&self) -> usize {
        self.text.len() - self.text.trim_start_matches(' ').len()
    }

    /// Blank, or a comment.
    fn is_empty(&self) -> bool {
        let text = self.text.trim();
        text.is_empty() || text.starts_with('#')
    }

    fn wrong(&self, why: &str) -> String {
        format!("SKILL.md line {}: {why}", self.number)
    }
}

fn members(lines: &[Line<'_>]) -> Result<BTreeMap<String, Entry>, String> {
    let mut out = BTreeMap::new();
    let mut rest = lines;
    while let Some((line, after)) = rest.split_first() {
        if line.is_empty() {
            rest = after;
            continue;
        }
        if line.indent() > 0 || line.text.starts_with('\t') {
            return Err(line.wrong("this is indented, but belongs to nothing"));
        }
        let (key, value) = pair(line)?;
        let belongs = |line: &Line<'_>| line.text.trim().is_empty() || line.indent() > 0;
        // A list may stand at the indentation of its key.
        let listed = |line: &Line<'_>| value.is_empty() && line.text.starts_with("- ");
        let length = after
            .iter()
            .take_while(|line| belongs(line) || listed(line) || line.text.starts_with('#'))
            .count();
        let (inner, next) = after.split_at(length);
        if out.insert(key.clone(), entry(line, value, inner)?).is_some() {
            return Err(line.wrong(&format!("`{key}` stands here a second time")));
        }
        rest = next;
    }
    Ok(out)
}

/// `key: value`, the value maybe empty.
fn pair<'a>(line: &Line<'a>) -> Result<(String, &'a str), String> {
    let (key, value) =
        line.text.trim_start().split_once(':').ok_or_else(|| line.wrong("this is not `key: value`"))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if key.is_empty() || !key.chars().all(plain) {
        return Err(line.wrong("a key is letters, digits, `-`, `_` and `.`"));
    }
    match value.is_empty() || value.starts_with(' ') {
        true => Ok((key.to_owned(), value.trim())),
        false => Err(line.wrong("a space must follow the `:`")),
    }
}

fn entry(line: &Line<'_>, value: &str, inner: &[Line<'_>]) -> Result<Entry, String> {
    let filled: Vec<&Line<'_>> = inner.iter().filter(|line| !line.is_empty()).collect();
    let begins = value.chars().next();
    match begins {
        Some('|' | '>') => block(line, value, inner).map(Entry::Text),
        Some('[') if filled.is_empty() => flow(line, value),
        None | Some('#') => match filled.first() {
            None => Ok(Entry::Text(String::new())),
            Some(first) if first.text.trim_start().starts_with('-') => list(&filled),
            Some(_) => nested(&filled),
        },
        Some('"' | '\'') if filled.is_empty() => quoted(line, value).map(Entry::Text),
        Some('"' | '\'') => Err(line.wrong("a quoted text must end on its line")),
        Some(_) => {
            // The lines of a plain text are joined by spaces.
            let mut text = plain(line, value)?;
            for more in filled {
                text.push(' ');
                text.push_str(&plain(more, more.text.trim())?);
            }
            Ok(Entry::Text(text))
        }
    }
}

fn nested(lines: &[&Line<'_>]) -> Result<Entry, String> {
    let mut out = BTreeMap::new();
    let indent = lines.first().map_or(0, |line| line.indent());
    for line in lines {
        if line.indent() != indent {
            return Err(line.wrong("only one level of members is read"));
        }
        let (key, value) = pair(line)?;
        if out.insert(key.clone(), scalar(line, value)?).is_some() {
            return Err(line.wrong(&format!("`{key}` stands here a second time")));
        }
    }
    Ok(Entry::Members(out))
}

fn list(lines: &[&Line<'_>]) -> Result<Entry, String> {
    let one = |line: &&Line<'_>| match line.text.trim_start().strip_prefix("- ") {
        Some(item) => scalar(line, item.trim()),
        None => Err(line.wrong("every line of a list begins with `- `")),
    };
    lines.iter().map(one).collect::<Result<_, _>>().map(Entry::List)
}

fn flow(line: &Line<'_>, value: &str) -> Result<Entry, String> {
    let inside = value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let inside = inside.ok_or_else(|| line.wrong("a list `[…]` must end on its line"))?;
    if inside.contains(['[', ']', '{', '}', '"', '\'', '#']) {
        return Err(line.wrong("a list `[…]` holds plain texts only; write one `- item` a line"));
    }
    let items = inside.split(',').map(str::trim).filter(|item| !item.is_empty());
    items.map(|item| plain(line, item)).collect::<Result<_, _>>().map(Entry::List)
}

fn scalar(line: &Line<'_>, value: &str) -> Result<String, String> {
    match value.chars().next() {
        Some('"' | '\'') => quoted(line, value),
        Some('|' | '>' | '[') => Err(line.wrong("a text on one line is wanted here")),
        _ => plain(line, value),
    }
}

/// A text without quotes, up to a comment.
fn plain(line: &Line<'_>, value: &str) -> Result<String, String> {
    let value = value.split(" #").next().unwrap_or_default().trim_end();
    let value = if value.starts_with('#') { "" } else { value };
    let special = ['&', '*', '!', '%', '@', '`', '{', '}', '[', ']', '|', '>', '?', ',', '"', '\''];
    if value.starts_with(special) || value.starts_with("- ") || value.contains(": ") || value.ends_with(':') {
        return Err(line.wrong("this text has a meaning in YAML; put it into double quotes"));
    }
    Ok(value.to_owned())
}

fn quoted(line: &Line<'_>, value: &str) -> Result<String, String> {
    let unclosed = || line.wrong("the quoted text does not end");
    let (text, after) = match value.strip_prefix('"') {
        Some(_) => {
            // A double-quoted text with the escapes of JSON.
            let mut reader = serde_json::Deserializer::from_str(value).into_iter::<String>();
            let text = reader.next().ok_or_else(unclosed)?.map_err(|error| line.wrong(&error.to_string()))?;
            (text, &value[reader.byte_offset()..])
        }
        None => single(value).ok_or_else(unclosed)?,
    };
    match after.trim().is_empty() || after.starts_with(" #") {
        true => Ok(text),
        false => Err(line.wrong("something follows the quoted text")),
    }
}

/// `'…'`, where `''` is one quote.
fn single(value: &str) -> Option<(String, &str)> {
    let mut text = String::new();
    let mut rest = value.strip_prefix('\'')?;
    loop {
        let end = rest.find('\'')?;
        text.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('\'') {
            Some(more) => {
                text.push('\'');
                rest = more;
            }
            None => return Some((text, rest)),
        }
    }
}

/// A literal (`|`) or folded (`>`) text below its key.
fn block(line: &Line<'_>, head: &str, inner: &[Line<'_>]) -> Result<String, String> {
    let mark = head.split(" #").next().unwrap_or_default().trim_end();
    if !matches!(mark, "|" | "|-" | "|+" | ">" | ">-" | ">+") {
        return Err(line.wrong("after `|` or `>` only `-` or `+` may stand"));
    }
    let indent =
        inner.iter().filter(|line| !line.text.trim().is_empty()).map(Line::indent).min().unwrap_or(0);
    let texts: Vec<&str> = inner.iter().map(|line| line.text.get(indent..).unwrap_or_default()).collect();
    let literal = mark.starts_with('|');
    let mut out = String::new();
    for (at, text) in texts.iter().enumerate() {
        let blank = text.trim().is_empty();
        let joined = at > 0 && !blank && !texts[at - 1].trim().is_empty();
        match (literal, blank) {
            (true, _) if at > 0 => out.push('\n'),
            (false, true) => out.push('\n'),
            (false, false) if joined => out.push(' '),
            _ => {}
        }
        if !blank {
            out.push_str(text.trim_end());
        }
    }
    Ok(out.trim_end_matches('\n').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(matter: &BTreeMap<String, Entry>, key: &str) -> String {
        match matter.get(key) {
            Some(Entry::Text(text)) => text.clone(),
            other => panic!("{key}: {other:?}"),
        }
    }

    #[test]
    fn what_skills_are_written_in_is_read() {
        let matter = read(
            "---\r\nname: pdf-processing # the name\n# a comment\ndescription: >-\n  Extracts text,\n  and tables.\n\n  Use it.\nlicense: 'It''s mine'\n\
             compatibility: \"needs \\\"git\\\": \\u00e9\"\nmetadata:\n  author: acme\n  version: \"2\"\nallowed-tools:\n- Bash(git:*)\n- Read\nplain: one\n  two\nflow: [a, b]\nempty:\nliteral: |\n  a\n    b\n---\n# Body\n---\n",
        )
        .expect("read");
        assert_eq!(text(&matter, "name"), "pdf-processing");
        assert_eq!(text(&matter, "description"), "Extracts text, and tables.\nUse it.");
        assert_eq!(text(&matter, "license"), "It's mine");
        assert_eq!(text(&matter, "compatibility"), "needs \"git\": é");
        assert_eq!(text(&matter, "plain"), "one two");
        assert_eq!(text(&matter, "literal"), "a\n  b");
        assert_eq!(text(&matter, "empty"), "");
        let members = BTreeMap::from([("author".into(), "acme".into()), ("version".into(), "2".into())]);
        assert_eq!(matter["metadata"], Entry::Members(members));
        assert_eq!(matter["allowed-tools"], Entry::List(vec!["Bash(git:*)".into(), "Read".into()]));
        assert_eq!(matter["flow"], Entry::List(vec!["a".into(), "b".into()]));
    }

    #[test]
    fn what_could_be_understood_in_two_ways_is_refused_with_its_line() {
        for (matter, line) in [
            ("a: 1\na: 2", 3),
            ("a: b: c", 2),
            ("a: &anchor x", 2),
            ("a: *anchor", 2),
            ("a: !tag x", 2),
            ("a: {b: c}", 2),
            ("  a: b", 2),
            ("\ta: b", 2),
            ("a:b", 2),
            ("just text", 2),
            ("a: \"open", 2),
            ("a: 'x' y", 2),
            ("a:\n  b:\n    c: d", 4),
            ("a: |2\n  x", 2),
            ("a: [b, [c]]", 2),
            ("a: ends:", 2),
        ] {
            let refused = read(&format!("---\n{matter}\n---\n")).expect_err(matter);
            assert!(refused.starts_with(&format!("SKILL.md line {line}:")), "{matter}: {refused}");
        }
        for open in ["", "# no front matter", "---\nname: a\n"] {
            assert!(read(open).is_err(), "{open:?}");
        }
    }
}
