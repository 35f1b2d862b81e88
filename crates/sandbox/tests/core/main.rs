//! The core's behaviour, under a virtual clock and in one process.

mod driver;
mod garbage;
mod order;
mod reading;
mod restart;
mod samples;
mod sessions;
