//! Decides what can be asked on the command line, and what `--help` says about it.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use oa_contract::wire::{pools::PartitionKind, runs::RunStatus};
use uuid::Uuid;

use crate::{
    codex_worker::Policy,
    config::SettingFlags,
    failure::EXIT_CODES,
    output::Format,
    skills::{Named, public_key},
};

const EXAMPLES: &str = "\
Examples:
  oa exec -- cargo test                 record a command as a run, output and exit code unchanged
  oa runs ls                            the runs, newest first
  oa runs tail ID                       follow a run, as its output comes
  oa runs export ID proof.jsonl         one file that proves what was done
  oa runs verify proof.jsonl            check it, without any server
  oa skills push ./pdf-tools --publish  a directory with a SKILL.md as a signed release
  oa demo                               the whole story: a cheat caught, a job paid over Lightning on credit, and the proof
  oa job run --repo . -- cargo test     run it in a sandbox, have it checked, pay for it
  oa provider --repositories ~/src      run jobs of others in sandboxes
  oa doctor                             what is wrong with this set-up
  oa conformance                        whether both services are what the route table says";

/// Records what agents and commands do as runs that can be followed, exported and proved.
#[derive(Debug, Parser)]
#[command(name = "oa", version, after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Args, Debug)]
pub struct Common {
    /// Sentences for people, or JSON for programs
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORM")]
    pub output: Format,
    /// The data directory: keys, spools, embedded stores, oa.conf
    #[arg(
        long,
        visible_alias = "data-dir",
        global = true,
        value_name = "DIR",
        env = "OA_DATA_DIR",
        default_value = "./oa-data"
    )]
    pub data: PathBuf,
    /// Where the runtime is [env: OA_RUNTIME_BASE_URL] [default: what the data directory says, else http://127.0.0.1:4100]
    #[arg(long, global = true, value_name = "URL")]
    pub runtime_url: Option<String>,
    /// The token to show: a personal token to control (skills, codex-worker, conformance, provider --control-url)
    /// [env: OA_CONTROL_TOKEN], the service token to the runtime [env: RUNTIME_SERVICE_TOKEN] [default: the data
    /// directory's, for its own server]
    #[arg(long, global = true, value_name = "TOKEN")]
    pub token: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Exec(Exec),
    CodexWorker(CodexWorker),
    /// Lists, follows, exports and verifies runs
    #[command(subcommand)]
    Runs(Runs),
    /// Pushes directories with a SKILL.md to the registry, pulls and verifies them
    #[command(subcommand)]
    Skills(Skills),
    Provider(Provider),
    /// Has jobs done by providers, checked and paid
    #[command(subcommand)]
    Job(Job),
    /// Proves to providers of a liquidity pool that their shares are counted
    #[command(subcommand)]
    Pool(Pool),
    Demo(Demo),
    /// Says why an agent was offered what it was offered
    #[command(subcommand)]
    Credit(Credit),
    /// Serves both services with an embedded store, and prints how to get in
    Up(Up),
    /// Serves the control service until SIGTERM or SIGINT, then finishes what was begun
    Control(Server),
    /// Manages the users of the control service
    #[command(subcommand)]
    User(Users),
    /// Serves the runtime until SIGTERM or SIGINT, then finishes what was begun
    Runtime(Server),
    /// Reads everything that is kept once, and says whether it is whole
    #[command(
        after_help = "No server may run on this data directory meanwhile. A backup (--data BACKUP) is checked as a copy and stays as it is. Exit code 1 when something does not fit."
    )]
    VerifyStore {
        #[command(flatten)]
        settings: SettingFlags,
    },
    Backup(Backup),
    Restore(Restore),
    Migrate(Migrate),
    /// Says what is wrong with this set-up, and what to do about it
    #[command(after_help = "Exit code 1 when something is wrong. Nothing is changed.")]
    Doctor,
    Conformance(Conformance),
    Wallet(Wallet),
    /// Explains what the ledger holds
    #[command(subcommand)]
    Ledger(Ledger),
}

