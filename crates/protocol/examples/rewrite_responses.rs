//! Writes what our types make of each golden response, for the official Python client to read: one a line, on standard
//! output. `tests/python/golden_responses.py read` takes it.

#[path = "../tests/base64/mod.rs"]
mod base64;
#[path = "../tests/responses/mod.rs"]
mod responses;

fn main() {
    for entry in responses::golden() {
        println!("{}", responses::rewritten(&entry));
    }
}
