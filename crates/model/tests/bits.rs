//! The same calls give the same bits: on any number of threads, with any vectors, in another process. (`tests/model/` of the
//! repository says it of wasm.)

mod scenario;

use std::process::Command;
use tinkex_model::BaseModel;

const CHILD: &str = "TINKEX_MODEL_BITS_CHILD";

#[test]
fn a_run_has_the_same_bits_on_one_thread_and_on_many() {
    for threads in [1, 2, 3, 16] {
        assert_eq!(scenario::hash(&BaseModel::tiny(3), threads), scenario::TINY, "{threads} threads");
    }
    for threads in [1, 2] {
        assert_eq!(scenario::hash(&BaseModel::shipped(), threads), scenario::SHIPPED, "{threads} threads");
    }
}

#[test]
fn a_run_has_the_same_bits_in_a_new_process_without_wide_vectors() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_prints_its_hashes", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let expected = format!("tiny {:016x} shipped {:016x}", scenario::TINY, scenario::SHIPPED);
    assert!(printed.contains(&expected), "the child printed:\n{printed}");
}

/// The child of the test above; on its own it has nothing to say.
#[test]
fn child_prints_its_hashes() {
    if std::env::var_os(CHILD).is_some() {
        tinkex_model::use_baseline_vectors();
        let tiny = scenario::hash(&BaseModel::tiny(3), 1);
        let shipped = scenario::hash(&BaseModel::shipped(), 1);
        println!("tiny {tiny:016x} shipped {shipped:016x}");
    }
}

#[test]
fn another_seed_gives_other_bits() {
    assert_ne!(scenario::hash(&BaseModel::tiny(4), 1), scenario::TINY);
}
