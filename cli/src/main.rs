//! The tracebaton command: a local OTLP receiver and viewer, and traces as trees in the terminal.
// A command line tool talks to the terminal: that is what it is for.
#![allow(clippy::print_stdout, clippy::print_stderr)]
#![forbid(unsafe_code)]

mod api;
mod body;
mod budget;
mod guard;
mod honeyhive;
mod ingest;
mod otlp_json;
mod server;
mod span;
mod spool;
mod store;
mod tree;
mod tree_command;
mod viewer_client;

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use store::Store;

/// Receives traces on this machine and shows them.
#[derive(Parser)]
#[command(name = "tracebaton", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Receive OTLP over HTTP and show sessions, trees and waterfalls in the browser.
    View(View),
    /// Print a session or a trace as a tree across services.
    Tree(tree_command::Tree),
    /// List or deliver the spans that processes which died have left in their spools.
    Spool(spool::Spool),
}

#[derive(Args)]
struct View {
    /// Where to listen; port 0 picks a free one. Another address than loopback needs a token.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:4318")]
    listen: String,
    /// The SQLite file to keep spans in, or `:memory:` [default: tracebaton/spans.db in the user's data folder].
    #[arg(long, value_name = "FILE")]
    db: Option<PathBuf>,
    /// Answer only requests with this token: `Authorization: Bearer TOKEN`, or `?token=TOKEN` in the browser.
    #[arg(long, value_name = "TOKEN", env = "TRACEBATON_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Write the port to this file when ready.
    #[arg(long, value_name = "FILE")]
    port_file: Option<PathBuf>,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::View(arguments) => view(arguments),
        Command::Tree(arguments) => tree_command::run(&arguments),
        Command::Spool(arguments) => spool::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("tracebaton: {message}");
            ExitCode::FAILURE
        }
    }
}

fn view(arguments: View) -> Result<(), String> {
    let listen = server::Listen::parse(&arguments.listen, arguments.token.as_deref())?;
    let db = arguments
        .db
        .or_else(store::default_path)
        .ok_or("there is no data folder to keep spans in: say where with --db FILE")?;
    let store = Store::open(&db)?;
    server::run(listen, store, arguments.token, |address| announce(address, arguments.port_file.as_deref()))
}

/// Tells whoever waits for it that the server is ready, in one line on stdout.
fn announce(address: SocketAddr, port_file: Option<&Path>) -> Result<(), String> {
    if let Some(file) = port_file {
        write_port(file, address.port()).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    }
    // A stdout that nobody reads any more is no reason to stop.
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "tracebaton view: listening on http://{address}").and_then(|()| stdout.flush());
    Ok(())
}

/// In one step, so that a reader never sees half a number.
fn write_port(file: &Path, port: u16) -> std::io::Result<()> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".new");
    std::fs::write(&beside, format!("{port}\n"))?;
    std::fs::rename(&beside, file)
}
