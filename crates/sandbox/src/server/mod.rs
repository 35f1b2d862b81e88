//! The HTTP front: sockets, a clock, threads that compute, and a disk, around one core behind a lock.

mod connection;
mod disk;
mod host;
mod web;

pub use crate::faults::Faults;
use crate::{Bases, Core, Settings};
use disk::{Disk, Found};
use host::Host;
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::net::TcpListener;

/// How a server is started. The binary's flags are documented in `docs/sandbox.md`.
#[derive(Debug, Default)]
pub struct Options {
    pub settings: Settings,
    /// Where state is kept. `None`: in memory.
    pub data: Option<PathBuf>,
    /// A folder with a built site that is served beside the API.
    pub site: Option<PathBuf>,
    pub faults: Option<Faults>,
}

/// A server that is ready to listen: its state is restored.
pub struct Server {
    host: Host,
    site: Option<PathBuf>,
    faults: Option<Faults>,
}

impl Server {
    /// Opens the data folder and restores the state from it.
    ///
    /// # Errors
    /// Says what is wrong with the folder.
    pub fn open(options: Options) -> Result<Self, String> {
        let Options { settings, data, site, faults } = options;
        let bases = Bases::shipped().map_err(|error| format!("the base model can't be read: {error}"))?;
        let storage = data.map(|folder| disk::open(&folder)).transpose()?;
        let (core, disk) = match storage {
            None => (Core::new(settings.clone(), bases.clone(), seed()?), None),
            Some((disk, found)) => (restore(&settings, &bases, &disk, found)?, Some(disk)),
        };
        Ok(Self { host: Host::new(core, disk, settings, bases), site, faults })
    }

    /// Serves until `stop` is done; then answers what is held, and syncs.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn run(self, listener: TcpListener, stop: impl Future<Output = ()>) -> Result<(), String> {
        let workers = self.host.start_workers();
        let ticker = tokio::spawn(self.host.clone().tick_forever());
        let routes = web::routes(self.host.clone(), self.site, self.faults);
        connection::serve(listener, routes, stop, &self.host).await;
        ticker.abort();
        self.host.stop(workers);
        Ok(())
    }
}

fn restore(settings: &Settings, bases: &Bases, disk: &Disk, found: Found) -> Result<Core, String> {
    if found.cut > 0 {
        eprintln!("tinkex-sandbox: cut {} bytes of an unfinished record off the end of the log", found.cut);
    }
    match found.snapshot {
        Some(snapshot) => {
            Core::restore(settings.clone(), bases.clone(), &snapshot, found.records, host::system_time())
        }
        None => {
            let core = Core::new(settings.clone(), bases.clone(), seed()?);
            disk.snapshot(core.snapshot().expect("a new core has no work out"));
            disk.flush();
            Ok(core)
        }
    }
}

/// What the ids of this server begin from: different for each, so that no client takes one server for another.
fn seed() -> Result<[u8; 32], String> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| format!("the system gives no random numbers: {error}"))?;
    Ok(seed)
}

/// Listens on an address.
///
/// # Errors
/// Says what to do when the port is taken.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| {
        format!("can't listen on {address}: {error}. Another --port may be free; --port 0 takes any.")
    })
}
