//! Decides which bytes a public skill is fetched as: its `SKILL.md` alone, or a `.tar.gz` of its directory. The
//! same specification gives the same bytes for ever, because the index promises their digest.

use std::fmt::Write as _;

use oa_contract::{
    Fault,
    bundle::{File, SKILL_FILE, files_of},
};
use serde_json::Value;

/// What the index calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Markdown,
    Archive,
}

impl Form {
    pub const fn name(self) -> &'static str {
        match self {
            Form::Markdown => "skill-md",
            Form::Archive => "archive",
        }
    }

    /// The last part of the artifact's path.
    pub const fn file(self) -> &'static str {
        match self {
            Form::Markdown => SKILL_FILE,
            Form::Archive => "skill.tar.gz",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Form::Markdown, Form::Archive].into_iter().find(|form| form.name() == name)
    }
}

/// The files of a specification; one that carries none has the `SKILL.md` that its members make.
fn files(spec: &Value) -> Result<Vec<File>, Fault> {
    let files = files_of(spec).map_err(|why| Fault::msg(format!("a kept bundle does not fit: {why}")))?;
    match files.is_empty() {
        true => Ok(vec![File {
            path: SKILL_FILE.to_owned(),
            bytes: written(spec).into_bytes(),
            executable: false,
        }]),
        false => Ok(files),
    }
}

/// The form in which a specification is offered, and its bytes.
pub(super) fn offered(spec: &Value) -> Result<(Form, Vec<u8>), Fault> {
    let files = files(spec)?;
    match files.as_slice() {
        [only] => Ok((Form::Markdown, only.bytes.clone())),
        _ => Ok((Form::Archive, tar_gz(files)?)),
    }
}

/// The bytes in one form; a directory also has its `SKILL.md` alone.
pub(super) fn in_form(spec: &Value, form: Form) -> Result<Option<Vec<u8>>, Fault> {
    let files = files(spec)?;
    match form {
        Form::Markdown => Ok(files.into_iter().find(|file| file.path == SKILL_FILE).map(|file| file.bytes)),
        Form::Archive if files.len() > 1 => tar_gz(files).map(Some),
        Form::Archive => Ok(None),
    }
}

/// A `SKILL.md` made of the members of a specification that has no files.
fn written(spec: &Value) -> String {
    let text = |member: &str| spec[member].as_str().unwrap_or_default().trim();
    // A JSON text is a double-quoted text of YAML.
    let quoted = |text: &str| Value::from(text).to_string();
    let mut out = format!(
        "---\nname: {}\ndescription: {}\n---\n",
        quoted(text("skill_id")),
        quoted(text("description"))
    );
    let title = if text("name").is_empty() { text("skill_id") } else { text("name") };
    let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let _ = write!(out, "\n# {}\n\n{}\n", one_line(title), text("description"));
    let tools = spec["allowed_tools"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !tools.is_empty() {
        out.push_str("\nTools of the registry:\n\n");
    }
    for tool in tools {
        let id = one_line(tool["tool_id"].as_str().unwrap_or_default());
        let version = oa_contract::bundle::pos_int(&tool["version"]).unwrap_or_default();
        let _ = writeln!(out, "- `{id}`, version {version}");
    }
    out
}

fn tar_gz(mut files: Vec<File>) -> Result<Vec<u8>, Fault> {
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let mut tar = Vec::new();
    for file in &files {
        tar.extend_from_slice(&tar_head(file)?);
        tar.extend_from_slice(&file.bytes);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    Ok(gzip(&tar))
}

/// The head of one file in the ustar format: no owner, no time, so that only the content decides the bytes.
fn tar_head(file: &File) -> Result<[u8; 512], Fault> {
    let (prefix, name) = split(&file.path)
        .ok_or_else(|| Fault::msg(format!("the path {} does not fit into an archive", file.path)))?;
    let mut head = [0; 512];
    let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, if file.executable { b"0000755\0" } else { b"0000644\0" });
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", file.bytes.len()).as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    put(345, prefix.as_bytes());
    let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(head)
}

/// A path as the two fields of the format: up to 155 bytes, then up to 100.
fn split(path: &str) -> Option<(&str, &str)> {
    if path.len() <= 100 {
        return Some(("", path));
    }
    let cuts = path.match_indices('/').map(|(at, _)| (&path[..at], &path[at + 1..]));
    cuts.into_iter().find(|(prefix, name)| prefix.len() <= 155 && name.len() <= 100)
}

/// Without compression: the bytes depend on no version of a compressor.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut blocks = bytes.chunks(0xffff).peekable();
    while let Some(block) = blocks.next() {
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        out.push(u8::from(blocks.peek().is_none()));
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
    out.extend_from_slice(&crc32(bytes).to_le_bytes());
    // The format keeps the length modulo 2^32.
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out
}

/// What each byte does to the check sum of the format.
const CRC: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 };
            bit += 1;
        }
        table[byte] = sum;
        byte += 1;
    }
    table
};

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| CRC[usize::from(sum as u8 ^ byte)] ^ (sum >> 8))
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        process::{Command, Stdio},
    };

    use oa_contract::canonical::hex;
    use serde_json::json;
    use sha2::{Digest, Sha256};

    use super::*;

    fn directory() -> Value {
        let long = format!("references/{}/{}.md", "a".repeat(60), "b".repeat(70));
        let files: Vec<Value> = [
            ("SKILL.md", "# hi\n".repeat(20_000), false),
            ("scripts/run.sh", "exit 7\n".into(), true),
            (&long, "x".into(), false),
        ]
        .into_iter()
        .map(|(path, text, executable)| {
            File { path: path.into(), bytes: text.into_bytes(), executable }.to_json()
        })
        .collect();
        json!({"skill_id": "a", "version": 1, "description": "d", "files": files})
    }

    #[test]
    fn other_tools_read_the_archive() {
        let (form, bytes) = offered(&directory()).expect("an artifact");
        assert_eq!(form, Form::Archive);
        let mut tar = Command::new("tar")
            .args(["-tvzf", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tar");
        tar.stdin.take().expect("its input").write_all(&bytes).expect("written");
        let output = tar.wait_with_output().expect("a listing");
        let listing = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{listing}");
        assert!(listing.contains("100000") && listing.contains(" SKILL.md"), "{listing}");
        assert!(listing.contains("-rwxr-xr-x") && listing.contains(&"b".repeat(70)), "{listing}");
    }

    #[test]
    fn the_bytes_are_those_that_were_promised_before() {
        let (_, bytes) = offered(&directory()).expect("an artifact");
        assert_eq!(
            hex(&Sha256::digest(&bytes)),
            "46970de0c0bfdb2e4719e9923daee44485088a8af5bc9485789c78d8d0988622"
        );
    }

    #[test]
    fn a_specification_without_files_is_written_out() {
        let spec = json!({"skill_id": "x", "version": 1, "name": "X\nY", "description": "a: \"b\"", "allowed_tools": [{"tool_id": "t", "version": "2"}]});
        let (form, bytes) = offered(&spec).expect("an artifact");
        assert_eq!(form, Form::Markdown);
        assert_eq!(
            String::from_utf8(bytes).expect("text"),
            "---\nname: \"x\"\ndescription: \"a: \\\"b\\\"\"\n---\n\n# X Y\n\na: \"b\"\n\nTools of the registry:\n\n- `t`, version 2\n"
        );
        assert_eq!(in_form(&spec, Form::Archive).expect("none"), None);
        assert!(in_form(&directory(), Form::Markdown).expect("some").expect("there").starts_with(b"# hi"));
    }
}
