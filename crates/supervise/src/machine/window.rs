//! The sliding window in which restarts are counted.

use std::time::Duration;

use crate::spec::Intensity;

/// Times of the latest restarts.
#[derive(Debug)]
pub(super) struct Window {
    intensity: Intensity,
    times: Vec<Duration>,
}

impl Window {
    pub(super) fn new(intensity: Intensity) -> Self {
        Self { intensity, times: Vec::new() }
    }

    /// Counts a restart; whether it is still borne. A restart exactly one period ago counts.
    pub(super) fn bears(&mut self, now: Duration) -> bool {
        // They ascend: what is fresh is behind, and not looked at.
        let fresh = self.times.iter().position(|time| time.saturating_add(self.intensity.period) >= now);
        self.times.drain(..fresh.unwrap_or(self.times.len()));
        self.times.push(now);
        self.times.len() as u64 <= u64::from(self.intensity.restarts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn zero_restarts_bear_none() {
        let mut window = Window::new(Intensity { restarts: 0, period: seconds(5) });
        assert!(!window.bears(seconds(0)));
    }

    #[test]
    fn the_window_slides_and_its_edge_counts() {
        let mut window = Window::new(Intensity { restarts: 2, period: seconds(5) });
        assert!(window.bears(seconds(0)));
        assert!(window.bears(seconds(4)));
        assert!(!window.bears(seconds(5)));
        let mut window = Window::new(Intensity { restarts: 2, period: seconds(5) });
        assert!(window.bears(seconds(0)));
        assert!(window.bears(seconds(4)));
        assert!(window.bears(seconds(6)));
        assert!(!window.bears(seconds(9)));
    }
}
