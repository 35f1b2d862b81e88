//! The client's values in JavaScript's terms, as plain values: what crosses the boundary, and what a run keeps of it.

pub mod arguments;
pub mod results;
