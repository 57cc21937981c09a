//! Decides whether a set-up is sound: looks at what usually goes wrong and says of each finding what to do about it.

use std::{
    net::{SocketAddr, TcpListener},
    os::unix::fs::MetadataExt as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::sys::statvfs::statvfs;
use oa_client::{CallError, Client, Identity, Manner, Raw};
use oa_contract::{
    Nothing, Operation,
    matrix::{ControlReady, RunsList, RuntimeHealth, RuntimeReady},
    operation::Call,
    wire::{health, runs::ListRuns},
};
use serde::Serialize;
use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc2822};

use crate::{
    config::Settings,
    connect::Place,
    data_dir::DataDir,
    failure::{Failure, OK, WRONG},
    output::{Format, plain},
};

/// A signed credential is refused beyond this.
const SKEW_SECONDS: i64 = 30;
/// Less free space than this is wrong, because every event is a durable write.
const LITTLE_SPACE: u64 = 512 * 1024 * 1024;
const ANSWER: Duration = Duration::from_secs(5);

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    Good,
    /// Worth knowing, and in order.
    Note,
    Wrong,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub what: &'static str,
    pub grade: Grade,
    pub is: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub do_this: Option<String>,
}

impl Finding {
    fn good(what: &'static str, is: impl Into<String>) -> Self {
        Finding { what, grade: Grade::Good, is: is.into(), do_this: None }
    }

    fn note(what: &'static str, is: impl Into<String>, do_this: impl Into<String>) -> Self {
        Finding { what, grade: Grade::Note, is: is.into(), do_this: Some(do_this.into()) }
    }

    fn wrong(what: &'static str, is: impl Into<String>, do_this: impl Into<String>) -> Self {
        Finding { what, grade: Grade::Wrong, is: is.into(), do_this: Some(do_this.into()) }
    }
}

/// Looks at everything and prints it; gives the exit code.
pub async fn examine(
    data: &DataDir,
    settings: &Settings,
    place: &Place,
    format: Format,
) -> Result<u8, Failure> {
    let mut findings = vec![directory(data), keys(data), spools(data), space(data)];
    findings.extend(server(data, settings, place).await?);
    findings.extend(control(data).await?);
    let sound = findings.iter().all(|finding| finding.grade != Grade::Wrong);
    format.show(
        &text(&findings, sound),
        &json!({"sound": sound, "version": env!("CARGO_PKG_VERSION"), "findings": findings}),
    )?;
    Ok(if sound { OK } else { WRONG })
}

fn text(findings: &[Finding], sound: bool) -> String {
    let mut out = String::new();
    for finding in findings {
        let mark = match finding.grade {
            Grade::Good => "ok   ",
            Grade::Note => "note ",
            Grade::Wrong => "WRONG",
        };
        out.push_str(&format!("{mark}  {:<12}  {}\n", finding.what, plain(&finding.is)));
        if let Some(do_this) = &finding.do_this {
            out.push_str(&format!("                     → {}\n", plain(do_this)));
        }
    }
    out.push_str(if sound { "Nothing is wrong." } else { "Something is wrong: see above." });
    out
}

fn directory(data: &DataDir) -> Finding {
    const WHAT: &str = "data";
    let path = data.path().display();
    let metadata = match std::fs::metadata(data.path()) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Finding::note(
                WHAT,
                format!("{path} does not exist yet"),
                "the first start of a server makes it; --data or OA_DATA_DIR names another",
            );
        }
        Err(error) => {
            return Finding::wrong(
                WHAT,
                format!("{path}: {error}"),
                "make it readable for the user that runs oa",
            );
        }
    };
    let mode = metadata.mode() & 0o777;
    if !metadata.is_dir() {
        return Finding::wrong(WHAT, format!("{path} is not a directory"), "name another with --data");
    }
    if metadata.uid() != nix::unistd::geteuid().as_raw() {
        return Finding::wrong(
            WHAT,
            format!("{path} belongs to another user"),
            "run oa as that user, or name another directory with --data",
        );
    }
    if mode & 0o077 != 0 {
        return Finding::wrong(
            WHAT,
            format!("others can look into {path} (mode {mode:03o})"),
            format!("chmod 700 {path}"),
        );
    }
    Finding::good(WHAT, format!("{path}, for its owner only"))
}

