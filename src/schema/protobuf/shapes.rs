//! A descriptor, compiled into what bytes are held against: the fields of each message by number.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

use crate::schema::fault::SchemaFault;

/// Messages that a schema is made of.
const MESSAGES_MAX: usize = 1024;
/// A full name of a message, in bytes.
const FULL_NAME_BYTES_MAX: usize = 512;
/// Messages that are shown where one is not found.
const SHOWN_MESSAGES_MAX: usize = 8;

/// A message, and all that can be in it.
#[derive(Debug)]
pub(in crate::schema) struct ProtobufSchema {
    /// The first is that of the body.
    pub(super) shapes: Vec<Shape>,
}

#[derive(Debug)]
pub(super) struct Shape {
    /// Full name.
    pub(super) name: Box<str>,
    /// In order of number.
    pub(super) fields: Vec<Field>,
    /// How many of them have to be there.
    pub(super) required: usize,
}

#[derive(Debug)]
pub(super) struct Field {
    pub(super) number: u32,
    pub(super) name: Box<str>,
    pub(super) form: Form,
    pub(super) repeated: bool,
    /// Which one it is of those that have to be there.
    pub(super) required: Option<usize>,
    /// Its type as it is written in a schema.
    pub(super) type_name: Box<str>,
}

/// What a field's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Varint,
    Fixed32,
    Fixed64,
    Text,
    Bytes,
    /// A message with the shape of this number.
    Message(usize),
    /// The same between two keys.
    Group(usize),
}

impl ProtobufSchema {
    /// Compiles what `protoc --include_imports --descriptor_set_out` writes.
    pub(in crate::schema) fn compile(source: &[u8], message: &str) -> Result<Self, SchemaFault> {
        let expected =
            "a FileDescriptorSet with its imports: protoc --include_imports --descriptor_set_out=FILE";
        let set = FileDescriptorSet::decode(source)
            .map_err(|error| SchemaFault::new("is no descriptor", expected, error))?;
        let mut types = Types::default();
        for file in &set.file {
            if !matches!(file.syntax(), "" | "proto2" | "proto3") {
                let text = "has a file in a language that is not known";
                return Err(SchemaFault::new(text, "proto2 or proto3", file.syntax()).at(file.name()));
            }
            let package =
                if file.package().is_empty() { String::new() } else { format!(".{}", file.package()) };
            types.add(&package, &file.message_type, &file.enum_type)?;
        }
        if !types.messages.contains_key(&*format!(".{message}")) {
            let names =
                types.messages.keys().take(SHOWN_MESSAGES_MAX).map(|name| name.trim_start_matches('.'));
            let names = names.collect::<Vec<_>>().join(", ");
            let expected = match &*names {
                "" => "a descriptor with a message in it".to_owned(),
                names => format!("the full name of a message in it, such as {names}"),
            };
            return Err(SchemaFault::new("has no message of that name", expected, message).at("message"));
        }
        let mut numbers = Numbers::default();
        numbers.of(&format!(".{message}"));
        let mut shapes = Vec::new();
        while let Some(name) = numbers.found.get(shapes.len()).cloned() {
            if shapes.len() == MESSAGES_MAX {
                let expected = format!("{MESSAGES_MAX} messages in each other at most");
                return Err(SchemaFault::new("is too large", expected, "more").at(&*name));
            }
            shapes.push(shape(&name, &types, &mut numbers)?);
        }
        Ok(Self { shapes })
    }
}

fn shape(name: &str, types: &Types<'_>, numbers: &mut Numbers) -> Result<Shape, SchemaFault> {
    let message = types.messages.get(name).copied().ok_or_else(|| missing(name))?;
    let mut fields = Vec::with_capacity(message.field.len());
    let mut required = 0;
    for descriptor in &message.field {
        let place = format!("{}.{}", name.trim_start_matches('.'), descriptor.name());
        let mut field = field(descriptor, types, numbers).map_err(|fault| fault.at(place))?;
        if descriptor.label == Some(Label::Required as i32) {
            field.required = Some(required);
            required += 1;
        }
        fields.push(field);
    }
    fields.sort_by_key(|field| field.number);
    Ok(Shape { name: name.trim_start_matches('.').into(), fields, required })
}

