//! Every op on a device against the processor: values, gradients, gradients of gradients.
//!
//! Derivatives are those of `L = sum(r * y + y^2 / 2) + sum(q * y)^2 / 2n` with random `r` and `q`,
//! and of `h`, the squared norm of L's gradient. The squares keep `h` from being constant where
//! the op is linear, and let each element's gradient depend on all others, so a second derivative
//! that was cut off or takes a wrong way cannot pass. All numbers come from the crate's own
//! generator: a failure repeats.
//!
//! The expected numbers are made by the processor in f64.

use candle_core::{DType, Device, Result, Shape, Tensor, Var, bail};

use super::cuda::{self, Math, Path, math, set_math, use_cudnn, use_kernels};
use super::device::{Fault, classify};
use super::grad::{grad, grad_with_graph};
use super::rng::{Rng, Stream};
use super::traced::Traced;

mod cases;

pub use cases::cases;

/// An op as a function of its differentiable arguments.
pub(super) type Op<'a> = &'a (dyn Fn(&[Traced]) -> Result<Traced> + Sync);

type BoxedOp = Box<dyn Fn(&[Traced]) -> Result<Traced> + Sync>;

/// Sizes and tensors of a test, each draw independent of the others.
pub(super) struct Draws {
    seed: u64,
    count: u64,
}

impl Draws {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, count: 0 }
    }

    fn next(&mut self) -> Rng {
        self.count += 1;
        Rng::new(self.seed, Stream::Samples, self.count)
    }

    /// One of `low..=high`.
    #[cfg(test)]
    pub(super) fn size(&mut self, low: usize, high: usize) -> usize {
        low + self.next().below(0, high - low + 1)
    }

    /// A variable of normally distributed f64.
    #[cfg(test)]
    pub(super) fn variable(&mut self, shape: impl Into<Shape>) -> Result<Traced> {
        Ok(Traced::variable(&Var::from_tensor(&self.normals(shape)?)?))
    }

    /// Normally distributed f64.
    pub(super) fn normals(&mut self, shape: impl Into<Shape>) -> Result<Tensor> {
        let shape = shape.into();
        Tensor::from_vec(self.next().normals(shape.elem_count()), shape, &Device::Cpu)
    }
}

/// Which part of the program an op needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The crate's own kernels.
    Kernels,
    /// Convolutions.
    Convolutions,
    /// The optimizer, in full precision only.
    Optimizer,
    /// Candle's own ops.
    Candle,
}

/// How an op is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// In f64.
    F64,
    /// In f32.
    F32,
    /// In f32, with the factors of products rounded to 10 bits.
    Tf32,
    /// In IEEE half precision, between casts.
    F16,
    /// In bf16, between casts.
    Bf16,
}

impl Way {
    /// The type that the op itself computes in.
    pub fn dtype(self) -> DType {
        match self {
            Self::F64 => DType::F64,
            Self::F32 | Self::Tf32 => DType::F32,
            Self::F16 => DType::F16,
            Self::Bf16 => DType::BF16,
        }
    }

    fn is_narrow(self) -> bool {
        matches!(self, Self::F16 | Self::Bf16)
    }

    /// The largest errors that rounding explains: some hundred roundings, one upon the other in
    /// derivatives; in 16 bits, also the few values that rounding takes across a kink.
    pub fn tolerances(self) -> Errors {
        match self {
            Self::F64 => [1e-12; 3],
            Self::F32 => [5e-6, 2e-5, 1e-4],
            Self::Tf32 => [5e-3, 1e-2, 5e-2],
            Self::F16 => [5e-3, 5e-2, 1e-1],
            Self::Bf16 => [3e-2, 2e-1, 4e-1],
        }
    }

    /// Whether rounding explains `errors`; NaN never is.
    pub fn explains(self, errors: Errors) -> bool {
        errors.iter().zip(self.tolerances()).all(|(error, tolerance)| *error <= tolerance)
    }
}

