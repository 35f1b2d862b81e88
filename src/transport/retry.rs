//! When a request is sent again, and after how long: a pure policy, so that every rule can be tested by itself.

use std::time::Duration;

use crate::platform::{HttpFailure, HttpResponse, numbers};

/// How often an HTTP request is repeated, unless the user says otherwise; the official client's number.
pub const DEFAULT_RETRIES: u32 = 10;

/// Until a server has answered once, a wrong address is likelier than a passing fault: say so after seconds.
pub const RETRIES_BEFORE_FIRST_CONTACT: u32 = 3;

/// How long calls that change something go on trying, all tries together.
pub const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// The server asks for a pause of at most this; anything longer is a mistake of a clock or a proxy.
const LONGEST_ASKED_PAUSE: Duration = Duration::from_secs(60);

/// In milliseconds.
const FIRST_PAUSE: u32 = 500;
const LONGEST_PAUSE: u32 = 10_000;

/// How a request may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Not at all: what calls it has a loop of its own.
    Once,
    /// A number of times.
    Plain,
    /// A number of times, and then on until [`PATIENCE`] is over, whatever `x-should-retry` says.
    Patient,
    /// For ever, until the server has answered.
    UntilAnswered,
}

/// What came of one try.
pub type Attempt = Result<HttpResponse, Silence>;

/// No answer came to a try.
pub enum Silence {
    Failed(HttpFailure),
    TimedOut,
}

/// What is known of the tries so far.
#[derive(Clone, Copy, Debug)]
pub struct Tried {
    /// How often it was sent again already.
    pub retries: u32,
    pub max_retries: u32,
    /// Since the first try.
    pub elapsed: Duration,
    /// 0 to 1, drawn anew for each pause.
    pub jitter: f64,
}

/// The pause before the next try, or `None` where this try's answer is final.
pub fn pause_before_retry(policy: Policy, attempt: &Attempt, tried: Tried) -> Option<Duration> {
    let answer = attempt.as_ref().ok();
    let may_pass = answer.is_none_or(is_passing);
    let in_number = tried.retries < tried.max_retries
        && match answer.and_then(|answer| answer.header("x-should-retry")) {
            Some("true") => true,
            Some("false") => false,
            _ => may_pass,
        };
    let again = match policy {
        Policy::Once => false,
        Policy::Plain => in_number,
        Policy::Patient => in_number || (may_pass && tried.elapsed < PATIENCE),
        Policy::UntilAnswered => may_pass,
    };
    again.then(|| answer.and_then(asked_pause).unwrap_or_else(|| backoff(tried.retries, tried.jitter)))
}

/// 0.5 s · 2ⁿ, at most 10 s, less up to a quarter so that many clients don't come back at once.
pub fn backoff(retries: u32, jitter: f64) -> Duration {
    let whole = (FIRST_PAUSE << retries.min(16)).min(LONGEST_PAUSE);
    Duration::from_millis((f64::from(whole) * (1.0 - 0.25 * jitter)) as u64)
}

/// Statuses that may pass by themselves. 409 is a server's lock; that a number was used with another body is told
/// apart by its text ([`is_number_conflict`]) and never passes.
fn is_passing(answer: &HttpResponse) -> bool {
    match answer.status {
        409 => !is_number_conflict(answer.status, &answer.body),
        400 => is_from_a_proxy(answer),
        status => matches!(status, 408 | 429 | 500..=599),
    }
}

/// A 400 without a body comes from something between us and the service.
pub fn is_from_a_proxy(answer: &HttpResponse) -> bool {
    answer.status == 400 && answer.body.is_empty()
}

/// A 409 that says that this sequence number carried another body before: sending it again can't help.
pub fn is_number_conflict(status: u16, body: &[u8]) -> bool {
    if status != 409 {
        return false;
    }
    let says = |word: &[u8]| body.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
    says(b"seq") && (says(b"body") || says(b"different") || says(b"another"))
}