/// Copies the embedded stores, keys and settings into a new directory, while servers run
#[derive(Args, Debug)]
#[command(
    after_help = "What was acknowledged before it began is in it. Stores in PostgreSQL are backed up by PostgreSQL's own tools; the message says how."
)]
pub struct Backup {
    /// The directory to make; it gets this name when everything in it is on disk
    pub destination: PathBuf,
    /// Leave out keys/ and oa.conf: such a backup signs nothing and opens nothing
    #[arg(long)]
    pub without_keys: bool,
    #[command(flatten)]
    pub settings: SettingFlags,
}

/// Makes a data directory from a backup, after reading all of it once
#[derive(Args, Debug)]
#[command(
    after_help = "The data directory (--data NEW) must not be there yet, or be empty. Exit code 1 when the backup is damaged; nothing is left then."
)]
pub struct Restore {
    /// The directory that `oa backup` made
    pub source: PathBuf,
}

/// Brings the schema of the stores to what this version knows; servers do the same when they start
#[derive(Args, Debug)]
#[command(after_help = "No server may run on an embedded store meanwhile; listing needs no stop.")]
pub struct Migrate {
    /// Only list what would be done
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub settings: SettingFlags,
}

const WALLET_HELP: &str = "\
Examples:
  oa wallet                                               a SIMULATED wallet for demonstrations: there is no money
  OA_LIGHTNING_WALLET_EXECUTOR_MODE=lnd oa wallet         before an LND node (LND_REST_BASE_URL, LND_REST_MACAROON_HEX)
  OA_LIGHTNING_WALLET_EXECUTOR_MODE=ldk oa wallet         three real LDK nodes in this process, on a SIMULATED chain
                                                          (builds with the feature ldk)

It serves the wallet-executor protocol to the runtime (RUNTIME_LIQUIDITY_WALLET_EXECUTOR_BASE_URL) and to control
(SPARK_EXECUTOR_BASE_URL), with caps, a list of hosts that may be paid, receipts, and a memory of its own in the data
directory: a request is written down before it is done, and never done twice.

Where there is no money, a shop is the other side of payments: POST /simulated/shop/invoices {\"amountMsats\": 42000}
makes an invoice that the wallet can pay, GET /simulated/shop/invoices/ID says whether it was, and
POST /simulated/shop/payments {\"invoice\": \"…\"} pays one of the wallet's own.";

/// Serves the wallet that pays over Lightning, in a process of its own that keeps the keys
#[derive(Args, Debug)]
#[command(after_help = WALLET_HELP)]
pub struct Wallet {
    #[command(flatten)]
    pub settings: SettingFlags,
}

#[derive(Debug, Subcommand)]
pub enum Ledger {
    /// Lists the entries that make up the balance of an account, newest first
    #[command(
        after_help = "An account is <kind>/<asset>/<subject>, for example owner/msats/user:11 or wallet/msats/lightning. No server may run on an embedded store meanwhile."
    )]
    Explain {
        /// The account
        account: String,
        /// How many entries are shown
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: u32,
        #[command(flatten)]
        settings: SettingFlags,
    },
}

const JOB_RUN_HELP: &str = "\
Examples:
  oa job run -- make test                                 the commit that is checked out here
  oa job run --repo ~/src/api --git-ref v1.2 -- ./ci.sh
  oa job run --visible ~/.cargo,~/.rustup --env PATH=$HOME/.cargo/bin:/usr/bin:/bin --timeout 300 \\
     --memory-mb 2048 -- cargo test --offline
  oa job run --provider any --providers -- make test      the best that is enrolled, and why it is the best

The job is a commit, not your working copy: what is not committed is not there. It runs in a sandbox without network,
sees /usr and what --visible names, and what it writes is gone when it ends; --artifact keeps files by their digest.

What happens: a run is opened at the runtime (`oa up`); the price is quoted and held in your budget; the provider runs
the job and its output is shown as it comes; a second sandbox runs it once more and both must come to the same exit
code and artifacts; only then is the provider paid. Each step is an event of the run, and its receipt proves them.

The built-in provider lives in this command, on a free port of this machine, and belongs to the owner of the job
(OA_PROVIDER_OWNER_USER_ID, the first user by default); its price is OA_PROVIDER_MIN_PRICE_MSATS.

