//! The mark of what real pictures are made of.

use candle_core::{Result, Tensor};

/// A value that holds real pictures, or is made of them.
///
/// It cannot be printed, logged, serialized or compared, and what writes files does not take it. Those
/// who compute with it call [`Private::expose`]; `tests/layers.rs` has the list of the files that do.
///
/// What is made of a batch stays private:
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// # use stylegan2_c2d::data::Private;
/// let pictures = Private::new(Tensor::zeros((4, 3, 8, 8), DType::F32, &Device::Cpu)?);
/// let two = pictures.map(|img| img.narrow(0, 1, 2))?;
/// assert_eq!(two.expose().dims(), [2, 3, 8, 8]);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// Nothing prints it:
///
/// ```compile_fail,E0277
/// # use stylegan2_c2d::data::Private;
/// println!("{:?}", Private::new(1u8));
/// ```
/// ```compile_fail,E0277
/// # use stylegan2_c2d::data::Private;
/// println!("{}", Private::new(1u8));
/// ```
/// ```compile_fail,E0277
/// # use stylegan2_c2d::data::Private;
/// fn log(set: &stylegan2_c2d::data::Dataset) {
///     println!("{set:?}");
/// }
/// ```
///
/// Nothing serializes it:
///
/// ```compile_fail,E0277
/// # use stylegan2_c2d::data::Private;
/// serde_json::to_string(&Private::new(1u8)).unwrap();
/// ```
/// ```compile_fail,E0277
/// fn json(set: &stylegan2_c2d::data::Dataset) -> String {
///     serde_json::to_string(set).unwrap()
/// }
/// ```
///
/// It does not turn into what it holds:
///
/// ```compile_fail,E0308
/// # use stylegan2_c2d::data::Private;
/// let pixels: &[u8] = &Private::new(vec![1u8]);
/// ```
/// ```compile_fail,E0616
/// # use stylegan2_c2d::data::Private;
/// let pixels = Private::new(vec![1u8]).0;
/// ```
/// ```compile_fail,E0277
/// # use stylegan2_c2d::data::Private;
/// std::fs::write("pixels", Private::new(vec![1u8])).unwrap();
/// ```
#[derive(Clone)]
pub struct Private<T>(T);

impl<T> Private<T> {
    /// Marks a value.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value, for computing.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl Private<Tensor> {
    /// What `f` makes of the pictures, private as they are.
    ///
    /// # Errors
    /// As `f` fails.
    pub fn map(&self, f: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Self> {
        f(&self.0).map(Self)
    }
}
