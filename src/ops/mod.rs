//! The operations that StyleGAN2 is made of, each closed under differentiation.
//!
//! Every op is one public function on tensors, a fused kernel behind it, and beside it the same
//! thing in plain candle ops (`reference`): the oracle in tests, and the path taken on a device
//! that has no kernel. A kernel changes speed, never results. Images are `[N, C, H, W]`.
//!
//! Kernels exist for f32 and f64 on the CPU (`cpu/`) and, with the feature `cuda`, for these and
//! 16-bit types on GPUs (`cuda/`). Their backward passes are members of the same family of ops, so
//! any order of derivative works; [`mod@grad`] is the only door to it.
//!
//! Not here: networks, optimizer schedules, anything that knows what an image shows.

pub mod adam;
pub mod bias_act;
pub mod cancel;
pub mod channel_scale;
mod channel_sum;
#[cfg(test)]
mod check;
pub mod collective;
pub mod conv2d;
pub mod conv2d_resample;
pub mod cost;
mod cpu;
pub mod crew;
pub mod cuda;
pub mod device;
mod driver;
pub mod grad;
pub mod grid_sample;
pub mod guard;
pub mod image_fir;
pub mod modulated_conv2d;
pub mod noise;
mod normals;
pub mod reflect_pad;
pub mod rng;
pub mod selftest;
mod traced;
pub mod upfirdn2d;
mod upload;

pub use bias_act::bias_act;
pub use channel_scale::channel_scale;
pub use conv2d::conv2d;
pub use conv2d_resample::conv2d_resample;
pub use cpu::{raise_allocator_thresholds, set_allocator_thresholds};
pub use grad::{grad, grad_with_graph};
pub use grid_sample::grid_sample;
pub use image_fir::image_fir;
pub use modulated_conv2d::modulated_conv2d;
pub use noise::add_noise;
pub use normals::normals;
pub use reflect_pad::reflect_pad;
pub use traced::Traced;
pub use upfirdn2d::upfirdn2d;
pub use upload::upload;