The exit code is the command's. 125: the job was not done, or not settled, and the message says what to do.
stdout is the command's; everything that `oa` says goes to stderr. With -o json it is the other way round.";

#[derive(Debug, Subcommand)]
pub enum Credit {
    /// Makes one underwriting decision once more, from the log, and compares
    #[command(
        after_help = "The runtime reads the log of settlements as it was when the offer was made; the decision itself is made once more here. Exit code 1 when it is not the same."
    )]
    Explain {
        /// The offer: cepo_…
        #[arg(value_name = "OFFER")]
        offer: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum Pool {
    /// Fetches the proof that a provider's shares are inside the signed total of a snapshot
    Prove {
        /// The pool
        #[arg(value_name = "POOL")]
        pool_id: String,
        /// The provider
        #[arg(long, value_name = "LP")]
        lp: String,
        /// Which part of the pool: llp, cep or rrp
        #[arg(long, value_name = "PART", default_value = "llp", value_parser = partition)]
        partition: PartitionKind,
        /// Which snapshot; the latest when not said
        #[arg(long, value_name = "ID")]
        snapshot: Option<String>,
        /// Where the proof goes; the standard output when not said
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Shows whom a pool's credit lends to, or says it anew
    #[command(
        after_help = "What is said takes the place of what was said before. Until something is said, a pool lends to \
the agents of its operator.\n\n  oa pool lend POOL --to user:1=20000 --to guest:lab=5000 --together 100000"
    )]
    Lend {
        /// The pool
        #[arg(value_name = "POOL")]
        pool_id: String,
        /// An owner with all its agents (user:1, guest:lab), or one agent (64 hex digits), and how many sats it may have
        /// open and owe at one time
        #[arg(long, value_name = "WHO=SATS")]
        to: Vec<String>,
        /// How many sats all of them may have together; the sum of theirs when not said
        #[arg(long, value_name = "SATS", requires = "to")]
        together: Option<u64>,
        /// Lends to nobody
        #[arg(long, conflicts_with = "to")]
        nobody: bool,
    },
    /// Checks a proof, without any server
    #[command(after_help = "Exit code 1 when it proves nothing.")]
    Verify {
        /// The proof; - is the standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The public key that must have signed it
        #[arg(long, value_name = "KEY")]
        signer: Option<String>,
    },
}

fn partition(text: &str) -> Result<PartitionKind, String> {
    PartitionKind::parse(text).ok_or_else(|| "one of llp, cep, rrp".to_owned())
}

#[derive(Debug, Subcommand)]
pub enum Job {
    Run(JobRun),
}

/// Who does a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Doer {
    /// A provider that this command brings, in a sandbox on this machine
    Builtin,
    /// The best that is enrolled at the runtime
    Any,
}

/// Runs a command on a git repository at a provider, has it checked, and pays for it
#[derive(Args, Debug)]
#[command(after_help = JOB_RUN_HELP)]
pub struct JobRun {
    /// The git repository: a directory of this machine, or with --provider any an address that providers know
    #[arg(long, value_name = "PATH", default_value = ".")]
    pub repo: String,
    /// Which commit of it: a branch, a tag, an id
    #[arg(long, value_name = "REF", default_value = "HEAD")]
    pub git_ref: String,
    /// Show who was considered, and why one was chosen and the others not
    #[arg(long)]
    pub providers: bool,
    /// Who does it
    #[arg(long, value_enum, default_value = "builtin", value_name = "WHO")]
    pub provider: Doer,
    /// How long the job may take, at most 300
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=300))]
    pub timeout: u32,
    /// How much memory it may use, at most 8192
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(16..=8192))]
    pub memory_mb: u32,
    /// How many processors it may use, at most 8
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = cpus)]
    pub cpus: f32,
    /// How much it may write; it lies in memory [default: 512]
    #[arg(long, value_name = "N")]
    pub disk_mb: Option<u32>,
    /// Paths that it sees read-only beside /usr, such as toolchains, separated by commas (built-in provider)
    #[arg(long, value_name = "PATHS", value_delimiter = ',')]
    pub visible: Vec<String>,
    /// A variable of its environment; may be given more than once, and is shown to the provider
    #[arg(long, value_name = "NAME=VALUE", value_parser = crate::job::spec::variable)]
    pub env: Vec<(String, String)>,
    /// A file or directory of the work tree that is kept by its digest; may be given more than once
    #[arg(long, value_name = "PATH")]
    pub artifact: Vec<String>,
    /// Leave it to the runtime's sample whether somebody else runs it once more before it is paid
    #[arg(long)]
    pub sampled: bool,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

