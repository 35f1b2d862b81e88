//! Misbehaviour on request: which requests are delayed, lost or refused, decided by a seed.
//!
//! A specification is a comma-separated list, each part a kind and how often it happens (0 to 1):
//! `seed=7,delay=0.2:50-400,drop=0.05,lose=0.05,429=0.02,503=0.01,restart=0.001`.
//! The n-th request meets the n-th decision, so the same requests in the same order meet the same faults.

use std::time::Duration;

/// What happens to one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// Wait this long first.
    pub delay: Duration,
    pub then: Then,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Then {
    #[default]
    Handle,
    /// The connection is closed before the request was looked at.
    Drop,
    /// The request is handled, and its answer lost with the connection.
    Lose,
    /// Answered with this status, without being handled.
    Refuse(u16),
    /// Handled, and yet answered with this status.
    HandleAndRefuse(u16),
    /// The server dies before it has looked at the request, and comes back with what is on its disk.
    Restart,
}

/// The decisions, one per request.
#[derive(Clone, Debug)]
pub struct Faults {
    delay: Option<(f64, u64, u64)>,
    chances: Vec<(Then, f64)>,
    random: SplitMix,
}

impl Faults {
    /// Reads a specification.
    ///
    /// # Errors
    /// Says which part can't be read, and what is known.
    pub fn parse(specification: &str) -> Result<Self, String> {
        let mut faults = Self { delay: None, chances: Vec::new(), random: SplitMix(0) };
        for part in specification.split(',').filter(|part| !part.is_empty()) {
            let (name, value) =
                part.split_once('=').ok_or_else(|| format!("`{part}` has no value: write NAME=CHANCE"))?;
            match name {
                "seed" => faults.random = SplitMix(number(part, value)?),
                "delay" => faults.delay = Some(delay(part, value)?),
                _ => faults.chances.push((then(part, name)?, chance(part, value)?)),
            }
        }
        let sum: f64 = faults.chances.iter().map(|(_, chance)| chance).sum();
        if sum > 1.0 {
            return Err(format!("the chances of `{specification}` add up to {sum}, which is more than 1"));
        }
        Ok(faults)
    }

    /// Decides about the next request.
    pub fn decide(&mut self) -> Fault {
        let mut fault = Fault::default();
        if let Some((chance, from, to)) = self.delay
            && self.random.unit() < chance
        {
            fault.delay = Duration::from_millis(from + self.random.next() % (to - from + 1));
        }
        let mut left = self.random.unit();
        for &(then, chance) in &self.chances {
            if left < chance {
                fault.then = then;
                break;
            }
            left -= chance;
        }
        fault
    }
}

fn then(part: &str, name: &str) -> Result<Then, String> {
    let status = |digits: &str| digits.parse::<u16>().ok().filter(|status| (400..600).contains(status));
    match name {
        "drop" => Ok(Then::Drop),
        "lose" => Ok(Then::Lose),
        "restart" => Ok(Then::Restart),
        _ => match (status(name), name.strip_suffix("-after").and_then(status)) {
            (Some(status), _) => Ok(Then::Refuse(status)),
            (_, Some(status)) => Ok(Then::HandleAndRefuse(status)),
            _ => Err(format!(
                "`{part}`: `{name}` is not a fault; there are seed, delay, drop, lose, restart, a status such as 429, \
                 and a status after handling such as 500-after"
            )),
        },
    }
}

fn chance(part: &str, value: &str) -> Result<f64, String> {
    let chance = value.parse().ok().filter(|chance| (0.0..=1.0).contains(chance));
    chance.ok_or_else(|| format!("`{part}`: `{value}` is not a chance between 0 and 1"))
}

fn number(part: &str, value: &str) -> Result<u64, String> {
    value.parse().map_err(|_| format!("`{part}`: `{value}` is not a whole number"))
}

fn delay(part: &str, value: &str) -> Result<(f64, u64, u64), String> {
    let form =
        || format!("`{part}`: a delay is written CHANCE:FROM-TO in milliseconds, as in delay=0.2:50-400");
    let (often, range) = value.split_once(':').ok_or_else(form)?;
    let (from, to) = range.split_once('-').ok_or_else(form)?;
    let (from, to) = (number(part, from)?, number(part, to)?);
    if from > to || to > 3_600_000 {
        return Err(form());
    }
    Ok((chance(part, often)?, from, to))
}

/// Sebastiano Vigna's SplitMix64: enough for choosing faults, and the same everywhere.
#[derive(Clone, Debug)]
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_faults() {
        let parsed =
            || Faults::parse("seed=3,delay=0.5:1-9,drop=0.2,lose=0.2,429=0.2,500-after=0.2").unwrap();
        let (mut one, mut two) = (parsed(), parsed());
        let decided: Vec<_> = (0..1000).map(|_| one.decide()).collect();
        assert!(decided.iter().all(|fault| *fault == two.decide()));
        for kind in [Then::Handle, Then::Drop, Then::Lose, Then::Refuse(429), Then::HandleAndRefuse(500)] {
            let often = decided.iter().filter(|fault| fault.then == kind).count();
            assert!((150..250).contains(&often), "{kind:?} happened {often} times of about 200");
        }
        assert!(decided.iter().all(|fault| fault.delay <= Duration::from_millis(9)));
    }

    #[test]
    fn a_bad_specification_says_what_is_wrong() {
        for (specification, says) in [
            ("drop", "no value"),
            ("drop=2", "between 0 and 1"),
            ("700=0.1", "not a fault"),
            ("explode=0.1", "not a fault"),
            ("delay=0.1", "CHANCE:FROM-TO"),
            ("delay=0.1:9-1", "CHANCE:FROM-TO"),
            ("seed=x", "whole number"),
            ("drop=0.9,lose=0.9", "more than 1"),
        ] {
            let error = Faults::parse(specification).unwrap_err();
            assert!(error.contains(says), "{specification}: {error}");
        }
    }
}
