//! Decides how this machine becomes a provider: what it offers, that it really has it, and what is left in order when it ends.

pub mod admit;
pub mod caller;
pub mod door;
mod enrol;
mod http;
mod jobs;
mod keep;
pub mod local;
pub mod repo;
pub mod statement;
mod work;

use std::{path::Path, sync::Arc, time::Duration};

use oa_contract::wire::{
    jobs::{REPO_INDEX, SANDBOX_RUN},
    workers::{NameOwner, WorkerStatus},
};
use oa_edge::Drain;
use oa_sandbox::{Isolation, Launcher, Layers, Sandbox, Visible};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::Instant};

use self::{
    caller::Key,
    door::{Doors, Whose},
    enrol::Enrolment,
    http::Provider,
    jobs::Jobs,
    keep::Keep,
    repo::Allowed,
    work::{Caps, Workshop},
};
use crate::{
    config::Settings,
    data_dir::DataDir,
    exec::Signals,
    failure::{Failure, OK},
    output::Format,
    system::SystemClock,
};

/// The hidden command that becomes a sandbox.
pub const SANDBOX: &str = "sandbox-init";
/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_secs(5);
/// How long answers that are being written may take at the end.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// Serves jobs until it is told to end.
pub async fn run(settings: &Settings, doors: &Doors, data: &DataDir, format: Format) -> Result<u8, Failure> {
    let mut signals = Signals::catch().map_err(|error| Failure::wrong(error.to_string()))?;
    let door = match settings.get("OA_PROVIDER_ENROL") {
        Some("true" | "1" | "yes" | "on") => Some(door::find(doors, settings, data, format)?),
        _ => None,
    };
    let workshop = workshop(settings, data).await?;
    let address = settings
        .address("OA_PROVIDER_BIND_ADDR")
        .ok_or_else(|| Failure::usage("OA_PROVIDER_BIND_ADDR is missing"))?;
    let key = caller::key(settings, address)?;
    if door.as_ref().is_some_and(|door| door.whose == Whose::TokensUser)
        && matches!(key, Some(Key::Secret(_)))
    {
        format.note(
            "OA_PROVIDER_CALLER_TOKEN is the secret of every provider: whoever sells asks the operator for `oa provider caller-token URL` instead",
        );
    }
    let listener =
        TcpListener::bind(address).await.map_err(|error| Failure::wrong(format!("{address}: {error}")))?;
    let address = listener.local_addr().map_err(|error| Failure::wrong(error.to_string()))?;
    let base =
        settings.get("OA_PROVIDER_BASE_URL").map_or_else(|| format!("http://{address}"), str::to_owned);
    let id = settings.get("OA_PROVIDER_ID").map_or_else(|| usual_id(address.port()), str::to_owned);
    let at_once = number(settings, "OA_PROVIDER_JOBS");
    let metadata = metadata(settings, &id, &base, &workshop);
    let isolation = isolation(&workshop.isolation);
    let jobs = Arc::new(Jobs::new(workshop, usize::try_from(at_once).unwrap_or(1), format));
    let token = settings.get("OA_PROVIDER_OPERATOR_TOKEN").map(SecretString::from);
    let caller = key.map(|key| key.token(&base));
    let provider =
        Provider { id: id.clone(), jobs: jobs.clone(), token, caller, clock: SystemClock::default() };
    let drain = Drain::new();
    let router = http::router(Arc::new(provider));
    let server = tokio::spawn(oa_edge::serve(listener, router, drain.clone(), LAST_ANSWERS));
    format.show(
        &format!("provider {id} at {base}\nisolation: {}", describe(&jobs.workshop.isolation)),
        &json!({"id": id, "base_url": base, "isolation": isolation}),
    )?;
    let enrolment = door.map(|door| {
        let every = Duration::from_secs(number(settings, "OA_PROVIDER_HEARTBEAT_SECONDS"));
        Arc::new(Enrolment { door, worker_id: format!("provider:{id}"), metadata, every, format })
    });
    let keeping_up = enrolment.clone().map(|enrolment| tokio::spawn(enrolment.keep_up(jobs.clone())));
    let signal = signals.next().await;
    format.note(&format!("{signal}: no new jobs; {} still run", jobs.running_count()));
    jobs.end();
    if let Some(task) = keeping_up {
        task.abort();
    }
    say(enrolment.as_deref(), WorkerStatus::Stopping, "drain").await;
    let until = Instant::now() + Duration::from_secs(number(settings, "OA_PROVIDER_DRAIN_SECONDS"));
    while jobs.running_count() > 0 {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
            // Told a second time, it waits no longer.
            _ = signals.next() => jobs.cancel_all(),
            () = tokio::time::sleep_until(until), if Instant::now() < until => jobs.cancel_all(),
        }
        if Instant::now() >= until {
            jobs.cancel_all();
        }
    }
    drain.begin();
    let _ = server.await;
    say(enrolment.as_deref(), WorkerStatus::Stopped, "drained").await;
    Ok(OK)
}

async fn say(enrolment: Option<&Enrolment>, status: WorkerStatus, reason: &str) {
    if let Some(enrolment) = enrolment {
        let _ = tokio::time::timeout(GOODBYE, enrolment.say(status, reason)).await;
    }
}