fn keys(data: &DataDir) -> Finding {
    match data.key_findings() {
        findings if findings.is_empty() => {
            Finding::good("keys", "those that are there are whole and for their owner only")
        }
        findings => Finding::wrong(
            "keys",
            findings.join("; "),
            "a key that others could read is theirs too: remove the file, and the next start makes a new one",
        ),
    }
}

fn spools(data: &DataDir) -> Finding {
    // A recording is a file; a codex worker has a directory, and sends the rest of it when it runs again.
    let entries: Vec<_> =
        std::fs::read_dir(data.spool()).map(|entries| entries.flatten().collect()).unwrap_or_default();
    let (workers, names): (Vec<_>, Vec<_>) =
        entries.iter().map(std::fs::DirEntry::path).partition(|path| path.is_dir());
    match names.first().map(|path| path.display()) {
        None if workers.is_empty() => Finding::good("spools", "no recording waits to be sent"),
        None => Finding::good(
            "spools",
            format!(
                "no recording waits to be sent; {} codex workers keep their place and send the rest when they run",
                workers.len()
            ),
        ),
        Some(first) => Finding::note(
            "spools",
            format!("{} recordings run now or wait to be sent", names.len()),
            format!("oa exec --resume {first}"),
        ),
    }
}

fn space(data: &DataDir) -> Finding {
    let nearest = data.path().ancestors().find(|path| path.exists()).unwrap_or(std::path::Path::new("."));
    match statvfs(nearest) {
        Err(error) => {
            Finding::wrong("disk", format!("{}: {error}", nearest.display()), "check the file system")
        }
        Ok(stat) => {
            let free = stat.blocks_available().saturating_mul(stat.fragment_size());
            let is = format!("{} MiB free", free / (1024 * 1024));
            match free < LITTLE_SPACE {
                true => {
                    Finding::wrong("disk", is, "make room: a store that cannot write stops taking events")
                }
                false => Finding::good("disk", is),
            }
        }
    }
}

async fn server(data: &DataDir, settings: &Settings, place: &Place) -> Result<Vec<Finding>, Failure> {
    let client = place.client()?;
    let asked = SystemTime::now();
    let health = match send::<RuntimeHealth>(&client, Nothing {}).await {
        Ok(raw) => raw,
        Err(error) => return Ok(vec![absent(data, settings, place, &error)]),
    };
    let Some(said) =
        serde_json::from_slice::<health::RuntimeHealth>(&health.body).ok().filter(|_| health.status == 200)
    else {
        let is = format!("what answers at {} with {} is not an oa runtime", place.url, health.status);
        return Ok(vec![Finding::wrong(
            "runtime",
            is,
            "name the right address with --runtime-url, or free that port",
        )]);
    };
    let mut findings = vec![Finding::good(
        "runtime",
        format!("{} answers as {:?}, up for {} s", place.url, said.service, said.uptime_seconds),
    )];
    findings.push(clock(&health, asked));
    findings.push(version(&said));
    findings.push(writes(&said));
    findings.push(ready(send::<RuntimeReady>(&client, Nothing {}).await));
    findings.push(credential(&client).await);
    Ok(findings)
}

/// The control service that the data directory knows, if it knows one.
async fn control(data: &DataDir) -> Result<Option<Finding>, Failure> {
    const WHAT: &str = "control";
    const DO_THIS: &str = "start it again with `oa up`, and read the end of its log";
    let Some(url) = data.endpoints()?.and_then(|endpoints| endpoints.control) else { return Ok(None) };
    let client = Client::new(&url, Identity::Nobody).map_err(Failure::wrong)?;
    let finding = match send::<ControlReady>(&client, Nothing {}).await {
        Err(error) => Finding::wrong(WHAT, format!("{url} does not answer: {error}"), DO_THIS),
        Ok(raw) => match serde_json::from_slice::<health::ControlReadiness>(&raw.body) {
            Err(_) => Finding::wrong(
                WHAT,
                format!("what answers at {url} with {} is no control", raw.status),
                DO_THIS,
            ),
            Ok(said) if raw.status == 200 && said.runtime_configured => {
                Finding::good(WHAT, format!("{url} is ready and has a runtime"))
            }
            Ok(_) if raw.status == 200 => Finding::note(
                WHAT,
                format!("{url} is ready, without a runtime: /api/runtime/workers answers 503"),
                "set OA_RUNTIME_BASE_URL for it",
            ),
            Ok(said) => Finding::wrong(WHAT, said.reason.unwrap_or_else(|| "not ready".to_owned()), DO_THIS),
        },
    };
    Ok(Some(finding))
}

