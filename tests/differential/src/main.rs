//! Core and the OpenTelemetry SDKs read the same generated headers. See README.md.
//!
//! `generate FILE` writes the cases with what core reads in them; `compare FOLDER` reads them back beside what the
//! other SDKs made of them, runs the Rust one itself, and fails for a difference that is not in [`known`]'s list.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line program")]

mod case;
mod classify;
mod generate;
mod known;
mod rust_sdk;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::Path;
use std::process::ExitCode;

use case::{Case, Kind, Reading, Sdk};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// How many headers are generated, and from which seed.
const CASES: u64 = 100_000;
const SEED: u64 = 0x7472_6163_6562_6174;

fn write_cases(path: &Path) -> Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    let mut valid = 0_u64;
    for (number, (kind, values)) in (0..CASES).zip(generate::headers(SEED)) {
        let case = Case::new(kind, values);
        valid = valid.saturating_add(u64::from(case.is_valid()));
        writeln!(out, "{}", case.to_json(number))?;
    }
    out.flush()?;
    println!("{CASES} headers, {valid} of them valid");
    if valid.saturating_mul(3) < CASES {
        return Err("fewer than a third of the headers are valid".into());
    }
    Ok(())
}

/// What another SDK read, a line for each case.
fn readings(path: &Path) -> Result<impl Iterator<Item = Result<serde_json::Value>> + use<>> {
    let lines = BufReader::new(File::open(path).map_err(|error| format!("{}: {error}", path.display()))?).lines();
    Ok(lines.map(|line| Ok(serde_json::from_str(&line?)?)))
}

fn compare(folder: &Path) -> Result<bool> {
    let mut python = readings(&folder.join("python.jsonl"))?;
    let mut node = readings(&folder.join("node.jsonl"))?;
    let mut counts = BTreeMap::<(Sdk, Kind, &'static str, &'static str), u64>::new();
    let mut agreed = BTreeMap::<Sdk, u64>::new();
    let mut unlisted = 0_u64;
    for line in readings(&folder.join("cases.jsonl"))? {
        let case = Case::from_json(&line?)?;
        let next = |lines: &mut dyn Iterator<Item = Result<serde_json::Value>>| -> Result<Reading> {
            Ok(Reading::from_json(case.kind, &lines.next().ok_or("fewer lines than cases")??))
        };
        let answers = [
            (Sdk::Python, next(&mut python)?),
            (Sdk::Node, next(&mut node)?),
            (Sdk::Rust, rust_sdk::read(case.kind, &case.values)),
        ];
        for (sdk, theirs) in &answers {
            let differences = classify::differences(&case, *sdk, theirs);
            if differences.is_empty() {
                *agreed.entry(*sdk).or_default() += 1;
            }
            for difference in differences {
                match known::find(*sdk, case.kind, &difference) {
                    Some(known) => *counts.entry((*sdk, case.kind, known.rule, known.what)).or_default() += 1,
                    None => {
                        unlisted = unlisted.saturating_add(1);
                        if unlisted <= 40 {
                            eprintln!(
                                "UNLISTED {sdk:?} {difference:?} {:?}\n  core {:?}\n  sdk  {theirs:?}",
                                case.values, case.ours
                            );
                        }
                    }
                }
            }
        }
    }
    for (sdk, count) in &agreed {
        println!("{}: {count} of {CASES} headers are read alike; the others:", sdk.name());
        for ((_, kind, rule, what), count) in counts.iter().filter(|((of, ..), _)| of == sdk) {
            println!("  {count:>6}  {:<11} {rule:<12} {what}", kind.name());
        }
    }
    for known in known::LIST {
        for sdk in known.sdks.iter().filter(|sdk| !counts.contains_key(&(**sdk, known.kind, known.rule, known.what))) {
            println!("not seen: {} {} {} {}", sdk.name(), known.kind.name(), known.rule, known.what);
        }
    }
    println!("{unlisted} differences are not in the list");
    Ok(unlisted == 0)
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["generate", file] => write_cases(Path::new(file)).map(|()| true),
        ["compare", folder] => compare(Path::new(folder)),
        _ => Err("usage: tracebaton-differential generate FILE | compare FOLDER".into()),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
