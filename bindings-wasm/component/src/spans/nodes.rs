//! Values as lists of nodes, and back.

use alloc::borrow::Cow;
use alloc::string::ToString;
use alloc::vec::{IntoIter, Vec};

use tracebaton::limits::MAX_DEPTH;
use tracebaton::value::Value;

use crate::bindings::exports::tracebaton::context::spans::{Error, Node};
use crate::convert::number;

/// Lists and maps, one inside the other, that are kept; what lies deeper is null. Nothing looks so deep: JSON texts, which
/// begin at [`MAX_DEPTH`] at the latest, show 64 levels. It bounds what dropping a value needs of the stack.
const LEVELS: usize = MAX_DEPTH.saturating_mul(2);

/// The value of these nodes, under this key.
pub(crate) fn of_nodes(nodes: Vec<Node>, key: &str) -> Result<Value<'static>, Error> {
    let mut nodes = nodes.into_iter();
    match read(&mut nodes, LEVELS) {
        Some(value) if nodes.len() == 0 => Ok(value),
        _ => Err(Error::Value(key.to_string())),
    }
}

/// Reads one value; none if nodes are missing.
fn read(nodes: &mut IntoIter<Node>, levels: usize) -> Option<Value<'static>> {
    let deeper = levels.saturating_sub(1);
    Some(match nodes.next()? {
        Node::Null => Value::Null,
        Node::Boolean(value) => Value::Bool(value),
        Node::Integer(value) => Value::Int(value),
        Node::Double(value) => Value::Double(value),
        Node::Text(text) => Value::Str(text.into()),
        Node::Octets(bytes) => Value::Bytes(bytes.into()),
        Node::Items(count) if levels == 0 => skip(nodes, count.into())?,
        Node::Entries(count) if levels == 0 => skip(nodes, u64::from(count).saturating_mul(2))?,
        Node::Items(count) => Value::Array((0..count).map(|_| read(nodes, deeper)).collect::<Option<_>>()?),
        Node::Entries(count) => {
            let entry = |_| match nodes.next()? {
                Node::Text(key) => Some((Cow::Owned(key), read(nodes, deeper)?)),
                _ => None,
            };
            Value::Map((0..count).map(entry).collect::<Option<_>>()?)
        }
    })
}

/// Passes over so many values and whatever is in them.
fn skip(nodes: &mut IntoIter<Node>, mut values: u64) -> Option<Value<'static>> {
    while values > 0 {
        let more = match nodes.next()? {
            Node::Items(count) => count.into(),
            Node::Entries(count) => u64::from(count).saturating_mul(2),
            _ => 0,
        };
        values = values.saturating_sub(1).saturating_add(more);
    }
    Some(Value::Null)
}

/// The nodes of a value.
pub(crate) fn into_nodes(value: Value<'_>) -> Vec<Node> {
    let mut nodes = Vec::new();
    write(value, &mut nodes);
    nodes
}

/// Values come from [`read`], or are texts in place of what did: the stack is bounded.
fn write(value: Value<'_>, nodes: &mut Vec<Node>) {
    match value {
        Value::Null => nodes.push(Node::Null),
        Value::Bool(value) => nodes.push(Node::Boolean(value)),
        Value::Int(value) => nodes.push(Node::Integer(value)),
        Value::Double(value) => nodes.push(Node::Double(value)),
        Value::Str(text) => nodes.push(Node::Text(text.into_owned())),
        Value::Bytes(bytes) => nodes.push(Node::Octets(bytes.into_owned())),
        Value::Array(items) => {
            nodes.push(Node::Items(number(items.len())));
            items.into_iter().for_each(|item| write(item, nodes));
        }
        Value::Map(entries) => {
            nodes.push(Node::Entries(number(entries.len())));
            for (key, value) in entries {
                nodes.push(Node::Text(key.into_owned()));
                write(value, nodes);
            }
        }
    }
}
