//! The sandbox as a program: reads the flags, prints one line when it listens, ends on SIGTERM.

use lexopt::prelude::*;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;
use tinkex_sandbox::server::{self, Faults, Options, Server};

const HELP: &str = "\
tinkex-sandbox: a Tinker service for tests and demonstrations, on this machine

Usage: tinkex-sandbox [FLAGS]
       tinkex-sandbox replay --log FILE

  --port N              where to listen; 0 takes any free port [8123]
  --host ADDRESS        [127.0.0.1]; another address opens the sandbox to the network
  --data DIR            keep all state in DIR, synced before each answer [in memory]
  --session-timeout S   seconds without a heartbeat after which a session ends [120]
  --hold S              seconds for which a poll is held at most [30]
  --keep-results S      seconds for which a fetched result stays fetchable [600]
  --flag NAME=VALUE     a flag that client/config answers; may be repeated
  --log-bodies          keep request bodies in the log of what was applied
  --static DIR          also serve the files of DIR
  --faults SPEC         misbehave, e.g. seed=7,delay=0.2:50-400,lose=0.05,429=0.02
  --help, --version

  replay --log FILE     apply a log (of GET /api/v1/sandbox/log, made with --log-bodies)
                        to a fresh sandbox and print the hash of each model
";

enum Command {
    Serve(Box<Options>, SocketAddr),
    Replay(std::path::PathBuf),
    Print(String),
}

fn main() -> ExitCode {
    let done = match read_flags(lexopt::Parser::from_env()) {
        Err(error) => Err(format!("{error}\nRun tinkex-sandbox --help for the flags.")),
        Ok(Command::Print(text)) => {
            print!("{text}");
            Ok(())
        }
        Ok(Command::Replay(path)) => replay(&path),
        Ok(Command::Serve(options, address)) => serve(*options, address),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tinkex-sandbox: {error}");
            ExitCode::FAILURE
        }
    }
}

fn read_flags(mut flags: lexopt::Parser) -> Result<Command, lexopt::Error> {
    let mut options = Options::default();
    options.settings.threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut port = 8123_u16;
    let mut host = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let mut replay = false;
    let mut log = None;
    while let Some(flag) = flags.next()? {
        match flag {
            Long("port") => port = flags.value()?.parse()?,
            Long("host") => host = flags.value()?.parse()?,
            Long("data") => options.data = Some(flags.value()?.into()),
            Long("session-timeout") => options.settings.session_timeout = seconds(&mut flags)?,
            Long("hold") => options.settings.hold = seconds(&mut flags)?,
            Long("keep-results") => options.settings.keep_fetched = seconds(&mut flags)?,
            Long("flag") => {
                let (name, value) = flags.value()?.parse_with(client_flag)?;
                options.settings.flags.insert(name, value);
            }
            Long("log-bodies") => options.settings.log_bodies = true,
            Long("static") => options.site = Some(flags.value()?.into()),
            Long("faults") => options.faults = Some(flags.value()?.parse_with(Faults::parse)?),
            Long("help") | Short('h') => return Ok(Command::Print(HELP.into())),
            Long("version") => return Ok(Command::Print(concat!(env!("CARGO_PKG_VERSION"), "\n").into())),
            Long("log") => log = Some(flags.value()?.into()),
            Value(command) if command == "replay" => replay = true,
            _ => return Err(flag.unexpected()),
        }
    }
    match (replay, log) {
        (true, Some(path)) => Ok(Command::Replay(path)),
        (true, None) => Err("replay needs --log FILE".into()),
        (false, Some(_)) => Err("--log goes with the command replay".into()),
        (false, None) => {
            if let Some(site) = &options.site
                && !site.is_dir()
            {
                return Err(format!("--static {}: there is no such folder", site.display()).into());
            }
            Ok(Command::Serve(Box::new(options), SocketAddr::new(host, port)))
        }
    }
}

fn seconds(flags: &mut lexopt::Parser) -> Result<Duration, lexopt::Error> {
    flags.value()?.parse_with(|text| {
        let seconds = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
        Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
    })
}

fn client_flag(text: &str) -> Result<(String, serde_json::Value), String> {
    let (name, value) = text.split_once('=').ok_or("a flag is written NAME=VALUE")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    Ok((name.to_owned(), value))
}

fn replay(path: &std::path::Path) -> Result<(), String> {
    let log = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let bases = tinkex_sandbox::Bases::shipped().map_err(|error| error.to_string())?;
    for hashes in tinkex_sandbox::replay(&log, &bases)? {
        println!("{}", serde_json::to_string(&hashes).map_err(|error| error.to_string())?);
    }
    Ok(())
}

fn serve(options: Options, address: SocketAddr) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| format!("can't start: {error}"))?;
    runtime.block_on(async {
        if !address.ip().is_loopback() {
            eprintln!(
                "tinkex-sandbox: warning: {} can be reached from the network, and lets in any key that begins with tml-",
                address.ip()
            );
        }
        let server = Server::open(options)?;
        let listener = server::listen(address).await?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        println!("listening on http://{address}");
        server.run(listener, stop_signal()).await
    })
}

/// Done when the process is asked to end: SIGTERM or Ctrl-C.
async fn stop_signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut term = signal(SignalKind::terminate()).expect("the runtime handles signals");
        tokio::select! {
            _ = term.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    }
    #[cfg(not(unix))]
    {
        let _ = tokio::signal::ctrl_c().await;
    }
}
