//! Decides what a new autopilot is. A handle that was asked for and is taken is refused; one that was made up gives way.

use oa_contract::{
    Answer, Ask, Fault, Handle, Refusal, Stop, Timestamp,
    matrix::AutopilotsCreate,
    operation::Data,
    wire::autopilots::{AutopilotPolicy, AutopilotReply, CreateAutopilot},
};
use oa_store::{
    Tx,
    tables::autopilots::{self as rows, Autopilot},
};

use super::view;
use crate::{Control, identity::signed_in, runtime_routing::decide::driver_label};

const HANDLE_MAX: usize = 64;
/// Made-up handles that are tried before one gets an id of its own.
const TRIES: u32 = 20;
/// Entries of one list of a policy, and characters of an entry.
const LIST_MAX: usize = 200;
const ENTRY_MAX: usize = 255;

impl Handle<AutopilotsCreate> for Control {
    async fn handle(&self, ask: Ask<AutopilotsCreate>) -> Result<Answer<AutopilotReply>, Stop> {
        let user = signed_in(&ask.caller)?;
        let id = format!("autopilot_{}", self.ids.uuid32());
        let new = decide(ask.body, id, &user.user_id, self.clock.now(), self.config.autopilots_max)?;
        let made = self.store.write("autopilots_create", rows::key(&user.user_id), new, insert).await?;
        Ok(Data { data: view(made)? }.into())
    }
}

/// An autopilot to be kept, and whether its handle may give way to another.
#[derive(Clone, Debug)]
pub(crate) struct New {
    pub autopilot: Autopilot,
    pub made_up: bool,
    /// How many its owner may have.
    pub most: u32,
}

pub(crate) fn decide(
    body: CreateAutopilot,
    autopilot_id: String,
    user_id: &str,
    now: Timestamp,
    most: u32,
) -> Result<New, Stop> {
    let display_name = text("displayName", body.display_name, 120)?.unwrap_or_else(|| "Autopilot".into());
    let given = text("handle", body.handle, HANDLE_MAX)?.map(|handle| handle.to_lowercase());
    if given.as_deref().is_some_and(|handle| !is_handle(handle)) {
        let message = "handle must have letters a-z, digits, `-` and `_`, and begin with a letter or a digit";
        return Err(Refusal::field("handle", message).into());
    }
    let policy = body.policy.unwrap_or_default();
    check(&policy)?;
    let made_up = given.is_none();
    let autopilot = Autopilot {
        autopilot_id,
        user_id: user_id.to_owned(),
        handle: given.unwrap_or_else(|| handle_of(&display_name)),
        display_name,
        avatar: text("avatar", body.avatar, 2_048)?,
        tagline: text("tagline", body.tagline, 255)?,
        status: one_of("status", body.status, &["active", "disabled", "archived"])?,
        visibility: one_of("visibility", body.visibility, &["private", "discoverable", "public"])?,
        runtime_type: driver("runtimeType", body.runtime_type)?,
        policy: serde_json::to_string(&policy)
            .map_err(|error| Fault::new("writing the policy of an autopilot", error))?,
        created_at: now,
        updated_at: now,
    };
    Ok(New { autopilot, made_up, most })
}

/// A text that may be absent or blank.
fn text(field: &str, text: Option<String>, most: usize) -> Result<Option<String>, Refusal> {
    let text = text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    match text.as_ref().is_some_and(|text| text.chars().count() > most) {
        true => Err(Refusal::field(field, format!("{field} must have at most {most} characters"))),
        false => Ok(text),
    }
}

/// One of these words, the first without one.
fn one_of(field: &str, given: Option<String>, words: &[&str]) -> Result<String, Refusal> {
    match text(field, given, 32)?.map(|word| word.to_lowercase()) {
        None => Ok(words.first().copied().unwrap_or_default().to_owned()),
        Some(word) if words.contains(&word.as_str()) => Ok(word),
        Some(_) => Err(Refusal::field(field, format!("{field} must be one of {}", words.join(", ")))),
    }
}

/// The label of a driver, as it is kept.
fn driver(field: &str, given: Option<String>) -> Result<Option<String>, Refusal> {
    let Some(given) = text(field, given, 120)? else { return Ok(None) };
    match driver_label(&given) {
        Some(label) => Ok(Some(label.to_owned())),
        None => Err(Refusal::field(field, format!("{field} must be control_service or runtime_service"))),
    }
}

fn is_handle(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    (1..=HANDLE_MAX).contains(&text.len())
        && text.bytes().all(fits)
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
}

