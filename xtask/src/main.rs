//! Builds what runs as WebAssembly: `cargo run -p xtask -- ARTIFACT…`, each into `build/wasm/`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool")]

use std::env;
use std::ffi::OsStr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{fs, io};

use wasmparser::{Parser, Payload};
use wit_component::ComponentEncoder;

type Error = Box<dyn std::error::Error>;

/// A file that is built.
struct Artifact {
    /// What it is called on the command line.
    name: &'static str,
    file: &'static str,
    /// The most bytes that it may have: what it has today and a little more, so that growth is noticed.
    budget: usize,
    build: fn() -> Result<Vec<u8>, Error>,
}

const ARTIFACTS: [Artifact; 2] = [
    Artifact { name: "component", file: "tracebaton-context.wasm", budget: 352_000, build: component },
    Artifact { name: "plain", file: "tracebaton-context-plain.wasm", budget: 322_000, build: plain },
];

/// The WebAssembly component: `bindings-wasm/component`.
fn component() -> Result<Vec<u8>, Error> {
    let module = cargo_build("tracebaton-component", "component", &[])?;
    Ok(ComponentEncoder::default().module(&module)?.validate(true).encode()?)
}

/// The same functions for hosts without components.
fn plain() -> Result<Vec<u8>, Error> {
    without_custom_sections(&cargo_build("tracebaton-component", "plain", &[])?)
}

fn main() -> ExitCode {
    match run(env::args().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(names: Vec<String>) -> Result<(), Error> {
    let known: Vec<_> = ARTIFACTS.iter().map(|artifact| artifact.name).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(format!("{unknown}: expected one of {}", known.join(", ")).into());
    }
    let out = root().join("build/wasm");
    fs::create_dir_all(&out)?;
    for artifact in ARTIFACTS.iter().filter(|artifact| names.is_empty() || names.iter().any(|it| it == artifact.name)) {
        let bytes = (artifact.build)()?;
        write_if_changed(&out.join(artifact.file), &bytes)?;
        println!("build/wasm/{}: {} bytes, of {} at most", artifact.file, bytes.len(), artifact.budget);
        if bytes.len() > artifact.budget {
            return Err(format!("{} is too large", artifact.file).into());
        }
    }
    Ok(())
}

/// What depends on the file is then not made again.
fn write_if_changed(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if fs::read(path).is_ok_and(|before| before == bytes) { Ok(()) } else { fs::write(path, bytes) }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_path_buf()
}

/// Builds a crate for WebAssembly with one feature, and returns the module. The same sources give the same bytes
/// wherever they lie: no path of this machine is in them.
fn cargo_build(package: &str, feature: &str, more_flags: &[&str]) -> Result<Vec<u8>, Error> {
    const TARGET: &str = "wasm32-unknown-unknown";
    let root = root();
    let home = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| env::home_dir().map(|home| home.join(".cargo")));
    let mut flags = vec![format!("--remap-path-prefix={}=/tracebaton", root.display())];
    flags.extend(home.map(|home| format!("--remap-path-prefix={}=/cargo", home.display())));
    flags.push(standard_library_as_elsewhere(&root)?);
    // A quarter of the usual stack is plenty, and makes an instance start with less memory.
    flags.push("-Clink-arg=-zstack-size=262144".to_owned());
    flags.extend(more_flags.iter().map(ToString::to_string));
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsStr::new("cargo").to_owned());
    let target = root.join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| OsStr::new("target").to_owned()));
    // A directory of its own for each feature: the module is named for the crate.
    let target = target.join("xtask").join(feature);
    let status = Command::new(cargo)
        .current_dir(&root)
        .args(["build", "--quiet", "--profile", "wasm", "--target", TARGET, "-p", package, "--features", feature])
        .args(env::var_os("CI").map(|_| "--locked"))
        .env("CARGO_TARGET_DIR", &target)
        // Flags of whoever calls would make other bytes.
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .status()?;
    if !status.success() {
        return Err(format!("cargo build: {status}").into());
    }
    let module = target.join(TARGET).join("wasm").join(format!("{}.wasm", package.replace('-', "_")));
    fs::read(&module).map_err(|error| format!("{}: {error}", module.display()).into())
}

/// Where the sources of the standard library are installed, rustc writes their place in its messages; elsewhere a name.
fn standard_library_as_elsewhere(root: &Path) -> Result<String, Error> {
    let rustc = |argument: &[&str]| -> Result<String, Error> {
        let output = Command::new("rustc").current_dir(root).args(argument).output()?;
        Ok(String::from_utf8(output.stdout)?)
    };
    let (sysroot, version) = (rustc(&["--print", "sysroot"])?, rustc(&["-vV"])?);
    let commit = version.lines().find_map(|line| line.strip_prefix("commit-hash: ")).unwrap_or_default();
    Ok(format!("--remap-path-prefix={}/lib/rustlib/src/rust=/rustc/{commit}", sysroot.trim()))
}

/// A module without names, and without what describes the component that it is not.
fn without_custom_sections(module: &[u8]) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::Version { range, .. } => out.extend_from_slice(part(module, range)?),
            Payload::CustomSection(_) => {}
            payload => {
                if let Some((id, range)) = payload.as_section() {
                    let content = part(module, range)?;
                    out.push(id);
                    put_leb(content.len(), &mut out);
                    out.extend_from_slice(content);
                }
            }
        }
    }
    Ok(out)
}

fn part(module: &[u8], range: Range<u64>) -> Result<&[u8], Error> {
    let range = usize::try_from(range.start)?..usize::try_from(range.end)?;
    module.get(range).ok_or_else(|| "a section beyond the end".into())
}

fn put_leb(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
