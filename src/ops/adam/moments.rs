//! Adam's memory, read and put back: what a run keeps to go on later.
//!
//! Without a first moment (`beta1` is 0) a step replaces it by its gradient before anything reads
//! it, so the second moments and the number of steps are all there is.

use candle_core::{Result, Tensor, bail};

use super::{Adam, Moments};

impl Adam {
    /// Steps made so far.
    pub fn num_steps(&self) -> u64 {
        self.num_steps
    }

    /// Goes on as after so many steps.
    pub fn set_num_steps(&mut self, num_steps: u64) {
        self.num_steps = num_steps;
    }

    /// Second moment of the parameter at `idx`, flat.
    ///
    /// # Errors
    /// Fails for parameters that are not f32, and where there is a first moment, which would be lost.
    pub fn second_moment(&self, idx: usize) -> Result<Vec<f32>> {
        self.check_beta1()?;
        match &*self.moments[idx].borrow() {
            Moments::F32(_, v) => Ok(v.clone()),
            Moments::Gpu(_, v) => v.flatten_all()?.to_vec1(),
            Moments::F64(..) => bail!("adam: expected moments in f32 to keep, got f64"),
        }
    }

    /// Replaces the second moment of the parameter at `idx`.
    ///
    /// # Errors
    /// As [`Adam::second_moment`], and for another number of values.
    pub fn set_second_moment(&self, idx: usize, values: &[f32]) -> Result<()> {
        self.check_beta1()?;
        let expected = self.params[idx].elem_count();
        if values.len() != expected {
            bail!("adam: expected {expected} moments, got {}", values.len());
        }
        match &mut *self.moments[idx].borrow_mut() {
            Moments::F32(_, v) => v.copy_from_slice(values),
            Moments::Gpu(_, v) => *v = Tensor::from_slice(values, v.shape(), v.device())?,
            Moments::F64(..) => bail!("adam: expected moments in f32 to put back, got f64"),
        }
        Ok(())
    }

    fn check_beta1(&self) -> Result<()> {
        if self.config.beta1 != 0.0 {
            bail!("adam: expected beta1 0, got {}; a first moment is not kept", self.config.beta1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::super::AdamConfig;
    use super::*;

    fn adam(beta1: f64) -> (Var, Adam) {
        let param = Var::new(&[0.5f32, -1.0], &Device::Cpu).unwrap();
        let config = AdamConfig { lr: 0.01, beta1, beta2: 0.9, eps: 1e-8 };
        (param.clone(), Adam::new(vec![param], config).unwrap())
    }

    fn step(adam: &mut Adam, grad: [f32; 2]) {
        adam.step(&[Tensor::new(&grad, &Device::Cpu).unwrap()], None, None).unwrap();
    }

    /// v = 0.1 g^2 after one step; what goes on with it makes the same second step.
    #[test]
    fn an_optimizer_goes_on_from_its_second_moment() -> Result<()> {
        let (param, mut first) = adam(0.0);
        step(&mut first, [2.0, -4.0]);
        let kept = first.second_moment(0)?;
        assert!((kept[0] - 0.4).abs() < 1e-6 && (kept[1] - 1.6).abs() < 1e-6, "{kept:?}");
        let moved = param.to_vec1::<f32>()?;
        let (other_param, mut second) = adam(0.0);
        other_param.set(&Tensor::new(moved.as_slice(), &Device::Cpu)?)?;
        second.set_second_moment(0, &kept)?;
        second.set_num_steps(first.num_steps());
        step(&mut first, [0.5, 0.25]);
        step(&mut second, [0.5, 0.25]);
        assert_eq!(param.to_vec1::<f32>()?, other_param.to_vec1::<f32>()?);
        Ok(())
    }

    #[test]
    fn what_cannot_be_kept_is_refused() {
        let (_, with_momentum) = adam(0.9);
        assert!(with_momentum.second_moment(0).is_err());
        assert!(with_momentum.set_second_moment(0, &[0.0; 2]).is_err());
        assert!(adam(0.0).1.set_second_moment(0, &[0.0; 3]).is_err());
    }
}
