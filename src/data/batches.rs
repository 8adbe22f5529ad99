//! Which pictures a training step sees: a pure function of the seed and of the images shown so far.
//!
//! Each pass over the set is a permutation of its own. Pictures become tensors here, and cross to
//! the device once per batch.

use candle_core::{Device, Result, Tensor};

use super::Dataset;
use crate::ops::rng::{Rng, Stream};

/// A data set in training order.
pub struct Batches {
    dataset: Dataset,
    seed: u64,
    /// The pass that `order` belongs to.
    epoch: u64,
    order: Vec<usize>,
}

impl Batches {
    /// The pictures of `dataset` in the order of `seed`.
    pub fn new(dataset: Dataset, seed: u64) -> Self {
        let order = order(seed, 0, dataset.len());
        Self { dataset, seed, epoch: 0, order }
    }

    /// The `count` pictures that follow after `cur_nimg` shown: images `[count, 3, R, R]` in
    /// [-1, 1], and labels `[count, label_dim]` where the set has them.
    ///
    /// # Errors
    /// Fails if the device does.
    pub fn next(
        &mut self,
        cur_nimg: u64,
        count: usize,
        device: &Device,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let (res, label_dim) = (self.dataset.resolution(), self.dataset.label_dim());
        let mut pixels = Vec::with_capacity(count * 3 * res * res);
        let mut labels = Vec::with_capacity(count * label_dim);
        for position in cur_nimg..cur_nimg + count as u64 {
            let idx = self.at(position);
            pixels.extend(self.dataset.image(idx).iter().map(|v| f32::from(*v) / 127.5 - 1.0));
            labels.extend_from_slice(self.dataset.label(idx));
        }
        let images = Tensor::from_vec(pixels, (count, 3, res, res), device)?;
        let labels = (label_dim > 0).then(|| Tensor::from_vec(labels, (count, label_dim), device));
        Ok((images, labels.transpose()?))
    }

    /// All labels `[N, label_dim]`, where the set has them: generated images get labels of the
    /// same distribution.
    ///
    /// # Errors
    /// Fails if the device does.
    pub fn label_pool(&self, device: &Device) -> Result<Option<Tensor>> {
        let (len, label_dim) = (self.dataset.len(), self.dataset.label_dim());
        if label_dim == 0 {
            return Ok(None);
        }
        let labels = (0..len).flat_map(|idx| self.dataset.label(idx).iter().copied());
        Tensor::from_iter(labels, device)?.reshape((len, label_dim)).map(Some)
    }

    fn at(&mut self, position: u64) -> usize {
        let len = self.dataset.len() as u64;
        let epoch = position / len;
        if epoch != self.epoch {
            self.epoch = epoch;
            self.order = order(self.seed, epoch, self.dataset.len());
        }
        self.order[(position % len) as usize]
    }
}

fn order(seed: u64, epoch: u64, len: usize) -> Vec<usize> {
    Rng::new(seed, Stream::Order, epoch).permutation(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five 8x8 pictures, each of one value, with a label of that value.
    fn batches() -> Batches {
        let values = [0u8, 50, 100, 150, 255];
        let images = values.iter().flat_map(|value| [*value; 3 * 64]).collect();
        let labels = values.iter().map(|value| f32::from(*value)).collect();
        Batches::new(Dataset::from_raw(8, images, 1, labels).unwrap(), 3)
    }

    fn shown(batches: &mut Batches, cur_nimg: u64, count: usize) -> Vec<f32> {
        let (images, labels) = batches.next(cur_nimg, count, &Device::Cpu).unwrap();
        let labels = labels.unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let corner = images.narrow(2, 7, 1).unwrap().narrow(3, 7, 1).unwrap();
        let corner = corner.mean((1, 2, 3)).unwrap().to_vec1::<f32>().unwrap();
        for (value, label) in corner.iter().zip(&labels) {
            assert!((value - (label / 127.5 - 1.0)).abs() < 1e-6);
        }
        labels
    }

    #[test]
    fn each_pass_shows_every_picture_once_in_another_order() {
        let mut batches = batches();
        let passes: Vec<_> = (0..4).map(|pass| shown(&mut batches, pass * 5, 5)).collect();
        for pass in &passes {
            let mut sorted = pass.clone();
            sorted.sort_by(f32::total_cmp);
            assert_eq!(sorted, [0.0, 50.0, 100.0, 150.0, 255.0]);
        }
        assert!(passes.iter().any(|pass| *pass != passes[0]));
    }

    #[test]
    fn a_batch_depends_on_the_position_only() {
        let mut whole = batches();
        let all = shown(&mut whole, 0, 12);
        let mut parts = batches();
        assert_eq!(shown(&mut parts, 7, 5), all[7..]);
        assert_eq!(shown(&mut parts, 0, 7), all[..7]);
    }

    #[test]
    fn the_label_pool_holds_every_label() {
        let pool = batches().label_pool(&Device::Cpu).unwrap().unwrap();
        assert_eq!(pool.dims(), [5, 1]);
    }
}