fn field(
    descriptor: &FieldDescriptorProto,
    types: &Types<'_>,
    numbers: &mut Numbers,
) -> Result<Field, SchemaFault> {
    let number = u32::try_from(descriptor.number()).ok().filter(|number| (1..1 << 29).contains(number));
    let number = number.ok_or_else(|| {
        SchemaFault::new("has a field with an impossible number", "1 to 536870911", descriptor.number())
    })?;
    let kind = descriptor.r#type.and_then(|kind| Type::try_from(kind).ok());
    let kind = kind.ok_or_else(|| {
        SchemaFault::new("has a field of no known type", "a type of protobuf", descriptor.type_name())
    })?;
    let named = descriptor.type_name();
    let form = match kind {
        Type::Double | Type::Fixed64 | Type::Sfixed64 => Form::Fixed64,
        Type::Float | Type::Fixed32 | Type::Sfixed32 => Form::Fixed32,
        Type::String => Form::Text,
        Type::Bytes => Form::Bytes,
        Type::Message | Type::Group => {
            if !types.messages.contains_key(named) {
                return Err(missing(named));
            }
            let message = numbers.of(named);
            if kind == Type::Group { Form::Group(message) } else { Form::Message(message) }
        }
        Type::Enum if !types.enums.contains(named) => return Err(missing(named)),
        _ => Form::Varint,
    };
    let word = kind.as_str_name().trim_start_matches("TYPE_").to_lowercase();
    let type_name = if named.is_empty() { word } else { named.trim_start_matches('.').to_owned() };
    Ok(Field {
        number,
        name: descriptor.name().into(),
        form,
        repeated: descriptor.label == Some(Label::Repeated as i32),
        required: None,
        type_name: type_name.into(),
    })
}

fn missing(name: &str) -> SchemaFault {
    let expected = "all that it refers to: protoc --include_imports puts it in";
    SchemaFault::new("refers to what is not in it", expected, name)
}

/// All that a descriptor has, by full names with a dot before them, which is how fields name their types.
#[derive(Default)]
struct Types<'a> {
    messages: BTreeMap<String, &'a DescriptorProto>,
    enums: BTreeSet<String>,
}

impl<'a> Types<'a> {
    /// As deep as decoding goes, which ends.
    fn add(
        &mut self,
        scope: &str,
        messages: &'a [DescriptorProto],
        enums: &'a [EnumDescriptorProto],
    ) -> Result<(), SchemaFault> {
        // Each name within is as long again.
        if scope.len() > FULL_NAME_BYTES_MAX {
            let expected = format!("full names of {FULL_NAME_BYTES_MAX} bytes at most");
            return Err(SchemaFault::new("has a name that is too long", expected, scope));
        }
        self.enums.extend(enums.iter().map(|kind| format!("{scope}.{}", kind.name())));
        for message in messages {
            let name = format!("{scope}.{}", message.name());
            self.add(&name, &message.nested_type, &message.enum_type)?;
            self.messages.insert(name, message);
        }
        Ok(())
    }
}

impl Shape {
    pub(super) fn field(&self, number: u32) -> Option<&Field> {
        // Most messages number their fields from one, without gaps.
        let guess = self.fields.get((number as usize).wrapping_sub(1)).filter(|field| field.number == number);
        guess.or_else(|| {
            let place = self.fields.binary_search_by_key(&number, |field| field.number).ok()?;
            self.fields.get(place)
        })
    }
}

/// Messages in the order in which they were found, each once.
#[derive(Default)]
struct Numbers {
    by_name: HashMap<Arc<str>, usize>,
    found: Vec<Arc<str>>,
}

impl Numbers {
    fn of(&mut self, message: &str) -> usize {
        if let Some(number) = self.by_name.get(message) {
            return *number;
        }
        let number = self.found.len();
        let name: Arc<str> = Arc::from(message);
        self.by_name.insert(Arc::clone(&name), number);
        self.found.push(name);
        number
    }
}