/// A handle made of a name: what is no letter or digit becomes one dash.
fn handle_of(name: &str) -> String {
    let words: Vec<String> = name
        .to_lowercase()
        .split(|letter: char| !letter.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    let handle: String = words.join("-").chars().take(HANDLE_MAX - 8).collect();
    match handle.trim_end_matches('-') {
        "" => "autopilot".to_owned(),
        handle => handle.to_owned(),
    }
}

fn check(policy: &AutopilotPolicy) -> Result<(), Refusal> {
    let lists = [
        ("toolAllowlist", &policy.tool_allowlist),
        ("toolDenylist", &policy.tool_denylist),
        ("l402AllowedHosts", &policy.l402_allowed_hosts),
    ];
    for (name, list) in lists {
        let list = list.as_deref().unwrap_or_default();
        let entry = |entry: &String| (1..=ENTRY_MAX).contains(&entry.trim().chars().count());
        if list.len() > LIST_MAX || !list.iter().all(entry) {
            let message = format!("{name} may hold {LIST_MAX} entries of 1 to {ENTRY_MAX} characters");
            return Err(Refusal::field(format!("policy.{name}"), message));
        }
    }
    let limits = [
        ("l402MaxSpendMsatsPerCall", policy.l402_max_spend_msats_per_call),
        ("l402MaxSpendMsatsPerDay", policy.l402_max_spend_msats_per_day),
    ];
    for (name, limit) in limits {
        if limit.is_some_and(|limit| i64::try_from(limit).is_err()) {
            return Err(Refusal::field(format!("policy.{name}"), format!("{name} is too large")));
        }
    }
    Ok(())
}

pub(crate) async fn insert(tx: &mut Tx, new: &New) -> Result<Autopilot, Stop> {
    let mut autopilot = new.autopilot.clone();
    if rows::holds(tx, &autopilot.user_id, new.most).await? {
        return Err(Refusal::conflict(format!(
            "you have {} autopilots, which is as many as one user may have (OA_AUTOPILOTS_MAX); use one of them",
            new.most
        ))
        .into());
    }
    if rows::insert(tx, &autopilot).await? {
        return Ok(autopilot);
    }
    if !new.made_up {
        return Err(Refusal::conflict(format!("you have an autopilot {} already", autopilot.handle)).into());
    }
    let own = autopilot.autopilot_id.trim_start_matches("autopilot_").to_owned();
    let suffixes =
        (2..TRIES).map(|number| number.to_string()).chain([own.chars().take(7).collect(), own.clone()]);
    for suffix in suffixes {
        let base: String = new.autopilot.handle.chars().take(HANDLE_MAX - 1 - suffix.len()).collect();
        autopilot.handle = format!("{base}-{suffix}");
        if rows::insert(tx, &autopilot).await? {
            return Ok(autopilot);
        }
    }
    Err(Refusal::conflict("give the autopilot a handle: none that could be made up is free").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(body: CreateAutopilot) -> Result<Autopilot, Refusal> {
        match decide(body, "autopilot_1".into(), "user_1", Timestamp::EPOCH, 1) {
            Ok(new) => Ok(new.autopilot),
            Err(Stop::Refusal(refusal)) => Err(refusal),
            Err(Stop::Fault(fault)) => panic!("{fault}"),
        }
    }

    #[test]
    fn an_autopilot_without_a_word_is_active_private_and_has_a_handle() {
        let made = decided(CreateAutopilot::default()).expect("made");
        assert_eq!((made.handle.as_str(), made.display_name.as_str()), ("autopilot", "Autopilot"));
        assert_eq!((made.status.as_str(), made.visibility.as_str()), ("active", "private"));
        assert_eq!(made.policy, "{}");
        let named = CreateAutopilot { display_name: Some("  Ada's *Scout*! ".into()), ..Default::default() };
        assert_eq!(decided(named).expect("made").handle, "ada-s-scout");
        let strange = CreateAutopilot { display_name: Some("日本".into()), ..Default::default() };
        assert_eq!(decided(strange).expect("made").handle, "autopilot");
    }

    #[test]
    fn a_refusal_names_the_field() {
        let long = |length| Some("x".repeat(length));
        let policy = |policy| CreateAutopilot { policy: Some(policy), ..Default::default() };
        let empty = CreateAutopilot::default;
        for (field, body) in [
            ("handle", CreateAutopilot { handle: Some("a b".into()), ..empty() }),
            ("handle", CreateAutopilot { handle: Some("-a".into()), ..empty() }),
            ("handle", CreateAutopilot { handle: long(65), ..empty() }),
            ("displayName", CreateAutopilot { display_name: long(121), ..empty() }),
            ("avatar", CreateAutopilot { avatar: long(2_049), ..empty() }),
            ("tagline", CreateAutopilot { tagline: long(256), ..empty() }),
            ("status", CreateAutopilot { status: Some("asleep".into()), ..empty() }),
            ("visibility", CreateAutopilot { visibility: Some("secret".into()), ..empty() }),
            ("runtimeType", CreateAutopilot { runtime_type: long(121), ..empty() }),
            ("runtimeType", CreateAutopilot { runtime_type: Some("elixir".into()), ..empty() }),
            ("runtimeType", CreateAutopilot { runtime_type: Some("runtime".into()), ..empty() }),
            (
                "policy.toolAllowlist",
                policy(AutopilotPolicy { tool_allowlist: Some(vec![String::new()]), ..Default::default() }),
            ),
            (
                "policy.l402MaxSpendMsatsPerDay",
                policy(AutopilotPolicy {
                    l402_max_spend_msats_per_day: Some(u64::MAX),
                    ..Default::default()
                }),
            ),
        ] {
            assert_eq!(decided(body).expect_err(field).field.as_deref(), Some(field));
        }
    }
}
