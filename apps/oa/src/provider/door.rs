//! Decides through which door a provider enrols. Control lets in whoever sells, with a personal token that opens what
//! its user may do and nothing else; the runtime lets in its operator, with the service token that opens everything.

use oa_client::Client;
use oa_contract::wire::workers::NameOwner;

use super::owner;
use crate::{
    config::Settings,
    connect::{self, Place, Wish},
    data_dir::{DataDir, reveal},
    failure::Failure,
    output::Format,
};

/// What personal tokens begin with.
const PERSONAL: &str = "oa_pat_";
/// What the service token begins with that a data directory made.
const SERVICE: &str = "oa_st_";

/// Whose word counts for whose provider this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Control's, which knows the user of the token.
    TokensUser,
    /// Ours: the service token may name anybody.
    Named(NameOwner),
}

/// A service that takes enrolments, and as whose.
#[derive(Debug)]
pub struct Door {
    pub client: Client,
    pub whose: Whose,
}

/// What the command line says about it.
#[derive(Clone, Debug, Default)]
pub struct Doors {
    pub control_url: Option<String>,
    pub runtime: Wish,
}

/// Control when it is named, or when its address is known and no runtime's; the runtime otherwise.
fn is_control(doors: &Doors, settings: &Settings, data: &DataDir) -> Result<bool, Failure> {
    match (&doors.control_url, &doors.runtime.runtime_url) {
        (Some(_), Some(_)) => Err(Failure::usage(
            "a provider enrols through one door: --control-url with a personal token, or --runtime-url with the service token",
        )),
        (Some(_), None) => Ok(true),
        (None, Some(_)) => Ok(false),
        (None, None) => {
            let named = ["OA_RUNTIME_BASE_URL", "RUNTIME_SERVICE_TOKEN"]
                .iter()
                .any(|name| settings.get(name).is_some());
            let own = data.endpoints()?.and_then(|endpoints| endpoints.runtime).is_some();
            Ok(settings.get("OA_CONTROL_BASE_URL").is_some() && !named && !own)
        }
    }
}

/// Finds the door, and looks whether what is to be shown there can open it.
pub fn find(doors: &Doors, settings: &Settings, data: &DataDir, format: Format) -> Result<Door, Failure> {
    match is_control(doors, settings, data)? {
        true => {
            let url = doors.control_url.as_deref();
            let place = connect::find_control(url, doors.runtime.token.as_deref(), settings, data)?;
            if settings.get("RUNTIME_SERVICE_TOKEN").is_some() {
                format.note(
                    "RUNTIME_SERVICE_TOKEN is set here and not used: whoever sells needs none, take it off this machine",
                );
            }
            let door = control(&place, settings)?;
            if place.url.starts_with("http:") && !connect::is_loopback(&place.url) {
                format.note(&format!("the personal token goes to {} in clear: use https there", place.url));
            }
            Ok(door)
        }
        false => runtime(&connect::find(&doors.runtime, settings, data)?, settings),
    }
}

fn control(place: &Place, settings: &Settings) -> Result<Door, Failure> {
    let make = "a user of control makes one with POST /api/tokens, its operator with `oa user add EMAIL`";
    match place.token.as_ref().map(reveal) {
        None => Err(Failure::usage(format!(
            "control at {} asks for a personal token with the ability runtime.write: set OA_CONTROL_TOKEN or --token; {make}",
            place.url
        ))),
        Some(token) if token.starts_with(SERVICE) => Err(Failure::usage(format!(
            "this is a service token, which is the operator's and opens everything at the runtime; control at {} takes a personal token: {make}",
            place.url
        ))),
        Some(_) if is_owner_named(settings) => Err(Failure::usage(
            "through control a provider belongs to the user of the personal token: leave OA_PROVIDER_OWNER_USER_ID and OA_PROVIDER_OWNER_GUEST_SCOPE out",
        )),
        Some(_) => Ok(Door { client: place.client()?, whose: Whose::TokensUser }),
    }
}

fn runtime(place: &Place, settings: &Settings) -> Result<Door, Failure> {
    if place.token.as_ref().is_some_and(|token| reveal(token).starts_with(PERSONAL)) {
        return Err(Failure::usage(format!(
            "the runtime at {} takes no personal token: enrol through its control service, with --control-url URL",
            place.url
        )));
    }
    Ok(Door { client: place.client()?, whose: Whose::Named(owner(settings)?) })
}

fn is_owner_named(settings: &Settings) -> bool {
    ["OA_PROVIDER_OWNER_USER_ID", "OA_PROVIDER_OWNER_GUEST_SCOPE"]
        .iter()
        .any(|name| settings.get(name).is_some())
}

