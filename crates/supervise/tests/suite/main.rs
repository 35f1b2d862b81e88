//! The supervisor as its users meet it, under virtual time. A function that is named as a case of OTP's
//! `supervisor_SUITE` ports that case; docs/supervision.md has the table.

mod admin;
mod cancellation;
mod counts;
mod dynamic;
mod exits;
mod forgetting;
mod introspection;
mod mailboxes;
mod many;
mod panics;
mod reports;
mod restart_loops;
mod significant;
mod start;
mod stop;
mod strategies;
mod tasks;
mod trees;
mod whole;
mod world;
