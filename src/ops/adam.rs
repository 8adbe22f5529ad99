//! Adam and the moving average of weights in one pass over memory.
//!
//! The average lags by design: a step first blends the *old* parameters into it, then moves them.
//! So at any moment the average holds whole training steps only, also when a step is abandoned in
//! its middle; [`blend`] brings it up to date.
//!
//! Non-finite gradients become 0 (NaN) or +-1e5 (infinite), as in the StyleGAN2-ADA trainer. Whether a
//! step should happen at all is for a number on the device to say, its gate, so that nobody has to
//! wait for the device to look at it.
//!
//! Reference: Kingma and Ba 2015, arXiv:1412.6980, algorithm 1.

mod moments;

use std::cell::RefCell;

use candle_core::{
    CpuStorage, CudaStorage, DType, InplaceOp1, InplaceOp2, Layout, Result, Tensor, Var, bail,
};

use super::cpu::{Element, adam as kernel, contiguous, contiguous_mut};
use super::{cost, cuda};

/// Constants of the optimizer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamConfig {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first moment, in `[0, 1)`.
    pub beta1: f64,
    /// Decay of the second moment, in `[0, 1)`.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
}

/// First and second moments of one parameter.
enum Moments {
    F32(Vec<f32>, Vec<f32>),
    F64(Vec<f64>, Vec<f64>),
    /// Beside the parameter, on a GPU.
    Gpu(Tensor, Tensor),
}

/// Adam with its moments, for a fixed list of parameters.
pub struct Adam {
    config: AdamConfig,
    params: Vec<Var>,
    moments: Vec<RefCell<Moments>>,
    num_steps: u64,
    lr_factor: f64,
}

impl Adam {
    /// An optimizer of `params`, which stay in this order.
    ///
    /// # Errors
    /// Fails if a parameter is neither f32 nor f64.
    pub fn new(params: Vec<Var>, config: AdamConfig) -> Result<Self> {
        let moments = |param: &Var| {
            let len = param.elem_count();
            Ok(RefCell::new(match param.dtype() {
                DType::F32 | DType::F64 if !param.device().is_cpu() => {
                    Moments::Gpu(param.zeros_like()?, param.zeros_like()?)
                }
                DType::F32 => Moments::F32(vec![0.0; len], vec![0.0; len]),
                DType::F64 => Moments::F64(vec![0.0; len], vec![0.0; len]),
                other => bail!("adam: expected f32 or f64 parameters, got {other:?}"),
            }))
        };
        let moments = params.iter().map(moments).collect::<Result<_>>()?;
        Ok(Self { config, params, moments, num_steps: 0, lr_factor: 1.0 })
    }

    /// The parameters, in order.
    pub fn params(&self) -> &[Var] {
        &self.params
    }

    /// Forgets all moments, and goes on with a part of the learning rate.
    ///
    /// # Errors
    /// Fails if the device does.
    pub fn restart(&mut self, lr_factor: f64) -> Result<()> {
        self.config.lr *= lr_factor;
        let params = std::mem::take(&mut self.params);
        *self = Self::new(params, self.config)?;
        Ok(())
    }

    /// Factor on the learning rate from now on; at 0 moments move and parameters do not.
    pub fn set_lr_factor(&mut self, lr_factor: f64) {
        self.lr_factor = lr_factor;
    }

