//! The product of two matrices, in which nearly all time is spent.

use super::Real;
use super::simd::kernel;

/// The left factor: element (i, p) is `data[i * row + p * column]`, so that a transposed matrix is the same data with the
/// two strides exchanged.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a, T> {
    pub data: &'a [T],
    pub row: usize,
    pub column: usize,
}

/// The right factor: element (p, j) is `data[p * row + j]`. Vectors run along j, so it has no column stride.
#[derive(Clone, Copy)]
pub(crate) struct Right<'a, T> {
    pub data: &'a [T],
    pub row: usize,
}

/// What is in the result before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    Zero,
    Add,
}

/// Rows of the left factor that are copied together; their sums stay in registers.
const ROWS: usize = 4;
/// Length of the copied strip: 4 kB of f32, well within the first cache.
const STRIP: usize = 256;

kernel! {
    /// `c[i * ldc + j] (+)= sum over p of a(i, p) * b(p, j)`, for i < m, j < n, p < k: multiply, then add, p ascending.
    /// A sum from zero is never -0, so terms that are zero (a padded triangle) leave it as it is, to the bit.
    pub(crate) fn gemm(m: usize, n: usize, k: usize, a: Left<'_, T>, b: Right<'_, T>, c: &mut [T], ldc: usize, start: Start) {
        if k == 0 && start == Start::Zero {
            for row in c.chunks_mut(ldc).take(m) {
                row[..n].fill(T::ZERO);
            }
        }
        let mut first = start == Start::Zero;
        let mut from = 0;
        while from < k {
            let length = STRIP.min(k - from);
            let b_strip = &b.data[from * b.row..];
            let mut i = 0;
            while i + ROWS <= m {
                let mut strip = [[T::ZERO; ROWS]; STRIP];
                for (p, column) in strip[..length].iter_mut().enumerate() {
                    for (r, value) in column.iter_mut().enumerate() {
                        *value = a.data[(i + r) * a.row + (from + p) * a.column];
                    }
                }
                rows(&strip[..length], b_strip, b.row, &mut c[i * ldc..], ldc, n, first);
                i += ROWS;
            }
            while i < m {
                let mut strip = [[T::ZERO; 1]; STRIP];
                for (p, column) in strip[..length].iter_mut().enumerate() {
                    column[0] = a.data[i * a.row + (from + p) * a.column];
                }
                rows(&strip[..length], b_strip, b.row, &mut c[i * ldc..], ldc, n, first);
                i += 1;
            }
            first = false;
            from += length;
        }
    }
}

/// M rows of the result, in tiles of descending width.
#[inline(always)]
fn rows<T: Real, const M: usize>(
    strip: &[[T; M]],
    b: &[T],
    ldb: usize,
    c: &mut [T],
    ldc: usize,
    n: usize,
    first: bool,
) {
    let mut j = 0;
    if M == 1 {
        while j + 64 <= n {
            tile::<T, M, 64>(strip, &b[j..], ldb, &mut c[j..], ldc, first);
            j += 64;
        }
    }
    while j + 16 <= n {
        tile::<T, M, 16>(strip, &b[j..], ldb, &mut c[j..], ldc, first);
        j += 16;
    }
    while j + 8 <= n {
        tile::<T, M, 8>(strip, &b[j..], ldb, &mut c[j..], ldc, first);
        j += 8;
    }
    while j + 4 <= n {
        tile::<T, M, 4>(strip, &b[j..], ldb, &mut c[j..], ldc, first);
        j += 4;
    }
    while j < n {
        tile::<T, M, 1>(strip, &b[j..], ldb, &mut c[j..], ldc, first);
        j += 1;
    }
}

#[inline(always)]
fn tile<T: Real, const M: usize, const N: usize>(
    strip: &[[T; M]],
    b: &[T],
    ldb: usize,
    c: &mut [T],
    ldc: usize,
    first: bool,
) {
    let mut sums = [[T::ZERO; N]; M];
    if !first {
        for (r, sum) in sums.iter_mut().enumerate() {
            sum.copy_from_slice(&c[r * ldc..r * ldc + N]);
        }
    }
    for (p, column) in strip.iter().enumerate() {
        let row: &[T; N] = b[p * ldb..p * ldb + N].try_into().expect("the slice has N elements");
        for r in 0..M {
            for j in 0..N {
                sums[r][j] += column[r] * row[j];
            }
        }
    }
    for (r, sum) in sums.iter().enumerate() {
        c[r * ldc..r * ldc + N].copy_from_slice(sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition: one chain of multiply and add for each element.
    fn plain(m: usize, n: usize, k: usize, a: Left<'_, f32>, b: Right<'_, f32>, c: &mut [f32], ldc: usize) {
        for i in 0..m {
            for j in 0..n {
                let mut sum = c[i * ldc + j];
                for p in 0..k {
                    sum += a.data[i * a.row + p * a.column] * b.data[p * b.row + j];
                }
                c[i * ldc + j] = sum;
            }
        }
    }

    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        let mut random = crate::random::Random::new(seed);
        (0..count).map(|_| random.uniform() as f32 - 0.5).collect()
    }

    #[test]
    fn every_shape_has_the_bits_of_the_definition() {
        for (m, n, k) in [(1, 1, 1), (4, 16, 3), (5, 31, 17), (9, 344, 300), (3, 70, 600), (8, 8, 0)] {
            for transposed in [false, true] {
                let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
                let (row, column) = if transposed { (1, m) } else { (k, 1) };
                let (a, b) = (Left { data: &a, row, column }, Right { data: &b, row: n });
                let mut expected = vec![0.0; m * n];
                let mut found = vec![f32::NAN; m * n];
                plain(m, n, k, a, b, &mut expected, n);
                gemm(m, n, k, a, b, &mut found, n, Start::Zero);
                assert_eq!(found, expected, "{m} × {n} × {k}");
                plain(m, n, k, a, b, &mut expected, n);
                gemm(m, n, k, a, b, &mut found, n, Start::Add);
                assert_eq!(found, expected, "{m} × {n} × {k}, added");
            }
        }
    }
}
