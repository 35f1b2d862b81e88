//! The sessions that are kept of this server and account, and which of them a service takes.

use tinkex_journal::record::{self, Record, SESSIONS, unescaped};
use tinkex_journal::recovery::Found;
use tinkex_protocol::SessionId;

use super::super::{Choice, OF_A_RUN, Resume};
use crate::telemetry::Opened;

pub struct Kept {
    pub id: SessionId,
    pub key: String,
    pub record: record::Session,
}

/// Those that can be read. One that can't is nobody's; asked for by its id, it says why.
pub fn read(found: &Found) -> Vec<Kept> {
    let mut kept = Vec::new();
    for (key, bytes) in found {
        if let Ok(record) = record::Session::from_bytes(key, bytes)
            && let Some(id) = key.strip_prefix(SESSIONS).and_then(unescaped)
        {
            kept.push(Kept { id: id.into(), key: key.clone(), record });
        }
    }
    kept
}

impl Kept {
    /// Whether only the run itself takes it up again.
    pub fn is_of_a_run(&self) -> bool {
        self.record.owner.starts_with(OF_A_RUN)
    }
}

impl Choice {
    /// The session that is to be taken up again, if one is, and whose it was.
    pub fn among(&self, kept: &[Kept]) -> Option<(SessionId, Opened)> {
        if let Some(own) = kept.iter().find(|kept| kept.record.owner == self.owner) {
            // A run is one owner on whichever page it goes on.
            let how = if own.is_of_a_run() { Opened::Resumed } else { Opened::Again };
            return Some((own.id.clone(), how));
        }
        let id = match &self.resume {
            Resume::None => return None,
            Resume::This(id) => id,
            Resume::Newest => {
                let free = kept.iter().filter(|kept| !kept.is_of_a_run());
                &free.max_by_key(|kept| kept.record.created)?.id
            }
        };
        Some((id.clone(), Opened::Resumed))
    }
}
