//! Skills between directories and the registry, as a person moves them.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Output, Stdio},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::server::oa;

const SKILL: &str = "---\nname: pdf-tools\ndescription: Extracts text. Use it when there is a PDF.\nmetadata:\n  author: acme\nallowed-tools: Read github.primary@1\n---\n# PDF tools\n";

/// A service with its data directory, and a place to work in.
struct Home {
    directory: TempDir,
    up: Child,
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = self.up.kill();
        let _ = self.up.wait();
    }
}

impl Home {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let mut up = oa()
            .arg("up")
            .arg("--data")
            .arg(&data)
            .args(["--runtime-addr", "127.0.0.1:0", "--control-addr", "127.0.0.1:0"])
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        while !data.join("endpoints.json").exists() {
            assert!(up.try_wait().unwrap().is_none(), "up ended early");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Home { directory, up }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = oa();
        command.arg("skills").args(arguments).current_dir(self.directory.path());
        command.arg("--data").arg(self.path("data")).args(["-o", "json"]).output().unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}{}", String::from_utf8_lossy(&output.stdout));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn refusal(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8_lossy(&[output.stderr, output.stdout].concat()).into_owned()
    }
}

fn skill(place: &Path) {
    fs::create_dir_all(place.join("scripts")).unwrap();
    fs::create_dir_all(place.join("assets/deep")).unwrap();
    fs::write(place.join("SKILL.md"), SKILL).unwrap();
    fs::write(place.join("scripts/run.sh"), "#!/bin/sh\r\nexit 0").unwrap();
    fs::set_permissions(place.join("scripts/run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(place.join("assets/deep/picture.bin"), (0..=255).collect::<Vec<u8>>()).unwrap();
    fs::write(place.join("assets/empty"), "").unwrap();
}

fn bytes(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    fs::File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_skill_comes_back_byte_for_byte_and_proves_itself() {
    let home = Home::new().await;
    let place = home.path("pdf-tools");
    skill(&place);
    let pushed = home.json(&["push", "pdf-tools", "--version", "3", "--publish", "--public"]);
    assert_eq!(
        (&pushed["version"], &pushed["files"], &pushed["state"]),
        (&3.into(), &4.into(), &"published".into())
    );
    let again = home.json(&["push", "pdf-tools", "--version", "3", "--publish", "--public"]);
    assert_eq!(again["release"], pushed["release"], "the same directory is the same release");
    let key = pushed["release"]["signature"]["signer_pubkey"].as_str().unwrap().to_owned();
    let pulled = home.json(&["pull", "pdf-tools", "copy", "--key", &key]);
    assert_eq!(pulled["release"]["version"], 3);
    let copy = home.path("copy");
    for file in ["SKILL.md", "scripts/run.sh", "assets/deep/picture.bin", "assets/empty"] {
        assert_eq!(bytes(&copy.join(file)), bytes(&place.join(file)), "{file}");
    }
    let mode = |file: &str| fs::metadata(copy.join(file)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("scripts/run.sh"), mode("SKILL.md")), (0o755, 0o644));
    drop(home.json(&["verify", "copy", "--key", &key]));
    let record = home.json(&["verify", "copy/.oa-skill.json"]);
    assert_eq!((&record["verified"], &record["signer"]), (&true.into(), &key.clone().into()));
    let stranger = "11".repeat(32);
    assert!(home.refusal(&["verify", "copy", "--key", &stranger]).contains("not by"));
    assert!(
        home.refusal(&["pull", "pdf-tools@3", "other", "--key", &stranger]).contains("nothing was written")
    );
    assert!(!home.path("other").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_was_changed_is_found() {
    let home = Home::new().await;
    skill(&home.path("pdf-tools"));
    let pushed = home.json(&["push", "pdf-tools", "--publish"]);
    let key = pushed["release"]["signature"]["signer_pubkey"].as_str().unwrap().to_owned();
    home.json(&["pull", "pdf-tools@1", "copy"]);
    let copy = home.path("copy");
    let flip = |path: &Path, at: usize| {
        let mut changed = bytes(path);
        changed[at] ^= 1;
        fs::write(path, &changed).unwrap();
    };
    for file in ["SKILL.md", "scripts/run.sh", "assets/deep/picture.bin"] {
        flip(&copy.join(file), 5);
        assert!(home.refusal(&["verify", "copy"]).contains("was changed"), "{file}");
        flip(&copy.join(file), 5);
    }
    let record = copy.join(".oa-skill.json");
    let places: Vec<usize> = (0..20).map(|n| n * (bytes(&record).len() - 2) / 20).collect();
    for at in places {
        flip(&record, at);
        assert!(!home.run(&["verify", "copy", "--key", &key]).status.success(), "byte {at} of the record");
        flip(&record, at);
    }
    fs::write(copy.join("scripts/more.sh"), "x").unwrap();
    assert!(home.refusal(&["verify", "copy"]).contains("not part of the release"));
    fs::remove_file(copy.join("scripts/more.sh")).unwrap();
    fs::remove_file(copy.join("assets/empty")).unwrap();
    assert!(home.refusal(&["verify", "copy"]).contains("is missing"));
    assert!(home.refusal(&["pull", "pdf-tools", "copy"]).contains("--force"));
    home.json(&["pull", "pdf-tools", "copy", "--force"]);
    home.json(&["verify", "copy"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_skill_is_not_pushed() {
    let home = Home::new().await;
    let place = home.path("pdf-tools");
    fs::create_dir(&place).unwrap();
    assert!(home.refusal(&["push", "pdf-tools"]).contains("SKILL.md"));
    skill(&place);
    fs::rename(&place, home.path("other-name")).unwrap();
    assert!(home.refusal(&["push", "other-name"]).contains("directory"));
    fs::rename(home.path("other-name"), &place).unwrap();
    fs::write(home.path("secret"), "s").unwrap();
    std::os::unix::fs::symlink(home.path("secret"), place.join("assets/link")).unwrap();
    assert!(home.refusal(&["push", "pdf-tools"]).contains("a link"));
    fs::remove_file(place.join("assets/link")).unwrap();
    home.json(&["push", "pdf-tools"]);
    assert!(home.refusal(&["pull", "pdf-tools", "copy"]).contains("no published version"));
    assert!(home.refusal(&["pull", "pdf-tools@1", "copy"]).contains("404"));
    assert!(home.refusal(&["pull", "unknown@1", "copy"]).contains("404"));
    home.json(&["push", "pdf-tools", "--publish"]);
    fs::write(place.join("SKILL.md"), format!("{SKILL}more")).unwrap();
    assert!(home.refusal(&["push", "pdf-tools"]).contains("409"), "a published version does not change");
}
