//! Decides what the asker says of its own build, and which lanes it takes for ended. Control serves clients of certain
//! builds only where an operator asked for it (control §2.4); which, it says itself to a client that says nothing.

use oa_contract::{Code, Service, sunset};
use oa_control::is_guarded;

use super::{
    Group, Wrong, plan,
    probe::{Asker, Heard, Probe, Show},
};

/// A row that is guarded and that nobody has to be anybody to be turned away from.
pub const GUARDED: &str = "/api/v1/control/status";

/// A client that control serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientVersion {
    pub build: String,
    pub protocol: String,
    pub schema: u64,
}

/// How control keeps its compatibility lanes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lanes {
    /// Who has to be said to be asking, if control wants to know.
    pub client: Option<ClientVersion>,
    /// Whether the compatibility lanes have ended, and answer 410.
    pub ended: bool,
}

impl Lanes {
    /// What an answer to a client that says nothing tells.
    pub fn of(heard: &Heard) -> Self {
        match (heard.status(), heard.code().as_deref()) {
            (Some(410), Some(code)) if code == Code::Gone.name() => Lanes { client: None, ended: true },
            (Some(426), _) => Lanes { client: served(heard), ended: false },
            _ => Lanes::default(),
        }
    }

    /// Whether a question is about a lane that has ended.
    pub fn is_over(&self, probe: &Probe) -> bool {
        self.ended && probe.port == Service::Control && sunset::is_compatibility_lane(&probe.path)
    }
}

/// The oldest that is served, which is served whatever the newest is.
fn served(heard: &Heard) -> Option<ClientVersion> {
    let said = heard.json()["compatibility"].clone();
    Some(ClientVersion {
        build: said["min_client_build_id"].as_str()?.to_owned(),
        protocol: said["protocol_version"].as_str()?.to_owned(),
        schema: said["min_schema_version"].as_u64()?,
    })
}

/// A lane that has ended says so to everybody, whatever they ask; `None` when it does.
pub fn not_over(probe: &Probe, heard: &Heard) -> Option<Wrong> {
    let told = heard.status() == Some(410) && heard.code().as_deref() == Some(Code::Gone.name());
    (!told).then(|| Wrong::heard(probe, "410 gone", heard))
}

/// Whoever does not say their build is turned away from the guarded lanes before they are asked who they are; `None`
/// where control does not want to know.
pub async fn asked_for(asker: &Asker) -> Option<Group> {
    let client = asker.lanes().client.clone()?;
    let guarded =
        plan::every_path(Service::Control, asker.nothing()).into_iter().filter(|path| is_guarded(path));
    let probes: Vec<Probe> = guarded
        .map(|path| Probe::get(Service::Control, path).showing(Show::Nothing).without_a_version())
        .collect();
    let heard = asker.all(&probes).await;
    let told = |heard: &Heard| {
        heard.status() == Some(426) && heard.code().as_deref() == Some(Code::InvalidClientBuild.name())
    };
    let missed = probes.iter().zip(&heard).filter(|(_, heard)| !told(heard));
    let wrong = missed.map(|(probe, heard)| Wrong::heard(probe, "426 invalid_client_build", heard)).collect();
    let claim = format!(
        "{} lanes serve clients from build {} on and turn away who names none",
        probes.len(),
        client.build
    );
    Some(Group::new("client versions", probes.len(), claim, wrong))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::probe::Answer;

    fn heard(status: u16, body: &str) -> Heard {
        Heard::Answer(Answer { status, allow: Vec::new(), body: body.into() })
    }

    #[test]
    fn control_says_itself_whom_it_serves() {
        let body = r#"{"error":{"code":"invalid_client_build"},"compatibility":{"min_client_build_id":"20260221T120000Z",
            "max_client_build_id":null,"min_schema_version":2,"max_schema_version":3,"protocol_version":"p.v1"}}"#;
        let client = ClientVersion { build: "20260221T120000Z".into(), protocol: "p.v1".into(), schema: 2 };
        assert_eq!(Lanes::of(&heard(426, body)), Lanes { client: Some(client), ended: false });
        assert_eq!(Lanes::of(&heard(426, "{}")), Lanes::default());
        assert_eq!(Lanes::of(&heard(200, body)), Lanes::default());
    }

    #[test]
    fn only_the_compatibility_lanes_of_control_end() {
        let lanes = Lanes::of(&heard(410, r#"{"error":{"code":"gone"}}"#));
        let over = |port, path: &str| lanes.is_over(&Probe::get(port, path));
        assert!(over(Service::Control, GUARDED) && over(Service::Control, "/api/chats/x"));
        assert!(!over(Service::Control, "/api/runtime/threads") && !over(Service::Runtime, GUARDED));
        assert!(!Lanes::default().is_over(&Probe::get(Service::Control, GUARDED)));
        assert!(not_over(&Probe::get(Service::Control, GUARDED), &heard(404, "{}")).is_some());
    }
}
