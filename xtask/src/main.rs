//! Builds what runs as WebAssembly: `cargo run -p xtask -- ARTIFACT…`, each into `build/wasm/`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool")]

use std::env;
use std::ffi::OsStr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{fs, io};

use wasm_bindgen_cli_support::Bindgen;
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

const ARTIFACTS: [Artifact; 3] = [
    Artifact { name: "component", file: "tracebaton-context.wasm", budget: 200_000, build: component },
    Artifact { name: "plain", file: "tracebaton-context-plain.wasm", budget: 165_000, build: plain },
    Artifact { name: "npm", file: "tracebaton.wasm", budget: 332_000, build: npm },
];

/// The WebAssembly component: `bindings-wasm/component`.
fn component() -> Result<Vec<u8>, Error> {
    let module = cargo_build("tracebaton-component", "component", &[])?;
    let module = without_custom_sections(&module, Some("component-type"))?;
    without_custom_sections(&ComponentEncoder::default().module(&module)?.validate(true).encode()?, None)
}

/// The same functions for hosts without components.
fn plain() -> Result<Vec<u8>, Error> {
    without_custom_sections(&cargo_build("tracebaton-component", "plain", &[])?, None)
}

/// The backend of the npm package: `bindings-wasm`.
fn npm() -> Result<Vec<u8>, Error> {
    let module = cargo_build("tracebaton-wasm", "npm", &[])?;
    let mut bindgen = Bindgen::new();
    bindgen.input_bytes("tracebaton", module).web(true)?.typescript(false);
    bindgen.remove_name_section(true).remove_producers_section(true);
    // Its functions take and return numbers, so the module is all that is needed of what wasm-bindgen makes.
    let mut output = bindgen.generate_output()?;
    without_custom_sections(&output.wasm_mut().emit_wasm(), None)
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
    // Else the linker leaves five bytes for each number that it fills in.
    flags.push("-Clink-arg=--compress-relocations".to_owned());
    flags.extend(more_flags.iter().map(ToString::to_string));
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsStr::new("cargo").to_owned());
    let target = root.join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| OsStr::new("target").to_owned()));
    // A directory of its own for each feature: the module is named for the crate.
    let target = target.join("xtask").join(feature);
    let status = Command::new(cargo)
        .current_dir(&root)
        // Only where nothing else is made of the crate is it optimized together with those that it uses.
        .args(["rustc", "--quiet", "--profile", "wasm", "--crate-type", "cdylib", "--target", TARGET])
        .args(["-p", package, "--features", feature])
        .args(env::var_os("CI").map(|_| "--locked"))
        .env("CARGO_TARGET_DIR", &target)
        // wasm-bindgen reads what is left out otherwise; here it is left out in the end.
        .env("CARGO_PROFILE_WASM_STRIP", "debuginfo")
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

/// A module or component without its own custom sections, which hold names and the like, but for those whose name begins
/// with `kept`.
fn without_custom_sections(file: &[u8], kept: Option<&str>) -> Result<Vec<u8>, Error> {
    const PREAMBLE: usize = 8;
    const CUSTOM: u8 = 0;
    let mut out = part(file, 0..PREAMBLE)?.to_vec();
    let mut at = PREAMBLE;
    while at < file.len() {
        let (length, begin) = leb(file, at + 1)?;
        let end = begin + length;
        let section = part(file, at..end)?;
        let is_kept = || -> Result<bool, Error> {
            let (length, begin) = leb(file, begin)?;
            Ok(kept.is_some_and(|kept| {
                part(file, begin..begin + length).is_ok_and(|name| name.starts_with(kept.as_bytes()))
            }))
        };
        if section.first() != Some(&CUSTOM) || is_kept()? {
            out.extend_from_slice(section);
        }
        at = end;
    }
    Ok(out)
}

fn part(file: &[u8], range: Range<usize>) -> Result<&[u8], Error> {
    file.get(range).ok_or_else(|| "a section beyond the end".into())
}

/// The number at a place, and where it ends.
fn leb(file: &[u8], mut at: usize) -> Result<(usize, usize), Error> {
    let mut value = 0;
    for shift in (0..32).step_by(7) {
        let byte = file.get(at).ok_or("a section without length")?;
        at += 1;
        value |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((value, at));
        }
    }
    Err("a length that is too long".into())
}
