//! Numbers that the processor has drawn, on their way to a GPU.
//!
//! A training step draws a dozen small tensors. They travel together, and are views of one piece of
//! memory there.

use candle_core::{DType, Device, Result, Tensor};

use super::cost;

/// A view begins at a multiple of so many elements: as aligned as memory of its own.
const ALIGNMENT: usize = 64;

/// Brings `tensors` to `device` in one copy; those that are there already stay as they are. Whole
/// numbers must be below 2^24.
///
/// # Errors
/// Fails if the device has no memory for them.
pub fn upload<'a>(
    tensors: impl IntoIterator<Item = &'a mut Tensor>,
    device: &Device,
) -> Result<()> {
    let is_away = |tensor: &&mut Tensor| !tensor.device().same_device(device);
    let mut tensors: Vec<_> = tensors.into_iter().collect();
    if !tensors.is_empty() {
        cost::copied(); // where that is counted, nothing is away
    }
    tensors.retain(is_away);
    if tensors.is_empty() { Ok(()) } else { together(&mut tensors, |all| all.to_device(device)) }
}

/// Replaces `tensors`, at least one, by views of what `send` makes of all their numbers in a row on the
/// processor.
fn together(
    tensors: &mut [&mut Tensor],
    send: impl FnOnce(&Tensor) -> Result<Tensor>,
) -> Result<()> {
    let is_wide = tensors.iter().any(|tensor| tensor.dtype() == DType::F64);
    let dtype = if is_wide { DType::F64 } else { DType::F32 };
    let padded = |tensor: &&mut Tensor| {
        let row = tensor.to_device(&Device::Cpu)?.flatten_all()?.to_dtype(dtype)?;
        let len = row.elem_count();
        row.pad_with_zeros(0, 0, len.next_multiple_of(ALIGNMENT) - len)
    };
    let rows = tensors.iter().map(padded).collect::<Result<Vec<_>>>()?;
    let sent = send(&Tensor::cat(&rows, 0)?)?;
    let mut start = 0;
    for (tensor, row) in tensors.iter_mut().zip(&rows) {
        let view = sent.narrow(0, start, tensor.elem_count())?;
        **tensor = view.reshape(tensor.shape())?.to_dtype(tensor.dtype())?;
        start += row.elem_count();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_travels_together_arrives_as_it_was() -> Result<()> {
        let mut z = Tensor::arange(0f32, 70.0, &Device::Cpu)?.reshape((7, 10))?;
        let mut indices = Tensor::new(&[3u32, 16_777_215, 0], &Device::Cpu)?;
        let mut turned = Tensor::new(&[[0.1f32, 0.2], [0.3, 0.4]], &Device::Cpu)?.t()?;
        let expected = [z.clone(), indices.clone(), turned.contiguous()?];
        let mut num_sent = 0;
        together(&mut [&mut z, &mut indices, &mut turned], |all| {
            num_sent += 1;
            all.copy()
        })?;
        assert_eq!(num_sent, 1);
        for (ours, expected) in [z, indices, turned].iter().zip(&expected) {
            assert_eq!((ours.shape(), ours.dtype()), (expected.shape(), expected.dtype()));
            assert!(ours.is_contiguous() && ours.layout().start_offset() % ALIGNMENT == 0);
            let off = (ours.to_dtype(DType::F64)? - expected.to_dtype(DType::F64)?)?;
            assert_eq!(off.abs()?.max_all()?.to_scalar::<f64>()?, 0.0);
        }
        Ok(())
    }

    #[test]
    fn no_digit_of_wide_numbers_is_lost() -> Result<()> {
        let (mut narrow, mut wide) =
            (Tensor::new(&[0.1f32], &Device::Cpu)?, Tensor::new(&[0.1f64, 0.3], &Device::Cpu)?);
        together(&mut [&mut narrow, &mut wide], Tensor::copy)?;
        assert_eq!(narrow.to_vec1::<f32>()?, [0.1]);
        assert_eq!(wide.to_vec1::<f64>()?, [0.1, 0.3]);
        Ok(())
    }

    #[test]
    fn what_is_there_stays_the_same_memory() -> Result<()> {
        let mut x = Tensor::new(&[1f32], &Device::Cpu)?;
        let id = x.id();
        upload([&mut x], &Device::Cpu)?;
        assert_eq!(x.id(), id);
        Ok(())
    }
}
