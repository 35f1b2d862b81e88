//! How the metrics of a call's chunks become the metrics of the call.

use crate::{Error, ForwardBackwardOutput, Map};

/// By name; the part after the colon says how a metric is combined (`loss:sum`).
pub type Metrics = Map<f64>;

/// Combines the results of a call's chunks, in order: outputs one after the other, metrics by [`combine_metrics`].
/// The first chunk's output type stands for all. No chunks give an empty result.
pub fn combine(chunks: Vec<ForwardBackwardOutput>) -> Result<ForwardBackwardOutput, Error> {
    let metrics = combine_metrics(&chunks)?;
    let mut chunks = chunks.into_iter();
    let mut combined = chunks.next().unwrap_or_default();
    combined.metrics = metrics;
    for mut chunk in chunks {
        combined.loss_fn_outputs.append(&mut chunk.loss_fn_outputs);
    }
    Ok(combined)
}

/// Each metric of the first chunk by the suffix of its name; the rule holds for a single chunk as well.
///
/// | suffix | becomes |
/// |---|---|
/// | `mean` | the mean, weighted by outputs |
/// | `sum`, `min`, `max` | that |
/// | `slack` | the maximum less the weighted mean |
/// | `hash2` | the sum of the whole parts modulo 2⁶⁴, to the nearest double |
/// | `unique` | one entry a chunk: `a:unique`, `a:unique_1`, … |
///
/// Left out: another suffix, and a metric that a later chunk lacks. Errors: a name without exactly one colon; a weighted
/// metric without any outputs; a `hash2` that isn't finite. NaN passes through the others. Sums are taken in the order
/// and grouping of the Python client's, so that the results are the same bits.
pub fn combine_metrics(chunks: &[ForwardBackwardOutput]) -> Result<Metrics, Error> {
    let Some(first) = chunks.first() else {
        return Ok(Metrics::new());
    };
    let mut combined = Vec::new();
    'metrics: for name in first.metrics.keys() {
        let wrong = |problem: &str| Error::field(format!("metrics.{name}"), problem);
        let (_, suffix) = name
            .split_once(':')
            .filter(|(_, suffix)| !suffix.contains(':'))
            .ok_or_else(|| wrong("a metric's name must have exactly one colon, before its suffix"))?;
        let mut values = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            match chunk.metrics.get(name) {
                Some(value) => values.push(*value),
                None => continue 'metrics,
            }
        }
        let mean = || weighted_mean(&values, chunks).ok_or_else(|| wrong("has no outputs to weigh it by"));
        let value = match suffix {
            "mean" => mean()?,
            "sum" => sum(&values),
            "min" => extreme(&values, f64::lt),
            "max" => extreme(&values, f64::gt),
            "slack" => extreme(&values, f64::gt) - mean()?,
            "hash2" => hash(&values).ok_or_else(|| wrong("is not finite"))?,
            "unique" => {
                for (index, &value) in values.iter().enumerate().skip(1) {
                    combined.push((format!("{name}_{index}"), value));
                }
                values[0]
            }
            _ => continue,
        };
        combined.push((name.clone(), value));
    }
    Ok(Metrics::from_entries(combined))
}

fn weighted_mean(values: &[f64], chunks: &[ForwardBackwardOutput]) -> Option<f64> {
    let mut outputs = 0;
    let mut weighted = Vec::with_capacity(values.len());
    for (value, chunk) in values.iter().zip(chunks) {
        let weight = chunk.loss_fn_outputs.len();
        outputs += weight;
        weighted.push(value * weight as f64);
    }
    (outputs > 0).then(|| sum(&weighted) / outputs as f64)
}

/// NaN if any is.
fn extreme(values: &[f64], better: fn(&f64, &f64) -> bool) -> f64 {
    let keep = |best: f64, value: f64| match best.is_nan() || value.is_nan() {
        true => f64::NAN,
        false if better(&value, &best) => value,
        false => best,
    };
    values.iter().copied().reduce(keep).unwrap_or(f64::NAN)
}

/// In the grouping that numpy sums in, which the Python client combines with.
fn sum(values: &[f64]) -> f64 {
    // From 0.0 on, so that a sum of negative zeros is 0.0.
    0.0 + pairwise(values)
}