fn cpus(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(cpus) if (0.01..=8.0).contains(&cpus) => Ok(cpus),
        _ => Err("it is a number from 0.01 to 8".to_owned()),
    }
}

/// Tells in under a minute what this is for: two honest providers and a cheat, one job, who is paid and who is not
#[derive(Args, Debug)]
#[command(after_help = "\
Everything runs on this machine, on free loopback ports, in a directory that is removed afterwards; with --data DIR in
that directory, which is kept. The two honest providers run real sandboxes; the cheat is simulated and runs nothing.
The wallet is simulated too, unless --real-lightning; there is no money in either case.

Examples:
  oa demo
  oa --data ./demo demo -o json
  cargo run --release --features ldk -- demo --real-lightning")]
pub struct Demo {
    /// Pays through three real LDK nodes in this process, on a simulated chain; needs a build with the feature `ldk`
    #[arg(long)]
    pub real_lightning: bool,
}

const PROVIDER_HELP: &str = "\
Examples:
  oa provider                                              jobs without a repository, for the runtime of ./oa-data
  oa provider --repositories ~/src --jobs 4
  oa provider --repositories ~/src --visible $HOME/.cargo,$HOME/.rustup --job-path $HOME/.cargo/bin:/usr/bin:/bin
  oa provider --bind-addr 10.0.0.7:9400 --base-url http://10.0.0.7:9400 --id build-7
  oa provider --control-url https://control.example        sell to a runtime of somebody else's (OA_CONTROL_TOKEN)
  oa provider statement provider:build-7                   what it has earned and was not yet paid
  oa provider admit provider:build-7                       the operator lets it sell to everybody

There are two doors. Whoever sells to somebody else's runtime enrols through its control service: --control-url and a
personal token (--token or OA_CONTROL_TOKEN) with the ability runtime.write. The provider is that user's, and the token
opens what that user may do at control and nothing at the runtime. On machines of the operator's own, a provider may
enrol at the runtime with the service token; that one opens everything, so no other machine should have it. With
neither --control-url nor --runtime-url, control is chosen where OA_CONTROL_BASE_URL is set and neither
OA_RUNTIME_BASE_URL, RUNTIME_SERVICE_TOKEN nor a runtime of the data directory is there.

Each job runs in a sandbox of its own: new namespaces, a root that holds only /usr and what --visible names, all
of it read-only, no network, no capability, a Landlock domain, a list of allowed system calls, and limits on time,
memory, processes, processor, disk and output. What a job writes lies in memory and is gone when it ends. Where
this host lacks a layer, the provider says so in its enrolment and refuses jobs that demand it.

It needs no privilege. As root, or with a delegated control group, memory and processes are counted by control
groups; otherwise a watchdog and resource limits hold them.

A job's repository is a path under --repositories; its objects and names are shown to the job, its configuration
is not. OA_ARTIFACTS in the job's env names what is kept of the work tree: OA_ARTIFACTS=report.xml:target/doc

  GET  /healthz                    2xx while jobs are taken
  POST /v1/sandbox_run             runs a job; each x-idempotency-key once
  POST /v1/repo_index              lists the files of a tree with their digests
  GET  /v1/blobs/SHA256            output and artifacts, whole
  GET  /v1/status                  what it does and what isolation it has
  POST /v1/disable, /v1/enable     for the operator: --operator-token, or from this machine when none is set

On SIGTERM it takes no new jobs, tells the runtime, and gives those that run --drain-seconds. The runtime calls
the provider at its base URL; one in a private network is believed only with RUNTIME_ALLOW_PRIVATE_NETWORKS=1.";

