//! Reads a Python pickle without doing what it says.
//!
//! Only opcodes that pickles of networks are made of are understood, of protocols 2 to 5, and only
//! globals that [`Global::find`] knows; a call is noted as an [`Object`]. The first byte that is
//! anything else ends it. Texts and bytes stay where they are in the file. Numbers of steps and of
//! values are bounded, and no step recurses, so no file costs more than some 100 MB or a second.
//!
//! Reference: Python's `pickletools`, whose documentation of the opcodes is the specification.

use std::collections::HashMap;

use candle_core::{Result, bail};

use super::printable;
use super::value::{Global, Id, MAX_NAME, Object, Span, Table, Value};

/// Most values of a pickle: a snapshot at 1024 pixels has some 20,000.
const MAX_VALUES: usize = 1 << 19;
/// Most opcodes of a pickle.
pub(super) const MAX_STEPS: usize = 1 << 21;

/// Reads one pickle at the begin of `span`, of at most `max_steps` opcodes.
///
/// Returns its values and how many bytes it has.
///
/// # Errors
/// Fails, saying where, at the first thing that is not understood.
pub(super) fn unpickle(span: Span<'_>, max_steps: usize) -> Result<(Table<'_>, usize)> {
    let mut machine = Machine {
        span,
        pos: 0,
        values: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    for _ in 0..max_steps {
        let start = machine.pos;
        let step = machine.step();
        match step {
            Ok(None) => {}
            Ok(Some(root)) => return Ok((Table { values: machine.values, root }, machine.pos)),
            Err(error) => bail!("byte {}: {error}", span.at + start),
        }
    }
    bail!("byte {}: expected a pickle of at most {max_steps} opcodes", span.at)
}

struct Machine<'a> {
    span: Span<'a>,
    pos: usize,
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    /// Heights of the stack at the open marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    /// One opcode; the content at the last one.
    fn step(&mut self) -> Result<Option<Id>> {
        let opcode = self.byte()?;
        match opcode {
            0x80 => match self.byte()? {
                2..=5 => {}
                protocol => bail!("expected pickle protocol 2 to 5, got {protocol}"),
            },
            0x95 => _ = self.take(8)?, // a frame, for those who read ahead
            b'.' => return self.pop().map(Some),
            b'(' => self.marks.push(self.stack.len()),
            b'N' => self.push(Value::None)?,
            0x88 => self.push(Value::Bool(true))?,
            0x89 => self.push(Value::Bool(false))?,
            b'K' | b'M' | b'J' | 0x8a | 0x8b | b'G' => self.number(opcode)?,
            0x8c | b'X' | 0x8d => self.text(opcode)?,
            b'C' | b'B' | 0x8e => self.bytes(opcode)?,
            b')' | b'l' | b']' | b't' | 0x85..=0x87 | 0x8f | 0x90 | b'a' | b'e' => {
                self.sequence(opcode)?;
            }
            b'}' | b'd' | b's' | b'u' => self.dict(opcode)?,
            b'q' | b'r' | 0x94 | b'h' | b'j' => self.memo(opcode)?,
            b'c' | 0x93 => self.global(opcode)?,
            b'R' | 0x81 => self.call()?,
            b'b' => self.build()?,
            b'Q' => {
                let id = self.pop()?;
                self.push(Value::Persistent(id))?;
            }
            _ => bail!(
                "opcode 0x{opcode:02x} is not read here; expected a snapshot of StyleGAN2 and nothing else"
            ),
        }
        Ok(None)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let rest = &self.span.bytes[self.pos..];
        let Some(taken) = rest.get(..count) else {
            bail!("expected {count} more bytes, got {}; the file is cut off", rest.len());
        };
        self.pos += count;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    /// A little-endian number of up to 8 bytes without sign.
    fn unsigned(&mut self, count: usize) -> Result<u64> {
        let taken = self.take(count)?;
        Ok(taken.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    fn length(&mut self, count: usize) -> Result<usize> {
        Ok(usize::try_from(self.unsigned(count)?).unwrap_or(usize::MAX))
    }

    fn push(&mut self, value: Value<'a>) -> Result<()> {
        if self.values.len() >= MAX_VALUES {
            bail!("expected at most {MAX_VALUES} values");
        }
        self.values.push(value);
        self.stack.push(Id(self.values.len() as u32 - 1));
        Ok(())
    }

    fn pop(&mut self) -> Result<Id> {
        // What lies below an open mark belongs to whoever closes it.
        if self.stack.len() <= self.marks.last().copied().unwrap_or(0) {
            bail!("expected a value on the stack, got none; the file is damaged");
        }
        Ok(self.stack.pop().expect("the stack is higher than some height"))
    }

    /// All values above the last mark.
    fn pop_mark(&mut self) -> Result<Vec<Id>> {
        match self.marks.pop() {
            Some(height) if height <= self.stack.len() => Ok(self.stack.split_off(height)),
            _ => bail!("expected a mark on the stack, got none; the file is damaged"),
        }
    }

    fn top(&mut self) -> Result<&mut Value<'a>> {
        let id = self.pop()?;
        self.stack.push(id);
        Ok(&mut self.values[id.0 as usize])
    }

    fn number(&mut self, opcode: u8) -> Result<()> {
        let value = match opcode {
            b'K' => Value::Int(i64::from(self.byte()?)),
            b'M' => Value::Int(self.unsigned(2)? as i64),
            b'J' => Value::Int(i64::from(self.unsigned(4)? as u32 as i32)),
            b'G' => {
                let taken = self.take(8)?;
                Value::Float(f64::from_be_bytes(taken.try_into().expect("8 bytes were taken")))
            }
            _ => {
                let count = self.length(if opcode == 0x8a { 1 } else { 4 })?;
                long(self.take(count)?)
            }
        };
        self.push(value)
    }

    fn text(&mut self, opcode: u8) -> Result<()> {
        let count = self.length(if opcode == 0x8c {
            1
        } else if opcode == b'X' {
            4
        } else {
            8
        })?;
        match std::str::from_utf8(self.take(count)?) {
            Ok(text) => self.push(Value::Text(text)),
            Err(_) => bail!("expected text in UTF-8"),
        }
    }

    fn bytes(&mut self, opcode: u8) -> Result<()> {
        let count = self.length(if opcode == b'C' {
            1
        } else if opcode == b'B' {
            4
        } else {
            8
        })?;
        let at = self.span.at + self.pos;
        let bytes = self.take(count)?;
        self.push(Value::Bytes(Span { bytes, at }))
    }

    /// Tuples, lists and sets, and what is put into them.
    fn sequence(&mut self, opcode: u8) -> Result<()> {
        let ids = match opcode {
            b')' | b']' | 0x8f => Vec::new(),
            0x85..=0x87 => {
                let count = usize::from(opcode - 0x84);
                let mut ids = (0..count).map(|_| self.pop()).collect::<Result<Vec<_>>>()?;
                ids.reverse();
                ids
            }
            b'l' | b't' => self.pop_mark()?,
            _ => {
                let added = if opcode == b'a' { vec![self.pop()?] } else { self.pop_mark()? };
                let Value::Sequence(ids) = self.top()? else {
                    bail!("expected a list to append to; the file is damaged");
                };
                ids.extend(added);
                return Ok(());
            }
        };
        self.push(Value::Sequence(ids))
    }

    /// Dictionaries, and what is put into them.
    fn dict(&mut self, opcode: u8) -> Result<()> {
        let flat = match opcode {
            b'}' => Vec::new(),
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.pop_mark()?,
        };
        let (pairs, rest) = flat.as_chunks::<2>();
        if !rest.is_empty() {
            bail!("expected a value for every key; the file is damaged");
        }
        let added = pairs.iter().map(|[key, value]| (*key, *value));
        if matches!(opcode, b'}' | b'd') {
            return self.push(Value::Dict(added.collect()));
        }
        match self.top()? {
            Value::Dict(items) => items.extend(added),
            Value::Object(object) if object.callable == Global::Dictionary => {
                object.items.extend(added);
            }
            _ => bail!("expected a dictionary to put items into"),
        }
        Ok(())
    }

    fn memo(&mut self, opcode: u8) -> Result<()> {
        let index = match opcode {
            0x94 => self.memo.len() as u32,
            b'q' | b'h' => u32::from(self.byte()?),
            _ => self.unsigned(4)? as u32,
        };
        if matches!(opcode, b'h' | b'j') {
            let Some(id) = self.memo.get(&index) else {
                bail!("expected a value that was met before; the file is damaged");
            };
            if self.stack.len() >= MAX_VALUES {
                bail!("expected at most {MAX_VALUES} values on the stack");
            }
            self.stack.push(*id);
            return Ok(());
        }
        let id = self.pop()?;
        self.stack.push(id);
        if self.memo.len() >= MAX_VALUES {
            bail!("expected at most {MAX_VALUES} values to remember");
        }
        self.memo.insert(index, id);
        Ok(())
    }

    fn line(&mut self) -> Result<&'a str> {
        let rest = &self.span.bytes[self.pos..];
        let window = &rest[..rest.len().min(MAX_NAME)];
        let count = window.iter().position(|byte| *byte == b'\n').unwrap_or(window.len());
        let taken = self.take(count + 1)?;
        match std::str::from_utf8(&taken[..count]) {
            Ok(text) if taken[count] == b'\n' => Ok(text),
            _ => bail!("expected the name of a module or of a class, one to a line"),
        }
    }

    fn global(&mut self, opcode: u8) -> Result<()> {
        let (module, name) = if opcode == b'c' {
            (self.line()?, self.line()?)
        } else {
            let (name, module) = (self.pop()?, self.pop()?);
            let text = |id: Id| match &self.values[id.0 as usize] {
                Value::Text(text) => Ok(*text),
                _ => bail!("expected the name of a global as text"),
            };
            (text(module)?, text(name)?)
        };
        let Some(global) = Global::find(module, name) else {
            let cure = if module.starts_with("dnnlib.tflib") {
                "this is a TensorFlow snapshot, which the PyTorch tools can turn into one of theirs"
            } else {
                "nothing of the file was run; expected a snapshot of StyleGAN2 and nothing else"
            };
            bail!("{}.{} is not known here; {cure}", printable(module), printable(name));
        };
        self.push(Value::Global(global))
    }

    /// A call, or a new object of a class: both are noted down.
    fn call(&mut self) -> Result<()> {
        let (args, callable) = (self.pop()?, self.pop()?);
        match (&self.values[callable.0 as usize], &self.values[args.0 as usize]) {
            (Value::Global(Global::Storage(_)), _) => {
                bail!("expected no call of a type of storage");
            }
            (Value::Global(callable), Value::Sequence(_)) => {
                let callable = *callable;
                let object = Object { callable, args, items: Vec::new(), state: None };
                self.push(Value::Object(Box::new(object)))
            }
            _ => bail!("expected a function and its arguments; the file is damaged"),
        }
    }

    fn build(&mut self) -> Result<()> {
        let state = self.pop()?;
        match self.top()? {
            Value::Object(object) if object.state.is_none() => object.state = Some(state),
            _ => bail!("expected a new object to give its state to"),
        }
        Ok(())
    }
}

/// A whole number in as few bytes as it needs, two's complement.
fn long(bytes: &[u8]) -> Value<'_> {
    if bytes.len() > 8 {
        return Value::Long(bytes);
    }
    let is_negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let begin = if is_negative { -1 } else { 0 };
    Value::Int(bytes.iter().rev().fold(begin, |value, byte| value << 8 | i64::from(*byte)))
}
