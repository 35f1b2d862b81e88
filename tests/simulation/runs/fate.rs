//! What befalls a world of runs, and when.

use std::rc::Rc;
use std::time::Duration;

use tinkex_supervise::faults;

use super::tab::{Command, Manners};
use super::work::Source;
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
        match dice.roll(23) {
            0..=2 => world.any_tab().into_iter().for_each(|tab| tab.trap(dice.roll(400))),
            3 => {
                if dice.happens(300) {
                    until(world, |world| world.has_waiting()).await;
                }
                world.any_tab().into_iter().for_each(|tab| tab.kill());
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
            9 => {
                if dice.happens(700) {
                    until(world, |world| world.trace.has_unanswered()).await;
                }
                world.strike(Blow::KeyIsNotLetIn);
            }
            10 | 11 => {
                // At times again and again, until it is given up.
                for nth in 0..if dice.happens(500) { 12 } else { 1 } {
                    armed += 1;
                    match loops_panic {
                        true => faults::arm("run", 1 + 2 * nth + dice.roll(6)),
                        false => faults::arm_within("task poll", "/dispatcher", 1 + 3 * nth + dice.roll(4)),
                    }
                }
            }
            12 => command(world, Command::Pause),
            13 | 14 => {
                until(world, |world| world.unsaved.get()).await;
                world.any_owner().into_iter().for_each(|tab| tab.hide());
            }
            15 => command(world, Command::Checkpoint),
            16 => {
                until(world, |world| world.unsaved.get()).await;
                command(world, Command::Stop);
            }
            17 => be_away(world).await,
            18 | 21 if world.plan.checkpoints_expire => be_away(world).await,
            19 | 20 => world.mischief.set(Some(match world.plan.source {
                Source::Function => {
                    dice.pick(&[Mischief::Throws, Mischief::NeverReturns, Mischief::AsksOtherwise])
                }
                _ => dice.pick(&[Mischief::Throws, Mischief::HasOtherData, Mischief::HasBrokenData]),
            })),
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
}

fn command(world: &RunWorld, command: Command) {
    world.any_owner().into_iter().for_each(|tab| tab.command(command));
}

/// Nobody has the run open for longer than a session lives, and at times than a checkpoint is kept.
async fn be_away(world: &Rc<RunWorld>) {
    let Around { runtime, tally, .. } = &***world;
    let expires = world.plan.checkpoints_expire;
    if expires || world.dice.happens(750) {
        let is_saved = |key: &String| key.contains("checkpoint");
        until(world, |world| world.disk.keys_of("run-row/").iter().any(is_saved)).await;
    }
    tally.fault("page: is away for longer than a session lives");
    world.kill_tabs();
    runtime.timer(if expires { LONG_ABSENCE } else { ABSENCE }).await;
    world.open_tab(Manners::Waits);
}

/// Waits for a moment, for a while.
async fn until(world: &Rc<RunWorld>, is_there: impl Fn(&RunWorld) -> bool) {
    for _ in 0..1_500 {
        if is_there(world) {
            return;
        }
        world.runtime.timer(Duration::from_millis(2)).await;
    }
}