/// Runs jobs of others in sandboxes, for a runtime that sells them
#[derive(Args, Debug)]
#[command(after_help = PROVIDER_HELP, args_conflicts_with_subcommands = true)]
pub struct Provider {
    /// Enrol through this control service, with the personal token of the user who sells [env: OA_CONTROL_BASE_URL,
    /// where nothing says where a runtime is]
    #[arg(long, value_name = "URL")]
    pub control_url: Option<String>,
    #[command(flatten)]
    pub settings: crate::config::ProviderFlags,
    #[command(subcommand)]
    pub about: Option<AboutProvider>,
}

#[derive(Debug, Subcommand)]
pub enum AboutProvider {
    /// Shows what a provider has earned and was not yet paid, and every movement that made it so
    Statement {
        /// The worker that the provider is enrolled as: `provider:<id>` for one of `oa provider`
        #[arg(value_name = "WORKER")]
        worker_id: String,
        /// How many movements, the newest first
        #[arg(short = 'n', long, default_value_t = 50, value_name = "COUNT")]
        limit: u64,
    },
    /// Lets a provider sell to everybody; until then it sells to its owner only
    #[command(
        after_help = "For the operator of the runtime. It counts as a sign of life of the provider. Jobs that run are not touched."
    )]
    Admit {
        /// The worker that the provider is enrolled as: `provider:<id>` for one of `oa provider`
        #[arg(value_name = "WORKER")]
        worker_id: String,
        /// Ends it
        #[arg(long)]
        no_more: bool,
    },
    /// Prints what a provider at this address is given as its OA_PROVIDER_CALLER_TOKEN
    #[command(
        after_help = "For the operator of the runtime: it follows from RUNTIME_PROVIDER_TOKEN, which stays here. It lets the runtime into the provider at this address, and opens no other."
    )]
    CallerToken {
        /// The provider's OA_PROVIDER_BASE_URL
        #[arg(value_name = "URL")]
        base_url: String,
    },
}

const CONFORMANCE_HELP: &str = "\
Examples:
  oa conformance                                    the services of the data directory
  oa conformance https://control.example --runtime-url https://runtime.example \\
     --token oa_pat_… --service-token oa_st_…
  oa conformance http://127.0.0.1:8787 --expect-no-runtime

--token is the personal token to show control; it must carry every ability (`*`), or rows that it does not open
count as wrong. The service token goes to the runtime only.

Safe on a live system. It sends GETs, requests without a credential, and otherwise only what is refused before it
is looked at: a body that is no JSON, members of a wrong type, methods and paths that no row has. Rows that act
without reading a body (ending a session, revoking all tokens) are asked without a credential only. What it leaves
behind is the last use of the token, counters and lines of the log.

Exit code 1 when something is not as the table says.";

/// Checks a running pair of services against the route table: every row answered by its owner, and nothing else
#[derive(Args, Debug)]
#[command(after_help = CONFORMANCE_HELP)]
pub struct Conformance {
    /// Where control is [default: what the data directory says, else http://127.0.0.1:8787]
    #[arg(value_name = "URL", conflicts_with = "control_url")]
    pub url: Option<String>,
    /// The same, as a flag
    #[arg(long, value_name = "URL")]
    pub control_url: Option<String>,
    /// The service token to show the runtime [env: RUNTIME_SERVICE_TOKEN] [default: the data directory's, for its own server]
    #[arg(long, value_name = "TOKEN")]
    pub service_token: Option<String>,
    /// Control has no runtime, or it is down: look at control only, and want 503 of the proxied rows
    #[arg(long)]
    pub expect_no_runtime: bool,
}

#[derive(Args, Debug)]
#[command(
    after_help = "Keys, oa.conf and the embedded store are made in the data directory on the first start. \
--help lists every setting; each is also an environment variable and a line of oa.conf."
)]
pub struct Server {
    /// Where to listen [default: 127.0.0.1:4100]
    #[arg(long, value_name = "ADDR")]
    pub bind: Option<String>,
    #[command(flatten)]
    pub settings: SettingFlags,
}

