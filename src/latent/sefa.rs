//! Directions that the weights themselves have, in closed form: no picture is needed to find them.
//!
//! A layer's style is `A w + b`. A step `n` of length 1 in `w` changes it by `A n`; the steps that
//! change the styles of some layers most are the eigenvectors of `A^T A`, with the `A` of those
//! layers on top of each other.
//!
//! The eigenvectors come from one-sided Jacobi rotations: pairs of rows are turned until all are
//! orthogonal. That is exact to the last digits for the strong directions, which are asked for, and
//! needs nothing but scalar products.
//!
//! Reference: Shen and Zhou 2021, arXiv:2007.06600; Hestenes 1958, Inversion of matrices by
//! biorthogonalization.

use candle_core::{DType, Result, bail};

use crate::model::Store;
use crate::model::config::GeneratorConfig;
use crate::ops::cancel;

/// Rows count as orthogonal when the cosine between them is below this.
const TOLERANCE: f64 = 1e-12;
/// Six to ten are usual.
const MAX_SWEEPS: usize = 60;

/// Directions in `w`, the strongest first.
#[derive(Clone, Debug)]
pub struct Directions {
    /// Of length 1, `w_dim` of them; the largest entry of each is positive.
    pub vectors: Vec<Vec<f64>>,
    /// How strongly each changes the styles: the root of its eigenvalue.
    pub strengths: Vec<f64>,
}

/// The directions of the convolutions that `layers`, indices into `ws`, go to.
///
/// # Errors
/// Fails if no layer is a convolution's.
pub fn directions(store: &Store, config: &GeneratorConfig, layers: &[usize]) -> Result<Directions> {
    let names: Vec<String> = layers.iter().filter_map(|idx| affine_name(config, *idx)).collect();
    if names.is_empty() {
        let last = config.num_ws() - 2;
        bail!("expected layers of convolutions, 0 to {last}, for directions");
    }
    let mut rows = Vec::new(); // of all A, w_dim long
    for (name, var) in store.tensors() {
        if names.contains(&name) {
            rows.extend(var.to_dtype(DType::F64)?.to_vec2::<f64>()?);
        }
    }
    principal(&rows, config.w_dim)
}

/// The affine layer of a convolution that takes the `w` of index `idx`; the last is toRGB's alone.
fn affine_name(config: &GeneratorConfig, idx: usize) -> Option<String> {
    let (block, conv) = (idx.div_ceil(2), if idx.is_multiple_of(2) { "conv1" } else { "conv0" });
    let res = config.block_resolutions().get(block).copied()?;
    Some(format!("synthesis.b{res}.{conv}.affine.weight"))
}

/// Eigenvectors of `A^T A` and roots of its eigenvalues, for the rows of `A`, `len` long.
///
/// # Errors
/// Fails if it is cancelled.
pub fn principal(rows: &[Vec<f64>], len: usize) -> Result<Directions> {
    let mut gram = vec![vec![0.0; len]; len];
    for row in rows {
        for (line, a) in gram.iter_mut().zip(row) {
            line.iter_mut().zip(row).for_each(|(sum, b)| *sum += a * b);
        }
    }
    // V^T (A^T A) has orthogonal rows when V holds the eigenvectors.
    let mut vectors: Vec<Vec<f64>> =
        (0..len).map(|i| (0..len).map(|j| f64::from(u8::from(i == j))).collect()).collect();
    for _ in 0..MAX_SWEEPS {
        let mut is_done = true;
        for p in 0..len {
            cancel::check()?;
            for q in p + 1..len {
                is_done &= !rotate(&mut gram, &mut vectors, p, q);
            }
        }
        if is_done {
            break;
        }
    }
    let mut found: Vec<(f64, Vec<f64>)> =
        gram.iter().map(|row| dot(row, row).sqrt().sqrt()).zip(vectors).collect();
    found.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    for (_, vector) in &mut found {
        let largest = vector.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs()));
        if largest.is_some_and(|largest| largest < 0.0) {
            for value in vector {
                *value = -*value;
            }
        }
    }
    let (strengths, vectors) = found.into_iter().unzip();
    Ok(Directions { vectors, strengths })
}

/// Makes rows `p` and `q` orthogonal; whether they were not.
fn rotate(gram: &mut [Vec<f64>], vectors: &mut [Vec<f64>], p: usize, q: usize) -> bool {
    let (pp, qq) = (dot(&gram[p], &gram[p]), dot(&gram[q], &gram[q]));
    let pq = dot(&gram[p], &gram[q]);
    if pq.abs() <= TOLERANCE * (pp * qq).sqrt() {
        return false;
    }
    let zeta = (qq - pp) / (2.0 * pq);
    let tangent = zeta.signum() / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
    let cosine = 1.0 / (1.0 + tangent * tangent).sqrt();
    let sine = cosine * tangent;
    for rows in [gram, vectors] {
        let (head, tail) = rows.split_at_mut(q);
        for (a, b) in head[p].iter_mut().zip(&mut tail[0]) {
            (*a, *b) = (cosine * *a - sine * *b, sine * *a + cosine * *b);
        }
    }
    true
}

/// Eight sums side by side, which the processor adds at once; one alone waits for every addition.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let ((a, last_a), (b, last_b)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let last: f64 = last_a.iter().zip(last_b).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + last
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `A = diag(5, 2, 0) R` with a rotation R: the directions are R's rows, the strengths 5, 2, 0.
    #[test]
    fn directions_of_a_rotated_diagonal_are_the_rotations_rows() {
        let (c, s) = (0.6, 0.8);
        let rotation = [[c, s, 0.0], [-s * c, c * c, s], [s * s, -c * s, c]];
        let scaled = [5.0, 2.0, 0.0];
        let rows: Vec<Vec<f64>> =
            (0..3).map(|i| rotation[i].map(|v| v * scaled[i]).to_vec()).collect();
        let Directions { vectors, strengths } = principal(&rows, 3).unwrap();
        for (idx, expected) in scaled.iter().enumerate() {
            assert!((strengths[idx] - expected).abs() < 1e-7, "{strengths:?}");
            let sign = if dot(&vectors[idx], &rotation[idx]) < 0.0 { -1.0 } else { 1.0 };
            for (value, expected) in vectors[idx].iter().zip(rotation[idx]) {
                assert!((value - sign * expected).abs() < 1e-9, "{vectors:?}");
            }
        }
    }

    /// The eigenvalues of the second difference matrix of n points are `4 sin^2(pi k / (2 n + 2))`.
    #[test]
    fn strengths_of_a_known_matrix() {
        let n = 40;
        let rows: Vec<Vec<f64>> = (0..n)
            .map(|i: usize| (0..n).map(|j| [2.0, -1.0, 0.0][i.abs_diff(j).min(2)]).collect())
            .collect();
        let Directions { vectors, strengths } = principal(&rows, n).unwrap();
        for (idx, strength) in strengths.iter().enumerate() {
            let k = (n - idx) as f64;
            let half = std::f64::consts::PI * k / (2.0 * n as f64 + 2.0);
            assert!((strength - 4.0 * half.sin().powi(2)).abs() < 1e-6, "{idx}: {strength}");
        }
        for (i, a) in vectors.iter().enumerate() {
            for (j, b) in vectors.iter().enumerate() {
                assert!((dot(a, b) - f64::from(u8::from(i == j))).abs() < 1e-9);
            }
        }
    }
}
