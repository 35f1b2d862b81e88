//! Work on a batch in a fixed number of slots, so that the number of threads doesn't show in the result.
//!
//! Sequence i belongs to slot i mod 8. A slot takes its sequences in order and adds up their gradients; afterwards the slots
//! are added up in order. Threads take whole slots.

/// More slots would use more threads and more memory; the machines that this is for have two to eight.
pub(crate) const SLOTS: usize = 8;

/// Calls `work(slot, state)` once for each of the states, on up to `threads` threads (on this one in wasm).
pub(crate) fn for_each_slot<S: Send>(states: &mut [S], threads: usize, work: impl Fn(usize, &mut S) + Sync) {
    let threads = if cfg!(target_family = "wasm") { 1 } else { threads.clamp(1, states.len().max(1)) };
    if threads == 1 {
        for (slot, state) in states.iter_mut().enumerate() {
            work(slot, state);
        }
        return;
    }
    let queue = std::sync::Mutex::new(states.iter_mut().enumerate());
    let take_turns = || {
        loop {
            let next = queue.lock().expect("no thread panics while it takes a slot").next();
            let Some((slot, state)) = next else { return };
            work(slot, state);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(take_turns);
        }
        take_turns();
    });
}
