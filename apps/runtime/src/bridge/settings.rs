//! Decides which relays are told, and how much waits for one of them at most.

use url::Url;

use super::sender::name_of;

use crate::config::{ConfigError, Lookup, parsed};

const RELAYS: &str = "RUNTIME_BRIDGE_NOSTR_RELAYS";
const QUEUE_LIMIT: &str = "RUNTIME_BRIDGE_NOSTR_QUEUE_LIMIT";
const MOST_RELAYS: usize = 10;
const LONGEST_URL: usize = 512;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeSettings {
    /// None: nothing is told to anybody.
    pub relays: Vec<String>,
    /// Events beyond so many that wait for one relay are forgotten, the oldest first.
    pub queue_limit: u64,
}

impl Default for BridgeSettings {
    fn default() -> Self {
        BridgeSettings { relays: Vec::new(), queue_limit: 100_000 }
    }
}

impl BridgeSettings {
    pub fn read(lookup: Lookup<'_>) -> Result<Self, ConfigError> {
        let wrong = |problem: String| ConfigError { variable: RELAYS, problem };
        let mut relays = Vec::new();
        for text in lookup(RELAYS).unwrap_or_default().split(',').map(str::trim).filter(|one| !one.is_empty())
        {
            let url = relay(text).map_err(|problem| wrong(format!("{:?} {problem}", name_of(text))))?;
            if !relays.contains(&url) {
                relays.push(url);
            }
        }
        if relays.len() > MOST_RELAYS {
            return Err(wrong(format!("{} relays, and at most {MOST_RELAYS} are told", relays.len())));
        }
        let queue_limit = parsed(lookup, QUEUE_LIMIT, BridgeSettings::default().queue_limit)?;
        Ok(BridgeSettings { relays, queue_limit: queue_limit.clamp(1, 10_000_000) })
    }
}

fn relay(text: &str) -> Result<String, &'static str> {
    if text.len() > LONGEST_URL {
        return Err("is longer than 512 bytes");
    }
    let url = Url::parse(text).map_err(|_| "is no URL")?;
    if !matches!(url.scheme(), "ws" | "wss") || url.host_str().is_none_or(str::is_empty) {
        return Err("is not like wss://relay.example");
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err("must have neither a user nor a fragment");
    }
    Ok(url.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(relays: &str) -> Result<Vec<String>, String> {
        let told = BridgeSettings::read(&|name| (name == RELAYS).then(|| relays.to_owned()));
        told.map(|settings| settings.relays).map_err(|error| error.to_string())
    }

    #[test]
    fn relays_are_a_list_without_blanks_and_without_repetitions() {
        let listed = read(" wss://a.example , ,ws://127.0.0.1:7/x,wss://a.example/,").expect("read");
        assert_eq!(listed, ["wss://a.example/", "ws://127.0.0.1:7/x"]);
        assert!(read("").expect("read").is_empty());
    }

    #[test]
    fn what_is_no_relay_stops_the_start_with_its_name() {
        let long = format!("wss://a.example/{}", "x".repeat(512));
        for wrong in
            ["https://a.example", "a.example", "wss://", "wss://me:pw@a.example", "wss://a/#b", &long]
        {
            let told = read(wrong).expect_err(wrong);
            assert!(told.starts_with(RELAYS), "{told}");
        }
        let many: Vec<_> = (0..11).map(|number| format!("wss://r{number}.example")).collect();
        assert!(read(&many.join(",")).is_err());
        assert!(read(&many[..10].join(",")).is_ok());
    }
}
