//! A model's requests that happen exactly once. No I/O, no clock, no futures: what happened goes in, what is to be done
//! comes out.
//!
//! | module | what it owns |
//! |---|---|
//! | [`lane`] | the order of one model's requests, from call to result |
//! | [`record`] | what is written down of them, and under which keys |
//! | [`recovery`] | from what was found after a crash to what goes on |

pub mod lane;
pub mod record;
pub mod recovery;

/// Whether the server may have acted on a call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing left this machine.
    NotSent,
    /// The server answered that it did not do it.
    Refused,
    /// It was sent, and no answer says what became of it.
    Unknown,
    /// It has its number and goes on without this caller, here or with whoever resumes its session.
    Journaled,
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::NotSent => "not_sent",
            Outcome::Refused => "refused",
            Outcome::Unknown => "unknown",
            Outcome::Journaled => "journaled",
        }
    }
}
