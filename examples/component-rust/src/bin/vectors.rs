//! The host of the tests (`tests/component/hosts.py` has the protocol): calls any function of the component with values
//! that come as bytes, by the types that the component itself tells.

use std::fs;
use std::io::{self, Read, Write};

use component_rust::{Wasi, load};
use wasmtime::component::{Func, Instance, Type, Val};
use wasmtime::{Result, Store, bail};

/// The functions by number: interface and name, a line each, as the tests write them.
fn functions(store: &mut Store<Wasi>, instance: &Instance, table: &str) -> Result<Vec<(u32, Func)>> {
    let mut found = Vec::new();
    for line in table.lines() {
        let [number, interface, name] = line.split(' ').collect::<Vec<_>>()[..] else { bail!("{line}") };
        let interface = format!("tracebaton:context/{interface}@0.1.0");
        let interface = instance.get_export_index(&mut *store, None, &interface).expect("the interface");
        let index = instance.get_export_index(&mut *store, Some(&interface), name).expect("the function");
        found.push((number.parse()?, instance.get_func(&mut *store, index).expect("a function")));
    }
    Ok(found)
}

fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().collect();
    let [_, component, table] = &arguments[..] else { bail!("usage: vectors COMPONENT TABLE") };
    let (component, linker) = load(component)?;
    let mut store = Store::new(component.engine(), Wasi::default());
    let instance = linker.instantiate(&mut store, &component)?;
    let functions = functions(&mut store, &instance, &fs::read_to_string(table)?)?;
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    let mut head = [0; 8];
    while input.read_exact(&mut head).is_ok() {
        let [number, length] = [&head[..4], &head[4..]].map(|four| u32::from_le_bytes(four.try_into().unwrap()));
        let mut arguments = vec![0; length as usize];
        input.read_exact(&mut arguments)?;
        let (_, function) = functions.iter().find(|(it, _)| *it == number).expect("a number of the table");
        let kind = function.ty(&store);
        let mut rest = &arguments[..];
        let values: Vec<_> = kind.params().map(|(_, kind)| read(&kind, &mut rest)).collect();
        assert!(rest.is_empty(), "bytes are left over");
        let mut results = vec![Val::Bool(false); kind.results().len()];
        function.call(&mut store, &values, &mut results)?;
        let mut answer = Vec::new();
        kind.results().zip(&results).for_each(|(kind, value)| write(&kind, value, &mut answer));
        output.write_all(&(answer.len() as u32).to_le_bytes())?;
        output.write_all(&answer)?;
        output.flush()?;
    }
    Ok(())
}

fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let (head, rest) = bytes.split_first_chunk().expect("bytes are missing");
    *bytes = rest;
    *head
}

fn count(bytes: &mut &[u8]) -> usize {
    u32::from_le_bytes(take(bytes)) as usize
}

fn read(kind: &Type, bytes: &mut &[u8]) -> Val {
    match kind {
        Type::Bool => Val::Bool(take::<1>(bytes) == [1]),
        Type::U8 => Val::U8(u8::from_le_bytes(take(bytes))),
        Type::U32 => Val::U32(u32::from_le_bytes(take(bytes))),
        Type::U64 => Val::U64(u64::from_le_bytes(take(bytes))),
        Type::S64 => Val::S64(i64::from_le_bytes(take(bytes))),
        Type::Float64 => Val::Float64(f64::from_le_bytes(take(bytes))),
        Type::String => {
            let length = count(bytes);
            let (text, rest) = bytes.split_at(length);
            *bytes = rest;
            Val::String(String::from_utf8(text.to_vec()).expect("text"))
        }
        Type::List(list) => Val::List((0..count(bytes)).map(|_| read(&list.ty(), bytes)).collect()),
        Type::Option(option) => Val::Option((take(bytes) == [1]).then(|| Box::new(read(&option.ty(), bytes)))),
        Type::Tuple(tuple) => Val::Tuple(tuple.types().map(|kind| read(&kind, bytes)).collect()),
        Type::Record(record) => {
            Val::Record(record.fields().map(|field| (field.name.to_owned(), read(&field.ty, bytes))).collect())
        }
        Type::Enum(names) => {
            let [at] = take(bytes);
            Val::Enum(names.names().nth(at.into()).expect("a case").to_owned())
        }
        Type::Variant(variant) => {
            let [at] = take(bytes);
            let case = variant.cases().nth(at.into()).expect("a case");
            Val::Variant(case.name.to_owned(), case.ty.map(|kind| Box::new(read(&kind, bytes))))
        }
        other => panic!("{other:?}"),
    }
}

fn write(kind: &Type, value: &Val, out: &mut Vec<u8>) {
    match (kind, value) {
        (_, Val::Bool(value)) => out.push(u8::from(*value)),
        (_, Val::U8(value)) => out.push(*value),
        (_, Val::U32(value)) => out.extend(value.to_le_bytes()),
        (_, Val::U64(value)) => out.extend(value.to_le_bytes()),
        (_, Val::S64(value)) => out.extend(value.to_le_bytes()),
        (_, Val::Float64(value)) => out.extend(value.to_le_bytes()),
        (_, Val::String(text)) => {
            out.extend((text.len() as u32).to_le_bytes());
            out.extend(text.as_bytes());
        }
        (Type::List(list), Val::List(values)) => {
            out.extend((values.len() as u32).to_le_bytes());
            values.iter().for_each(|value| write(&list.ty(), value, out));
        }
        (Type::Option(option), Val::Option(value)) => {
            out.push(u8::from(value.is_some()));
            value.iter().for_each(|value| write(&option.ty(), value, out));
        }
        (Type::Tuple(tuple), Val::Tuple(values)) => {
            tuple.types().zip(values).for_each(|(kind, value)| write(&kind, value, out));
        }
        (Type::Record(record), Val::Record(values)) => {
            record.fields().zip(values).for_each(|(field, (_, value))| write(&field.ty, value, out));
        }
        (Type::Enum(names), Val::Enum(name)) => {
            out.push(names.names().position(|it| it == name).expect("a case") as u8);
        }
        (Type::Variant(variant), Val::Variant(name, held)) => {
            let at = variant.cases().position(|case| case.name == name).expect("a case");
            out.push(at as u8);
            let kind = variant.cases().nth(at).and_then(|case| case.ty);
            kind.iter().zip(held).for_each(|(kind, value)| write(kind, value, out));
        }
        (Type::Result(result), Val::Result(value)) => {
            out.push(u8::from(value.is_err()));
            let (kind, value) = match value {
                Ok(value) => (result.ok(), value),
                Err(value) => (result.err(), value),
            };
            kind.iter().zip(value).for_each(|(kind, value)| write(kind, value, out));
        }
        (kind, value) => panic!("{kind:?} {value:?}"),
    }
}
