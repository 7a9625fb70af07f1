//! Holds bytes against a descriptor, without decoding them: each byte is looked at once.
//!
//! Fields that the descriptor does not know are passed over, as protobuf has it: a producer may be ahead of its schema. So are
//! numbers that an enum does not have.

use std::str;

use super::reader::{Reader, WireType};
use super::shapes::{Field, Form, ProtobufSchema, Shape};
use crate::schema::fault::Misfit;

/// Messages in each other at most, as in the decoders of most languages.
const DEPTH_MAX: usize = 100;

impl ProtobufSchema {
    pub(in crate::schema) fn check(&self, body: &[u8]) -> Result<(), Misfit> {
        let Some(root) = self.shapes.first() else { return Ok(()) };
        let mut reader = Reader::new(body, 0);
        self.check_message(root, &mut reader, None, DEPTH_MAX).map_err(|wrong| wrong.misfit(root))
    }

    /// Reads a message up to the end of its bytes, or of the group with this number.
    fn check_message(
        &self,
        shape: &Shape,
        reader: &mut Reader<'_>,
        group: Option<u32>,
        depth_left: usize,
    ) -> Result<(), Wrong> {
        let start = reader.clone();
        let mut seen = vec![false; shape.required];
        loop {
            if reader.is_done() {
                if group.is_some() {
                    return Err(Wrong::bytes(reader, "the end of a group"));
                }
                break;
            }
            let key = reader.clone();
            let Some((number, wire_type)) = reader.key() else {
                return Err(Wrong::bytes(&key, "the number of a field"));
            };
            if wire_type == WireType::GroupEnd {
                if group != Some(number) {
                    return Err(Wrong::bytes(&key, "a field, and not the end of a group that did not begin"));
                }
                break;
            }
            match shape.field(number) {
                None => skip(reader, number, wire_type, depth_left)
                    .map_err(|()| Wrong::bytes(reader, "a whole field"))?,
                Some(field) => {
                    if let Some(seen) = field.required.and_then(|place| seen.get_mut(place)) {
                        *seen = true;
                    }
                    self.check_field(field, wire_type, reader, depth_left)
                        .map_err(|wrong| wrong.within(field, &start, &key))?;
                }
            }
        }
        let absent = |field: &&Field| field.required.is_some_and(|place| seen.get(place) == Some(&false));
        match shape.fields.iter().find(absent) {
            Some(field) => Err(Wrong::value("present", "absent".to_owned()).within(field, &start, &start)),
            None => Ok(()),
        }
    }

    fn check_field(
        &self,
        field: &Field,
        wire_type: WireType,
        reader: &mut Reader<'_>,
        depth_left: usize,
    ) -> Result<(), Wrong> {
        let cut = |reader: &Reader<'_>| Wrong::bytes(reader, "a whole field");
        match (field.form, wire_type) {
            (Form::Varint, WireType::Varint)
            | (Form::Fixed32, WireType::Fixed32)
            | (Form::Fixed64, WireType::Fixed64)
            | (Form::Bytes, WireType::Length) => reader.skip(wire_type).ok_or_else(|| cut(reader)),
            (Form::Text, WireType::Length) => {
                let bytes = reader.bytes().ok_or_else(|| cut(reader))?;
                match str::from_utf8(bytes) {
                    Ok(_) => Ok(()),
                    Err(_) => {
                        Err(Wrong::value("a text in UTF-8", format!("{} bytes that are none", bytes.len())))
                    }
                }
            }
            (Form::Varint | Form::Fixed32 | Form::Fixed64, WireType::Length) if field.repeated => {
                let bytes = reader.bytes().ok_or_else(|| cut(reader))?;
                check_packed(field.form, bytes, reader.position - bytes.len())
            }
            (Form::Message(number), WireType::Length) => {
                let bytes = reader.bytes().ok_or_else(|| cut(reader))?;
                let shape = self.shape(number, depth_left)?;
                let mut inner = Reader::new(bytes, reader.position - bytes.len());
                self.check_message(shape, &mut inner, None, depth_left - 1)
            }
            (Form::Group(number), WireType::GroupStart) => {
                let shape = self.shape(number, depth_left)?;
                self.check_message(shape, reader, Some(field.number), depth_left - 1)
            }
            _ => Err(Wrong::value(field.type_name.to_string(), wire_type.words().to_owned())),
        }
    }

    fn shape(&self, number: usize, depth_left: usize) -> Result<&Shape, Wrong> {
        match self.shapes.get(number) {
            Some(shape) if depth_left > 0 => Ok(shape),
            _ => Err(Wrong::value(format!("{DEPTH_MAX} messages in each other at most"), "more".to_owned())),
        }
    }
}

/// Passes a field that nobody knows.
fn skip(reader: &mut Reader<'_>, number: u32, wire_type: WireType, depth_left: usize) -> Result<(), ()> {
    if wire_type != WireType::GroupStart {
        return reader.skip(wire_type).ok_or(());
    }
    let Some(depth_left) = depth_left.checked_sub(1) else { return Err(()) };
    loop {
        match reader.key().ok_or(())? {
            (end, WireType::GroupEnd) if end == number => return Ok(()),
            (_, WireType::GroupEnd) => return Err(()),
            (inner, wire_type) => skip(reader, inner, wire_type, depth_left)?,
        }
    }
}

fn check_packed(form: Form, bytes: &[u8], position: usize) -> Result<(), Wrong> {
    let mut reader = Reader::new(bytes, position);
    let wire_type = match form {
        Form::Fixed32 => WireType::Fixed32,
        Form::Fixed64 => WireType::Fixed64,
        _ => WireType::Varint,
    };
    while !reader.is_done() {
        reader.skip(wire_type).ok_or_else(|| Wrong::bytes(&reader, "a whole number"))?;
    }
    Ok(())
}

/// How often a field comes before a place.
fn occurrences(start: &Reader<'_>, position: usize, number: u32) -> usize {
    let mut reader = start.clone();
    let mut count = 0;
    while reader.position < position && !reader.is_done() {
        let Some((found, wire_type)) = reader.key() else { break };
        if wire_type == WireType::GroupEnd || skip(&mut reader, found, wire_type, DEPTH_MAX).is_err() {
            break;
        }
        count += usize::from(found == number);
    }
    count
}

/// What is wrong, and where: the path is made from its end, as the messages around it are left.
struct Wrong {
    path: Vec<String>,
    expected: String,
    got: String,
}

impl Wrong {
    fn value(expected: impl Into<String>, got: String) -> Self {
        Self { path: Vec::new(), expected: expected.into(), got }
    }

    fn bytes(at: &Reader<'_>, expected: &str) -> Self {
        Self::value(expected, format!("other bytes, or too few, at byte {}", at.position))
    }

    fn within(mut self, field: &Field, start: &Reader<'_>, key: &Reader<'_>) -> Self {
        self.path.push(match field.repeated {
            true => format!("{}[{}]", field.name, occurrences(start, key.position, field.number)),
            false => field.name.to_string(),
        });
        self
    }

    fn misfit(self, root: &Shape) -> Misfit {
        let mut field = "body".to_owned();
        for name in self.path.iter().rev() {
            field.push('.');
            field.push_str(name);
        }
        let mut misfit = Misfit::new(field, self.expected, self.got);
        misfit.rule = root.name.to_string();
        misfit
    }
}
