//! What every op is checked with: finite differences, its reference path, threads.
//!
//! What is differentiated is said in [`super::selftest`].

use candle_core::{DType, Device, Result, Tensor};

use super::grad::grad;
pub(super) use super::selftest::Draws;
use super::selftest::{Op, derivatives, loss, sum_of_squares, values, variables};
use super::traced::Traced;

/// Distance between the points of a finite difference, in standard deviations of the arguments.
const STEP: f64 = 3e-4;
/// Relative error of a derivative against finite differences. Five points on a smooth function err
/// by about `STEP^4`, times the fifth derivative, and by rounding over `STEP`: 2e-10 at worst where
/// this is used. A missing or wrong term shows at 1e-3 and above.
const FINITE_DIFFERENCE: f64 = 1e-8;
/// How far two orders of summation may differ, relatively, in derivatives up to which order: some
/// hundred roundings of f32, some thousand of f64, where rounding hides no mistake.
const ROUNDING: [(DType, usize, f64); 2] = [(DType::F32, 1, 1e-5), (DType::F64, 2, 1e-12)];

fn scalar(x: &Tensor) -> Result<f64> {
    x.to_dtype(DType::F64)?.to_scalar()
}

/// Slope of `f` at `args` when the one of `idx` moves along `direction`, by five points.
fn slope_along(
    args: &[Tensor],
    (idx, direction): (usize, &Tensor),
    f: &dyn Fn(&[Tensor]) -> Result<f64>,
) -> Result<f64> {
    let at = |steps: f64| {
        let mut args = args.to_vec();
        args[idx] = (&args[idx] + (direction * (steps * STEP))?)?;
        f(&args)
    };
    Ok((8.0 * (at(1.0)? - at(-1.0)?) - (at(2.0)? - at(-2.0)?)) / (12.0 * STEP))
}

/// Errors of the derivatives of `L` and of `h`, relative to the norm of the gradient: the worst of
/// all arguments, each moved along two random directions.
fn errors(args: &[Tensor], op: Op) -> Result<[f64; 2]> {
    let [_, first, second] = derivatives(args, (DType::F64, &Device::Cpu), op)?;
    let value = |args: &[Tensor]| {
        let args: Vec<Traced> = args.iter().map(Traced::from).collect();
        scalar(loss(&op(&args)?)?.value())
    };
    // From gradients without a graph, so that cutting it is checked as well.
    let h = |args: &[Tensor]| {
        let vars = variables(args, (DType::F64, &Device::Cpu))?;
        let grads = grad(loss(&op(&vars)?)?, &vars)?;
        let grads: Vec<Traced> = grads.iter().map(Traced::constant).collect();
        scalar(sum_of_squares(&grads)?.value())
    };
    let mut draws = Draws::new(1);
    let mut worst = [0.0; 2];
    for idx in 0..args.len() {
        for _ in 0..2 {
            let direction = draws.normals(args[idx].shape())?;
            let slopes = [
                (&first[idx], slope_along(args, (idx, &direction), &value)?),
                (&second[idx], slope_along(args, (idx, &direction), &h)?),
            ];
            for (worst, (gradient, expected)) in worst.iter_mut().zip(slopes) {
                let slope = scalar(&(gradient * &direction)?.sum_all()?)?;
                let norm = scalar(&gradient.sqr()?.sum_all()?)?.sqrt();
                *worst = larger(*worst, (slope - expected).abs() / norm.max(f64::MIN_POSITIVE));
            }
        }
    }
    Ok(worst)
}

/// First and second derivatives of `op` at `args` (f64) against finite differences.
#[expect(clippy::print_stdout, reason = "errors are shown with --nocapture")]
pub(super) fn finite_differences(what: &str, args: &[Tensor], op: Op) -> Result<()> {
    let errors = errors(args, op)?;
    println!("{what}: first {:.1e}, second {:.1e}", errors[0], errors[1]);
    assert!(errors.iter().all(|&error| error <= FINITE_DIFFERENCE), "{what}: {errors:?}");
    Ok(())
}

/// Largest difference, relative to the largest magnitude expected anywhere.
pub(super) fn difference(ours: &[Tensor], expected: &[Tensor]) -> Result<f64> {
    let (mut worst, mut scale) = (0.0, 0.0);
    for (ours, expected) in ours.iter().zip(expected) {
        let (ours, expected) = (values(ours)?, values(expected)?);
        for (ours, expected) in ours.iter().zip(&expected) {
            worst = larger(worst, (ours - expected).abs());
            scale = larger(scale, f64::abs(*expected));
        }
    }
    Ok(if scale > 0.0 { worst / scale } else { worst })
}

