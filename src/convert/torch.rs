//! What `torch.save` writes: a pickle, and the storages that its tensors are views of.
//!
//! Two containers: since PyTorch 1.6 a zip whose entries are stored as they are, before it five
//! pickles and the data of the storages one after the other. The reference's snapshots are plain
//! pickles in which each storage is a byte string of the older container.
//!
//! Nothing is copied before [`Weights::values`]: storages are slices of the file. Together the
//! tensors that are taken may not have more bytes than the file, so that views of one storage
//! cannot make many out of few.

use std::collections::HashMap;
use std::io::Cursor;

use candle_core::{Result, bail};
use half::{bf16, f16};
use zip::{CompressionMethod, ZipArchive};

use super::pickle::{MAX_STEPS, unpickle};
use super::printable;
use super::value::{Element, Global, Id, Span, Table, Value};

/// Begin of a zip.
pub(super) const ZIP: &[u8] = b"PK\x03\x04";
/// The number that the first pickle of the older container holds, as its little-endian bytes.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// Version of the older container.
const PROTOCOL: i64 = 1001;
/// Most opcodes of the pickles around one storage.
const MAX_STORAGE_STEPS: usize = 1000;
/// Most dimensions of a tensor: one of a convolution's weights has 5 in some files.
const MAX_RANK: usize = 6;
/// Longest pickle in a zip.
const MAX_PICKLE: u64 = 64 << 20;

/// A file of `torch.save`.
pub(super) struct Saved<'a> {
    pub(super) table: Table<'a>,
    storages: HashMap<&'a str, &'a [u8]>,
}

/// What a file that begins with a pickle is.
pub(super) enum Opened<'a> {
    Saved(Saved<'a>),
    /// A pickle of something else, and its bytes.
    Plain(Table<'a>, usize),
}

/// Reads either container, or a plain pickle.
///
/// # Errors
/// Fails, saying where, if something in it is not understood.
pub(super) fn open(span: Span<'_>) -> Result<Opened<'_>> {
    open_within(span, MAX_STEPS)
}

fn open_within(span: Span<'_>, max_steps: usize) -> Result<Opened<'_>> {
    if span.bytes.starts_with(ZIP) {
        return zipped(span, max_steps).map(Opened::Saved);
    }
    let mut rest = span;
    let mut next = || {
        let (table, count) = unpickle(rest, max_steps)?;
        rest = Span { bytes: &rest.bytes[count..], at: rest.at + count };
        candle_core::Result::Ok(table)
    };
    let magic = next()?;
    if !matches!(magic.get(magic.root), Value::Long(bytes) if *bytes == MAGIC) {
        return Ok(Opened::Plain(magic, span.bytes.len() - rest.bytes.len()));
    }
    let protocol = next()?;
    if !matches!(protocol.get(protocol.root), Value::Int(PROTOCOL)) {
        bail!("byte {}: expected version {PROTOCOL} of the layout of torch.save", span.at);
    }
    let system = next()?;
    let little_endian = system.member(system.root, "little_endian")?;
    if !little_endian.is_none_or(|id| matches!(system.get(id), Value::Bool(true))) {
        bail!("byte {}: expected tensors in little-endian order; save them again", span.at);
    }
    let (table, keys) = (next()?, next()?);
    let elements = elements(&table)?;
    let mut storages = HashMap::new();
    for key in keys.sequence(keys.root).unwrap_or_default() {
        let key = keys.text(*key).and_then(|key| elements.get_key_value(key));
        let Some((key, element)) = key else {
            bail!("byte {}: expected a storage that a tensor is made of", rest.at);
        };
        storages.insert(*key, storage(&mut rest, *element)?);
    }
    Ok(Opened::Saved(Saved { table, storages }))
}

/// The next storage of the older container: how many elements, and those.
fn storage<'a>(rest: &mut Span<'a>, element: Element) -> Result<&'a [u8]> {
    let Some((count, data)) = rest.bytes.split_first_chunk::<8>() else {
        bail!("byte {}: expected the length of a storage; the file is cut off", rest.at);
    };
    let len = usize::try_from(u64::from_le_bytes(*count)).ok();
    let len = len.and_then(|count| count.checked_mul(element.size()));
    let Some((storage, tail)) = len.and_then(|len| data.split_at_checked(len)) else {
        bail!("byte {}: expected a storage that the file holds; it is cut off", rest.at);
    };
    *rest = Span { bytes: tail, at: rest.at + 8 + storage.len() };
    Ok(storage)
}

/// Types of the storages that are referred to, by key.
fn elements<'a>(table: &Table<'a>) -> Result<HashMap<&'a str, Element>> {
    let mut elements = HashMap::new();
    for value in &table.values {
        let Value::Persistent(id) = value else { continue };
        let Some((key, element)) = reference(table, *id) else {
            bail!("expected a reference to a storage, got another one");
        };
        if elements.insert(key, element).is_some_and(|before| before != element) {
            bail!("storage {}: expected one type of elements", printable(key));
        }
    }
    Ok(elements)
}

/// What `("storage", type, key, device, count, ..)` refers to.
fn reference<'a>(table: &Table<'a>, id: Id) -> Option<(&'a str, Element)> {
    let [word, class, key, _, _, view @ ..] = table.sequence(id)? else { return None };
    let is_plain = view.iter().all(|view| matches!(table.get(*view), Value::None));
    match table.get(*class) {
        Value::Global(Global::Storage(element))
            if is_plain && table.text(*word) == Some("storage") =>
        {
            Some((table.text(*key)?, *element))
        }
        _ => None,
    }
}