/// An op with arguments.
pub struct Case {
    /// What is computed, in a few words.
    pub name: &'static str,
    /// What it needs.
    pub part: Part,
    args: Vec<Tensor>,
    /// How many of the arguments, the first ones, are of 16 bits where the op is.
    num_narrow: usize,
    /// Factor on the value in 16 bits, with which its derivatives neither exceed what these can hold
    /// nor vanish in them.
    narrow_gain: f64,
    op: BoxedOp,
}

/// Distances, relative to the length of what is expected: of the value, the gradient of `L` and
/// that of `h`.
pub type Errors = [f64; 3];

impl Case {
    /// Whether the op can be computed in that way, and differently than in f32.
    pub fn takes(&self, way: Way) -> bool {
        match self.part {
            Part::Convolutions => true,
            Part::Candle => !way.is_narrow(),
            Part::Kernels => way != Way::Tf32,
            Part::Optimizer => way != Way::Tf32 && !way.is_narrow(),
        }
    }

    /// How far `device` is from the processor. In 16 bits only the op itself computes so, between
    /// casts, as in the networks.
    ///
    /// # Errors
    /// Fails if an op does.
    pub fn errors(&self, way: Way, device: &Device) -> Result<Errors> {
        let gain = if way.is_narrow() { self.narrow_gain } else { 1.0 };
        let scaled = |args: &[Traced]| (self.op)(args)? * gain;
        let on_processor = || derivatives(&self.args, (DType::F64, &Device::Cpu), &scaled);
        let expected = cuda::on_processor(on_processor)?;
        let outer = math();
        set_math(Math { tf32: way == Way::Tf32, ..outer });
        let ours = self.derivatives_on(device, way, gain);
        set_math(outer);
        let mut errors = [0.0; 3];
        for (error, (ours, expected)) in errors.iter_mut().zip(ours?.iter().zip(&expected)) {
            *error = distance(ours, expected)?;
        }
        Ok(errors)
    }

    fn derivatives_on(&self, device: &Device, way: Way, gain: f64) -> Result<[Vec<Tensor>; 3]> {
        if !way.is_narrow() {
            return derivatives(&self.args, (way.dtype(), device), &self.op);
        }
        let narrow = |args: &[Traced]| {
            let cast = |(idx, arg): (usize, &Traced)| {
                if idx < self.num_narrow { arg.to_dtype(way.dtype()) } else { Ok(arg.clone()) }
            };
            let args = args.iter().enumerate().map(cast).collect::<Result<Vec<_>>>()?;
            (self.op)(&args)?.to_dtype(DType::F32)? * gain
        };
        derivatives(&self.args, (DType::F32, device), &narrow)
    }
}

/// What was found about a device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Ops that were examined.
    pub num_ops: usize,
    /// Parts that differ from the processor, whose reference path is taken from now on.
    pub distrusted: Vec<Part>,
}

/// Examines a GPU in some ways, and takes the reference path for parts that differ from the
/// processor or fail.
///
/// # Errors
/// Fails if the reference path differs or fails as well, or if the GPU gives out.
pub fn settle(device: &Device, ways: &[Way]) -> Result<Verdict> {
    let cases = cases()?;
    let mut verdict = Verdict { num_ops: cases.len(), distrusted: Vec::new() };
    // Candle first, which the reference path consists of; layers need kernels and convolutions.
    for part in [Part::Candle, Part::Kernels, Part::Optimizer, Part::Convolutions] {
        let of_part: Vec<&Case> = cases.iter().filter(|case| case.part == part).collect();
        let found = first_bad(&of_part, device, ways);
        let Err(error) = found else { continue };
        if classify(&error) != Fault::Other {
            return Err(error);
        }
        match part {
            Part::Kernels => use_kernels(Path::Reference),
            Part::Convolutions => use_cudnn(Path::Reference),
            Part::Candle | Part::Optimizer => return Err(error), // there is no other
        }
        first_bad(&of_part, device, ways)?;
        verdict.distrusted.push(part);
    }
    Ok(verdict)
}

