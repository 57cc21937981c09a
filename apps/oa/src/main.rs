//! Decides which command runs, and turns its end into an exit code: the one place of `oa` that reads the command line and the environment.

mod backoff;
mod backup;
mod cli;
mod codex_worker;
mod config;
mod conformance;
mod connect;
mod credit;
mod data_dir;
mod demo;
mod disk;
mod doctor;
mod exec;
mod failure;
mod job;
mod ledger;
mod lines;
mod log;
mod migrate;
mod nats;
#[cfg(feature = "otlp")]
mod otlp;
mod output;
mod pool;
mod provider;
mod runs;
#[cfg(test)]
mod simulated;
mod skills;
mod system;
mod up;
mod verify_store;
mod wallet;

use std::process::ExitCode;

use clap::Parser as _;
use oa_client::Client;
use oa_control::identity::NewUser;

use crate::{
    cli::{AboutProvider, Cli, Command, Common, Exec, Pool, Runs, Skills, Users},
    config::{SettingFlags, Settings, process_environment},
    connect::{Place, Wish},
    data_dir::DataDir,
    exec::{Around, Order},
    failure::{Failure, NOT_STARTED, OK, USAGE},
    provider::door::{self, Doors},
    runs::tail::Follow,
};

// The system's allocator was seen to give memory back to the kernel after batches of the writer, which interrupts
// the other core each time (docs/performance.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // These two are what sandboxes are made of, and start before there is a second thread.
    let words: Vec<String> =
        std::env::args_os().skip(1).take(4).map(|word| word.to_string_lossy().into_owned()).collect();
    match words.first().map(String::as_str) {
        Some(provider::SANDBOX) => return oa_sandbox::init::main(),
        Some(provider::repo::COMMAND) => return provider::repo::main(&words[1..]),
        _ => {}
    }
    let cli = Cli::parse();
    let format = cli.common.output;
    let done = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::wrong(format!("threads cannot be started: {error}")))
        .and_then(|threads| {
            let done = threads.block_on(perform(cli));
            // A read of stdin or a pipe may never end by itself.
            threads.shutdown_background();
            done
        });
    match done {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            format.complain(&failure);
            ExitCode::from(failure.code)
        }
    }
}