    /// One step along `grads`, in the order of the parameters.
    ///
    /// With `ema`, the averages (same order) first move towards the parameters as they were before
    /// the step: `e = p + beta (e - p)`.
    ///
    /// * `gate` - one f64 beside the parameters. Where it is not finite the averages move and
    ///   nothing else does; the step is counted, which [`Adam::set_num_steps`] takes back.
    ///
    /// # Errors
    /// Fails if the lists or shapes differ.
    pub fn step(
        &mut self,
        grads: &[Tensor],
        ema: Option<(&[Var], f64)>,
        gate: Option<&Tensor>,
    ) -> Result<()> {
        let count = self.params.len();
        if grads.len() != count || ema.is_some_and(|(ema, _)| ema.len() != count) {
            bail!("adam: expected {count} gradients and averages, got {}", grads.len());
        }
        self.num_steps += 1;
        let AdamConfig { lr, beta1, beta2, eps } = self.config;
        let t = self.num_steps as f64;
        let rates = Rates {
            beta1,
            beta2,
            eps,
            step_size: self.lr_factor * lr / (1.0 - beta1.powf(t)),
            root_correction: (1.0 - beta2.powf(t)).sqrt(),
        };
        for (idx, (param, grad)) in self.params.iter().zip(grads).enumerate() {
            let ema = ema.map(|(ema, beta)| (&ema[idx], beta));
            let step = Step { rates, moments: &self.moments[idx], ema, gate };
            if param.shape() != grad.shape() {
                bail!("adam: expected a gradient {:?}, got {:?}", param.shape(), grad.shape());
            }
            cost::clock("adam", || param.inplace_op2(&grad.contiguous()?, &step))?;
        }
        Ok(())
    }
}

/// Moves an average towards a value of the same shape, in place: `e = p + beta (e - p)`.
///
/// * `gate` - one f64 beside the average, which does not move where this is not finite.
///
/// # Errors
/// Fails if shapes or types differ.
pub fn blend(ema: &Tensor, value: &Tensor, beta: f64, gate: Option<&Tensor>) -> Result<()> {
    ema.inplace_op2(&value.contiguous()?, &Blend { beta, gate })
}

/// The number that `gate` holds, which is on the processor.
fn number(gate: Option<&Tensor>) -> Result<Option<f64>> {
    gate.map(|gate| gate.reshape(())?.to_scalar()).transpose()
}

/// The gate's place on a GPU.
fn place(gpu: &cuda::Gpu, gate: Option<&Tensor>) -> Result<Option<cuda::View<f64>>> {
    gate.map(|gate| gpu.tensor(gate)).transpose()
}

/// The numbers of one step, the same for every parameter.
#[derive(Clone, Copy)]
pub(super) struct Rates {
    pub(super) beta1: f64,
    pub(super) beta2: f64,
    pub(super) eps: f64,
    pub(super) step_size: f64,
    pub(super) root_correction: f64,
}

struct Step<'a> {
    rates: Rates,
    moments: &'a RefCell<Moments>,
    ema: Option<(&'a Var, f64)>,
    gate: Option<&'a Tensor>,
}

impl InplaceOp2 for Step<'_> {
    fn name(&self) -> &'static str {
        "adam"
    }

    fn cpu_fwd(
        &self,
        param: &mut CpuStorage,
        param_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<()> {
        let mut moments = self.moments.borrow_mut();
        match (param, grad, &mut *moments) {
            (CpuStorage::F32(p), CpuStorage::F32(g), Moments::F32(m, v)) => {
                let p = contiguous_mut(p, param_layout)?;
                self.run(p, contiguous(g, grad_layout)?, (m, v))
            }
            (CpuStorage::F64(p), CpuStorage::F64(g), Moments::F64(m, v)) => {
                let p = contiguous_mut(p, param_layout)?;
                self.run(p, contiguous(g, grad_layout)?, (m, v))
            }
            _ => bail!("adam: expected a gradient of the parameter's type"),
        }
    }

    fn cuda_fwd(
        &self,
        param: &mut CudaStorage,
        param_layout: &Layout,
        grad: &CudaStorage,
        grad_layout: &Layout,
    ) -> Result<()> {
        let moments = self.moments.borrow();
        let Moments::Gpu(m, v) = &*moments else {
            bail!("adam: expected moments on the parameter's device");
        };
        cuda::launch_mut!(full, self.name(), (param, param_layout), (grad, grad_layout); gpu => {
            let ema = match self.ema {
                Some((ema, beta)) => Some((gpu.tensor(ema)?, beta)),
                None => None,
            };
            if let Some((average, _)) = ema && average.len != param.len {
                bail!("adam: expected an average of {} values, got {}", param.len, average.len);
            }
            let moments = (gpu.tensor(m)?, gpu.tensor(v)?);
            let gate = place(&gpu, self.gate)?;
            cuda::adam::step(&gpu, (param, grad), moments, ema, (self.rates, gate))
        })
    }
}

