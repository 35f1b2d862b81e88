//! The engine in wasm without any glue, for Node: the hashes that the native tests know, and the benchmark's work.
//!
//! `tests/model/` and `benches/model.mjs` of the repository build and call it.

#[path = "../tests/scenario/mod.rs"]
mod scenario;
#[path = "bench_model/workload.rs"]
mod workload;

use std::cell::RefCell;
use tinkex_model::{Adapter, BaseModel};

thread_local! {
    static ADAPTER: RefCell<Adapter> = RefCell::new(workload::adapter());
}

// An exported name must be unique in the whole program, which is all that "unsafe" says here.

#[unsafe(no_mangle)]
pub extern "C" fn hash_of_tiny() -> u64 {
    scenario::hash(&BaseModel::tiny(3), 1)
}

#[unsafe(no_mangle)]
pub extern "C" fn hash_of_shipped() -> u64 {
    scenario::hash(&BaseModel::shipped(), 1)
}

#[unsafe(no_mangle)]
pub extern "C" fn expected_of_tiny() -> u64 {
    scenario::TINY
}

#[unsafe(no_mangle)]
pub extern "C" fn expected_of_shipped() -> u64 {
    scenario::SHIPPED
}

/// Gives the tokens trained on.
#[unsafe(no_mangle)]
pub extern "C" fn train(steps: usize) -> usize {
    ADAPTER.with_borrow_mut(|adapter| workload::train(adapter, steps, 1))
}

/// Gives the tokens sampled.
#[unsafe(no_mangle)]
pub extern "C" fn sample(samples: usize) -> usize {
    ADAPTER.with_borrow(|adapter| workload::sample(adapter, samples))
}
