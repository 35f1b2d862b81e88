//! The learning rate of each step.

use std::f64::consts::PI;

/// How the learning rate goes over a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    /// Up to `peak` over the warm-up, and from there as its shape says to `floor` at the last step.
    Shaped { shape: Shape, peak: f64, warmup: u32, floor: f64, steps: Option<u32> },
    /// Straight lines between points: steps, rising, and their rates. Before the first it is the first's, behind the last
    /// the last's.
    Points(Vec<(f64, f64)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Constant,
    Linear,
    Cosine,
}

impl Schedule {
    /// Of a step, counted from 1, of a run of so many steps; where that isn't known, nothing falls.
    pub fn rate(&self, step: u32, of: Option<u32>) -> f64 {
        match self {
            Schedule::Shaped { shape, peak, warmup, floor, steps } => {
                if step <= *warmup {
                    return peak * f64::from(step) / f64::from(*warmup);
                }
                let Some(steps) = steps.or(of) else { return *peak };
                let falling = steps.saturating_sub(*warmup).max(1);
                // The first step after the warm-up has the peak, and the floor would be reached one step after the last.
                let done = (f64::from(step - 1 - warmup) / f64::from(falling)).min(1.0);
                match shape {
                    Shape::Constant => *peak,
                    Shape::Linear => peak + (floor - peak) * done,
                    Shape::Cosine => floor + (peak - floor) * (1.0 + cos_pi(done)) / 2.0,
                }
            }
            Schedule::Points(points) => {
                let step = f64::from(step);
                let behind = points.iter().position(|(at, _)| *at >= step);
                let (Some(&(_, last)), Some(behind)) = (points.last(), behind) else {
                    return points.last().map_or(0.0, |(_, rate)| *rate);
                };
                let (to, rate) = points.get(behind).copied().unwrap_or((step, last));
                match behind.checked_sub(1).and_then(|before| points.get(before)) {
                    Some(&(from, before)) => before + (rate - before) * (step - from) / (to - from),
                    None => rate,
                }
            }
        }
    }

    /// The last step that it says something of; `None` where it has no end of its own.
    pub fn end(&self) -> Option<u32> {
        match self {
            Schedule::Shaped { steps, .. } => *steps,
            Schedule::Points(points) => points.last().map(|(step, _)| *step as u32),
        }
    }
}

/// cos(π · `x`), for an `x` from 0 to 1. The same bits on every platform, and a fraction of what the page would download for
/// a cosine of any angle.
fn cos_pi(x: f64) -> f64 {
    // As the sine of an angle of at most π/2, whose series is exact after ten terms.
    let angle = PI * (0.5 - x);
    let series =
        (1..=10).rev().fold(1.0, |rest, n| 1.0 - rest * angle * angle / f64::from(2 * n * (2 * n + 1)));
    angle * series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cosine_is_one() {
        for x in (0..=1000).map(|thousandths| f64::from(thousandths) / 1000.0) {
            assert!((cos_pi(x) - (PI * x).cos()).abs() < 1e-15, "{x}");
        }
    }

    fn shaped(shape: Shape) -> Schedule {
        Schedule::Shaped { shape, peak: 1.0, warmup: 2, floor: 0.1, steps: None }
    }

    #[test]
    fn it_rises_over_the_warm_up_and_falls_as_its_shape_says() {
        let rates = |shape| [1, 2, 3, 7, 12].map(|step| shaped(shape).rate(step, Some(12)));
        assert_eq!(rates(Shape::Constant), [0.5, 1.0, 1.0, 1.0, 1.0]);
        let linear = rates(Shape::Linear);
        assert_eq!(linear[..3], [0.5, 1.0, 1.0]);
        assert!((linear[3] - 0.64).abs() < 1e-12 && (linear[4] - 0.19).abs() < 1e-12, "{linear:?}");
        let cosine = rates(Shape::Cosine);
        assert!(cosine[3] > linear[3] && cosine[4] < linear[4] && cosine[4] > 0.1, "{cosine:?}");
    }

    #[test]
    fn a_run_without_a_known_end_keeps_the_peak() {
        assert_eq!(shaped(Shape::Cosine).rate(1_000_000, None), 1.0);
    }

    #[test]
    fn points_are_joined_by_straight_lines() {
        let schedule = Schedule::Points(vec![(1.0, 0.0), (11.0, 1.0), (21.0, 0.5)]);
        assert_eq!(
            [1, 6, 11, 16, 21, 99].map(|step| schedule.rate(step, None)),
            [0.0, 0.5, 1.0, 0.75, 0.5, 0.5]
        );
        assert_eq!(schedule.end(), Some(21));
    }
}
