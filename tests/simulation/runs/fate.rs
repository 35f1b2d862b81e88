//! What befalls a world of runs, and when.

use std::rc::Rc;
use std::time::Duration;

use tinkex_supervise::faults;

use super::tab::{Command, Manners};
use super::{Mischief, RunWorld};
use crate::around::{Around, Blow};

/// Blows of fate in one world, at most.
const MOST: u64 = 12;

/// Longer than the server keeps a silent session, and longer than it keeps a checkpoint that expires.
const ABSENCE: Duration = Duration::from_secs(250);
const LONG_ABSENCE: Duration = Duration::from_secs(3_700);

/// Lets things happen for a while, and then lets calm return.
pub async fn befall(world: &Rc<RunWorld>) {
    let Around { dice, runtime, disk, tally, .. } = &***world;
    faults::clear();
    world.set_stormy(true);
    // One kind of panic a world: which of those that are armed have struck isn't told.
    let loops_panic = dice.happens(500);
    let mut armed = 0;
    for _ in 0..1 + dice.roll(MOST) {
        runtime.timer(dice.up_to_ms(1_000)).await;
        let (tab, owner) = (world.any_tab(), world.any_owner());
        match dice.roll(23) {
            0..=2 => tab.into_iter().for_each(|tab| tab.trap(dice.roll(400))),
            3 => {
                tab.into_iter().for_each(|tab| tab.kill());
                runtime.timer(dice.up_to_ms(1_000)).await;
                world.open_tab(Manners::Waits);
            }
            4 => {
                world.kill_tabs();
                disk.lose_power();
                runtime.timer(dice.up_to_ms(1_000)).await;
                world.open_tab(Manners::Waits);
            }
            5 => world.open_tab(Manners::Waits),
            6 => world.open_tab(Manners::Barges),
            7 => {
                if dice.happens(500) {
                    until(world, |world| world.server.is_working()).await;
                }
                world.strike(Blow::ServerDies);
            }
            8 => world.strike(Blow::DiskIsFull),
            9 => world.strike(Blow::KeyIsNotLetIn),
            10 | 11 => {
                // At times so often that it is given up.
                for _ in 0..if dice.happens(150) { 8 } else { 1 } {
                    armed += 1;
                    match loops_panic {
                        true => faults::arm("run", 1 + dice.roll(6)),
                        false => faults::arm_within("task poll", "/dispatcher", 1 + dice.roll(4)),
                    }
                }
            }
            12 => owner.into_iter().for_each(|tab| tab.command(Command::Pause)),
            13 | 14 => owner.into_iter().for_each(|tab| tab.hide()),
            15 => owner.into_iter().for_each(|tab| tab.command(Command::Checkpoint)),
            16 if dice.happens(300) => owner.into_iter().for_each(|tab| tab.command(Command::Stop)),
            17 => be_away(world).await,
            18 | 19 => world.mischief.set(Some(dice.pick(&[
                Mischief::Throws,
                Mischief::NeverReturns,
                Mischief::AsksOtherwise,
                Mischief::HasOtherData,
                Mischief::HasBrokenData,
            ]))),
            _ => world.strike(Blow::WeatherChanges),
        }
    }
    for _ in faults::armed()..armed {
        tally.fault(match loops_panic {
            true => "instance: a run's loop panics",
            false => "instance: a dispatcher panics",
        });
    }
    faults::clear();
    // Longer than anything that was begun above.
    runtime.timer(Duration::from_secs(6)).await;
    world.set_stormy(false);
    world.mischief.take();
}

/// Nobody has the run open for longer than a session lives, and at times than a checkpoint is kept.
async fn be_away(world: &Rc<RunWorld>) {
    let Around { runtime, tally, .. } = &***world;
    let expires = world.plan.checkpoints_expire;
    if expires {
        until(world, |world| !world.disk.keys_of("run-place/").is_empty()).await;
    }
    tally.fault("page: is away for longer than a session lives");
    world.kill_tabs();
    runtime.timer(if expires { LONG_ABSENCE } else { ABSENCE }).await;
    world.open_tab(Manners::Waits);
}

/// Waits for a moment, for a while.
async fn until(world: &Rc<RunWorld>, is_there: impl Fn(&RunWorld) -> bool) {
    for _ in 0..500 {
        if is_there(world) {
            return;
        }
        world.runtime.timer(Duration::from_millis(2)).await;
    }
}
