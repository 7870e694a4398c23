//! `tracebaton spool`: what processes that died have left in a directory, listed or delivered.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use tracebaton::settings::{self, Arguments, Encoding, Exporter as Wanted};
use tracebaton_export::spool::{self, Info};
use tracebaton_export::{Config, Destination, Exporter};

/// How long a destination that does not answer is tried, in ns.
const GIVE_UP_NS: u64 = 5_000_000_000;
/// The longest that a flush may take.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Args)]
pub(crate) struct Spool {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the files: of which process, for which kind of destination, and what is in them.
    Ls(Ls),
    /// Deliver what processes that are gone have left. Files that are delivered are removed.
    Flush(Flush),
}

#[derive(Args)]
struct Ls {
    /// The directory that was given as `spool_dir`.
    dir: PathBuf,
}

#[derive(Args)]
struct Flush {
    /// The directory that was given as `spool_dir`.
    dir: PathBuf,
    /// Where to deliver to [default: what the environment says: OTEL_EXPORTER_OTLP_ENDPOINT, HH_API_URL, …].
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
}

pub(crate) fn run(arguments: &Spool) -> Result<(), String> {
    match &arguments.command {
        Command::Ls(Ls { dir }) => {
            for info in list(dir)? {
                println!("{}", line(&info));
            }
            Ok(())
        }
        Command::Flush(arguments) => flush(arguments),
    }
}

fn list(dir: &Path) -> Result<Vec<Info>, String> {
    spool::list(dir).map_err(|error| format!("cannot read {}: {error}", dir.display()))
}

fn line(info: &Info) -> String {
    let name = info.path.file_name().unwrap_or_default().to_string_lossy();
    let Info { process, label, ended, open, bytes, damaged, .. } = info;
    let state = match (info.is_locked, info.is_recovered) {
        (Some(true), true) => "dead, recovering",
        (Some(true), false) => "alive",
        (Some(false), _) => "dead",
        (None, _) => "unknown",
    };
    let what = match info.unreadable {
        Some(why) => format!("unreadable: {why}"),
        None => format!("ended {ended}  open {open}  damaged {damaged}"),
    };
    format!("{name}  process {process} {state}  {label}  {what}  bytes {bytes}")
}

fn flush(arguments: &Flush) -> Result<(), String> {
    let infos = list(&arguments.dir)?;
    let mut labels: Vec<&str> =
        infos.iter().filter(|info| info.is_locked != Some(true)).map(|info| info.label.as_str()).collect();
    labels.sort_unstable();
    labels.dedup();
    let mut failures = Vec::new();
    for label in labels {
        if let Err(why) = flush_kind(arguments, label) {
            failures.push(format!("{label}: {why}"));
        }
    }
    // What was refused as bad data is gone from the spool, but it was not delivered.
    if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
}

/// Delivers what was meant for destinations of one kind.
fn flush_kind(arguments: &Flush, label: &str) -> Result<(), String> {
    let destination = destination(arguments.endpoint.as_deref(), label)?;
    let config = Config { give_up_ns: GIVE_UP_NS, ..Config::default() };
    let options = spool::Spool { bytes: 0, ..spool::Spool::new(&arguments.dir, label) };
    let reporter: tracebaton_export::Reporter = std::sync::Arc::new(|message: &str| eprintln!("tracebaton: {message}"));
    let exporter = Exporter::with_spool(destination, config, &[], Some(reporter), Some(options))
        .map_err(|error| error.to_string())?;
    let all = exporter.recover(PATIENCE, || true);
    let stats = exporter.stats();
    println!("{label}: {} spans delivered, {} refused, {} kept", stats.sent, refused(&stats), stats.spooled);
    match (all, refused(&stats)) {
        (true, 0) => Ok(()),
        (true, refused) => Err(format!("{refused} spans were refused")),
        (false, _) => Err(String::from("not everything was delivered; what was not is still there")),
    }
}

fn refused(stats: &tracebaton_export::Stats) -> u64 {
    stats.rejected.saturating_add(stats.dropped.total())
}

/// Where spans of this kind go, by the environment or the option.
fn destination(endpoint: Option<&str>, label: &str) -> Result<Destination, String> {
    let (server_url, otlp_endpoint) = if label == "honeyhive" { (endpoint, None) } else { (None, endpoint) };
    let kinds = [label];
    let arguments = Arguments {
        exporter: &kinds,
        server_url,
        otlp_endpoint,
        default_service: "tracebaton",
        language: "rust",
        version: env!("CARGO_PKG_VERSION"),
        ..Arguments::default()
    };
    let settings =
        settings::resolve(&arguments, &|name| std::env::var(name).ok()).map_err(|error| error.to_string())?;
    settings.warnings.iter().for_each(|warning| eprintln!("tracebaton: {warning}"));
    let Some(Wanted::HoneyHive(otlp) | Wanted::Otlp(otlp)) = settings.exporters.into_iter().next() else {
        return Err(String::from("tracing is switched off, or has no destination of this kind"));
    };
    Ok(Destination {
        url: otlp.url,
        headers: otlp.headers,
        encoding: match otlp.encoding {
            Encoding::Protobuf => tracebaton_export::Encoding::Protobuf,
            Encoding::Json(enums) => tracebaton_export::Encoding::Json(enums),
        },
        gzip: otlp.gzip,
        timeout: Duration::from_nanos(otlp.timeout_ns),
        user_agent: format!("tracebaton/{}", env!("CARGO_PKG_VERSION")),
        tls: otlp.tls,
    })
}
