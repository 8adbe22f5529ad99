//! Tensors in a file: views of storages, read when they are wanted.
//!
//! Together the tensors that are taken may not have more bytes than the file, so that views of one
//! storage cannot make many out of few.

use candle_core::{Result, bail};
use half::{bf16, f16};

use super::torch::Storages;
use super::value::{Element, Global, Id, Table};

/// Most dimensions of a tensor: one of a convolution's weights has 5 in some files.
const MAX_RANK: usize = 6;

/// A tensor that has not been read yet.
#[derive(Clone, Debug)]
pub(super) struct Lazy<'a> {
    element: Element,
    storage: &'a [u8],
    /// Elements before the first one.
    offset: usize,
    pub(super) dims: Vec<usize>,
    strides: Vec<usize>,
}

impl<'a> Lazy<'a> {
    /// The tensor, or parameter, at `id`.
    ///
    /// # Errors
    /// Fails if it is something else, or reaches out of its storage.
    pub(super) fn find(table: &Table<'a>, storages: &Storages<'a>, id: Id) -> Result<Self> {
        let parameter = table.args_of(id, Global::RebuildParameter);
        let id = parameter.and_then(|args| args.first().copied()).unwrap_or(id);
        let args = table.args_of(id, Global::RebuildTensor);
        let Some([storage, offset, dims, strides, ..]) = args else {
            bail!("expected a tensor");
        };
        let (element, storage) = storages.get(table, *storage)?;
        let sizes = |id: Id| -> Option<Vec<usize>> {
            let sizes = table.sequence(id).filter(|sizes| sizes.len() <= MAX_RANK)?;
            sizes.iter().map(|size| table.size(*size)).collect()
        };
        match (table.size(*offset), sizes(*dims), sizes(*strides)) {
            (Some(offset), Some(dims), Some(strides)) if dims.len() == strides.len() => {
                let lazy = Lazy { element, storage, offset, dims, strides };
                lazy.check()?;
                Ok(lazy)
            }
            _ => bail!("expected a tensor of at most {MAX_RANK} dimensions with strides"),
        }
    }

    /// Refuses views that reach out of the storage, or have more elements than it.
    fn check(&self) -> Result<()> {
        let available = self.storage.len() / self.element.size();
        let count = self.dims.iter().try_fold(1usize, |count, dim| count.checked_mul(*dim));
        let last =
            self.dims.iter().zip(&self.strides).try_fold(self.offset, |last, (dim, stride)| {
                last.checked_add(dim.checked_sub(1)?.checked_mul(*stride)?)
            });
        match (count, last) {
            (Some(count), Some(last)) if count <= available && last < available => Ok(()),
            _ => bail!(
                "expected a tensor within its storage of {available} elements, got {:?} from {}",
                self.dims,
                self.offset
            ),
        }
    }

    /// Bytes of the elements.
    fn num_bytes(&self) -> usize {
        self.dims.iter().product::<usize>() * self.element.size()
    }

    /// The elements in the order of the dimensions.
    fn values(&self) -> Vec<f32> {
        let count = self.dims.iter().product();
        let mut values = Vec::with_capacity(count);
        let (mut place, mut index) = ([0; MAX_RANK], self.offset);
        for _ in 0..count {
            values.push(self.at(index));
            for (axis, (dim, stride)) in self.dims.iter().zip(&self.strides).enumerate().rev() {
                place[axis] += 1;
                index += stride;
                if place[axis] < *dim {
                    break;
                }
                index -= dim * stride;
                place[axis] = 0;
            }
        }
        values
    }

    fn at(&self, index: usize) -> f32 {
        let size = self.element.size();
        let bytes = &self.storage[index * size..][..size];
        match *bytes {
            [a, b] if self.element == Element::F16 => f16::from_le_bytes([a, b]).to_f32(),
            [a, b] => bf16::from_le_bytes([a, b]).to_f32(),
            [a, b, c, d] => f32::from_le_bytes([a, b, c, d]),
            [a, b, c, d, e, f, g, h] => f64::from_le_bytes([a, b, c, d, e, f, g, h]) as f32,
            _ => unreachable!("whole numbers are refused before"),
        }
    }
}