/// The maximum, or NaN if there is one: it must not get lost.
pub(super) fn larger(a: f64, b: f64) -> f64 {
    if a > b || a.is_nan() { a } else { b }
}

/// `fused` against `reference` in f32 and f64: values, first derivatives and, in f64, second ones.
#[expect(clippy::print_stdout, reason = "errors are shown with --nocapture")]
pub(super) fn same(what: &str, args: &[Tensor], fused: Op, reference: Op) -> Result<()> {
    for (dtype, orders, tolerance) in ROUNDING {
        let ours = derivatives(args, (dtype, &Device::Cpu), fused)?;
        let expected = derivatives(args, (dtype, &Device::Cpu), reference)?;
        for order in 0..=orders {
            let error = difference(&ours[order], &expected[order])?;
            println!("{what}: {dtype:?} order {order} {error:.1e}");
            assert!(error <= tolerance, "{what}: {dtype:?}, order {order}: {error:e}");
        }
    }
    Ok(())
}

/// Fails unless one thread and two make the same bits of `work`'s results.
pub(super) fn same_bits_for_any_threads(
    what: &str,
    work: &(dyn Fn() -> Result<Vec<Tensor>> + Sync),
) -> Result<()> {
    let bits_of = |num_threads: usize| -> Result<Vec<Vec<u32>>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(num_threads).build().unwrap();
        let bits = |x: &Tensor| {
            let values = x.flatten_all()?.to_vec1::<f32>()?;
            Ok(values.into_iter().map(f32::to_bits).collect())
        };
        pool.install(work)?.iter().map(bits).collect()
    };
    assert!(bits_of(1)? == bits_of(2)?, "{what}: the number of threads changed the result");
    Ok(())
}

/// As [`same_bits_for_any_threads`], for an op and its derivatives in f32.
pub(super) fn same_bits(what: &str, args: &[Tensor], op: Op) -> Result<()> {
    let work = || derivatives(args, (DType::F32, &Device::Cpu), op).map(|all| all.concat());
    same_bits_for_any_threads(what, &work)
}

/// Inner product of all elements.
pub(super) fn dot(a: &Tensor, b: &Tensor) -> Result<f64> {
    scalar(&(a * b)?.sum_all()?)
}

mod tests {
    use super::*;

    /// `x^2` whose first derivative is off by a factor, or whose derivative is a constant.
    fn wrong_square(x: &Traced, factor: f64, is_cut: bool) -> Result<Traced> {
        let kept = if is_cut { x.detach() } else { x.clone() };
        Ok(Traced::derived(x.value().sqr()?, [x], move |dy, _| {
            Ok([Some((dy * &kept)?.affine(2.0 * factor, 0.0)?)])
        }))
    }

    /// The check must see a relative error of 1e-6, and a second derivative that was cut off.
    #[test]
    fn a_wrong_gradient_is_noticed() -> Result<()> {
        let x = [Draws::new(2).normals((3, 5))?];
        let errors_of =
            |factor: f64, is_cut: bool| errors(&x, &|x| wrong_square(&x[0], factor, is_cut));
        let [first, second] = errors_of(1.0, false)?;
        assert!(first < FINITE_DIFFERENCE && second < FINITE_DIFFERENCE, "{first} {second}");
        let [first, second] = errors_of(1.0 + 1e-6, false)?;
        assert!(first > FINITE_DIFFERENCE && second > FINITE_DIFFERENCE, "{first} {second}");
        let [first, second] = errors_of(1.0, true)?;
        assert!(first < FINITE_DIFFERENCE && second > 1e-3, "{first} {second}");
        Ok(())
    }

    #[test]
    fn a_wrong_kernel_is_noticed() -> Result<()> {
        let x = Draws::new(3).normals((3, 5))?;
        let of = |ours: Tensor| difference(&[x.clone(), ours], &[x.clone(), x.clone()]);
        assert_eq!(of(x.clone())?, 0.0);
        assert!(of((&x * (1.0 + 2e-5))?)? > 1e-5);
        assert!(of((x.zeros_like()? * f64::NAN)?)?.is_nan());
        Ok(())
    }
}