#[derive(Args, Debug)]
#[command(
    after_help = "Everything lies in the data directory: stores, keys, oa.conf. A second start continues where the first ended.\n\n\
Examples:\n  oa up\n  oa --data /var/lib/oa up --runtime-addr 127.0.0.1:4100 --control-addr 127.0.0.1:8787"
)]
pub struct Up {
    /// Where the runtime listens [default: 127.0.0.1:4100]
    #[arg(long, value_name = "ADDR")]
    pub runtime_addr: Option<String>,
    /// Where control listens [default: 127.0.0.1:8787]
    #[arg(long, value_name = "ADDR")]
    pub control_addr: Option<String>,
    #[command(flatten)]
    pub settings: SettingFlags,
}

#[derive(Debug, Subcommand)]
pub enum Users {
    /// Adds a user, or changes one, and prints a personal token once
    #[command(
        after_help = "The control service must not be running on this data directory meanwhile.\n\nExample:\n  oa user add dev@example.com --name Dev"
    )]
    Add {
        email: String,
        /// How the user is called
        #[arg(long)]
        name: Option<String>,
        /// May do what administrators may
        #[arg(long)]
        admin: bool,
        #[command(flatten)]
        settings: SettingFlags,
    },
}

const EXEC_HELP: &str = "\
Examples:
  oa exec -- cargo test --workspace
  oa exec --name nightly --metadata '{\"repo\":\"acme/api\"}' -- ./build.sh
  oa exec --run 019503c1-8a6e-7f10-9c55-2b7f0c1d4e90 -- make check
  oa exec --resume oa-data/spool/exec-019503c1-8a6e-7f10-9c55-2b7f0c1d4e90.jsonl

The command's input is this one's; its output passes through unchanged and at once, and is recorded in pieces
with their hashes. Its output goes through pipes, so it may leave out its colours. SIGTERM, SIGINT and SIGHUP
are passed on, and the run then counts as canceled; what a keyboard sends reaches the command by itself.

A server that is away does not stop the command: what it has not acknowledged waits in DATA/spool and is sent
again, under the same keys, so that nothing is recorded twice.

It records at the runtime with the service token, which opens everything there: record on the operator's own machines.

The exit code is the command's, or 128 + signal. 125: not started, because the run could not be opened;
126: it could not be run; 127: there is no such command.";

/// Records a command as a run while it runs
#[derive(Args, Debug)]
#[command(after_help = EXEC_HELP)]
pub struct Exec {
    /// Record into this run, which stays open afterwards, instead of a new one
    #[arg(long, value_name = "ID", conflicts_with = "resume")]
    pub run: Option<Uuid>,
    /// End the run of --run with the command
    #[arg(long, requires = "run")]
    pub finish: bool,
    /// What the new run is called
    #[arg(long, value_name = "TEXT", conflicts_with = "resume")]
    pub name: Option<String>,
    /// A JSON object that is added to the new run's metadata
    #[arg(long, value_name = "JSON", conflicts_with = "resume")]
    pub metadata: Option<String>,
    /// Start the command even when no server answers; the run is opened when one does
    #[arg(long, conflicts_with_all = ["resume", "run"])]
    pub offline_ok: bool,
    /// How many seconds to wait for a server that stays away after the command has ended
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub patience: Duration,
    /// Send what an earlier recording could not
    #[arg(long, value_name = "SPOOLFILE", conflicts_with = "command")]
    pub resume: Option<PathBuf>,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, value_name = "COMMAND", required_unless_present = "resume")]
    pub command: Vec<OsString>,
}

const CODEX_WORKER_HELP: &str = "\
Examples:
  oa codex-worker                                       this directory, the control service of ./oa-data
  oa codex-worker --workspace ~/src/api --approvals ask
  oa codex-worker --control-url https://control.example --token oa_pat_… --worker-id build-1
  oa codex-worker --model gpt-5.1-codex -c sandbox_mode='\"read-only\"'