/// What may still be taken of a file's tensors.
pub(super) struct Weights {
    num_bytes_left: usize,
}

impl Weights {
    /// For a file of so many bytes.
    pub(super) fn of_file(num_bytes: usize) -> Self {
        Self { num_bytes_left: num_bytes }
    }

    /// The elements in the order of the dimensions.
    ///
    /// # Errors
    /// Fails if they are whole numbers, or if all tensors together are larger than the file.
    pub(super) fn values(&mut self, lazy: &Lazy) -> Result<Vec<f32>> {
        if let Element::Whole(_) = lazy.element {
            bail!("expected floating-point numbers, got whole ones");
        }
        match self.num_bytes_left.checked_sub(lazy.num_bytes()) {
            Some(left) => self.num_bytes_left = left,
            None => bail!("expected tensors that are not larger than the file"),
        }
        Ok(lazy.values())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lazy<'a>(storage: &'a [u8], offset: usize, dims: &[usize], strides: &[usize]) -> Lazy<'a> {
        let (dims, strides) = (dims.to_vec(), strides.to_vec());
        Lazy { element: Element::F32, storage, offset, dims, strides }
    }

    fn storage() -> Vec<u8> {
        (0..12u8).flat_map(|value| f32::from(value).to_le_bytes()).collect()
    }

    #[test]
    fn strides_say_where_the_next_element_is() {
        let storage = storage();
        let values = |lazy: Lazy| {
            lazy.check().unwrap();
            lazy.values()
        };
        assert_eq!(values(lazy(&storage, 1, &[2, 3], &[3, 1])), [1., 2., 3., 4., 5., 6.]);
        assert_eq!(values(lazy(&storage, 0, &[2, 3], &[1, 2])), [0., 2., 4., 1., 3., 5.]);
        let channels_last = lazy(&storage, 0, &[1, 3, 2, 2], &[12, 1, 6, 3]);
        assert_eq!(values(channels_last), [0., 3., 6., 9., 1., 4., 7., 10., 2., 5., 8., 11.]);
        assert_eq!(values(lazy(&storage, 11, &[], &[])), [11.]);
    }

    #[test]
    fn elements_of_16_and_64_bits_are_read() {
        let of = |element: Element, storage: &[u8]| {
            Lazy { element, storage, offset: 0, dims: vec![1], strides: vec![1] }.values()[0]
        };
        assert_eq!(of(Element::F16, &f16::from_f32(-1.5).to_le_bytes()), -1.5);
        assert_eq!(of(Element::Bf16, &bf16::from_f32(-1.5).to_le_bytes()), -1.5);
        assert_eq!(of(Element::F64, &(-1.5f64).to_le_bytes()), -1.5);
    }

    #[test]
    fn a_view_has_no_more_than_its_storage() {
        let storage = storage();
        for (offset, dims, strides) in [
            (0, [13, 1], [1, 1]),
            (1, [12, 1], [1, 1]),
            (0, [1 << 40, 1 << 40], [0, 0]),
            (0, [13, 1], [0, 0]),
            (0, [2, 2], [usize::MAX, usize::MAX]),
            (usize::MAX, [1, 1], [1, 1]),
            (0, [0, 1], [1, 1]),
        ] {
            let lazy = lazy(&storage, offset, &dims, &strides);
            assert!(lazy.check().is_err(), "{dims:?} from {offset}");
        }
    }

    #[test]
    fn all_tensors_have_no_more_than_the_file() {
        let storage = storage();
        let mut weights = Weights::of_file(100);
        let all = lazy(&storage, 0, &[12], &[1]);
        assert!(weights.values(&all).is_ok());
        assert!(weights.values(&all).is_ok());
        let error = weights.values(&all).unwrap_err().to_string();
        assert!(error.contains("not larger than the file"), "{error}");
        let whole = Lazy { element: Element::Whole(4), ..all };
        assert!(Weights::of_file(100).values(&whole).unwrap_err().to_string().contains("whole"));
    }
}
