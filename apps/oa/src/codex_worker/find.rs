//! Decides which program is codex: the one that was named, or the first on the PATH or in a `node_modules` at or above the workspace; and that the native binary runs instead of its launcher.

use std::{
    env,
    ffi::OsStr,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use crate::failure::Failure;

/// What to do when there is none.
const INSTALL: &str = "npm install -g @openai/codex";

/// Finds the program. `named` is a path, or a name to look for on the PATH.
pub fn codex(named: Option<&Path>, workspace: &Path, path: Option<&OsStr>) -> Result<PathBuf, Failure> {
    let found = match named {
        Some(named) if named.components().count() > 1 => runnable(named),
        Some(named) => on_path(named, path),
        None => on_path(Path::new("codex"), path).or_else(|| in_node_modules(workspace)),
    };
    match (found, named) {
        (Some(found), _) => Ok(native(&found).unwrap_or(found)),
        (None, Some(named)) => Err(Failure::usage(format!(
            "{} is not a program that can be run. Install codex with: {INSTALL}",
            named.display()
        ))),
        (None, None) => Err(Failure::usage(format!(
            "codex is not installed: it is neither on the PATH nor in a node_modules at or above {}. \
             Install it with: {INSTALL}   (or name it with --codex)",
            workspace.display()
        ))),
    }
}

fn runnable(path: &Path) -> Option<PathBuf> {
    let meta = fs::metadata(path).ok()?;
    (meta.is_file() && meta.permissions().mode() & 0o111 != 0).then(|| path.to_owned())
}

fn on_path(name: &Path, path: Option<&OsStr>) -> Option<PathBuf> {
    env::split_paths(path?).find_map(|folder| runnable(&folder.join(name)))
}

fn in_node_modules(workspace: &Path) -> Option<PathBuf> {
    workspace.ancestors().find_map(|folder| runnable(&folder.join("node_modules/.bin/codex")))
}

/// The npm package's `codex` is a script that starts the binary beside it. Started directly it needs no node, and
/// its process is ours to end.
fn native(found: &Path) -> Option<PathBuf> {
    let script = fs::canonicalize(found).ok().filter(|path| path.extension() == Some(OsStr::new("js")))?;
    let package = script.parent()?.parent()?;
    let beside = package.parent()?;
    let platform = match env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        _ => return None,
    };
    let os = match env::consts::OS {
        "macos" => "darwin",
        os => os,
    };
    let name = format!("codex-{os}-{platform}");
    let homes = [beside.join(&name), package.join("node_modules/@openai").join(&name), package.to_owned()];
    homes.iter().find_map(|home| {
        let triples = fs::read_dir(home.join("vendor")).ok()?;
        triples
            .flatten()
            .filter(|triple| triple.file_name().to_string_lossy().starts_with(env::consts::ARCH))
            .find_map(|triple| runnable(&triple.path().join("bin/codex")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_dir::tests::scratch;

    fn program(path: &Path) {
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, "#!/bin/sh\n").expect("written");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("may run");
    }

    #[test]
    fn a_missing_codex_says_how_to_install_it() {
        let directory = scratch();
        let none = Some(directory.path().as_os_str());
        for named in [None, Some(Path::new("./not/there")), Some(Path::new("codex-of-mine"))] {
            let failure = codex(named, directory.path(), none).expect_err("not there");
            assert!(failure.sentence.contains("npm install -g @openai/codex"), "{failure}");
        }
    }

    #[test]
    fn the_path_comes_before_node_modules_and_these_are_looked_for_upwards() {
        let directory = scratch();
        let (here, deep) = (directory.path(), directory.path().join("a/b"));
        fs::create_dir_all(&deep).expect("made");
        let (local, global) = (here.join("node_modules/.bin/codex"), here.join("bin/codex"));
        program(&local);
        assert_eq!(codex(None, &deep, None), Ok(local));
        program(&global);
        assert_eq!(codex(None, &deep, Some(here.join("bin").as_os_str())), Ok(global.clone()));
        assert_eq!(codex(Some(&global), &deep, None), Ok(global));
    }

    #[test]
    fn the_binary_is_started_instead_of_the_script_of_the_package() {
        let directory = scratch();
        let modules = directory.path().join("node_modules");
        let script = modules.join("@openai/codex/bin/codex.js");
        program(&script);
        fs::create_dir_all(modules.join(".bin")).expect("made");
        std::os::unix::fs::symlink(&script, modules.join(".bin/codex")).expect("linked");
        let found = codex(None, directory.path(), None).expect("found");
        assert_eq!(found, modules.join(".bin/codex"), "without the binary the script must do");
        let arch = if env::consts::ARCH == "aarch64" { "arm64" } else { "x64" };
        let os = if env::consts::OS == "macos" { "darwin" } else { env::consts::OS };
        let triple = format!("{}-unknown-x", env::consts::ARCH);
        let binary = fs::canonicalize(&modules)
            .expect("there")
            .join(format!("@openai/codex-{os}-{arch}/vendor/{triple}/bin/codex"));
        program(&binary);
        assert_eq!(codex(None, directory.path(), None), Ok(binary));
    }
}
