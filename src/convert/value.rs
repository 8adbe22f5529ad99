//! What a pickle says, as data: a table of values that refer to each other by index.
//!
//! What Python would call is written down, not done: an [`Object`] is the name of a function or
//! class, its arguments and what was put into it. Values may refer to each other in circles and by
//! many ways, so nobody walks through them without counting; the table itself is dropped as one
//! vector, however deep its values are nested.

use candle_core::{Result, bail};

use super::printable;

/// Longest mapping or sequence that is searched or walked through.
const MAX_MEMBERS: usize = 4096;
/// Longest name of a class, of a tensor, of a global.
pub(super) const MAX_NAME: usize = 200;
/// Most names that an error lists.
const MAX_NAMES: usize = 8;

/// Index of a value in its [`Table`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id(pub(super) u32);

/// Some bytes of the file, and where they lie in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

/// Type of the elements of a storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    F16,
    Bf16,
    F32,
    F64,
    /// Integers and booleans of so many bytes, which no weight is made of.
    Whole(usize),
}

impl Element {
    /// Bytes of one element.
    pub(super) fn size(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
            Self::Whole(size) => size,
        }
    }
}

/// A function or class that a file may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    /// An object that carries its class as text, as the reference's networks do.
    PersistentObject,
    /// A dictionary: plain, ordered, with attributes, or of command-line arguments.
    Dictionary,
    Set,
    RebuildParameter,
    RebuildTensor,
    LoadFromBytes,
    Storage(Element),
    NumpyScalar,
    NumpyDtype,
    /// How bytes are written in protocol 2: as text, and its encoding.
    Encode,
}

impl Global {
    /// The known global of this name.
    pub(super) fn find(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("torch_utils.persistence", "_reconstruct_persistent_obj") => Self::PersistentObject,
            ("dnnlib.util" | "dnnlib", "EasyDict")
            | ("collections", "OrderedDict")
            | ("argparse", "Namespace") => Self::Dictionary,
            ("builtins" | "__builtin__", "set") => Self::Set,
            ("torch._utils", "_rebuild_parameter") => Self::RebuildParameter,
            ("torch._utils", "_rebuild_tensor_v2") => Self::RebuildTensor,
            ("torch.storage", "_load_from_bytes") => Self::LoadFromBytes,
            ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Self::NumpyScalar,
            ("numpy", "dtype") => Self::NumpyDtype,
            ("_codecs", "encode") => Self::Encode,
            ("torch", "HalfStorage") => Self::Storage(Element::F16),
            ("torch", "BFloat16Storage") => Self::Storage(Element::Bf16),
            ("torch", "FloatStorage") => Self::Storage(Element::F32),
            ("torch", "DoubleStorage") => Self::Storage(Element::F64),
            ("torch", "LongStorage") => Self::Storage(Element::Whole(8)),
            ("torch", "IntStorage") => Self::Storage(Element::Whole(4)),
            ("torch", "ShortStorage") => Self::Storage(Element::Whole(2)),
            ("torch", "CharStorage" | "ByteStorage" | "BoolStorage") => {
                Self::Storage(Element::Whole(1))
            }
            _ => return None,
        })
    }
}

/// One value.
#[derive(Debug)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// A whole number of more than 64 bits, as its little-endian bytes.
    Long(&'a [u8]),
    Float(f64),
    Text(&'a str),
    Bytes(Span<'a>),
    /// A tuple, a list or a set.
    Sequence(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Object(Box<Object>),
    /// A reference to something outside of the pickle.
    Persistent(Id),
}

/// What Python would make by a call.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) callable: Global,
    pub(super) args: Id,
    /// What it holds where it is a dictionary.
    pub(super) items: Vec<(Id, Id)>,
    pub(super) state: Option<Id>,
}

/// All values of one pickle, and which of them is its content.
#[derive(Debug)]
pub(super) struct Table<'a> {
    pub(super) values: Vec<Value<'a>>,
    pub(super) root: Id,
}

impl<'a> Table<'a> {
    pub(super) fn get(&self, id: Id) -> &Value<'a> {
        &self.values[id.0 as usize]
    }

    /// The members of a dictionary of any kind; `None` if it is something else.
    ///
    /// # Errors
    /// Fails if there are more than anybody writes.
    pub(super) fn members(&self, id: Id) -> Result<Option<&[(Id, Id)]>> {
        let members = match self.get(id) {
            Value::Dict(items) => items,
            Value::Object(object) if object.callable == Global::Dictionary => &object.items,
            _ => return Ok(None),
        };
        if members.len() > MAX_MEMBERS {
            bail!("expected at most {MAX_MEMBERS} members of a mapping, got {}", members.len());
        }
        Ok(Some(members))
    }

    /// The member `key` of a dictionary; `None` if it has none or is something else.
    ///
    /// # Errors
    /// As [`Table::members`].
    pub(super) fn member(&self, id: Id, key: &str) -> Result<Option<Id>> {
        let members = self.members(id)?.unwrap_or_default();
        // Python keeps the last one.
        Ok(members.iter().rev().find(|(name, _)| self.text(*name) == Some(key)).map(|(_, id)| *id))
    }

    /// The member `key` of a dictionary.
    ///
    /// # Errors
    /// Fails, naming it as part of `what` and saying what there is, if it is missing.
    pub(super) fn expect(&self, id: Id, key: &str, what: &str) -> Result<Id> {
        if let Some(id) = self.member(id, key)? {
            return Ok(id);
        }
        let members = self.members(id)?.unwrap_or_default().iter();
        let names = members.filter_map(|(name, _)| self.text(*name)).take(MAX_NAMES);
        let names: Vec<String> = names.map(printable).collect();
        let came = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        bail!("{}: expected an entry \"{key}\", got {came}", printable(what))
    }

    /// A text that is short enough for a name.
    pub(super) fn name(&self, id: Id) -> Option<&'a str> {
        self.text(id).filter(|text| text.len() <= MAX_NAME)
    }

    fn text(&self, id: Id) -> Option<&'a str> {
        match self.get(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A number that is neither negative nor above 2^48.
    pub(super) fn size(&self, id: Id) -> Option<usize> {
        match self.get(id) {
            Value::Int(value) if (0..=1 << 48).contains(value) => usize::try_from(*value).ok(),
            _ => None,
        }
    }

    /// A number of any kind, numpy's included.
    pub(super) fn number(&self, id: Id) -> Option<f64> {
        match self.get(id) {
            Value::Int(value) => Some(*value as f64),
            Value::Float(value) => Some(*value),
            Value::Object(object) if object.callable == Global::NumpyScalar => {
                let [_, bytes] = self.sequence(object.args)? else { return None };
                match self.get(*bytes) {
                    Value::Bytes(span) => Some(f64::from_le_bytes(span.bytes.try_into().ok()?)),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    pub(super) fn sequence(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Value::Sequence(ids) if ids.len() <= MAX_MEMBERS => Some(ids),
            _ => None,
        }
    }

    /// The arguments of what `callable` would make.
    pub(super) fn args_of(&self, id: Id, callable: Global) -> Option<&[Id]> {
        match self.get(id) {
            Value::Object(object) if object.callable == callable => self.sequence(object.args),
            _ => None,
        }
    }
}