async fn send<O: Operation<Path = Nothing, Query = Nothing, Body = Nothing>>(
    client: &Client,
    nothing: Nothing,
) -> Result<Raw, CallError> {
    let manner = Manner { timeout: Some(ANSWER), ..Manner::default() };
    client.send(Call::<O> { path: nothing, query: Nothing {}, body: Nothing {} }, manner).await
}

/// No answer: either no server runs, or something else keeps its port, or it should run and does not.
fn absent(data: &DataDir, settings: &Settings, place: &Place, error: &CallError) -> Finding {
    const WHAT: &str = "runtime";
    let announced = data.endpoints().ok().flatten();
    let expected =
        announced.as_ref().and_then(|endpoints| endpoints.runtime.as_deref()) == Some(place.url.as_str());
    if let Some(pid) = announced.filter(|_| expected).map(|endpoints| endpoints.pid) {
        let is = format!("{} does not answer ({error}); process {pid} said that it listens there", place.url);
        return Finding::wrong(WHAT, is, "start it again with `oa up`, and read the end of its log");
    }
    match settings.address("RUNTIME_BIND_ADDR") {
        Some(address) if format!("http://{address}") == place.url => match port_is_free(address) {
            true => Finding::note(
                WHAT,
                format!("nothing listens on {address}; the port is free"),
                "`oa up` starts both services",
            ),
            false => Finding::wrong(
                WHAT,
                format!("something that is not an oa runtime keeps {address}"),
                "end it, or choose another address with --runtime-bind-addr",
            ),
        },
        _ => Finding::wrong(
            WHAT,
            format!("{} does not answer: {error}", place.url),
            "start it, or name the right address with --runtime-url",
        ),
    }
}

fn port_is_free(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_ok()
}

/// Compares the server's `Date` with our clock. The header has whole seconds, and the answer took time.
fn clock(raw: &Raw, asked: SystemTime) -> Finding {
    const WHAT: &str = "clock";
    let theirs = raw.headers.get("date").and_then(|date| parse_date(date.to_str().ok()?));
    let Some(theirs) = theirs else {
        return Finding::note(
            WHAT,
            "the server does not say what time it has",
            "compare the clocks by hand when credentials are refused",
        );
    };
    let seconds =
        |time: SystemTime| time.duration_since(UNIX_EPOCH).map(|since| since.as_secs() as i64).unwrap_or(0);
    let apart = skew(theirs, seconds(asked), seconds(SystemTime::now()));
    match apart.abs() > SKEW_SECONDS {
        true => Finding::wrong(
            WHAT,
            format!("the server's clock is {apart} s from this one"),
            "set both by NTP: signed credentials are refused beyond 30 s",
        ),
        false => Finding::good(WHAT, format!("{apart} s from the server's")),
    }
}

/// How far `theirs` lies outside the time between question and answer.
fn skew(theirs: i64, asked: i64, answered: i64) -> i64 {
    if theirs < asked - 1 {
        theirs - asked
    } else if theirs > answered + 1 {
        theirs - answered
    } else {
        0
    }
}

fn parse_date(text: &str) -> Option<i64> {
    let text = text.trim().replace("GMT", "+0000");
    OffsetDateTime::parse(&text, &Rfc2822).ok().map(OffsetDateTime::unix_timestamp)
}

fn version(said: &health::RuntimeHealth) -> Finding {
    Finding::good(
        "version",
        format!("oa {} here, build {:?} there", env!("CARGO_PKG_VERSION"), said.build_sha),
    )
}

fn writes(said: &health::RuntimeHealth) -> Finding {
    match said.authority_writer_active {
        true => Finding::good("writes", "taken"),
        false => Finding::note(
            "writes",
            format!("refused, in mode {}", said.authority_write_mode),
            "RUNTIME_AUTHORITY_WRITE_MODE=rust_active takes them again",
        ),
    }
}

fn ready(answer: Result<Raw, CallError>) -> Finding {
    const WHAT: &str = "ready";
    match answer {
        Err(error) => Finding::wrong(
            WHAT,
            format!("no answer about readiness: {error}"),
            "read the end of the server's log",
        ),
        Ok(raw) if raw.status == 200 => Finding::good(WHAT, "the store takes writes and gives them back"),
        Ok(raw) => {
            let said: Option<health::RuntimeReadiness> = serde_json::from_slice(&raw.body).ok();
            let why =
                said.and_then(|said| said.reason).unwrap_or_else(|| format!("it answers {}", raw.status));
            Finding::wrong(WHAT, format!("not ready: {why}"), "read the end of the server's log")
        }
    }
}

