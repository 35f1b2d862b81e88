//! What a client tells of itself, in the words in which it is sent. `docs/telemetry.md` lists every field, and a test
//! holds the two together.

use std::time::Duration;

use tinkex_journal::record::Untold;
use tinkex_protocol::json;
use tinkex_supervise::PanicInfo;

use crate::platform::numbers;
use crate::transport::SDK_VERSION;

/// What runs the client. Nothing of the machine, the browser or its user is told.
const PLATFORM: &str = "wasm";

/// One thing that is told. None of it has anything in it that a user gave: no key, no text, no label, no name.
pub enum Event<'a> {
    SessionStart,
    /// A session that another page or process had made.
    SessionResumed,
    /// The server has ended it.
    SessionLost,
    SessionEnd {
        /// Since it was opened here.
        after: Duration,
    },
    /// The one before this died, and this one goes on with its session.
    InstanceLost,
    /// The service's parts crashed too often.
    ServiceFailed,
    Panicked(&'a PanicInfo),
    /// So many events found no room.
    Dropped(u64),
}

/// What all events have.
pub struct Head<'a> {
    pub id: &'a str,
    /// Counts the events of a session in this process.
    pub index: u64,
    /// Since 1970.
    pub at: Duration,
}

impl Event<'_> {
    /// Whether it is sent at once.
    pub fn is_urgent(&self) -> bool {
        matches!(self, Event::InstanceLost | Event::ServiceFailed | Event::Panicked(_))
    }

    /// The event as JSON.
    pub fn written(&self, head: &Head) -> Vec<u8> {
        let mut fields = Fields(self.fixed().into());
        fields.texts(&[("event_id", head.id), ("timestamp", &timestamp(head.at))]);
        fields.number("event_session_index", head.index);
        match self {
            Event::SessionEnd { after } => fields.texts(&[("duration", &duration_of(*after))]),
            Event::Panicked(panic) => {
                // Words that were made at the time may have a user's in them; the place says as much.
                let message = if panic.literal { &panic.message } else { "(made at the time, and not sent)" };
                fields.texts(&[("error_message", message), ("traceback", &panic.place)]);
            }
            Event::Dropped(count) => {
                let mut data = Fields::default();
                data.number("count", *count);
                fields.raw("event_data", &data.closed());
            }
            _ => {}
        }
        fields.closed()
    }

    /// What is the same in all of its kind.
    fn fixed(&self) -> &'static str {
        match self {
            Event::SessionStart => r#"{"event":"SESSION_START","severity":"INFO""#,
            Event::SessionEnd { .. } => r#"{"event":"SESSION_END","severity":"INFO""#,
            Event::SessionResumed => {
                r#"{"event":"GENERIC_EVENT","severity":"INFO","event_name":"session_resumed""#
            }
            Event::SessionLost => {
                r#"{"event":"GENERIC_EVENT","severity":"WARNING","event_name":"session_lost""#
            }
            Event::Dropped(_) => {
                r#"{"event":"GENERIC_EVENT","severity":"WARNING","event_name":"telemetry_dropped""#
            }
            Event::ServiceFailed => {
                r#"{"event":"GENERIC_EVENT","severity":"CRITICAL","event_name":"service_failed""#
            }
            Event::InstanceLost => concat!(
                r#"{"event":"UNHANDLED_EXCEPTION","severity":"CRITICAL","error_type":"InstanceLost","#,
                r#""error_message":"the WebAssembly instance died, and another one goes on""#,
            ),
            Event::Panicked(_) => r#"{"event":"UNHANDLED_EXCEPTION","severity":"ERROR","error_type":"Panic""#,
        }
    }
}

/// A body of `telemetry`: events of one session, and one more unless it is empty.
pub fn batch(events: &[Untold], one_more: &[u8]) -> Vec<u8> {
    let mut list = vec![b'['];
    for event in events.iter().map(|event| &event.event[..]).chain([one_more]) {
        if list.len() > 1 && !event.is_empty() {
            list.push(b',');
        }
        list.extend_from_slice(event);
    }
    list.push(b']');
    let mut fields = Fields::default();
    fields.raw("events", &list);
    if let Some(first) = events.first() {
        fields.texts(&[
            ("platform", PLATFORM),
            ("sdk_version", SDK_VERSION),
            ("session_id", &first.session),
            ("process_uuid", &first.process),
        ]);
    }
    fields.closed()
}

/// A JSON object, as far as it is written.
#[derive(Default)]
struct Fields(Vec<u8>);

impl Fields {
    fn raw(&mut self, name: &str, json: &[u8]) {
        self.0.extend_from_slice(if self.0.is_empty() { b"{\"" } else { b",\"" });
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
        self.0.extend_from_slice(json);
    }

    /// Without those that are empty.
    fn texts(&mut self, texts: &[(&str, &str)]) {
        for (name, text) in texts {
            if !text.is_empty() {
                self.raw(name, &json::write(text, numbers::write));
            }
        }
    }

    fn number(&mut self, name: &str, number: u64) {
        self.raw(name, &json::write(&number, numbers::write));
    }

    fn closed(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }
}

/// ISO 8601 in UTC, of a time since 1970.
fn timestamp(at: Duration) -> String {
    const DAY: u64 = 24 * 3_600;
    // Counted from 1 March of the year 0, so that a leap day is the last of its year (H. Hinnant, "chrono-compatible
    // low-level date algorithms").
    let days = at.as_secs() / DAY + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let seconds = at.as_secs() % DAY;
    let parts =
        [year, month, day, seconds / 3_600, seconds / 60 % 60, seconds % 60, at.subsec_micros().into()];
    filled("0000-00-00T00:00:00.000000Z", &parts)
}

/// `H:MM:SS.ffffff`.
fn duration_of(time: Duration) -> String {
    let seconds = time.as_secs();
    let parts = [seconds / 3_600, seconds / 60 % 60, seconds % 60, time.subsec_micros().into()];
    let text = filled("0000:00:00.000000", &parts);
    let mut shortest = &*text;
    while shortest.len() > "0:00:00.000000".len()
        && let Some(shorter) = shortest.strip_prefix('0')
    {
        shortest = shorter;
    }
    shortest.to_owned()
}

/// Writes numbers over the runs of zeros of a form, in their order.
fn filled(form: &str, numbers: &[u64]) -> String {
    let mut text = Vec::from(form);
    let mut end = text.len();
    for number in numbers.iter().rev() {
        let mut left = *number;
        while end > 0 && text[end - 1] != b'0' {
            end -= 1;
        }
        while end > 0 && text[end - 1] == b'0' {
            end -= 1;
            text[end] += (left % 10) as u8;
            left /= 10;
        }
    }
    String::from_utf8(text).expect("forms and digits are ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_the_official_client_writes_them() {
        let at = |seconds, micros: u32| timestamp(Duration::new(seconds, micros * 1_000));
        assert_eq!(at(0, 0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(at(951_782_399, 1), "2000-02-28T23:59:59.000001Z");
        assert_eq!(at(951_782_400, 0), "2000-02-29T00:00:00.000000Z");
        assert_eq!(at(1_795_423_689, 944_802), "2026-11-23T08:48:09.944802Z");
        assert_eq!(at(4_107_542_400, 0), "2100-03-01T00:00:00.000000Z");
        assert_eq!(duration_of(Duration::from_micros(35_208_113)), "0:00:35.208113");
        assert_eq!(duration_of(Duration::from_secs(27 * 3_600 + 61)), "27:01:01.000000");
    }
}