impl Step<'_> {
    fn run<T: Element>(&self, p: &mut [T], g: &[T], moments: (&mut [T], &mut [T])) -> Result<()> {
        let gate = number(self.gate)?;
        match self.ema {
            None => step(p, g, moments, None, (self.rates, gate))?,
            Some((ema, beta)) => {
                let slices = RefCell::new((p, g, moments));
                let fused = Fused { rates: self.rates, gate, beta, slices };
                ema.inplace_op1(&fused)?;
            }
        }
        Ok(())
    }
}

/// One step on the processor.
fn step<T: Element>(
    p: &mut [T],
    g: &[T],
    (m, v): (&mut [T], &mut [T]),
    ema: Option<(&mut [T], f64)>,
    (rates, gate): (Rates, Option<f64>),
) -> Result<()> {
    cuda::either!(
        (p, g, m, v);
        gpu => {
            let ema = ema.map(|(ema, beta)| (ema.into(), beta));
            let gate = gate.as_ref().map(|gate| std::slice::from_ref(gate).into());
            cuda::adam::step(&gpu, (p, g), (m, v), ema, (rates, gate))
        };
        kernel::step(p, g, (m, v), ema, is_open(gate).then_some(rates))
    );
    Ok(())
}

fn is_open(gate: Option<f64>) -> bool {
    gate.is_none_or(f64::is_finite)
}

/// Parameter, gradient and moments of a step.
type Slices<'a, T> = (&'a mut [T], &'a [T], (&'a mut [T], &'a mut [T]));

/// A step seen from the average: candle lends one tensor for writing at a time.
struct Fused<'a, T> {
    rates: Rates,
    gate: Option<f64>,
    beta: f64,
    slices: RefCell<Slices<'a, T>>,
}

impl<T: Element> InplaceOp1 for Fused<'_, T> {
    fn name(&self) -> &'static str {
        "adam-ema"
    }

    fn cpu_fwd(&self, ema: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let mut slices = self.slices.borrow_mut();
        let (p, g, (m, v)) = &mut *slices;
        let ema = contiguous_mut(T::as_mut_slice(ema)?, layout)?;
        if ema.len() != p.len() {
            bail!("adam: expected an average of {} values, got {}", p.len(), ema.len());
        }
        step(p, g, (m, v), Some((ema, self.beta)), (self.rates, self.gate))
    }
}

struct Blend<'a> {
    beta: f64,
    gate: Option<&'a Tensor>,
}