/// Fails with the first case that differs from the processor by more than rounding explains, or
/// that fails itself.
fn first_bad(cases: &[&Case], device: &Device, ways: &[Way]) -> Result<()> {
    for way in ways {
        for case in cases.iter().filter(|case| case.takes(*way)) {
            let errors = case.errors(*way, device).map_err(|error| error.context(case.name))?;
            if !way.explains(errors) {
                let [value, first, second] = errors;
                bail!(
                    "self-test: {} in {way:?} differs from the processor: value {value:.0e}, \
                     gradient {first:.0e}, second order {second:.0e}",
                    case.name
                );
            }
        }
    }
    Ok(())
}

/// Variables with the values of `args`.
pub(super) fn variables(args: &[Tensor], (dtype, device): (DType, &Device)) -> Result<Vec<Traced>> {
    let variable = |arg: &Tensor| {
        Ok(Traced::variable(&Var::from_tensor(&arg.to_dtype(dtype)?.to_device(device)?)?))
    };
    args.iter().map(variable).collect()
}

/// `L` for the output `y` of an op.
pub(super) fn loss(y: &Traced) -> Result<Traced> {
    let mut draws = Draws::new(0);
    let mut random = || {
        let normals = draws.normals(y.shape())?.to_dtype(y.dtype())?;
        Result::Ok(Traced::constant(&normals.to_device(y.device())?))
    };
    let (r, q) = (random()?, random()?);
    let coupled = ((q * y)?.sum_all()?.sqr()? / (2 * y.elem_count().max(1)) as f64)?;
    ((r * y)? + (y.sqr()? / 2.0)?)?.sum_all()? + coupled
}

pub(super) fn sum_of_squares(tensors: &[Traced]) -> Result<Traced> {
    let squares = tensors.iter().map(|t| t.sqr()?.sum_all()).collect::<Result<Vec<_>>>()?;
    Traced::stack(&squares, 0)?.sum_all()
}

/// `y`, the gradients of `L` and those of `h`.
pub(super) fn derivatives(
    args: &[Tensor],
    on: (DType, &Device),
    op: Op,
) -> Result<[Vec<Tensor>; 3]> {
    let vars = variables(args, on)?;
    let y = op(&vars)?;
    let first = grad(loss(&y)?, &vars)?; // of a graph that is used up
    let h = sum_of_squares(&grad_with_graph(&loss(&op(&vars)?)?, &vars)?)?;
    Ok([vec![y.value().clone()], first, grad(h, &vars)?])
}

/// Length of the difference, relative to the length of what is expected.
pub(crate) fn distance(ours: &[Tensor], expected: &[Tensor]) -> Result<f64> {
    let (mut difference, mut length) = (0.0, 0.0);
    for (ours, expected) in ours.iter().zip(expected) {
        for (ours, expected) in values(ours)?.iter().zip(values(expected)?) {
            difference += (ours - expected).powi(2);
            length += expected.powi(2);
        }
    }
    Ok(if length > 0.0 { (difference / length).sqrt() } else { difference.sqrt() })
}

/// All elements, in f64.
pub(super) fn values(x: &Tensor) -> Result<Vec<f64>> {
    x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// f32 against f64 on the processor itself; in a build that emulates a GPU, its kernels
    /// against the processor's.
    #[test]
    #[expect(clippy::print_stdout, reason = "errors are shown with --nocapture")]
    fn every_op_on_this_device_is_that_of_the_processor() -> Result<()> {
        for case in cases()? {
            let errors = case.errors(Way::F32, &Device::Cpu)?;
            println!("{}: {:.1e} {:.1e} {:.1e}", case.name, errors[0], errors[1], errors[2]);
            assert!(Way::F32.explains(errors), "{}", case.name);
        }
        Ok(())
    }

    #[test]
    fn a_device_that_agrees_is_trusted() -> Result<()> {
        let verdict = settle(&Device::Cpu, &[Way::F32, Way::Tf32])?;
        assert_eq!((verdict.num_ops, verdict.distrusted), (cases()?.len(), vec![]));
        Ok(())
    }

    #[test]
    fn what_rounding_does_not_explain_is_noticed() {
        assert!(Way::F32.explains([0.0; 3]));
        assert!(!Way::F32.explains([0.0, 1e-4, 0.0]));
        assert!(!Way::F16.explains([0.0, 0.0, f64::NAN]));
        assert!(!Way::F64.explains([0.0, 1e-8, 0.0]));
    }
}