/// The pause that the server asks for, in `retry-after-ms` or `retry-after`: seconds, which the platform also makes of a
/// date.
fn asked_pause(answer: &HttpResponse) -> Option<Duration> {
    let said = |name| numbers::read(answer.header(name)?.trim_ascii());
    let ms = said("retry-after-ms").or_else(|| Some(said("retry-after")? * 1000.0))?;
    // Up to the next millisecond, and never at once.
    let pause = Duration::from_millis(ms.ceil() as u64);
    (Duration::ZERO < pause && pause <= LONGEST_ASKED_PAUSE).then_some(pause)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> HttpResponse {
        let headers = headers.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        HttpResponse { status, headers, body: body.as_bytes().to_vec() }
    }

    const FIRST: Tried = Tried { retries: 0, max_retries: 10, elapsed: Duration::ZERO, jitter: 0.0 };

    fn pause(policy: Policy, answer: &HttpResponse, tried: Tried) -> Option<Duration> {
        pause_before_retry(policy, &Ok(answer.clone()), tried)
    }

    #[test]
    fn passing_faults_are_repeated_and_refusals_are_final() {
        for status in [408, 409, 429, 500, 502, 503, 504] {
            assert!(pause(Policy::Plain, &answer(status, &[], "{}"), FIRST).is_some(), "{status}");
        }
        for status in [400, 401, 402, 403, 404, 410, 422] {
            assert!(pause(Policy::Plain, &answer(status, &[], "{}"), FIRST).is_none(), "{status}");
        }
        assert!(pause_before_retry(Policy::Plain, &Err(Silence::TimedOut), FIRST).is_some());
        assert!(pause_before_retry(Policy::Once, &Err(Silence::TimedOut), FIRST).is_none());
    }

    #[test]
    fn a_400_without_a_body_is_a_proxys() {
        assert!(pause(Policy::Plain, &answer(400, &[], ""), FIRST).is_some());
    }

    #[test]
    fn a_number_used_with_another_body_is_never_sent_again() {
        let conflict = answer(409, &[], r#"{"detail":"seq_id 4 was used with another body"}"#);
        assert!(pause(Policy::Patient, &conflict, FIRST).is_none());
    }

    #[test]
    fn the_server_can_ask_for_more_and_for_less() {
        let never = answer(503, &[("x-should-retry", "false")], "");
        assert!(pause(Policy::Plain, &never, FIRST).is_none());
        assert!(pause(Policy::Patient, &never, FIRST).is_some(), "the patient loop goes on all the same");
        let always = answer(400, &[("x-should-retry", "true")], "{}");
        assert!(pause(Policy::Plain, &always, FIRST).is_some());
    }

    #[test]
    fn pauses_double_up_to_ten_seconds_less_a_quarter_at_most() {
        let seconds = |retries| backoff(retries, 0.0).as_secs_f64();
        assert_eq!(
            [seconds(0), seconds(1), seconds(4), seconds(5), seconds(99)],
            [0.5, 1.0, 8.0, 10.0, 10.0]
        );
        assert_eq!(backoff(1, 1.0).as_secs_f64(), 0.75);
    }

    #[test]
    fn the_servers_own_pause_counts_up_to_a_minute() {
        let pause_of =
            |headers: &[(&str, &str)]| pause(Policy::Plain, &answer(429, headers, "x"), FIRST).unwrap();
        assert_eq!(pause_of(&[("retry-after", "7")]), Duration::from_secs(7));
        assert_eq!(pause_of(&[("retry-after-ms", "20"), ("retry-after", "7")]), Duration::from_millis(20));
        for nonsense in ["0", "-1", "61", "NaN", "inf", "soon"] {
            assert_eq!(pause_of(&[("retry-after", nonsense)]), Duration::from_millis(500), "{nonsense}");
        }
    }

    #[test]
    fn patience_ends() {
        let busy = answer(503, &[], "");
        let late = Tried { retries: 40, elapsed: PATIENCE, ..FIRST };
        assert!(pause(Policy::Patient, &busy, late).is_none());
        assert!(pause(Policy::Patient, &busy, Tried { elapsed: PATIENCE / 2, ..late }).is_some());
        assert!(pause(Policy::Plain, &busy, Tried { retries: 10, ..FIRST }).is_none());
    }
}
