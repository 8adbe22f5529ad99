//! The random inputs of a training step: a pure function of (seed, step).
//!
//! Each phase has draws of its own, as in the StyleGAN2-ADA trainer. What is drawn for one round
//! of a step does not depend on the others. To a GPU go two copies: the images, and all that was drawn
//! on the processor; noise is drawn where it is needed.

use candle_core::{DType, Device, Result, Tensor};

use super::config::TrainConfig;
use super::phases::{Draw, Reals};
use super::trainer::{D_REG_INTERVAL, G_REG_INTERVAL};
use crate::augment::{Pipeline, Transforms};
use crate::model::Noise;
use crate::ops::rng::{Rng, Stream};
use crate::ops::{normals, upload};

/// The phases, in their order within a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Generator, main loss.
    Gmain,
    /// Generator, path length.
    Greg,
    /// Discriminator, main loss.
    Dmain,
    /// Discriminator, R1.
    Dreg,
}

/// All inputs of one forward pass of each phase.
#[derive(Clone)]
pub struct Round {
    /// Of Dmain and Dreg.
    pub reals: Reals,
    /// What is done to the real images in Dmain.
    pub d_main_reals: Option<Transforms>,
    /// What is done to the real images in Dreg, in steps that have it.
    pub d_reg_reals: Option<Transforms>,
    /// Of Gmain.
    pub g_main: Draw,
    /// Of Greg, in steps that have it: latents, and noise `[N, C, H, W]` from N(0, 1).
    pub g_reg: Option<(Draw, Tensor)>,
    /// Of Dmain.
    pub d_main: Draw,
}

/// Which rounds of a step are drawn, and what for.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// The first round.
    pub first: usize,
    /// From one round to the next; 1: all.
    pub every: usize,
    /// What is done to images before D sees them, and the probability of each transform.
    pub augment: Option<(&'a Pipeline, f64)>,
    /// Type of the networks.
    pub dtype: DType,
    /// Where the networks are.
    pub device: &'a Device,
}

/// The inputs of a part of step `num_steps`, one [`Round`] for each `batch_gpu` of real images.
///
/// * `reals` - the `batch` images of the step, on any device.
/// * `label_pool` - the data set's labels `[N, c_dim]`, of which generated images get some; on the
///   processor.
///
/// # Errors
/// Fails if there are fewer images than `batch`, or if the device has no memory for them.
pub fn draw_rounds(
    config: &TrainConfig,
    num_steps: u64,
    reals: &Reals,
    label_pool: Option<&Tensor>,
    part: &Part,
) -> Result<Vec<Round>> {
    let n = config.batch_gpu;
    let img = reals.img.map(|img| part.images(&img.narrow(0, 0, config.batch)?, n))?;
    let round = |(idx, round): (usize, usize)| {
        let labels = |c: &Tensor| c.narrow(0, round * n, n)?.to_dtype(part.dtype);
        let c = reals.c.as_ref().map(labels).transpose()?;
        let reals = Reals { img: img.map(|img| img.narrow(0, idx * n, n))?, c };
        let step = Step { config, num_steps, round: round as u64, part };
        let num_pl = (n / 2).max(1);
        let fakes = |phase: Phase| step.transforms(phase, false, n);
        let has_g_reg = num_steps.is_multiple_of(G_REG_INTERVAL);
        let g_reg =
            || Result::Ok((step.draw(Phase::Greg, num_pl, label_pool)?, step.pl_noise(num_pl)?));
        let has_d_reg = num_steps.is_multiple_of(D_REG_INTERVAL);
        let d_reg_reals = has_d_reg.then(|| step.transforms(Phase::Dreg, true, n));
        Ok(Round {
            g_main: Draw {
                augment: fakes(Phase::Gmain)?,
                ..step.draw(Phase::Gmain, n, label_pool)?
            },
            g_reg: has_g_reg.then(g_reg).transpose()?,
            d_main: Draw {
                augment: fakes(Phase::Dmain)?,
                ..step.draw(Phase::Dmain, n, label_pool)?
            },
            reals,
            d_main_reals: step.transforms(Phase::Dmain, true, n)?,
            d_reg_reals: d_reg_reals.transpose()?.flatten(),
        })
    };
    let rounds = part.rounds(config.batch / n).enumerate().map(round);
    let mut rounds = rounds.collect::<Result<Vec<_>>>()?;
    upload(rounds.iter_mut().flat_map(Round::numbers), part.device)?;
    Ok(rounds)
}

impl Round {
    /// What was drawn on the processor.
    fn numbers(&mut self) -> impl Iterator<Item = &mut Tensor> {
        let Self { reals, d_main_reals, d_reg_reals, g_main, g_reg, d_main } = self;
        let g_reg = g_reg.as_mut().map(|(draw, _)| draw);
        let draws = [Some(g_main), g_reg, Some(d_main)].into_iter().flatten();
        let transforms = [d_main_reals, d_reg_reals].into_iter().flatten();
        let numbers = draws.flat_map(Draw::numbers);
        numbers.chain(transforms.flat_map(Transforms::numbers)).chain(&mut reals.c)
    }
}

impl Part<'_> {
    /// The rounds that are drawn, of `count`.
    fn rounds(&self, count: usize) -> impl Iterator<Item = usize> + use<> {
        (self.first..count).step_by(self.every)
    }

    /// Those of the images `[batch, C, H, W]` that are shown, `n` in a round, in the type of the
    /// networks and where they are.
    fn images(&self, img: &Tensor, n: usize) -> Result<Tensor> {
        let mine = if self.every == 1 && self.first == 0 {
            img.clone()
        } else {
            let rounds = self.rounds(img.dim(0)? / n);
            let rounds = rounds.map(|round| img.narrow(0, round * n, n));
            Tensor::cat(&rounds.collect::<Result<Vec<_>>>()?, 0)?
        };
        let mut mine = mine.to_dtype(self.dtype)?;
        if !mine.device().same_device(self.device) {
            mine = mine.force_contiguous()?.to_device(self.device)?; // a slice would take the whole along
        }
        Ok(mine)
    }
}

