//! What only a GPU does, or nothing: the one place that asks for the feature `cuda`.

#[cfg(feature = "cuda")]
mod nccl;
#[cfg(feature = "cuda")]
pub(super) use nccl::Nccl;

#[cfg(not(feature = "cuda"))]
mod none;
#[cfg(not(feature = "cuda"))]
pub(super) use none::Nccl;