async fn perform(cli: Cli) -> Result<u8, Failure> {
    let Cli { common, command } = cli;
    match command {
        Command::Exec(exec) => record(exec, &common).await,
        Command::CodexWorker(args) => be_codex_worker(args, &common).await,
        Command::Provider(args) => {
            let data = DataDir::at(&common.data);
            let settings = Settings::load(&args.settings.0, &process_environment, &data)?;
            let runtime = Wish { runtime_url: common.runtime_url.clone(), token: common.token.clone() };
            let doors = Doors { control_url: args.control_url, runtime };
            let client = || door::runtime_only(&doors, &settings, &data)?.client();
            match args.about {
                None => return provider::run(&settings, &doors, &data, common.output).await,
                Some(AboutProvider::Statement { worker_id, limit }) => {
                    provider::statement::show(&client()?, &worker_id, limit, common.output).await?;
                }
                Some(AboutProvider::Admit { worker_id, no_more }) => {
                    provider::admit::say(&client()?, &worker_id, !no_more, common.output).await?;
                }
                Some(AboutProvider::CallerToken { base_url }) => {
                    provider::caller::tell(&settings, &base_url, common.output)?;
                }
            }
            Ok(OK)
        }
        Command::Job(cli::Job::Run(wanted)) => have_done(wanted, &common).await,
        Command::Demo(wanted) => {
            // A directory of the environment is that of real work.
            let usual = [Some("./oa-data".into()), std::env::var_os("OA_DATA_DIR")];
            let named = !usual.iter().flatten().any(|path| *path == *common.data.as_os_str());
            demo::tell(named.then(|| common.data.clone()), wanted.real_lightning, common.output).await
        }
        Command::Credit(cli::Credit::Explain { offer }) => {
            credit::explain(&around(&common)?.2.client()?, &offer, common.output).await
        }
        Command::Runs(runs) => about_runs(runs, &common).await,
        Command::Pool(pool) => about_pools(pool, &common).await,
        Command::Skills(skills) => about_skills(skills, &common).await,
        Command::Up(args) => {
            let (data, settings) = server(
                &common,
                args.settings,
                [("RUNTIME_BIND_ADDR", args.runtime_addr), ("OA_CONTROL_BIND_ADDR", args.control_addr)],
            )?;
            up::up(&data, settings, common.output).await.map(|()| OK)
        }
        Command::Runtime(args) => {
            let (data, settings) = server(&common, args.settings, [("RUNTIME_BIND_ADDR", args.bind)])?;
            up::runtime(&data, settings, common.output).await.map(|()| OK)
        }
        Command::Control(args) => {
            let (data, settings) = server(&common, args.settings, [("OA_CONTROL_BIND_ADDR", args.bind)])?;
            up::control(&data, settings, common.output).await.map(|()| OK)
        }
        Command::User(Users::Add { email, name, admin, settings }) => {
            let (data, settings) = server(&common, settings, [])?;
            up::add_user(&data, settings, NewUser { email, name, admin }, common.output).await.map(|()| OK)
        }
        Command::VerifyStore { settings } => {
            let data = DataDir::at(&common.data);
            let settings = Settings::load(&settings, &process_environment, &data)?;
            verify_store::verify_store(&data, &settings, common.output).await
        }
        Command::Backup(wanted) => {
            let data = DataDir::at(&common.data);
            let settings = Settings::load(&wanted.settings, &process_environment, &data)?;
            backup::take::take(&data, &settings, &wanted.destination, !wanted.without_keys, common.output)
        }
        Command::Restore(wanted) => {
            backup::restore::restore(&wanted.source, &DataDir::at(&common.data), common.output).await
        }
        Command::Migrate(wanted) => {
            let data = DataDir::at(&common.data);
            let settings = Settings::load(&wanted.settings, &process_environment, &data)?;
            migrate::migrate(&data, &settings, wanted.dry_run, common.output).await
        }
        Command::Wallet(wanted) => {
            let data = DataDir::at(&common.data);
            let settings = Settings::load(&wanted.settings, &process_environment, &data)?;
            log::to_stderr(&settings)?;
            wallet::run(&settings, &data, common.output).await
        }
        Command::Ledger(cli::Ledger::Explain { account, limit, settings }) => {
            let data = DataDir::at(&common.data);
            let settings = Settings::load(&settings, &process_environment, &data)?;
            ledger::explain(&account, limit, &data, &settings, common.output).await
        }
        Command::Doctor => {
            let (data, settings, place) = around(&common)?;
            doctor::examine(&data, &settings, &place, common.output).await
        }
        Command::Conformance(wanted) => {
            let data = DataDir::at(&common.data);
            let settings = Settings::load(&SettingFlags::default(), &process_environment, &data)?;
            let pair = conformance::Pair::find(&wanted, &common, &settings, &data)?;
            conformance::check(&pair, common.output).await
        }
    }
}