/// One round of one step.
struct Step<'a> {
    config: &'a TrainConfig,
    num_steps: u64,
    round: u64,
    part: &'a Part<'a>,
}

impl Step<'_> {
    fn draw(&self, phase: Phase, n: usize, label_pool: Option<&Tensor>) -> Result<Draw> {
        let (g, seed, round) = (&self.config.g, self.config.seed, self.round);
        let step = self.num_steps * 4 + phase as u64;
        let rng = |stream: Stream| Rng::new(seed, stream, step);
        let latents = |part: u64| {
            let draws = rng(Stream::Latents).normals_of_part(part, n * g.z_dim);
            Tensor::from_vec(draws, (n, g.z_dim), &Device::Cpu)?.to_dtype(self.part.dtype)
        };
        let mixing = rng(Stream::StyleMixing);
        let mix = if mixing.uniform(2 * round) < self.config.style_mixing_prob {
            let cutoff = 1 + mixing.below(2 * round + 1, g.num_ws() - 1);
            Some((cutoff, latents(2 * round + 1)?))
        } else {
            None
        };
        let c = label_pool.map(|pool| {
            let (rows, labels) = (pool.dim(0)?, rng(Stream::Labels));
            let pick = |i: usize| labels.below(round << 32 | i as u64, rows) as u32;
            let rows = Tensor::from_iter((0..n).map(pick), &Device::Cpu)?;
            pool.index_select(&rows, 0)?.to_dtype(self.part.dtype)
        });
        let noise = Rng::new(seed, Stream::LayerNoise, step << 16 | round);
        let (c, noise) = (c.transpose()?, Noise::Random(noise));
        Ok(Draw { z: latents(2 * round)?, c, mix, noise, augment: None })
    }

    /// What is done to `n` images of a phase before D sees them.
    fn transforms(&self, phase: Phase, are_real: bool, n: usize) -> Result<Option<Transforms>> {
        let Some((pipeline, p)) = self.part.augment else { return Ok(None) };
        let rng = Rng::new(self.config.seed, Stream::Augment, self.num_steps * 4 + phase as u64);
        let res = self.config.g.img_resolution;
        let part = 2 * self.round + u64::from(are_real);
        pipeline.draw(&rng, part, (n, res, res), p).map(Some)
    }

    /// Draws of N(0, 1), `[n, C, H, W]`.
    fn pl_noise(&self, n: usize) -> Result<Tensor> {
        let (channels, res) = (self.config.g.img_channels, self.config.g.img_resolution);
        let rng = Rng::new(self.config.seed, Stream::PathLength, self.num_steps);
        normals(&rng, self.round, (n, channels, res, res), (self.part.dtype, self.part.device))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::presets::{Cfg, Overrides, train_config};

    fn rounds(batch_gpu: usize, num_steps: u64) -> Vec<Round> {
        part(batch_gpu, num_steps, 0, 1)
    }

    fn part(batch_gpu: usize, num_steps: u64, first: usize, every: usize) -> Vec<Round> {
        let overrides =
            Overrides { batch: Some(8), batch_gpu: Some(batch_gpu), ..Overrides::default() };
        let config = train_config(Cfg::Tiny, 8, 0, &overrides);
        let img = Tensor::zeros((8, 3, 8, 8), DType::F32, &Device::Cpu).unwrap();
        let part = Part { first, every, augment: None, dtype: DType::F32, device: &Device::Cpu };
        draw_rounds(&config, num_steps, &Reals::new(img, None), None, &part).unwrap()
    }

    fn z(draw: &Draw) -> Vec<f32> {
        draw.z.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn phases_rounds_and_steps_have_draws_of_their_own() {
        let (first, second) = (rounds(4, 0), rounds(4, 1));
        assert_eq!((first.len(), first[0].g_main.z.dims()), (2, [4, 128].as_slice()));
        let all =
            [z(&first[0].g_main), z(&first[0].d_main), z(&first[1].g_main), z(&second[0].g_main)];
        for (i, a) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|b| a != b), "draw {i} is one of the earlier");
        }
        assert_eq!(all[0], z(&rounds(4, 0)[0].g_main));
        assert_eq!(first[0].g_reg.as_ref().unwrap().1.dims(), [2, 3, 8, 8]);
        assert!(second[0].g_reg.is_none() && rounds(4, 4)[0].g_reg.is_some());
    }

    #[test]
    fn a_part_has_the_rounds_of_the_whole() {
        let (whole, part) = (rounds(2, 8), part(2, 8, 1, 2));
        assert_eq!((whole.len(), part.len()), (4, 2));
        for (whole, part) in [(&whole[1], &part[0]), (&whole[3], &part[1])] {
            assert_eq!(z(&whole.d_main), z(&part.d_main));
            let [whole, part] = [whole, part].map(|round| z(&round.g_reg.as_ref().unwrap().0));
            assert_eq!(whole, part);
        }
    }

    #[test]
    fn styles_are_mixed_nine_times_in_ten() {
        let mixes = (0..200).filter(|step| rounds(8, *step)[0].g_main.mix.is_some()).count();
        assert!((165..=195).contains(&mixes), "{mixes} of 200");
    }
}
