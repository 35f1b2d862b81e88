//! What is around the pages of a world: a clock, a server, a network and a disk, all from one seed, and how each of them
//! goes wrong.

use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt;
use tinkex_supervise::Runtime;
use tinkex_supervise::virtual_time::VirtualTime;

use crate::dice::Dice;
use crate::disk::Disk;
use crate::network::Network;
use crate::server::Server;
use crate::tally::Tally;
use crate::trace::Trace;

pub struct Around {
    pub runtime: Rc<dyn Runtime>,
    pub dice: Rc<Dice>,
    pub tally: Rc<Tally>,
    pub trace: Rc<Trace>,
    pub server: Server,
    pub network: Network,
    pub disk: Disk,
}

/// What befalls one of them.
#[derive(Clone, Copy)]
pub enum Blow {
    ServerDies,
    DiskIsFull,
    KeyIsNotLetIn,
    WeatherChanges,
}

impl Around {
    /// `session_timeout`: how long the server keeps a silent session.
    pub fn new(time: &VirtualTime, seed: u64, session_timeout: Duration) -> Around {
        let runtime = time.runtime();
        let dice = Rc::new(Dice::new(seed));
        let tally = Rc::new(Tally::new(runtime.clone()));
        let trace = Rc::new(Trace::new(tally.clone()));
        let server = Server::new(runtime.clone(), dice.clone(), tally.clone(), session_timeout);
        let network =
            Network::new(runtime.clone(), dice.clone(), tally.clone(), trace.clone(), server.clone());
        let disk = Disk::new(runtime.clone(), dice.clone(), tally.clone(), trace.clone());
        Around { runtime, dice, tally, trace, server, network, disk }
    }

    pub fn set_stormy(&self, stormy: bool) {
        self.network.set_stormy(stormy);
        self.disk.set_stormy(stormy);
    }

    /// Strikes, and lets it pass by itself.
    pub fn strike(&self, blow: Blow) {
        let Around { runtime, dice, server, network, disk, .. } = self;
        match blow {
            Blow::ServerDies if server.is_away() => {}
            Blow::ServerDies => {
                server.die();
                let (back, away) = (server.clone(), runtime.timer(dice.up_to_ms(5_000)));
                runtime.spawn(away.map(move |()| back.come_back()).boxed_local());
            }
            Blow::DiskIsFull => {
                disk.set_full(true);
                let (disk, full) = (disk.clone(), runtime.timer(dice.up_to_ms(3_000)));
                runtime.spawn(full.map(move |()| disk.set_full(false)).boxed_local());
            }
            Blow::KeyIsNotLetIn => {
                network.shut(Some(dice.pick(&[401, 402])));
                let (network, shut) = (network.clone(), runtime.timer(dice.up_to_ms(3_000)));
                runtime.spawn(shut.map(move |()| network.shut(None)).boxed_local());
            }
            Blow::WeatherChanges => {
                let calm = dice.happens(300);
                network.set_stormy(!calm);
            }
        }
    }
}
