//! The supervisor as its users meet it, under virtual time. A function that is named as a case of OTP's
//! `supervisor_SUITE` ports that case; docs/supervision.md has the table.

mod admin;
mod cancellation;
mod dynamic;
mod exits;
mod introspection;
mod mailboxes;
mod misc;
mod panics;
mod significant;
mod start;
mod stop;
mod strategies;
mod tasks;
mod whole;
mod world;