Starts `codex app-server` (npm install -g @openai/codex) in the workspace, takes requests that are posted to
/api/runtime/codex/workers/ID/requests, and posts everything that codex says as events of the worker, in order.
What the agent may touch is codex's own configuration (sandbox_mode, approval_policy); requests cannot change it.
When codex asks for permission all the same, --approvals decides: no, yes, or whoever answers the event in time:
  curl CONTROL/api/runtime/codex/workers/ID/events -H 'authorization: Bearer …' -H 'content-type: application/json' \\
    -d '{\"event\":{\"event_type\":\"worker.approval\",\"payload\":{\"approval_id\":\"…\",\"decision\":\"accept\"}}}'

While control is away codex works on, and what it says waits in DATA/spool/codex-ID; it is sent under the same ids
again until control has it, so nothing is lost and nothing is there twice. A request is never done twice: one that
was being done when the worker or codex died is answered with an error that says so.

SIGTERM and SIGINT interrupt what runs, send what waits, and stop the worker; a second one does not wait.";

/// Makes the codex of this machine a worker of the control service
#[derive(Args, Debug)]
#[command(after_help = CODEX_WORKER_HELP)]
pub struct CodexWorker {
    /// Where the control service is [env: OA_CONTROL_BASE_URL] [default: what the data directory says, else http://127.0.0.1:8787]
    #[arg(long, value_name = "URL")]
    pub control_url: Option<String>,
    /// What the worker is called [default: made of the machine's name and the workspace]
    #[arg(long, value_name = "ID")]
    pub worker_id: Option<String>,
    /// Where the agent works
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub workspace: PathBuf,
    /// The program [default: codex on the PATH, or in a node_modules at or above the workspace]
    #[arg(long, value_name = "PATH")]
    pub codex: Option<PathBuf>,
    /// Codex's own directory: its configuration, its sign-in, its sessions [default: codex's default]
    #[arg(long, value_name = "DIR")]
    pub codex_home: Option<PathBuf>,
    /// The model [default: what codex's configuration says]
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Who answers when codex asks for permission
    #[arg(long, value_enum, default_value_t, value_name = "RULE")]
    pub approvals: Policy,
    /// How many seconds whoever is asked may think; then the answer is no
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = seconds)]
    pub approval_timeout: Duration,
    /// A setting of codex, as its own -c; may be given more than once
    #[arg(short = 'c', long = "config", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// How many MiB may wait for control; after that codex waits too
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..))]
    pub spool_limit: u64,
    /// Pass on what codex says on its stderr
    #[arg(long)]
    pub verbose: bool,
}

#[derive(Debug, Subcommand)]
pub enum Runs {
    /// Lists runs, newest first
    #[command(visible_alias = "list")]
    Ls {
        /// Only runs in this state: created, running, canceling, canceled, succeeded, failed
        #[arg(long, value_parser = status)]
        status: Option<RunStatus>,
        /// At most so many
        #[arg(long, default_value_t = 50, value_name = "N")]
        limit: u64,
    },
    /// Shows one run with its events
    Show { id: Uuid },
    /// Follows a run until it has finished; reconnects by itself
    #[command(
        after_help = "Recorded output is shown as it was written; other events on a line each. With -o json every event is one line."
    )]
    Tail {
        id: Uuid,
        /// Only events after this sequence number
        #[arg(long, default_value_t = 0, value_name = "SEQ")]
        after: u64,
        /// Show what is there and end
        #[arg(long)]
        until_head: bool,
        /// Go on after the run has finished
        #[arg(long, conflicts_with = "until_head")]
        follow: bool,
    },
    /// Writes the proof of a run: its events and the receipt over exactly them, verified before it is written
    Export {
        id: Uuid,
        /// Where to write it; - is stdout [default: run-ID.jsonl]
        file: Option<PathBuf>,
    },
    /// Checks a proof offline: needs no server and no data directory
    #[command(after_help = "Exit code 1 when it does not fit; the first event that does not is named.")]
    Verify {
        /// The proof; - is stdin
        file: PathBuf,
        /// The receipt must be signed by this key (64 hex digits)
        #[arg(long, value_name = "PUBKEY")]
        signer: Option<String>,
    },
}

const SKILLS_HELP: &str = "\
The personal token for the control service is --token, else OA_CONTROL_TOKEN, else the one that `oa up` keeps in the
data directory for its own service. For another user of a local service, `oa user add` prints one.";

