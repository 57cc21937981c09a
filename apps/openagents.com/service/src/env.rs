//! Decides how one variable of the environment is read: blank is unset, and a value that cannot be read stops
//! the start with the variable's name.

use std::str::FromStr;

use crate::config::ConfigError;

pub(crate) fn wrong(variable: &'static str, wanted: &str) -> ConfigError {
    ConfigError { variable, wanted: wanted.to_owned() }
}

/// The environment, one kind of value at a time. Blank is unset.
pub(crate) struct Env<'a>(pub &'a dyn Fn(&str) -> Option<String>);

impl Env<'_> {
    /// The first of these names that is set.
    pub fn text(&self, names: &[&'static str]) -> Option<String> {
        names.iter().find_map(|name| {
            (self.0)(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
        })
    }

    pub fn parsed<T: FromStr>(&self, name: &'static str, wanted: &str) -> Result<Option<T>, ConfigError> {
        self.text(&[name]).map(|text| text.parse().map_err(|_| wrong(name, wanted))).transpose()
    }

    pub fn switch(&self, name: &'static str, default: bool) -> Result<bool, ConfigError> {
        match self.text(&[name]).map(|text| text.to_lowercase()).as_deref() {
            None => Ok(default),
            Some("1" | "true" | "yes") => Ok(true),
            Some("0" | "false" | "no") => Ok(false),
            Some(_) => Err(wrong(name, "one of 1, true, yes, 0, false, no")),
        }
    }

    pub fn percent(&self, name: &'static str, default: u8) -> Result<u8, ConfigError> {
        match self.parsed::<u8>(name, "a whole number from 0 to 100")? {
            Some(percent) if percent > 100 => Err(wrong(name, "a whole number from 0 to 100")),
            given => Ok(given.unwrap_or(default)),
        }
    }

    /// A duration of at least one second and at most ten years.
    pub fn seconds(&self, name: &'static str, default: i64) -> Result<i64, ConfigError> {
        match self.parsed::<i64>(name, "a whole number of seconds")? {
            Some(seconds) if !(1..=315_360_000).contains(&seconds) => {
                Err(wrong(name, "from 1 second to ten years, in seconds"))
            }
            given => Ok(given.unwrap_or(default)),
        }
    }
}
