//! What `torch.save` writes: a pickle, and the storages that its tensors are views of.
//!
//! Two containers: since PyTorch 1.6 a zip whose entries are stored as they are, before it five
//! pickles and the data of the storages one after the other. The reference's snapshots are plain
//! pickles in which each storage is a byte string of the older container.
//!
//! Nothing is copied: storages are slices of the file.

use std::collections::HashMap;
use std::io::Cursor;

use candle_core::{Result, bail};
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
const MAX_STORAGE_STEPS: usize = 200;
/// Longest pickle in a zip.
const MAX_PICKLE: u64 = 64 << 20;

/// Where the storages of a pickle's tensors are.
pub(super) enum Storages<'a> {
    /// Beside the pickle, by key.
    Beside(HashMap<&'a str, &'a [u8]>),
    /// Inside, each as a byte string of the older container.
    Inside,
}

/// What a file that begins with a pickle or is a zip holds.
pub(super) enum Opened<'a> {
    /// What was given to `torch.save`.
    Saved(Table<'a>, Storages<'a>),
    /// A pickle of something else, and its bytes.
    Plain(Table<'a>, usize),
}

/// Reads either container, or a plain pickle.
///
/// # Errors
/// Fails, saying where, if something in it is not understood.
pub(super) fn open(span: Span<'_>) -> Result<Opened<'_>> {
    if span.bytes.starts_with(ZIP) { zipped(span) } else { unzipped(span, MAX_STEPS) }
}

/// The older container, or a plain pickle.
fn unzipped(span: Span<'_>, max_steps: usize) -> Result<Opened<'_>> {
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
        let key = keys.name(*key).and_then(|key| elements.get_key_value(key));
        let Some((key, element)) = key else {
            bail!("byte {}: expected a storage that a tensor is made of", rest.at);
        };
        storages.insert(*key, storage(&mut rest, *element)?);
    }
    Ok(Opened::Saved(table, Storages::Beside(storages)))
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
            if is_plain && table.name(*word) == Some("storage") =>
        {
            Some((table.name(*key)?, *element))
        }
        _ => None,
    }
}

/// The newer container: `NAME/data.pkl`, and a storage in each `NAME/data/KEY`.
fn zipped(span: Span<'_>) -> Result<Opened<'_>> {
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
    let (table, _) = unpickle(pickle, MAX_STEPS)?;
    let mut storages = HashMap::new();
    for key in elements(&table)?.into_keys() {
        storages.insert(key, entry(&format!("{root}data/{key}"))?.bytes);
    }
    Ok(Opened::Saved(table, Storages::Beside(storages)))
}

impl<'a> Storages<'a> {
    /// The bytes of the storage at `id`, and what they are.
    ///
    /// # Errors
    /// Fails if it is something else, or not there.
    pub(super) fn get(&self, table: &Table<'a>, id: Id) -> Result<(Element, &'a [u8])> {
        match (self, table.get(id)) {
            (Self::Beside(storages), Value::Persistent(id)) => {
                let found = reference(table, *id)
                    .and_then(|(key, element)| Some((element, *storages.get(key)?)));
                found.ok_or_else(|| candle_core::Error::msg("expected a storage that is there"))
            }
            (Self::Inside, _) => {
                let args = table.args_of(id, Global::LoadFromBytes);
                let Some(Value::Bytes(span)) =
                    args.and_then(|args| Some(table.get(*args.first()?)))
                else {
                    bail!("expected a storage as a byte string");
                };
                match unzipped(*span, MAX_STORAGE_STEPS)? {
                    Opened::Saved(table, storages) => storages.get(&table, table.root),
                    Opened::Plain(..) => {
                        bail!("byte {}: expected a storage of torch.save", span.at)
                    }
                }
            }
            _ => bail!("expected a tensor with a storage"),
        }
    }
}
