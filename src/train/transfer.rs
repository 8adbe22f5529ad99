//! Starting from a trained generator: its weights, and the time that a fresh discriminator gets.
//!
//! A D that knows nothing wrecks a G that knows a lot. So G stands still while D learns, and then
//! moves faster and faster up to its learning rate.

use candle_core::Result;

use super::ranks::Ranks;
use super::trainer::Trainer;
use crate::model::Store;
use crate::model::config::GeneratorConfig;
use crate::model::transfer::{Row, transfer};

impl Ranks {
    /// Takes over what fits of a generator, before the first step; the average starts from it too.
    ///
    /// # Errors
    /// Fails if a device does.
    pub fn start_from(&mut self, (model, weights): (&GeneratorConfig, &Store)) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for trainer in &self.trainers {
            let g_store = &trainer.networks.g_store;
            rows = transfer((model, weights), (&trainer.config.g, g_store))?;
            for (name, var) in g_store.tensors() {
                trainer.g_ema.set(&name, &var)?;
            }
        }
        Ok(rows)
    }
}

impl Trainer {
    /// Factor on the learning rate of G in this step.
    pub(super) fn g_lr_factor(&self) -> f64 {
        g_lr_factor(self.cur_nimg, self.config.d_warmup_kimg)
    }
}

/// 0 for the first `d_warmup_kimg`, then linear up to 1 in as many.
///
/// The optimizer of G steps all the same: its moments know the size of the gradients when G begins
/// to move, or its first steps would be of the full length in every direction.
fn g_lr_factor(cur_nimg: u64, d_warmup_kimg: f64) -> f64 {
    if d_warmup_kimg <= 0.0 {
        return 1.0;
    }
    (cur_nimg as f64 / (d_warmup_kimg * 1000.0) - 1.0).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor, Var};

    use super::*;
    use crate::ops::collective::connect;
    use crate::ops::rng::{Rng, Stream};
    use crate::train::config::TrainConfig;
    use crate::train::phases::Reals;
    use crate::train::presets::{Cfg, Overrides, train_config};

    fn config() -> TrainConfig {
        let overrides =
            Overrides { batch: Some(4), d_warmup_kimg: Some(0.012), ..Overrides::default() };
        let mut config = train_config(Cfg::Tiny, 8, 0, &overrides);
        (config.g.z_dim, config.g.w_dim) = (16, 16);
        (config.g.channel_max, config.d.channel_max) = (8, 8);
        config
    }

    fn step(trainer: &mut Trainer) {
        let rng = Rng::new(0, Stream::Pictures, trainer.num_steps());
        let img = Tensor::from_vec(rng.normals(4 * 3 * 64), (4, 3, 8, 8), &Device::Cpu).unwrap();
        let img = img.to_dtype(DType::F32).unwrap();
        let rounds = trainer.draw(&Reals::new(img, None), None).unwrap();
        trainer.step(&rounds).unwrap();
    }

    fn values(vars: &[Var]) -> Vec<f32> {
        let values = vars.iter().map(|var| var.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        values.collect::<Vec<_>>().concat()
    }

    #[test]
    fn the_rate_stands_then_grows_then_stays() {
        let factors = [0, 1999, 2000, 3000, 4000, 9000].map(|cur_nimg| g_lr_factor(cur_nimg, 2.0));
        assert_eq!(factors, [0.0, 0.0, 0.0, 0.5, 1.0, 1.0]);
        assert_eq!(g_lr_factor(0, 0.0), 1.0);
    }

    /// 12 images, three steps, in which D learns and G stands; then the first ones are short.
    #[test]
    fn g_stands_while_d_warms_up() {
        let mut trainer = Trainer::new(config(), &Device::Cpu).unwrap();
        let g_before = values(&trainer.networks.g_params);
        let d_before = values(&trainer.networks.d_params);
        for _ in 0..4 {
            assert_eq!(values(&trainer.networks.g_params), g_before); // also of the fourth's begin
            step(&mut trainer);
        }
        assert_eq!(values(&trainer.networks.g_params), g_before, "the ramp begins with nothing");
        assert_ne!(values(&trainer.networks.d_params), d_before);
        let moments = |adam: &crate::ops::adam::Adam| adam.second_moment(0).unwrap();
        assert!(moments(&trainer.adam_g).iter().any(|moment| *moment > 0.0));
        trainer.g_ema().unwrap();
        let ema: Vec<Var> = trainer.g_ema.params().into_iter().map(|(_, var)| var).collect();
        assert_eq!(values(&ema), g_before);
        step(&mut trainer);
        assert_ne!(values(&trainer.networks.g_params), g_before);
    }

    #[test]
    fn every_rank_and_the_average_start_from_the_weights() {
        let overrides = Overrides { seed: 5, ..Overrides::default() };
        let mut other = train_config(Cfg::Tiny, 8, 0, &overrides);
        (other.g, other.d) = (config().g, config().d);
        let trained = Trainer::new(other, &Device::Cpu).unwrap();
        let two = TrainConfig { batch_gpu: 2, ..config() };
        let mut ranks = Ranks::new(&two, connect(&[Device::Cpu, Device::Cpu]).unwrap()).unwrap();
        let weights = &trained.networks.g_store;
        ranks.start_from((&trained.config.g, weights)).unwrap();
        let all = |store: &Store| {
            values(&store.tensors().into_iter().map(|(_, var)| var).collect::<Vec<_>>())
        };
        for trainer in ranks.replicas() {
            assert_eq!(all(&trainer.networks.g_store), all(weights));
            assert_eq!(all(&trainer.g_ema), all(weights));
        }
    }
}
