//! Tokens per second of training and sampling, natively. `npm run bench -- model` runs it, and the same work in wasm.

mod workload;

use std::time::Instant;

/// Each measurement is repeated and the fastest one told: other programs only ever make it slower.
const REPEATS: usize = 5;

fn main() {
    let rate = |work: &mut dyn FnMut() -> usize| {
        work();
        let once = |_| {
            let started = Instant::now();
            let tokens = work();
            tokens as f64 / started.elapsed().as_secs_f64()
        };
        (0..REPEATS).map(once).fold(0.0, f64::max)
    };
    let mut adapter = workload::adapter();
    for threads in [1, 2] {
        let trained = rate(&mut || workload::train(&mut adapter, 6, threads));
        println!("native, {threads} thread(s): training {trained:.0} tokens/s");
    }
    let sampled = rate(&mut || workload::sample(&adapter, 4));
    println!("native: sampling {sampled:.0} tokens/s");
}
