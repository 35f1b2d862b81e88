//! What befalls a world, and when.

use std::rc::Rc;
use std::time::Duration;

use tinkex_supervise::faults;

use crate::around::{Around, Blow};
use crate::world::World;

/// Blows of fate in one world, at most.
const MOST: u64 = 12;

/// Lets things happen for a while, and then lets calm return.
pub async fn befall(world: &Rc<World>) {
    let Around { dice, runtime, disk, .. } = &***world;
    faults::clear();
    world.set_stormy(true);
    let mut armed = 0;
    for _ in 0..1 + dice.roll(MOST) {
        runtime.timer(dice.up_to_ms(2_500)).await;
        match dice.roll(11) {
            0..=2 => world.page().trap(dice.roll(250)),
            3 => {
                if dice.happens(300) {
                    a_commit_is_under_way(world).await;
                }
                world.page().kill();
                runtime.timer(dice.up_to_ms(1_000)).await;
                world.open_page();
            }
            4 => {
                world.kill_pages();
                disk.lose_power();
                runtime.timer(dice.up_to_ms(1_000)).await;
                world.open_page();
            }
            5 => {
                world.tally.fault("page: a second one takes over");
                world.open_page();
            }
            6 => world.strike(Blow::ServerDies),
            7 => world.strike(Blow::DiskIsFull),
            8 => world.strike(Blow::KeyIsNotLetIn),
            9 => {
                armed += 1;
                let within = dice.pick(&["/dispatcher", "/requests/"]);
                faults::arm_within(dice.pick(&["task poll", "task drop"]), within, 1 + dice.roll(4));
            }
            _ => world.strike(Blow::WeatherChanges),
        }
    }
    for _ in faults::armed()..armed {
        world.tally.fault("instance: one of its tasks panics");
    }
    faults::clear();
    // Longer than anything that was begun above.
    runtime.timer(Duration::from_secs(6)).await;
    world.set_stormy(false);
}

/// Waits for the moment when the page has something written, for a while.
async fn a_commit_is_under_way(world: &World) {
    for _ in 0..500 {
        if world.page().has_waiting() {
            return;
        }
        world.runtime.timer(Duration::from_millis(1)).await;
    }
}
