//! How much a set's images differ from each other, pixel by pixel.
//!
//! A generator that collapses makes the same image for every latent; its spread goes to zero.

use candle_core::{DType, Device, Result, Tensor, bail};

/// Sums over a growing set of images of one shape.
#[derive(Default)]
pub struct Spread {
    num_images: usize,
    /// Of each pixel, and of its square.
    sums: Vec<(f64, f64)>,
}

impl Spread {
    /// Adds `images [N, C, H, W]`.
    ///
    /// # Errors
    /// Fails if they have another shape than those before.
    pub fn add(&mut self, images: &Tensor) -> Result<()> {
        let images = images.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_from(1)?;
        for image in images.to_vec2::<f32>()? {
            if self.num_images == 0 {
                self.sums = vec![(0.0, 0.0); image.len()];
            }
            if image.len() != self.sums.len() {
                bail!("spread: expected {} values, got {}", self.sums.len(), image.len());
            }
            for ((sum, squares), value) in self.sums.iter_mut().zip(image) {
                *sum += f64::from(value);
                *squares += f64::from(value).powi(2);
            }
            self.num_images += 1;
        }
        Ok(())
    }

    /// Standard deviation of a pixel over the images, root mean square over the pixels; 0 for an
    /// empty set.
    pub fn deviation(&self) -> f64 {
        let count = self.num_images.max(1) as f64;
        let variance = |(sum, squares): &(f64, f64)| squares / count - (sum / count).powi(2);
        let total: f64 = self.sums.iter().map(variance).sum();
        (total / self.sums.len().max(1) as f64).max(0.0).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pixels 1, 5 and 2, 2: deviations 2 and 0, mean square 2.
    #[test]
    fn deviation_of_two_images() {
        let images = Tensor::new(&[[[[1f32, 2.0]]], [[[5.0, 2.0]]]], &Device::Cpu).unwrap();
        let mut spread = Spread::default();
        assert_eq!(spread.deviation(), 0.0);
        for i in 0..2 {
            spread.add(&images.narrow(0, i, 1).unwrap()).unwrap();
        }
        assert!((spread.deviation() - 2f64.sqrt()).abs() < 1e-12);
        assert!(
            spread.add(&Tensor::zeros((1, 1, 1, 3), DType::F32, &Device::Cpu).unwrap()).is_err()
        );
    }
}