/// One after the other below 8 values, eight running sums up to 128, halves beyond.
fn pairwise(values: &[f64]) -> f64 {
    const LANES: usize = 8;
    const BLOCK: usize = 128;
    if values.len() < LANES {
        return values.iter().sum();
    }
    if values.len() > BLOCK {
        let half = values.len() / 2;
        let (low, high) = values.split_at(half - half % LANES);
        return pairwise(low) + pairwise(high);
    }
    let mut lanes = [0.0; LANES];
    lanes.copy_from_slice(&values[..LANES]);
    let mut groups = values[LANES..].chunks_exact(LANES);
    for group in &mut groups {
        for (lane, value) in lanes.iter_mut().zip(group) {
            *lane += value;
        }
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    let whole = ((a + b) + (c + d)) + ((e + f) + (g + h));
    groups.remainder().iter().fold(whole, |sum, value| sum + value)
}

fn hash(values: &[f64]) -> Option<f64> {
    const MODULUS: f64 = 18_446_744_073_709_551_616.0;
    let mut hash = 0u64;
    for value in values {
        // The remainder of a double is exact, and below 2⁶⁴ a whole one fits an integer.
        let part = value.trunc() % MODULUS;
        if !part.is_finite() {
            return None;
        }
        let magnitude = part.abs() as u64;
        hash = hash.wrapping_add(if part < 0.0 { magnitude.wrapping_neg() } else { magnitude });
    }
    Some(hash as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(entries: &[(&str, f64)]) -> Metrics {
        entries.iter().map(|&(name, value)| (name.to_owned(), value)).collect()
    }

    fn combined(chunks: &[(Metrics, usize)]) -> Result<Metrics, Error> {
        let chunk = |(metrics, outputs): &(Metrics, usize)| ForwardBackwardOutput {
            loss_fn_outputs: vec![Map::new(); *outputs],
            metrics: metrics.clone(),
            ..Default::default()
        };
        combine(chunks.iter().map(chunk).collect()).map(|combined| combined.metrics)
    }

    #[test]
    fn each_suffix_combines_in_its_way() {
        let names = ["a:mean", "a:sum", "a:min", "a:max", "a:slack", "a:hash2", "a:unique"];
        let chunk = |value| metrics(&names.map(|name| (name, value)));
        let all = combined(&[(chunk(1.5), 1), (chunk(4.5), 2)]).expect("combines");
        let expected = metrics(&[
            ("a:mean", 3.5),
            ("a:sum", 6.0),
            ("a:min", 1.5),
            ("a:max", 4.5),
            ("a:slack", 1.0),
            ("a:hash2", 5.0),
            ("a:unique", 1.5),
            ("a:unique_1", 4.5),
        ]);
        assert_eq!(all, expected);
    }

    #[test]
    fn one_chunk_goes_by_the_same_rule() {
        let one = metrics(&[("a:slack", 7.0), ("a:mean", 7.0), ("a:unique", 7.0), ("a:other", 7.0)]);
        let expected = metrics(&[("a:slack", 0.0), ("a:mean", 7.0), ("a:unique", 7.0)]);
        assert_eq!(combined(&[(one, 3)]), Ok(expected));
        assert_eq!(combined(&[]), Ok(Metrics::new()));
    }

    #[test]
    fn a_metric_that_a_later_chunk_lacks_is_left_out() {
        let all = combined(&[
            (metrics(&[("a:sum", 1.0), ("b:sum", 2.0)]), 1),
            (metrics(&[("b:sum", 3.0), ("c:sum", 1.0)]), 1),
        ]);
        assert_eq!(all, Ok(metrics(&[("b:sum", 5.0)])));
    }

    #[test]
    fn a_name_without_exactly_one_colon_fails_the_result() {
        for name in ["loss", "a:b:sum"] {
            let error = combined(&[(metrics(&[(name, 1.0)]), 1)]).expect_err(name);
            assert!(error.to_string().contains("exactly one colon"), "{error}");
        }
    }

    #[test]
    fn nothing_to_weigh_by_and_a_hash_of_nan_are_errors() {
        assert!(combined(&[(metrics(&[("a:mean", 1.0)]), 0)]).is_err());
        assert!(combined(&[(metrics(&[("a:hash2", f64::NAN)]), 1)]).is_err());
        assert!(combined(&[(metrics(&[("a:hash2", f64::INFINITY)]), 1)]).is_err());
    }

    #[test]
    fn nan_passes_through_sum_mean_min_and_max() {
        for name in ["a:sum", "a:mean", "a:min", "a:max"] {
            for (one, other) in [(f64::NAN, 1.0), (1.0, f64::NAN)] {
                let all = combined(&[(metrics(&[(name, one)]), 1), (metrics(&[(name, other)]), 1)]);
                assert!(all.expect("combines").get(name).is_some_and(|value| value.is_nan()), "{name}");
            }
        }
    }

    #[test]
    fn a_hash_is_a_sum_modulo_two_to_the_64() {
        let two_to_64 = 18_446_744_073_709_551_616.0;
        let all =
            combined(&[(metrics(&[("a:hash2", -1.9)]), 1), (metrics(&[("a:hash2", two_to_64 + 4096.0)]), 1)]);
        assert_eq!(all.expect("combines").get("a:hash2"), Some(&4095.0));
    }

    #[test]
    fn sums_are_grouped_as_numpy_groups_them() {
        // numpy 2.4: np.sum([0.1 * i for i in range(n)]).item(), for each n.
        for (count, expected) in [(3, NUMPY_3), (20, NUMPY_20), (300, NUMPY_300)] {
            let values: Vec<f64> = (0..count).map(|index| 0.1 * f64::from(index)).collect();
            assert_eq!(sum(&values).to_bits(), expected, "{count} values");
        }
    }

    const NUMPY_3: u64 = 0x3fd3_3333_3333_3334;
    const NUMPY_20: u64 = 0x4033_0000_0000_0000;
    const NUMPY_300: u64 = 0x40b1_8500_0000_0000;
}
