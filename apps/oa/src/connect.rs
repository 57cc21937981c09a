//! Decides which server a command talks to and with which credential: flags first, then the environment and `oa.conf`, then the data directory, then the usual address.

use oa_client::{Client, Identity};
use secrecy::SecretString;
use url::{Host, Url};

use crate::{
    config::Settings,
    data_dir::{DataDir, reveal},
    failure::Failure,
};

/// Where a runtime is when nobody says anything.
pub const USUAL: &str = "http://127.0.0.1:4100";

/// What the command line says about the server.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    pub runtime_url: Option<String>,
    pub token: Option<String>,
}

/// A server, and what to show it.
pub struct Place {
    pub url: String,
    pub token: Option<SecretString>,
}

impl Place {
    /// A client for this server.
    pub fn client(&self) -> Result<Client, Failure> {
        let identity = match &self.token {
            Some(token) => Identity::Bearer(reveal(token).to_owned()),
            None => Identity::Nobody,
        };
        Client::new(&self.url, identity).map_err(Failure::usage)
    }
}

/// Finds the runtime.
pub fn find(wish: &Wish, settings: &Settings, data: &DataDir) -> Result<Place, Failure> {
    let announced = data.endpoints()?.and_then(|endpoints| endpoints.runtime);
    let named = wish.runtime_url.as_deref().or_else(|| settings.get("OA_RUNTIME_BASE_URL"));
    let url = named.map(str::to_owned).or_else(|| announced.clone()).unwrap_or_else(|| USUAL.to_owned());
    let given =
        wish.token.as_deref().or_else(|| settings.get("RUNTIME_SERVICE_TOKEN")).map(SecretString::from);
    let token = match given {
        Some(token) => Some(token),
        None if announced.as_deref() == Some(url.as_str()) || is_loopback(&url) => data.token()?,
        // The directory's token belongs to this machine's server and is not shown to another.
        None => None,
    };
    Ok(Place { url, token })
}

/// Where the control service is when nobody says anything.
pub const USUAL_CONTROL: &str = "http://127.0.0.1:8787";

/// Finds the control service. The personal token that `oa up` made is shown to the service of this directory, and on
/// this machine, only.
pub fn find_control(
    url: Option<&str>,
    token: Option<&str>,
    settings: &Settings,
    data: &DataDir,
) -> Result<Place, Failure> {
    let announced = data.endpoints()?.and_then(|endpoints| endpoints.control);
    let named = url.or_else(|| settings.get("OA_CONTROL_BASE_URL")).map(str::to_owned);
    let url = named.or_else(|| announced.clone()).unwrap_or_else(|| USUAL_CONTROL.to_owned());
    let token = match token.or_else(|| settings.get("OA_CONTROL_TOKEN")).map(SecretString::from) {
        Some(token) => Some(token),
        None if announced.as_deref() == Some(url.as_str()) || is_loopback(&url) => data.personal_token()?,
        None => None,
    };
    Ok(Place { url, token })
}

/// Whether an address is this machine's own.
pub fn is_loopback(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::SettingFlags,
        data_dir::{Endpoints, tests::scratch},
    };

    fn place(wish: Wish, environment: &[(&str, &str)], announced: Option<&str>) -> (String, Option<String>) {
        let directory = scratch();
        let data = DataDir::at(directory.path());
        let look_up = |name: &str| {
            environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let settings = Settings::load(&SettingFlags::default(), &look_up, &data).expect("settings");
        let nothing = Settings::load(&SettingFlags::default(), &|_| None, &data).expect("settings");
        data.prepare(&nothing).expect("keys");
        if let Some(url) = announced {
            data.announce(&Endpoints { runtime: Some(url.to_owned()), control: None, pid: 1 })
                .expect("announced");
        }
        let place = find(&wish, &settings, &data).expect("a place");
        (place.url, place.token.map(|token| reveal(&token).to_owned()))
    }

    #[test]
    fn the_address_comes_from_the_nearest_word() {
        let flag = || Wish { runtime_url: Some("http://127.0.0.1:1".into()), token: None };
        let environment = [("OA_RUNTIME_BASE_URL", "http://127.0.0.1:2")];
        assert_eq!(place(flag(), &environment, Some("http://127.0.0.1:3")).0, "http://127.0.0.1:1");
        assert_eq!(place(Wish::default(), &environment, Some("http://127.0.0.1:3")).0, "http://127.0.0.1:2");
        assert_eq!(place(Wish::default(), &[], Some("http://127.0.0.1:3")).0, "http://127.0.0.1:3");
        assert_eq!(place(Wish::default(), &[], None).0, USUAL);
    }

    #[test]
    fn the_token_of_the_directory_is_shown_to_this_machine_and_the_announced_server_only() {
        let elsewhere = || Wish { runtime_url: Some("http://runtime.example".into()), token: None };
        assert_eq!(place(elsewhere(), &[], None).1, None);
        assert!(place(elsewhere(), &[], Some("http://runtime.example")).1.is_some());
        assert!(place(Wish::default(), &[], None).1.is_some());
        assert_eq!(place(elsewhere(), &[("RUNTIME_SERVICE_TOKEN", "t")], None).1.as_deref(), Some("t"));
    }
}