/// Looks at what this host really has; a provider that lacks what it must have does not start.
async fn workshop(settings: &Settings, data: &DataDir) -> Result<Workshop, Failure> {
    let sandbox = Sandbox::new(Launcher::this_program([SANDBOX]));
    let looked = sandbox.clone();
    let isolation = tokio::task::spawn_blocking(move || looked.isolation())
        .await
        .map_err(|error| Failure::wrong(error.to_string()))?;
    let demanded = http::layers(settings.get("OA_PROVIDER_MINIMUM_ISOLATION").unwrap_or_default());
    let demanded = demanded.map_err(|why| Failure::usage(format!("OA_PROVIDER_MINIMUM_ISOLATION: {why}")))?;
    let minimum: Layers = Layers::standard().iter().chain(demanded.iter()).collect();
    let absent = minimum.beyond(&isolation.layers);
    if !absent.is_empty() {
        let why = absent.iter().find_map(|layer| isolation.missing.get(&layer).cloned()).unwrap_or_default();
        return Err(Failure::wrong(format!("jobs cannot be isolated here: {absent} ({why})")));
    }
    let keep = Keep::open(
        &data.path().join("provider"),
        number(settings, "OA_PROVIDER_KEEP_MB") << 20,
        Duration::from_secs(number(settings, "OA_PROVIDER_KEEP_HOURS") * 3600),
    );
    Ok(Workshop {
        sandbox,
        isolation,
        minimum,
        allowed: Allowed::parse(settings.get("OA_PROVIDER_REPOSITORIES").unwrap_or_default())
            .map_err(Failure::usage)?,
        visible: visible(settings.get("OA_PROVIDER_VISIBLE").unwrap_or_default())?,
        path: settings.get("OA_PROVIDER_JOB_PATH").unwrap_or_default().to_owned(),
        caps: Caps {
            timeout_secs: number(settings, "OA_PROVIDER_MAX_TIMEOUT_SECONDS"),
            memory_mb: number(settings, "OA_PROVIDER_MAX_MEMORY_MB"),
            cpus: number(settings, "OA_PROVIDER_MAX_CPUS"),
            disk_mb: number(settings, "OA_PROVIDER_MAX_DISK_MB"),
            output_mb: number(settings, "OA_PROVIDER_MAX_OUTPUT_MB"),
            processes: number(settings, "OA_PROVIDER_MAX_PROCESSES"),
        },
        keep: Arc::new(keep.map_err(|error| Failure::file(&data.path().join("provider"), &error))?),
        tap: None,
    })
}

fn visible(list: &str) -> Result<Vec<Visible>, Failure> {
    let paths = list.split(',').map(str::trim).filter(|path| !path.is_empty());
    paths
        .map(|path| match Path::new(path).is_absolute() && Path::new(path).exists() {
            true => Ok(Visible::same(path)),
            false => {
                Err(Failure::usage(format!("OA_PROVIDER_VISIBLE: there is no {path:?}; paths are absolute")))
            }
        })
        .collect()
}

/// Every setting of this kind has a default, and was checked when it was read.
fn number(settings: &Settings, name: &str) -> u64 {
    settings.get(name).and_then(|value| value.parse().ok()).unwrap_or(1)
}

/// Whose a provider is, and whose jobs are, when nobody says more.
pub fn owner(settings: &Settings) -> Result<NameOwner, Failure> {
    let user = settings.get("OA_PROVIDER_OWNER_USER_ID").and_then(|value| value.parse().ok());
    let guest = settings.get("OA_PROVIDER_OWNER_GUEST_SCOPE").map(str::to_owned);
    match (user, guest) {
        (Some(_), Some(_)) => Err(Failure::usage("a provider has one owner: a user id or a guest scope")),
        (None, None) => Ok(NameOwner { owner_user_id: Some(1), owner_guest_scope: None }),
        (owner_user_id, owner_guest_scope) => Ok(NameOwner { owner_user_id, owner_guest_scope }),
    }
}

/// The machine and the port: the same provider whenever it is started there.
fn usual_id(port: u16) -> String {
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
    let host = host.unwrap_or_else(|_| "localhost".to_owned());
    let plain = host.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' });
    format!("{}-{port}", plain.take(60).collect::<String>())
}

fn metadata(settings: &Settings, id: &str, base: &str, workshop: &Workshop) -> Value {
    let caps = &workshop.caps;
    let mut metadata = json!({
        "roles": ["client", "provider"],
        "provider_id": id,
        "provider_base_url": base,
        "capabilities": [SANDBOX_RUN, REPO_INDEX],
        "min_price_msats": number(settings, "OA_PROVIDER_MIN_PRICE_MSATS"),
        "caps": {
            "max_timeout_secs": caps.timeout_secs,
            "max_memory_mb": caps.memory_mb,
            "max_cpus": caps.cpus,
            "max_disk_mb": caps.disk_mb,
            "max_jobs": number(settings, "OA_PROVIDER_JOBS"),
            "network_policies": ["none", "localhost"],
        },
        "isolation": isolation(&workshop.isolation),
        "oa_version": env!("CARGO_PKG_VERSION"),
    });
    if let Some(node_id) = settings.get("OA_PROVIDER_LIGHTNING_NODE_ID") {
        metadata["lightning_node_id"] = json!(node_id);
    }
    metadata
}

/// What stands around a job here, and what does not, with the reason.
fn isolation(isolation: &Isolation) -> Value {
    json!({
        "layers": isolation.layers.iter().map(|layer| layer.name()).collect::<Vec<_>>(),
        "missing": isolation.missing.iter().map(|(layer, why)| (layer.name(), why)).collect::<std::collections::BTreeMap<_, _>>(),
        "landlock_abi": isolation.landlock_abi,
    })
}

fn describe(isolation: &Isolation) -> String {
    let mut text = isolation.layers.to_string();
    for (layer, why) in &isolation.missing {
        text += &format!("\n  without {}: {why}", layer.name());
    }
    text
}
