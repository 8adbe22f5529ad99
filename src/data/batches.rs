//! Which pictures a training step sees: a pure function of the seed and of the images shown so far.
//!
//! Each pass over the set is a permutation of its own. Pictures become tensors here, and cross to
//! the device once per batch.

use candle_core::{Device, Result, Tensor};

use super::{Dataset, Private};
use crate::ops::rng::{Rng, Stream};

/// In which directions every picture is shown mirrored as well as upright.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mirror {
    /// Left and right exchanged.
    pub x: bool,
    /// Top and bottom exchanged.
    pub y: bool,
}

/// A data set in training order.
pub struct Batches {
    dataset: Dataset,
    mirror: Mirror,
    seed: u64,
    /// The pass that `order` belongs to.
    epoch: u64,
    order: Vec<usize>,
}

impl Batches {
    /// The pictures of `dataset` in the order of `seed`.
    pub fn new(dataset: Dataset, seed: u64) -> Self {
        let order = order(seed, 0, dataset.len());
        Self { dataset, mirror: Mirror::default(), seed, epoch: 0, order }
    }

    /// The same set with mirrored pictures in it: a pass is twice or four times as long.
    #[must_use]
    pub fn mirrored(self, mirror: Mirror) -> Self {
        let mut batches = Self { mirror, ..self };
        batches.order = order(batches.seed, batches.epoch, batches.num_shown());
        batches
    }

    /// The set.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// Pictures of a pass.
    fn num_shown(&self) -> usize {
        self.dataset.len() << (usize::from(self.mirror.x) + usize::from(self.mirror.y))
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
    ) -> Result<(Private<Tensor>, Option<Tensor>)> {
        let (res, label_dim) = (self.dataset.resolution(), self.dataset.label_dim());
        let mut pixels = Vec::with_capacity(count * 3 * res * res);
        let mut labels = Vec::with_capacity(count * label_dim);
        for position in cur_nimg..cur_nimg + count as u64 {
            let (idx, mirror) = self.at(position);
            extend(&mut pixels, self.dataset.image(idx).expose(), res, mirror);
            labels.extend_from_slice(self.dataset.label(idx));
        }
        let images = Tensor::from_vec(pixels, (count, 3, res, res), device)?;
        let labels = (label_dim > 0).then(|| Tensor::from_vec(labels, (count, label_dim), device));
        Ok((Private::new(images), labels.transpose()?))
    }

    /// All labels `[N, label_dim]`, where the set has them: generated images get labels of the
    /// same distribution. They are on the processor, where labels are picked.
    ///
    /// # Errors
    /// Never: there are as many labels as pictures.
    pub fn label_pool(&self) -> Result<Option<Tensor>> {
        let (len, label_dim) = (self.dataset.len(), self.dataset.label_dim());
        if label_dim == 0 {
            return Ok(None);
        }
        let labels = (0..len).flat_map(|idx| self.dataset.label(idx).iter().copied());
        Tensor::from_iter(labels, &Device::Cpu)?.reshape((len, label_dim)).map(Some)
    }

    /// The picture at a position of the training, and how it is turned.
    fn at(&mut self, position: u64) -> (usize, Mirror) {
        let num_shown = self.num_shown() as u64;
        let epoch = position / num_shown;
        if epoch != self.epoch {
            self.epoch = epoch;
            self.order = order(self.seed, epoch, self.num_shown());
        }
        let shown = self.order[(position % num_shown) as usize];
        let (idx, copy) = (shown % self.dataset.len(), shown / self.dataset.len());
        // the copies: upright, then turned in the first direction that is asked for, ..
        let x = self.mirror.x && !copy.is_multiple_of(2);
        let y = self.mirror.y && copy >> usize::from(self.mirror.x) == 1;
        (idx, Mirror { x, y })
    }
}

/// Appends an image `[3, res, res]` in [-1, 1].
fn extend(pixels: &mut Vec<f32>, image: &[u8], res: usize, mirror: Mirror) {
    let value = |v: &u8| f32::from(*v) / 127.5 - 1.0;
    for plane in image.chunks_exact(res * res) {
        for y in 0..res {
            let row = if mirror.y { res - 1 - y } else { y };
            let row = plane[row * res..][..res].iter();
            if mirror.x {
                pixels.extend(row.rev().map(value));
            } else {
                pixels.extend(row.map(value));
            }
        }
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
        let corner = images.expose().narrow(2, 7, 1).unwrap().narrow(3, 7, 1).unwrap();
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

    /// One picture whose pixels are all different: a pass shows each of its four sides up once.
    #[test]
    fn mirrored_pictures_are_shown_beside_the_upright() {
        let image: Vec<u8> = (0..192).collect();
        let upright: Vec<f32> = image.iter().map(|v| f32::from(*v) / 127.5 - 1.0).collect();
        let flipped = |x: bool, y: bool| {
            let at = |i: usize| {
                let (row, column) = (i / 8 % 8, i % 8);
                let row = if y { 7 - row } else { row };
                upright[i / 64 * 64 + row * 8 + if x { 7 - column } else { column }]
            };
            (0..192).map(at).collect::<Vec<f32>>()
        };
        for (x, y) in [(false, false), (true, false), (false, true), (true, true)] {
            let dataset = Dataset::from_raw(8, image.clone(), 0, Vec::new()).unwrap();
            let mut batches = Batches::new(dataset, 3).mirrored(Mirror { x, y });
            let num_shown = batches.num_shown();
            let (shown, _) = batches.next(0, num_shown, &Device::Cpu).unwrap();
            let mut shown = shown.expose().flatten_from(1).unwrap().to_vec2::<f32>().unwrap();
            for (x, y) in [(false, false), (x, false), (false, y), (x, y)] {
                shown.retain(|image| *image != flipped(x, y));
            }
            assert!(shown.is_empty() && num_shown == 1 << (usize::from(x) + usize::from(y)));
        }
    }

    #[test]
    fn the_label_pool_holds_every_label() {
        let pool = batches().label_pool().unwrap().unwrap();
        assert_eq!(pool.dims(), [5, 1]);
    }
}