/// The data directory and the settings of a service, whose log goes to stderr from here on.
fn server<const N: usize>(
    common: &Common,
    mut flags: SettingFlags,
    short: [(&'static str, Option<String>); N],
) -> Result<(DataDir, Settings), Failure> {
    let data = DataDir::at(&common.data);
    for (name, value) in short {
        flags.or_give(name, value);
    }
    let settings = Settings::load(&flags, &process_environment, &data)?;
    log::to_stderr(&settings)?;
    Ok((data, settings))
}

/// The data directory, the settings and the server that a client command uses.
fn around(common: &Common) -> Result<(DataDir, Settings, Place), Failure> {
    let data = DataDir::at(&common.data);
    let settings = Settings::load(&SettingFlags::default(), &process_environment, &data)?;
    let wish = Wish { runtime_url: common.runtime_url.clone(), token: common.token.clone() };
    let place = connect::find(&wish, &settings, &data)?;
    Ok((data, settings, place))
}

async fn record(exec: Exec, common: &Common) -> Result<u8, Failure> {
    let not_started = |failure: Failure| match failure.code {
        USAGE => failure,
        _ => Failure::new(NOT_STARTED, failure.sentence),
    };
    let (data, _, place) = around(common).map_err(not_started)?;
    let around = Around { place: &place, data: &data, format: common.output };
    if let Some(spool) = &exec.resume {
        return exec::resume(spool, exec.patience, around).await;
    }
    let order = Order {
        argv: exec.command,
        run: exec.run,
        name: exec.name,
        metadata: exec.metadata,
        finish: exec.finish,
        offline_ok: exec.offline_ok,
        patience: exec.patience,
    };
    exec::run(order, around).await
}

async fn have_done(wanted: cli::JobRun, common: &Common) -> Result<u8, Failure> {
    let not_started = |failure: Failure| match failure.code {
        USAGE => failure,
        _ => Failure::new(NOT_STARTED, failure.sentence),
    };
    let (data, settings, place) = around(common).map_err(not_started)?;
    let order = job::Order {
        repo: wanted.repo,
        git_ref: wanted.git_ref,
        builtin: wanted.provider == cli::Doer::Builtin,
        check: !wanted.sampled,
        explain: wanted.providers,
        timeout_secs: wanted.timeout,
        memory_mb: wanted.memory_mb,
        cpus: wanted.cpus,
        disk_mb: wanted.disk_mb,
        visible: wanted.visible,
        env: wanted.env,
        artifacts: wanted.artifact,
        command: wanted.command,
    };
    job::run(order, job::Around { place: &place, data: &data, settings: &settings, format: common.output })
        .await
}

async fn about_skills(command: Skills, common: &Common) -> Result<u8, Failure> {
    let format = common.output;
    let client = |control_url: Option<String>| -> Result<Client, Failure> {
        let data = DataDir::at(&common.data);
        let settings = Settings::load(&SettingFlags::default(), &process_environment, &data)?;
        connect::find_control(control_url.as_deref(), common.token.as_deref(), &settings, &data)?.client()
    };
    match command {
        // Needs nothing but the files.
        Skills::Verify { place, key } => return skills::verify::verify(&place, key.as_deref(), format),
        Skills::Push { directory, version, publish, public, control_url } => {
            let order = skills::push::Order { directory, version, publish, public };
            skills::push::push(&client(control_url)?, order, format).await?;
        }
        Skills::Pull { named, directory, force, key, control_url } => {
            let order = skills::pull::Order { named, directory, force, key };
            skills::pull::pull(&client(control_url)?, order, format).await?;
        }
    }
    Ok(OK)
}

async fn be_codex_worker(args: cli::CodexWorker, common: &Common) -> Result<u8, Failure> {
    let data = DataDir::at(&common.data);
    let settings = Settings::load(&SettingFlags::default(), &process_environment, &data)?;
    let place =
        connect::find_control(args.control_url.as_deref(), common.token.as_deref(), &settings, &data)?;
    let wish = codex_worker::Wish {
        worker_id: args.worker_id,
        workspace: args.workspace,
        codex: args.codex,
        codex_home: args.codex_home,
        model: args.model,
        approvals: args.approvals,
        patience: args.approval_timeout,
        settings: args.settings,
        spool_mib: args.spool_limit,
        verbose: args.verbose,
    };
    codex_worker::run(wish, place, &data, common.output).await
}

async fn about_pools(wanted: Pool, common: &Common) -> Result<u8, Failure> {
    let format = common.output;
    match wanted {
        // Needs nothing but the file.
        Pool::Verify { file, signer } => pool::verify::verify(&file, signer.as_deref(), format),
        Pool::Lend { pool_id, to, together, nobody } => {
            let said = pool::lend::wanted(&to, together, nobody)?;
            let client = around(common)?.2.client()?;
            pool::lend::lend(&client, pool_id, said, format).await.map(|()| OK)
        }
        Pool::Prove { pool_id, lp, partition, snapshot, file } => {
            let wanted = pool::prove::Wanted { pool_id, lp_id: lp, partition, snapshot_id: snapshot };
            let client = around(common)?.2.client()?;
            pool::prove::prove(&client, wanted, file.as_deref(), format).await.map(|()| OK)
        }
    }
}

async fn about_runs(runs: Runs, common: &Common) -> Result<u8, Failure> {
    let format = common.output;
    let client = || -> Result<Client, Failure> { around(common)?.2.client() };
    match runs {
        // Needs nothing but the file.
        Runs::Verify { file, signer } => return runs::verify::verify(&file, signer.as_deref(), format),
        Runs::Ls { status, limit } => runs::list::list(&client()?, status, limit, format).await?,
        Runs::Show { id } => runs::show::show(&client()?, id, format).await?,
        Runs::Tail { id, after, until_head, follow } => {
            let follow = Follow { after, until_head, past_finish: follow || until_head };
            runs::tail::tail(&client()?, id, follow, format).await?;
        }
        Runs::Export { id, file } => runs::export::export(&client()?, id, file.as_deref(), format).await?,
    }
    Ok(OK)
}