/// Whether our credential opens what commands need.
async fn credential(client: &Client) -> Finding {
    const WHAT: &str = "credential";
    let query = ListRuns { limit: Some(1), ..ListRuns::default() };
    let call = Call::<RunsList> { path: Nothing {}, query, body: Nothing {} };
    let manner = Manner { timeout: Some(ANSWER), ..Manner::default() };
    match client.send(call, manner).await.and_then(Raw::accepted) {
        Ok(_) => Finding::good(WHAT, "accepted"),
        Err(error) => Finding::wrong(
            WHAT,
            error.to_string(),
            "give --token, or --data for the directory that the server uses",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::SettingFlags, data_dir::tests::scratch, simulated::Simulated};

    fn grade(findings: &[Finding], what: &str) -> Option<Grade> {
        findings.iter().find(|finding| finding.what == what).map(|finding| finding.grade)
    }

    async fn look(place: &Place) -> Vec<Finding> {
        let directory = scratch();
        let data = DataDir::at(directory.path());
        let settings = Settings::load(&SettingFlags::default(), &|_| None, &data).expect("settings");
        server(&data, &settings, place).await.expect("findings")
    }

    #[test]
    fn a_date_header_is_compared_with_the_time_of_the_question() {
        assert_eq!(parse_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(skew(99, 100, 103), 0);
        assert_eq!(skew(104, 100, 103), 0);
        assert_eq!(skew(200, 100, 103), 97);
        assert_eq!(skew(40, 100, 103), -60);
    }

    #[test]
    fn a_directory_that_others_can_look_into_is_wrong_and_one_to_come_is_not() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = scratch();
        let set = |mode| {
            std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(mode))
                .expect("changed")
        };
        set(0o755);
        assert_eq!(super::directory(&DataDir::at(directory.path())).grade, Grade::Wrong);
        set(0o700);
        assert_eq!(super::directory(&DataDir::at(directory.path())).grade, Grade::Good);
        assert_eq!(super::directory(&DataDir::at(directory.path().join("x"))).grade, Grade::Note);
    }

    #[tokio::test]
    async fn a_sound_server_has_no_findings_and_a_wrong_credential_is_one() {
        let simulated = Simulated::start().await;
        let findings = look(&simulated.place()).await;
        assert!(findings.iter().all(|finding| finding.grade == Grade::Good), "{findings:?}");
        let stranger = Place { token: None, ..simulated.place() };
        assert_eq!(grade(&look(&stranger).await, "credential"), Some(Grade::Wrong));
    }

    #[test]
    fn the_place_of_a_codex_worker_is_no_recording_that_waits() {
        let directory = scratch();
        let data = DataDir::at(directory.path());
        std::fs::create_dir_all(data.spool().join("codex-w")).expect("a spool of a worker");
        let finding = spools(&data);
        assert!(finding.grade == Grade::Good && finding.is.contains("1 codex workers"), "{finding:?}");
        std::fs::write(data.spool().join("a.jsonl"), "").expect("a recording");
        let finding = spools(&data);
        assert_eq!(finding.grade, Grade::Note);
        assert!(finding.do_this.is_some_and(|this| this.ends_with("a.jsonl")));
    }

    #[tokio::test]
    async fn a_control_that_is_announced_and_does_not_answer_is_wrong() {
        let directory = scratch();
        let data = DataDir::at(directory.path());
        assert_eq!(control(&data).await.expect("nothing is announced"), None);
        let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
        let nothing = Settings::load(&SettingFlags::default(), &|_| None, &data).expect("settings");
        data.prepare(&nothing).expect("keys");
        let url = Some(format!("http://{closed}"));
        data.announce(&crate::data_dir::Endpoints { runtime: None, control: url, pid: 1 })
            .expect("announced");
        let finding = control(&data).await.expect("looked").expect("a finding");
        assert_eq!(finding.grade, Grade::Wrong);
    }

    #[tokio::test]
    async fn a_port_that_nothing_answers_on_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let findings = look(&Place { url: format!("http://{address}"), token: None }).await;
        assert_eq!(grade(&findings, "runtime"), Some(Grade::Wrong));
    }
}