/// Where statements are read and providers admitted: at the runtime only. No row of control does either.
pub fn runtime_only(doors: &Doors, settings: &Settings, data: &DataDir) -> Result<Place, Failure> {
    let place = connect::find(&doors.runtime, settings, data)?;
    let personal = place.token.as_ref().is_some_and(|token| reveal(token).starts_with(PERSONAL));
    match personal || is_control(doors, settings, data)? {
        true => Err(Failure::usage(
            "statements are read and providers admitted at the runtime, with the operator's service token; control has no row for either: ask the operator, who runs this there",
        )),
        false => Ok(place),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::SettingFlags,
        data_dir::{Endpoints, tests::scratch},
    };

    fn found(
        doors: Doors,
        environment: &[(&str, &str)],
        announced: Option<&str>,
    ) -> Result<(String, Whose), String> {
        let directory = scratch();
        let data = DataDir::at(directory.path());
        if let Some(url) = announced {
            data.create().expect("a directory");
            let endpoints = Endpoints { runtime: Some(url.to_owned()), control: None, pid: 1 };
            data.announce(&endpoints).expect("announced");
        }
        let look_up = |name: &str| {
            environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let settings = Settings::load(&SettingFlags::default(), &look_up, &data).expect("settings");
        match find(&doors, &settings, &data, Format::Text) {
            Ok(door) => Ok((door.client.base().to_owned(), door.whose)),
            Err(failure) => Err(failure.sentence),
        }
    }

    fn at_control(token: Option<&str>) -> Doors {
        Doors {
            control_url: Some("https://control.example".into()),
            runtime: Wish { runtime_url: None, token: token.map(str::to_owned) },
        }
    }

    const SELLER: [(&str, &str); 2] =
        [("OA_CONTROL_BASE_URL", "https://control.example"), ("OA_CONTROL_TOKEN", "oa_pat_1")];

    #[test]
    fn whoever_sells_comes_through_control_and_the_token_says_whose_provider_it_is() {
        let seller = Ok(("https://control.example".to_owned(), Whose::TokensUser));
        assert_eq!(found(at_control(Some("oa_pat_1")), &[], None), seller);
        assert_eq!(found(Doors::default(), &SELLER, None), seller);
        // The flag wins over everything that is lying around.
        let around = [("RUNTIME_SERVICE_TOKEN", "oa_st_1"), ("OA_RUNTIME_BASE_URL", "http://127.0.0.1:2")];
        assert_eq!(found(at_control(Some("oa_pat_1")), &around, Some("http://127.0.0.1:3")), seller);
    }

    #[test]
    fn whoever_says_where_the_runtime_is_comes_in_there_as_before() {
        let first = Whose::Named(NameOwner { owner_user_id: Some(1), owner_guest_scope: None });
        let at = |url: &str| Ok((url.to_owned(), first.clone()));
        let flag = Doors {
            control_url: None,
            runtime: Wish { runtime_url: Some("http://127.0.0.1:1".into()), token: None },
        };
        assert_eq!(found(flag, &SELLER, None), at("http://127.0.0.1:1"));
        for named in [("OA_RUNTIME_BASE_URL", connect::USUAL), ("RUNTIME_SERVICE_TOKEN", "oa_st_1")] {
            assert_eq!(found(Doors::default(), &[SELLER[0], SELLER[1], named], None), at(connect::USUAL));
        }
        assert_eq!(found(Doors::default(), &SELLER, Some("http://127.0.0.1:3")), at("http://127.0.0.1:3"));
        assert_eq!(found(Doors::default(), &[], None), at(connect::USUAL));
    }

    #[test]
    fn what_cannot_open_the_door_is_refused_before_it_is_shown_to_anybody() {
        let said =
            |doors, environment: &[(&str, &str)]| found(doors, environment, None).expect_err("refused");
        assert!(said(at_control(None), &[]).contains("OA_CONTROL_TOKEN"));
        assert!(said(at_control(Some("oa_st_1")), &[]).contains("takes a personal token"));
        let owner = [("OA_PROVIDER_OWNER_USER_ID", "7")];
        assert!(said(at_control(Some("oa_pat_1")), &owner).contains("the user of the personal token"));
        let personal = Wish { runtime_url: None, token: Some("oa_pat_1".into()) };
        let there = Doors { control_url: None, runtime: personal };
        assert!(said(there, &[]).contains("--control-url"));
        let both = Wish { runtime_url: Some("http://127.0.0.1:1".into()), token: None };
        assert!(said(Doors { runtime: both, ..at_control(None) }, &[]).contains("one door"));
    }
}