#[derive(Debug, Subcommand)]
pub enum Skills {
    /// Stores a directory with a SKILL.md as a specification of your organisation
    #[command(after_help = format!("\
The directory is in the Agent Skills format: SKILL.md with `name` (that of the directory) and `description`, beside it
what it needs, e.g. scripts/, references/, assets/; at most 200 files and 1 MiB, no links. Of allowed-tools, those
written as ID@VERSION are tools of the registry and must exist when the skill is published.

{SKILLS_HELP}

Examples:\n  oa skills push ./pdf-tools\n  oa skills push ./pdf-tools --version 2 --publish --public"))]
    Push {
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// [default: `version` in the metadata of SKILL.md, else 1]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        version: Option<u64>,
        /// Makes a release of it, which never changes
        #[arg(long)]
        publish: bool,
        /// Everybody may see the release: it is listed under /.well-known/agent-skills/
        #[arg(long)]
        public: bool,
        /// Where the control service is [env: OA_CONTROL_BASE_URL] [default: what the data directory says, else http://127.0.0.1:8787]
        #[arg(long, value_name = "URL")]
        control_url: Option<String>,
    },
    /// Writes a release as a directory, byte for byte as it was pushed, and verifies it
    #[command(after_help = format!("{SKILLS_HELP}\n\nExamples:\n  oa skills pull pdf-tools\n  oa skills pull pdf-tools@2 ./skills/pdf-tools --key PUBKEY"))]
    Pull {
        /// The skill; without a version its newest
        #[arg(value_name = "ID[@VERSION]")]
        named: Named,
        /// Where to [default: the id]
        #[arg(value_name = "DIR")]
        directory: Option<PathBuf>,
        /// Overwrite the files of the skill where there are some already
        #[arg(long)]
        force: bool,
        /// The release must be signed by this key (64 hex digits)
        #[arg(long, value_name = "PUBKEY", value_parser = public_key)]
        key: Option<String>,
        /// Where the control service is [env: OA_CONTROL_BASE_URL] [default: what the data directory says, else http://127.0.0.1:8787]
        #[arg(long, value_name = "URL")]
        control_url: Option<String>,
    },
    /// Checks a pulled directory, or the record of a release, offline
    #[command(after_help = "Exit code 1 when it does not fit; the first thing that does not is named.")]
    Verify {
        /// A directory with its .oa-skill.json, or such a file alone
        #[arg(value_name = "PATH")]
        place: PathBuf,
        /// The release must be signed by this key (64 hex digits)
        #[arg(long, value_name = "PUBKEY", value_parser = public_key)]
        key: Option<String>,
    },
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds is needed".to_owned())?;
    match (0.0..=31_536_000.0).contains(&seconds) {
        true => Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string()),
        false => Err("between 0 and a year".to_owned()),
    }
}

fn status(text: &str) -> Result<RunStatus, String> {
    RunStatus::parse(text)
        .ok_or_else(|| "one of created, running, canceling, canceled, succeeded, failed".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_form_may_stand_anywhere_but_not_inside_the_recorded_command() {
        let cli = Cli::try_parse_from(["oa", "runs", "ls", "-o", "json"]).expect("parsed");
        assert_eq!(cli.common.output, Format::Json);
        let cli = Cli::try_parse_from(["oa", "exec", "--name", "x", "--", "sort", "-o", "json", "--help"])
            .expect("parsed");
        assert_eq!(cli.common.output, Format::Text);
        let Command::Exec(exec) = cli.command else { panic!("another command") };
        assert_eq!(exec.command, ["sort", "-o", "json", "--help"]);
    }

    #[test]
    fn a_command_or_a_spool_is_needed_and_not_both() {
        assert!(Cli::try_parse_from(["oa", "exec"]).is_err());
        assert!(Cli::try_parse_from(["oa", "exec", "--resume", "x", "--", "true"]).is_err());
        assert!(Cli::try_parse_from(["oa", "exec", "--resume", "x", "--patience", "0.5"]).is_ok());
    }
}
