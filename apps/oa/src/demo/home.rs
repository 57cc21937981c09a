//! Decides where the demonstration lives: in a directory that is gone afterwards, unless somebody named it, and under
//! settings of its own.

use std::{
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt as _,
    path::PathBuf,
};

use uuid::Uuid;

use crate::{
    config::{SettingFlags, Settings},
    data_dir::DataDir,
    failure::Failure,
};

/// A directory that is gone when the story is over, unless somebody named it.
pub struct Home {
    pub path: PathBuf,
    pub kept: bool,
}

impl Home {
    pub fn make(named: Option<PathBuf>) -> Result<Self, Failure> {
        let kept = named.is_some();
        let path = named
            .unwrap_or_else(|| std::env::temp_dir().join(format!("oa-demo-{}", Uuid::now_v7().simple())));
        if fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(Failure::usage(format!(
                "{} holds something already: --data of a demonstration is a new directory",
                path.display()
            )));
        }
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(|error| Failure::file(&path, &error))?;
        // Repositories and providers are named by where they really are.
        let path = fs::canonicalize(&path).map_err(|error| Failure::file(&path, &error))?;
        Ok(Home { path, kept })
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Everybody's environment is left alone: the demonstration has settings of its own.
pub fn settings(data: &DataDir, given: &[(&'static str, &str)]) -> Result<Settings, Failure> {
    let mut flags = SettingFlags::default();
    for (name, value) in given {
        flags.or_give(name, Some((*value).to_owned()));
    }
    Settings::load(&flags, &|_| None, data)
}