/// The newer container: `NAME/data.pkl`, and a storage in each `NAME/data/KEY`.
fn zipped(span: Span<'_>, max_steps: usize) -> Result<Saved<'_>> {
    let refused = |error| candle_core::Error::msg(format!("expected a whole zip: {error}"));
    let mut archive = ZipArchive::new(Cursor::new(span.bytes)).map_err(refused)?;
    let is_pickle = |name: &String| matches!(name.split_once('/'), Some((_, "data.pkl")));
    let names = archive.file_names_raw();
    let mut names = names.filter_map(|name| String::from_utf8(name.to_vec()).ok());
    let Some(pickle) = names.find(is_pickle) else {
        bail!("a zip, but not of torch.save: expected an entry data.pkl in it");
    };
    drop(names);
    let root = pickle.trim_end_matches("data.pkl").to_owned();
    let mut entry = |name: &str| -> Result<Span<'_>> {
        let file = archive.by_name(name).map_err(refused)?;
        if file.compression() != CompressionMethod::Stored || file.size() != file.compressed_size()
        {
            bail!("{}: expected an entry that is stored as it is", printable(name));
        }
        let (start, size) = (file.data_start(), file.size());
        let range = start.and_then(|start| Some((start, start.checked_add(size)?)));
        let bytes = range.and_then(|(start, end)| span.bytes.get(start as usize..end as usize));
        match bytes {
            Some(bytes) => Ok(Span { bytes, at: span.at + start.unwrap_or_default() as usize }),
            None => bail!("{}: expected an entry inside the file", printable(name)),
        }
    };
    let pickle = entry(&pickle)?;
    if pickle.bytes.len() as u64 > MAX_PICKLE {
        bail!("data.pkl: expected at most {MAX_PICKLE} bytes, got {}", pickle.bytes.len());
    }
    let (table, _) = unpickle(pickle, max_steps)?;
    let mut storages = HashMap::new();
    for key in elements(&table)?.into_keys() {
        storages.insert(key, entry(&format!("{root}data/{key}"))?.bytes);
    }
    Ok(Saved { table, storages })
}

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

/// Where the storages of a file's tensors are.
pub(super) enum Storages<'a> {
    /// Beside the pickle.
    Beside(HashMap<&'a str, &'a [u8]>),
    /// Inside, each as a byte string of `torch.save`.
    Inside,
}

impl<'a> Saved<'a> {
    /// The pickle, and where its storages are.
    pub(super) fn into_parts(self) -> (Table<'a>, Storages<'a>) {
        (self.table, Storages::Beside(self.storages))
    }
}

impl<'a> Storages<'a> {
    /// The tensor, or parameter, at `id`.
    ///
    /// # Errors
    /// Fails if it is something else, or reaches out of its storage.
    pub(super) fn tensor(&self, table: &Table<'a>, id: Id) -> Result<Lazy<'a>> {
        let parameter = table.args_of(id, Global::RebuildParameter);
        let id = parameter.and_then(|args| args.first().copied()).unwrap_or(id);
        let args = table.args_of(id, Global::RebuildTensor);
        let Some([storage, offset, dims, strides, ..]) = args else {
            bail!("expected a tensor");
        };
        let (element, storage) = self.storage(table, *storage)?;
        let sizes = |id: Id| -> Option<Vec<usize>> {
            table.sequence(id)?.iter().map(|size| table.size(*size)).collect()
        };
        match (table.size(*offset), sizes(*dims), sizes(*strides)) {
            (Some(offset), Some(dims), Some(strides))
                if dims.len() == strides.len() && dims.len() <= MAX_RANK =>
            {
                let lazy = Lazy { element, storage, offset, dims, strides };
                lazy.check()?;
                Ok(lazy)
            }
            _ => bail!("expected a tensor of at most {MAX_RANK} dimensions with strides"),
        }
    }

    fn storage(&self, table: &Table<'a>, id: Id) -> Result<(Element, &'a [u8])> {
        match (self, table.get(id)) {
            (Self::Beside(storages), Value::Persistent(id)) => {
                let found = reference(table, *id)
                    .and_then(|(key, element)| Some((element, *storages.get(key)?)));
                found.ok_or_else(|| candle_core::Error::msg("expected a storage that is there"))
            }
            (Self::Inside, Value::Object(object)) if object.callable == Global::LoadFromBytes => {
                let Some([bytes]) = table.sequence(object.args) else {
                    bail!("expected a storage as a byte string");
                };
                let Value::Bytes(span) = table.get(*bytes) else {
                    bail!("expected a storage as a byte string");
                };
                match open_within(*span, MAX_STORAGE_STEPS)? {
                    Opened::Saved(Saved { table, storages }) => {
                        let root = table.root;
                        Storages::Beside(storages).storage(&table, root)
                    }
                    Opened::Plain(..) => {
                        bail!("byte {}: expected a storage of torch.save", span.at)
                    }
                }
            }
            _ => bail!("expected a tensor with a storage"),
        }
    }
}

impl Lazy<'_> {
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
        let mut indices = vec![lazy.offset];
        for (dim, stride) in lazy.dims.iter().zip(&lazy.strides) {
            let steps = |start: usize| (0..*dim).map(move |i| start + i * stride);
            indices = indices.into_iter().flat_map(steps).collect();
        }
        Ok(indices.into_iter().map(|index| lazy.at(index)).collect())
    }
}
