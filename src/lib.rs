//! Trains StyleGAN2 where the pictures are.