impl InplaceOp2 for Blend<'_> {
    fn name(&self) -> &'static str {
        "ema"
    }

    fn cpu_fwd(
        &self,
        ema: &mut CpuStorage,
        ema_layout: &Layout,
        param: &CpuStorage,
        param_layout: &Layout,
    ) -> Result<()> {
        fn run<T: Element>(ema: &mut [T], p: &[T], beta: f64, gate: Option<f64>) -> Result<()> {
            if ema.len() != p.len() {
                bail!("ema: expected {} values, got {}", p.len(), ema.len());
            }
            cuda::either!(
                (ema, p);
                gpu => {
                    let gate = gate.as_ref().map(|gate| std::slice::from_ref(gate).into());
                    cuda::adam::blend(&gpu, ema, p, (beta, gate))
                };
                if is_open(gate) {
                    kernel::blend(ema, p, beta);
                }
            );
            Ok(())
        }
        let gate = number(self.gate)?;
        match param {
            CpuStorage::F32(p) => {
                let ema = contiguous_mut(f32::as_mut_slice(ema)?, ema_layout)?;
                run(ema, contiguous(p, param_layout)?, self.beta, gate)
            }
            CpuStorage::F64(p) => {
                let ema = contiguous_mut(f64::as_mut_slice(ema)?, ema_layout)?;
                run(ema, contiguous(p, param_layout)?, self.beta, gate)
            }
            _ => bail!("ema: expected f32 or f64"),
        }
    }

    fn cuda_fwd(
        &self,
        ema: &mut CudaStorage,
        ema_layout: &Layout,
        param: &CudaStorage,
        param_layout: &Layout,
    ) -> Result<()> {
        cuda::launch_mut!(full, self.name(), (ema, ema_layout), (param, param_layout); gpu => {
            if ema.len != param.len {
                bail!("ema: expected {} values, got {}", param.len, ema.len);
            }
            cuda::adam::blend(&gpu, ema, param, (self.beta, place(&gpu, self.gate)?))
        })
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::ops::check::{Draws, same_bits_for_any_threads};

    const CONFIG: AdamConfig = AdamConfig { lr: 0.1, beta1: 0.5, beta2: 0.9, eps: 1e-8 };

    /// The same algorithm in candle ops, with the average blended after the previous step.
    fn reference(x: &Tensor, grads: &[Tensor]) -> Result<Tensor> {
        let (mut x, mut m, mut v) = (x.clone(), x.zeros_like()?, x.zeros_like()?);
        for (t, g) in (1..).zip(grads) {
            m = ((m * CONFIG.beta1)? + (g * (1.0 - CONFIG.beta1))?)?;
            v = ((v * CONFIG.beta2)? + (g.sqr()? * (1.0 - CONFIG.beta2))?)?;
            let m_hat = (&m / (1.0 - CONFIG.beta1.powi(t)))?;
            let v_hat = (&v / (1.0 - CONFIG.beta2.powi(t)))?;
            x = (x - (m_hat / (v_hat.sqrt()? + CONFIG.eps)?)? * CONFIG.lr)?;
        }
        Ok(x)
    }

    #[test]
    fn three_steps_equal_the_algorithm_in_candle_ops() -> Result<()> {
        let start = Tensor::new(&[1f64, -2.0, 0.5], &Device::Cpu)?;
        let grads: Vec<Tensor> = [[0.3, -4.0, 0.0], [0.1, 2.0, 1e-3], [-7.0, 0.5, 2.0]]
            .iter()
            .map(|g: &[f64; 3]| Tensor::new(g, &Device::Cpu))
            .collect::<Result<_>>()?;
        let param = Var::from_tensor(&start)?;
        let ema = [Var::from_tensor(&start.zeros_like()?)?];
        let mut adam = Adam::new(vec![param.clone()], CONFIG)?;
        for grad in &grads {
            adam.step(std::slice::from_ref(grad), Some((&ema, 0.75)), None)?;
        }
        let expected = reference(&start, &grads)?;
        let worst = (param.as_tensor() - expected)?.abs()?.max_all()?.to_scalar::<f64>()?;
        assert!(worst < 1e-12, "{worst}");
        // The average has seen the parameters before each of the three steps, not the last.
        let mut average = start.zeros_like()?;
        for step in 0..3 {
            let seen = reference(&start, &grads[..step])?;
            average = ((&average * 0.75)? + (seen * 0.25)?)?;
        }
        let worst = (ema[0].as_tensor() - average)?.abs()?.max_all()?.to_scalar::<f64>()?;
        assert!(worst < 1e-12, "{worst}");
        Ok(())
    }

    #[test]
    fn non_finite_gradients_become_finite() -> Result<()> {
        let param = Var::new(&[0f32, 0.0, 0.0], &Device::Cpu)?;
        let config = AdamConfig { beta1: 0.0, ..CONFIG };
        let mut adam = Adam::new(vec![param.clone()], config)?;
        let grad = Tensor::new(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY], &Device::Cpu)?;
        adam.step(&[grad], None, None)?;
        let moved = param.to_vec1::<f32>()?;
        assert_eq!(moved[0], 0.0);
        assert!((moved[1] + 0.1).abs() < 1e-6 && (moved[2] - 0.1).abs() < 1e-6, "{moved:?}");
        Ok(())
    }

    #[test]
    fn blend_moves_the_average() -> Result<()> {
        let ema = Var::new(&[4f32], &Device::Cpu)?;
        let (value, open) =
            (Tensor::new(&[8f32], &Device::Cpu)?, Tensor::new(&[1f64], &Device::Cpu)?);
        blend(&ema, &value, 0.25, None)?;
        assert_eq!(ema.to_vec1::<f32>()?, [7.0]);
        blend(&ema, &value, 0.5, Some(&(&open / 0.0)?))?;
        assert_eq!(ema.to_vec1::<f32>()?, [7.0]);
        blend(&ema, &value, 0.5, Some(&open))?;
        assert_eq!(ema.to_vec1::<f32>()?, [7.5]);
        Ok(())
    }

    /// As if the step had not happened, but for the average: it follows the step before.
    #[test]
    fn behind_a_gate_that_is_not_finite_only_the_average_moves() -> Result<()> {
        let param = Var::new(&[1f64, -2.0], &Device::Cpu)?;
        let ema = [Var::new(&[4f64, 4.0], &Device::Cpu)?];
        let mut adam = Adam::new(vec![param.clone()], CONFIG)?;
        let grad = Tensor::new(&[0.5f64, 3.0], &Device::Cpu)?;
        let mut step = |gate: f64| {
            let gate = Tensor::new(gate, &Device::Cpu)?;
            adam.step(std::slice::from_ref(&grad), Some((&ema, 0.5)), Some(&gate))
        };
        step(f64::NAN)?;
        assert_eq!(param.to_vec1::<f64>()?, [1.0, -2.0]);
        assert_eq!(ema[0].to_vec1::<f64>()?, [2.5, 1.0]);
        step(f64::NEG_INFINITY)?;
        assert_eq!(param.to_vec1::<f64>()?, [1.0, -2.0]);
        assert_eq!(ema[0].to_vec1::<f64>()?, [1.75, -0.5]);
        // moments are still those of a fresh optimizer: m = g / 2, v = g^2 / 10, at t = 3
        step(7.0)?;
        let step_size = 0.1 / (1.0 - 0.5f64.powi(3));
        let root_correction = (1.0 - 0.9f64.powi(3)).sqrt();
        let moved =
            |p: f64, g: f64| p - step_size * g / 2.0 / (g * 0.1f64.sqrt() / root_correction);
        let expected = [moved(1.0, 0.5), moved(-2.0, 3.0)];
        for (ours, expected) in param.to_vec1::<f64>()?.iter().zip(expected) {
            assert!((ours - expected).abs() < 1e-7, "{ours} {expected}");
        }
        Ok(())
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() -> Result<()> {
        let work = || {
            let mut draws = Draws::new(70);
            let mut var = || Var::from_tensor(&draws.normals(70_001)?.to_dtype(DType::F32)?);
            let (param, ema, grad) = (var()?, [var()?], var()?);
            let mut adam = Adam::new(vec![param.clone()], CONFIG)?;
            for _ in 0..3 {
                adam.step(&[grad.as_detached_tensor()], Some((&ema, 0.9)), None)?;
            }
            adam.step(&[grad.as_detached_tensor()], None, None)?;
            let average = ema[0].as_detached_tensor().copy()?;
            blend(&ema[0], &param, 0.9, None)?;
            Ok(vec![param.as_detached_tensor(), average, ema[0].as_detached_tensor()])
        };
        same_bits_for_any_threads("adam", &work)
    }
}
